//! One complete reading of the host.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{
    BootId, DeviceName, Framebuffer, GpuId, Holder, IommuGroupId, MdevTypeId, MdevUuid, NvmlFacts,
    PciAddress, PciId, Quantum, VgpuSlot, VgpuType,
};

/// Everything that was read from the host at one moment. Immutable once made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSnapshot {
    /// The kernel's boot id, when it could be read.
    pub boot_id: Option<BootId>,
    /// Devices sorted by name; empty on a host without any.
    pub gpus: Vec<Gpu>,
    /// What could not be read; each costs only its own device.
    pub problems: Vec<ScanProblem>,
}

/// One thing that a scan could not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanProblem {
    /// The device it belongs to, when known.
    pub device: Option<DeviceName>,
    /// What was tried, on what, and the error, in one line.
    pub text: String,
}

/// Which kernel road makes slices on a device. Read from sysfs, never guessed from the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendKind {
    /// Mediated devices made by UUID on the device or on its VFs.
    Mdev,
    /// VFs that become vGPUs by a type number, written into the VF's own file by NVIDIA's driver.
    NvidiaVfio,
    /// VFs with a share of the GPU's memory each, provisioned by Intel's xe driver.
    Xe,
    /// Plain SR-IOV virtual functions bound to a VFIO driver.
    Sriov,
    /// No slices: a guest can have the whole GPU.
    Passthrough,
    /// Nothing can be made; the reason says why.
    None,
}

impl BackendKind {
    /// Returns whether a slice is a VF on its VFIO driver, and nothing is written into it.
    #[must_use]
    pub const fn gives_bare_vfs(self) -> bool {
        match self {
            Self::Sriov | Self::Xe => true,
            Self::Mdev | Self::NvidiaVfio | Self::Passthrough | Self::None => false,
        }
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Mdev => "mdev",
            Self::NvidiaVfio => "nvidia_vfio",
            Self::Xe => "xe",
            Self::Sriov => "sriov",
            Self::Passthrough => "passthrough",
            Self::None => "none",
        })
    }
}

/// A physical device that slices are made on: a GPU, or any mdev parent or PF the admin listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Stable identity; what the ledger keeps.
    pub id: GpuId,
    /// Name in sysfs now: the PCI address, or a word such as `mtty`.
    pub name: DeviceName,
    /// Directory below the root, e.g. `sys/devices/pci0000:00/0000:00:03.0`.
    pub path: String,
    /// PCI facts; `None` for a virtual device.
    pub pci: Option<PciFacts>,
    /// The bound host driver.
    pub driver: Option<String>,
    /// NUMA node; `None` when the host has one node or the firmware does not say.
    pub numa_node: Option<u32>,
    /// IOMMU group; `None` without an IOMMU or for a virtual device.
    pub iommu_group: Option<IommuGroupId>,
    /// How slices are made here.
    pub backend: BackendKind,
    /// Why that backend, as a sentence that names the attribute that decided.
    pub backend_reason: String,
    /// SR-IOV state of a PF.
    pub sriov: Option<Sriov>,
    /// The mdev parents on this device: itself, or its VFs. Sorted by name.
    pub parents: Vec<MdevParent>,
    /// The GPU as one thing that a guest can have; `None` where a function is no display controller or accelerator, or
    /// has no IOMMU group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<Whole>,
    /// The types that its VFs make or are known to have made, sorted by id. Empty on other roads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vgpu_types: Vec<VgpuType>,
    /// What NVIDIA's library said of it last; `None` where there is none, and on other GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvml: Option<NvmlFacts>,
}

/// What PCI says of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PciFacts {
    /// Where it is now.
    pub address: PciAddress,
    /// Vendor and device id.
    pub id: PciId,
    /// Subsystem vendor and device id.
    pub subsystem: PciId,
    /// 24-bit class code, e.g. 0x030200.
    pub class: u32,
    /// Vendor's name from the PCI id list, or the number.
    pub vendor_name: String,
    /// Device's name from the PCI id list, or the number.
    pub device_name: String,
    /// Link now and possible; `None` when the function is not PCI Express or does not say.
    pub link: Option<Link>,
}

/// PCI Express link. GPUs train down when idle: compare by the maximum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Speed now, as the kernel prints it (`16.0 GT/s PCIe`).
    pub speed: String,
    /// Lanes now.
    pub width: u32,
    /// Highest speed of the function.
    pub max_speed: String,
    /// Most lanes of the function.
    pub max_width: u32,
}

/// SR-IOV state of a PF.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sriov {
    /// `sriov_totalvfs`: what the PF can have at most.
    pub total: u32,
    /// Number of `virtfnN` links: what is enabled now. `sriov_numvfs` is not read: it takes the device lock.
    pub enabled: u32,
    /// PCI device id that the VFs will have (`sriov_vf_device`, with the PF's vendor).
    pub vf_id: Option<PciId>,
    /// Whether new VFs are given to host drivers (`sriov_drivers_autoprobe`).
    pub autoprobe: Option<bool>,
    /// The enabled VFs by number.
    pub vfs: Vec<Vf>,
    /// Numbers, from 1, of VFs that somebody gave memory by hand before any is enabled: then the driver of the PF
    /// divides nothing by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_hand: Vec<u32>,
}

/// One virtual function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vf {
    /// N of the PF's `virtfnN` link.
    pub index: u32,
    /// Where it is.
    pub address: PciAddress,
    /// Vendor and device id, read from the VF itself.
    pub id: PciId,
    /// The bound driver.
    pub driver: Option<String>,
    /// Whether a VFIO driver owns it (`vfio-dev/` exists, or the driver's name says so).
    pub vfio: bool,
    /// IOMMU group.
    pub iommu_group: Option<IommuGroupId>,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// Who uses it now. Empty when nobody does, or when this reader may not look into other processes.
    pub holders: Vec<Holder>,
    /// Its share of the GPU's memory, where the driver says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framebuffer: Option<Framebuffer>,
    /// Its turns on the engines, where the driver says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantum: Option<Quantum>,
    /// Its vGPU types, where a vendor's driver makes slices by a type number on the VF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vgpu: Option<VgpuSlot>,
}

/// A device that offers mdev types.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MdevParent {
    /// Name in sysfs: the PF's or VF's address, or a word.
    pub name: DeviceName,
    /// Directory below the root.
    pub path: String,
    /// Types in the driver's order of names.
    pub types: Vec<MdevType>,
    /// Mediated devices that exist, sorted by UUID.
    pub mdevs: Vec<Mdev>,
}

/// A kind of mediated device that a parent offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MdevType {
    /// Directory name.
    pub id: MdevTypeId,
    /// The driver's name for people, e.g. `GRID T4-4Q`.
    pub name: String,
    /// `vfio-pci`, `vfio-ccw`, `vfio-ap`, …
    pub device_api: String,
    /// The driver's description, when it has one.
    pub description: Option<String>,
    /// Framebuffer of one instance, when the description says.
    pub framebuffer: Option<Framebuffer>,
    /// Virtual display heads, when the description says.
    pub heads: Option<u32>,
    /// Most instances on one GPU, when the description says.
    pub max_instances: Option<u32>,
    /// How many can be created now (`available_instances`).
    pub available: u32,
}

/// One mediated device on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mdev {
    /// Its name.
    pub uuid: MdevUuid,
    /// Its type.
    pub mdev_type: MdevTypeId,
    /// Its IOMMU group.
    pub iommu_group: Option<IommuGroupId>,
    /// Who has it open. Empty when nobody has, or when this reader may not look into other processes.
    pub holders: Vec<Holder>,
    /// The plugin parameters of one of NVIDIA's, as they were written; empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<String>,
}

impl Gpu {
    /// Returns whether a path below the root is in the GPU's own directory or in that of one of its VFs.
    #[must_use]
    pub fn has_path(&self, path: &str) -> bool {
        let inside =
            path.strip_prefix(&self.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let vf = |part: &str| {
            let address = part.parse::<PciAddress>().ok();
            let mut vfs = self.sriov.iter().flat_map(|sriov| &sriov.vfs);
            address.is_some_and(|address| vfs.any(|vf| vf.address == address))
        };
        inside || path.split('/').any(vf)
    }

    /// Returns whether the two are in one IOMMU group, so that a change of one may show in the other.
    #[must_use]
    pub fn shares_group(&self, other: &Self) -> bool {
        self.iommu_group.is_some() && self.iommu_group == other.iommu_group
    }

    /// Returns whether a device is the GPU's own function or one of its VFs.
    #[must_use]
    pub fn has_function(&self, device: &DeviceName) -> bool {
        let mut vfs = self.sriov.iter().flat_map(|sriov| &sriov.vfs);
        self.name == *device || vfs.any(|vf| vf.address.to_string() == device.as_str())
    }

    /// Returns whether a VF of this PF is on the driver that guests get it from: a VFIO driver, or NVIDIA's own, which
    /// its VFs never leave.
    #[must_use]
    pub fn has_bound(&self, vf: &Vf) -> bool {
        // Kernels before 6.0 have no `vfio-dev` to tell by.
        let vfio = vf.vfio || vf.driver.as_deref().is_some_and(|driver| driver.contains("vfio"));
        vfio || (self.is_on_nvidia() && vf.driver == self.driver)
    }

    /// Returns whether NVIDIA's driver has it.
    #[must_use]
    pub fn is_on_nvidia(&self) -> bool {
        self.driver.as_deref() == Some("nvidia")
    }
}

/// A GPU as one thing that a guest can have: its function and those that go with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whole {
    /// The GPU's own function. `vfio` tells of all its functions, `holders` too; `index` is 0.
    pub function: Vf,
    /// The others that go with it, sorted by address: its audio function, and what else of its slot is in its group.
    pub companions: Vec<HostDriver>,
    /// Why no guest can have it now, as a clause that follows the GPU's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

/// A function and the driver of the host that has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostDriver {
    /// The function.
    pub function: PciAddress,
    /// Its driver; `None` without one.
    pub driver: Option<String>,
}

impl Whole {
    /// Returns all its functions with their drivers, the GPU's own first.
    #[must_use]
    pub fn functions(&self) -> Vec<HostDriver> {
        let own = HostDriver { function: self.function.address, driver: self.function.driver.clone() };
        std::iter::once(own).chain(self.companions.iter().cloned()).collect()
    }

    /// Returns the functions that are not on a VFIO driver, with the drivers that they have. Those that an admin gave to
    /// VFIO stay there.
    #[must_use]
    pub fn to_move(&self) -> Vec<HostDriver> {
        let vfio = |one: &HostDriver| one.driver.as_ref().is_some_and(|driver| driver.contains("vfio"));
        self.functions().into_iter().filter(|one| !vfio(one)).collect()
    }

    /// Returns the addresses of the functions that go with the GPU's own.
    #[must_use]
    pub fn companion_addresses(&self) -> Vec<PciAddress> {
        self.companions.iter().map(|one| one.function).collect()
    }

    /// Returns whether each of these functions is on the driver that it is said to have.
    #[must_use]
    pub fn is_on(&self, drivers: &[HostDriver]) -> bool {
        let now = self.functions();
        drivers.iter().all(|one| now.contains(one))
    }
}

impl Vf {
    /// Returns the vGPU type that it has now.
    #[must_use]
    pub fn vgpu_type(&self) -> Option<&MdevTypeId> {
        self.vgpu.as_ref()?.current.as_ref()
    }
}

impl HostSnapshot {
    /// Returns every mdev parent with its GPU, in the snapshot's order.
    pub fn parents(&self) -> impl Iterator<Item = (&Gpu, &MdevParent)> {
        self.gpus.iter().flat_map(|gpu| gpu.parents.iter().map(move |parent| (gpu, parent)))
    }

    /// Returns every VF with its PF, in the snapshot's order.
    pub fn vfs(&self) -> impl Iterator<Item = (&Gpu, &Vf)> {
        self.gpus
            .iter()
            .flat_map(|gpu| gpu.sriov.iter().flat_map(move |sriov| sriov.vfs.iter().map(move |vf| (gpu, vf))))
    }

    /// Finds a mediated device by UUID.
    #[must_use]
    pub fn mdev(&self, uuid: MdevUuid) -> Option<(&Gpu, &MdevParent, &Mdev)> {
        self.parents().find_map(|(gpu, parent)| {
            parent.mdevs.iter().find(|mdev| mdev.uuid == uuid).map(|mdev| (gpu, parent, mdev))
        })
    }

    /// Returns the vGPU type that a VF has now.
    #[must_use]
    pub fn vgpu_type_on(&self, address: PciAddress) -> Option<&MdevTypeId> {
        self.vf(address).and_then(|(_, vf)| vf.vgpu_type())
    }

    /// Finds a VF by address.
    #[must_use]
    pub fn vf(&self, address: PciAddress) -> Option<(&Gpu, &Vf)> {
        self.vfs().find(|(_, vf)| vf.address == address)
    }

    /// Finds a GPU that a guest can have whole, by the address of its function.
    #[must_use]
    pub fn whole(&self, address: PciAddress) -> Option<(&Gpu, &Whole)> {
        let mut all = self.gpus.iter().filter_map(|gpu| Some((gpu, gpu.whole.as_ref()?)));
        all.find(|(_, whole)| whole.function.address == address)
    }

    /// Finds what a PCI hostdev of ours can name: a VF, or a whole GPU by its function.
    #[must_use]
    pub fn function(&self, address: PciAddress) -> Option<(&Gpu, &Vf)> {
        self.vf(address).or_else(|| self.whole(address).map(|(gpu, whole)| (gpu, &whole.function)))
    }

    /// Finds the GPU that a path below the root belongs to: its own directory, that of a VF of its, or something in one.
    #[must_use]
    pub fn gpu_at(&self, path: &str) -> Option<&Gpu> {
        self.gpus.iter().find(|gpu| gpu.has_path(path))
    }

    /// Finds a GPU by identity, sysfs name or PCI address.
    #[must_use]
    pub fn gpu(&self, name: &str) -> Option<&Gpu> {
        let address = name.parse::<PciAddress>().ok();
        self.gpus.iter().find(|gpu| {
            gpu.id.as_str() == name
                || gpu.name.as_str() == name
                || (address.is_some() && gpu.pci.as_ref().map(|pci| pci.address) == address)
        })
    }
}
