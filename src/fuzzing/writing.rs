//! Requests as JSON, by another hand than the terminal's.

use super::model::{Ask, Keyed, What};

/// The request's text; `odd`: as few would write it.
pub(super) fn text(ask: &Ask, id: u64, odd: bool) -> String {
    let number = |number: &str| match odd {
        true => number.to_uppercase(),
        false => number.to_owned(),
    };
    let members = match ask {
        Ask::Ping => r#""op":"ping""#.to_owned(),
        Ask::Balance => r#""op":"balance""#.to_owned(),
        Ask::Logout => r#""op":"logout""#.to_owned(),
        Ask::Login { account, pin } => {
            let account = number(account);
            format!(r#""op":"login","account":"{account}","pin":"{pin}""#)
        }
        Ask::History { limit, before } => {
            let before = before.map(|before| format!(r#","before":{before}"#));
            let before = before.unwrap_or_default();
            format!(r#""op":"history","limit":{limit}{before}"#)
        }
        Ask::ChangePin { pin, new_pin } => {
            format!(r#""op":"change_pin","pin":"{pin}","new_pin":"{new_pin}""#)
        }
        Ask::Keyed(Keyed { key, what }) => {
            let what = match what {
                What::Deposit(amount) => format!(r#""op":"deposit","amount":{amount}"#),
                What::Withdraw(amount) => format!(r#""op":"withdraw","amount":{amount}"#),
                What::Authorize(amount) => format!(r#""op":"authorize","amount":{amount}"#),
                What::Transfer(to, amount) => {
                    let to = number(to);
                    format!(r#""op":"transfer","to":"{to}","amount":{amount}"#)
                }
                What::Capture(hold, amount) => {
                    format!(r#""op":"capture","hold":"{hold}","amount":{amount}"#)
                }
                What::Release(hold) => format!(r#""op":"release","hold":"{hold}""#),
            };
            format!(r#"{what},"key":"{key}""#)
        }
        // Their text is their own.
        Ask::Unreadable { .. } => String::new(),
    };
    match odd {
        true => format!(" {{\t{members} ,\r\n\"\\u0069d\": {id} }}\n"),
        false => format!(r#"{{"id":{id},{members}}}"#),
    }
}
