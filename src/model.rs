//! The nouns: addresses, ids, sizes, the snapshot of a host, allocations.
//!
//! Everything here is parsed once at the edge, holds no handle on anything, and does no I/O.

mod allocation;
mod boot;
mod error;
#[cfg(test)]
pub(crate) mod fixture;
mod history;
mod holder;
mod id;
mod pci;
mod pointing;
mod profile;
mod size;
mod snapshot;
mod step;
mod terms;
mod vgpu;

pub use allocation::{Allocation, AllocationState, Device, DeviceKind, DomainRef, HookDevice, Realized};
pub use boot::{BootReport, BootStep, Progress, Restored};
pub use error::{Kind, Refusal, one_line};
pub use history::HistoryEntry;
pub use holder::Holder;
pub use id::{
    AllocationId, BootId, DeviceName, DomainUuid, GpuId, HelperId, IdError, IommuGroupId, MdevTypeId,
    MdevUuid, ProfileName, RunId,
};
pub use pci::{PciAddress, PciId};
pub use pointing::Pointing;
pub use profile::{Candidate, Policy, Profile, Wish};
pub use size::{Framebuffer, SizeError};
pub use snapshot::{
    BackendKind, Gpu, HostSnapshot, Link, Mdev, MdevParent, MdevType, PciFacts, ScanProblem, Sriov, Vf,
};
pub use step::Step;
pub use terms::{CapacityMode, Float, Repoint, Settled, Terms};
pub use vgpu::{VgpuSlot, VgpuType};
