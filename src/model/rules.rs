//! What binds the choice of a GPU beside the wish: of one profile, and of the whole host.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{Framebuffer, OwnerName, Policy, ProfileName};

/// What the NUMA node of a domain's memory means for its slices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Numa {
    /// Nothing.
    #[default]
    Any,
    /// GPUs of that node come first.
    Prefer,
    /// Only GPUs of that node.
    Require,
}

impl fmt::Display for Numa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Any => "any",
            Self::Prefer => "prefer",
            Self::Require => "require",
        })
    }
}

/// Where the other slices of the same domain shall be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Siblings {
    /// Anywhere.
    #[default]
    Any,
    /// On the same GPU.
    Together,
    /// Each on a GPU of its own.
    Apart,
}

impl Siblings {
    /// Returns whether nothing was said of them.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Siblings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Any => "any",
            Self::Together => "together",
            Self::Apart => "apart",
        })
    }
}

/// What a profile says of the choice of a GPU, beside its policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// For the policy `priority`: GPUs or parents by name, address or identity, best first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<String>,
    /// Who waits for room is served by this, the greatest first; -1000 to 1000.
    #[serde(skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// Whether a domain on it may be stopped for one of a greater priority.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub preemptible: bool,
    /// Classes that it shares no GPU with, beside those that the configuration separates.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub separate: BTreeSet<ProfileName>,
    /// Whether it may share one after all when all others are full; `None` is what the configuration says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overflow: Option<bool>,
    /// What the NUMA node of the domain's memory means.
    #[serde(skip_serializing_if = "is_any")]
    pub numa: Numa,
}

impl Rules {
    /// The greatest priority, and the least with a minus sign.
    pub const MOST_PRIORITY: i32 = 1000;

    /// Returns whether nothing was said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_any(numa: &Numa) -> bool {
    *numa == Numa::Any
}

/// What the configuration says of the choice of a GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostRules {
    /// The policy of profiles that name none.
    pub policy: Policy,
    /// Sets of classes of which no two share a GPU.
    pub separate: Vec<BTreeSet<ProfileName>>,
    /// Whether they may after all when all other GPUs are full.
    pub overflow: bool,
    /// What each owner may have at most.
    pub quota: BTreeMap<OwnerName, Quota>,
}

/// What the slices of one owner may be at most, while they exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// Their number.
    pub slices: Option<u32>,
    /// The sum of their framebuffers, as far as the drivers tell them.
    pub framebuffer: Option<Framebuffer>,
}

impl HostRules {
    /// Returns the classes that one class shares no GPU with, by the configuration and by its own rules.
    #[must_use]
    pub fn foes(&self, class: &ProfileName, rules: &Rules) -> BTreeSet<ProfileName> {
        let sets = self.separate.iter().filter(|set| set.contains(class)).flatten();
        sets.chain(&rules.separate).filter(|other| *other != class).cloned().collect()
    }
}
