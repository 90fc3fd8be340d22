//! What the bank's staff do.

use super::rig::*;
use crate::domain::money::{AMOUNT_MAX, BALANCE_MAX};
use crate::domain::{EntryKind, Refusal};
use crate::store::{Act, CodeHash, Done, NewAccount, NewCertificate, TerminalReport, Warrant};

super::on_every_store! {
    accounts_are_opened_with_their_balance_and_existing_ones_left_alone
    an_opening_balance_over_one_entrys_most_is_posted_in_parts
    an_opening_balance_out_of_range_opens_nothing
    opening_balances_whose_sum_is_out_of_range_open_nothing
    accounts_are_listed_in_the_order_of_their_numbers
    an_adjustment_is_an_entry_with_a_reason
    an_adjustment_never_takes_what_is_held_or_not_there
    an_account_with_money_or_holds_cannot_be_closed
    an_account_whose_last_hold_expires_while_it_is_closed_stays_open
    a_closed_account_is_left_alone_by_all_acts
    acts_upon_nobody_say_so
    a_statement_has_the_entries_of_its_time_oldest_first
    terminals_show_the_cash_that_went_in_and_out
    a_terminal_that_enrolled_is_listed_before_it_moves_cash
    demo_accounts_are_counted_until_their_pin_is_changed
    late_captures_are_listed_newest_first
}

fn new_account(rig: &Rig, account: &str, balance: i64, demo: bool) -> NewAccount {
    NewAccount {
        number: number(account),
        hash: rig.hash(PIN, CHEAP),
        balance,
        demo,
    }
}

async fn adjust(rig: &Rig, account: &str, amount: i64) -> Done {
    let (number, reason) = (number(account), "counted again".to_owned());
    let act = Act::Adjust {
        number,
        amount,
        reason,
    };
    rig.act(act).await
}

async fn assert_refused(rig: &Rig, act: Act, words: &str) {
    match rig.act(act).await {
        Done::Refused(why) => assert_eq!(why, words),
        done => panic!("{done:?}"),
    }
}

async fn listed(rig: &Rig, after: Option<&str>, limit: usize) -> Vec<String> {
    let after = after.map(number);
    match rig.act(Act::List { after, limit }).await {
        Done::Accounts(reports) => reports.into_iter().map(|report| report.account).collect(),
        done => panic!("{done:?}"),
    }
}

async fn accounts_are_opened_with_their_balance_and_existing_ones_left_alone(rig: Rig) {
    rig.open(ANNE, 700).await;
    let both = vec![
        new_account(&rig, ANNE, 5, true),
        new_account(&rig, BERT, 6, false),
        new_account(&rig, BERT, 7, false),
    ];
    let Done::Opened { opened, existing } = rig.act(Act::Open(both)).await else {
        panic!("not opened");
    };
    assert_eq!((opened, existing), (1, vec![number(ANNE), number(BERT)]));
    let report = rig.show(ANNE).await;
    assert_eq!(
        (report.balance, report.available, report.demo),
        (700, 700, false)
    );
    assert_eq!(
        (report.status.as_str(), report.currency.as_str()),
        ("open", "USD")
    );
    assert_eq!(rig.show(BERT).await.balance, 6);
    let _ = rig.log_in(ANNE).await;
    let audit = rig.verify(None).await;
    assert_eq!(
        (audit.accounts, audit.entries, audit.customers_total),
        (2, 2, 706)
    );
    rig.assert_clean().await;
}

async fn an_opening_balance_over_one_entrys_most_is_posted_in_parts(rig: Rig) {
    rig.open(ANNE, 3 * AMOUNT_MAX + 5).await;
    let anne = rig.log_in(ANNE).await;
    let lines = rig.history(&anne, 10, None).await;
    let amounts: Vec<_> = lines.iter().map(|line| (line.kind, line.amount)).collect();
    let part = (EntryKind::Opening, AMOUNT_MAX);
    assert_eq!(amounts, [(EntryKind::Opening, 5), part, part, part]);
    assert!(
        lines
            .iter()
            .all(|line| line.counterparty.is_none() && line.terminal.is_empty())
    );
    rig.assert_clean().await;
}

async fn an_opening_balance_out_of_range_opens_nothing(rig: Rig) {
    for balance in [-1, BALANCE_MAX + 1, i64::MAX, i64::MIN] {
        let two = vec![
            new_account(&rig, ANNE, 5, false),
            new_account(&rig, BERT, balance, false),
        ];
        assert_refused(&rig, Act::Open(two), "an opening balance is out of range").await;
    }
    assert!(listed(&rig, None, 10).await.is_empty());
}

async fn opening_balances_whose_sum_is_out_of_range_open_nothing(rig: Rig) {
    let one = new_account(&rig, ANNE, BALANCE_MAX, false);
    let many = (0..9_300).map(|index| NewAccount {
        number: number(&format!("qq-{index:05}")),
        ..one.clone()
    });
    let act = Act::Open(many.collect());
    assert_refused(&rig, act, "the opening balances together are out of range").await;
    assert!(listed(&rig, None, 10).await.is_empty());
    rig.assert_clean().await;
}

async fn accounts_are_listed_in_the_order_of_their_numbers(rig: Rig) {
    for account in ["zz-00002", "aa-00009", "zz-00001"] {
        rig.open(account, 1).await;
    }
    assert_eq!(
        listed(&rig, None, 10).await,
        ["aa-00009", "zz-00001", "zz-00002"]
    );
    assert_eq!(listed(&rig, None, 2).await, ["aa-00009", "zz-00001"]);
    assert_eq!(listed(&rig, Some("aa-00009"), 1).await, ["zz-00001"]);
    assert_eq!(
        listed(&rig, Some("aa-00010"), 10).await,
        ["zz-00001", "zz-00002"]
    );
    assert!(listed(&rig, Some("zz-00002"), 10).await.is_empty());
    assert!(listed(&rig, None, 0).await.is_empty());
}

async fn an_adjustment_is_an_entry_with_a_reason(rig: Rig) {
    rig.open(ANNE, 100).await;
    let plus = adjust(&rig, ANNE, 50).await;
    assert!(
        matches!(
            plus,
            Done::Posted {
                entry: 2,
                balance: 150
            }
        ),
        "{plus:?}"
    );
    let minus = adjust(&rig, ANNE, -150).await;
    assert!(
        matches!(
            minus,
            Done::Posted {
                entry: 3,
                balance: 0
            }
        ),
        "{minus:?}"
    );
    let anne = rig.log_in(ANNE).await;
    let lines = rig.history(&anne, 2, None).await;
    assert_eq!((lines[0].amount, lines[1].amount), (-150, 50));
    for line in lines {
        assert_eq!(line.kind, EntryKind::Adjustment);
        assert_eq!(line.reason.as_deref(), Some("counted again"));
        assert_eq!((line.terminal.as_str(), line.counterparty), ("", None));
    }
    rig.assert_clean().await;
}

async fn an_adjustment_never_takes_what_is_held_or_not_there(rig: Rig) {
    rig.open(ANNE, 100).await;
    let anne = rig.log_in(ANNE).await;
    rig.authorize(&anne, "h-1", 60).await.unwrap();
    let adjustment = |amount| Act::Adjust {
        number: number(ANNE),
        amount,
        reason: String::new(),
    };
    assert_refused(&rig, adjustment(-41), "the account has less available").await;
    for amount in [0, AMOUNT_MAX + 1, i64::MIN, i64::MAX] {
        assert_refused(&rig, adjustment(amount), "the amount is out of range").await;
    }
    assert!(matches!(
        adjust(&rig, ANNE, -40).await,
        Done::Posted { balance: 60, .. }
    ));
    rig.advance(120_000);
    assert!(matches!(
        adjust(&rig, ANNE, -60).await,
        Done::Posted { balance: 0, .. }
    ));
    rig.assert_clean().await;
}

async fn an_account_with_money_or_holds_cannot_be_closed(rig: Rig) {
    rig.open(ANNE, 100).await;
    let anne = rig.log_in(ANNE).await;
    let close = || Act::Close(number(ANNE));
    assert_refused(&rig, close(), "the account's balance is not 0").await;
    rig.authorize(&anne, "h-1", 60).await.unwrap();
    rig.authorize(&anne, "h-2", 40).await.unwrap();
    rig.capture("h-2", 40).await.unwrap();
    rig.advance(120_000);
    rig.withdraw(&anne, 60).await.unwrap();
    let late = "the account has holds that can still be captured late";
    assert_refused(&rig, close(), late).await;
    rig.advance(30 * DAY - 1);
    assert_refused(&rig, close(), late).await;
    rig.advance(1);
    assert!(matches!(rig.act(close()).await, Done::Yes));
    assert_refused(&rig, close(), "the account is closed already").await;
    assert_eq!(rig.show(ANNE).await.status, "closed");
    rig.assert_clean().await;
}

async fn an_account_whose_last_hold_expires_while_it_is_closed_stays_open(rig: Rig) {
    rig.open(ANNE, 100).await;
    let anne = rig.log_in(ANNE).await;
    rig.authorize(&anne, "h-1", 100).await.unwrap();
    rig.advance(120_000);
    rig.store().sweep(rig.context()).await.unwrap();
    rig.authorize(&anne, "h-2", 100).await.unwrap();
    assert!(rig.capture("h-1", 100).await.unwrap().late);
    // Nobody has swept since it expired.
    rig.advance(120_000);
    let late = "the account has holds that can still be captured late";
    assert_refused(&rig, Act::Close(number(ANNE)), late).await;
    assert!(rig.capture("h-2", 100).await.unwrap().late);
    assert_eq!(rig.show(ANNE).await.status, "open");
    rig.assert_clean().await;
}

async fn a_closed_account_is_left_alone_by_all_acts(rig: Rig) {
    rig.open(ANNE, 0).await;
    rig.act(Act::Close(number(ANNE))).await;
    let set_pin = Act::SetPin {
        number: number(ANNE),
        hash: rig.hash("5093", CHEAP),
        one_time_until: None,
        accept_row: false,
    };
    let adjust = Act::Adjust {
        number: number(ANNE),
        amount: 1,
        reason: String::new(),
    };
    let lock = |locked| Act::Lock(number(ANNE), locked);
    for act in [set_pin, adjust, lock(true), lock(false)] {
        assert_refused(&rig, act, "the account is closed").await;
    }
    let opened = rig
        .act(Act::Open(vec![new_account(&rig, ANNE, 5, false)]))
        .await;
    assert!(matches!(opened, Done::Opened { opened: 0, .. }));
    let report = rig.show(ANNE).await;
    assert_eq!((report.status.as_str(), report.balance), ("closed", 0));
}

async fn acts_upon_nobody_say_so(rig: Rig) {
    let nobody = number(NOBODY);
    let acts = [
        Act::Show(nobody),
        Act::Close(nobody),
        Act::Lock(nobody, true),
        Act::Lock(nobody, false),
        Act::SetPin {
            number: nobody,
            hash: rig.hash(PIN, CHEAP),
            one_time_until: None,
            accept_row: false,
        },
        Act::Limit {
            number: nobody,
            withdrawal: Some(-1),
            daily: None,
        },
        Act::Adjust {
            number: nobody,
            amount: 1,
            reason: String::new(),
        },
        Act::Statement {
            number: nobody,
            after: 0,
            from: None,
            to: None,
            limit: 1,
        },
    ];
    for act in acts {
        let done = rig.act(act).await;
        assert!(matches!(done, Done::NoSuchAccount), "{done:?}");
    }
}

async fn a_statement_has_the_entries_of_its_time_oldest_first(rig: Rig) {
    rig.open(ANNE, 100).await;
    rig.open(BERT, 100).await;
    let (anne, bert) = (rig.log_in(ANNE).await, rig.log_in(BERT).await);
    let start = rig.context().now;
    for amount in 1..=3 {
        rig.advance(1);
        rig.deposit(&anne, amount).await.unwrap();
        rig.transfer(&bert, ANNE, 10 * amount).await.unwrap();
    }
    let amounts = async |after, from: Option<u64>, to: Option<u64>, limit| {
        let act = Act::Statement {
            number: number(ANNE),
            after,
            from: from.map(|ms| start.plus_ms(ms)),
            to: to.map(|ms| start.plus_ms(ms)),
            limit,
        };
        match rig.act(act).await {
            Done::Lines(lines) => lines.iter().map(|line| line.amount).collect::<Vec<_>>(),
            done => panic!("{done:?}"),
        }
    };
    assert_eq!(
        amounts(0, None, None, 100).await,
        [100, 1, 10, 2, 20, 3, 30]
    );
    assert_eq!(amounts(0, None, None, 2).await, [100, 1]);
    assert_eq!(amounts(3, None, None, 2).await, [10, 2]);
    assert_eq!(amounts(0, Some(2), Some(3), 100).await, [2, 20]);
    assert_eq!(amounts(0, Some(3), None, 100).await, [3, 30]);
    assert_eq!(amounts(0, None, Some(1), 100).await, [100]);
    assert!(amounts(8, None, None, 100).await.is_empty());
}

async fn terminals_show_the_cash_that_went_in_and_out(mut rig: Rig) {
    rig.open(ANNE, 100).await;
    let anne = rig.log_in(ANNE).await;
    assert_eq!(
        rig.withdraw(&anne, 101).await,
        Err(Refusal::InsufficientFunds)
    );
    let shown = async |rig: &Rig| match rig.act(Act::Terminals).await {
        Done::Terminals(reports) => {
            let row =
                |report: &TerminalReport| (report.terminal.clone(), report.disabled, report.cash);
            reports.iter().map(row).collect::<Vec<_>>()
        }
        done => panic!("{done:?}"),
    };
    assert!(shown(&rig).await.is_empty());
    rig.withdraw(&anne, 30).await.unwrap();
    rig.terminal = "a-2";
    rig.deposit(&anne, 50).await.unwrap();
    let disable = |disabled| Act::Terminal {
        name: "new-1".parse().unwrap(),
        disabled,
    };
    rig.act(disable(true)).await;
    let all = [("a-2", false, -50), ("new-1", true, 0), ("t-1", false, 30)];
    assert_eq!(
        shown(&rig).await,
        all.map(|(name, off, cash)| (name.to_owned(), off, cash))
    );
    rig.act(disable(false)).await;
    assert!(shown(&rig).await.iter().all(|(_, disabled, _)| !disabled));
    rig.assert_clean().await;
}

async fn a_terminal_that_enrolled_is_listed_before_it_moves_cash(rig: Rig) {
    let code = CodeHash([1; 32]);
    for (number, name) in [(1, "new-2"), (2, "new-2"), (3, "new-1")] {
        let expires_at = rig.context().now.plus_ms(1_000);
        let name: crate::domain::TerminalName = name.parse().unwrap();
        rig.act(Act::Invite {
            name: name.clone(),
            code,
            expires_at,
        })
        .await;
        let certificate = NewCertificate {
            serial: format!("{number:032x}"),
            terminal: name,
            key: [number; 32],
            ends_at: expires_at,
            der: Vec::new(),
        };
        let warrant = Warrant::Code(code);
        let recorded = rig
            .store()
            .record_certificate(warrant, certificate, rig.context());
        recorded.await.unwrap();
    }
    let disable = Act::Terminal {
        name: "new-1".parse().unwrap(),
        disabled: true,
    };
    rig.act(disable).await;
    let listed = match rig.act(Act::Terminals).await {
        Done::Terminals(reports) => reports,
        done => panic!("{done:?}"),
    };
    let row = |name: &str, disabled| TerminalReport {
        terminal: name.to_owned(),
        disabled,
        ..TerminalReport::default()
    };
    assert_eq!(listed, [row("new-1", true), row("new-2", false)]);
}

async fn demo_accounts_are_counted_until_their_pin_is_changed(rig: Rig) {
    let accounts = [ANNE, BERT, NOBODY].map(|account| new_account(&rig, account, 0, true));
    rig.act(Act::Open(accounts.to_vec())).await;
    rig.open("aa-00001", 0).await;
    let count = async || match rig.act(Act::DemoAccounts).await {
        Done::Count(count) => count,
        done => panic!("{done:?}"),
    };
    assert_eq!(count().await, 3);
    rig.set_pin(ANNE, "5093", None).await;
    assert_eq!(count().await, 2);
    let bert = rig.log_in(BERT).await;
    let proof = rig.proof(BERT).await;
    let hash = rig.hash("5093", CHEAP);
    assert_eq!(
        rig.store()
            .change_pin(&bert, &proof, Some(hash), rig.context())
            .await,
        Ok(crate::store::PinChange::Done)
    );
    assert_eq!(count().await, 1);
}

async fn late_captures_are_listed_newest_first(rig: Rig) {
    rig.open(ANNE, 1_000).await;
    let anne = rig.log_in(ANNE).await;
    for name in ["h-1", "h-2", "h-3"] {
        rig.authorize(&anne, name, 10).await.unwrap();
    }
    rig.capture("h-3", 3).await.unwrap();
    rig.advance(120_000);
    rig.capture("h-1", 1).await.unwrap();
    rig.capture("h-2", 2).await.unwrap();
    let amounts = async |limit| match rig.act(Act::LateCaptures { limit }).await {
        Done::Lines(lines) => lines.iter().map(|line| line.amount).collect::<Vec<_>>(),
        done => panic!("{done:?}"),
    };
    assert_eq!(amounts(10).await, [-2, -1]);
    assert_eq!(amounts(1).await, [-2]);
}
