//! Why slices are where they are.

use serde::{Deserialize, Serialize};

use crate::model::{Decision, HistoryEntry};

/// Answer of `GET /v1/explain?of=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// The entry that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<HistoryEntry>,
    /// One for each slice.
    pub decisions: Vec<Decision>,
    /// What else is to be known, one sentence each.
    pub notes: Vec<String>,
    /// Whether this is what would be decided now, not what was.
    pub now: bool,
}
