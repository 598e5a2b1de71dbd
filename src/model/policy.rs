//! The policies by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::IdError;

/// How a parent is chosen. Names that no engine of this version knows are refused, never ignored.
///
/// The scores and tie rules are those of `placement::policy`; docs/policies.md has them for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Policy {
    /// What the configuration says, and `most-free` where it says nothing.
    #[default]
    Host,
    /// The most left of the type; then the most left on the whole GPU.
    MostFree,
    /// The first by name that has room.
    FirstFit,
    /// The next GPU by name after the one that the profile's newest slice went to.
    RoundRobin,
    /// The least busy GPU, where that is measured; else the one with the least of its memory in use.
    LeastLoaded,
    /// The GPU with the most of its memory in use.
    Pack,
    /// The GPU with the fewest slices.
    Spread,
    /// The GPU on which the least is left afterwards.
    BestFit,
    /// Drawn by lot; the lot is made of the allocation and the ledger's generation.
    Random,
    /// In the order that the profile gives.
    Priority,
}

/// Each policy with its name, in the order of the documentation.
const ALL: [(Policy, &str); 10] = [
    (Policy::Host, "default"),
    (Policy::MostFree, "most-free"),
    (Policy::FirstFit, "first-fit"),
    (Policy::RoundRobin, "round-robin"),
    (Policy::LeastLoaded, "least-loaded"),
    (Policy::Pack, "pack"),
    (Policy::Spread, "spread"),
    (Policy::BestFit, "best-fit"),
    (Policy::Random, "random"),
    (Policy::Priority, "priority"),
];

const WANTED: &str = "placement policy of this version (default, most-free, first-fit, round-robin, least-loaded, \
                      pack, spread, best-fit, random, priority)";

impl Policy {
    /// The names that are accepted, for messages and help.
    pub const NAMES: [&'static str; ALL.len()] = {
        let mut names = [""; ALL.len()];
        let mut at = 0;
        while at < ALL.len() {
            names[at] = ALL[at].1;
            at += 1;
        }
        names
    };

    /// Returns the policy that counts where the configuration says `host`.
    #[must_use]
    pub fn or(self, host: Self) -> Self {
        match (self, host) {
            (Self::Host, Self::Host) => Self::MostFree,
            (Self::Host, host) => host,
            (own, _) => own,
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = ALL.iter().find(|(policy, _)| policy == self).map_or("", |(_, name)| name);
        f.pad(name)
    }
}

impl FromStr for Policy {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let found = ALL.iter().find(|(_, name)| *name == text).map(|(policy, _)| *policy);
        found.ok_or_else(|| IdError::new(WANTED, text))
    }
}

impl TryFrom<String> for Policy {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Policy> for String {
    fn from(policy: Policy) -> Self {
        policy.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back_and_no_other_is() {
        for name in Policy::NAMES {
            assert_eq!(name.parse::<Policy>().expect("a name").to_string(), name);
        }
        let refusal = "fgd".parse::<Policy>().expect_err("no name of this version").to_string();
        assert!(Policy::NAMES.iter().all(|name| refusal.contains(name)), "{refusal}");
        assert!("".parse::<Policy>().is_err());
    }

    #[test]
    fn the_profile_counts_before_the_host() {
        assert_eq!(Policy::Pack.or(Policy::Spread), Policy::Pack);
        assert_eq!(Policy::Host.or(Policy::Spread), Policy::Spread);
        assert_eq!(Policy::Host.or(Policy::Host), Policy::MostFree);
    }
}
