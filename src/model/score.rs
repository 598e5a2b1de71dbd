//! What a policy makes of one place.

use serde::{Deserialize, Serialize};

/// A place in the order of a policy: tier, then value, then tie, each the least first; then the parent's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Score {
    /// What rules say before any policy: 0 unless they put a GPU behind others.
    pub tier: u8,
    /// The policy's own number.
    pub value: i64,
    /// Its number for places of the same value.
    pub tie: i64,
    /// The numbers in words.
    pub text: String,
}
