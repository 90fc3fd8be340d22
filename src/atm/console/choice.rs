//! The menu of line mode: numbers and words both work.

/// What a customer may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// What is there.
    Balance,
    /// Cash out.
    Withdraw,
    /// Cash in.
    Deposit,
    /// To another account.
    Transfer,
    /// The last entries.
    History,
    /// A new PIN.
    ChangePin,
    /// Goodbye.
    LogOut,
    /// Goodbye, and nobody is next.
    Quit,
    /// The menu once more.
    Help,
}

/// The menu as it is shown.
pub(crate) const MENU: &str = "  1 balance   2 withdraw     3 deposit   4 transfer
  5 history   6 change PIN   7 log out";

impl Choice {
    /// Reads a number of the menu or one of the words for it.
    #[must_use]
    pub(crate) fn read(text: &str) -> Option<Self> {
        Some(match text.trim().to_ascii_lowercase().as_str() {
            "1" | "balance" | "b" => Self::Balance,
            "2" | "withdraw" | "withdrawal" | "cash" | "w" => Self::Withdraw,
            "3" | "deposit" | "d" => Self::Deposit,
            "4" | "transfer" | "send" | "t" => Self::Transfer,
            "5" | "history" | "entries" | "h" => Self::History,
            "6" | "change pin" | "change-pin" | "pin" | "p" => Self::ChangePin,
            "7" | "log out" | "logout" | "log-out" | "bye" => Self::LogOut,
            "0" | "quit" | "exit" | "q" => Self::Quit,
            "?" | "help" | "menu" => Self::Help,
            _ => return None,
        })
    }
}

/// Reads yes or no.
#[must_use]
pub(crate) fn read_yes_or_no(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "yes" | "y" | "1" => Some(true),
        "no" | "n" | "0" | "cancel" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_the_menu_and_its_word_mean_the_same() {
        for (number, word, choice) in [
            ("1", "balance", Choice::Balance),
            ("2", " Withdraw ", Choice::Withdraw),
            ("3", "deposit", Choice::Deposit),
            ("4", "transfer", Choice::Transfer),
            ("5", "history", Choice::History),
            ("6", "Change PIN", Choice::ChangePin),
            ("7", "log out", Choice::LogOut),
        ] {
            assert_eq!(
                (Choice::read(number), Choice::read(word)),
                (Some(choice), Some(choice))
            );
        }
        assert_eq!(Choice::read("quit"), Some(Choice::Quit));
        for nonsense in ["", "8", "balanc", "12"] {
            assert_eq!(Choice::read(nonsense), None, "{nonsense:?}");
        }
    }
}
