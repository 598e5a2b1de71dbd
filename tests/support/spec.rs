//! What a fake host has.

use std::path::Path;

use super::kernel::Kernel;

/// A host. Presets are in `presets`; every field can be changed before it is mounted.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostSpec {
    /// PCI drivers that are registered, and whether each is a VFIO driver.
    pub(crate) drivers: Vec<(String, bool)>,
    /// Resources that types are cut from; parents name them by index.
    pub(crate) pools: Vec<PoolSpec>,
    pub(crate) virtuals: Vec<VirtualSpec>,
    pub(crate) pci: Vec<PciSpec>,
    /// Files that nothing reacts to, by their path below the root.
    pub(crate) files: Vec<(String, String)>,
    /// Lines of `modules.alias` of the running kernel.
    pub(crate) aliases: String,
    pub(crate) kernel: KernelSpec,
}

/// In what kernels differ from each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum KernelSpec {
    /// Linux 6.12, as Debian 13 has it.
    #[default]
    Linux6_12,
    /// Linux 6.1, as Debian 12 has it.
    Linux6_1,
}

impl KernelSpec {
    /// Whether the VFIO device goes from sysfs before its users are waited for, and not after
    /// (k:drivers/vfio/vfio_main.c, vfio_unregister_group_dev).
    pub(crate) fn hides_before_waiting(self) -> bool {
        self == Self::Linux6_12
    }

    /// Whether reading and writing `driver_override` takes the device's lock (driver_set_override of
    /// k:drivers/base/driver.c, driver_override_show of k:drivers/pci/pci-sysfs.c).
    pub(crate) fn locks_for_override(self) -> bool {
        self == Self::Linux6_1
    }
}

/// Something that mdevs are cut from, of one or of several parents.
#[derive(Clone, Debug)]
pub(crate) struct PoolSpec {
    /// Units: ports, MiB, devices.
    pub(crate) total: u32,
    /// What `create` answers when the units are used up.
    pub(crate) full: i32,
    /// Only one size at a time, as NVIDIA's default mode.
    pub(crate) equal_size: bool,
}

/// What a device offers as an mdev parent.
#[derive(Clone, Debug)]
pub(crate) struct ParentSpec {
    /// Index of its pool.
    pub(crate) pool: usize,
    /// Most mdevs on this parent: 1 on an NVIDIA VF.
    pub(crate) most: Option<u32>,
    pub(crate) types: Vec<TypeSpec>,
}

#[derive(Clone, Debug)]
pub(crate) struct TypeSpec {
    /// Directory name.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    /// Units of the pool that one mdev takes.
    pub(crate) cost: u32,
    /// The GPU instance profile that carries it, in MIG mode.
    pub(crate) gi: Option<&'static str>,
}

/// A parent that is no PCI function: `sys/devices/virtual/NAME/NAME`.
#[derive(Clone, Debug)]
pub(crate) struct VirtualSpec {
    pub(crate) name: String,
    pub(crate) parent: ParentSpec,
}

#[derive(Clone, Debug)]
pub(crate) struct PciSpec {
    pub(crate) address: String,
    /// Directory that holds it, below `sys/devices`.
    pub(crate) bridge: String,
    pub(crate) class: u32,
    pub(crate) id: (u16, u16),
    pub(crate) subsystem: (u16, u16),
    pub(crate) driver: Option<String>,
    pub(crate) numa_node: i32,
    /// `(current speed, current width, maximal speed, maximal width)`.
    pub(crate) link: Option<(String, u32, String, u32)>,
    pub(crate) sriov: Option<SriovSpec>,
    pub(crate) parent: Option<ParentSpec>,
    /// Other attributes, by their path below the function.
    pub(crate) attributes: Vec<(&'static str, &'static str)>,
    /// The function whose IOMMU group it shares.
    pub(crate) group_of: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct SriovSpec {
    pub(crate) total: u32,
    /// VFs there from the start.
    pub(crate) enabled: u32,
    /// Routing id of the first VF minus that of the PF, and the step between VFs.
    pub(crate) offset: u32,
    pub(crate) stride: u32,
    pub(crate) vf_device: u16,
    /// Driver that takes new VFs while probing is on.
    pub(crate) vf_driver: Option<String>,
    /// Whether that driver makes a network interface (which is up).
    pub(crate) vf_net: bool,
    /// Whether the PF's driver can change the number of VFs.
    pub(crate) configure: bool,
    /// Most VFs that the driver really makes; it then says nothing.
    pub(crate) makes: Option<u32>,
    /// What each VF offers as an mdev parent.
    pub(crate) vf_parent: Option<ParentSpec>,
    /// What each VF can be a vGPU of, by a number and without mediated devices.
    pub(crate) vf_vgpu: Option<ParentSpec>,
    /// Bytes of memory that the PF's driver divides over its VFs, as Intel's xe does.
    pub(crate) vram: Option<u64>,
}

impl HostSpec {
    /// Writes the host as plain files that do not react, below `dir`.
    pub(crate) fn write_to(&self, dir: &Path) {
        Kernel::new(self.clone(), 0, 0).tree.write_to(dir);
    }
}
