//! What is wrong with a host before anybody starts a guest on it.
//!
//! A reader fills [`Observations`] from files below a root, and a pure judgement turns them into [`Ailment`]s:
//! what was seen, what it breaks, what to type. Works without the service, and changes nothing.

mod judge;
mod observations;
mod read;

use serde::{Deserialize, Serialize};

use crate::model::Severity;

pub use judge::judge;
pub use observations::{Cpu, Daemon, Function, Hook, Observations, VfioIds};
pub use read::read;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ailment {
    /// How bad it is.
    pub severity: Severity,
    /// What was looked at: an id that never changes.
    pub check: String,
    /// What was seen, with its values.
    pub seen: String,
    /// What does not work because of it.
    pub breaks: String,
    /// What to type or to change.
    pub cure: String,
}

#[cfg(test)]
mod tests;
