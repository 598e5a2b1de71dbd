//! What was brought back after a boot, a module reload or a sleep of the host, step by step.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{AllocationId, BootId, DomainUuid, GpuId};

/// What one step brings back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Restored {
    /// MIG mode of a GPU of NVIDIA's.
    Mig {
        /// The GPU by its stable identity.
        gpu: GpuId,
    },
    /// The remembered number of VFs of a PF.
    Vfs {
        /// The PF by its stable identity.
        gpu: GpuId,
    },
    /// Its VFs on their VFIO driver.
    Binding {
        /// The PF by its stable identity.
        gpu: GpuId,
    },
    /// The GPU instances of a GPU of NVIDIA's in MIG mode.
    Instances {
        /// The GPU by its stable identity.
        gpu: GpuId,
    },
    /// Mixed or equal sizes on a GPU of NVIDIA's.
    Mode {
        /// The GPU by its stable identity.
        gpu: GpuId,
    },
    /// The scheduler of a GPU of NVIDIA's.
    Scheduler {
        /// The GPU by its stable identity.
        gpu: GpuId,
    },
    /// The turns of a guaranteed VF, by its profile's weight.
    Quantum {
        /// Whose VF.
        allocation: AllocationId,
        /// On which GPU.
        gpu: GpuId,
    },
    /// The slice of a guaranteed allocation.
    Slice {
        /// Whose slice.
        allocation: AllocationId,
        /// On which GPU.
        gpu: GpuId,
    },
    /// What a domain needs that libvirt starts by itself. Nothing is made for it; it is waited for.
    Start {
        /// The domain.
        domain: DomainUuid,
    },
}

impl Restored {
    /// Returns the GPU that the step is about.
    #[must_use]
    pub const fn gpu(&self) -> Option<&GpuId> {
        match self {
            Self::Mig { gpu }
            | Self::Instances { gpu }
            | Self::Vfs { gpu }
            | Self::Binding { gpu }
            | Self::Mode { gpu }
            | Self::Scheduler { gpu }
            | Self::Quantum { gpu, .. }
            | Self::Slice { gpu, .. } => Some(gpu),
            Self::Start { .. } => None,
        }
    }
}

/// How far a step is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Progress {
    /// It is so.
    Done,
    /// The kernel is at it.
    Working,
    /// A fact is missing; the step goes on when it comes.
    Waiting {
        /// Which fact, as a clause: `a driver on 0000:01:00.0`.
        waits_for: String,
    },
    /// It was tried, or what it waits for did not come in time; it is tried again later, or goes on when that comes.
    Failed {
        /// Why, in one line.
        why: String,
    },
    /// Nothing is done about it, on purpose.
    Left {
        /// Why, in one line.
        why: String,
    },
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Working => f.write_str("under way"),
            Self::Waiting { waits_for } => write!(f, "waiting for {waits_for}"),
            Self::Failed { why } => write!(f, "failed: {why}"),
            Self::Left { why } => write!(f, "left alone: {why}"),
        }
    }
}

/// One step of bringing things back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootStep {
    /// What it brings back.
    #[serde(flatten)]
    pub what: Restored,
    /// Where, for people: the name in sysfs, the identity of what is not there, or the domain.
    pub place: String,
    /// What is wanted there.
    pub wanted: String,
    /// What is there.
    pub found: String,
    /// How far it is.
    #[serde(flatten)]
    pub progress: Progress,
    /// How long it took, or takes already.
    pub took_ms: u64,
}

/// What was brought back since the host booted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootReport {
    /// The boot it is about.
    pub boot_id: BootId,
    /// When the service first began in this boot: seconds since the epoch.
    pub began_at: i64,
    /// How long it took then until the service was ready and libvirt could start; `None` before that.
    pub ready_ms: Option<u64>,
    /// What was still missing when the service stopped waiting for it.
    pub gave_up: Vec<String>,
    /// Sorted by kind, then by what it is about.
    pub steps: Vec<BootStep>,
}
