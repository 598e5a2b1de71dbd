//! How the GPUs of a host are connected: to each other, to the processors, and what a VM could make of it.
//!
//! A reader fills [`Observations`] from files below a root; [`describe`] turns them into a [`Topology`] and is pure.
//! What only NVIDIA's library knows is given to it, and unknown without. Changes nothing.

mod hints;
mod peers;
mod read;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{DeviceName, GpuId, IommuGroupId, Link, PairState, PciAddress, PciId};

pub use hints::{Hints, hints};
pub use peers::{Clique, describe};
pub use read::read;

/// What was read of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observations {
    /// The GPUs, sorted by address.
    pub gpus: Vec<Seen>,
    /// How far each NUMA node is from each, by number; 10 is the node itself (Linux, node/distance).
    pub distances: Vec<(u32, Vec<u32>)>,
    /// Whether the root complex is known to pass requests from one device to another: AMD's family 0x17 and later
    /// (Linux, drivers/pci/p2pdma.c). `None` when the processor is another one, of which that file lists some.
    pub host_bridge_forwards: Option<bool>,
}

/// One GPU as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Identity.
    pub id: GpuId,
    /// Name in sysfs.
    pub name: DeviceName,
    /// Where it is.
    pub address: PciAddress,
    /// Vendor and device.
    pub pci: PciId,
    /// Class code.
    pub class: u32,
    /// The device's name from the PCI id list.
    pub model: String,
    /// The host bridge's directory, such as `pci0000:40`.
    pub root: String,
    /// The bridges from the root port down to the one above the GPU.
    pub bridges: Vec<Bridge>,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// IOMMU group.
    pub iommu_group: Option<IommuGroupId>,
    /// Link now and possible.
    pub link: Option<Link>,
}

/// A bridge on the way to a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Where it is.
    pub address: PciAddress,
    /// Whether it sends requests between devices below it up to the root complex (ACS P2P request redirect); `None` when its
    /// configuration space cannot be read that far, which needs root.
    pub redirects: Option<bool>,
}

/// How near two GPUs are, nearest first: the levels and names of `nvidia-smi topo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Level {
    /// The same GPU.
    #[serde(rename = "X")]
    Same,
    /// One PCIe switch.
    #[serde(rename = "PIX")]
    Switch,
    /// Several PCIe switches, but no host bridge.
    #[serde(rename = "PXB")]
    Switches,
    /// The same host bridge.
    #[serde(rename = "PHB")]
    HostBridge,
    /// Several host bridges of one NUMA node.
    #[serde(rename = "NODE")]
    Node,
    /// Several NUMA nodes.
    #[serde(rename = "SYS")]
    System,
}

impl Level {
    /// All but the first, with what each means, for a legend.
    pub const LEGEND: [(Self, &str); 5] = [
        (Self::Switch, "one PCIe switch"),
        (Self::Switches, "several PCIe switches, no host bridge"),
        (Self::HostBridge, "one host bridge"),
        (Self::Node, "several host bridges of one NUMA node"),
        (Self::System, "the link between NUMA nodes"),
    ];
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Same => "X",
            Self::Switch => "PIX",
            Self::Switches => "PXB",
            Self::HostBridge => "PHB",
            Self::Node => "NODE",
            Self::System => "SYS",
        })
    }
}

/// The host's GPUs and how they are connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// The GPUs, sorted by address.
    pub gpus: Vec<GpuPlace>,
    /// Each pair once, in the order of `gpus`.
    pub pairs: Vec<Pair>,
    /// Why NVIDIA's library says nothing, when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvml: Option<String>,
}

/// Where a GPU is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuPlace {
    /// Identity.
    pub id: GpuId,
    /// Name in sysfs.
    pub name: DeviceName,
    /// The device's name from the PCI id list.
    pub model: String,
    /// The way from the root complex: host bridge, root port, switches; without the GPU.
    pub path: Vec<String>,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// Distance of its node from each node; 10 is the node itself. Empty when the host does not say.
    pub numa_distances: Vec<u32>,
    /// IOMMU group.
    pub iommu_group: Option<IommuGroupId>,
    /// Link now and possible.
    pub link: Option<Link>,
    /// Whether the link can be wider or faster; it rests at a lower speed while the GPU is idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_note: Option<String>,
}

/// Two GPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// One, by name.
    pub a: DeviceName,
    /// The other, by name.
    pub b: DeviceName,
    /// How near they are.
    pub level: Level,
    /// Distance between their NUMA nodes, when both are known.
    pub numa_distance: Option<u32>,
    /// What NVIDIA's library says; `None` when it does not.
    pub nvml: Option<PairState>,
    /// What a VM that has both could do.
    pub vm: Vec<Possibility>,
}

/// A way from GPU to GPU inside a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Possibility {
    /// Which way.
    pub way: Way,
    /// Whether it is there; `None` when that cannot be told.
    pub possible: Option<bool>,
    /// Why, as a sentence without a full stop.
    pub reason: String,
}

/// The ways from GPU to GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// PCIe between two whole GPUs that are passed through.
    PciePassthrough,
    /// NVLink between two whole GPUs that are passed through.
    NvlinkPassthrough,
    /// NVLink between vGPUs, one on each.
    NvlinkVgpu,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::PciePassthrough => "PCIe, both passed through",
            Self::NvlinkPassthrough => "NVLink, both passed through",
            Self::NvlinkVgpu => "NVLink, a vGPU on each",
        })
    }
}
