//! What cannot work together, as data: one table of rules, each with its reason and the document that says so.
//!
//! A rule is a pure function over [`Facts`]. A fact that is not known is `None`, and a rule that needs it says
//! nothing: silence is no promise. `docs/interlocks.md` is this table, and a test keeps it so.

mod facts;
mod host;
mod libvirt;
mod memory;
mod nvidia;
mod options;
mod table;
mod type_name;
mod whole;

use crate::model::{Finding, Severity};

pub use facts::{Domain, Facts, GpuFacts, Scheduler, SizeMode, Slice, Vgpu};
pub use host::{Known, facts};
pub use table::RULES;
pub use type_name::TypeName;

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its id, for people and programs; never changes.
    pub id: &'static str,
    /// How bad it is when it is broken.
    pub severity: Severity,
    /// What it forbids, as a clause.
    pub forbids: &'static str,
    /// Why, as a sentence.
    pub why: &'static str,
    /// The document that says so.
    pub source: &'static str,
    check: fn(&Facts) -> Vec<Found>,
}

/// Where a rule is broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    place: String,
    sentence: String,
}

impl Found {
    fn new(place: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self { place: place.into(), sentence: sentence.into() }
    }
}

/// Checks all rules; the worst findings first, then in the table's order.
#[must_use]
pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = RULES.iter().flat_map(|rule| rule.check(facts)).collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// Returns what `after` has and `before` has not: what a change would bring.
#[must_use]
pub fn brought(before: &[Finding], after: Vec<Finding>) -> Vec<Finding> {
    after.into_iter().filter(|finding| !before.contains(finding)).collect()
}

impl Rule {
    fn check(&self, facts: &Facts) -> Vec<Finding> {
        let found = (self.check)(facts).into_iter();
        let finding = |Found { place, sentence }| Finding {
            severity: self.severity,
            rule: self.id.to_owned(),
            place,
            sentence,
            source: self.source.to_owned(),
        };
        found.map(finding).collect()
    }
}

/// Returns the table as `docs/interlocks.md` shows it.
#[must_use]
pub fn markdown() -> String {
    let mut text = "| rule | severity | forbids | why | source |\n|---|---|---|---|---|\n".to_owned();
    for Rule { id, severity, forbids, why, source, .. } in RULES {
        text.push_str(&format!("| `{id}` | {severity} | {forbids} | {why} | {source} |\n"));
    }
    text
}

#[cfg(test)]
mod tests;
