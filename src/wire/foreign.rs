//! Taking over what others made, giving it back, and what was changed by hand.

use serde::{Deserialize, Serialize};

use super::{AllocationView, Change};
use crate::model::{AllocationId, Device, MdevUuid, Profile, ProfileName};

/// Body of `POST /v1/adopt`: hostdevs of a domain become allocations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adopt {
    /// The domain's name or UUID.
    pub domain: String,
    /// The profile that they follow from now on; `None` takes the one that fits.
    #[serde(default)]
    pub profile: Option<ProfileName>,
    /// Only this mdev or VF; `None` is every hostdev that can be served.
    #[serde(default)]
    pub device: Option<Device>,
    /// Say what would happen, change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// Answer of `POST /v1/adopt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// Whether anything changed.
    pub change: Change,
    /// The allocations, also those that were there already.
    pub allocations: Vec<AllocationView>,
    /// What an admin should know, one sentence each.
    pub notes: Vec<String>,
}

/// Body of `POST /v1/mdevs/UUID/adopt`: an mdev without a domain becomes one of `vgpuctl mdev create`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdoptMdev {
    /// Say what would happen, change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// Body of `POST /v1/disown`. Exactly one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disown {
    /// An allocation.
    #[serde(default)]
    pub allocation: Option<AllocationId>,
    /// An mdev: made by hand with vgpuctl, or that of an allocation.
    #[serde(default)]
    pub mdev: Option<MdevUuid>,
    /// Say what would happen, change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// Body of `POST /v1/rebuild`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rebuild {
    /// Say what would happen, change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// Answer of `POST /v1/rebuild`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuilt {
    /// Whether anything changed.
    pub change: Change,
    /// The allocations that the domains' aliases gave.
    pub allocations: Vec<AllocationView>,
    /// Profiles that were made for them, because what they followed is not known.
    pub profiles: Vec<Profile>,
    /// Aliases that gave none, one sentence each.
    pub left_out: Vec<String>,
    /// What an admin should know, one sentence each.
    pub notes: Vec<String>,
    /// Where the damaged database was set aside.
    pub set_aside: Option<String>,
}

/// What kind of change by hand it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftKind {
    /// A slice of ours was removed.
    SliceGone,
    /// An mdev of ours was removed and made again, elsewhere or of another type.
    SliceReplaced,
    /// A PF has another number of VFs than was set.
    VfCount,
    /// A VF is not on its VFIO driver.
    VfDriver,
    /// The hostdev of an allocation names another device.
    HostdevEdited,
    /// A hostdev has an alias of ours that no allocation has.
    AliasUnknown,
    /// A hostdev has the alias of another domain's allocation.
    AliasCopied,
    /// mdevctl will make an mdev that was promised.
    MdevctlAutostart,
}

/// Something of ours that somebody else changed. Shown, never corrected by itself; gone when it is put right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Drift {
    /// What kind.
    pub kind: DriftKind,
    /// On which mdev, VF or PF.
    pub object: String,
    /// Whose allocation it is about.
    pub domain: Option<String>,
    /// Which allocation.
    pub allocation: Option<AllocationId>,
    /// What is so, and what should be: one sentence.
    pub text: String,
    /// What to type: one sentence.
    pub fix: String,
}
