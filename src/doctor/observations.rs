//! What the reader saw.

use crate::model::{BackendKind, LibvirtVersion, MdevUuid, PciAddress, PciId};

/// Whose processor it is: the switches of the IOMMU have other names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cpu {
    /// Intel: VT-d, `intel_iommu=on`.
    Intel,
    /// AMD: AMD-Vi, on by default.
    Amd,
    /// Another one.
    #[default]
    Other,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Where it is.
    pub address: PciAddress,
    /// Vendor and device.
    pub id: PciId,
    /// The bound driver.
    pub driver: Option<String>,
    /// How slices are made on it.
    pub backend: BackendKind,
    /// VFs that it can have.
    pub vfs_total: u32,
    /// VFs on a VFIO driver other than plain vfio-pci.
    pub variant_driver: Option<String>,
    /// Whether the firmware gave its VFs room in memory; `None` when the attribute does not say.
    pub vf_room: Option<bool>,
    /// Whether it has a group of the IOMMU.
    pub grouped: bool,
    /// What else is in its group, bridges and functions of the same card left out.
    pub strangers: Vec<String>,
}

/// The ids that a configuration gives to vfio-pci by their number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VfioIds {
    /// Where it is written.
    pub file: String,
    /// The ids.
    pub ids: Vec<PciId>,
}

/// A daemon of libvirt's that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Its name.
    pub name: String,
    /// When it started or was last known to look for its hooks, in seconds since the epoch.
    pub looked: Option<i64>,
    /// Soft limit of locked memory in bytes; `None` is unlimited.
    pub locked_limit: Option<u64>,
    /// Whether it may raise limits (CAP_SYS_RESOURCE).
    pub may_raise: bool,
}

/// Our hook in libvirt's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Whether the program that it stands for is there.
    pub runs: bool,
    /// When the first hook of any kind came, in seconds since the epoch.
    pub since: Option<i64>,
}

/// Everything that the judgement looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observations {
    /// Whose processor.
    pub cpu: Cpu,
    /// The kernel's command line.
    pub cmdline: String,
    /// Units of the IOMMU that the kernel drives.
    pub iommu_units: usize,
    /// Whether the firmware describes an IOMMU (ACPI tables DMAR or IVRS).
    pub iommu_table: bool,
    /// GPUs of the host.
    pub gpus: Vec<Function>,
    /// Modules that are loaded or built in.
    pub modules: Vec<String>,
    /// Whether vfio-pci is loaded, built in or there to be loaded.
    pub vfio_pci: bool,
    /// Whether interrupts are passed on without remapping.
    pub unsafe_interrupts: bool,
    /// What modprobe's configuration and the command line give to vfio-pci by id.
    pub vfio_ids: Vec<VfioIds>,
    /// `softdep DRIVER pre: vfio-pci` lines: the drivers.
    pub after_vfio: Vec<String>,
    /// Whether gim is told which devices are its own.
    pub gim_limited: bool,
    /// Whether NVIDIA's vGPU manager is installed.
    pub nvidia_manager: bool,
    /// Which of NVIDIA's services run.
    pub nvidia_services: Vec<String>,
    /// libvirt's version.
    pub libvirt: Option<LibvirtVersion>,
    /// libvirt's daemons that run.
    pub daemons: Vec<Daemon>,
    /// Our hook; `None` when it is not installed.
    pub hook: Option<Hook>,
    /// Whether our udev rule is there.
    pub udev_rule: bool,
    /// Whether the service answers on its socket.
    pub service: bool,
    /// The kernel's lockdown, when it is on.
    pub lockdown: Option<String>,
    /// Our mdevs that mdevctl makes too, with the parent.
    pub made_by_others: Vec<(MdevUuid, String)>,
}
