use super::*;
use crate::access::throttle::AddressBlock;
use crate::bank::test_bank::TestBank;
use crate::store::memory::MemoryStore;
use crate::store::{Act, Office};
use crate::surroundings::{Surroundings, System};

/// A dialogue over a bank with one account, whose PIN was hashed with a pepper that the bank has
/// (or not).
async fn dialogue(pepper_is_there: bool) -> (Dialogue, Arc<MemoryStore>) {
    let rate = Rate {
        count: 1_000,
        per: std::time::Duration::from_secs(1),
        burst: 1_000,
    };
    dialogue_at(rate, pepper_is_there).await
}

async fn dialogue_at(rate: Rate, pepper_is_there: bool) -> (Dialogue, Arc<MemoryStore>) {
    let system: Arc<dyn Surroundings> = Arc::new(System::default());
    let (tried, other) = (TestBank::new(&system), TestBank::new(&system));
    let hashed_by = if pepper_is_there { &tried } else { &other };
    tried
        .open("zz-99999", hashed_by.hash("8264").await, 500)
        .await;
    let logins = Arc::new(KeyedThrottle::new(rate, Arc::clone(&system)));
    let lines = Arc::new(Lines::new(Arc::clone(&system)));
    let sprays = Arc::new(SprayWatch::new(50, system));
    let address = AddressBlock::from(std::net::IpAddr::from([127, 0, 0, 1]));
    let peer = Peer {
        terminal: "t-1".parse().unwrap(),
        requester: Requester::Address(address),
        connection: 1,
    };
    let shared = Shared {
        bank: tried.bank,
        logins,
        sprays,
        metrics: Arc::default(),
        lines,
    };
    let times = SessionTimes {
        idle_timeout_ms: 1,
        max_timeout_ms: 1,
    };
    (Dialogue::new(shared, peer, rate, times), tried.store)
}

const LOGIN: &[u8] = br#"{"id":1,"op":"login","account":"zz-99999","pin":"8264"}"#;

#[tokio::test]
async fn an_internal_error_gets_50_with_a_reference_and_no_detail() {
    let (mut dialogue, _) = dialogue(false).await;
    let Reaction { answer, then, .. } = dialogue.answer(LOGIN).await;
    assert_eq!((answer.code, then), (Code::Internal, Then::Stay));
    assert_eq!(answer.members.reference.as_ref().map(String::len), Some(12));
    assert_eq!(answer.members.message.as_deref(), Some("internal error"));
    let asked = crate::store::RecordsAsked {
        limit: 10,
        event: Some("login".to_owned()),
        ..Default::default()
    };
    let office = Office::of("test");
    let listed = dialogue.shared.bank.office(&office, Act::Records(asked));
    let Ok(crate::store::Done::Records(records)) = listed.await else {
        panic!("no records");
    };
    let outcomes: Vec<&str> = records.iter().map(|(record, _)| &*record.outcome).collect();
    assert_eq!(outcomes, ["failed"]);
}

#[tokio::test]
async fn a_store_that_fails_gets_51_and_the_key_settles_what_happened() {
    let (mut dialogue, store) = dialogue(true).await;
    assert_eq!(dialogue.answer(LOGIN).await.answer.code, Code::Done);
    let deposit = br#"{"id":2,"op":"deposit","amount":100,"key":"0123456789abcdef"}"#;
    store
        .faults()
        .fail_after
        .store(1, std::sync::atomic::Ordering::SeqCst);
    let unknown = dialogue.answer(deposit).await;
    assert_eq!(
        (unknown.answer.code, unknown.then),
        (Code::StorageUnavailable, Then::Stay)
    );
    let settled = dialogue.answer(deposit).await.answer;
    assert_eq!(
        (settled.code, settled.members.replayed),
        (Code::Done, Some(true))
    );
    assert_eq!(settled.members.balance, Some(600));
}

/// An order of that op, with members before its key, which ends so.
fn order(id: u64, op: &str, members: &str, key: &str) -> String {
    format!(r#"{{"id":{id},"op":"{op}",{members},"key":"0123456789abcd{key}"}}"#)
}

/// How many payloads were answered in each call, and number and code of each answer.
async fn answers(dialogue: &mut Dialogue, payloads: &[String]) -> (Vec<usize>, Vec<(u64, u16)>) {
    let (mut calls, mut answers) = (Vec::new(), Vec::new());
    while answers.len() < payloads.len() {
        let rest = payloads[answers.len()..].iter();
        let reactions = dialogue.answer_some(rest.map(String::as_bytes)).await;
        calls.push(reactions.len());
        let answered = reactions.iter().map(|reaction| &reaction.answer);
        answers.extend(answered.map(|answer| (answer.id.unwrap(), answer.code.number())));
    }
    (calls, answers)
}

#[tokio::test]
async fn orders_that_came_together_are_judged_one_after_another_and_others_wait_their_turn() {
    let (mut dialogue, _) = dialogue(true).await;
    let payloads = [
        order(1, "deposit", r#""amount":5"#, "01"),
        String::from_utf8(LOGIN.to_vec())
            .unwrap()
            .replace(r#""id":1"#, r#""id":2"#),
        order(3, "withdraw", r#""amount":90"#, "03"),
        order(4, "withdraw", r#""amount":90"#, "04"),
        order(5, "deposit", r#""amount":7"#, "05"),
        order(6, "transfer", r#""to":"qq-00001","amount":5"#, "06"),
        // The key of another order, and that of the same one.
        order(7, "withdraw", r#""amount":7"#, "05"),
        order(8, "deposit", r#""amount":7"#, "05"),
        r#"{"id":9,"op":"balance"}"#.to_owned(),
        order(10, "authorize", r#""amount":10"#, "10"),
        order(11, "deposit", r#""amount":1"#, "11"),
        r#"{"id":12,"op":"logout"}"#.to_owned(),
        order(13, "deposit", r#""amount":1"#, "13"),
    ];
    let (calls, said) = answers(&mut dialogue, &payloads).await;
    assert_eq!(calls, [1, 1, 6, 1, 1, 1, 1, 1]);
    let codes = [23, 0, 0, 32, 0, 34, 33, 0, 0, 0, 0, 0, 23];
    let expected: Vec<(u64, u16)> = (1..).zip(codes).collect();
    assert_eq!(said, expected);
    let seen = dialogue.answer(LOGIN).await.answer.members;
    assert_eq!((seen.balance, seen.available), (Some(418), Some(408)));
}

#[tokio::test]
async fn transfers_that_came_together_name_no_more_wrong_counterparties_than_others() {
    let (mut dialogue, _) = dialogue(true).await;
    assert_eq!(dialogue.answer(LOGIN).await.answer.code, Code::Done);
    let transfer = |id| {
        order(
            id,
            "transfer",
            r#""to":"qq-00001","amount":5"#,
            &format!("{id:02}"),
        )
    };
    let payloads: Vec<String> = (1..=8).map(transfer).collect();
    let (calls, said) = answers(&mut dialogue, &payloads).await;
    assert_eq!(calls, [5, 1, 1, 1]);
    let codes: Vec<u16> = said.iter().map(|(_, code)| *code).collect();
    assert_eq!(codes, [34, 34, 34, 34, 34, 40, 40, 40]);
}

#[tokio::test]
async fn orders_that_came_together_keep_to_the_connections_rate() {
    let rate = Rate {
        count: 1,
        per: std::time::Duration::from_secs(3_600),
        burst: 5,
    };
    let (mut dialogue, _) = dialogue_at(rate, true).await;
    assert_eq!(dialogue.answer(LOGIN).await.answer.code, Code::Done);
    let deposit = |id| order(id, "deposit", r#""amount":5"#, &format!("{id:02}"));
    let payloads: Vec<String> = (1..=7).map(deposit).collect();
    let (calls, said) = answers(&mut dialogue, &payloads).await;
    assert_eq!(calls, [4, 1, 1, 1]);
    let codes: Vec<u16> = said.iter().map(|(_, code)| *code).collect();
    assert_eq!(codes, [0, 0, 0, 0, 40, 40, 40]);
}

#[tokio::test]
async fn a_store_that_fails_gets_51_for_all_orders_that_came_together() {
    let (mut dialogue, store) = dialogue(true).await;
    assert_eq!(dialogue.answer(LOGIN).await.answer.code, Code::Done);
    let deposit = |id| order(id, "deposit", r#""amount":5"#, &format!("{id:02}"));
    let payloads: Vec<String> = (1..=3).map(deposit).collect();
    let fail_after = &store.faults().fail_after;
    fail_after.store(1, std::sync::atomic::Ordering::SeqCst);
    let (calls, said) = answers(&mut dialogue, &payloads).await;
    assert_eq!((calls, said), (vec![3], vec![(1, 51), (2, 51), (3, 51)]));
    let payloads = payloads.iter().map(String::as_bytes);
    let settled = dialogue.answer_some(payloads).await;
    assert!(
        settled
            .iter()
            .all(|one| one.answer.members.replayed == Some(true))
    );
}

#[tokio::test]
async fn a_spray_is_counted_once_and_slowed_before_a_pin_is_looked_at() {
    let (mut dialogue, _) = dialogue(true).await;
    dialogue.shared.sprays.set_tries(5);
    for index in 0..4 {
        let guess = format!(r#"{{"id":1,"op":"login","account":"qq-0000{index}","pin":"8264"}}"#);
        let guessed = dialogue.answer(guess.as_bytes()).await.answer;
        assert_eq!(guessed.code, Code::NoMatch);
    }
    for _ in 0..3 {
        let slowed = dialogue.answer(LOGIN).await.answer;
        assert_eq!(slowed.code, Code::TooMany);
        assert!(slowed.members.retry_after_ms.is_some_and(|ms| ms <= 15_000));
    }
    let metrics = dialogue.shared.metrics.encode();
    for line in [
        r#"bank_sprays_noticed_total{where="source"} 1"#,
        r#"bank_requests_total{op="login",code="40"} 3"#,
    ] {
        assert!(metrics.contains(line), "{line} not in {metrics}");
    }
    dialogue.shared.sprays.set_tries(0);
    assert_eq!(dialogue.answer(LOGIN).await.answer.code, Code::Done);
}
