//! Why NVML did not do what it was asked for.

use std::time::Duration;

use crate::model::{Kind, PciAddress, Refusal};

/// What the library made of a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// vGPUs or another client are in the way.
    #[error("the GPU is in use")]
    InUse,
    /// Not on this GPU, or not as it is set now.
    #[error("this GPU does not support it as it is set now")]
    NotSupported,
    /// What is wanted does not fit beside what there is.
    #[error("there is no room for it beside what is there")]
    NoRoom,
    /// A value out of range.
    #[error("the library does not accept the value")]
    Invalid,
    /// The service may not.
    #[error("permission denied")]
    Forbidden,
    /// The GPU fell off the bus.
    #[error("the GPU does not answer any more")]
    Lost,
    /// This version of the library cannot.
    #[error("this version of the library cannot: {0}")]
    TooOld(String),
    /// Anything else, in the library's words.
    #[error("{0}")]
    Other(String),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NvmlError {
    /// The library is not there, or not usable.
    #[error("NVML is absent: {0}")]
    Absent(String),
    /// The library knows no such GPU.
    #[error("NVML knows no GPU at {0}")]
    NoGpu(PciAddress),
    /// The answer did not come within the deadline; the call goes on aside.
    #[error("cannot {what}: no answer within {} s", .within.as_secs())]
    Late {
        /// What was asked.
        what: &'static str,
        /// The deadline.
        within: Duration,
    },
    /// An earlier call has not come back.
    #[error("cannot {what}: NVML has not answered an earlier request ({earlier})")]
    Stuck {
        /// What was asked.
        what: &'static str,
        /// What it is still at.
        earlier: &'static str,
    },
    /// A change of the GPU's driver is under way.
    #[error("cannot {0}: NVML is closed while a GPU's functions are changed")]
    Closed(&'static str),
    /// The library said no.
    #[error("cannot {what}{}", .gpu.map(|gpu| format!(" of {gpu}")).unwrap_or_default())]
    Failed {
        /// What was asked.
        what: String,
        /// Of which GPU.
        gpu: Option<PciAddress>,
        /// What the library said.
        #[source]
        fault: Fault,
    },
}

impl NvmlError {
    /// Returns what the library said, when it was asked.
    #[must_use]
    pub const fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Failed { fault, .. } => Some(fault),
            _ => None,
        }
    }

    /// Returns whether the same call may work later without anything being done about it.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Late { .. } | Self::Stuck { .. } | Self::Closed(_) => true,
            Self::Absent(_) | Self::NoGpu(_) | Self::Failed { .. } => false,
        }
    }

    const fn kind(&self) -> Kind {
        match self {
            Self::NoGpu(_) => Kind::NotFound,
            Self::Late { .. } | Self::Stuck { .. } | Self::Closed(_) => Kind::Busy,
            Self::Absent(_) => Kind::HostFault,
            Self::Failed { fault, .. } => match fault {
                Fault::InUse => Kind::Busy,
                Fault::NotSupported => Kind::Conflict,
                Fault::NoRoom => Kind::NoCapacity,
                Fault::Invalid => Kind::Usage,
                Fault::Forbidden | Fault::Lost | Fault::TooOld(_) | Fault::Other(_) => Kind::HostFault,
            },
        }
    }

    fn hint(&self) -> Option<String> {
        let Self::Failed { fault, gpu, .. } = self else {
            return match self {
                Self::Absent(_) => {
                    Some("install NVIDIA's vGPU host driver, which brings libnvidia-ml.so.1".into())
                }
                Self::Late { .. } | Self::Stuck { .. } => {
                    Some("the kernel log says whether a GPU is wedged: dmesg | grep NVRM".into())
                }
                _ => None,
            };
        };
        let here = gpu.map(|gpu| format!(" {gpu}")).unwrap_or_default();
        match fault {
            Fault::InUse => Some(format!(
                "vGPUs exist on this GPU: stop their domains and detach what is guaranteed; vgpuctl gpus lists them under{here}"
            )),
            Fault::NotSupported => Some(format!("vgpuctl top -o json shows what GPU{here} is set to")),
            Fault::Lost => Some("dmesg | grep NVRM says why; a reset or reboot brings it back".into()),
            Fault::TooOld(_) => Some("a newer vGPU host driver brings a newer library".into()),
            Fault::NoRoom | Fault::Invalid | Fault::Forbidden | Fault::Other(_) => None,
        }
    }
}

impl From<NvmlError> for Refusal {
    fn from(error: NvmlError) -> Self {
        let refusal = Self::from_error(error.kind(), &error);
        match error.hint() {
            Some(hint) => refusal.hint(hint),
            None => refusal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_was_tried_on_what_and_what_to_do() {
        let error = NvmlError::Failed {
            what: "set the size mode to mixed".to_owned(),
            gpu: "0000:41:00.0".parse().ok(),
            fault: Fault::InUse,
        };
        assert!(!error.retryable());
        let refusal = Refusal::from(error);
        assert_eq!(refusal.kind, Kind::Busy);
        assert_eq!(refusal.message, "cannot set the size mode to mixed of 0000:41:00.0: the GPU is in use");
        assert!(refusal.hints[0].starts_with("vGPUs exist on this GPU: stop"));
    }
}
