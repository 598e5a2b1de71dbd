//! Promises again from the aliases in libvirt's domains, after the database was lost or damaged.
//!
//! What could be read of the old database counts; what the aliases say beside it is added. The plan is pure.
//! No device is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::{Engine, OPERATION};
use crate::clock;
use crate::ledger::{Book, Change, LedgerError, Need, VfWish};
use crate::model::{
    Allocation, AllocationId, AllocationState, BootId, Device, DomainRef, HistoryEntry, HostSnapshot, Kind,
    MdevTypeId, PciAddress, PciId, Pointing, Profile, ProfileName, Realized, Refusal, RunId, Settled, Terms,
    WhichGpu, Wish,
};
use crate::profile;
use crate::wire;

/// A hostdev with an alias of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// Whether the running guest has it: then it is not the copy.
    pub not_live: bool,
    /// The domain.
    pub domain: DomainRef,
    /// The allocation of its alias.
    pub id: AllocationId,
    /// What it names.
    pub device: Device,
}

/// What is to be done.
#[derive(Debug, Default)]
struct Plan {
    changes: Vec<Change>,
    allocations: Vec<Allocation>,
    profiles: BTreeMap<ProfileName, Profile>,
    left_out: Vec<String>,
    notes: Vec<String>,
}

/// What a slice is, as far as anything tells.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Nature {
    Mdev(MdevTypeId),
    Vf(PciId),
    Gpu(PciId),
}

struct Facts<'a> {
    book: &'a Book,
    snapshot: &'a HostSnapshot,
    boot_id: &'a BootId,
    run: RunId,
}

/// Decides what becomes of every claim, those of running guests first.
fn plan(facts: &Facts<'_>, claims: &[Claim]) -> Plan {
    let mut plan = Plan::default();
    let mut sorted: Vec<&Claim> = claims.iter().collect();
    sorted.sort();
    let mut taken: BTreeMap<&AllocationId, &Claim> = BTreeMap::new();
    let mut mdevs: BTreeSet<Device> = BTreeSet::new();
    for claim in sorted {
        let (id, domain) = (&claim.id, &claim.domain);
        if let Some(first) = taken.get(id) {
            if first.domain.uuid != domain.uuid {
                plan.left_out.push(format!(
                    "domain {} has a copy of allocation {id} of domain {}: remove that hostdev with virsh edit",
                    domain.name, first.domain.name
                ));
            }
            continue;
        }
        taken.insert(id, claim);
        if matches!(claim.device, Device::Mdev(_)) && !mdevs.insert(claim.device) {
            plan.left_out.push(format!(
                "allocation {id} of domain {}: {} is another's already",
                domain.name, claim.device
            ));
            continue;
        }
        claim_one(facts, claim, &mut plan);
    }
    orphans(facts, &taken, &mut plan);
    wishes(facts, &mut plan);
    plan
}

fn claim_one(facts: &Facts<'_>, claim: &Claim, plan: &mut Plan) {
    let known = facts.book.allocations.get(&claim.id);
    // The definition may name another VF than the book by now: it is the same promise.
    let same =
        |one: &Allocation| one.device == claim.device || one.device.vf().and(claim.device.vf()).is_some();
    let known = known.filter(|one| one.domain.uuid == claim.domain.uuid && same(one));
    let named = known.and_then(|one| Some(one.named(claim.device.vf()?)));
    let settled = known.and_then(|one| one.settled.clone());
    let nature = nature(facts, claim.device, &claim.id, settled.as_ref());
    let profile = known.map(|one| one.profile.clone()).filter(|name| facts.book.profiles.contains_key(name));
    let Some(profile) = profile.or_else(|| profile_for(facts, nature.as_ref(), plan)) else {
        let device = claim.device;
        let unknown = match device {
            Device::Mdev(_) => format!("mdev {device} does not exist now, so that its type cannot be told"),
            Device::Vf(_) => format!("VF {device} does not exist now, so that its id cannot be told"),
        };
        let name = &claim.domain.name;
        plan.left_out.push(format!(
            "allocation {} of domain {name}: {unknown}; say what it shall be: vgpuctl adopt {name} --profile NAME",
            claim.id
        ));
        if facts.book.allocations.contains_key(&claim.id) {
            plan.changes.push(Change::DeleteAllocation(claim.id.clone()));
        }
        return;
    };
    let allocation = Allocation {
        id: claim.id.clone(),
        domain: claim.domain.clone(),
        profile,
        device: claim.device,
        companions: companions(facts, known, claim.device),
        state: AllocationState::Attached,
        until: None,
        terms: known.map_or_else(Terms::default, |one| one.terms),
        saved: known.is_some_and(|one| one.saved),
        settled,
        owner: known.and_then(|one| one.owner.clone()),
        pointing: named.as_ref().or(known).map_or_else(Pointing::default, |one| one.pointing),
    };
    if known != Some(&allocation) {
        plan.changes.push(Change::PutAllocation(allocation.clone()));
        plan.allocations.push(allocation);
    }
    let recorded = facts
        .book
        .realized
        .get(&claim.id)
        .is_some_and(|record| record.device == claim.device && record.boot_id == *facts.boot_id);
    if !recorded {
        plan.changes.extend(record(facts, claim).map(Change::PutRealized));
    }
}

/// The functions that go with a whole GPU: as they were promised, else as the host has them now.
fn companions(facts: &Facts<'_>, known: Option<&Allocation>, device: Device) -> Vec<PciAddress> {
    let promised = known.map(|one| one.companions.clone()).filter(|companions| !companions.is_empty());
    let now = || facts.snapshot.whole(device.vf()?).map(|(_, whole)| whole.companion_addresses());
    promised.or_else(now).unwrap_or_default()
}

/// The slice of a claim, when it exists. An mdev whose domain is off is remembered too: the next look gives it back.
fn record(facts: &Facts<'_>, claim: &Claim) -> Option<Realized> {
    let common = |gpu: &crate::model::Gpu| Realized {
        allocation: claim.id.clone(),
        device: claim.device,
        gpu: gpu.id.clone(),
        parent: gpu.name.clone(),
        mdev_type: None,
        vf_id: None,
        boot_id: facts.boot_id.clone(),
        run: facts.run,
        before: Vec::new(),
        quantum_before: None,
    };
    match claim.device {
        Device::Mdev(uuid) => facts.snapshot.mdev(uuid).map(|(gpu, parent, mdev)| Realized {
            parent: parent.name.clone(),
            mdev_type: Some(mdev.mdev_type.clone()),
            ..common(gpu)
        }),
        // A bare VF of a domain that is off is nobody's; a vGPU on it is there until it is taken away.
        Device::Vf(vf) if claim.not_live && facts.snapshot.vgpu_type_on(vf).is_none() => None,
        Device::Vf(address) => facts.snapshot.function(address).map(|(gpu, vf)| Realized {
            vf_id: Some(vf.id),
            mdev_type: vf.vgpu_type().cloned(),
            ..common(gpu)
        }),
    }
}

fn nature(facts: &Facts<'_>, device: Device, id: &AllocationId, settled: Option<&Settled>) -> Option<Nature> {
    let record = facts.book.realized.get(id);
    match device {
        Device::Mdev(uuid) => {
            let live = facts.snapshot.mdev(uuid).map(|(_, _, mdev)| mdev.mdev_type.clone());
            let made = || record.and_then(|record| record.mdev_type.clone());
            let before = || settled.and_then(|settled| settled.mdev_type.clone());
            live.or_else(made).or_else(before).map(Nature::Mdev)
        }
        Device::Vf(address) => {
            let typed = facts.snapshot.vgpu_type_on(address).cloned();
            let typed = typed.or_else(|| record.and_then(|record| record.mdev_type.clone()));
            let typed = typed.or_else(|| settled.and_then(|settled| settled.mdev_type.clone()));
            if let Some(id) = typed {
                return Some(Nature::Mdev(id));
            }
            let whole = facts.snapshot.whole(address).map(|(_, whole)| whole.function.id);
            if let Some(id) = whole {
                return Some(Nature::Gpu(id));
            }
            let live = facts.snapshot.vf(address).map(|(_, vf)| vf.id);
            let made = || record.and_then(|record| record.vf_id);
            let before = || settled.and_then(|settled| settled.vf_id);
            live.or_else(made).or_else(before).map(Nature::Vf)
        }
    }
}

/// The one profile that asks for just this, or a new one.
fn profile_for(facts: &Facts<'_>, nature: Option<&Nature>, plan: &mut Plan) -> Option<ProfileName> {
    let nature = nature?;
    let serves = |profile: &&Profile| match nature {
        Nature::Mdev(id) => {
            let found = profile::candidates(profile, facts.snapshot);
            found.iter().any(|matched| matched.fit.as_ref().is_ok_and(|fit| fit.type_id() == Some(id)))
        }
        Nature::Vf(id) => matches!(profile.wish, Wish::Vf(wanted) if wanted == *id),
        Nature::Gpu(id) => matches!(profile.wish, Wish::Gpu(WhichGpu::Id(wanted)) if wanted == *id),
    };
    let mut fitting = facts.book.profiles.values().filter(serves);
    if let (Some(only), None) = (fitting.next(), fitting.next()) {
        return Some(only.name.clone());
    }
    let (wish, text) = match nature {
        Nature::Mdev(id) => (Wish::Type(id.to_string()), id.to_string()),
        Nature::Vf(id) => (Wish::Vf(*id), format!("vf-{id}")),
        Nature::Gpu(id) => (Wish::Gpu(WhichGpu::Id(*id)), format!("gpu-{id}")),
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let text: String = text.chars().map(plain).take(48).collect();
    let name: ProfileName = format!("recovered-{text}").parse().ok()?;
    let is_there = facts.book.profiles.get(&name).or_else(|| plan.profiles.get(&name));
    if is_there.is_none() {
        let profile = Profile::new(name.clone(), wish);
        plan.changes.push(Change::PutProfile(profile.clone()));
        plan.profiles.insert(name.clone(), profile);
    }
    Some(name)
}

/// Promises that could be read, that no domain shows, and whose profile could not be read: nothing can be made of them.
fn orphans(facts: &Facts<'_>, taken: &BTreeMap<&AllocationId, &Claim>, plan: &mut Plan) {
    let lost = facts
        .book
        .allocations
        .values()
        .filter(|one| !taken.contains_key(&one.id) && !facts.book.profiles.contains_key(&one.profile));
    for one in lost {
        plan.left_out.push(format!(
            "allocation {} of domain {}: no domain shows it and its profile {} could not be read",
            one.id, one.domain.name, one.profile
        ));
        plan.changes.push(Change::DeleteAllocation(one.id.clone()));
    }
}

/// VFs that promises name are there because somebody set their number: it is remembered as it is.
fn wishes(facts: &Facts<'_>, plan: &mut Plan) {
    for gpu in facts.snapshot.gpus.iter().filter(|gpu| gpu.backend.gives_bare_vfs()) {
        let Some(sriov) = gpu.sriov.as_ref().filter(|sriov| sriov.enabled > 0) else { continue };
        let named = |address| plan.allocations.iter().any(|one| one.device == Device::Vf(address));
        if facts.book.wishes.contains_key(&gpu.id) || !sriov.vfs.iter().any(|vf| named(vf.address)) {
            continue;
        }
        plan.notes.push(format!("{} VFs of {} are remembered for the next boot", sriov.enabled, gpu.name));
        plan.changes.push(Change::PutWish(VfWish {
            gpu: gpu.id.clone(),
            count: sriov.enabled,
            autoprobe_before: None,
            boot_id: facts.boot_id.clone(),
        }));
    }
}

impl Engine {
    /// Returns why nothing is changed, until the database is made anew.
    #[must_use]
    pub fn read_only(&self) -> Option<String> {
        self.ledger().shut_because().map(str::to_owned)
    }

    /// Refuses changes while the database is damaged or lost.
    ///
    /// # Errors
    /// With the one thing to type.
    pub fn writable(&self) -> Result<(), Refusal> {
        match self.read_only() {
            None => Ok(()),
            Some(why) => Err(shut(&why)),
        }
    }

    /// Makes promises of the aliases in libvirt's domains, and the database anew where it was damaged or lost.
    ///
    /// # Errors
    /// When the host cannot be read or the result not be stored: nothing has changed.
    pub fn rebuild(&self, claims: &[Claim], dry_run: bool) -> Result<wire::Rebuilt, Refusal> {
        let deadline = Instant::now() + OPERATION;
        let lane = self.capacity_turn(deadline)?;
        let snapshot = self.fresh(deadline)?;
        let book = self.book();
        let facts =
            Facts { book: &book, snapshot: &snapshot, boot_id: &self.inner.boot_id, run: clock::boottime() };
        let Plan { changes, allocations, profiles, left_out, notes } = plan(&facts, claims);
        let was_shut = self.read_only();
        let anything = was_shut.is_some() || !changes.is_empty();
        let mut set_aside = None;
        if anything && !dry_run {
            self.touch(allocations.iter().map(|one| &one.id));
            let stored = match &was_shut {
                None => self.commit(changes, Need::Promise),
                Some(why) => self.renew(changes, why).map(|aside| set_aside = aside),
            };
            stored?;
            // What recovery does again takes the lane itself.
            drop(lane);
            if was_shut.is_some() {
                self.recover()?;
            }
            self.publish_owned()?;
            self.nudge();
        }
        let change = match (anything, dry_run) {
            (false, _) => wire::Change::Unchanged,
            (true, true) => wire::Change::Planned,
            (true, false) => wire::Change::Done,
        };
        let allocations = self.views_of(&allocations);
        let profiles = profiles.into_values().collect();
        Ok(wire::Rebuilt { change, allocations, profiles, left_out, notes, set_aside })
    }

    fn renew(&self, mut changes: Vec<Change>, why: &str) -> Result<Option<String>, Refusal> {
        let at = clock::epoch_seconds();
        changes.push(Change::Record(HistoryEntry {
            number: 0,
            decisions: Vec::new(),
            at,
            uid: None,
            pid: None,
            verb: "rebuild".to_owned(),
            object: "database".to_owned(),
            domain: None,
            allocations: Vec::new(),
            outcome: format!("made anew: {why}"),
        }));
        let made = self.ledger().renew(changes, at);
        match made {
            Ok(aside) => Ok(aside.map(|path| path.display().to_string())),
            Err(error @ LedgerError::Full { .. }) => {
                Err(Refusal::from_error(Kind::HostFault, &error).hint("free space below /var/lib/vgpud"))
            }
            Err(error) => Err(Refusal::from_error(Kind::HostFault, &error)),
        }
    }
}

/// The refusal of every change while it is shut.
pub(super) fn shut(why: &str) -> Refusal {
    Refusal::new(Kind::HostFault, format!("vgpud changes nothing now: {why}"))
        .hint("vgpuctl adopt --rebuild --dry-run shows what can be made of the domains' aliases, without --dry-run it is done")
}

#[cfg(test)]
mod tests;
