//! What NVIDIA's management library says of GPUs and of the vGPUs that run on them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::{DomainUuid, Framebuffer, GpuInstance, InstanceProfile, MdevTypeId, MdevUuid, PciAddress};

/// Whether vGPUs of several framebuffer sizes may share a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SizeMode {
    /// The first vGPU settles the size of the others.
    Equal,
    /// Each may have its own.
    Mixed,
}

impl fmt::Display for SizeMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Equal => "equal",
            Self::Mixed => "mixed",
        })
    }
}

impl FromStr for SizeMode {
    type Err = crate::model::IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "equal" => Ok(Self::Equal),
            "mixed" => Ok(Self::Mixed),
            other => Err(crate::model::IdError::new("size mode (equal or mixed)", other)),
        }
    }
}

/// How time-sliced vGPUs share a GPU's engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SchedulerPolicy {
    /// Idle time is lent; nothing is guaranteed. The driver's default.
    BestEffort,
    /// Equal shares among those that run; they change as VMs start and stop.
    EqualShare,
    /// One over the most instances of the type, always.
    FixedShare,
}

impl SchedulerPolicy {
    /// All of them, in the order of NVML's numbers, which begin with 1.
    pub const ALL: [Self; 3] = [Self::BestEffort, Self::EqualShare, Self::FixedShare];

    /// Returns its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BestEffort => "best-effort",
            Self::EqualShare => "equal-share",
            Self::FixedShare => "fixed-share",
        }
    }
}

impl fmt::Display for SchedulerPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for SchedulerPolicy {
    type Err = crate::model::IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|policy| policy.name() == text);
        found.ok_or_else(|| {
            crate::model::IdError::new("scheduler (best-effort, equal-share or fixed-share)", text)
        })
    }
}

/// The scheduler of a GPU as it is, and what it could be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerState {
    /// The policy in force; `None` when the library names none that is known.
    pub policy: Option<SchedulerPolicy>,
    /// Whether strict round robin is on, which replaces the time slice by a frequency.
    pub round_robin: bool,
    /// The time slice in nanoseconds.
    pub time_slice_ns: u32,
    /// Policies that this GPU can have.
    pub supported: Vec<SchedulerPolicy>,
    /// The shortest time slice that can be set, in nanoseconds; 0 when the library does not say.
    pub shortest_ns: u32,
    /// The longest one.
    pub longest_ns: u32,
}

/// MIG mode of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigMode {
    /// On now.
    pub on: bool,
    /// On after the next reset.
    pub pending: bool,
}

/// Where vGPUs of one type can sit, in one mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placements {
    /// In which mode.
    pub mode: SizeMode,
    /// How many units of the GPU one takes.
    pub size: u32,
    /// Ids on an empty GPU, in order.
    pub supported: Vec<u32>,
    /// Ids where one more can be made now, in order.
    pub creatable: Vec<u32>,
}

/// A kind of vGPU that a GPU supports, whether or not one more can be made now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NvmlType {
    /// NVIDIA's number of it.
    pub id: u32,
    /// Such as `NVIDIA L40S-4Q`.
    pub name: String,
    /// What it is for, such as `Quadro`, `NVS` or `Compute`.
    pub class: String,
    /// Framebuffer of one.
    pub framebuffer: Framebuffer,
    /// Display heads.
    pub heads: u32,
    /// Most on this GPU, all of one size.
    pub max_instances: u32,
    /// Most in one VM; `None` when the library does not say.
    pub max_per_vm: Option<u32>,
    /// The GPU instance profile that carries it; `None` when it is time-sliced.
    pub gpu_instance_profile: Option<u32>,
    /// Whether one more can be made now.
    pub creatable: bool,
}

/// A GPU as NVIDIA's library sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuState {
    /// Where it is.
    pub address: PciAddress,
    /// The board's name.
    pub name: String,
    /// `GPU-…`.
    pub uuid: String,
    /// All of its framebuffer in MiB.
    pub framebuffer_mib: u64,
    /// What of it is in use.
    pub used_mib: u64,
    /// Whether sizes may be mixed now; `None` when that cannot be chosen on it.
    pub size_mode: Option<SizeMode>,
    /// Whether mixed sizes are possible, as far as the driver says.
    pub can_mix: bool,
    /// The scheduler of time-sliced vGPUs; `None` in MIG mode, and where it cannot be read.
    pub scheduler: Option<SchedulerState>,
    /// `None` when the GPU knows no MIG.
    pub mig: Option<MigMode>,
    /// Its GPU instances, by number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<GpuInstance>,
    /// The GPU instances that there can be; only in MIG mode, where the library can tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<InstanceProfile>,
    /// Processes that compute on the GPU itself, by their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub computing: Vec<u32>,
    /// Whether ECC is on; `None` when the GPU has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecc: Option<bool>,
    /// The vGPUs that run, by their number. One that was made and not started is not among them.
    pub vgpus: Vec<VgpuUse>,
}

/// What NVIDIA's library says of a GPU, as far as the choice of a GPU and the interlocks go by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NvmlFacts {
    /// Whether sizes may be mixed now.
    pub size_mode: Option<SizeMode>,
    /// The scheduler's policy in force.
    pub scheduler: Option<SchedulerPolicy>,
    /// Whether MIG mode is on; `None` when the GPU knows no MIG.
    pub mig: Option<bool>,
    /// Its GPU instances, by number; none outside MIG mode.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<GpuInstance>,
    /// Whether ECC is on; `None` when the GPU has none.
    pub ecc: Option<bool>,
    /// The types that it supports and where they can sit, by number.
    #[serde(skip)]
    pub types: Vec<NvmlPlaced>,
}

/// A type with where it can sit on a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NvmlPlaced {
    /// NVIDIA's number of it.
    pub id: u32,
    /// Such as `NVIDIA L40S-4Q`.
    pub name: String,
    /// Most on one GPU, all of one size.
    pub most: u32,
    /// The GPU instance profile that carries it; `None` when it is time-sliced.
    pub gpu_instance_profile: Option<u32>,
    /// One for each mode in which the GPU knows ids.
    pub placements: Vec<Placements>,
}

impl NvmlFacts {
    /// Finds a type by its id.
    #[must_use]
    pub fn placed(&self, id: &MdevTypeId) -> Option<&NvmlPlaced> {
        let number = id.vgpu_number()?;
        self.types.iter().find(|one| one.id == number)
    }
}

/// How busy something was in the last sampling period, in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// Multiprocessors.
    pub sm: u32,
    /// Memory.
    pub memory: u32,
    /// Encoder.
    pub encoder: u32,
    /// Decoder.
    pub decoder: u32,
}

/// A vGPU that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VgpuUse {
    /// The library's number of it; the library does not tell the VF.
    pub instance: u32,
    /// The mdev that carries it, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mdev: Option<MdevUuid>,
    /// Its type's number.
    pub type_id: u32,
    /// Its type's name.
    pub type_name: String,
    /// The VM: on KVM by the UUID of its libvirt domain.
    pub vm: Option<DomainUuid>,
    /// Where it sits on the GPU; `None` when it has no placement id.
    pub placement: Option<u32>,
    /// Framebuffer that it has, in MiB.
    pub framebuffer_mib: u64,
    /// Framebuffer that its guest uses, in MiB.
    pub used_mib: u64,
    /// How busy it was; `None` when the library has no sample of it.
    pub busy: Option<Busy>,
}

/// What NVIDIA's library says of two GPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairState {
    /// One.
    pub a: PciAddress,
    /// The other.
    pub b: PciAddress,
    /// Whether one may read the other's memory: `ok`, or why not. `None` when the library does not say.
    pub read: Option<String>,
    /// Whether one may write it.
    pub write: Option<String>,
    /// NVLinks between them; `None` when the library knows nothing of NVLink here.
    pub nvlinks: Option<u32>,
}

impl PairState {
    /// Returns whether it is about these two.
    #[must_use]
    pub fn is_of(&self, a: PciAddress, b: PciAddress) -> bool {
        (self.a, self.b) == (a, b) || (self.a, self.b) == (b, a)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_they_are_written() {
        for policy in SchedulerPolicy::ALL {
            assert_eq!(policy.to_string().parse(), Ok(policy));
            let json = serde_json::to_string(&policy).expect("plain");
            assert_eq!(json, format!("\"{policy}\""), "one word in JSON and in text");
        }
        assert!("fastest".parse::<SchedulerPolicy>().is_err());
    }
}
