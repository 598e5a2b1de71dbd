//! A promise to one domain, and what was made in the kernel for it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{
    AllocationId, BootId, DeviceName, DomainUuid, GpuId, HostDriver, MdevTypeId, MdevUuid, OwnerName,
    PciAddress, PciId, Pointing, ProfileName, Quantum, RunId, Settled, Terms,
};

/// What the domain's XML names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// A mediated device by UUID; the parent is chosen when the domain starts.
    Mdev(MdevUuid),
    /// A PCI function by address: a virtual function, or a whole GPU by its own function.
    Vf(PciAddress),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mdev(uuid) => f.pad(&uuid.to_string()),
            Self::Vf(address) => f.pad(&address.to_string()),
        }
    }
}

impl Device {
    /// Returns the address of a VF.
    #[must_use]
    pub const fn vf(self) -> Option<PciAddress> {
        match self {
            Self::Mdev(_) => None,
            Self::Vf(address) => Some(address),
        }
    }

    /// Returns which kind of hostdev names it.
    #[must_use]
    pub const fn kind(self) -> DeviceKind {
        match self {
            Self::Mdev(_) => DeviceKind::Mdev,
            Self::Vf(_) => DeviceKind::Pci,
        }
    }
}

/// The kind of `<hostdev>`; never changes for an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// `type='mdev'`.
    Mdev,
    /// `type='pci'`.
    Pci,
}

/// A domain as far as we need to know it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DomainRef {
    /// Identity.
    pub uuid: DomainUuid,
    /// Last known name; for people.
    pub name: String,
}

/// Where in its life an allocation is; what the ledger stores. Whether a slice exists is derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AllocationState {
    /// Promised, but no domain XML has shown it yet; taken back when the lease ends.
    Leased,
    /// The domain's XML shows it.
    Attached,
    /// The domain is gone from libvirt or its XML no longer shows it; freed when the grace period ends.
    Orphaned,
}

impl fmt::Display for AllocationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Leased => "leased",
            Self::Attached => "attached",
            Self::Orphaned => "orphaned",
        })
    }
}

/// A promise to one domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// Its id; also in the hostdev's user alias.
    pub id: AllocationId,
    /// Whose it is.
    pub domain: DomainRef,
    /// The profile it follows at its next start.
    pub profile: ProfileName,
    /// What the XML names.
    pub device: Device,
    /// Where in its life it is.
    pub state: AllocationState,
    /// When a lease or grace period ends: seconds since the epoch. `None` when nothing ends.
    pub until: Option<i64>,
    /// Whether a saved image or a snapshot with memory of its domain exists, as far as is known: what is in
    /// the guest's memory needs the exact type.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub saved: bool,
    /// On what terms it was promised.
    #[serde(default, skip_serializing_if = "Terms::is_default")]
    pub terms: Terms,
    /// What its first start settled; `None` before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<Settled>,
    /// Who it is for; limits may count by this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerName>,
    /// The functions that go with a whole GPU, each in a hostdev of its own; empty for everything else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub companions: Vec<PciAddress>,
    /// What became of the VF address that its domain's definition names.
    #[serde(default, skip_serializing_if = "Pointing::is_default")]
    pub pointing: Pointing,
}

/// A hostdev of the domain's XML that is, or claims to be, ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookDevice {
    /// The allocation of its alias.
    pub allocation: Option<AllocationId>,
    /// What it names.
    pub device: Device,
}

/// What was made in the kernel for an allocation: one record while the slice exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Realized {
    /// Whose slice.
    pub allocation: AllocationId,
    /// What exists.
    pub device: Device,
    /// On which GPU.
    pub gpu: GpuId,
    /// The mdev parent, or the PF of a VF, by its name in this boot.
    pub parent: DeviceName,
    /// The type of an mdev.
    pub mdev_type: Option<MdevTypeId>,
    /// The id of a VF.
    pub vf_id: Option<PciId>,
    /// The boot in which it was made; another one voids the record.
    pub boot_id: BootId,
    /// The run it was made for.
    pub run: RunId,
    /// The functions of a whole GPU with the drivers that they had before, and get back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<HostDriver>,
    /// The turns that a VF had before a weight was put on it, and gets back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantum_before: Option<Quantum>,
}
