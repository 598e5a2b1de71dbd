//! What was asked and what came of it.

use serde::{Deserialize, Serialize};

use crate::model::{AllocationId, Decision};

/// One request, or one thing that the service did by itself, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Its number, by which it can be explained; 0 until it is stored.
    #[serde(default, skip_serializing_if = "is_unnumbered")]
    pub number: i64,
    /// Seconds since the epoch.
    pub at: i64,
    /// Who asked; `None` for what the service does by itself.
    pub uid: Option<u32>,
    /// Which process asked.
    pub pid: Option<i32>,
    /// What was asked.
    pub verb: String,
    /// On what.
    pub object: String,
    /// The domain it is about, by its name then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The allocations it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allocations: Vec<AllocationId>,
    /// What came of it: `done`, or why not.
    pub outcome: String,
    /// Why each slice is where it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<Decision>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_unnumbered(number: &i64) -> bool {
    *number == 0
}
