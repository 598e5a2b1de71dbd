//! vGPU types that a vendor's driver makes on a VF by a number, without a mediated device.
//!
//! A type has one spelling on every road: `nvidia-1155` is the directory of an mdev type and the number 1155 of
//! `current_vgpu_type`. NVIDIA numbers both out of one list.

use serde::{Deserialize, Serialize};

use crate::model::{Framebuffer, MdevTypeId};

/// What the type's directory begins with where types have directories.
const PREFIX: &str = "nvidia-";

/// A kind of vGPU that a GPU is known to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VgpuType {
    /// Its id, e.g. `nvidia-1155`.
    pub id: MdevTypeId,
    /// The driver's name for people, e.g. `NVIDIA L40S-8Q`.
    pub name: String,
    /// Framebuffer of one instance, when the name says.
    pub framebuffer: Option<Framebuffer>,
    /// Whether it is made of a GPU instance (MIG), as far as the name says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mig: bool,
}

/// What a VF's driver says of vGPU types on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VgpuSlot {
    /// The type that it has now.
    pub current: Option<MdevTypeId>,
    /// The types that can be made on it now. Empty while it has one, and while its GPU is full.
    pub creatable: Vec<MdevTypeId>,
    /// Where its vGPU sits on the GPU, in units of the GPU's own; `None` without a vGPU, and where the driver does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<u32>,
    /// The GPU instance that carries its vGPU, in MIG mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_instance: Option<u32>,
    /// The plugin parameters of its vGPU, as they were written; empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<String>,
}

impl MdevTypeId {
    /// Creates the id of the type that NVIDIA's driver writes as this number.
    #[must_use]
    pub fn from_vgpu_number(number: u32) -> Option<Self> {
        format!("{PREFIX}{number}").parse().ok()
    }

    /// Returns the number that NVIDIA's driver writes for it; `None` for a type of another driver.
    #[must_use]
    pub fn vgpu_number(&self) -> Option<u32> {
        let digits = self.as_str().strip_prefix(PREFIX)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_and_its_number_are_one() {
        let id = MdevTypeId::from_vgpu_number(1155).expect("an id");
        assert_eq!((id.as_str(), id.vgpu_number()), ("nvidia-1155", Some(1155)));
        for other in ["i915-GVTg_V5_4", "nvidia-", "nvidia-+5", "nvidia-99999999999"] {
            assert_eq!(other.parse::<MdevTypeId>().expect("an id").vgpu_number(), None, "{other}");
        }
    }
}
