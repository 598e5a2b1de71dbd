//! On what terms a slice is promised, and what the first start settled.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{GpuId, MdevTypeId, PciId, Siblings};

/// What is held for an allocation while its domain is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CapacityMode {
    /// Nothing: a start fails with a reason when nothing fits.
    #[default]
    OnStart,
    /// The slice itself, on a fixed parent; made when promised and restored at boot.
    Guaranteed,
}

impl fmt::Display for CapacityMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::OnStart => "on-start",
            Self::Guaranteed => "guaranteed",
        })
    }
}

/// When the service may rewrite the VF address in a stopped domain's definition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repoint {
    /// When the named VF could no longer be served and another could, and after a refused start.
    #[default]
    Auto,
    /// After a refused start only.
    OnRefusal,
    /// Never by itself.
    Never,
}

impl fmt::Display for Repoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::OnRefusal => "on-refusal",
            Self::Never => "never",
        })
    }
}

/// What may differ from one start of a domain to the next, beside the parent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Float {
    /// Nothing else: vendor and type stay what the first start settled.
    #[default]
    Parent,
    /// The type too; the vendor stays.
    Type,
    /// The vendor too.
    Vendor,
}

impl Float {
    /// Returns whether it is what a profile has that says nothing of it.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Parent => "parent",
            Self::Type => "type",
            Self::Vendor => "vendor",
        })
    }
}

/// The terms of one promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Terms {
    /// What is held while the domain is off.
    pub mode: CapacityMode,
    /// Whether every start is on the GPU of the one before.
    pub pin: bool,
    /// When the VF it names may be exchanged.
    pub repoint: Repoint,
    /// Where the other slices of the domain shall be.
    #[serde(skip_serializing_if = "Siblings::is_default")]
    pub siblings: Siblings,
}

impl Terms {
    /// Returns whether these are the terms of a promise about which nothing was said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.mode.to_string();
        if self.pin {
            text.push_str(", pinned");
        }
        if self.repoint != Repoint::default() {
            text.push_str(&format!(", repoint {}", self.repoint));
        }
        if !self.siblings.is_default() {
            text.push_str(&format!(", {}", self.siblings));
        }
        f.pad(&text)
    }
}

/// What the first start of an allocation settled, and later ones where they may differ: guest drivers,
/// licences and hibernation depend on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The GPU of the newest start; binds only a pinned allocation, and stays while it is pinned.
    pub gpu: GpuId,
    /// The type of an mdev.
    pub mdev_type: Option<MdevTypeId>,
    /// The id of a VF.
    pub vf_id: Option<PciId>,
}
