use super::*;
use crate::access::lockout::LockoutPolicy;
use crate::access::pepper::Peppers;
use crate::access::pin::{HashCost, Kiln, PinHasher};
use crate::access::throttle::AddressBlock;
use crate::domain::AccountNumber;
use crate::domain::Pin;
use crate::store::memory::MemoryStore;
use crate::store::{Act, NewAccount, Office, Terms};
use crate::surroundings::{Surroundings, System};

const CHEAP: HashCost = HashCost {
    memory_kib: 8,
    iterations: 1,
    parallelism: 1,
};

fn terms() -> Terms {
    let lockout = LockoutPolicy {
        tries: 3,
        lock_ms: 1_000_000,
    };
    Terms {
        withdrawal_limit: 100,
        daily_withdrawal_limit: 100,
        hold_timeout_ms: 1_000,
        lockout,
        try_rows_max: 10,
    }
}

/// A dialogue over a bank with one account, whose PIN was hashed with a pepper that the bank has
/// (or not).
async fn dialogue(pepper_is_there: bool) -> (Dialogue, Arc<MemoryStore>) {
    let system: Arc<dyn Surroundings> = Arc::new(System::default());
    let peppers = Arc::new(Peppers::generate(&*system));
    let others = Arc::new(Peppers::generate(&*system));
    let held = if pepper_is_there { &peppers } else { &others };
    let hasher = PinHasher::start(Arc::clone(held), CHEAP, 1, Arc::clone(&system)).unwrap();
    let currency = "USD".parse().unwrap();
    let store = Arc::new(MemoryStore::new(currency, system.now()));
    let shared: Arc<MemoryStore> = Arc::clone(&store);
    let bank = Arc::new(Bank::new(
        shared,
        hasher,
        Arc::clone(&system),
        terms(),
        currency,
    ));
    let number: AccountNumber = "zz-99999".parse().unwrap();
    let pin = Pin::parse("8264").unwrap();
    let hash = Kiln::new(peppers, CHEAP).hash(&pin, &*system).unwrap();
    let account = NewAccount {
        number,
        hash,
        balance: 500,
        demo: false,
    };
    let opened = bank
        .office(&Office::of("test"), Act::Open(vec![account]))
        .await;
    assert!(opened.is_ok());
    let rate = Rate {
        count: 1_000,
        per: std::time::Duration::from_secs(1),
        burst: 1_000,
    };
    let logins = Arc::new(KeyedThrottle::new(rate, Arc::clone(&system)));
    let sprays = Arc::new(SprayWatch::new(50, system));
    let address = AddressBlock::from(std::net::IpAddr::from([127, 0, 0, 1]));
    let peer = Peer {
        terminal: "t-1".parse().unwrap(),
        requester: Requester::Address(address),
        connection: 1,
    };
    let shared = Shared {
        bank,
        logins,
        sprays,
        metrics: Arc::default(),
    };
    let times = SessionTimes {
        idle_timeout_ms: 1,
        max_timeout_ms: 1,
    };
    (Dialogue::new(shared, peer, rate, times), store)
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
