//! What rules say of single GPUs for one allocation, and what its policy goes by.

use std::collections::BTreeMap;

use crate::model::{GpuId, Policy};
use crate::profile::Bounds;

/// What rules say of one GPU. The default says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// Why it is out of bounds, as a clause that follows its name.
    pub shut: Option<String>,
    /// GPUs of a lesser tier come first, whatever the policy.
    pub tier: u8,
    /// Why it has that tier, as a clause.
    pub note: Option<String>,
}

/// What rules say of each GPU; nothing of one that is not in here.
pub type Gates = BTreeMap<GpuId, Gate>;

/// What a policy goes by, beside the host. The default goes by nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taste {
    /// The policy that counts, when it is not the profile's own.
    pub policy: Option<Policy>,
    /// What a lot is drawn from.
    pub seed: u64,
    /// The GPU that the profile's newest slice went to.
    pub last: Option<GpuId>,
    /// How busy GPUs are, in thousandths, as far as that is measured.
    pub busy: BTreeMap<GpuId, u32>,
}

impl Bounds {
    /// Returns why rules forbid a GPU.
    #[must_use]
    pub fn shut(&self, gpu: &GpuId) -> Option<&str> {
        self.gates.get(gpu)?.shut.as_deref()
    }

    /// Returns the tier of a GPU, and why.
    #[must_use]
    pub fn tier(&self, gpu: &GpuId) -> (u8, Option<&str>) {
        self.gates.get(gpu).map_or((0, None), |gate| (gate.tier, gate.note.as_deref()))
    }
}
