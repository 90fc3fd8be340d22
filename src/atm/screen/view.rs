//! What the screen shows, and what is asked of the bank.

use std::fmt;

use zeroize::Zeroizing;

use crate::domain::{AccountNumber, Currency, Pin};
use crate::wire::answer::HistoryLine;

/// What is on the screen.
#[derive(Debug)]
pub(crate) enum View {
    /// Nobody is there; an account number is being typed.
    Welcome {
        /// The number so far.
        account: String,
    },
    /// The PIN of this account is being typed.
    Pin {
        /// Whose PIN.
        account: AccountNumber,
        /// The PIN so far.
        digits: Secret,
    },
    /// The bank is being asked.
    Waiting {
        /// What for.
        errand: Errand,
    },
    /// What would you like to do?
    Menu {
        /// The item under the bar, an index of [`MENU`].
        selected: usize,
    },
    /// Who receives a transfer?
    Recipient {
        /// The number so far.
        account: String,
    },
    /// How much?
    Amount {
        /// What for.
        purpose: Purpose,
        /// The amount so far.
        text: String,
        /// The quick amount under the bar, an index of [`quick_amounts`]; none while typing.
        selected: Option<usize>,
    },
    /// Is that right?
    Confirm {
        /// What for.
        purpose: Purpose,
        /// Minor units.
        amount: i64,
    },
    /// Notes are being counted; the customer may still cancel.
    Counting {
        /// Minor units.
        amount: i64,
        /// When it began.
        since_ms: u64,
    },
    /// The last entries.
    History {
        /// Newest first.
        entries: Vec<HistoryLine>,
        /// The first one shown.
        top: usize,
        /// Whether the bank may have earlier ones.
        more: bool,
    },
    /// A new PIN is being typed.
    ChangePin {
        /// The present PIN, once typed.
        old: Option<Pin>,
        /// The new PIN, once typed.
        new: Option<Pin>,
        /// The one being typed.
        digits: Secret,
    },
    /// Something to read.
    Message {
        /// What it is about.
        title: &'static str,
        /// What there is to say.
        text: String,
        /// It goes away by itself at this moment.
        until_ms: u64,
    },
}

/// What an amount is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Cash out.
    Withdraw,
    /// Cash in.
    Deposit,
    /// Money to somebody.
    Transfer(AccountNumber),
}

/// What the bank is being asked, kept until it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    /// Logging in.
    Login(AccountNumber),
    /// The balance, because the customer wants to see it.
    Balance,
    /// The balance, because the customer is still there.
    StayLoggedIn,
    /// Setting money aside.
    Authorize(i64),
    /// Booking cash that is out.
    Capture(i64),
    /// Freeing money that was set aside.
    Release,
    /// Cash in.
    Deposit(i64),
    /// Money to somebody.
    Transfer(AccountNumber, i64),
    /// Entries; earlier ones than those on the screen where there are some.
    History,
    /// A new PIN.
    ChangePin,
    /// Goodbye.
    LogOut,
}

/// What is asked of the bank.
#[derive(Debug)]
pub(crate) enum Wish {
    /// Log in.
    Login(AccountNumber, Pin),
    /// The balance.
    Balance(Errand),
    /// Set this much aside, in minor units.
    Authorize(i64),
    /// The cash goes out now: write that down, and book it.
    Dispense(i64),
    /// No cash goes out.
    Release,
    /// Cash in.
    Deposit(i64),
    /// Money to somebody.
    Transfer(AccountNumber, i64),
    /// Entries with a smaller number than this.
    History(Option<i64>),
    /// From the first PIN to the second.
    ChangePin(Pin, Pin),
    /// Goodbye.
    LogOut,
}

/// What is being typed and must not be seen: wiped when dropped, never printed.
pub(crate) struct Secret(Zeroizing<String>);

/// One item of the menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item {
    /// Cash out.
    Withdraw,
    /// Cash in.
    Deposit,
    /// Money to somebody.
    Transfer,
    /// What is there.
    Balance,
    /// The last entries.
    History,
    /// A new PIN.
    ChangePin,
    /// Goodbye.
    LogOut,
}

/// The menu, with the words of its items.
pub(crate) const MENU: [(Item, &str); 7] = [
    (Item::Withdraw, "Withdraw cash"),
    (Item::Deposit, "Deposit cash"),
    (Item::Transfer, "Transfer money"),
    (Item::Balance, "Show balance"),
    (Item::History, "Show history"),
    (Item::ChangePin, "Change PIN"),
    (Item::LogOut, "Log out"),
];

/// Amounts that one key gives, in minor units.
#[must_use]
pub(crate) fn quick_amounts(currency: &Currency) -> [i64; 5] {
    // Where there are no minor units, a single one is worth little.
    let unit = if currency.decimals() == 0 {
        100
    } else {
        10_i64.saturating_pow(u32::from(currency.decimals()))
    };
    [20, 50, 100, 200, 500].map(|count: i64| count.saturating_mul(unit))
}

/// More than a PIN has.
const SECRET_CHARACTERS_MAX: usize = Pin::DIGITS_MAX + 4;
const SECRET_BYTES: usize = SECRET_CHARACTERS_MAX;

impl Secret {
    /// Nothing typed yet.
    #[must_use]
    pub(crate) fn new() -> Self {
        // Room for all of it at once, so that growing leaves no copy behind.
        Self(Zeroizing::new(String::with_capacity(SECRET_BYTES)))
    }

    /// Takes one more character. What is no digit, or too much, stays, so that it is no PIN: without
    /// it another PIN than the typed one would be tried.
    pub(crate) fn push(&mut self, c: char) {
        if self.0.len() < SECRET_CHARACTERS_MAX {
            self.0.push(if c.is_ascii() { c } else { '?' });
        }
    }

    /// Takes the last digit back.
    pub(crate) fn pop(&mut self) {
        self.0.pop();
    }

    /// How many characters there are: all that may be seen.
    #[must_use]
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The PIN, where it is one; what was typed is wiped.
    pub(crate) fn take(&mut self) -> Option<Pin> {
        Pin::parse(&std::mem::take(self).0).ok()
    }
}

impl Default for Secret {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(****)")
    }
}
