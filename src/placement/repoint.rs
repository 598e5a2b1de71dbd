//! Which stopped domains should name another VF, and which one.
//!
//! The XML of a domain names a VF by its address long before the domain starts. A domain is moved only when
//! the VF it names could not be served now while another could, or when its start was refused or asked for.
//! All are planned together: no VF is given to two, and what is spread goes to the PF that has the most left.
//! Nothing is ever moved back for its own sake: a domain whose VF can be served is left where it is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Allocation, AllocationId, AllocationState, CapacityMode, Device, DeviceName, DomainRef, DomainUuid,
    HostSnapshot, PciAddress, Profile, ProfileName, Repoint, Vf, Wish,
};
use crate::placement::offer::vf_is_free;
use crate::placement::{Barred, Owners, Want, vf};
use crate::profile::{Bounds, Gates, SavedImage, candidates};

/// What libvirt says of a domain, as far as re-pointing needs to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainState {
    /// It runs, or is being started or stopped.
    pub active: bool,
    /// It has a managed save image, whose XML counts at the next start and not the definition.
    pub saved: bool,
    /// The VF that the definition for the next start names, for each allocation that it shows.
    pub names: BTreeMap<AllocationId, PciAddress>,
}

/// Why a domain is looked at, beyond that capacity changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// Its start was refused, and its admin was told these VFs.
    Refused(BTreeMap<AllocationId, PciAddress>),
    /// An admin asks for its start.
    Asked,
}

/// Everything that decides about re-pointing.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// What was promised.
    pub allocations: &'a BTreeMap<AllocationId, Allocation>,
    /// The profiles.
    pub profiles: &'a BTreeMap<ProfileName, Profile>,
    /// The domains that may be moved; one that is not in here is left alone.
    pub domains: &'a BTreeMap<DomainUuid, DomainState>,
    /// The domains about which there is more to say.
    pub occasions: &'a BTreeMap<DomainUuid, Occasion>,
    /// The host.
    pub snapshot: &'a HostSnapshot,
    /// The slices that exist and are ours.
    pub owners: &'a Owners,
    /// What rules say of GPUs for each allocation.
    pub gates: &'a BTreeMap<AllocationId, Gates>,
    /// PFs that are being changed.
    pub barred: &'a [Barred],
    /// VFs of an earlier boot are not all back yet: one that is missing may come.
    pub incomplete: bool,
}

/// One address to be exchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// For which allocation.
    pub allocation: AllocationId,
    /// In whose definition.
    pub domain: DomainRef,
    /// The VF it names.
    pub from: PciAddress,
    /// The VF it shall name.
    pub to: PciAddress,
    /// The PF of that.
    pub pf: DeviceName,
    /// Why: a clause that follows `from`.
    pub why: String,
}

/// An allocation that may and should be moved.
struct Needy<'a> {
    allocation: &'a Allocation,
    from: PciAddress,
    why: String,
    promised: Option<PciAddress>,
    urgent: bool,
    options: Vec<Place<'a>>,
}

/// A VF that could be served now.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// What rules say of the PF.
    tier: u8,
    pf: &'a DeviceName,
    vf: &'a Vf,
    /// How many its PF can serve, as far as that is known.
    room: usize,
}

/// Who names which VF.
type Named = BTreeMap<PciAddress, BTreeSet<AllocationId>>;

/// Plans all exchanges that are due. At most one for each allocation, and no VF twice.
#[must_use]
pub fn repoint(scene: &Scene<'_>) -> Vec<Move> {
    let named = named(scene);
    let mut needy: Vec<Needy<'_>> =
        scene.allocations.values().filter_map(|allocation| needy(scene, &named, allocation)).collect();
    // Who asked comes first; then who has the least to choose from.
    needy.sort_by(|a, b| {
        let key = |one: &Needy<'_>| (!one.urgent, one.options.len(), one.allocation.domain.uuid);
        key(a).cmp(&key(b)).then_with(|| a.allocation.id.cmp(&b.allocation.id))
    });
    let mut taken = BTreeSet::new();
    let mut moves = Vec::new();
    for one in needy {
        let Some(place) = choose(scene, &named, &taken, &one) else { continue };
        taken.insert(place.vf.address);
        moves.push(Move {
            allocation: one.allocation.id.clone(),
            domain: one.allocation.domain.clone(),
            from: one.from,
            to: place.vf.address,
            pf: place.pf.clone(),
            why: one.why,
        });
    }
    moves
}

/// What the book says and what the definitions say: either may be the newer word.
fn named(scene: &Scene<'_>) -> Named {
    let book = scene.allocations.values().flat_map(|one| one.named_vfs().map(|vf| (vf, one.id.clone())));
    let shown = scene.domains.values().flat_map(|state| &state.names);
    let mut named = Named::new();
    for (vf, id) in book.chain(shown.map(|(id, vf)| (*vf, id.clone()))) {
        named.entry(vf).or_default().insert(id);
    }
    named
}

/// Returns the allocation if it may be moved and there is a reason to.
fn needy<'a>(scene: &Scene<'a>, named: &Named, allocation: &'a Allocation) -> Option<Needy<'a>> {
    let occasion = scene.occasions.get(&allocation.domain.uuid);
    let state = scene.domains.get(&allocation.domain.uuid)?;
    let from = *state.names.get(&allocation.id)?;
    let profile = scene.profiles.get(&allocation.profile)?;
    let mut bounds = Bounds::of(profile, allocation.terms, allocation.settled.as_ref(), SavedImage::None)
        .for_device(allocation.device);
    bounds.gates = scene.gates.get(&allocation.id).cloned().unwrap_or_default();
    let profile = &bounds.narrow(profile);
    // Which GPU a guest has whole was settled at its attach: the functions that go with it are in the XML too.
    if matches!(profile.wish, Wish::Gpu(_)) {
        return None;
    }
    let want = Want {
        allocation: allocation.id.clone(),
        profile: profile.clone(),
        bounds,
        device: Device::Vf(from),
    };
    // What somebody wrote by hand and is no VF of ours is theirs to mend, until its start is refused.
    if occasion.is_none() && allocation.named_vfs().all(|own| own != from) {
        return None;
    }
    if state.active || state.saved || !may_move(allocation, occasion) || is_made(scene, allocation) {
        return None;
    }
    let promised = match occasion {
        Some(Occasion::Refused(promised)) => promised.get(&allocation.id).copied(),
        Some(Occasion::Asked) | None => None,
    };
    let why = match obstacle(scene, &want, from, occasion.is_none()) {
        Some(text) => text,
        // What its admin was told stays true, although its VF became free meanwhile.
        None => promised.filter(|vf| *vf != from).map(|_| "could not be served at its start".to_owned())?,
    };
    let options = places(scene, named, allocation, &want, occasion.is_some());
    Some(Needy { allocation, from, why, promised, urgent: occasion.is_some(), options })
}

/// Returns whether the promise's terms, and what others did to its address, allow it.
fn may_move(allocation: &Allocation, occasion: Option<&Occasion>) -> bool {
    let terms = &allocation.terms;
    let by_terms = match terms.repoint {
        Repoint::Auto => true,
        Repoint::OnRefusal => occasion.is_some(),
        Repoint::Never => false,
    };
    let others = allocation.pointing.is_given_up() && occasion != Some(&Occasion::Asked);
    let attached = allocation.state == AllocationState::Attached && allocation.device.vf().is_some();
    attached && by_terms && !others && !terms.pin && terms.mode == CapacityMode::OnStart
}

/// Returns whether its slice exists: then a run has it, or one that ended is not over for us yet.
fn is_made(scene: &Scene<'_>, allocation: &Allocation) -> bool {
    scene.owners.values().any(
        |owner| matches!(owner, super::Owner::Allocation { allocation: own, .. } if *own == allocation.id),
    )
}

/// Returns why the VF that an allocation names cannot be served now.
///
/// Nobody asked: then what may pass by itself is no reason, such as a VF that is missing while its PF is
/// being changed, was not restored yet, or could not be read.
fn obstacle(scene: &Scene<'_>, want: &Want, named: PciAddress, may_pass: bool) -> Option<String> {
    let changing = |bar: &Barred| bar.mdev_type.is_none();
    let found = scene.snapshot.vf(named);
    let passes = match found {
        Some((gpu, vf)) => scene.barred.iter().any(|bar| vf::bars(bar, gpu, vf)),
        None => scene.incomplete || !scene.snapshot.problems.is_empty() || scene.barred.iter().any(changing),
    };
    if may_pass && passes {
        return None;
    }
    let taken = vf::take(want, named, scene.snapshot, scene.owners, scene.barred);
    taken.err().map(|(_, text)| text)
}

/// Returns the VFs that could be served now. Unasked, only those that nobody else names: two domains are
/// pointed at one VF only when the start of one of them would fail otherwise.
fn places<'a>(
    scene: &Scene<'a>,
    named: &Named,
    allocation: &Allocation,
    want: &Want,
    asked: bool,
) -> Vec<Place<'a>> {
    let of_domain = |id: &AllocationId| {
        scene.allocations.get(id).is_some_and(|one| one.domain.uuid == allocation.domain.uuid)
    };
    let open = |vf: &Vf| {
        let mut others = named.get(&vf.address).into_iter().flatten().filter(|id| **id != allocation.id);
        if asked { !others.any(of_domain) } else { others.next().is_none() }
    };
    let mut places = Vec::new();
    for matched in candidates(&want.profile, scene.snapshot) {
        if want.bounds.excludes(&matched).is_some() {
            continue;
        }
        let Ok(fit) = &matched.fit else { continue };
        let room = vf::room_of(matched.gpu, fit, scene.owners);
        for vf in fit.vfs().iter().copied() {
            let barred = scene.barred.iter().any(|bar| vf::bars(bar, matched.gpu, vf));
            if !barred && vf_is_free(vf, scene.owners) && vf::fit_takes(fit, vf) && open(vf) {
                let tier = want.bounds.tier(&matched.gpu.id).0;
                places.push(Place { tier, pf: matched.parent, vf, room });
            }
        }
    }
    places
}

/// Picks the promised VF, else one that the fewest others name, on the PF with the most left; then one that
/// is on its VFIO driver already; ties by address.
fn choose<'a>(
    scene: &Scene<'_>,
    named: &Named,
    taken: &BTreeSet<PciAddress>,
    one: &Needy<'a>,
) -> Option<Place<'a>> {
    let users = |vf: &Vf| {
        let others = named.get(&vf.address).into_iter().flatten();
        others.filter(|id| **id != one.allocation.id).count()
    };
    let moved_to = |pf: &DeviceName| {
        let there =
            |address: &&PciAddress| scene.snapshot.vf(**address).is_some_and(|(gpu, _)| gpu.name == *pf);
        taken.iter().filter(there).count()
    };
    let left = |place: &Place<'_>| {
        let vfs = scene.snapshot.vfs().filter(|(gpu, _)| gpu.name == *place.pf).map(|(_, vf)| vf);
        let free = vfs.filter(|vf| vf_is_free(vf, scene.owners) && !taken.contains(&vf.address));
        free.filter(|vf| users(vf) == 0).count().min(place.room.saturating_sub(moved_to(place.pf)))
    };
    let open = || {
        let untaken = |place: &&Place<'a>| {
            let other = !taken.contains(&place.vf.address) && place.vf.address != one.from;
            other && moved_to(place.pf) < place.room
        };
        one.options.iter().filter(untaken)
    };
    let promised = open().find(|place| Some(place.vf.address) == one.promised);
    let best = || {
        open().min_by_key(|place| {
            let users = users(place.vf);
            (place.tier, users, Reverse(left(place)), !place.vf.vfio, place.vf.address)
        })
    };
    promised.or_else(best).copied()
}

#[cfg(test)]
mod tests;
