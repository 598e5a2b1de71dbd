//! NVIDIA's management library. Loaded when asked for; that it is absent is an ordinary answer.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nvml {
    /// Not usable, and why, in one line.
    Absent(String),
    /// Usable.
    Present(Summary),
}

impl fmt::Display for Nvml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(reason) => write!(f, "absent: {reason}"),
            Self::Present(Summary { driver_version, nvml_version, devices }) => {
                write!(f, "{nvml_version}, driver {driver_version}, {devices} GPUs")
            }
        }
    }
}

/// What the library says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of NVIDIA's driver.
    pub driver_version: String,
    /// Version of the library.
    pub nvml_version: String,
    /// GPUs that the library sees.
    pub devices: u32,
}

/// Loads the library, asks it, and lets it go again: a session that stays open keeps `sriov-manage`
/// from working (NVIDIA's unbind lock). Can take a second while the driver wakes a GPU.
#[cfg(feature = "nvml")]
#[must_use]
pub fn probe() -> Nvml {
    match ask() {
        Ok(summary) => Nvml::Present(summary),
        Err(error) => Nvml::Absent(error.to_string()),
    }
}

#[cfg(feature = "nvml")]
fn ask() -> Result<Summary, nvml_wrapper::error::NvmlError> {
    let nvml = nvml_wrapper::Nvml::init()?;
    let summary = Summary {
        driver_version: nvml.sys_driver_version()?,
        nvml_version: nvml.sys_nvml_version()?,
        devices: nvml.device_count()?,
    };
    nvml.shutdown()?;
    Ok(summary)
}

/// Says that this build cannot ask.
#[cfg(not(feature = "nvml"))]
#[must_use]
pub fn probe() -> Nvml {
    Nvml::Absent("built without the feature `nvml`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_library_is_an_answer_with_a_reason() {
        match probe() {
            Nvml::Absent(reason) => assert!(!reason.is_empty()),
            Nvml::Present(summary) => assert!(!summary.driver_version.is_empty()),
        }
    }
}
