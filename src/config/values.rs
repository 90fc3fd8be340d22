//! What was set, and where: the file, over it the environment, over it the flags.
//!
//! Each value is of its key's kind and within its bounds; whatever is not is a fault.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{ConfigFault, Place, shown};
use super::keys::{self, Key, Name, Number, Text};
use super::nearest::nearest;
use super::{Overrides, PREFIX};
use crate::durable;
use crate::limits::CONFIG_FILE_BYTES_MAX;

/// Values that were set.
#[derive(Debug, Default)]
pub(super) struct Values {
    numbers: HashMap<Name, (i64, Place)>,
    texts: HashMap<Name, (String, Place)>,
    /// What is wrong with the rest.
    pub(super) faults: Vec<ConfigFault>,
    /// The environment has a say.
    pub(super) from_environment: bool,
}

/// Why a value is not taken, and what to do.
type Refused = (String, String);

/// A value before it is held against its key.
enum Raw<'a> {
    Integer {
        digits: &'a str,
        radix: u32,
    },
    Text(&'a str),
    /// From where everything is text.
    Untyped(&'a str),
    Other(&'static str),
}

impl Values {
    /// The number that was set.
    pub(super) fn set_number(&self, key: &Number) -> Option<i64> {
        self.numbers.get(&key.name).map(|(number, _)| *number)
    }

    pub(super) fn number(&self, key: &Number) -> i64 {
        self.set_number(key).or(key.default).unwrap_or(key.least)
    }

    /// The text that was set.
    pub(super) fn set_text(&self, key: &Text) -> Option<&str> {
        self.texts.get(&key.name).map(|(text, _)| text.as_str())
    }

    pub(super) fn text(&self, key: &Text) -> &str {
        self.set_text(key).or(key.default).unwrap_or_default()
    }

    /// Where the key was set.
    pub(super) fn place(&self, name: Name) -> Place {
        let number = self.numbers.get(&name).map(|(_, place)| place);
        let text = self.texts.get(&name).map(|(_, place)| place);
        number.or(text).cloned().unwrap_or(Place::Default)
    }

    pub(super) fn fault(
        &mut self,
        place: Place,
        subject: impl ToString,
        reason: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.faults.push(ConfigFault {
            place,
            subject: subject.to_string(),
            reason: reason.into(),
            mend: mend.into(),
        });
    }

    fn set(&mut self, key: Key, raw: &Raw<'_>, place: Place) {
        let refused = match key {
            Key::Number(number) => match integer(number, raw) {
                Ok(value) => {
                    self.numbers.insert(number.name, (value, place));
                    return;
                }
                Err(refused) => refused,
            },
            Key::Text(text) => match words(text, raw) {
                Ok(value) => {
                    self.texts.insert(text.name, (value, place));
                    return;
                }
                Err(refused) => refused,
            },
        };
        self.fault(place, key.name(), refused.0, refused.1);
    }

    /// Takes what a file says.
    pub(super) fn take_file(&mut self, path: &Path) {
        match read(path) {
            Ok(text) => self.take_toml(&text, path),
            Err((line, (reason, mend))) => {
                let path = path.to_owned();
                self.fault(Place::File { path, line }, "", reason, mend);
            }
        }
    }

    /// Takes the text of the file that is called `path`.
    pub(super) fn take_toml(&mut self, text: &str, path: &Path) {
        let ends: Vec<usize> = text.match_indices('\n').map(|(offset, _)| offset).collect();
        let place = &|offset| Place::File {
            path: path.to_owned(),
            line: Some(ends.partition_point(|end| *end < offset) + 1),
        };
        let (document, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            for (name, value) in document.get_ref() {
                self.take_table(name, value, place);
            }
            return;
        }
        // What can be read beside a broken line is a guess: a broken `[table]` would make every
        // key below it unknown. So these are reported first, and alone.
        for error in errors {
            let place = place(error.span().map_or(text.len(), |span| span.start));
            if self.faults.last().map(|fault| &fault.place) != Some(&place) {
                let mend = "mend this line: key = 123, key = \"text\" or [table]";
                self.fault(
                    place,
                    "",
                    format!("not TOML: {}", shown(error.message())),
                    mend,
                );
            }
        }
    }

    fn take_table(
        &mut self,
        name: &Spanned<Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        place: &dyn Fn(usize) -> Place,
    ) {
        let table = name.get_ref().as_ref();
        let here = place(name.span().start);
        let known = keys::all().any(|key| key.name().table == table);
        match value.get_ref() {
            DeValue::Table(entries) if known => {
                for (key, value) in entries {
                    self.take_entry(table, key, value, place);
                }
            }
            DeValue::Table(_) => {
                let mend = table_mend(table);
                self.fault(here, format!("[{}]", shown(table)), "unknown table", mend);
            }
            _ if known => {
                let mend = format!("write [{table}] on a line of its own, its keys below");
                self.fault(here, table, "a table is wanted, not a value", mend);
            }
            _ => {
                let mend = elsewhere(table).unwrap_or_else(|| table_mend(table));
                self.fault(here, shown(table), "a key outside of any table", mend);
            }
        }
    }

    fn take_entry(
        &mut self,
        table: &str,
        name: &Spanned<Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        place: &dyn Fn(usize) -> Place,
    ) {
        let (typed, here) = (name.get_ref().as_ref(), place(name.span().start));
        let known = keys::all().find(|key| {
            let name = key.name();
            name.table == table && name.key == typed
        });
        let Some(key) = known else {
            let subject = format!("[{table}] {}", shown(typed));
            self.fault(here, subject, "unknown key", key_mend(table, typed));
            return;
        };
        let raw = match value.get_ref() {
            DeValue::Integer(integer) => Raw::Integer {
                digits: integer.as_str(),
                radix: integer.radix(),
            },
            DeValue::String(text) => Raw::Text(text),
            other => Raw::Other(other.type_str()),
        };
        self.set(key, &raw, here);
    }

    /// Takes the variables that begin with [`PREFIX`].
    pub(super) fn take_environment(
        &mut self,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) {
        let ours = |name: &OsStr| name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
        for (name, value) in environment.filter(|(name, _)| ours(name)) {
            self.from_environment = true;
            let name = name.to_string_lossy();
            let place = Place::Environment(shown(&name));
            let known = keys::all().find(|key| key.name().variable() == name);
            match (known, value.to_str()) {
                (Some(key), Some(value)) => self.set(key, &Raw::Untyped(value), place),
                (Some(key), None) => {
                    self.fault(place, key.name(), "not UTF-8", "write it in UTF-8");
                }
                (None, _) => self.fault(place, "", "unknown key", variable_mend(&name)),
            }
        }
    }

    /// Takes the flags of the command line.
    pub(super) fn take_flags(&mut self, overrides: &Overrides) {
        if let Some(listen) = &overrides.listen {
            let place = Place::Flag("--listen");
            self.set(Key::Text(&keys::LISTEN), &Raw::Untyped(listen), place);
        }
    }
}

fn integer(key: &Number, raw: &Raw<'_>) -> Result<i64, Refused> {
    let (digits, radix) = match *raw {
        Raw::Integer { digits, radix } => (digits, radix),
        Raw::Untyped(text) => (text.trim_ascii(), 10),
        Raw::Text(_) => return Err(("text, where an integer is wanted".into(), key.takes())),
        Raw::Other(kind) => {
            return Err((format!("{kind}, where an integer is wanted"), key.takes()));
        }
    };
    let sign_and_digits = digits.strip_prefix(['-', '+']).unwrap_or(digits);
    let all_digits = sign_and_digits.chars().all(|letter| letter.is_digit(radix));
    if sign_and_digits.is_empty() || !all_digits {
        return Err((format!("\"{}\" is no integer", shown(digits)), key.takes()));
    }
    i64::from_str_radix(digits, radix)
        .ok()
        .filter(|value| (key.least..=key.most).contains(value))
        .ok_or_else(|| (format!("{} is out of range", shown(digits)), key.takes()))
}

fn words(key: &Text, raw: &Raw<'_>) -> Result<String, Refused> {
    let text = match *raw {
        Raw::Text(text) | Raw::Untyped(text) => text,
        Raw::Integer { .. } => return Err(("integer, where text is wanted".into(), key.takes())),
        Raw::Other(kind) => return Err((format!("{kind}, where text is wanted"), key.takes())),
    };
    if text.chars().any(char::is_control) {
        let reason = format!("\"{}\" has a control character", shown(text));
        return Err((reason, "write it without".to_owned()));
    }
    if key.choices.is_empty() || key.choices.contains(&text) {
        return Ok(text.to_owned());
    }
    let mend = match nearest(text, key.choices.iter().copied()) {
        Some(meant) => format!("{}; did you mean \"{meant}\"?", key.takes()),
        None => key.takes(),
    };
    Err((format!("\"{}\" is not known", shown(text)), mend))
}

fn tables() -> Vec<&'static str> {
    let mut tables: Vec<_> = keys::all().map(|key| key.name().table).collect();
    tables.sort_unstable();
    tables.dedup();
    tables
}

fn table_mend(typed: &str) -> String {
    match nearest(typed, tables()) {
        Some(meant) => format!("did you mean [{meant}]?"),
        None => format!("the tables are [{}]", tables().join("], [")),
    }
}

/// Where a key of this very name stands.
fn elsewhere(typed: &str) -> Option<String> {
    let found = keys::all().find(|key| key.name().key == typed)?;
    Some(format!("did you mean {}?", found.name()))
}

fn key_mend(table: &str, typed: &str) -> String {
    let names = || {
        keys::all()
            .map(Key::name)
            .filter(|name| name.table == table)
    };
    if let Some(meant) = nearest(typed, names().map(|name| name.key)) {
        return format!("did you mean {meant}?");
    }
    elsewhere(typed).unwrap_or_else(|| {
        let known: Vec<_> = names().map(|name| name.key).collect();
        format!("the keys of [{table}] are {}", known.join(", "))
    })
}

fn variable_mend(typed: &str) -> String {
    let variables: Vec<String> = keys::all().map(|key| key.name().variable()).collect();
    let known = variables.iter().map(String::as_str);
    match nearest(&typed.to_ascii_uppercase(), known) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("unset it, or write {PREFIX}TABLE__KEY, such as {PREFIX}SERVER__LISTEN"),
    }
}

fn read(path: &Path) -> Result<String, (Option<usize>, Refused)> {
    let unreadable = |error: std::io::Error| {
        let mend = "make it a file that this user may read, or name another with --config";
        (None, (format!("cannot be read: {error}"), mend.to_owned()))
    };
    let mut bytes = Vec::new();
    let file = durable::open(path).map_err(unreadable)?;
    file.take(CONFIG_FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > CONFIG_FILE_BYTES_MAX {
        let reason = format!("larger than {CONFIG_FILE_BYTES_MAX} bytes");
        return Err((None, (reason, "is it the right file?".to_owned())));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error
            .as_bytes()
            .iter()
            .take(error.utf8_error().valid_up_to());
        let line = valid.filter(|byte| **byte == b'\n').count() + 1;
        (
            Some(line),
            ("not UTF-8".to_owned(), "write the file in UTF-8".to_owned()),
        )
    })
}
