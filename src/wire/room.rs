//! Making room.

use serde::{Deserialize, Serialize};

use crate::model::{DeviceName, ProfileName};
use crate::wire::Change;

/// Body of `POST /v1/room`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MakeRoom {
    /// For one slice of this profile; `None` makes the host less fragmented.
    #[serde(default)]
    pub profile: Option<ProfileName>,
    /// Walk the plan; otherwise it is only told.
    #[serde(default)]
    pub apply: bool,
    /// Save and resume the guests instead of shutting them down; one that cannot be saved runs on.
    #[serde(default)]
    pub save: bool,
}

/// What a step does to a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomAct {
    /// Stopped and started elsewhere.
    Restart,
    /// Stopped for good.
    Stop,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomStep {
    /// The domain's name.
    pub domain: String,
    /// What happens to it.
    pub what: RoomAct,
    /// Where its slices are.
    pub from: Vec<DeviceName>,
    /// Where they will be, or are now.
    pub to: Vec<DeviceName>,
}

/// Answer of `POST /v1/room`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomMade {
    /// Whether anything was done.
    pub change: Change,
    /// In order; empty when nothing is to do.
    pub steps: Vec<RoomStep>,
    /// Where the slice would be made then.
    pub to: Vec<DeviceName>,
    /// What of the free framebuffer the mix of requests cannot use, in MiB: before, and after the plan. Only for a plan
    /// that makes the host less fragmented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fragmented_mib: Option<(u64, u64)>,
    /// What an admin should know, one sentence each.
    pub notes: Vec<String>,
}
