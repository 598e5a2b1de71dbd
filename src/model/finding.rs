//! What a look at a configuration found wrong.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know; nothing fails.
    Note,
    /// It works, but not as somebody may expect.
    Warning,
    /// It cannot work.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One rule broken at one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The rule's id.
    pub rule: String,
    /// Where: a domain with its hostdev, a profile, a GPU.
    pub place: String,
    /// What is wrong there, in one sentence with the values.
    pub sentence: String,
    /// The document that says so.
    pub source: String,
}
