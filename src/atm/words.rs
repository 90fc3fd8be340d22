//! What the terminal says to people: plain sentences, never a bare number.

use super::teller::is_never_booked;
use crate::domain::Currency;
use crate::domain::printable::is_steering;
use crate::wire::answer::Answer;
use crate::wire::code::Code;

/// What is always true where a withdrawal did not come to its cash.
pub const NO_CASH: &str = "No cash is given out, and nothing was taken from your account.";
/// Why a new PIN is asked for at once.
pub const ONE_TIME_PIN: &str =
    "Your PIN was given to you by the bank. Please choose one of your own now.";
/// A customer who did not wait for the bank.
pub const GIVEN_UP: &str = "Your visit has ended. If money was about to move, you will be told what \
                            became of it the next time you log in here.";

/// More of a text from the network is never shown.
const SHOWN_CHARACTERS_MAX: usize = 200;

/// A text from the network as it may be shown: without control, escape and direction-changing
/// characters, and not without end.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .filter(|c| !is_steering(*c))
        .take(SHOWN_CHARACTERS_MAX)
        .collect()
}

/// Money as people read it: `1024.32 USD`.
#[must_use]
pub fn money(minor: i64, currency: &Currency) -> String {
    format!("{} {currency}", currency.format(minor))
}

/// A span of time as people say it, rounded up.
#[must_use]
pub fn span(milliseconds: u64) -> String {
    let seconds = milliseconds.div_ceil(1_000).max(1);
    let (count, unit) = match seconds {
        0..=119 => (seconds, "second"),
        120..=7_199 => (seconds.div_ceil(60), "minute"),
        7_200..=172_799 => (seconds.div_ceil(3_600), "hour"),
        _ => (seconds.div_ceil(86_400), "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

/// What a refusal means for the customer.
#[must_use]
pub fn refusal(answer: &Answer, currency: Option<&Currency>) -> String {
    let members = &answer.members;
    let later = |otherwise: &str| match members.retry_after_ms {
        Some(retry_after_ms) => format!("Please try again in {}.", span(retry_after_ms)),
        None => otherwise.to_owned(),
    };
    let plain = match answer.code {
        Code::Done => "Done.",
        Code::NoMatch => "This account number and PIN do not belong together.",
        Code::InUse => "This account is in use at another machine. Please finish there first.",
        // Staff's lock has no time, and says nothing of PINs; a lock without end looks the same.
        Code::LockedOut if members.retry_after_ms.is_none() => {
            "This account is locked. Please ask your bank to unlock it."
        }
        Code::LockedOut => {
            let wait = later("");
            return format!("The PIN was wrong too many times, so the account is locked. {wait}");
        }
        Code::NotLoggedIn | Code::SessionEnded => {
            "Your session has ended, to keep your account safe. Please start again."
        }
        Code::AlreadyLoggedIn => "A customer is at this machine already. Please log out first.",
        Code::MustChangePin => "You need to choose a new PIN before anything else.",
        Code::InvalidAmount => "This amount is not possible.",
        Code::InsufficientFunds => "There is not enough money in the account. Nothing was moved.",
        Code::OverLimit => return over_limit(answer, currency),
        Code::NoCounterparty => "The money cannot be sent to that account. Nothing was moved.",
        Code::NoHold | Code::KeyReused => "This was settled already. Nothing was moved.",
        Code::PinRefused => {
            "This PIN is too easy to guess, or it is your present one. Please choose another."
        }
        Code::TooMany => {
            return format!(
                "The bank is busy. {}",
                later("Please try again in a moment.")
            );
        }
        Code::Full => "Your bank is very busy. Please try again in a moment.",
        Code::GoingDown => "Your bank is closing for a moment. Please try again later.",
        Code::StorageUnavailable => {
            "Your bank could not say whether this was done. It will be asked again, and you will \
             be told the next time you log in here. Nothing is ever done twice."
        }
        Code::Internal => return internal(answer),
        Code::Malformed | Code::FrameSize | Code::UnknownOp => {
            "Your bank did not understand this machine. Nothing was moved."
        }
    };
    plain.to_owned()
}

/// What a wrong PIN means, `times` in a row at this terminal: how many the bank allows it does not
/// say, three where nobody changed that.
#[must_use]
pub const fn wrong_pin(times: u32) -> &'static str {
    match times {
        0 | 1 => "",
        2 => " The next wrong PIN may lock the account.",
        _ => " The account may be locked now; please ask your bank.",
    }
}

/// What becomes of cash that is out and that the bank has not booked; without an answer, `None`.
#[must_use]
pub const fn not_booked(code: Option<Code>) -> &'static str {
    match code {
        Some(code) if is_never_booked(code) => {
            "It could not be booked; your bank's staff will look at that."
        }
        Some(Code::TooMany) => "It will be booked in a moment.",
        _ => "It will be booked as soon as the bank is back.",
    }
}

fn over_limit(answer: &Answer, currency: Option<&Currency>) -> String {
    let members = &answer.members;
    match (members.limit, members.remaining, currency) {
        (Some(limit), Some(remaining), Some(currency)) => format!(
            "This is over your limit of {}. You can still take out {}.",
            money(limit, currency),
            money(remaining, currency)
        ),
        _ => "This is over your limit. Nothing was moved.".to_owned(),
    }
}

fn internal(answer: &Answer) -> String {
    match &answer.members.reference {
        Some(reference) => format!(
            "Something went wrong at your bank. If you ask about it, name this reference: {}.",
            printable(reference)
        ),
        None => "Something went wrong at your bank. Please try again later.".to_owned(),
    }
}

/// The kind of an entry as the customer's history shows it.
#[must_use]
pub fn kind(kind: &str) -> String {
    match kind {
        "late_withdrawal" => "withdrawal (late)".to_owned(),
        "transfer_out" => "transfer sent".to_owned(),
        "transfer_in" => "transfer received".to_owned(),
        other => printable(other),
    }
}

/// A moment of RFC 3339 as people read it, to the minute: `2026-01-31 23:59`.
#[must_use]
pub fn moment(at: &str) -> String {
    printable(at)
        .chars()
        .take(16)
        .collect::<String>()
        .replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_from_the_network_can_steer_the_terminal() {
        assert_eq!(
            printable("\u{1b}[2Jgone\r\n\u{9b}31m\u{202e}x\u{7}"),
            "[2Jgone31mx"
        );
        assert_eq!(printable(&"a".repeat(500)).len(), SHOWN_CHARACTERS_MAX);
    }

    #[test]
    fn spans_are_said_in_the_largest_unit_that_is_still_exact_enough() {
        for (milliseconds, said) in [
            (0, "1 second"),
            (1_001, "2 seconds"),
            (120_000, "2 minutes"),
            (7_200_000, "2 hours"),
            (86_400_000, "24 hours"),
            (172_800_000, "2 days"),
        ] {
            assert_eq!(span(milliseconds), said);
        }
    }

    #[test]
    fn every_refusal_is_a_sentence_without_its_number() {
        for code in Code::ALL {
            let words = refusal(&Answer::refused(Some(1), code), None);
            assert!(words.ends_with('.'), "{words}");
            assert!(!words.contains(&code.number().to_string()), "{words}");
        }
    }

    #[test]
    fn a_lock_of_the_bank_s_staff_is_not_told_as_wrong_pins() {
        let words = |left_ms| {
            let answer = Answer::retry_after(Some(1), Code::LockedOut, left_ms);
            refusal(&answer, None)
        };
        assert!(words(Some(5_000)).contains("wrong too many times"));
        assert!(!words(None).contains("PIN"), "{}", words(None));
        assert!(words(None).contains("locked"));
    }

    #[test]
    fn a_limit_is_told_with_what_is_left_of_it() {
        let mut answer = Answer::refused(Some(1), Code::OverLimit);
        answer.members.limit = Some(100_000);
        answer.members.remaining = Some(2_500);
        let words = refusal(&answer, Some(&"USD".parse().unwrap()));
        assert!(
            words.contains("1000.00 USD") && words.contains("25.00 USD"),
            "{words}"
        );
    }

    proptest! {
        #[test]
        fn what_is_printable_has_no_control_character(text in any::<String>()) {
            prop_assert!(!printable(&text).chars().any(char::is_control));
        }
    }
}
