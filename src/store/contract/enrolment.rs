//! Terminals that enrol themselves: codes, and certificates on record.

use super::rig::*;
use crate::domain::{EnrolmentCode, TerminalName};
use crate::store::enrolment::{CERTIFICATES_PER_TERMINAL_MAX, INVITATIONS_MAX, REFETCH_MS};
use crate::store::{Act, CodeHash, Done, NewCertificate, Recorded, Warrant};

super::on_every_store! {
    a_code_gives_one_certificate_for_one_key
    of_fifty_that_come_with_one_code_at_once_one_gets_a_certificate
    a_used_code_gives_its_own_key_its_certificate_again_for_a_while_and_no_other_anything
    an_expired_an_unknown_and_a_taken_back_code_give_nothing
    a_new_code_for_a_name_voids_the_one_before
    a_code_that_another_terminal_has_is_refused_and_nothing_changes
    all_codes_can_be_made_void_at_once_used_or_not
    a_code_gives_no_certificate_of_another_name
    a_disabled_terminal_is_neither_invited_nor_enrolled_nor_renewed
    a_certificate_is_renewed_while_it_holds_and_not_once_it_is_revoked
    a_renewal_with_the_same_key_gets_the_same_certificate_again_while_it_is_good
    renewing_with_the_key_of_the_certificate_shown_gives_a_new_one_and_never_an_older_one
    a_terminal_that_renews_on_and_on_is_told_to_wait
    revoked_certificates_do_not_keep_a_terminal_from_renewing
    revoking_takes_all_of_a_name_that_have_not_ended
    revoking_voids_the_open_code_of_that_name_and_no_other
    open_codes_are_listed_by_name_and_are_so_many_at_most
    names_that_all_share_are_not_invited
}

const HOUR_MS: u64 = 3_600_000;

fn terminal(name: &str) -> TerminalName {
    name.parse().unwrap()
}

fn code(number: u8) -> CodeHash {
    CodeHash::of(&EnrolmentCode::from_random([number; 16]))
}

/// A certificate for `name` with its own serial and key, which ends in a week.
fn certificate(rig: &Rig, name: &str, number: u8) -> NewCertificate {
    NewCertificate {
        serial: format!("{number:032x}"),
        terminal: terminal(name),
        key: [number; 32],
        ends_at: rig.context().now.plus_ms(7 * 24 * HOUR_MS),
        der: vec![number; 3],
    }
}

fn invite_act(rig: &Rig, name: &str, code: CodeHash) -> Act {
    Act::Invite {
        name: terminal(name),
        code,
        expires_at: rig.context().now.plus_ms(HOUR_MS),
    }
}

async fn invite(rig: &Rig, name: &str, number: u8) -> Warrant {
    let done = rig.act(invite_act(rig, name, code(number))).await;
    assert!(matches!(done, Done::Yes), "{done:?}");
    Warrant::Code(code(number))
}

async fn record(rig: &Rig, warrant: &Warrant, new: NewCertificate) -> Recorded {
    let asked = rig
        .store()
        .warranted(warrant.clone(), new.key, rig.context());
    let warranted = asked.await.unwrap();
    let recorded = rig
        .store()
        .record_certificate(warrant.clone(), new.clone(), rig.context());
    let recorded = recorded.await.unwrap();
    // The look before says the same as the act, but for the name asked for.
    if warranted.as_ref() != Some(&new.terminal) {
        assert_eq!(recorded, Recorded::Refused);
    } else {
        assert_ne!(recorded, Recorded::Refused);
    }
    recorded
}

fn given(new: &NewCertificate) -> Recorded {
    Recorded::Certificate(new.der.clone())
}

async fn serials(rig: &Rig, act: Act) -> Vec<(String, bool)> {
    match rig.act(act).await {
        Done::Certificates(records) => records
            .into_iter()
            .map(|one| (one.serial, one.revoked_at.is_some()))
            .collect(),
        done => panic!("{done:?}"),
    }
}

async fn assert_refused(rig: &Rig, act: Act, words: &str) {
    match rig.act(act).await {
        Done::Refused(why) => assert_eq!(why, words),
        done => panic!("{done:?}"),
    }
}

async fn a_code_gives_one_certificate_for_one_key(rig: Rig) {
    let warrant = invite(&rig, "till-1", 1).await;
    let (first, second) = (
        certificate(&rig, "till-1", 1),
        certificate(&rig, "till-1", 2),
    );
    assert_eq!(record(&rig, &warrant, first.clone()).await, given(&first));
    assert_eq!(record(&rig, &warrant, second).await, Recorded::Refused);
    rig.assert_clean().await;
}

async fn of_fifty_that_come_with_one_code_at_once_one_gets_a_certificate(rig: Rig) {
    let warrant = invite(&rig, "till-1", 1).await;
    let all = (1..=50).map(|number| {
        let new = certificate(&rig, "till-1", number);
        rig.store()
            .record_certificate(warrant.clone(), new, rig.context())
    });
    let mut given = 0;
    let mut waiting: Vec<_> = all.collect();
    // All are begun before any is waited for.
    let outcomes = std::future::poll_fn(|context| {
        let mut outcomes = Vec::new();
        for reply in &mut waiting {
            outcomes.push(reply.as_mut().poll(context));
        }
        std::task::Poll::Ready(outcomes)
    })
    .await;
    for (reply, outcome) in waiting.into_iter().zip(outcomes) {
        let recorded = match outcome {
            std::task::Poll::Ready(recorded) => recorded.unwrap(),
            std::task::Poll::Pending => reply.await.unwrap(),
        };
        given += usize::from(recorded != Recorded::Refused);
    }
    assert_eq!(given, 1);
}

async fn a_used_code_gives_its_own_key_its_certificate_again_for_a_while_and_no_other_anything(
    rig: Rig,
) {
    let warrant = invite(&rig, "till-1", 1).await;
    let first = certificate(&rig, "till-1", 1);
    record(&rig, &warrant, first.clone()).await;
    // Signed anew for the same key: what leaves is what left before.
    let again = NewCertificate {
        key: first.key,
        ..certificate(&rig, "till-1", 2)
    };
    rig.advance(i64::try_from(REFETCH_MS).unwrap() - 1);
    assert_eq!(record(&rig, &warrant, again.clone()).await, given(&first));
    let other = certificate(&rig, "till-1", 3);
    assert_eq!(record(&rig, &warrant, other).await, Recorded::Refused);
    rig.advance(1);
    assert_eq!(
        record(&rig, &warrant, again.clone()).await,
        Recorded::Refused
    );

    let warrant = invite(&rig, "till-2", 2).await;
    let lost = certificate(&rig, "till-2", 4);
    record(&rig, &warrant, lost.clone()).await;
    rig.act(Act::RevokeCertificates(terminal("till-2"))).await;
    assert_eq!(record(&rig, &warrant, lost).await, Recorded::Refused);
}

async fn an_expired_an_unknown_and_a_taken_back_code_give_nothing(rig: Rig) {
    let unknown = Warrant::Code(code(9));
    let new = certificate(&rig, "till-1", 1);
    assert_eq!(record(&rig, &unknown, new.clone()).await, Recorded::Refused);
    let warrant = invite(&rig, "till-1", 1).await;
    rig.act(Act::Uninvite(terminal("till-1"))).await;
    assert_eq!(record(&rig, &warrant, new.clone()).await, Recorded::Refused);
    let words = "there is no open code for that terminal";
    assert_refused(&rig, Act::Uninvite(terminal("till-1")), words).await;
    let warrant = invite(&rig, "till-1", 2).await;
    rig.advance(HOUR - 1);
    let early = rig
        .store()
        .warranted(warrant.clone(), [0; 32], rig.context());
    assert_eq!(early.await.unwrap(), Some(terminal("till-1")));
    rig.advance(1);
    assert_eq!(record(&rig, &warrant, new).await, Recorded::Refused);
    assert_refused(&rig, Act::Uninvite(terminal("till-1")), words).await;
}

async fn a_new_code_for_a_name_voids_the_one_before(rig: Rig) {
    let old = invite(&rig, "till-1", 1).await;
    let new = invite(&rig, "till-1", 2).await;
    let certificate = certificate(&rig, "till-1", 1);
    assert_eq!(
        record(&rig, &old, certificate.clone()).await,
        Recorded::Refused
    );
    assert_eq!(
        record(&rig, &new, certificate.clone()).await,
        given(&certificate)
    );
}

async fn a_code_that_another_terminal_has_is_refused_and_nothing_changes(rig: Rig) {
    let words = "another terminal has that code";
    let first = invite(&rig, "till-1", 1).await;
    let own = invite(&rig, "till-2", 2).await;
    assert_refused(&rig, invite_act(&rig, "till-2", code(1)), words).await;
    // Both keep what they had, also where one was used.
    let given_to_first = certificate(&rig, "till-1", 1);
    let recorded = record(&rig, &first, given_to_first.clone()).await;
    assert_eq!(recorded, given(&given_to_first));
    assert_refused(&rig, invite_act(&rig, "till-2", code(1)), words).await;
    let given_to_second = certificate(&rig, "till-2", 2);
    let recorded = record(&rig, &own, given_to_second.clone()).await;
    assert_eq!(recorded, given(&given_to_second));
    // A terminal's own code may be given to it again, and one that gives nothing any more to any.
    invite(&rig, "till-1", 1).await;
    rig.advance(HOUR);
    invite(&rig, "till-2", 1).await;
}

async fn all_codes_can_be_made_void_at_once_used_or_not(rig: Rig) {
    let open = invite(&rig, "till-1", 1).await;
    let used = invite(&rig, "till-2", 2).await;
    let (first, second) = (
        certificate(&rig, "till-1", 1),
        certificate(&rig, "till-2", 2),
    );
    record(&rig, &used, second.clone()).await;
    assert!(matches!(rig.act(Act::UninviteAll).await, Done::Yes));
    assert_eq!(record(&rig, &open, first).await, Recorded::Refused);
    assert_eq!(record(&rig, &used, second.clone()).await, Recorded::Refused);
    // What was given out stays good.
    let held = Warrant::Certificate(second.serial);
    let next = certificate(&rig, "till-2", 3);
    assert_eq!(record(&rig, &held, next.clone()).await, given(&next));
}

async fn a_code_gives_no_certificate_of_another_name(rig: Rig) {
    let warrant = invite(&rig, "till-1", 1).await;
    let other = certificate(&rig, "till-2", 1);
    assert_eq!(record(&rig, &warrant, other).await, Recorded::Refused);
    let own = certificate(&rig, "till-1", 2);
    assert_eq!(record(&rig, &warrant, own.clone()).await, given(&own));
    let held = Warrant::Certificate(own.serial);
    let other = certificate(&rig, "till-2", 3);
    assert_eq!(record(&rig, &held, other).await, Recorded::Refused);
}

async fn a_disabled_terminal_is_neither_invited_nor_enrolled_nor_renewed(rig: Rig) {
    let disabled = |disabled| Act::Terminal {
        name: terminal("till-1"),
        disabled,
    };
    let warrant = invite(&rig, "till-1", 1).await;
    let first = certificate(&rig, "till-1", 1);
    rig.act(disabled(true)).await;
    assert_eq!(
        record(&rig, &warrant, first.clone()).await,
        Recorded::Refused
    );
    let act = invite_act(&rig, "till-1", code(2));
    assert_refused(&rig, act, "the terminal is disabled").await;
    rig.act(disabled(false)).await;
    record(&rig, &warrant, first.clone()).await;
    rig.act(disabled(true)).await;
    let held = Warrant::Certificate(first.serial);
    let next = certificate(&rig, "till-1", 2);
    assert_eq!(record(&rig, &held, next.clone()).await, Recorded::Refused);
    rig.act(disabled(false)).await;
    assert_eq!(record(&rig, &held, next.clone()).await, given(&next));
}

async fn a_certificate_is_renewed_while_it_holds_and_not_once_it_is_revoked(rig: Rig) {
    let warrant = invite(&rig, "till-1", 1).await;
    let first = certificate(&rig, "till-1", 1);
    record(&rig, &warrant, first.clone()).await;
    rig.advance(6 * DAY);
    let by_first = Warrant::Certificate(first.serial);
    let second = certificate(&rig, "till-1", 2);
    assert_eq!(
        record(&rig, &by_first, second.clone()).await,
        given(&second)
    );
    rig.advance(DAY);
    let third = certificate(&rig, "till-1", 3);
    assert_eq!(
        record(&rig, &by_first, third.clone()).await,
        Recorded::Refused
    );
    let by_second = Warrant::Certificate(second.serial);
    rig.act(Act::RevokeCertificates(terminal("till-1"))).await;
    assert_eq!(
        record(&rig, &by_second, third.clone()).await,
        Recorded::Refused
    );
    let stranger = Warrant::Certificate("00".repeat(16));
    assert_eq!(record(&rig, &stranger, third).await, Recorded::Refused);
}

async fn a_renewal_with_the_same_key_gets_the_same_certificate_again_while_it_is_good(rig: Rig) {
    let warrant = invite(&rig, "till-1", 1).await;
    let first = certificate(&rig, "till-1", 1);
    record(&rig, &warrant, first.clone()).await;
    let held = Warrant::Certificate(first.serial.clone());
    rig.advance(5 * DAY);
    let second = certificate(&rig, "till-1", 2);
    assert_eq!(record(&rig, &held, second.clone()).await, given(&second));
    let key = second.key;
    // Answers are lost for as long as the one shown holds, and on the way there is a fresh key.
    let third = certificate(&rig, "till-1", 3);
    assert_eq!(record(&rig, &held, third.clone()).await, given(&third));
    for number in 10..60 {
        rig.advance(HOUR / 2);
        let again = NewCertificate {
            key,
            ..certificate(&rig, "till-1", number)
        };
        assert_eq!(record(&rig, &held, again).await, given(&second));
    }
    // The same key at another terminal is another's.
    let warrant = invite(&rig, "till-2", 2).await;
    let other = certificate(&rig, "till-2", 70);
    record(&rig, &warrant, other.clone()).await;
    let by_other = Warrant::Certificate(other.serial);
    let same_key = NewCertificate {
        key,
        ..certificate(&rig, "till-2", 71)
    };
    let recorded = record(&rig, &by_other, same_key.clone()).await;
    assert_eq!(recorded, given(&same_key));
    let all = serials(&rig, Act::RevokeCertificates(terminal("till-1"))).await;
    assert_eq!(all, [first, second, third].map(|one| (one.serial, true)));
    let void = NewCertificate {
        key,
        ..certificate(&rig, "till-1", 80)
    };
    assert_eq!(record(&rig, &held, void.clone()).await, Recorded::Refused);
    let warrant = invite(&rig, "till-1", 3).await;
    let next = certificate(&rig, "till-1", 81);
    record(&rig, &warrant, next.clone()).await;
    // What was revoked is not given again, whatever is shown.
    let by_next = Warrant::Certificate(next.serial);
    assert_eq!(record(&rig, &by_next, void.clone()).await, given(&void));
}

async fn renewing_with_the_key_of_the_certificate_shown_gives_a_new_one_and_never_an_older_one(
    rig: Rig,
) {
    let warrant = invite(&rig, "till-1", 1).await;
    let first = certificate(&rig, "till-1", 1);
    record(&rig, &warrant, first.clone()).await;
    let mut held = first.clone();
    for number in 2..5 {
        rig.advance(HOUR);
        let next = NewCertificate {
            key: first.key,
            ..certificate(&rig, "till-1", number)
        };
        let warrant = Warrant::Certificate(held.serial);
        assert_eq!(record(&rig, &warrant, next.clone()).await, given(&next));
        held = next;
    }
}

async fn revoked_certificates_do_not_keep_a_terminal_from_renewing(rig: Rig) {
    let most = u8::try_from(CERTIFICATES_PER_TERMINAL_MAX).unwrap();
    for (number, at) in [(1, 1), (2, most + 1)] {
        let warrant = invite(&rig, "till-1", number).await;
        let first = certificate(&rig, "till-1", at);
        record(&rig, &warrant, first.clone()).await;
        let held = Warrant::Certificate(first.serial);
        for next in at + 1..at + most {
            let new = certificate(&rig, "till-1", next);
            assert_eq!(record(&rig, &held, new.clone()).await, given(&new));
        }
        rig.act(Act::RevokeCertificates(terminal("till-1"))).await;
    }
}

async fn a_terminal_that_renews_on_and_on_is_told_to_wait(rig: Rig) {
    let warrant = invite(&rig, "till-1", 1).await;
    let first = certificate(&rig, "till-1", 1);
    record(&rig, &warrant, first.clone()).await;
    let held = Warrant::Certificate(first.serial);
    let most = u8::try_from(CERTIFICATES_PER_TERMINAL_MAX).unwrap();
    for number in 2..=most {
        let new = certificate(&rig, "till-1", number);
        assert_eq!(record(&rig, &held, new.clone()).await, given(&new));
    }
    rig.advance(HOUR);
    let wait_ms = 7 * 24 * HOUR_MS - HOUR_MS;
    let over = certificate(&rig, "till-1", most + 1);
    assert_eq!(
        record(&rig, &held, over.clone()).await,
        Recorded::TooMany(wait_ms)
    );
    // Staff's word counts more, and another terminal's place is its own.
    let warrant = invite(&rig, "till-1", 2).await;
    assert_eq!(record(&rig, &warrant, over.clone()).await, given(&over));
    let warrant = invite(&rig, "till-2", 3).await;
    let other = certificate(&rig, "till-2", most + 2);
    assert_eq!(record(&rig, &warrant, other.clone()).await, given(&other));
}

async fn revoking_takes_all_of_a_name_that_have_not_ended(rig: Rig) {
    let mut all = Vec::new();
    for (name, number) in [("till-1", 1), ("till-1", 2), ("till-2", 3)] {
        let warrant = invite(&rig, name, number).await;
        let mut new = certificate(&rig, name, number);
        if number == 1 {
            new.ends_at = rig.context().now.plus_ms(1_000);
        }
        record(&rig, &warrant, new.clone()).await;
        all.push(new.serial);
    }
    assert_eq!(serials(&rig, Act::RevokedCertificates).await, []);
    rig.advance(2 * SECOND);
    let revoke = || Act::RevokeCertificates(terminal("till-1"));
    let second = [(all[1].clone(), true)];
    assert_eq!(serials(&rig, revoke()).await, second);
    rig.advance(HOUR);
    assert_eq!(serials(&rig, revoke()).await, second);
    assert_eq!(serials(&rig, Act::RevokedCertificates).await, second);
    let nobody = Act::RevokeCertificates(terminal("till-9"));
    assert_eq!(serials(&rig, nobody).await, []);
    rig.advance(7 * DAY);
    assert_eq!(serials(&rig, Act::RevokedCertificates).await, []);
    // What has ended is forgotten in time, and nothing else is.
    let warrant = invite(&rig, "till-3", 4).await;
    let new = certificate(&rig, "till-3", 4);
    record(&rig, &warrant, new.clone()).await;
    let revoke = Act::RevokeCertificates(terminal("till-3"));
    assert_eq!(serials(&rig, revoke).await, [(new.serial, true)]);
}

async fn revoking_voids_the_open_code_of_that_name_and_no_other(rig: Rig) {
    let used = invite(&rig, "till-1", 1).await;
    let first = certificate(&rig, "till-1", 1);
    assert_eq!(record(&rig, &used, first.clone()).await, given(&first));
    let open = invite(&rig, "till-1", 2).await;
    let other = invite(&rig, "till-2", 3).await;
    // A name that was invited and has no certificate yet.
    let only_invited = invite(&rig, "till-3", 4).await;
    for (name, certificates) in [("till-1", vec![(first.serial, true)]), ("till-3", vec![])] {
        let revoke = Act::RevokeCertificates(terminal(name));
        assert_eq!(serials(&rig, revoke).await, certificates);
    }
    for (warrant, name) in [(open, "till-1"), (only_invited, "till-3")] {
        let new = certificate(&rig, name, 5);
        assert_eq!(record(&rig, &warrant, new).await, Recorded::Refused);
    }
    let second = certificate(&rig, "till-2", 6);
    assert_eq!(record(&rig, &other, second.clone()).await, given(&second));
}

async fn open_codes_are_listed_by_name_and_are_so_many_at_most(rig: Rig) {
    let listed = async || match rig.act(Act::Invitations).await {
        Done::Invitations(open) => open
            .into_iter()
            .map(|one| {
                assert_eq!(one.made_at.ms_until(one.expires_at), HOUR_MS);
                one.terminal.to_string()
            })
            .collect::<Vec<_>>(),
        done => panic!("{done:?}"),
    };
    let used = invite(&rig, "till-3", 3).await;
    invite(&rig, "till-2", 2).await;
    invite(&rig, "till-1", 1).await;
    record(&rig, &used, certificate(&rig, "till-3", 1)).await;
    assert_eq!(listed().await, ["till-1", "till-2"]);
    let hash = |number: u64| {
        let mut hash = [7; 32];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        CodeHash(hash)
    };
    for number in 2..INVITATIONS_MAX {
        let done = rig
            .act(invite_act(&rig, &format!("n-{number}"), hash(number)))
            .await;
        assert!(matches!(done, Done::Yes), "{number}: {done:?}");
    }
    let over = || invite_act(&rig, "over", hash(INVITATIONS_MAX));
    assert_refused(&rig, over(), "too many codes are open").await;
    // One that is replaced takes no place of its own.
    invite(&rig, "till-1", 4).await;
    rig.advance(HOUR);
    assert_eq!(listed().await, [""; 0]);
    assert!(matches!(rig.act(over()).await, Done::Yes));
}

async fn names_that_all_share_are_not_invited(rig: Rig) {
    let act = invite_act(&rig, TerminalName::ANONYMOUS, code(1));
    assert_refused(&rig, act, "terminals without a certificate are called that").await;
}
