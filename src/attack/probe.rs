//! A probe as a value, and the list of all.

use std::fmt;
use std::pin::Pin;

use serde::Serialize;

use super::Error;
use super::arena::Arena;
use super::probes;
use super::verdict::{Judged, Severity};

/// Probes of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// What is no TLS, or not the right one; certificates.
    Tls,
    /// Lengths that lie, frames that never end.
    Frames,
    /// Messages that two readers could read differently.
    Json,
    /// Requests at the wrong time, and twice.
    Order,
    /// Amounts that must move nothing.
    Money,
    /// One account, one session.
    Sessions,
    /// Wrong PINs.
    Guessing,
    /// Whether an account exists, by answers and by time.
    Enumeration,
    /// What errors give away.
    Leaks,
    /// Too much of everything, within a budget.
    Flood,
}

impl Family {
    /// Its name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Frames => "frames",
            Self::Json => "json",
            Self::Order => "order",
            Self::Money => "money",
            Self::Sessions => "sessions",
            Self::Guessing => "guessing",
            Self::Enumeration => "enumeration",
            Self::Leaks => "leaks",
            Self::Flood => "flood",
        }
    }
}

/// When a probe is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// It mostly waits: all such begin at once.
    Waits,
    /// One after the other.
    Quick,
    /// One after the other, when all others are done: it uses something up.
    Loud,
}

/// A probe at work.
pub type Work<'a> = Pin<Box<dyn Future<Output = Judged> + Send + 'a>>;

/// One attack, and how to judge what comes of it.
#[derive(Clone, Copy)]
pub struct Probe {
    /// Its kind.
    pub family: Family,
    /// Its name within the family.
    pub name: &'static str,
    /// When it is run.
    pub pace: Pace,
    /// How bad it is where it does not hold.
    pub severity: Severity,
    /// What it tries.
    pub tries: &'static str,
    /// What a good server does.
    pub good: &'static str,
    /// What it means where it does not hold.
    pub means: &'static str,
    /// What mends that.
    pub mends: &'static str,
    /// The attack itself.
    pub run: for<'a> fn(&'a Arena) -> Work<'a>,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.family.word(), self.name)
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Every probe, in the order of the report.
#[must_use]
pub fn all() -> Vec<Probe> {
    let families: [&[Probe]; 13] = [
        &probes::tls::PROBES,
        &probes::certificates::PROBES,
        &probes::frames::PROBES,
        &probes::json::PROBES,
        &probes::order::PROBES,
        &probes::money::PROBES,
        &probes::sessions::PROBES,
        &probes::guessing::PROBES,
        &probes::enumeration::PROBES,
        &probes::leaks::PROBES,
        &probes::flood::PROBES,
        &probes::records::PROBES,
        &probes::haste::PROBES,
    ];
    families.concat()
}

/// The probes of these families, or of these names (`tls/no-alpn`); all where none is named.
///
/// # Errors
/// [`Error::NoProbe`] for the first name that is none.
pub fn chosen(names: &[String]) -> Result<Vec<Probe>, Error> {
    let all = all();
    let is_named =
        |probe: &Probe, name: &str| probe.family.word() == name || probe.to_string() == name;
    if let Some(unknown) = names
        .iter()
        .find(|name| !all.iter().any(|probe| is_named(probe, name)))
    {
        return Err(Error::NoProbe(unknown.clone()));
    }
    let wanted = |probe: &Probe| names.iter().any(|name| is_named(probe, name));
    Ok(all
        .into_iter()
        .filter(|probe| names.is_empty() || wanted(probe))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_probe_has_a_name_of_its_own_and_says_all_it_should() {
        let all = all();
        let names: BTreeSet<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), all.len());
        for probe in &all {
            for text in [probe.tries, probe.good, probe.means, probe.mends] {
                assert!(text.len() > 5 && !text.contains('\n'), "{probe}: {text:?}");
                // A column of a table, not a sentence.
                assert!(!text.ends_with('.'), "{probe}: {text:?}");
            }
        }
    }

    #[test]
    fn probes_are_chosen_by_family_or_by_name_and_others_are_named() {
        let names = |chosen: &[&str]| -> Result<usize, Error> {
            let chosen: Vec<String> = chosen.iter().map(ToString::to_string).collect();
            super::chosen(&chosen).map(|probes| probes.len())
        };
        assert_eq!(names(&[]).unwrap(), all().len());
        assert_eq!(names(&["tls/no-alpn", "tls/no-alpn"]).unwrap(), 1);
        assert!(names(&["tls"]).unwrap() > 10);
        let unknown = names(&["tls", "tls/none"]).unwrap_err();
        assert!(matches!(unknown, Error::NoProbe(name) if name == "tls/none"));
    }
}
