//! The grammar of scripts: one command a line.

use crate::domain::{AccountNumber, Currency, HoldName, IdempotencyKey, Pin};
use crate::wire::request::{HISTORY_LIMIT_DEFAULT, HISTORY_LIMIT_MAX};

/// One line of a script. Amounts are still text: what they mean is known after log-in.
#[derive(Debug)]
pub enum Command {
    /// `login ACCOUNT [PIN]`
    Login {
        /// Whose account.
        account: AccountNumber,
        /// Its PIN; `None` where it is to be taken from the environment.
        pin: Option<Pin>,
    },
    /// `ping`
    Ping,
    /// `balance`
    Balance,
    /// `deposit`, `withdraw`, `transfer`, `authorize`, `capture` and `release`.
    Money(Money),
    /// `history [N]`
    History(u8),
    /// `change-pin OLD NEW`
    ChangePin {
        /// The present PIN.
        pin: Pin,
        /// The one to be.
        new_pin: Pin,
    },
    /// `logout`
    Logout,
    /// `sleep MS`
    Sleep(u64),
}

/// A command that moves money, or sets it aside, or frees it.
#[derive(Debug, PartialEq, Eq)]
pub struct Money {
    /// Which one.
    pub kind: MoneyKind,
    /// Digits, or digits, a point and the currency's decimals; `None` for `release`.
    pub amount: Option<String>,
    /// The key of the line; `None` for a new one.
    pub key: Option<IdempotencyKey>,
}

/// Which command, with what it names.
#[derive(Debug, PartialEq, Eq)]
pub enum MoneyKind {
    /// Cash in.
    Deposit,
    /// Cash out.
    Withdraw,
    /// To another account.
    Transfer(AccountNumber),
    /// Set aside.
    Authorize,
    /// Cash of a hold is out.
    Capture(HoldReference),
    /// Cash of a hold is not going out.
    Release(HoldReference),
}

/// How a script names a hold.
#[derive(Debug, PartialEq, Eq)]
pub enum HoldReference {
    /// `last`: the one of the last `authorize` of this script.
    Last,
    /// By its name.
    Named(HoldName),
}

/// Why a line is no command. Never tells what stands in the line, which may be a PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotACommand {
    /// Nothing of that name.
    #[error(
        "unknown command; there are login balance deposit withdraw transfer authorize capture \
         release history change-pin logout ping sleep"
    )]
    Unknown,
    /// The command is there, and this is how it is used.
    #[error("use: {0}")]
    Usage(&'static str),
}

impl Command {
    /// The command's name as scripts write it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Login { .. } => "login",
            Self::Ping => "ping",
            Self::Balance => "balance",
            Self::Money(money) => money.kind.name(),
            Self::History(_) => "history",
            Self::ChangePin { .. } => "change-pin",
            Self::Logout => "logout",
            Self::Sleep(_) => "sleep",
        }
    }

    /// Reads a line; `None` for a blank line or a comment.
    ///
    /// # Errors
    /// [`NotACommand`].
    pub fn parse(line: &str) -> Result<Option<Self>, NotACommand> {
        let line = line
            .split_once('#')
            .map_or(line, |(before, _comment)| before);
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((name, arguments)) = words.split_first() else {
            return Ok(None);
        };
        let usage = usage(name).ok_or(NotACommand::Unknown)?;
        read(name, arguments)
            .map(Some)
            .ok_or(NotACommand::Usage(usage))
    }
}

impl MoneyKind {
    const fn name(&self) -> &'static str {
        match self {
            Self::Deposit => "deposit",
            Self::Withdraw => "withdraw",
            Self::Transfer(_) => "transfer",
            Self::Authorize => "authorize",
            Self::Capture(_) => "capture",
            Self::Release(_) => "release",
        }
    }
}

/// How a command is used; `None` where there is none of that name.
#[must_use]
pub fn usage(name: &str) -> Option<&'static str> {
    Some(match name {
        "login" => "login ACCOUNT [PIN], an account as in zz-99999, a PIN of 4 to 12 digits",
        "ping" => "ping",
        "balance" => "balance",
        "deposit" => "deposit AMOUNT [key=KEY]",
        "withdraw" => "withdraw AMOUNT [key=KEY]",
        "transfer" => "transfer ACCOUNT AMOUNT [key=KEY]",
        "authorize" => "authorize AMOUNT [key=KEY]",
        "capture" => "capture HOLD AMOUNT [key=KEY], a hold's name or last",
        "release" => "release HOLD [key=KEY], a hold's name or last",
        "history" => "history [N], 1 to 100",
        "change-pin" => "change-pin OLD NEW, each 4 to 12 digits",
        "logout" => "logout",
        "sleep" => "sleep MILLISECONDS",
        _ => return None,
    })
}

fn read(name: &str, arguments: &[&str]) -> Option<Command> {
    match (name, arguments) {
        ("ping", []) => Some(Command::Ping),
        ("balance", []) => Some(Command::Balance),
        ("logout", []) => Some(Command::Logout),
        ("login", [account]) => Some(Command::Login {
            account: account.parse().ok()?,
            pin: None,
        }),
        ("login", [account, pin]) => Some(Command::Login {
            account: account.parse().ok()?,
            pin: Some(Pin::parse(pin).ok()?),
        }),
        ("history", []) => Some(Command::History(HISTORY_LIMIT_DEFAULT)),
        ("history", [limit]) => {
            let limit = limit
                .parse()
                .ok()
                .filter(|limit| (1..=HISTORY_LIMIT_MAX).contains(limit));
            limit.map(Command::History)
        }
        ("change-pin", [pin, new_pin]) => Some(Command::ChangePin {
            pin: Pin::parse(pin).ok()?,
            new_pin: Pin::parse(new_pin).ok()?,
        }),
        ("sleep", [duration_ms]) => duration_ms.parse().ok().map(Command::Sleep),
        _ => read_money(name, arguments).map(Command::Money),
    }
}

fn read_money(name: &str, arguments: &[&str]) -> Option<Money> {
    let (key, arguments) = match arguments.split_last() {
        Some((last, rest)) if last.starts_with("key=") => {
            (Some(last.strip_prefix("key=")?.parse().ok()?), rest)
        }
        _ => (None, arguments),
    };
    let (kind, amount) = match (name, arguments) {
        ("deposit", [amount]) => (MoneyKind::Deposit, Some(amount)),
        ("withdraw", [amount]) => (MoneyKind::Withdraw, Some(amount)),
        ("authorize", [amount]) => (MoneyKind::Authorize, Some(amount)),
        ("transfer", [to, amount]) => (MoneyKind::Transfer(to.parse().ok()?), Some(amount)),
        ("capture", [hold, amount]) => (MoneyKind::Capture(read_hold(hold)?), Some(amount)),
        ("release", [hold]) => (MoneyKind::Release(read_hold(hold)?), None),
        _ => return None,
    };
    Some(Money {
        kind,
        amount: amount.map(ToString::to_string),
        key,
    })
}

fn read_hold(text: &str) -> Option<HoldReference> {
    match text {
        "last" => Some(HoldReference::Last),
        name => name.parse().ok().map(HoldReference::Named),
    }
}

/// Why an amount cannot be read, with what would be one.
#[must_use]
pub fn amount_usage(currency: &Currency) -> String {
    format!("an amount of {currency} is {}", amount_shape(currency))
}

/// The same, asked of a customer.
#[must_use]
pub fn amount_wanted(currency: &Currency) -> String {
    let shape = amount_shape(currency);
    format!("Please type an amount of {currency}: {shape}.")
}

fn amount_shape(currency: &Currency) -> String {
    match currency.decimals() {
        0 => "digits only, as in 12".to_owned(),
        decimals => format!(
            "digits, or digits, a point and exactly {decimals} decimals, as in {}",
            currency.format(1_234)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn money(line: &str) -> Money {
        match Command::parse(line) {
            Ok(Some(Command::Money(money))) => money,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn blank_lines_and_comments_are_no_commands() {
        for line in ["", "   ", "# balance", "\t# x"] {
            assert!(matches!(Command::parse(line), Ok(None)), "{line:?}");
        }
        assert!(matches!(
            Command::parse("balance # now"),
            Ok(Some(Command::Balance))
        ));
    }

    #[test]
    fn commands_that_move_money_are_read_with_and_without_a_key() {
        let key = "0123456789abcdef-k";
        let with_key = money(&format!("transfer ZZ-00001 12.34 key={key}"));
        assert_eq!(
            with_key.kind,
            MoneyKind::Transfer("zz-00001".parse().unwrap())
        );
        assert_eq!(with_key.amount.as_deref(), Some("12.34"));
        assert_eq!(with_key.key.unwrap().as_str(), key);
        assert_eq!(
            money("capture last 1").kind,
            MoneyKind::Capture(HoldReference::Last)
        );
        let hold = HoldReference::Named("h-1".parse().unwrap());
        assert_eq!(money("release h-1").kind, MoneyKind::Release(hold));
    }

    #[test]
    fn a_line_with_too_few_or_too_many_words_says_how_it_is_used() {
        for line in [
            "login",
            "login zz-1",
            "login zz-99999 12",
            "login zz-99999 1234 5",
            "balance 1",
            "deposit",
            "deposit 1 2",
            "transfer 5.00",
            "capture 5",
            "release",
            "history 0",
            "history 101",
            "history x",
            "change-pin 1234",
            "sleep",
            "sleep -1",
            "ping 1",
            "withdraw 1 key=short",
            "withdraw key=0123456789abcdef",
        ] {
            assert!(
                matches!(Command::parse(line), Err(NotACommand::Usage(_))),
                "{line}"
            );
        }
        assert_eq!(Command::parse("dance 1").unwrap_err(), NotACommand::Unknown);
    }

    proptest! {
        #[test]
        fn a_refused_line_is_never_quoted_because_it_may_hold_a_pin(pin in "[0-9]{13,20}") {
            for line in [format!("login zz-99999 {pin}"), pin.clone(), format!("logn zz-99999 {pin}")] {
                let shown = Command::parse(&line).unwrap_err().to_string();
                prop_assert!(!shown.contains(&pin), "{shown}");
            }
        }

        #[test]
        fn reading_any_line_never_panics(line in "\\PC{0,60}") {
            let _ = Command::parse(&line);
        }

        #[test]
        fn amounts_keep_their_text_until_the_currency_is_known(amount in "[0-9]{1,9}(\\.[0-9]{1,4})?") {
            let line = format!("withdraw {amount}");
            prop_assert_eq!(money(&line).amount, Some(amount));
        }
    }
}
