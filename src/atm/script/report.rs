//! One line of answer to each command, for people or for machines.

use serde_json::{Map, Value, json};

use crate::atm::teller::Recovered;
use crate::atm::words;
use crate::domain::Currency;
use crate::wire::answer::{Answer, Members};
use crate::wire::code::Code;

/// What became of a command.
#[derive(Debug)]
pub enum Fate {
    /// The bank answered.
    Answered(Box<Answer>),
    /// Done without the bank.
    Waited,
    /// Nothing was sent, because of this.
    NotSent(String),
    /// The connection is gone; whether it took effect is unknown where it moves money.
    Lost {
        /// What happened.
        reason: String,
        /// Whether the outcome is told at the next log-in.
        in_journal: bool,
    },
}

/// A command's answer with what is needed to show it.
#[derive(Debug)]
pub struct Report<'a> {
    /// The command's name; empty where it could not be read.
    pub command: &'a str,
    /// What became of it.
    pub fate: &'a Fate,
    /// How money is shown.
    pub currency: &'a Currency,
    /// What became of earlier requests, where the command brought that to light.
    pub recovered: &'a [Recovered],
}

impl Report<'_> {
    /// The line for people, without its end.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self.fate {
            Fate::Answered(answer) if answer.code == Code::Done => self.done(&answer.members),
            Fate::Answered(answer) => self.refused(answer),
            Fate::Waited => format!("ok {}", self.command),
            Fate::NotSent(reason) => format!("refused {reason}"),
            Fate::Lost { reason, in_journal } => {
                let outcome = match in_journal {
                    true => "; whether it took effect is told at the next log-in",
                    false => "",
                };
                format!(
                    "lost {}: {}{outcome}",
                    self.command,
                    words::printable(reason)
                )
            }
        }
    }

    /// The object for machines, without a line's end.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object = match self.fate {
            Fate::Answered(answer) => match serde_json::to_value(answer.as_ref()) {
                Ok(Value::Object(members)) => members,
                _ => Map::new(),
            },
            Fate::Waited => Map::from_iter([("code".into(), json!(0))]),
            Fate::NotSent(reason) => Map::from_iter([
                ("code".into(), Value::Null),
                ("error".into(), json!(reason)),
            ]),
            Fate::Lost { reason, in_journal } => {
                let mut lost = Map::new();
                lost.insert("code".into(), Value::Null);
                lost.insert("error".into(), json!(reason));
                if *in_journal {
                    lost.insert("outcome".into(), json!("unknown"));
                }
                lost
            }
        };
        object.insert("command".into(), json!(self.command));
        if !self.recovered.is_empty() {
            let told = self.recovered.iter().map(|recovered| {
                json!({
                    "request": recovered.order.request().op(),
                    "amount": recovered.order.amount(),
                    "outcome": recovered.outcome.name(),
                })
            });
            object.insert("recovered".into(), told.collect());
        }
        let mut value = Value::Object(object);
        make_printable(&mut value);
        value
    }

    fn done(&self, members: &Members) -> String {
        let mut line = String::from("ok");
        if self.command != "balance" {
            line.push(' ');
            line.push_str(self.command);
        }
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                line.push_str(&format!(" {name} {value}"));
            }
        };
        add("entry", members.entry.map(|entry| entry.to_string()));
        add("hold", members.hold.as_deref().map(words::printable));
        add(
            "expires-in-ms",
            members.expires_in_ms.map(|left_ms| left_ms.to_string()),
        );
        add(
            "balance",
            members
                .balance
                .map(|minor| words::money(minor, self.currency)),
        );
        add(
            "available",
            members.available.map(|minor| self.currency.format(minor)),
        );
        if members.late == Some(true) {
            line.push_str(" late");
        }
        if members.replayed == Some(true) {
            line.push_str(" replayed");
        }
        if members.must_change_pin == Some(true) {
            line.push_str(", the PIN must be changed first: change-pin OLD NEW");
        }
        if let Some(entries) = &members.entries {
            self.add_entries(entries, &mut line);
        }
        line
    }

    fn add_entries(&self, entries: &[crate::wire::answer::HistoryLine], line: &mut String) {
        line.push_str(&format!(" {}", entries.len()));
        for entry in entries {
            let amount = self.currency.format(entry.amount);
            let balance = self.currency.format(entry.balance);
            let at = words::printable(&entry.at);
            let kind = words::printable(&entry.kind);
            line.push_str(&format!(
                "; {} {at} {kind} {amount} balance {balance}",
                entry.entry
            ));
            if let Some(counterparty) = &entry.counterparty {
                line.push_str(&format!(" with {}", words::printable(counterparty)));
            }
        }
    }

    fn refused(&self, answer: &Answer) -> String {
        let members = &answer.members;
        // The words are this terminal's own, so that none of the bank's reach the screen raw.
        let mut line = format!("refused {} {}", answer.code.number(), answer.code.message());
        if let (Some(limit), Some(remaining)) = (members.limit, members.remaining) {
            let (limit, remaining) = (self.currency.format(limit), self.currency.format(remaining));
            line.push_str(&format!(
                ", limit {limit} {} remaining {remaining}",
                self.currency
            ));
        }
        if let Some(retry_after_ms) = members.retry_after_ms {
            line.push_str(&format!(", try again in {retry_after_ms} ms"));
        }
        if let Some(reference) = &members.reference {
            line.push_str(&format!(", reference {}", words::printable(reference)));
        }
        line
    }
}

/// JSON escapes the oldest control characters only; the others are taken out.
fn make_printable(value: &mut Value) {
    match value {
        Value::String(text) => *text = words::printable(text),
        Value::Array(items) => items.iter_mut().for_each(make_printable),
        Value::Object(members) => members.values_mut().for_each(make_printable),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(json: &str) -> Fate {
        Fate::Answered(Box::new(Answer::parse(json.as_bytes()).unwrap()))
    }

    fn text(command: &str, fate: &Fate) -> String {
        let currency = "USD".parse().unwrap();
        Report {
            command,
            fate,
            currency: &currency,
            recovered: &[],
        }
        .to_text()
    }

    #[test]
    fn answers_are_one_line_with_money_as_people_read_it() {
        let balance =
            answer(r#"{"id":1,"code":0,"balance":102432,"available":102432,"currency":"USD"}"#);
        assert_eq!(
            text("balance", &balance),
            "ok balance 1024.32 USD available 1024.32"
        );
        let done =
            answer(r#"{"id":1,"code":0,"entry":7,"balance":5,"available":-5,"replayed":true}"#);
        assert_eq!(
            text("withdraw", &done),
            "ok withdraw entry 7 balance 0.05 USD available -0.05 replayed"
        );
        assert_eq!(text("sleep", &Fate::Waited), "ok sleep");
    }

    #[test]
    fn refusals_start_with_their_code_and_say_what_helps() {
        let refused = answer(r#"{"id":1,"code":31,"message":"\u001b[31mno"}"#);
        assert_eq!(text("withdraw", &refused), "refused 31 insufficient funds");
        let limit = answer(r#"{"id":1,"code":32,"limit":50000,"remaining":100}"#);
        assert_eq!(
            text("withdraw", &limit),
            "refused 32 over a limit, limit 500.00 USD remaining 1.00"
        );
    }

    #[test]
    fn a_history_is_one_line_whatever_is_in_it() {
        let history = answer(
            r#"{"id":1,"code":0,"entries":[{"entry":9,"at":"2026-01-01T00:00:00.000Z\n","kind":"transfer_out",
               "amount":-500,"balance":100,"terminal":"t","counterparty":"zz-00001"}]}"#,
        );
        assert_eq!(
            text("history", &history),
            "ok history 1; 9 2026-01-01T00:00:00.000Z transfer_out -5.00 balance 1.00 with zz-00001"
        );
    }

    #[test]
    fn the_object_has_the_answers_members_the_command_and_no_steering_characters() {
        let currency = "USD".parse().unwrap();
        let fate = answer(r#"{"id":3,"code":50,"message":"a\u009bb","reference":"r\u001b1"}"#);
        let report = Report {
            command: "deposit",
            fate: &fate,
            currency: &currency,
            recovered: &[],
        };
        assert_eq!(
            report.to_json(),
            json!({"id": 3, "code": 50, "message": "ab", "reference": "r1", "command": "deposit"})
        );
    }
}
