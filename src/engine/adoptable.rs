//! Which hostdevs of a domain can become allocations, and by which profile. Pure: the book, a fresh reading
//! and what the domain's XML shows in; promises and records out, or one refusal for all.

use crate::inventory::Definitions;
use crate::ledger::Book;
use crate::model::{
    Allocation, AllocationId, AllocationState, BackendKind, BootId, Device, DomainRef, Gpu, Holder,
    HostSnapshot, Kind, MdevUuid, PciAddress, Pointing, Profile, ProfileName, Realized, Refusal, RunId,
    Settled, Terms, Wish, one_line,
};
use crate::profile::{self, Fit};

use super::foreign::undefine;

/// A hostdev of a domain, over both of its definitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownHostdev {
    /// What it names.
    pub device: Device,
    /// The allocation of its alias.
    pub allocation: Option<AllocationId>,
    /// An alias of the admin's own in the definition for the next start.
    pub other_alias: Option<String>,
    /// libvirt binds and unbinds its driver.
    pub managed: bool,
    /// The definition for the next start has it.
    pub inactive: bool,
    /// The running guest has it.
    pub live: bool,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The domain.
    pub domain: DomainRef,
    /// Whether it runs.
    pub active: bool,
    /// Its hostdevs that name an mdev or a PCI function.
    pub hostdevs: Vec<ShownHostdev>,
    /// The profile, when one was named.
    pub profile: Option<ProfileName>,
    /// The one device that is meant.
    pub device: Option<Device>,
}

/// One hostdev that is, or becomes, an allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adoption {
    /// The promise.
    pub allocation: Allocation,
    /// What exists for it and was not known.
    pub realized: Option<Realized>,
    /// Whether the promise is new.
    pub is_new: bool,
    /// Whether the definition lacks its alias.
    pub unmarked: bool,
}

/// What adopting a domain comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) adoptions: Vec<Adoption>,
    pub(super) notes: Vec<String>,
}

/// What the host and the ledger are.
pub(super) struct Facts<'a> {
    pub(super) book: &'a Book,
    pub(super) snapshot: &'a HostSnapshot,
    pub(super) definitions: &'a Definitions,
    pub(super) boot_id: &'a BootId,
    pub(super) run: RunId,
}

/// A slice that exists, with what would be remembered of it.
struct Found {
    realized: Option<Realized>,
    settled: Option<Settled>,
    what: String,
    fitting: Vec<ProfileName>,
}

/// Judges every hostdev that is meant. All or nothing.
pub(super) fn plan(
    facts: &Facts<'_>,
    asked: &Asked,
    mut new_id: impl FnMut() -> AllocationId,
) -> Result<Plan, Refusal> {
    let mut plan = Plan::default();
    let meant =
        asked.hostdevs.iter().filter(|shown| asked.device.is_none_or(|device| device == shown.device));
    for shown in meant {
        match judge(facts, asked, shown, &mut new_id, &mut plan.notes)? {
            Some(adoption) => plan.adoptions.push(adoption),
            None => plan
                .notes
                .push(format!("{} is no mdev and no VF that vgpud gives out: left alone", shown.device)),
        }
    }
    if plan.adoptions.is_empty() {
        let what = asked.device.map_or("hostdev that vgpud could serve".to_owned(), |one| {
            format!("hostdev {one} that vgpud could serve")
        });
        return Err(Refusal::new(Kind::NotFound, format!("domain {} has no {what}", asked.domain.name))
            .hint(format!("virsh dumpxml --inactive {} shows its hostdevs", asked.domain.name))
            .hint("vgpuctl gpus shows the devices that vgpud gives out"));
    }
    Ok(plan)
}

fn judge(
    facts: &Facts<'_>,
    asked: &Asked,
    shown: &ShownHostdev,
    new_id: &mut impl FnMut() -> AllocationId,
    notes: &mut Vec<String>,
) -> Result<Option<Adoption>, Refusal> {
    if let Some(known) = known(facts, asked, shown)? {
        return Ok(Some(known_again(facts, asked, shown, known)));
    }
    let found = match shown.device {
        Device::Mdev(uuid) => found_mdev(facts, asked, uuid)?,
        Device::Vf(address) => match found_vf(facts, asked, shown, address)? {
            Some(found) => found,
            None => return Ok(None),
        },
    };
    refuse_marked(shown)?;
    let profile = choose(facts.book, asked, shown.device, &found)?;
    notes.extend(consequences(facts, asked, shown, &found));
    let id = shown.allocation.clone().unwrap_or_else(&mut *new_id);
    let realized = found.realized.map(|record| Realized { allocation: id.clone(), ..record });
    let allocation = Allocation {
        id,
        domain: asked.domain.clone(),
        profile,
        device: shown.device,
        companions: Vec::new(),
        state: AllocationState::Attached,
        until: None,
        terms: Terms::default(),
        saved: false,
        settled: found.settled,
        owner: None,
        pointing: Pointing::default(),
    };
    let unmarked = shown.inactive && shown.allocation.is_none();
    Ok(Some(Adoption { allocation, realized, is_new: true, unmarked }))
}

/// Finds the allocation that a hostdev is already; refuses what is promised to another domain.
fn known<'a>(
    facts: &Facts<'a>,
    asked: &Asked,
    shown: &ShownHostdev,
) -> Result<Option<&'a Allocation>, Refusal> {
    let (device, name) = (shown.device, &asked.domain.name);
    let by_alias = shown.allocation.as_ref().and_then(|id| facts.book.allocations.get(id));
    if let Some(one) = by_alias {
        if one.domain.uuid != asked.domain.uuid {
            let text = format!(
                "hostdev {device} of domain {name} has the alias of allocation {} of domain {}",
                one.id, one.domain.name
            );
            return Err(Refusal::new(Kind::Conflict, text).hint(format!(
                "remove that hostdev with virsh edit {name}, then: vgpuctl attach {name} --profile {}",
                one.profile
            )));
        }
        if one.device != device {
            let text = format!(
                "the hostdev of allocation {} in domain {name} names {device}, but {} was promised",
                one.id, one.device
            );
            return Err(Refusal::new(Kind::Conflict, text)
                .hint(format!("give the promise up first: vgpuctl disown {}", one.id)));
        }
        return Ok(Some(one));
    }
    if let Some(own) = facts.book.of_domain(asked.domain.uuid).find(|one| one.device == device) {
        return Ok(Some(own));
    }
    match (device, facts.book.naming(device)) {
        (Device::Mdev(uuid), Some(other)) => Err(Refusal::new(
            Kind::Conflict,
            format!("mdev {uuid} is promised to domain {} (allocation {})", other.domain.name, other.id),
        )
        .hint(format!("vgpuctl disown {} gives that promise up", other.id))),
        _ => Ok(None),
    }
}

/// An allocation of before: its alias may be missing, and its slice may have been made by somebody else.
fn known_again(facts: &Facts<'_>, asked: &Asked, shown: &ShownHostdev, known: &Allocation) -> Adoption {
    let found = match shown.device {
        Device::Mdev(uuid) if !facts.book.realized.contains_key(&known.id) => {
            found_mdev(facts, asked, uuid).ok()
        }
        Device::Mdev(_) | Device::Vf(_) => None,
    };
    let fits = found.filter(|found| found.fitting.contains(&known.profile));
    let realized = fits.and_then(|found| found.realized);
    let realized = realized.map(|record| Realized { allocation: known.id.clone(), ..record });
    let unmarked = shown.inactive && shown.allocation.is_none() && shown.other_alias.is_none();
    Adoption { allocation: known.clone(), realized, is_new: false, unmarked }
}

fn refuse_marked(shown: &ShownHostdev) -> Result<(), Refusal> {
    match &shown.other_alias {
        Some(alias) => Err(Refusal::new(
            Kind::Conflict,
            format!(
                "the hostdev of {} has the alias {:?} already, and libvirt takes one a device",
                shown.device,
                one_line(alias, 60)
            ),
        )
        .hint("remove that alias with virsh edit, where nothing refers to it, then adopt again")),
        None => Ok(()),
    }
}

fn refuse_held(asked: &Asked, device: Device, holders: &[Holder]) -> Result<(), Refusal> {
    let other =
        holders.iter().find(|holder| !asked.active || holder.domain.as_ref() != Some(&asked.domain.name));
    match other {
        Some(holder) => Err(Refusal::new(Kind::Conflict, format!("{device} is held by {holder}"))
            .hint("vgpuctl gpus shows who holds what; adopt it for the domain that has it")),
        None => Ok(()),
    }
}

fn found_mdev(facts: &Facts<'_>, asked: &Asked, uuid: MdevUuid) -> Result<Found, Refusal> {
    let Some((gpu, parent, mdev)) = facts.snapshot.mdev(uuid) else {
        let all = facts.book.profiles.values().filter(|one| !matches!(one.wish, Wish::Vf(_) | Wish::Gpu(_)));
        let fitting = all.map(|one| one.name.clone()).collect();
        let what = "an mdev that does not exist now, so that its type cannot be told".to_owned();
        return Ok(Found { realized: None, settled: None, what, fitting });
    };
    refuse_held(asked, Device::Mdev(uuid), &mdev.holders)?;
    let serves = |one: &Profile| {
        profile::candidates(one, facts.snapshot).iter().any(|matched| {
            matched.parent == &parent.name
                && matches!(&matched.fit, Ok(Fit::Type(found)) if found.id == mdev.mdev_type)
        })
    };
    Ok(Found {
        realized: Some(Realized {
            allocation: AllocationId::from_bits(0),
            device: Device::Mdev(uuid),
            gpu: gpu.id.clone(),
            parent: parent.name.clone(),
            mdev_type: Some(mdev.mdev_type.clone()),
            vf_id: None,
            boot_id: facts.boot_id.clone(),
            run: facts.run,
            before: Vec::new(),
            quantum_before: None,
        }),
        settled: Some(Settled { gpu: gpu.id.clone(), mdev_type: Some(mdev.mdev_type.clone()), vf_id: None }),
        what: format!("{} on {}", mdev.mdev_type, parent.name),
        fitting: facts.book.profiles.values().filter(|one| serves(one)).map(|one| one.name.clone()).collect(),
    })
}

/// `None` for a function that is no VF of a PF that gives out VFs: a passed-through disk controller, say.
fn found_vf(
    facts: &Facts<'_>,
    asked: &Asked,
    shown: &ShownHostdev,
    address: PciAddress,
) -> Result<Option<Found>, Refusal> {
    let gives_out = |gpu: &Gpu| gpu.backend.gives_bare_vfs() || gpu.backend == BackendKind::NvidiaVfio;
    let Some((gpu, vf)) = facts.snapshot.vf(address).filter(|(gpu, _)| gives_out(gpu)) else {
        return Ok(None);
    };
    if shown.managed {
        let text = format!(
            "the hostdev of VF {address} is managed='yes': libvirt would take it off its VFIO driver at each stop"
        );
        return Err(Refusal::new(Kind::Conflict, text)
            .hint(format!("write managed='no' with virsh edit {}, then adopt again", asked.domain.name)));
    }
    refuse_held(asked, shown.device, &vf.holders)?;
    let taken = facts.book.realized.values().find(|record| record.device == shown.device);
    if let Some(other) = taken.and_then(|record| facts.book.allocations.get(&record.allocation)) {
        let text =
            format!("VF {address} was given to domain {} (allocation {})", other.domain.name, other.id);
        return Err(
            Refusal::new(Kind::Conflict, text).hint(format!("stop domain {} first", other.domain.name))
        );
    }
    let mdev_type = vf.vgpu_type().cloned();
    let realized = (shown.live || mdev_type.is_some()).then(|| Realized {
        allocation: AllocationId::from_bits(0),
        device: shown.device,
        gpu: gpu.id.clone(),
        parent: gpu.name.clone(),
        mdev_type: mdev_type.clone(),
        vf_id: Some(vf.id),
        boot_id: facts.boot_id.clone(),
        run: facts.run,
        before: Vec::new(),
        quantum_before: None,
    });
    let made = realized.is_some();
    let settled =
        made.then(|| Settled { gpu: gpu.id.clone(), mdev_type: mdev_type.clone(), vf_id: Some(vf.id) });
    let serves = |one: &&Profile| {
        let of_gpu = profile::candidates(one, facts.snapshot).into_iter().find(|one| one.gpu.id == gpu.id);
        of_gpu.and_then(|one| one.fit.ok()).is_some_and(|fit| {
            let this = fit.vfs().iter().any(|one| one.address == address);
            this && mdev_type.as_ref().is_none_or(|now| fit.type_id() == Some(now))
        })
    };
    let fitting = facts.book.profiles.values().filter(serves).map(|one| one.name.clone()).collect();
    let what = match &mdev_type {
        Some(now) => format!("VF {address} of {} with vGPU type {now}", gpu.name),
        None => format!("VF {} of {}", vf.id, gpu.name),
    };
    Ok(Some(Found { realized, settled, what, fitting }))
}

/// The named profile if it fits, or the only one that does.
fn choose(book: &Book, asked: &Asked, device: Device, found: &Found) -> Result<ProfileName, Refusal> {
    let names = || found.fitting.iter().map(ProfileName::as_str).take(20).collect::<Vec<_>>().join(", ");
    let fitting = || match found.fitting.as_slice() {
        [] => "no profile fits it; make one: vgpuctl profile create NAME (--type TYPE or --vf ID)".to_owned(),
        _ => format!("profiles that fit: {}", names()),
    };
    if let Some(name) = &asked.profile {
        let Some(profile) = book.profiles.get(name) else {
            return Err(Refusal::new(Kind::NotFound, format!("no profile {name}")).hint(fitting()));
        };
        return if found.fitting.contains(name) {
            Ok(name.clone())
        } else {
            let text = format!(
                "{device} is {}, which profile {name} ({}) does not ask for",
                found.what, profile.wish
            );
            Err(Refusal::new(Kind::Conflict, text).hint(fitting()))
        };
    }
    match (found.fitting.as_slice(), found.realized.is_some() || matches!(device, Device::Vf(_))) {
        ([only], true) => Ok(only.clone()),
        ([], _) => Err(Refusal::new(
            Kind::NotFound,
            format!("{device} is {}, for which there is no profile", found.what),
        )
        .hint("make one: vgpuctl profile create NAME (--type TYPE or --vf ID)")),
        (_, true) => Err(Refusal::new(
            Kind::Usage,
            format!("{device} is {}, and several profiles fit: {}", found.what, names()),
        )
        .hint(format!("say which: vgpuctl adopt {} --profile NAME", asked.domain.name))),
        (_, false) => Err(Refusal::new(Kind::Usage, format!("{device} is {}", found.what))
            .hint(format!("say what it shall be: vgpuctl adopt {} --profile NAME", asked.domain.name))),
    }
}

/// What follows from an adoption that an admin may not expect.
fn consequences(facts: &Facts<'_>, asked: &Asked, shown: &ShownHostdev, found: &Found) -> Vec<String> {
    let mut notes = Vec::new();
    let Device::Mdev(uuid) = shown.device else { return notes };
    if found.realized.is_some() && !asked.active {
        notes.push(format!(
            "mdev {uuid} goes now, because domain {} is off, and is made again when it starts",
            asked.domain.name
        ));
    }
    if !facts.definitions.of(uuid).is_empty() {
        notes.push(format!("mdevctl still defines mdev {uuid}: {}", undefine(uuid)));
    }
    notes
}

#[cfg(test)]
mod tests;
