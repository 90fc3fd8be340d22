//! What the journal keeps of a request.

use std::io;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::domain::{
    AccountNumber, Currency, HoldName, IdempotencyKey, RequestedAmount, TerminalName, Timestamp,
};
use crate::wire::request::{Keyed, Request};

use super::super::clock::Stamp;
use super::super::trust::KeyDigest;

/// A request that moves money, with its key: asking twice is asking once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Cash in.
    Deposit(Keyed),
    /// Cash out, at once.
    Withdraw(Keyed),
    /// Money to another customer.
    Transfer {
        /// Who receives it.
        to: AccountNumber,
        /// How much, under which key.
        keyed: Keyed,
    },
    /// Money set aside; nothing was dispensed yet.
    Authorize(Keyed),
    /// The cash of a hold went out.
    Capture {
        /// The hold.
        hold: HoldName,
        /// How much went out, under which key.
        keyed: Keyed,
    },
    /// The cash of a hold did not go out.
    Release {
        /// The hold.
        hold: HoldName,
        /// The key.
        key: IdempotencyKey,
        /// What was set aside, where it is known.
        amount: Option<i64>,
    },
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done, once.
    WentThrough,
    /// It was not done, and will not be.
    DidNotHappen,
    /// The bank cannot say yet.
    StillUnknown,
    /// This terminal will not ask any more; the bank's staff will have to look.
    ForStaff,
}

/// Which bank and which terminal a request was made between.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The public keys of the bank's CAs.
    pub bank: Vec<String>,
    /// The terminal's name; `None` without a certificate.
    pub terminal: Option<TerminalName>,
}

/// A request in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What is to be repeated.
    pub order: Order,
    /// Whose money it is; `None` where nobody was logged in (capture and release need not be).
    pub account: Option<AccountNumber>,
    /// How its amounts are shown.
    pub currency: Option<Currency>,
    /// Between whom.
    pub origin: Origin,
    /// When it was made.
    pub at: Stamp,
    /// What became of it, where that is known and the customer was not told yet.
    pub outcome: Option<Outcome>,
}

/// The same as it stands in a file.
#[derive(Serialize, Deserialize)]
struct Line {
    account: Option<String>,
    op: String,
    amount: Option<i64>,
    to: Option<String>,
    hold: Option<String>,
    key: String,
    currency: Option<String>,
    at_unix_ms: i64,
    /// Older files have none.
    bank_time_unix_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<String>,
    bank: Vec<String>,
    terminal: Option<String>,
}

impl Outcome {
    const ALL: [Self; 4] = [
        Self::WentThrough,
        Self::DidNotHappen,
        Self::StillUnknown,
        Self::ForStaff,
    ];

    /// The word for machines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WentThrough => "went_through",
            Self::DidNotHappen => "did_not_happen",
            Self::StillUnknown => "still_unknown",
            Self::ForStaff => "for_staff",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == name)
    }
}

impl Origin {
    /// The origin of what is asked over connections with this trust.
    #[must_use]
    pub fn new(bank: &[KeyDigest], terminal: Option<TerminalName>) -> Self {
        Self {
            bank: bank.iter().map(ToString::to_string).collect(),
            terminal,
        }
    }

    /// Whether both are of one bank: they have a CA in common. Another bank's accounts may have
    /// the same numbers.
    #[must_use]
    pub fn is_same_bank(&self, other: &Self) -> bool {
        self.bank.iter().any(|key| other.bank.contains(key))
    }
}

impl Order {
    /// The request that travels.
    #[must_use]
    pub fn request(&self) -> Request {
        match self.clone() {
            Self::Deposit(keyed) => Request::Deposit(keyed),
            Self::Withdraw(keyed) => Request::Withdraw(keyed),
            Self::Transfer { to, keyed } => Request::Transfer { to, keyed },
            Self::Authorize(keyed) => Request::Authorize(keyed),
            Self::Capture { hold, keyed } => Request::Capture { hold, keyed },
            Self::Release { hold, key, .. } => Request::Release { hold, key },
        }
    }

    /// How much it is about, in minor units, where that is known.
    #[must_use]
    pub const fn amount(&self) -> Option<i64> {
        match self {
            Self::Deposit(keyed) | Self::Withdraw(keyed) | Self::Authorize(keyed) => {
                Some(keyed.amount.0)
            }
            Self::Transfer { keyed, .. } | Self::Capture { keyed, .. } => Some(keyed.amount.0),
            Self::Release { amount, .. } => *amount,
        }
    }

    /// Whether cash goes out for it, now or later.
    #[must_use]
    pub const fn lets_cash_out(&self) -> bool {
        matches!(self, Self::Withdraw(_) | Self::Authorize(_))
    }

    /// Whether it is about a hold, which only the terminal that made it may settle.
    #[must_use]
    pub const fn is_of_hold(&self) -> bool {
        matches!(
            self,
            Self::Authorize(_) | Self::Capture { .. } | Self::Release { .. }
        )
    }

    /// Whether a terminal with a certificate may ask for it with nobody logged in.
    #[must_use]
    pub const fn needs_no_login(&self) -> bool {
        matches!(self, Self::Capture { .. } | Self::Release { .. })
    }

    const fn key(&self) -> &IdempotencyKey {
        match self {
            Self::Deposit(keyed) | Self::Withdraw(keyed) | Self::Authorize(keyed) => &keyed.key,
            Self::Transfer { keyed, .. } | Self::Capture { keyed, .. } => &keyed.key,
            Self::Release { key, .. } => key,
        }
    }

    const fn hold(&self) -> Option<&HoldName> {
        match self {
            Self::Capture { hold, .. } | Self::Release { hold, .. } => Some(hold),
            _ => None,
        }
    }
}

impl Record {
    /// What the bank's staff find it by.
    #[must_use]
    pub fn named(&self) -> String {
        let account = self.account.map_or_else(
            || "no account".to_owned(),
            |account| format!("account {account}"),
        );
        let amount = self.order.amount().unwrap_or_default();
        let (op, key) = (self.order.request().op(), self.order.key());
        format!("{op} of {amount} minor units, {account}, key {key}")
    }

    /// One line of JSON, without its end.
    ///
    /// # Errors
    /// None in practice: every member is plain text or a number.
    pub fn to_line(&self) -> io::Result<Vec<u8>> {
        let to = match &self.order {
            Order::Transfer { to, .. } => Some(to.to_string()),
            _ => None,
        };
        let line = Line {
            account: self.account.map(|account| account.to_string()),
            op: self.order.request().op().into(),
            amount: self.order.amount(),
            to,
            hold: self.order.hold().map(ToString::to_string),
            key: self.order.key().to_string(),
            currency: self.currency.map(|currency| currency.to_string()),
            at_unix_ms: self.at.own.unix_ms(),
            bank_time_unix_ms: self.at.bank.map(Timestamp::unix_ms),
            outcome: self.outcome.map(|outcome| outcome.name().to_owned()),
            bank: self.origin.bank.clone(),
            terminal: self.origin.terminal.as_ref().map(ToString::to_string),
        };
        Ok(serde_json::to_vec(&line)?)
    }

    /// Reads a line; `None` where it is none.
    #[must_use]
    pub fn from_line(line: &str) -> Option<Self> {
        let line: Line = serde_json::from_str(line).ok()?;
        let keyed = || {
            let amount = RequestedAmount(line.amount?);
            Some(Keyed {
                amount,
                key: line.key.parse().ok()?,
            })
        };
        let order = match line.op.as_str() {
            "deposit" => Order::Deposit(keyed()?),
            "withdraw" => Order::Withdraw(keyed()?),
            "transfer" => Order::Transfer {
                to: parse(line.to.as_deref())??,
                keyed: keyed()?,
            },
            "authorize" => Order::Authorize(keyed()?),
            "capture" => Order::Capture {
                hold: parse(line.hold.as_deref())??,
                keyed: keyed()?,
            },
            "release" => Order::Release {
                hold: parse(line.hold.as_deref())??,
                key: line.key.parse().ok()?,
                amount: line.amount,
            },
            _ => return None,
        };
        Some(Self {
            order,
            account: parse(line.account.as_deref())?,
            currency: parse(line.currency.as_deref())?,
            origin: Origin {
                bank: line.bank,
                terminal: parse(line.terminal.as_deref())?,
            },
            at: Stamp {
                own: Timestamp::from_unix_ms(line.at_unix_ms),
                bank: line.bank_time_unix_ms.map(Timestamp::from_unix_ms),
            },
            // What a later terminal may write is not known here: the bank is asked.
            outcome: line.outcome.as_deref().and_then(Outcome::from_name),
        })
    }
}

/// `Some(None)` where there is nothing to read, `None` where it cannot be read.
fn parse<T: FromStr>(text: Option<&str>) -> Option<Option<T>> {
    text.map(str::parse).transpose().ok()
}
