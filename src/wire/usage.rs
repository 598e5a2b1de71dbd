//! What GPUs and running vGPUs use, and whose they are.

use serde::{Deserialize, Serialize};

use crate::model::{AllocationId, GpuState, PciAddress};

/// Answer of `GET /v1/usage`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Why NVIDIA's library could not be asked; then there is nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
    /// NVIDIA's GPUs in the library's order, each with the vGPUs that run.
    pub gpus: Vec<GpuState>,
    /// Whose the running vGPUs are, as far as they are ours; in the order of `gpus`.
    pub owners: Vec<VgpuOwner>,
}

/// Whose a running vGPU is. The library tells its VM, not its VF: when a domain has several vGPUs on one
/// GPU, each is listed with all of that domain's allocations there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VgpuOwner {
    /// On which GPU.
    pub gpu: PciAddress,
    /// The library's number of it.
    pub instance: u32,
    /// The domain's name.
    pub domain: String,
    /// The domain's allocations on that GPU.
    pub allocations: Vec<AllocationId>,
}
