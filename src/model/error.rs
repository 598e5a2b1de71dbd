//! What kind of "no" an answer is: from it follow the exit code and the HTTP status.

use serde::{Deserialize, Serialize};

/// The kind of a refusal or failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The request itself is wrong.
    Usage,
    /// The caller may not do this.
    Forbidden,
    /// What it names does not exist.
    NotFound,
    /// It contradicts what is there.
    Conflict,
    /// Nothing has room.
    NoCapacity,
    /// In use or in transition; trying again can help.
    Busy,
    /// The kernel, libvirt or the disk said no.
    HostFault,
    /// A defect of ours.
    Internal,
}

impl Kind {
    /// Returns the HTTP status of answers of this kind.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        self.codes().0
    }

    /// Returns the exit code of commands that end this way.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        self.codes().1
    }

    /// The one table of (HTTP status, exit code).
    const fn codes(self) -> (u16, u8) {
        match self {
            Self::Usage => (400, 2),
            Self::Forbidden => (403, 3),
            Self::NotFound => (404, 4),
            Self::Conflict => (409, 5),
            Self::NoCapacity => (507, 6),
            Self::Busy => (503, 7),
            Self::HostFault => (502, 8),
            Self::Internal => (500, 70),
        }
    }
}

/// A refusal as it travels: kind, one line, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What kind of no.
    pub kind: Kind,
    /// The whole chain in one line.
    pub message: String,
    /// What the reader can do, one sentence each; may be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

impl Refusal {
    /// Creates a refusal without hints.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hints: Vec::new() }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Creates a refusal from an error, with its chain of causes in one line.
    #[must_use]
    pub fn from_error(kind: Kind, error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::new(kind, message)
    }
}

/// Makes one bounded line of a text that came from outside: control characters become `?`, and what is
/// longer than `most` characters ends in `…`.
#[must_use]
pub fn one_line(text: &str, most: usize) -> String {
    let mut chars = text.trim_end().chars();
    let mut line: String = chars.by_ref().take(most).map(|c| if c.is_control() { '?' } else { c }).collect();
    if chars.next().is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own_codes() {
        use Kind::{Busy, Conflict, Forbidden, HostFault, Internal, NoCapacity, NotFound, Usage};
        let kinds = [Usage, Forbidden, NotFound, Conflict, NoCapacity, Busy, HostFault, Internal];
        let exits: std::collections::BTreeSet<u8> = kinds.iter().map(|k| k.exit_code()).collect();
        assert_eq!(exits.len(), kinds.len());
        assert!(!exits.contains(&0) && !exits.contains(&1), "0 is success, 1 is clap's and panic's");
        assert_eq!(NoCapacity.http_status(), 507);
        assert_eq!(Conflict.http_status(), 409);
    }

    #[test]
    fn foreign_text_becomes_one_bounded_line() {
        assert_eq!(one_line("a\nb\u{1b}[31m\n", 80), "a?b?[31m");
        assert_eq!(one_line("abcdef", 3), "abc…");
        assert_eq!(one_line("abc", 3), "abc");
    }
}
