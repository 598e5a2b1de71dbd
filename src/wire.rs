//! Requests and answers as they travel over the socket. Version 1, JSON.
//!
//! Paths: `GET /v1/gpus`, `GET /v1/status`, `GET /v1/history`, `GET|PUT|DELETE /v1/profiles[/NAME]`,
//! `GET /v1/profiles/NAME/explain`, `GET|POST /v1/allocations`, `POST /v1/detach`,
//! `PUT /v1/vfs/PF`, `POST|DELETE /v1/mdevs[/UUID]`, `POST /v1/hook`.
//! A refusal is a [`Refusal`] with the HTTP status of its kind.

mod slice_list;

use serde::{Deserialize, Serialize};

use crate::model::{
    Allocation, AllocationId, Device, DeviceName, DomainUuid, Gpu, GpuId, Holder, MdevTypeId, MdevUuid,
    Profile, ProfileName, RunId, ScanProblem,
};
pub use crate::model::{Candidate, HistoryEntry, HookDevice, Kind, Refusal};
pub use slice_list::slices;

/// Whose a slice is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "owner", rename_all = "snake_case")]
pub enum Owner {
    /// Ours.
    Allocation {
        /// The allocation.
        allocation: AllocationId,
        /// The domain's name.
        domain: String,
    },
    /// Made by somebody else: shown, counted, never touched.
    Foreign,
    /// Made with `vgpuctl mdev create`, without a domain.
    Handmade,
    /// A VF that nobody was promised.
    Free,
    /// This reader cannot know (`--direct` has no ledger).
    Unknown,
}

/// A slice that exists on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// The mdev or VF.
    pub device: Device,
    /// The GPU it is on.
    pub gpu: GpuId,
    /// The mdev parent or PF.
    pub parent: DeviceName,
    /// Its type, for an mdev.
    pub mdev_type: Option<MdevTypeId>,
    /// Whose it is.
    #[serde(flatten)]
    pub owner: Owner,
    /// Who has it open.
    pub holders: Vec<Holder>,
}

/// Answer of `GET /v1/gpus`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpus {
    /// Sorted by name.
    pub gpus: Vec<Gpu>,
    /// Sorted by GPU, then device.
    pub slices: Vec<Slice>,
    /// What could not be read.
    pub problems: Vec<ScanProblem>,
    /// Age of the reading in milliseconds.
    pub age_ms: u64,
}

/// Answer of `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The service's version.
    pub version: String,
    /// Counter of the ledger's content.
    pub generation: u64,
    /// The libvirt URI.
    pub libvirt_uri: String,
    /// `connected`, `off`, or why not.
    pub libvirt: String,
    /// NVIDIA's management library: its version, or why it is not there.
    pub nvml: String,
    /// Kernel changes that have not ended, one sentence each.
    pub unfinished: Vec<String>,
    /// Things an admin should know, one sentence each.
    pub warnings: Vec<String>,
}

/// Answer of `GET /v1/profiles`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profiles {
    /// Sorted by name.
    pub profiles: Vec<ProfileUse>,
}

/// A profile and how many allocations follow it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileUse {
    /// The profile.
    pub profile: Profile,
    /// Allocations that follow it.
    pub allocations: u32,
}

/// Answer of `GET /v1/history?domain=&allocation=&limit=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Newest first.
    pub entries: Vec<HistoryEntry>,
}

/// Whether a request changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It did.
    Done,
    /// It was already so.
    Unchanged,
    /// A dry run: it would.
    Planned,
}

/// Answer of requests that only change something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Whether anything changed.
    pub change: Change,
    /// What changed, one sentence each.
    pub notes: Vec<String>,
}

/// Answer of `GET /v1/profiles/NAME/explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The profile.
    pub profile: Profile,
    /// Best first.
    pub candidates: Vec<Candidate>,
}

/// How an allocation reaches the domain's XML.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Through {
    /// The service adds the hostdev to the inactive definition.
    Definition,
    /// The same, and it is plugged into the running guest at once.
    Live,
    /// The caller does, with the XML of the answer.
    Xml,
    /// The caller hot-plugs the XML of the answer: the slice is made at once.
    LiveXml,
}

/// Body of `POST /v1/allocations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allocate {
    /// The domain's name or UUID.
    pub domain: String,
    /// The profile.
    pub profile: ProfileName,
    /// How many slices; 1 to 16.
    pub count: u32,
    /// How it reaches the domain.
    pub through: Through,
    /// Seconds until an allocation that no domain XML shows is taken back; `None` is ten minutes.
    #[serde(default)]
    pub lease_s: Option<u32>,
    /// Say what would happen, change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// Answer of `POST /v1/allocations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocated {
    /// Whether anything changed.
    pub change: Change,
    /// The new allocations.
    pub allocations: Vec<AllocationView>,
    /// One `<hostdev>` each, in the same order.
    pub xml: Vec<String>,
    /// What an admin should know, one sentence each.
    pub notes: Vec<String>,
}

/// Body of `POST /v1/detach`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detach {
    /// The domain's name or UUID.
    pub domain: String,
    /// One allocation; `None` with `profile` `None` is all of the domain's.
    #[serde(default)]
    pub allocation: Option<AllocationId>,
    /// Only those of this profile.
    #[serde(default)]
    pub profile: Option<ProfileName>,
    /// Unplug them from the running guest too.
    #[serde(default)]
    pub live: bool,
}

/// What state an allocation's slice is in, derived from the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum SliceStatus {
    /// Promised; nothing is held while the domain is off.
    Reserved,
    /// Made, not opened yet.
    Ready {
        /// On this parent.
        parent: DeviceName,
    },
    /// A process has it open.
    InUse {
        /// On this parent.
        parent: DeviceName,
        /// Who.
        holders: Vec<Holder>,
    },
    /// A removal or creation has not ended.
    Unfinished {
        /// What, as a sentence.
        what: String,
    },
}

/// An allocation with its derived state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationView {
    /// What the ledger holds.
    #[serde(flatten)]
    pub allocation: Allocation,
    /// The slice now.
    #[serde(flatten)]
    pub slice: SliceStatus,
}

/// Answer of `GET /v1/allocations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocations {
    /// Sorted by domain name, then id.
    pub allocations: Vec<AllocationView>,
}

/// Body of `PUT /v1/vfs/PF`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetVfs {
    /// VFs wanted.
    pub count: u32,
}

/// Body of `POST /v1/mdevs`: an mdev without a domain, owned by the ledger until it is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateMdev {
    /// The parent.
    pub parent: DeviceName,
    /// The type's id.
    pub mdev_type: MdevTypeId,
    /// The UUID; `None` makes one.
    #[serde(default)]
    pub uuid: Option<MdevUuid>,
}

/// Answer of `POST /v1/mdevs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedMdev {
    /// The UUID.
    pub uuid: MdevUuid,
}

/// What libvirt calls the hook for, as far as the service wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookOp {
    /// `prepare begin`: make the slices.
    Prepare,
    /// `started begin`.
    Started,
    /// `release end`: take away what the run made.
    Release,
    /// `reconnect begin`: libvirtd restarted and the guest runs.
    Reconnect,
}

/// Body of `POST /v1/hook`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// The operation.
    pub op: HookOp,
    /// When the hook began; identifies the run for `prepare`, orders the rest after it.
    pub at: RunId,
    /// The domain.
    pub domain_uuid: DomainUuid,
    /// Its name.
    pub domain: String,
    /// Our hostdevs in the order of the XML.
    pub devices: Vec<HookDevice>,
}
