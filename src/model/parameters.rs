//! Plugin parameters of NVIDIA's vGPUs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::IdError;

/// Parameters of the plugin that runs a vGPU for its guest, as `frame_rate_limiter=0,disable_vnc=1`: pairs with commas, at
/// most [`PluginParameters::MOST`] bytes. NVIDIA's driver takes them in the vGPU's attribute `vgpu_params`, and knows
/// more names than its guides list, so names are not judged here. Where a vGPU sits on its GPU is no parameter here:
/// that is placement's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PluginParameters(String);

const WANTED: &str = "list of plugin parameters (such as frame_rate_limiter=0,disable_vnc=1)";

/// Names by which NVIDIA's guides and driver have the place of a vGPU.
const PLACES: [&str; 2] = ["vgpu-placement-id", "vgpu_placement_id"];

impl PluginParameters {
    /// Most bytes of the whole list; an attribute takes a page.
    pub const MOST: usize = 1024;

    /// Returns the list as the driver takes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PluginParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for PluginParameters {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() > Self::MOST {
            return Err(IdError::new("list of plugin parameters (at most 1024 bytes)", text));
        }
        let mut names = Vec::new();
        for pair in text.split(',') {
            let (name, value) = pair.split_once('=').ok_or_else(|| IdError::new(WANTED, text))?;
            let plain = |part: &str| {
                let is_one = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
                !part.is_empty() && part.bytes().all(is_one)
            };
            if !plain(name) || !plain(value) {
                return Err(IdError::new(WANTED, text));
            }
            if PLACES.contains(&name) {
                return Err(IdError::new(
                    "list without vgpu-placement-id, as vgpud and the driver place",
                    text,
                ));
            }
            if names.contains(&name) {
                return Err(IdError::new("list with each parameter once", text));
            }
            names.push(name);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for PluginParameters {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<PluginParameters> for String {
    fn from(parameters: PluginParameters) -> Self {
        parameters.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_with_commas_and_nothing_that_could_mean_more() {
        for right in ["enable_uvm=1", "frame_rate_limiter=0,disable_vnc=1", "override_bar1_size=0x10,a-b=1.5"]
        {
            let read: PluginParameters = right.parse().expect("parameters");
            assert_eq!(read.as_str(), right, "as they were given");
        }
        for wrong in ["", " ", "enable_uvm", "=1", "enable_uvm=", "a=1,", "a=1, b=2", "a=1\n", "a=1=2", "a=ä"]
        {
            assert!(wrong.parse::<PluginParameters>().is_err(), "{wrong:?}");
        }
        let refusal = |text: &str| text.parse::<PluginParameters>().expect_err("refused").to_string();
        assert!(refusal("vgpu-placement-id=8").contains("place"), "{}", refusal("vgpu-placement-id=8"));
        assert!(refusal("a=1,b=2,a=1").contains("once"));
        assert!(refusal(&format!("a={}", "1".repeat(1024))).contains("1024"));
    }
}
