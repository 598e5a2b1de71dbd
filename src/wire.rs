//! Requests and answers as they travel over the socket. Version 1, JSON.
//!
//! Paths: `GET /v1/gpus`, `GET /v1/usage`, `GET /v1/status`, `GET /v1/boot-report`, `GET /v1/history`, `GET|PUT|DELETE /v1/profiles[/NAME]`,
//! `GET /v1/capacity`, `GET /v1/explain?of=`, `GET /v1/profiles/NAME/explain`, `POST /v1/profiles/NAME/edit`, `GET|POST /v1/allocations`,
//! `POST /v1/detach`, `POST /v1/start`, `GET /v1/queue`, `POST /v1/queue/cancel`, `POST /v1/room`, `POST /v1/terms`,
//! `PUT|DELETE /v1/gpus/GPU`, `PUT|DELETE /v1/vfs/PF`, `DELETE /v1/vfs`, `POST|DELETE /v1/mdevs[/UUID]`, `POST /v1/adopt`,
//! `POST /v1/mdevs/UUID/adopt`, `POST /v1/disown`, `POST /v1/rebuild`, `POST /v1/hook`.
//! A refusal is a [`Refusal`] with the HTTP status of its kind.

mod check;
mod foreign;
mod insight;
mod room;
mod slice_list;
mod usage;
mod waiting;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::{
    Allocation, AllocationId, CapacityMode, Device, DeviceName, DomainUuid, Gpu, GpuId, Holder, MdevTypeId,
    MdevUuid, MigWish, OwnerName, PciAddress, Policy, Profile, ProfileName, Repoint, RunId, ScanProblem,
    SchedulerPolicy, Siblings, SizeMode, Terms,
};
pub use crate::model::{
    BootReport, BootStep, Candidate, Capacity, Decision, GpuCapacity, HistoryEntry, HookDevice, Kind,
    Progress, Refusal, Restored,
};
pub use check::{Check, Checked};
pub use foreign::{Adopt, AdoptMdev, Adopted, Disown, Drift, DriftKind, Rebuild, Rebuilt};
pub use insight::Explained;
pub use room::{MakeRoom, RoomAct, RoomMade, RoomStep};
pub use slice_list::slices;
pub use usage::{Usage, VgpuOwner};
pub use waiting::{CancelWait, Queue, WaitingStart};

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
        /// Whether it is kept for that domain while it is off.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        guaranteed: bool,
    },
    /// Made by somebody else: shown, counted, never touched.
    Foreign {
        /// Who made it, where it can be told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        maker: Option<String>,
    },
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
    /// The libvirt daemon's version, such as `9.7.0`; `None` before the first connection.
    #[serde(default)]
    pub libvirt_version: Option<String>,
    /// NVIDIA's management library: its version, or why it is not there.
    pub nvml: String,
    /// Kernel changes that have not ended, one sentence each.
    pub unfinished: Vec<String>,
    /// Things an admin should know, one sentence each.
    pub warnings: Vec<String>,
    /// What was brought back in this boot, and what was not; see `GET /v1/boot-report`.
    #[serde(default)]
    pub boot: Vec<BootStep>,
    /// Why nothing is changed until the database is made anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<String>,
    /// What of ours was changed by hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<Drift>,
    /// Starts that wait for room; see `GET /v1/queue`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<WaitingStart>,
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
    /// The policy that counts: the profile's, or what the configuration says.
    #[serde(default)]
    pub policy: Policy,
    /// Best first.
    pub candidates: Vec<Candidate>,
    /// What binds the allocation that was asked for, and how to lift it; one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bounds: Vec<String>,
    /// What each GPU makes of the profile's weight and plugin parameters; one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
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
    /// On what terms.
    #[serde(default, skip_serializing_if = "Terms::is_default")]
    pub terms: Terms,
    /// Who they are for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerName>,
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

/// Body of `POST /v1/terms`. What is left out stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetTerms {
    /// An allocation's id; or a domain's name or UUID: all of its allocations.
    pub which: String,
    /// What is held while the domain is off.
    #[serde(default)]
    pub mode: Option<CapacityMode>,
    /// Whether it starts on one GPU only.
    #[serde(default)]
    pub pin: Option<bool>,
    /// When the VF it names may be exchanged.
    #[serde(default)]
    pub repoint: Option<Repoint>,
    /// Where the domain's other slices shall be.
    #[serde(default)]
    pub siblings: Option<Siblings>,
    /// Forget what its first start settled.
    #[serde(default)]
    pub unsettle: bool,
}

/// Body of `POST /v1/profiles/NAME/edit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditProfile {
    /// The profile as the caller saw it: refused when it is another one now.
    pub was: Profile,
    /// The profile as it shall be.
    pub wanted: Profile,
    /// Say what would happen, change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// Answer of `POST /v1/profiles/NAME/edit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edited {
    /// Whether anything changed.
    pub change: Change,
    /// What an admin should know, one sentence each.
    pub notes: Vec<String>,
    /// Every allocation that follows the profile, by domain.
    pub affected: Vec<Affected>,
}

/// An allocation that follows a changed profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affected {
    /// Which.
    pub allocation: AllocationId,
    /// Its domain's name.
    pub domain: String,
    /// Whether the domain runs; `None` when libvirt did not say.
    pub running: Option<bool>,
    /// What changes for it, one clause each; empty when nothing does.
    pub effects: Vec<String>,
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
    /// It is guaranteed and not there: removed by somebody else, or not made again since the host came up. The
    /// domain's next start makes it.
    Missing,
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

/// Body of `POST /v1/start`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The domain's name or UUID.
    pub domain: String,
    /// Say what would happen, change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Wait for room, for at most so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_s: Option<u32>,
    /// Stop domains of preemptible profiles and lesser priority when nothing has room.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preempt: bool,
    /// Save those that can be saved instead of shutting them down.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub save: bool,
}

/// An address that was exchanged in a definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repointed {
    /// Of which allocation.
    pub allocation: AllocationId,
    /// The VF that was named before.
    pub from: PciAddress,
    /// The VF that is named now.
    pub to: PciAddress,
    /// Why: a clause that follows `from`.
    pub why: String,
}

/// Answer of `POST /v1/start`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Whether it was started.
    pub change: Change,
    /// Its name.
    pub domain: String,
    /// What was exchanged in its definition before.
    pub repointed: Vec<Repointed>,
    /// Its slices, where they are.
    pub allocations: Vec<AllocationView>,
    /// What an admin should know, one sentence each.
    pub notes: Vec<String>,
}

/// Body of `PUT /v1/vfs/PF`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetVfs {
    /// VFs wanted.
    pub count: u32,
}

/// Body of `PUT /v1/gpus/GPU`: how a GPU shall be set. What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SetGpu {
    /// VFs wanted.
    pub vfs: Option<u32>,
    /// How it is divided by MIG: `off`, or GPU instance profiles with commas between.
    pub mig: Option<MigWish>,
    /// Whether vGPUs of several framebuffer sizes may share it.
    pub mode: Option<SizeMode>,
    /// How time-sliced vGPUs share its engines.
    pub scheduler: Option<SchedulerPolicy>,
    /// The time slice in milliseconds, of the schedulers that have one.
    pub time_slice_ms: Option<u32>,
    /// Only say what would be done.
    pub dry_run: bool,
}

impl std::fmt::Display for SetGpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            self.vfs.map(|vfs| format!("{vfs} VFs")),
            self.mig.as_ref().map(|mig| format!("MIG {mig}")),
            self.mode.map(|mode| format!("mode {mode}")),
            self.scheduler.map(|policy| format!("scheduler {policy}")),
            self.time_slice_ms.map(|slice| format!("time slice {slice} ms")),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
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
    /// `restore begin`: a saved guest is about to be resumed; which devices does it get?
    Restore,
    /// `migrate begin`: a guest is about to come from another host; the same question.
    Migrate,
}

impl HookOp {
    /// Returns what libvirt calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Started => "started",
            Self::Release => "release",
            Self::Reconnect => "reconnect",
            Self::Restore => "restore",
            Self::Migrate => "migrate",
        }
    }

    /// Returns whether a refusal stops what libvirt is about to do. The others must never: a failure of theirs
    /// kills a running guest.
    #[must_use]
    pub const fn may_refuse(self) -> bool {
        match self {
            Self::Prepare | Self::Restore | Self::Migrate => true,
            Self::Started | Self::Release | Self::Reconnect => false,
        }
    }
}

/// A VF that a resumed guest gets instead of the one that its XML names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchanged {
    /// For which allocation.
    pub allocation: AllocationId,
    /// What the XML names.
    pub from: PciAddress,
    /// What it must name.
    pub to: PciAddress,
}

/// Answer of `POST /v1/hook`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookAnswer {
    /// Whether anything changed.
    pub change: Change,
    /// What changed, one sentence each.
    pub notes: Vec<String>,
    /// To `restore` and `migrate`: the addresses to be exchanged in the XML.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exchanges: Vec<Exchanged>,
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
    /// The NUMA nodes of the domain's memory, as its XML says.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub nodes: BTreeSet<u32>,
}
