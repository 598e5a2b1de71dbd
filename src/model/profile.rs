//! The admin's named wish.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::{
    DeviceKind, DeviceName, Float, Framebuffer, GpuId, IdError, MdevTypeId, PciId, PluginParameters, Policy,
    ProfileName, Rules, Score, Weight,
};

/// What a profile asks for. Exactly one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// A type, by its id (`nvidia-558`), its number (`558`), the driver's name (`NVIDIA A40-4Q`) or the last word
    /// of that.
    Type(String),
    /// The smallest type with at least this framebuffer, on any vendor's GPU.
    Framebuffer(Framebuffer),
    /// A virtual function with this PCI id.
    Vf(PciId),
    /// A whole GPU, with the functions that go with it.
    Gpu(WhichGpu),
}

/// Which whole GPU a profile asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum WhichGpu {
    /// Any that a guest can have.
    Any,
    /// One with this PCI id.
    Id(PciId),
}

impl WhichGpu {
    /// Returns whether a GPU with this id will do.
    #[must_use]
    pub fn takes(self, id: PciId) -> bool {
        match self {
            Self::Any => true,
            Self::Id(wanted) => wanted == id,
        }
    }
}

impl fmt::Display for WhichGpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.pad("any"),
            Self::Id(id) => f.pad(&id.to_string()),
        }
    }
}

impl FromStr for WhichGpu {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text == "any" { Ok(Self::Any) } else { text.parse().map(Self::Id) }
    }
}

impl From<WhichGpu> for String {
    fn from(which: WhichGpu) -> Self {
        which.to_string()
    }
}

impl TryFrom<String> for WhichGpu {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl Wish {
    /// Returns which kind of hostdev such a slice has in a domain's XML; `None` when the host decides, whose
    /// GPUs may make types as mediated devices or on VFs.
    #[must_use]
    pub const fn device_kind(&self) -> Option<DeviceKind> {
        match self {
            Self::Type(_) | Self::Framebuffer(_) => None,
            Self::Vf(_) | Self::Gpu(_) => Some(DeviceKind::Pci),
        }
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(name) => write!(f, "type {name}"),
            Self::Framebuffer(size) => write!(f, "framebuffer {size}"),
            Self::Vf(id) => write!(f, "VF {id}"),
            Self::Gpu(WhichGpu::Any) => f.write_str("any whole GPU"),
            Self::Gpu(WhichGpu::Id(id)) => write!(f, "whole GPU {id}"),
        }
    }
}

/// A profile as stored and as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name.
    pub name: ProfileName,
    /// What it asks for.
    pub wish: Wish,
    /// The admin's label for the kind of work, e.g. `graphics`; the configuration can keep classes apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<ProfileName>,
    /// How the parent is chosen.
    #[serde(default)]
    pub policy: Policy,
    /// What may differ from one start to the next, beside the parent.
    #[serde(default, skip_serializing_if = "Float::is_default")]
    pub float: Float,
    /// `display='on'` in the hostdev; needs a graphics device in the domain.
    #[serde(default)]
    pub display: bool,
    /// `ramfb='on'` in the hostdev; needs `display`.
    #[serde(default)]
    pub ramfb: bool,
    /// Whether the whole GPUs that one domain has by this profile are told to its guest's driver as peers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub peers: bool,
    /// How much of the GPU's time a slice gets beside others, where the road can weigh one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Weight>,
    /// What NVIDIA's driver is told of each vGPU; elsewhere it means nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<PluginParameters>,
    /// What else binds the choice of a GPU.
    #[serde(default, skip_serializing_if = "Rules::is_default")]
    pub rules: Rules,
}

impl Profile {
    /// Returns a profile of which nothing but the wish was said.
    #[must_use]
    pub fn new(name: ProfileName, wish: Wish) -> Self {
        Self {
            name,
            wish,
            class: None,
            policy: Policy::default(),
            float: Float::default(),
            display: false,
            ramfb: false,
            peers: false,
            weight: None,
            parameters: None,
            rules: Rules::default(),
        }
    }
}

/// One candidate of an explanation: what a parent could give a profile now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The mdev parent or PF.
    pub parent: DeviceName,
    /// The GPU it is on.
    pub gpu: GpuId,
    /// The type that would be made, when one matches.
    pub mdev_type: Option<MdevTypeId>,
    /// How many can be served now; types of one parent share its memory, so counts do not add up over types.
    pub possible: u32,
    /// Why none, when `possible` is 0; one sentence.
    pub reason: Option<String>,
    /// What the policy makes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
}
