//! What is wrong with a configuration: where, what, why, and what to do.

use std::fmt;
use std::path::PathBuf;

use crate::limits::CONFIG_FAULTS_MAX;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file; the line counts from 1, and is absent where the file could not be read.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line.
        line: Option<usize>,
    },
    /// A variable of the environment.
    Environment(String),
    /// A flag of the command line.
    Flag(&'static str),
    /// Nobody set it.
    Default,
}

impl Place {
    /// The order in which people mend: the file from its top, then the rest.
    fn order(&self) -> (u8, usize) {
        match self {
            Self::File { line, .. } => (0, line.unwrap_or(0)),
            Self::Environment(_) => (1, 0),
            Self::Flag(_) => (2, 0),
            Self::Default => (3, 0),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::File {
                path,
                line: Some(line),
            } => write!(f, "{}:{line}", path.display()),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Default => f.write_str("by default"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    /// Where.
    pub place: Place,
    /// What: `[table] key`, or `[table]`; empty where the whole file is meant.
    pub subject: String,
    /// Why it is wrong.
    pub reason: String,
    /// What to do about it.
    pub mend: String,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.subject.is_empty() {
            write!(f, "{}: ", self.subject)?;
        }
        write!(f, "{}; {}", self.reason, self.mend)
    }
}

/// Everything that is wrong with a configuration, one line each when shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The faults, at most [`CONFIG_FAULTS_MAX`] of them; never empty.
    pub faults: Vec<ConfigFault>,
    /// How many more there are.
    pub unnamed: usize,
}

impl ConfigErrors {
    pub(super) fn new(mut faults: Vec<ConfigFault>) -> Self {
        faults.sort_by_key(|fault| fault.place.order());
        let unnamed = faults.len().saturating_sub(CONFIG_FAULTS_MAX);
        faults.truncate(CONFIG_FAULTS_MAX);
        Self { faults, unnamed }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{fault}")?;
        }
        match self.unnamed {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for ConfigErrors {}

const SHOWN_CHARS_MAX: usize = 64;

/// Text from outside as a message may show it: one line, no control characters, not too long.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for letter in text.chars().take(SHOWN_CHARS_MAX) {
        match letter {
            '"' | '\'' => shown.push(letter),
            other => shown.extend(other.escape_debug()),
        }
    }
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}
