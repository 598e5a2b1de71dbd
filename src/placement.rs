//! Choosing where slices are made. Functions of their arguments: no I/O, no clock, no randomness; the
//! same host gives the same answer in whatever order it was read.
//!
//! All slices of one request are chosen together, all or none. A refusal is true for what was read: it is
//! given only when no assignment exists in which every type of every parent stays within what it has
//! left. Types of one parent share its memory, which only the driver can count; so the kernel has the
//! last word, and its refusal comes back as a [`Barred`] for the next try.

mod capacity;
mod constraints;
mod matching;
mod offer;
mod policy;
mod refusal;
mod repoint;
mod resume;
mod room;
mod usage;
mod vf;
mod vgpu;
mod weigh;

use std::collections::{BTreeMap, BTreeSet};

pub use capacity::{Weighted, capacity, weights};
pub use constraints::{Resident, Subject, Tie, choose_tied, gates};
pub use policy::seed;
pub use refusal::{NoPlacement, Passed};
pub use repoint::{DomainState, Move, Occasion, Scene, repoint};
pub use resume::{Resumed, resume};
pub use room::{
    Disturbance, Disturbed, MOST_DISTURBED, Party, RoomPlan, Site, Tenant, defragment, make_room,
};
pub use usage::{Memory, Usage, usage};
pub use vf::{Must, Naming, choose_vf};
pub use vgpu::maps;
pub use weigh::weigh;

use crate::model::{
    AllocationId, BackendKind, Candidate, Device, DeviceKind, DeviceName, GpuId, HostDriver, HostSnapshot,
    Kind, MdevTypeId, MdevUuid, PciId, Profile, Wish,
};
use crate::placement::matching::{Accepted, Choosy, Seats};
use crate::placement::offer::{Offer, offers};
use crate::profile::Bounds;

/// One slice that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// For which allocation.
    pub allocation: AllocationId,
    /// By which profile.
    pub profile: Profile,
    /// What else binds it.
    pub bounds: Bounds,
    /// What the domain's XML names.
    pub device: Device,
}

/// Where one slice will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// For which allocation.
    pub allocation: AllocationId,
    /// What the domain's XML names.
    pub device: Device,
    /// On which GPU.
    pub gpu: GpuId,
    /// The mdev parent, or the PF of a VF.
    pub parent: DeviceName,
    /// The type of an mdev, or the vGPU type of a VF.
    pub mdev_type: Option<MdevTypeId>,
    /// The id of a VF.
    pub vf_id: Option<PciId>,
    /// Whether the VF or whole GPU must first be given to its VFIO driver.
    pub bind: bool,
    /// The functions of a whole GPU that are on drivers of the host, with those drivers.
    pub functions: Vec<HostDriver>,
}

/// Whose a slice that exists is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// It was made for an allocation.
    Allocation {
        /// The allocation.
        allocation: AllocationId,
        /// The domain's name.
        domain: String,
        /// Whether it is kept for that domain while it is off.
        guaranteed: bool,
    },
    /// An admin had it made by hand, without a domain.
    Handmade,
    /// Somebody else made it, and it can be told who.
    Foreign(String),
}

/// The slices that exist and are ours, by device: the realized records and those made by hand, and the VFs
/// that are guaranteed. A stopped domain's other allocations have none, so they are not in here. A device
/// that is not in here is foreign or free; of mdevs that are foreign, those whose maker is known are in here.
pub type Owners = BTreeMap<Device, Owner>;

/// Something that must not be chosen now, whatever the snapshot says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Barred {
    /// The mdev parent or PF.
    pub parent: DeviceName,
    /// Only this type of it; `None` is all of it.
    pub mdev_type: Option<MdevTypeId>,
    /// Why, as a clause that follows the parent's name: `its driver answered ENOSPC`.
    pub reason: String,
}

/// Chooses a place for each want. The answer is in the order of `wants`.
///
/// An mdev goes to the parent that its policy puts first: the least tier, value and tie of its score, counted with
/// what this request already put on the same GPU, then the least name. A want that names a VF gets that VF.
///
/// # Errors
/// When not all of them can be had: then none is.
pub fn choose(
    wants: &[Want],
    snapshot: &HostSnapshot,
    owners: &Owners,
    barred: &[Barred],
) -> Result<Vec<Choice>, NoPlacement> {
    check_devices(wants, snapshot, owners)?;
    let mut choices: Vec<Option<Choice>> = vf::named(wants, snapshot, owners, barred)?;
    let mut seats = Seats::default();
    let mut menu: Vec<(&Want, Vec<Accepted<'_>>)> = Vec::new();
    let mut seated: Vec<usize> = Vec::new();
    for (index, want) in wants.iter().enumerate() {
        if !matches!(want.device, Device::Mdev(_)) {
            continue;
        }
        let alike = |other: &Want| other.profile == want.profile && other.bounds == want.bounds;
        if !menu.iter().any(|(other, _)| alike(other)) {
            let fitting = offers(&want.profile, &want.bounds, snapshot, owners, barred);
            menu.push((want, fitting.iter().filter_map(|offer| seats.add(offer)).collect()));
        }
        let places = menu.iter().find(|(other, _)| alike(other));
        let places = places.map(|(_, places)| places.clone()).unwrap_or_default();
        let policy = offer::policy_of(&want.profile, &want.bounds);
        if !seats.take(&places, Choosy { policy, seed: want.bounds.taste.seed }) {
            return Err(refusal::full(wants, want, snapshot, owners, barred));
        }
        seated.push(index);
    }
    for (guest, index) in seated.into_iter().enumerate() {
        choices[index] = seats.of(guest).map(|seat| mdev_choice(&wants[index], seat));
    }
    Ok(choices.into_iter().flatten().collect())
}

fn mdev_choice(want: &Want, seat: &matching::Seat<'_>) -> Choice {
    Choice {
        allocation: want.allocation.clone(),
        device: want.device,
        gpu: seat.gpu.id.clone(),
        parent: seat.parent.clone(),
        mdev_type: Some(seat.mdev_type.id.clone()),
        vf_id: None,
        bind: false,
        functions: Vec::new(),
    }
}

/// Refuses wants that no host could serve: kinds that do not go together, devices that are taken.
fn check_devices(wants: &[Want], snapshot: &HostSnapshot, owners: &Owners) -> Result<(), NoPlacement> {
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for want in wants {
        let device = want.device;
        let fault = match (device, &want.profile.wish) {
            _ if !seen.insert(device) => Some("is wanted twice in one request".to_owned()),
            (Device::Mdev(_), Wish::Vf(_) | Wish::Gpu(_)) => Some(other_kind(want, "a mediated device")),
            (Device::Mdev(uuid), _) => existing(uuid, snapshot, owners),
            // Whether its GPU makes what is asked for is seen when it is taken.
            (Device::Vf(_), _) => None,
        };
        wrong.extend(fault.map(|text| Passed { place: device.to_string(), text }));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(NoPlacement::new(refusal::asked(wants), wrong, Kind::Conflict))
    }
}

fn other_kind(want: &Want, what: &str) -> String {
    let Profile { name, wish, .. } = &want.profile;
    format!("is {what}, but profile {name} now asks for {wish}: detach it and attach again")
}

fn existing(uuid: MdevUuid, snapshot: &HostSnapshot, owners: &Owners) -> Option<String> {
    let (_, parent, mdev) = snapshot.mdev(uuid)?;
    let whose = offer::mdev_owner(mdev, owners);
    Some(format!("exists already on {} as {}, made by {whose}", parent.name, mdev.mdev_type))
}

/// Returns with which kind of hostdev a new allocation of this profile is served best: that of the place where a
/// slice would be made now, else of one that could make it at another time. It stays so for the allocation.
#[must_use]
pub fn device_kind(
    profile: &Profile,
    snapshot: &HostSnapshot,
    owners: &Owners,
    barred: &[Barred],
) -> DeviceKind {
    if let Some(kind) = profile.wish.device_kind() {
        return kind;
    }
    let mut all = offers(profile, &Bounds::default(), snapshot, owners, barred);
    all.sort_by(Offer::best_first);
    let best = all.iter().find_map(|offer| offer.matched.fit.as_ref().ok());
    let makes = |kind: BackendKind| snapshot.gpus.iter().any(|gpu| gpu.backend == kind);
    best.map_or_else(
        || match (makes(BackendKind::NvidiaVfio) || makes(BackendKind::Xe))
            && !makes(BackendKind::Mdev)
            && !profile.display
        {
            true => DeviceKind::Pci,
            false => DeviceKind::Mdev,
        },
        |fit| fit.device_kind(),
    )
}

/// Says what each parent could give a profile within `bounds` now, best first: the first one is where a
/// single slice would be made.
#[must_use]
pub fn explain(
    profile: &Profile,
    bounds: &Bounds,
    snapshot: &HostSnapshot,
    owners: &Owners,
    barred: &[Barred],
) -> Vec<Candidate> {
    let mut all = offers(profile, bounds, snapshot, owners, barred);
    all.sort_by(Offer::best_first);
    all.iter().map(|offer| offer.candidate(owners)).collect()
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
