//! What must come back, which fact each step waits for, and what can be done now. Pure: the book, a reading
//! of the host and what is remembered of this boot in, steps with a verdict out.
//!
//! Facts have an order, and a step waits for the first one that is missing: the device in its slot, a
//! driver, the attributes, the VFs, their VFIO driver; for a slice its GPU, its type, room for it.

mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use settings::{behind, setting, unset};

use super::road::{self, Ground, Stage};
use crate::engine::guaranteed::{is_guaranteed, place_of};
use crate::ledger::{Book, VfWish};
use crate::model::{
    Allocation, AllocationId, BootId, Device, DomainRef, Gpu, GpuId, GpuState, HookDevice, HostSnapshot,
    MdevTypeId, PciAddress, Quantum, Restored, Settled, Sriov, Vf,
};
use crate::profile::{self, Bounds, Fit, SavedImage};

/// Why a slice that went while its GPU stayed is not made again.
pub(super) const REMOVED: &str =
    "it was removed by hand in this boot; the domain's next start makes it again";

/// A domain that libvirt starts by itself, and the hostdevs of its definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Starting {
    /// Which.
    pub domain: DomainRef,
    /// What it names; not all of it need be ours.
    pub devices: Vec<HookDevice>,
}

/// Everything a plan is made from.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) book: &'a Book,
    pub(super) boot_id: &'a BootId,
    pub(super) snapshot: &'a HostSnapshot,
    /// What sits in the slot of a GPU that the snapshot does not have.
    pub(super) occupants: &'a BTreeMap<GpuId, GpuId>,
    /// GPUs whose VFs and slices went without anybody's wish in this boot: they were away, their driver was
    /// loaded anew, or the host slept.
    pub(super) renewed: &'a BTreeSet<GpuId>,
    /// Slices that were there at an earlier look of this boot.
    pub(super) seen: &'a BTreeSet<AllocationId>,
    pub(super) starting: &'a [Starting],
    /// What NVIDIA's library says of the GPUs that have a setting, or why it says nothing.
    pub(super) nvml: &'a BTreeMap<GpuId, Result<GpuState, String>>,
    /// Steps whose time is up: what comes after them no longer waits.
    pub(super) overdue: &'a BTreeSet<Restored>,
}

/// Something that can be done now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    /// Set the remembered number of VFs and bind them.
    Vfs(GpuId),
    /// Switch MIG mode as it is remembered.
    Mig(GpuId),
    /// Set a GPU as it is remembered.
    Setting(GpuId),
    /// Make the slice of a guaranteed allocation.
    Slice(AllocationId),
}

/// What to do about a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is so.
    Done,
    /// This brings it about.
    Do(Work),
    /// A fact is missing.
    Waits(String),
    /// On purpose, nothing.
    Left(String),
}

/// One step as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) what: Restored,
    pub(super) place: String,
    pub(super) wanted: String,
    pub(super) found: String,
    pub(super) verdict: Verdict,
    /// How long it may wait for a fact; `None`: as long as it takes.
    pub(super) within: Option<Duration>,
}

/// Judges everything that should be there.
pub(super) fn plan(facts: &Facts<'_>) -> Vec<Planned> {
    let set = facts.book.settings.values().flat_map(|wish| setting(wish, facts));
    // MIG mode does not change beside VFs.
    let (mut steps, later): (Vec<Planned>, Vec<Planned>) =
        set.partition(|step| matches!(step.what, Restored::Mig { .. }));
    let undivided: BTreeMap<GpuId, String> = steps.iter().filter_map(|step| unset(step, facts)).collect();
    let vfs = facts.book.wishes.values().flat_map(|wish| vfs(wish, facts));
    steps.extend(vfs.map(|step| behind(step, &undivided)));
    steps.extend(later);
    let unset: BTreeMap<GpuId, String> = steps.iter().filter_map(|step| unset(step, facts)).collect();
    let to_come = steps.iter().any(|step| matches!(step.verdict, Verdict::Do(_) | Verdict::Waits(_)));
    let guaranteed = facts.book.allocations.values().filter(|one| is_guaranteed(one));
    let slices = guaranteed.filter_map(|one| {
        // How a GPU is set is not changed once a slice is on it.
        Some(behind(slice(one, &place_of(facts.book, one)?, facts, to_come), &unset))
    });
    let slices: Vec<Planned> = slices.collect();
    steps.extend(slices.iter().filter_map(|slice| quantum(slice, facts)));
    steps.extend(slices);
    steps.extend(facts.starting.iter().filter_map(|starting| start(starting, facts, to_come)));
    steps
}

/// Returns whether a plan has any step that is not just a wish of this boot that is met.
pub(super) fn is_empty(book: &Book, starting: &[Starting]) -> bool {
    book.wishes.is_empty()
        && book.settings.is_empty()
        && starting.is_empty()
        && !book.allocations.values().any(is_guaranteed)
}

// VFs ---------------------------------------------------------------------------------------------

/// The two steps of a remembered count: the VFs, and their driver.
fn vfs(wish: &VfWish, facts: &Facts<'_>) -> [Planned; 2] {
    let gpu = facts.snapshot.gpus.iter().find(|gpu| gpu.id == wish.gpu);
    let sriov = gpu.and_then(|gpu| gpu.sriov.as_ref());
    let place = gpu.map_or_else(|| wish.gpu.to_string(), |gpu| gpu.name.to_string());
    let (made, bound) = judge(wish, gpu, facts);
    let bound_of =
        |gpu: &Gpu| gpu.sriov.iter().flat_map(|sriov| &sriov.vfs).filter(|vf| gpu.has_bound(vf)).count();
    let on_driver = gpu.map_or(0, bound_of);
    let found = sriov.map_or_else(|| "nothing".to_owned(), |sriov| count_of(sriov.enabled));
    let road = if gpu.is_some_and(Gpu::is_on_nvidia) { "driver nvidia" } else { "VFIO" };
    [
        Planned {
            what: Restored::Vfs { gpu: wish.gpu.clone() },
            place: place.clone(),
            wanted: count_of(wish.count),
            found,
            verdict: made,
            within: within(gpu, Stage::Vfs),
        },
        Planned {
            what: Restored::Binding { gpu: wish.gpu.clone() },
            place,
            wanted: format!("{} on {road}", count_of(wish.count)),
            found: format!("{on_driver} on {road}"),
            verdict: bound,
            within: within(gpu, Stage::Binding),
        },
    ]
}

fn within(gpu: Option<&Gpu>, stage: Stage) -> Option<Duration> {
    road::leg_of(gpu, stage).map(|leg| leg.within)
}

fn count_of(count: u32) -> String {
    if count == 1 { "1 VF".to_owned() } else { format!("{count} VFs") }
}

fn judge(wish: &VfWish, gpu: Option<&Gpu>, facts: &Facts<'_>) -> (Verdict, Verdict) {
    let both = |verdict: Verdict| (verdict.clone(), verdict);
    let (gpu, sriov) = match ready_pf(wish, gpu, facts) {
        Ok(ready) => ready,
        Err(verdict) => return both(verdict),
    };
    let work = || Verdict::Do(Work::Vfs(wish.gpu.clone()));
    let is_new = wish.boot_id != *facts.boot_id;
    let due = is_new || facts.renewed.contains(&wish.gpu);
    let unbound = sriov.vfs.iter().find(|vf| !gpu.has_bound(vf));
    match (sriov.enabled == wish.count, unbound) {
        // Nothing to write, but this boot has not yet taken the wish for its own.
        (true, None) if is_new => both(work()),
        (true, None) => both(Verdict::Done),
        (true, Some(_)) if due => (if is_new { work() } else { Verdict::Done }, work()),
        (true, Some(vf)) => {
            let driver = vf.driver.as_deref().unwrap_or("no driver");
            (Verdict::Done, Verdict::Left(format!("VF {} was given to {driver} in this boot", vf.address)))
        }
        (false, _) if sriov.enabled == 0 && due => both(work()),
        (false, _) if sriov.enabled == 0 => {
            both(Verdict::Left(format!("the VFs of {} were taken away by hand in this boot", gpu.name)))
        }
        (false, _) => both(Verdict::Left(others(sriov.enabled))),
    }
}

/// Says that a PF has VFs that are not of our making.
pub(in crate::engine) fn others(enabled: u32) -> String {
    format!("it has {enabled} VFs already, made by somebody else")
}

/// Returns a PF that has all that VFs need, or what is missing.
fn ready_pf<'a>(
    wish: &VfWish,
    gpu: Option<&'a Gpu>,
    facts: &Facts<'_>,
) -> Result<(&'a Gpu, &'a Sriov), Verdict> {
    let gpu = gpu.ok_or_else(|| absent(&wish.gpu, facts))?;
    let count = Some(wish.count);
    let ground = Ground { gpu, count, vf: None, nvml: None };
    let missing = road::leg_of(Some(gpu), Stage::Vfs).and_then(|leg| leg.missing(&ground));
    match (missing, &gpu.sriov) {
        (None, Some(sriov)) => Ok((gpu, sriov)),
        (missing, _) => Err(Verdict::Waits(missing.unwrap_or_default())),
    }
}

/// Says why a GPU is not on the host as its identity has it: its slot is empty, or another card sits there.
fn absent(wanted: &GpuId, facts: &Facts<'_>) -> Verdict {
    match facts.occupants.get(wanted) {
        None => Verdict::Waits(format!("the device {wanted}, which is not here (yet)")),
        Some(same) if same == wanted => Verdict::Waits(format!(
            "{wanted} to offer mdev types or to be listed in devices.include; it is here and does neither"
        )),
        Some(other) => Verdict::Left(format!(
            "another card is in its place: {other}; nothing is done to that one until it is asked for"
        )),
    }
}

// Guaranteed slices -------------------------------------------------------------------------------

fn slice(allocation: &Allocation, settled: &Settled, facts: &Facts<'_>, vfs_to_come: bool) -> Planned {
    let gpu = facts.snapshot.gpus.iter().find(|gpu| gpu.id == settled.gpu);
    let kind = match (&settled.mdev_type, settled.vf_id) {
        (Some(mdev_type), _) => mdev_type.to_string(),
        (None, Some(id)) => format!("VF {id}"),
        (None, None) => "slice".to_owned(),
    };
    let (found, verdict) = match allocation.device {
        Device::Mdev(_) => mdev(allocation, settled, gpu, facts),
        Device::Vf(address) => vf(allocation, address, settled, gpu, facts, vfs_to_come),
    };
    Planned {
        what: Restored::Slice { allocation: allocation.id.clone(), gpu: settled.gpu.clone() },
        place: gpu.map_or_else(|| settled.gpu.to_string(), |gpu| gpu.name.to_string()),
        wanted: format!("{kind} of domain {}", allocation.domain.name),
        found,
        verdict,
        within: within(gpu, Stage::Slices),
    }
}

/// The turns of a guaranteed VF whose profile has a weight; they are set with the slice.
fn quantum(slice: &Planned, facts: &Facts<'_>) -> Option<Planned> {
    let Restored::Slice { allocation: id, gpu } = &slice.what else { return None };
    let on = facts.snapshot.gpus.iter().find(|one| one.id == *gpu)?;
    let leg = road::leg_of(Some(on), Stage::Quanta)?;
    let allocation = facts.book.allocations.get(id)?;
    let weight = facts.book.profiles.get(&allocation.profile)?.weight?;
    let vf = allocation.device.vf().and_then(|address| facts.snapshot.vf(address)).map(|(_, vf)| vf);
    let found = vf.and_then(|vf| vf.quantum);
    // A weight that was changed since counts from the next start.
    let is_set = facts.book.realized.get(id).is_some_and(|record| record.quantum_before.is_some());
    let wanted = Quantum::of(weight);
    let verdict = match (&slice.verdict, leg.missing(&Ground { gpu: on, count: None, vf, nvml: None })) {
        (_, Some(missing)) => Verdict::Waits(missing),
        (Verdict::Done, None) if found.is_some_and(|found| wanted.is_as_written(found)) => Verdict::Done,
        (Verdict::Done, None) if is_set => {
            Verdict::Left("it has others, by an older weight or by hand; the next start sets them".to_owned())
        }
        (Verdict::Done, None) => Verdict::Left("the next start sets them".to_owned()),
        (slice, None) => slice.clone(),
    };
    Some(Planned {
        what: Restored::Quantum { allocation: id.clone(), gpu: gpu.clone() },
        place: slice.place.clone(),
        wanted: format!("weight {weight} of domain {}: {wanted}", allocation.domain.name),
        found: found.map_or_else(|| "not known".to_owned(), |found| found.to_string()),
        verdict,
        within: Some(leg.within),
    })
}

/// Returns whether the ledger knows the device as the slice that was made for this allocation.
fn is_recorded(allocation: &Allocation, facts: &Facts<'_>) -> bool {
    let record = facts.book.realized.get(&allocation.id);
    record.is_some_and(|record| record.device == allocation.device && record.boot_id == *facts.boot_id)
}

fn mdev(
    allocation: &Allocation,
    settled: &Settled,
    gpu: Option<&Gpu>,
    facts: &Facts<'_>,
) -> (String, Verdict) {
    if let Device::Mdev(uuid) = allocation.device
        && let Some((_, parent, mdev)) = facts.snapshot.mdev(uuid)
    {
        let found = format!("{} on {}", mdev.mdev_type, parent.name);
        return match is_recorded(allocation, facts) {
            true => (found, Verdict::Done),
            false => (found, Verdict::Left(format!("mdev {uuid} exists already, made by somebody else"))),
        };
    }
    let nothing = || "nothing".to_owned();
    let Some(mdev_type) = &settled.mdev_type else {
        return (nothing(), Verdict::Left("nobody knows which type it was".to_owned()));
    };
    let Some(gpu) = gpu else { return (nothing(), absent(&settled.gpu, facts)) };
    if gpu.parents.is_empty() {
        return (nothing(), Verdict::Waits(format!("mdev types on {}: {}", gpu.name, gpu.backend_reason)));
    }
    let types = gpu.parents.iter().flat_map(|parent| &parent.types);
    let room = types.filter(|one| one.id == *mdev_type).map(|one| one.available).max();
    let was_there = is_recorded(allocation, facts) || facts.seen.contains(&allocation.id);
    match room {
        Some(_) if was_there && !facts.renewed.contains(&settled.gpu) => {
            (nothing(), Verdict::Left(REMOVED.to_owned()))
        }
        None => (nothing(), Verdict::Waits(format!("type {mdev_type} on {}", gpu.name))),
        Some(0) => {
            let text = format!("room for {mdev_type} on {}: 0 available", gpu.name);
            ("no room".to_owned(), Verdict::Waits(text))
        }
        Some(_) => (nothing(), Verdict::Do(Work::Slice(allocation.id.clone()))),
    }
}

fn vf(
    allocation: &Allocation,
    address: PciAddress,
    settled: &Settled,
    gpu: Option<&Gpu>,
    facts: &Facts<'_>,
    to_come: bool,
) -> (String, Verdict) {
    let Some((pf, vf)) = facts.snapshot.function(address) else {
        let verdict = match gpu {
            None => absent(&settled.gpu, facts),
            Some(_) => no_vf(address, to_come),
        };
        return ("nothing".to_owned(), verdict);
    };
    let found = format!("VF {address}");
    if pf.id != settled.gpu {
        return (found, Verdict::Left(format!("VF {address} is on {} now", pf.name)));
    }
    if let Some(vgpu_type) = &settled.mdev_type {
        return vgpu(allocation, settled, vgpu_type, (pf, vf), facts);
    }
    if is_recorded(allocation, facts) {
        return (found, Verdict::Done);
    }
    let verdict = match vf.holders.first() {
        Some(holder) => Verdict::Left(format!("VF {address} is held by {holder}")),
        None => Verdict::Do(Work::Slice(allocation.id.clone())),
    };
    (found, verdict)
}

/// The vGPU of a VF: as an mdev, it is made anew after each boot.
fn vgpu(
    allocation: &Allocation,
    settled: &Settled,
    vgpu_type: &MdevTypeId,
    (pf, vf): (&Gpu, &Vf),
    facts: &Facts<'_>,
) -> (String, Verdict) {
    let address = vf.address;
    let recorded = is_recorded(allocation, facts);
    if let Some(now) = vf.vgpu_type() {
        let found = format!("{now} on VF {address}");
        return match recorded && now == vgpu_type {
            true => (found, Verdict::Done),
            false => (found, Verdict::Left(format!("VF {address} is {now} already, made by somebody else"))),
        };
    }
    let found = format!("VF {address} without a type");
    let ground = Ground { gpu: pf, count: None, vf: Some(vf), nvml: None };
    let missing = road::leg_of(Some(pf), Stage::Slices).and_then(|leg| leg.missing(&ground));
    let verdict = match &vf.vgpu {
        _ if missing.is_some() => Verdict::Waits(missing.unwrap_or_default()),
        None => Verdict::Waits(format!("vGPU types on VF {address}")),
        Some(_)
            if (recorded || facts.seen.contains(&allocation.id)) && !facts.renewed.contains(&settled.gpu) =>
        {
            Verdict::Left(REMOVED.to_owned())
        }
        Some(slot) if slot.creatable.contains(vgpu_type) => Verdict::Do(Work::Slice(allocation.id.clone())),
        Some(_) => Verdict::Waits(format!("room for {vgpu_type} on VF {address}")),
    };
    (found, verdict)
}

/// A VF that nothing which is still to come could make is not waited for.
fn no_vf(address: PciAddress, to_come: bool) -> Verdict {
    match to_come {
        true => Verdict::Waits(format!("VF {address}")),
        false => Verdict::Left(format!("VF {address} does not exist, and no remembered count is to come")),
    }
}

// Domains that libvirt starts by itself -----------------------------------------------------------

/// What such a domain needs of us; `None` when that is nothing.
fn start(starting: &Starting, facts: &Facts<'_>, to_come: bool) -> Option<Planned> {
    let ours: Vec<&Allocation> =
        starting.devices.iter().filter_map(|one| promised(starting, one, facts)).collect();
    if ours.is_empty() {
        return None;
    }
    let missing: Vec<Verdict> = ours.iter().filter_map(|one| unmet(one, facts, to_come)).collect();
    let text = |verdict: &Verdict| match verdict {
        Verdict::Waits(text) | Verdict::Left(text) => text.clone(),
        Verdict::Done | Verdict::Do(_) => String::new(),
    };
    let texts = missing.iter().map(text).collect::<Vec<_>>().join("; ");
    let verdict = match missing.iter().any(|one| matches!(one, Verdict::Waits(_))) {
        _ if missing.is_empty() => Verdict::Done,
        true => Verdict::Waits(texts),
        false => Verdict::Left(texts),
    };
    Some(Planned {
        what: Restored::Start { domain: starting.domain.uuid },
        place: format!("domain {}", starting.domain.name),
        wanted: format!("a place for {}", slices(ours.len())),
        found: slices(ours.len() - missing.len()),
        verdict,
        within: None,
    })
}

fn slices(count: usize) -> String {
    if count == 1 { "1 slice".to_owned() } else { format!("{count} slices") }
}

fn promised<'a>(starting: &Starting, device: &HookDevice, facts: &Facts<'a>) -> Option<&'a Allocation> {
    let own = facts.book.of_domain(starting.domain.uuid);
    let mut own = own.filter(|allocation| match &device.allocation {
        Some(id) => allocation.id == *id,
        None => allocation.may_name(device.device),
    });
    own.next()
}

/// What keeps one slice of an autostart domain from being made when libvirt asks for it.
fn unmet(allocation: &Allocation, facts: &Facts<'_>, to_come: bool) -> Option<Verdict> {
    let uuid = match allocation.device {
        Device::Vf(address) => {
            return facts.snapshot.function(address).is_none().then(|| no_vf(address, to_come));
        }
        Device::Mdev(uuid) => uuid,
    };
    if facts.snapshot.mdev(uuid).is_some() {
        return None;
    }
    let profile = facts.book.profiles.get(&allocation.profile)?;
    let has_room = |one: &profile::Match<'_>| matches!(one.fit, Ok(Fit::Type(kind)) if kind.available > 0);
    let saved = if allocation.saved { SavedImage::Waits } else { SavedImage::None };
    let bounds = Bounds::of(profile, allocation.terms, allocation.settled.as_ref(), saved);
    let narrowed = bounds.narrow(profile);
    let places = profile::candidates(&narrowed, facts.snapshot);
    let any = places.iter().any(|one| has_room(one) && bounds.excludes(one).is_none());
    (!any).then(|| Verdict::Waits(format!("a parent with room for profile {}", profile.name)))
}

#[cfg(test)]
mod tests;
