//! What came of an attack: a table for people, JSON for programs, an exit code for both.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::line::span;
use super::probe::Probe;
use super::verdict::{Finding, Verdict};

/// One probe's end.
#[derive(Debug)]
pub struct Outcome {
    /// The probe.
    pub probe: Probe,
    /// What it found.
    pub finding: Finding,
    /// How long it took.
    pub took: Duration,
}

/// All of an attack.
#[derive(Debug)]
pub struct Report {
    /// As it was named.
    pub target: String,
    /// What was dialled.
    pub address: String,
    /// How long all took.
    pub took: Duration,
    /// The probes' ends, in the order of the list.
    pub outcomes: Vec<Outcome>,
}

/// Nothing at all was tried.
const NOTHING_TRIED: u8 = 69;

impl Report {
    /// By the worst verdict: 0 all held, 1 something is weak, 2 something is broken; 69 where
    /// nothing was tried at all.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let worst = self
            .outcomes
            .iter()
            .map(|outcome| outcome.finding.verdict)
            .max();
        match worst {
            Some(Verdict::Held) => 0,
            Some(Verdict::Weak) => 1,
            Some(Verdict::Broken) => 2,
            Some(Verdict::Skipped) | None => NOTHING_TRIED,
        }
    }

    fn count(&self, verdict: Verdict) -> usize {
        let all = self.outcomes.iter();
        all.filter(|outcome| outcome.finding.verdict == verdict)
            .count()
    }

    /// The table: verdict, probe, what was seen, what it means (and what mends it).
    #[must_use]
    pub fn table(&self) -> String {
        let widest = |of: fn(&Outcome) -> usize, head: &str| {
            self.outcomes
                .iter()
                .map(of)
                .max()
                .unwrap_or(0)
                .max(head.len())
        };
        let name = widest(|outcome| outcome.probe.to_string().chars().count(), "PROBE");
        let seen = widest(|outcome| shown(outcome).chars().count(), "SEEN").min(SEEN_COLUMNS);
        let mut out = format!(
            "{:<8} {:<name$} {:<seen$} MEANS\n",
            "VERDICT", "PROBE", "SEEN"
        );
        for outcome in &self.outcomes {
            let (verdict, probe) = (outcome.finding.verdict.word(), outcome.probe.to_string());
            let row = format!(
                "{verdict:<8} {probe:<name$} {:<seen$} {}",
                shown(outcome),
                meaning(outcome)
            );
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{}", row.trim_end());
        }
        let _ = write!(out, "\n{}", self.summary());
        out
    }

    fn summary(&self) -> String {
        format!(
            "{} at {}: {} held, {} weak, {} broken, {} skipped, in {}",
            self.target,
            self.address,
            self.count(Verdict::Held),
            self.count(Verdict::Weak),
            self.count(Verdict::Broken),
            self.count(Verdict::Skipped),
            span(self.took)
        )
    }

    /// The same as an object of stable form.
    #[must_use]
    pub fn json(&self) -> Value {
        let probes: Vec<Value> = self.outcomes.iter().map(object).collect();
        json!({
            "target": self.target,
            "address": self.address,
            "took_ms": millis(self.took),
            "held": self.count(Verdict::Held),
            "weak": self.count(Verdict::Weak),
            "broken": self.count(Verdict::Broken),
            "skipped": self.count(Verdict::Skipped),
            "exit_code": self.exit_code(),
            "probes": probes,
        })
    }
}

/// What was seen is padded to so many columns at most.
const SEEN_COLUMNS: usize = 60;

fn shown(outcome: &Outcome) -> &str {
    &outcome.finding.seen
}

/// For what held, what a good server does; for what did not, how bad it is and what mends it.
fn meaning(outcome: &Outcome) -> String {
    let probe = &outcome.probe;
    match outcome.finding.verdict {
        Verdict::Held => format!("good: {}", probe.good),
        Verdict::Skipped => String::new(),
        Verdict::Weak | Verdict::Broken => format!(
            "{}: {}; mend: {}",
            probe.severity.word(),
            probe.means,
            probe.mends
        ),
    }
}

fn object(outcome: &Outcome) -> Value {
    let mut object = described(&outcome.probe);
    if let Some(members) = object.as_object_mut() {
        members.insert("verdict".to_owned(), json!(outcome.finding.verdict));
        members.insert("seen".to_owned(), json!(outcome.finding.seen));
        members.insert("took_ms".to_owned(), json!(millis(outcome.took)));
    }
    object
}

/// A probe as an object, without a verdict.
#[must_use]
pub fn described(probe: &Probe) -> Value {
    json!({
        "probe": probe.to_string(),
        "family": probe.family,
        "severity": probe.severity,
        "tries": probe.tries,
        "good": probe.good,
        "means": probe.means,
        "mends": probe.mends,
    })
}

/// The list of probes for people: what each tries, and what a good server does.
#[must_use]
pub fn list(probes: &[Probe]) -> String {
    let mut out = String::new();
    for probe in probes {
        let _ = writeln!(
            out,
            "{probe} ({})\n    tries: {}\n    good:  {}\n    else:  {}\n    mend:  {}",
            probe.severity.word(),
            probe.tries,
            probe.good,
            probe.means,
            probe.mends
        );
    }
    out.truncate(out.trim_end().len());
    out
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::probe;

    fn report(findings: &[Finding]) -> Report {
        let probes = probe::all();
        let outcomes = findings.iter().zip(probes).map(|(finding, probe)| Outcome {
            probe,
            finding: finding.clone(),
            took: Duration::from_millis(7),
        });
        Report {
            target: "localhost:8443".to_owned(),
            address: "127.0.0.1:8443".to_owned(),
            took: Duration::from_millis(1_500),
            outcomes: outcomes.collect(),
        }
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst_and_nothing_tried_is_no_success() {
        let (held, weak) = (Finding::held("a"), Finding::weak("b"));
        let (broken, skipped) = (Finding::broken("c"), Finding::skipped("d"));
        for (findings, code) in [
            (vec![held.clone(), skipped.clone()], 0),
            (vec![held.clone(), weak.clone(), held.clone()], 1),
            (vec![weak, broken, held], 2),
            (vec![skipped], 69),
            (vec![], 69),
        ] {
            assert_eq!(report(&findings).exit_code(), code, "{findings:?}");
        }
    }

    #[test]
    fn a_row_says_what_is_good_where_it_held_and_what_mends_where_it_did_not() {
        let report = report(&[Finding::held("seen one"), Finding::broken("seen two")]);
        let table = report.table();
        let lines: Vec<&str> = table.lines().collect();
        let (first, second) = (&report.outcomes[0].probe, &report.outcomes[1].probe);
        assert!(lines[0].starts_with("VERDICT") && lines[0].ends_with("MEANS"));
        assert!(lines[1].starts_with("held") && lines[1].ends_with(first.good));
        assert!(lines[2].starts_with("broken") && lines[2].ends_with(second.mends));
        assert!(lines[2].contains(second.means) && lines[2].contains("seen two"));
        assert!(table.ends_with("1 held, 0 weak, 1 broken, 0 skipped, in 1500 ms"));
    }

    #[test]
    fn the_json_has_every_member_that_is_promised() {
        let json = report(&[Finding::weak("seen")]).json();
        let members =
            |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
        assert_eq!(
            members(&json),
            [
                "address",
                "broken",
                "exit_code",
                "held",
                "probes",
                "skipped",
                "target",
                "took_ms",
                "weak"
            ]
        );
        assert_eq!(
            members(&json["probes"][0]),
            [
                "family", "good", "means", "mends", "probe", "seen", "severity", "took_ms",
                "tries", "verdict"
            ]
        );
        assert_eq!(
            (&json["probes"][0]["verdict"], &json["exit_code"]),
            (&json!("weak"), &json!(1))
        );
    }
}
