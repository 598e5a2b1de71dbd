//! The content of the ledger in memory, and the changes it can take.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{
    Allocation, AllocationId, BootId, BootReport, CapacityMode, Device, DeviceName, DomainUuid, GpuId,
    GpuSetting, HelperId, HistoryEntry, MdevTypeId, MdevUuid, Profile, ProfileName, Realized, RunId, Step,
};

/// Number of an intent; grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IntentId(pub u64);

/// One kernel change that is about to be made, or whose end was not seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Its number.
    pub id: IntentId,
    /// The change.
    pub step: Step,
    /// For whom; `None` for changes without an allocation.
    pub allocation: Option<AllocationId>,
    /// On which GPU.
    pub gpu: GpuId,
    /// The run it belongs to, or when it was asked for.
    pub run: RunId,
    /// The boot it belongs to; another one voids it.
    pub boot_id: BootId,
    /// The helper process that does it, when one does.
    pub helper: Option<HelperId>,
}

/// How many VFs the admin wants on a PF.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VfWish {
    /// The PF by its stable identity.
    pub gpu: GpuId,
    /// VFs wanted.
    pub count: u32,
    /// `sriov_drivers_autoprobe` as it was before vgpud first changed the PF.
    pub autoprobe_before: Option<bool>,
    /// The boot in which it was last set. In another one it is due to be restored.
    pub boot_id: BootId,
}

/// How the admin wants a GPU to be set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingWish {
    /// The GPU by its stable identity.
    pub gpu: GpuId,
    /// What is wanted.
    pub setting: GpuSetting,
    /// The boot in which it was last brought about. In another one it is due; `None`: it is under way.
    pub boot_id: Option<BootId>,
}

/// An mdev made by an admin's word, without a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handmade {
    /// Its name.
    pub uuid: MdevUuid,
    /// Its parent.
    pub parent: DeviceName,
    /// Its type.
    pub mdev_type: MdevTypeId,
    /// The boot it was made in.
    pub boot_id: BootId,
}

/// One change of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Store a profile.
    PutProfile(Profile),
    /// Forget a profile.
    DeleteProfile(ProfileName),
    /// Store an allocation.
    PutAllocation(Allocation),
    /// Forget an allocation.
    DeleteAllocation(AllocationId),
    /// Remember that a slice exists.
    PutRealized(Realized),
    /// Its slice is gone.
    DeleteRealized(AllocationId),
    /// Announce a kernel change.
    OpenIntent(Intent),
    /// It ended.
    CloseIntent(IntentId),
    /// Remember how many VFs are wanted.
    PutWish(VfWish),
    /// Forget how many were wanted on a PF.
    DeleteWish(GpuId),
    /// Remember how a GPU is to be set.
    PutSetting(SettingWish),
    /// Forget how it was to be set.
    DeleteSetting(GpuId),
    /// Remember an mdev without a domain.
    PutHandmade(Handmade),
    /// It is gone.
    DeleteHandmade(MdevUuid),
    /// Remember what was brought back after the boot.
    PutBootReport(BootReport),
    /// Remember the GPU that the newest slice of a profile went to.
    PutRota(ProfileName, GpuId),
    /// Append to the history. Not part of the book.
    Record(HistoryEntry),
}

/// Everything the ledger holds, but the history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    /// Counts changes; an answer with a newer one is newer.
    pub generation: u64,
    /// By name.
    pub profiles: BTreeMap<ProfileName, Profile>,
    /// By id.
    pub allocations: BTreeMap<AllocationId, Allocation>,
    /// Slices that exist, by allocation.
    pub realized: BTreeMap<AllocationId, Realized>,
    /// Changes under way.
    pub intents: BTreeMap<IntentId, Intent>,
    /// Wished VF counts.
    pub wishes: BTreeMap<GpuId, VfWish>,
    /// How GPUs are to be set.
    pub settings: BTreeMap<GpuId, SettingWish>,
    /// What was brought back after the last boot that the ledger saw.
    pub boot_report: Option<BootReport>,
    /// Mdevs without a domain.
    pub handmade: BTreeMap<MdevUuid, Handmade>,
    /// The GPU that the newest slice of each profile went to, for the policy that goes round.
    pub rota: BTreeMap<ProfileName, GpuId>,
}

impl Book {
    pub(super) fn apply(&mut self, change: Change) {
        self.generation += 1;
        match change {
            Change::PutProfile(profile) => drop(self.profiles.insert(profile.name.clone(), profile)),
            Change::DeleteProfile(name) => drop(self.profiles.remove(&name)),
            Change::PutAllocation(allocation) => {
                drop(self.allocations.insert(allocation.id.clone(), allocation));
            }
            Change::DeleteAllocation(id) => drop(self.allocations.remove(&id)),
            Change::PutRealized(record) => drop(self.realized.insert(record.allocation.clone(), record)),
            Change::DeleteRealized(id) => drop(self.realized.remove(&id)),
            Change::OpenIntent(intent) => drop(self.intents.insert(intent.id, intent)),
            Change::CloseIntent(id) => drop(self.intents.remove(&id)),
            Change::PutWish(wish) => drop(self.wishes.insert(wish.gpu.clone(), wish)),
            Change::DeleteWish(gpu) => drop(self.wishes.remove(&gpu)),
            Change::PutSetting(wish) => drop(self.settings.insert(wish.gpu.clone(), wish)),
            Change::DeleteSetting(gpu) => drop(self.settings.remove(&gpu)),
            Change::PutHandmade(made) => drop(self.handmade.insert(made.uuid, made)),
            Change::DeleteHandmade(uuid) => drop(self.handmade.remove(&uuid)),
            Change::PutBootReport(report) => self.boot_report = Some(report),
            Change::PutRota(profile, gpu) => drop(self.rota.insert(profile, gpu)),
            Change::Record(_) => {}
        }
    }

    /// Returns a number no open intent has.
    #[must_use]
    pub fn next_intent(&self) -> IntentId {
        IntentId(self.intents.keys().next_back().map_or(1, |last| last.0 + 1))
    }

    /// Returns the allocations of a domain, by id.
    pub fn of_domain(&self, domain: DomainUuid) -> impl Iterator<Item = &Allocation> {
        self.allocations.values().filter(move |allocation| allocation.domain.uuid == domain)
    }

    /// Finds the allocation whose XML names `device`, or may while its address is being exchanged.
    #[must_use]
    pub fn naming(&self, device: Device) -> Option<&Allocation> {
        let settled = self.allocations.values().find(|allocation| allocation.device == device);
        settled.or_else(|| self.allocations.values().find(|allocation| allocation.may_name(device)))
    }

    /// Finds the allocation that a device is kept for: the guaranteed one of those that name it, else any.
    #[must_use]
    pub fn reserving(&self, device: Device) -> Option<&Allocation> {
        let mut named = self.allocations.values().filter(|allocation| allocation.device == device);
        named.clone().find(|allocation| self.keeps(&allocation.id)).or_else(|| named.next())
    }

    /// Returns whether the slice of an allocation stays while its domain is off.
    #[must_use]
    pub fn keeps(&self, id: &AllocationId) -> bool {
        self.allocations.get(id).is_some_and(|one| one.terms.mode == CapacityMode::Guaranteed)
    }

    /// Returns how many allocations follow a profile.
    #[must_use]
    pub fn followers(&self, profile: &ProfileName) -> usize {
        self.allocations.values().filter(|allocation| &allocation.profile == profile).count()
    }
}
