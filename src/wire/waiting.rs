//! Starts that wait for room.

use serde::{Deserialize, Serialize};

/// Answer of `GET /v1/queue`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// The first in line first.
    pub waiting: Vec<WaitingStart>,
}

/// One start that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingStart {
    /// Its domain's name.
    pub domain: String,
    /// The greatest priority of its profiles.
    pub priority: i32,
    /// The same with what waiting added.
    pub aged: i64,
    /// For how many seconds it has waited.
    pub waited_s: i64,
    /// When it gives up, in seconds since the epoch.
    pub until: i64,
    /// Whether it has waited so long that nobody behind it may take a GPU that could serve it.
    pub holds: bool,
    /// Why it waits.
    pub why: String,
}

/// Body of `POST /v1/queue/cancel`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelWait {
    /// The domain's name or UUID.
    pub domain: String,
}
