//! Requests about what cannot work together.

use serde::{Deserialize, Serialize};

use crate::model::Finding;

/// Body of `POST /v1/check`. Without a domain and without XML everything that the service knows is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// A domain of libvirt's, by name or UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// A definition that libvirt need not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xml: Option<String>,
}

/// Answer of `POST /v1/check`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// What was found; the worst first.
    pub findings: Vec<Finding>,
    /// How many definitions were looked at.
    pub domains: u32,
    /// How many profiles were looked at.
    pub profiles: u32,
    /// What could not be looked at, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}
