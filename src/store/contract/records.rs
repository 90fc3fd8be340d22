//! The audit log: what is written into it and when, and what is found where it was tampered with.

use super::rig::*;
use crate::domain::entry::CHAIN_START;
use crate::store::{Act, Claimed, Digest, Event, LogHead, Note, PinChange, RecordsAsked};

super::on_every_store! {
    every_act_that_changes_something_is_one_record_with_its_actor_and_outcome
    acts_that_only_look_write_nothing_into_the_log
    a_log_in_is_on_record_with_what_became_of_it
    the_last_try_is_on_record_for_known_and_unknown_numbers_alike
    a_change_of_pin_is_on_record_with_what_became_of_it
    records_are_numbered_from_one_and_each_chains_to_the_one_before
    records_are_listed_by_number_time_event_and_terminal
    a_full_head_stays_good_while_the_log_grows_and_another_is_refused
    a_head_of_the_ledger_alone_is_still_taken
    a_call_that_moves_money_writes_nothing_into_the_log
}

/// `event outcome account terminal actor detail` of each record, with `-` for what it has not.
async fn told(rig: &Rig) -> Vec<String> {
    let records = rig.records().await;
    let words = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    records
        .iter()
        .map(|(record, _)| {
            format!(
                "{} {} {} {} {} {}",
                record.event,
                record.outcome,
                words(&record.account),
                words(&record.terminal),
                record.actor,
                record.detail
            )
            .trim_end()
            .to_owned()
        })
        .collect()
}

async fn every_act_that_changes_something_is_one_record_with_its_actor_and_outcome(rig: Rig) {
    rig.open(ANNE, 100).await;
    let (anne, nobody) = (number(ANNE), number(NOBODY));
    let adjust = |amount| Act::Adjust {
        number: anne,
        amount,
        reason: "counted again".to_owned(),
    };
    let limit = Act::Limit {
        number: anne,
        withdrawal: Some(50),
        daily: None,
    };
    let terminal = |disabled| Act::Terminal {
        name: "t-9".parse().unwrap(),
        disabled,
    };
    rig.set_pin(ANNE, "5093", None).await;
    for act in [
        adjust(5),
        adjust(-1_000),
        limit,
        Act::Lock(anne, true),
        Act::Lock(anne, false),
        Act::Lock(nobody, true),
        Act::Close(anne),
        terminal(true),
        terminal(false),
    ] {
        rig.act(act).await;
    }
    let by = "the contract";
    assert_eq!(
        told(&rig).await,
        [
            format!("account_opened done zz-00001 - {by} opened 1, existing 0"),
            format!("pin_reset done zz-00001 - {by}"),
            format!("account_adjusted done zz-00001 - {by} amount 5, entry 2"),
            format!(
                "account_adjusted refused zz-00001 - {by} amount -1000, the account has less available"
            ),
            format!("account_limited done zz-00001 - {by} withdrawal 50, daily the bank's"),
            format!("lock done zz-00001 - {by}"),
            format!("unlock done zz-00001 - {by}"),
            format!("lock no_such_account zz-99999 - {by}"),
            format!("account_closed refused zz-00001 - {by} the account's balance is not 0"),
            format!("terminal_disabled done - t-9 {by}"),
            format!("terminal_enabled done - t-9 {by}"),
        ]
    );
    rig.assert_clean().await;
}

async fn acts_that_only_look_write_nothing_into_the_log(rig: Rig) {
    rig.open(ANNE, 100).await;
    let list = Act::List {
        after: None,
        limit: 5,
    };
    for act in [
        Act::Show(number(ANNE)),
        list,
        Act::Terminals,
        Act::DemoAccounts,
        Act::LateCaptures { limit: 5 },
        Act::Verify(None),
    ] {
        rig.act(act).await;
    }
    assert_eq!(rig.records().await.len(), 1);
}

async fn a_call_that_moves_money_writes_nothing_into_the_log(rig: Rig) {
    rig.open(ANNE, 100).await;
    let anne = rig.log_in(ANNE).await;
    let before = rig.records().await.len();
    rig.deposit(&anne, 5).await.unwrap();
    rig.withdraw(&anne, 5).await.unwrap();
    rig.authorize(&anne, "h-1", 5).await.unwrap();
    rig.free("h-1").await.unwrap();
    rig.sweep().await;
    rig.log_out(anne);
    assert_eq!(rig.records().await.len(), before);
}

async fn a_log_in_is_on_record_with_what_became_of_it(rig: Rig) {
    rig.open(ANNE, 0).await;
    let seated = rig.log_in(ANNE).await;
    let proof = rig.proof(ANNE).await;
    assert!(matches!(rig.claim_by(&proof).await, Claimed::InUse));
    rig.log_out(seated);
    rig.act(Act::Lock(number(ANNE), true)).await;
    assert!(matches!(rig.claim_by(&proof).await, Claimed::LockedByStaff));
    rig.act(Act::Lock(number(ANNE), false)).await;
    rig.set_pin(ANNE, "5093", None).await;
    assert!(matches!(rig.claim_by(&proof).await, Claimed::Void));
    let records = rig.records().await;
    let logins: Vec<_> = records
        .iter()
        .map(|(record, _)| record)
        .filter(|record| record.event == "login")
        .collect();
    let outcomes: Vec<&str> = logins.iter().map(|record| &*record.outcome).collect();
    assert_eq!(outcomes, ["done", "in_use", "locked_by_staff", "void"]);
    for (index, record) in logins.iter().enumerate() {
        assert_eq!(record.account.as_deref(), Some("zz-00001"));
        assert_eq!(record.terminal.as_deref(), Some("t-1"));
        assert_eq!(record.actor, "terminal t-1");
        assert_eq!(record.at, rig.context().now);
        // The rig counts its connections from 0.
        assert_eq!(record.connection, i64::try_from(index).ok());
    }
    rig.assert_clean().await;
}

async fn the_last_try_is_on_record_for_known_and_unknown_numbers_alike(rig: Rig) {
    rig.open(ANNE, 0).await;
    for account in [ANNE, NOBODY] {
        for _ in 0..5 {
            let _ = rig.count_try(account).await;
        }
    }
    assert_eq!(
        told(&rig).await[1..],
        [
            "last_try counted zz-00001 t-1 terminal t-1",
            "last_try counted zz-99999 t-1 terminal t-1"
        ]
    );
}

async fn a_change_of_pin_is_on_record_with_what_became_of_it(rig: Rig) {
    rig.open(ANNE, 0).await;
    let anne = rig.log_in(ANNE).await;
    let change = async |hash| {
        let proof = rig.proof(ANNE).await;
        let store = rig.store();
        store.change_pin(&anne, &proof, hash, rig.context()).await
    };
    assert_eq!(change(None).await, Ok(PinChange::Done));
    let proof = rig.proof(ANNE).await;
    assert_eq!(
        change(Some(rig.hash("5093", CHEAP))).await,
        Ok(PinChange::Done)
    );
    let void = rig.store().change_pin(&anne, &proof, None, rig.context());
    assert_eq!(void.await, Ok(PinChange::Void));
    let told = told(&rig).await;
    let changes: Vec<&String> = told
        .iter()
        .filter(|words| words.starts_with("pin_change"))
        .collect();
    assert_eq!(
        changes,
        ["refused", "done", "void"]
            .map(|outcome| format!("pin_change {outcome} zz-00001 t-1 terminal t-1"))
            .iter()
            .collect::<Vec<_>>()
    );
}

pub(super) async fn note(rig: &Rig, event: Event, detail: &str) {
    let note = Note::new(event, rig.context().now).detail(detail);
    rig.store().note(vec![note]).await.unwrap();
}

async fn records_are_numbered_from_one_and_each_chains_to_the_one_before(rig: Rig) {
    rig.open(ANNE, 0).await;
    note(&rig, Event::Start, "a").await;
    let both = ["b", "c"].map(|text| Note::new(Event::Stop, NEW_YEAR).detail(text));
    rig.store().note(both.to_vec()).await.unwrap();
    rig.store().note(Vec::new()).await.unwrap();
    let (mut previous, mut count) = (CHAIN_START, 0);
    for (record, hash) in rig.records().await {
        count += 1;
        assert_eq!(record.number, count);
        assert_eq!(record.hash(&previous), hash);
        previous = hash;
    }
    let audit = rig.verify(None).await;
    let end = LogHead {
        count: 4,
        hash: previous,
    };
    assert_eq!((count, audit.log), (4, end));
}

async fn records_are_listed_by_number_time_event_and_terminal(rig: Rig) {
    for index in 1..=6 {
        let event = if index % 2 == 0 {
            Event::Start
        } else {
            Event::Stop
        };
        note(&rig, event, &index.to_string()).await;
        rig.advance(1);
    }
    rig.act(Act::Terminal {
        name: "t-9".parse().unwrap(),
        disabled: true,
    })
    .await;
    let start = rig.context().now.minus_ms(6);
    let all = RecordsAsked {
        limit: 100,
        ..RecordsAsked::default()
    };
    let numbers = async |asked: RecordsAsked| {
        let records = rig.some_records(asked).await;
        let numbers = records.iter().map(|(record, _)| record.number);
        numbers.collect::<Vec<_>>()
    };
    assert_eq!(numbers(all.clone()).await, [1, 2, 3, 4, 5, 6, 7]);
    let asked = |change: fn(&mut RecordsAsked)| {
        let mut asked = all.clone();
        change(&mut asked);
        asked
    };
    assert_eq!(numbers(asked(|asked| asked.after = 5)).await, [6, 7]);
    assert_eq!(numbers(asked(|asked| asked.limit = 2)).await, [1, 2]);
    let newest = asked(|asked| (asked.limit, asked.newest) = (2, true));
    assert_eq!(numbers(newest).await, [6, 7]);
    let starts = asked(|asked| asked.event = Some("start".to_owned()));
    assert_eq!(numbers(starts).await, [2, 4, 6]);
    let at = asked(|asked| asked.terminal = Some("t-9".to_owned()));
    assert_eq!(numbers(at).await, [7]);
    let span = RecordsAsked {
        from: Some(start.plus_ms(1)),
        to: Some(start.plus_ms(3)),
        ..all.clone()
    };
    assert_eq!(numbers(span).await, [2, 3]);
}

async fn a_full_head_stays_good_while_the_log_grows_and_another_is_refused(rig: Rig) {
    rig.open(ANNE, 100).await;
    let mut past = vec![rig.verify(None).await.full_head()];
    for text in ["a", "b"] {
        note(&rig, Event::Start, text).await;
        past.push(rig.verify(None).await.full_head());
    }
    for digest in &past {
        let shown: Digest = digest.to_string().parse().unwrap();
        assert_eq!(rig.verify(Some(shown)).await.faults, Vec::<String>::new());
    }
    let log = past[1].log.unwrap();
    let (mut other_hash, mut other_count, mut later, mut none) = (log, log, log, log);
    other_hash.hash[7] ^= 1;
    other_count.count += 1;
    later.count = 1_000;
    none.count = 0;
    for log in [other_hash, other_count, later, none] {
        let digest = Digest {
            log: Some(log),
            ..past[1]
        };
        assert_eq!(rig.verify(Some(digest)).await.faults.len(), 1, "{digest}");
    }
    let empty = Digest {
        log: Some(LogHead {
            count: 0,
            hash: CHAIN_START,
        }),
        ..past[1]
    };
    assert_eq!(rig.verify(Some(empty)).await.faults, Vec::<String>::new());
}

async fn a_head_of_the_ledger_alone_is_still_taken(rig: Rig) {
    rig.open(ANNE, 100).await;
    let head = rig.verify(None).await.head;
    note(&rig, Event::Start, "").await;
    let shown = head.to_string();
    assert!(!shown.contains('+'));
    let audit = rig.verify(Some(shown.parse().unwrap())).await;
    assert_eq!((audit.faults, audit.head), (Vec::new(), head));
}
