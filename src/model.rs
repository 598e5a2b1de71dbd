//! The nouns: addresses, ids, sizes, the snapshot of a host, allocations.
//!
//! Everything here is parsed once at the edge, holds no handle on anything, and does no I/O.

mod allocation;
mod boot;
mod capacity;
mod decision;
mod error;
mod finding;
#[cfg(test)]
pub(crate) mod fixture;
mod history;
mod holder;
mod id;
mod mig;
mod parameters;
mod pci;
mod pointing;
mod policy;
mod profile;
mod rules;
mod score;
mod setting;
mod size;
mod snapshot;
mod step;
mod terms;
mod usage;
mod version;
mod vgpu;
mod weight;

pub use allocation::{Allocation, AllocationState, Device, DeviceKind, DomainRef, HookDevice, Realized};
pub use boot::{BootReport, BootStep, Progress, Restored};
pub use capacity::{Capacity, GpuCapacity, LargestSlice, ProfileCapacity, SliceShare};
pub use decision::{Decision, Weighed};
pub use error::{Kind, Refusal, one_line};
pub use finding::{Finding, Severity};
pub use history::HistoryEntry;
pub use holder::Holder;
pub use id::{
    AllocationId, BootId, DeviceName, DomainUuid, GpuId, HelperId, IdError, IommuGroupId, MdevTypeId,
    MdevUuid, OwnerName, ProfileName, RunId,
};
pub use mig::{GpuInstance, InstanceProfile, MigProfile, MigWish, instances_text};
pub use parameters::PluginParameters;
pub use pci::{PciAddress, PciId};
pub use pointing::Pointing;
pub use policy::Policy;
pub use profile::{Candidate, Profile, WhichGpu, Wish};
pub use rules::{HostRules, Numa, Quota, Rules, Siblings};
pub use score::Score;
pub use setting::{GpuSetting, mig_text};
pub use size::{Framebuffer, SizeError};
pub use snapshot::{
    BackendKind, Gpu, HostDriver, HostSnapshot, Link, Mdev, MdevParent, MdevType, PciFacts, ScanProblem,
    Sriov, Vf, Whole,
};
pub use step::Step;
pub use terms::{CapacityMode, Float, Repoint, Settled, Terms};
pub use usage::{
    Busy, GpuState, MigMode, NvmlFacts, NvmlPlaced, NvmlType, PairState, Placements, SchedulerPolicy,
    SchedulerState, SizeMode, VgpuUse,
};
pub use version::{LibvirtVersion, NoVersion};
pub use vgpu::{VgpuSlot, VgpuType};
pub use weight::{Quantum, Weight};
