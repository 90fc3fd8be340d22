//! What a probe finds.

use serde::Serialize;

/// How the target met an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It was not tried, and why stands in what was seen.
    Skipped,
    /// As a good server does.
    Held,
    /// It holds, but less well than it should.
    Weak,
    /// The attack succeeded.
    Broken,
}

impl Verdict {
    /// As it is printed.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Held => "held",
            Self::Weak => "weak",
            Self::Broken => "broken",
        }
    }
}

/// How bad it is where a probe does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth mending some day.
    Low,
    /// Helps an attacker who has more.
    Medium,
    /// Service or secrets are in danger.
    High,
    /// Money is in danger.
    Critical,
}

impl Severity {
    /// As it is printed.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// A verdict, and what was seen. Never holds a PIN, a key or a whole account number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The verdict.
    pub verdict: Verdict,
    /// What was seen; for [`Verdict::Skipped`] why nothing was tried.
    pub seen: String,
}

/// A probe's end. `Err` is a finding too: the one that ended it early.
pub type Judged = Result<Finding, Finding>;

impl Finding {
    /// The target held.
    pub fn held(seen: impl Into<String>) -> Self {
        Self::new(Verdict::Held, seen)
    }

    /// The target is weak there.
    pub fn weak(seen: impl Into<String>) -> Self {
        Self::new(Verdict::Weak, seen)
    }

    /// The attack succeeded.
    pub fn broken(seen: impl Into<String>) -> Self {
        Self::new(Verdict::Broken, seen)
    }

    /// It was not tried.
    pub fn skipped(reason: impl Into<String>) -> Self {
        Self::new(Verdict::Skipped, reason)
    }

    fn new(verdict: Verdict, seen: impl Into<String>) -> Self {
        let seen = seen.into();
        Self { verdict, seen }
    }
}
