//! What rules look at. `None` means that nobody knows.

use std::fmt;

use crate::domain_xml::{Details, HostdevDetails};
use crate::interlock::TypeName;
use crate::model::{Framebuffer, GpuId, LibvirtVersion, Profile, one_line};

/// Everything that is known at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// libvirt's version.
    pub libvirt: Option<LibvirtVersion>,
    /// Domains, each with what its hostdevs stand for.
    pub domains: Vec<Domain>,
    /// Profiles.
    pub profiles: Vec<Profile>,
    /// GPUs with the slices that are made on them.
    pub gpus: Vec<GpuFacts>,
}

/// One domain's definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domain {
    /// Its XML.
    pub xml: Details,
    /// What each hostdev of the XML stands for, in the same order.
    pub slices: Vec<Slice>,
}

impl Domain {
    /// Returns the hostdevs with what they stand for and their place, for messages.
    pub(super) fn hostdevs(&self) -> impl Iterator<Item = (String, &HostdevDetails, &Slice)> {
        let both = self.xml.hostdevs.iter().zip(&self.slices).enumerate();
        both.map(|(at, (hostdev, slice))| {
            let name = match &hostdev.hostdev.alias {
                Some(alias) => format!("hostdev {} ({})", at + 1, one_line(alias, 60)),
                None => format!("hostdev {}", at + 1),
            };
            (format!("{}, {name}", self.place()), hostdev, slice)
        })
    }

    /// Returns where a finding about the whole domain is.
    pub(super) fn place(&self) -> String {
        format!("domain {}", one_line(&self.xml.name, 60))
    }

    /// Returns the NVIDIA vGPUs of its hostdevs.
    pub(super) fn vgpus(&self) -> Vec<&Vgpu> {
        self.slices.iter().filter_map(|slice| slice.vgpu.as_ref()).collect()
    }
}

/// What a hostdev stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Whether it is an allocation of vgpud's.
    pub ours: bool,
    /// Whether the device is there now. A slice of ours need not be.
    pub exists: Option<bool>,
    /// The bound driver.
    pub driver: Option<String>,
    /// Whether a VFIO driver owns it.
    pub vfio: Option<bool>,
    /// A VF that stays on its vendor's driver, which makes vGPUs on it.
    pub vendor_vf: bool,
    /// What the mdev's type says of itself.
    pub device_api: Option<String>,
    /// The NVIDIA vGPU, when its type is known.
    pub vgpu: Option<Vgpu>,
}

/// An NVIDIA vGPU that there is or shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vgpu {
    /// Its type.
    pub name: TypeName,
    /// The GPU that it is on.
    pub gpu: Option<GpuId>,
    /// Its GPU instance, of a MIG-backed type.
    pub gpu_instance: Option<u32>,
    /// Framebuffer as the driver says it.
    pub framebuffer: Option<Framebuffer>,
    /// How many of this type one GPU takes at most.
    pub most: Option<u32>,
    /// NVML's type capability 0: peer to peer over NVLink.
    pub nvlink: Option<bool>,
    /// NVML's type capability 2: alone of its type in a domain.
    pub exclusive_in_domain: Option<bool>,
    /// NVML's type capability 3: shares a GPU with its own type only.
    pub exclusive_type: Option<bool>,
    /// NVML's type capability 4: shares a GPU with its own size only.
    pub exclusive_size: Option<bool>,
    /// Plugin parameters, `key=value` with commas.
    pub params: Option<String>,
}

impl Vgpu {
    /// Creates one of which only the type is known.
    #[must_use]
    pub const fn new(name: TypeName) -> Self {
        Self {
            name,
            gpu: None,
            gpu_instance: None,
            framebuffer: None,
            most: None,
            nvlink: None,
            exclusive_in_domain: None,
            exclusive_type: None,
            exclusive_size: None,
            params: None,
        }
    }

    /// Returns whether a plugin parameter is switched on; `None` when the parameters are not known.
    pub(super) fn has(&self, key: &str) -> Option<bool> {
        let mut pairs = self.params.as_ref()?.split(',').filter_map(|pair| pair.split_once('='));
        Some(pairs.any(|(name, value)| name.trim() == key && value.trim() != "0"))
    }

    /// Returns whether it owns its GPU's whole framebuffer.
    pub(super) fn is_whole(&self) -> Option<bool> {
        if self.name.mig_slices.is_some() { Some(false) } else { self.most.map(|most| most == 1) }
    }
}

/// What sizes a GPU takes beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeMode {
    /// One framebuffer size on the whole GPU.
    Equal,
    /// Sizes may differ.
    Mixed,
}

/// How a GPU's time is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// Idle time is lent.
    BestEffort,
    /// Equal parts for those that run.
    EqualShare,
    /// Equal parts for as many as could run.
    FixedShare,
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::BestEffort => "best effort",
            Self::EqualShare => "equal share",
            Self::FixedShare => "fixed share",
        })
    }
}

/// One NVIDIA GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuFacts {
    /// Its identity.
    pub id: GpuId,
    /// Its name in sysfs; for people.
    pub name: String,
    /// What sizes it takes.
    pub mode: Option<SizeMode>,
    /// How its time is shared.
    pub scheduler: Option<Scheduler>,
    /// Whether ECC is on.
    pub ecc: Option<bool>,
    /// Whether MIG is on.
    pub mig: Option<bool>,
    /// The vGPUs that are made on it.
    pub made: Vec<Vgpu>,
}

impl GpuFacts {
    /// Creates one of which only the name is known.
    #[must_use]
    pub fn new(id: GpuId, name: impl Into<String>) -> Self {
        Self { id, name: name.into(), mode: None, scheduler: None, ecc: None, mig: None, made: Vec::new() }
    }

    pub(super) fn place(&self) -> String {
        format!("GPU {}", self.name)
    }
}
