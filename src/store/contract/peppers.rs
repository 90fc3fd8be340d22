//! Peppers: who stands on which, and what becomes of one that nobody needs.

use std::sync::Arc;

use super::rig::*;
use crate::access::pepper::{PepperId, Peppers};
use crate::access::pepper_file::PepperFile;
use crate::access::pin::{Kiln, PinHash, PinHasher};
use crate::domain::Pin;
use crate::store::{Act, Done, NewAccount, StoreError, TryCounted};
use crate::surroundings::{Surroundings, System};

super::on_every_store! {
    every_pepper_is_shown_with_the_accounts_that_stand_on_it
    a_pepper_is_retired_once_no_account_stands_on_it
    closed_accounts_keep_no_pepper
    a_hash_moves_to_the_new_pepper_at_a_right_pin
    no_hash_of_a_retired_pepper_is_kept_and_no_pin_is_lost_by_it
}

/// Another ring of one pepper, and a hash of [`PIN`] made with it.
fn elsewhere() -> (PepperId, PinHash) {
    let peppers = Arc::new(Peppers::generate(&System::default()));
    let id = peppers.current().unwrap().clone();
    let pin = Pin::parse(PIN).unwrap();
    let hash = Kiln::new(peppers, CHEAP).hash(&pin, &System::default());
    (id, hash.unwrap())
}

fn own(rig: &Rig) -> PepperId {
    rig.peppers.current().unwrap().clone()
}

async fn uses(rig: &Rig) -> Vec<(PepperId, u64)> {
    match rig.act(Act::Peppers).await {
        Done::Peppers(uses) => uses
            .into_iter()
            .map(|used| (used.pepper, used.accounts))
            .collect(),
        done => panic!("{done:?}"),
    }
}

/// Those that accounts stand on.
async fn needed(rig: &Rig) -> Vec<(PepperId, u64)> {
    let mut uses = uses(rig).await;
    uses.retain(|(_, accounts)| *accounts > 0);
    uses
}

fn sorted(mut uses: Vec<(PepperId, u64)>) -> Vec<(PepperId, u64)> {
    uses.sort_by(|one, other| one.0.as_str().cmp(other.0.as_str()));
    uses
}

async fn retire(rig: &Rig, pepper: &PepperId) -> Done {
    rig.act(Act::RetirePepper(pepper.clone())).await
}

async fn give(rig: &Rig, account: &str, hash: &PinHash) -> Done {
    let act = Act::SetPin {
        number: number(account),
        hash: hash.clone(),
        one_time_until: None,
        accept_row: false,
    };
    rig.act(act).await
}

async fn every_pepper_is_shown_with_the_accounts_that_stand_on_it(rig: Rig) {
    assert_eq!(uses(&rig).await, []);
    rig.open(ANNE, 5).await;
    rig.open(BERT, 5).await;
    assert_eq!(uses(&rig).await, [(own(&rig), 2)]);
    let (other, hash) = elsewhere();
    give(&rig, ANNE, &hash).await;
    let both = sorted(vec![(own(&rig), 1), (other.clone(), 1)]);
    assert_eq!(uses(&rig).await, both);
    give(&rig, BERT, &hash).await;
    let both = sorted(vec![(own(&rig), 0), (other, 2)]);
    assert_eq!(uses(&rig).await, both);
}

async fn a_pepper_is_retired_once_no_account_stands_on_it(rig: Rig) {
    rig.open(ANNE, 5).await;
    rig.open(BERT, 5).await;
    let (other, hash) = elsewhere();
    give(&rig, ANNE, &hash).await;
    let refused = retire(&rig, &own(&rig)).await;
    let Done::Refused(why) = refused else {
        panic!("{refused:?}");
    };
    assert!(why.starts_with("1 accounts still stand"), "{why}");
    assert_eq!(uses(&rig).await.len(), 2);
    give(&rig, BERT, &hash).await;
    let (_hasher, _new) = rotated(&rig);
    for _ in 0..2 {
        assert!(matches!(retire(&rig, &own(&rig)).await, Done::Yes));
        assert_eq!(needed(&rig).await, [(other.clone(), 2)]);
    }
    rig.assert_clean().await;
}

async fn closed_accounts_keep_no_pepper(rig: Rig) {
    rig.open(ANNE, 0).await;
    rig.act(Act::Close(number(ANNE))).await;
    assert_eq!(uses(&rig).await, [(own(&rig), 0)]);
    let (_hasher, _new) = rotated(&rig);
    assert!(matches!(retire(&rig, &own(&rig)).await, Done::Yes));
    // Its number answers as before, and is nobody's.
    assert!(rig.try_pin(ANNE, PIN).await.unwrap().is_none());
}

/// A hasher with a new pepper before the rig's own; the store covers rows with it too.
fn rotated(rig: &Rig) -> (PinHasher, PepperId) {
    let system: Arc<dyn Surroundings> = Arc::new(System::default());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pepper");
    std::fs::write(&path, rig.peppers.lines().as_str()).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let hasher = PinHasher::start(rig.keyring.clone(), CHEAP, 1, Arc::clone(&system)).unwrap();
    let file = PepperFile::new(path, false);
    file.rotate(&hasher, &*system).unwrap();
    let new = hasher.peppers().current().unwrap().clone();
    (hasher, new)
}

async fn prove(rig: &Rig, hasher: &PinHasher) -> crate::access::pin::PinVerified {
    let TryCounted::Check(ticket) = rig.count_try(ANNE).await else {
        panic!("locked");
    };
    let pin = Pin::parse(PIN).unwrap();
    let place = hasher.place().unwrap();
    place.verify(ticket, pin).await.unwrap().unwrap()
}

async fn a_hash_moves_to_the_new_pepper_at_a_right_pin(rig: Rig) {
    rig.open(ANNE, 5).await;
    let (hasher, new) = rotated(&rig);
    let proof = prove(&rig, &hasher).await;
    let _ = rig.claim_by(&proof).await;
    assert_eq!(
        uses(&rig).await,
        sorted(vec![(own(&rig), 0), (new.clone(), 1)])
    );
    assert!(matches!(retire(&rig, &own(&rig)).await, Done::Yes));
    assert!(prove(&rig, &hasher).await.upgrade().is_none());
}

async fn no_hash_of_a_retired_pepper_is_kept_and_no_pin_is_lost_by_it(rig: Rig) {
    rig.open(ANNE, 5).await;
    let anne = rig.log_in(ANNE).await;
    let (hasher, new) = rotated(&rig);
    // Proof and hashes are on their way when the pepper goes.
    let proof = prove(&rig, &hasher).await;
    assert!(proof.upgrade().is_some());
    let place = hasher.place().unwrap();
    let late = place.hash(Pin::parse("5093").unwrap()).await.unwrap();
    assert!(matches!(retire(&rig, &new).await, Done::Yes));
    let changed = rig
        .store()
        .change_pin(&anne, &proof, Some(late.clone()), rig.context())
        .await;
    assert!(
        matches!(changed, Err(StoreError::Unavailable(_))),
        "{changed:?}"
    );
    rig.log_out(anne);
    let _ = rig.claim_by(&proof).await;
    assert!(matches!(give(&rig, ANNE, &late).await, Done::Refused(_)));
    let account = NewAccount {
        number: number(BERT),
        hash: late,
        balance: 5,
        demo: false,
    };
    let opened = rig.act(Act::Open(vec![account])).await;
    assert!(matches!(opened, Done::Refused(_)), "{opened:?}");
    assert_eq!(uses(&rig).await, [(own(&rig), 1)]);
    assert!(rig.try_pin(ANNE, PIN).await.unwrap().is_some());
    rig.assert_clean().await;
}

#[tokio::test]
async fn rows_that_nobody_will_log_in_on_are_covered_anew_before_their_pepper_goes() {
    let mut rig = Rig::sqlite();
    rig.open_all_kinds(5).await;
    let (hasher, _) = rotated(&rig);
    let _ = rig.claim_by(&prove(&rig, &hasher).await).await;
    let (old, before) = (own(&rig), rig.verify(None).await.rows.count);
    let moving = |after| Act::MoveRows {
        pepper: old.clone(),
        after,
    };
    assert!(matches!(rig.act(moving(0)).await, Done::Count(0)));
    assert_eq!(rig.verify(None).await.rows.count, before + 2);
    assert!(matches!(retire(&rig, &old).await, Done::Yes));
    assert_eq!(rig.verify(None).await.rows.count, before + 2);
    let ring = hasher.peppers();
    let lines = ring.lines();
    let left = lines.lines().filter(|line| !line.starts_with(old.as_str()));
    let path = rig.folder.as_ref().unwrap().path().join("pepper");
    std::fs::write(&path, left.collect::<Vec<_>>().join("\n")).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    rig.shut_store();
    rig.keyring = Arc::new(Peppers::load(&path, false).unwrap()).into();
    rig.open_store();
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_pepper_stays_while_a_row_that_it_covers_is_not_as_the_bank_wrote_it() {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 0).await;
    rig.act(Act::Close(number(ANNE))).await;
    rig.shut_store();
    let sql = "UPDATE account SET daily_limit = 5 WHERE number = 'zz-00001'";
    super::sqlite::tamper(&rig.path(), sql);
    rig.open_store();
    let (_hasher, _new) = rotated(&rig);
    match retire(&rig, &own(&rig)).await {
        Done::Refused(why) => assert!(why.contains("not as the bank wrote it"), "{why}"),
        done => panic!("{done:?}"),
    }
}
