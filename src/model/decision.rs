//! Why a slice is where it is: what each GPU could give when it was decided, and what became of it.

use serde::{Deserialize, Serialize};

use crate::model::{AllocationId, DeviceName, GpuId, Policy, ProfileName, Score};

/// One decision: the GPUs that were weighed for one slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// For which allocation; `None` for one that nobody was promised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation: Option<AllocationId>,
    /// By which profile.
    pub profile: ProfileName,
    /// What it asked for.
    pub wish: String,
    /// By which policy.
    pub policy: Policy,
    /// The lot that `random` drew from.
    #[serde(default)]
    pub seed: u64,
    /// The parent that was chosen, or would be; `None` when there was none.
    pub chosen: Option<DeviceName>,
    /// Every GPU, best first.
    pub candidates: Vec<Weighed>,
}

/// What one GPU was worth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weighed {
    /// The GPU.
    pub gpu: GpuId,
    /// Its best parent.
    pub parent: DeviceName,
    /// How many slices its parents could give.
    pub possible: u32,
    /// Slices on it.
    pub slices: u32,
    /// MiB in use and in all, where the driver tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<(u64, u64)>,
    /// What the policy made of it; `None` when it gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
    /// Why it won or lost; a clause that follows its name.
    pub verdict: String,
}
