//! Virtual functions: the domain's XML names one by address, so it is chosen when the XML is written.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Device, Gpu, GpuId, HostSnapshot, Kind, PciAddress, Policy, Profile, Score, Vf, Whole, Wish,
};
use crate::placement::offer::{offers, policy_of, vf_is_free, vf_owner};
use crate::placement::{Barred, Choice, NoPlacement, Owner, Owners, Passed, Want, refusal, vgpu};
use crate::profile::{Bounds, Fit, candidates};

/// What a VF that is named must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Must {
    /// There; whether it is free is seen when the domain starts.
    Exist,
    /// Free now.
    BeFree,
}

/// What names VFs already, and what a new name must be.
#[derive(Clone, Copy, Debug)]
pub struct Naming<'a> {
    /// How many allocations name each VF.
    pub named: &'a BTreeMap<PciAddress, u32>,
    /// The VFs that the same domain names.
    pub mine: &'a BTreeSet<PciAddress>,
    /// What the VF must be.
    pub must: Must,
}

/// Chooses the VF that a new allocation will name: one that the fewest allocations name; then one that
/// nobody holds, one of the PF that the policy puts first, one that is on its VFIO driver already, one of the PF
/// with the most free (with `most-free` that alone is the policy); ties by address. Before all that, the PFs that
/// rules put behind others come last, and those that they forbid not at all. A domain cannot have one twice. One that is guaranteed to another domain is never named.
///
/// # Errors
/// When no VF of the profile exists that the domain does not name, or none of them is free that must be.
pub fn choose_vf(
    profile: &Profile,
    bounds: &Bounds,
    snapshot: &HostSnapshot,
    owners: &Owners,
    Naming { named, mine, must }: Naming<'_>,
) -> Result<PciAddress, NoPlacement> {
    let count = |vf: &Vf| named.get(&vf.address).copied().unwrap_or(0);
    let guaranteed = |vf: &Vf| {
        let owner = owners.get(&Device::Vf(vf.address));
        matches!(owner, Some(Owner::Allocation { guaranteed: true, .. }))
    };
    let mine_to_name = |vf: &Vf| !mine.contains(&vf.address) && !guaranteed(vf);
    let scores: BTreeMap<&GpuId, Score> = offers(profile, bounds, snapshot, owners, &[])
        .into_iter()
        .map(|offer| (&offer.matched.gpu.id, offer.score))
        .collect();
    let most_free = matches!(policy_of(profile, bounds), Policy::Host | Policy::MostFree);
    let mut best = None;
    for matched in candidates(profile, snapshot) {
        if bounds.excludes(&matched).is_some() {
            continue;
        }
        let Score { tier, value, tie, .. } = scores.get(&matched.gpu.id).cloned().unwrap_or_default();
        // What is free counts otherwise here: by who names a VF, not by who has it.
        let by_policy = if most_free { (0, 0) } else { (value, tie) };
        let Ok(fit) = &matched.fit else { continue };
        let free = left_to_name(matched.gpu, fit, owners, count);
        for vf in fit.vfs().iter().filter(|vf| mine_to_name(vf)) {
            let serves = vf_is_free(vf, owners) && fit_takes(fit, vf);
            if must == Must::BeFree && !serves {
                continue;
            }
            let held = !vf.holders.is_empty() || !fit_takes(fit, vf);
            // A VF that somebody foreign holds is as good as named once.
            let users = count(vf).max(u32::from(held));
            let key = (tier, users, held, by_policy, !vf.vfio, Reverse(free), vf.address);
            best = best.max(Some(Reverse(key)));
        }
    }
    best.map(|Reverse((.., address))| address).ok_or_else(|| {
        let asked = format!("one more {} (profile {})", profile.wish, profile.name);
        let mut no = refusal::of_profile(asked, profile, bounds, snapshot, owners, &[]);
        if !mine.is_empty() {
            no = no.hint(
                "the domain names every VF that would do; `vgpuctl vfs set PF N` makes more".to_owned(),
            );
        }
        no
    })
}

/// How many more allocations could name a VF of this PF and be served now.
fn left_to_name(gpu: &Gpu, fit: &Fit<'_>, owners: &Owners, count: impl Fn(&Vf) -> u32) -> usize {
    let unnamed = fit.vfs().iter().filter(|vf| count(vf) == 0 && vf.holders.is_empty()).count();
    let Fit::Vgpu { vgpu_type, vfs } = fit else { return unnamed };
    // Every allocation that names a VF without a vGPU will need one; what runs is counted by the driver.
    let promised: u32 = vfs.iter().filter(|vf| vf.vgpu_type().is_none()).map(|vf| count(vf)).sum();
    let room = vgpu::room(gpu, vgpu_type, vfs, owners).unwrap_or(0).saturating_sub(promised);
    unnamed.min(usize::try_from(room).unwrap_or(usize::MAX))
}

/// How many a PF can serve now beyond that each VF serves one; no limit where VFs are all there is.
pub(super) fn room_of(gpu: &Gpu, fit: &Fit<'_>, owners: &Owners) -> usize {
    let Fit::Vgpu { vgpu_type, vfs } = fit else { return usize::MAX };
    let room = vgpu::room(gpu, vgpu_type, vfs, owners).unwrap_or(0);
    usize::try_from(room).unwrap_or(usize::MAX)
}

/// Returns whether a VF takes the type of a fit now; a bare VF always does.
pub(super) fn fit_takes(fit: &Fit<'_>, vf: &Vf) -> bool {
    match fit {
        Fit::Vgpu { vgpu_type, .. } => vgpu::takes(vf, &vgpu_type.id),
        Fit::Type(_) | Fit::Vfs(_) | Fit::Whole(_) => true,
    }
}

/// Gives each want that names a VF that VF. The answer has one place per want, `None` for mdevs.
pub(super) fn named(
    wants: &[Want],
    snapshot: &HostSnapshot,
    owners: &Owners,
    barred: &[Barred],
) -> Result<Vec<Option<Choice>>, NoPlacement> {
    let mut choices = Vec::with_capacity(wants.len());
    let mut passed = Vec::new();
    let mut kind = Kind::NoCapacity;
    let mut short = None;
    for want in wants {
        let Device::Vf(address) = want.device else {
            choices.push(None);
            continue;
        };
        match take(want, address, snapshot, owners, barred) {
            Ok(choice) => choices.push(Some(choice)),
            Err((why, text)) => {
                kind = why;
                short = short.or(Some(want));
                passed.push(Passed { place: address.to_string(), text });
            }
        }
    }
    let Some(short) = short else { return Ok(choices) };
    passed.extend(refusal::places(&short.profile, &short.bounds, snapshot, owners, barred));
    let another = "`vgpuctl detach` and `vgpuctl attach` give the domain another VF".to_owned();
    let hints = refusal::bound(short).into_iter().chain([another]);
    Err(hints.fold(NoPlacement::new(refusal::asked(wants), passed, kind), NoPlacement::hint))
}

/// Gives a want the VF that it names, or says why that cannot be had.
pub(super) fn take(
    want: &Want,
    address: PciAddress,
    snapshot: &HostSnapshot,
    owners: &Owners,
    barred: &[Barred],
) -> Result<Choice, (Kind, String)> {
    let Some((gpu, vf)) = snapshot.function(address) else {
        return Err((Kind::NoCapacity, "does not exist now".to_owned()));
    };
    let profile = want.bounds.narrow(&want.profile);
    if let Wish::Vf(id) = profile.wish {
        if vf.id != id {
            return Err((Kind::Conflict, format!("is a {}, not the {id} that the profile asks for", vf.id)));
        }
        if !gpu.backend.gives_bare_vfs() {
            return Err((Kind::Conflict, format!("is on {}, which does not give out VFs", gpu.name)));
        }
    }
    let fit = fit_of(&profile, snapshot, gpu, vf)?;
    if let Some(pinned) = want.bounds.gpu.as_ref().filter(|pinned| **pinned != gpu.id) {
        return Err((Kind::Conflict, format!("is not on GPU {pinned}, to which this allocation is pinned")));
    }
    if let Some(reason) = want.bounds.shut(&gpu.id) {
        return Err((Kind::NoCapacity, format!("cannot be had: {} {reason}", gpu.name)));
    }
    if let Some(bar) = barred.iter().find(|bar| bars(bar, gpu, vf)) {
        return Err((Kind::NoCapacity, format!("cannot be had: {} {}", bar.parent, bar.reason)));
    }
    let ours = owners.get(&Device::Vf(address)).is_some_and(
        |owner| matches!(owner, Owner::Allocation { allocation, .. } if *allocation == want.allocation),
    );
    if !vf.holders.is_empty() || !(ours || vf_is_free(vf, owners)) {
        return Err((Kind::NoCapacity, format!("is held by {}", vf_owner(vf, owners))));
    }
    let mdev_type = fit.type_id().cloned();
    match (&fit, vf.vgpu_type()) {
        // What is there already and ours needs no room.
        (_, Some(found)) if mdev_type.as_ref() == Some(found) => {}
        (Fit::Vgpu { vgpu_type, vfs }, _) if !fit_takes(&fit, vf) => {
            let why = vgpu::room(gpu, vgpu_type, vfs, owners).err();
            let why = why.unwrap_or_else(|| format!("does not offer {} on this VF", vgpu_type.id));
            return Err((Kind::NoCapacity, format!("cannot become {}: {} {why}", vgpu_type.id, gpu.name)));
        }
        _ => {}
    }
    Ok(Choice {
        allocation: want.allocation.clone(),
        device: want.device,
        gpu: gpu.id.clone(),
        parent: gpu.name.clone(),
        mdev_type,
        vf_id: Some(vf.id),
        bind: !vf.vfio,
        functions: match fit {
            Fit::Whole(_) => gpu.whole.as_ref().map(Whole::to_move).unwrap_or_default(),
            Fit::Type(_) | Fit::Vfs(_) | Fit::Vgpu { .. } => Vec::new(),
        },
    })
}

/// Returns what of a VF's GPU serves a profile, when this VF is among it.
fn fit_of<'a>(
    profile: &Profile,
    snapshot: &'a HostSnapshot,
    gpu: &Gpu,
    vf: &Vf,
) -> Result<Fit<'a>, (Kind, String)> {
    let mut own = candidates(profile, snapshot).into_iter().filter(|matched| matched.gpu.id == gpu.id);
    let wish = &profile.wish;
    match own.next().map(|matched| matched.fit) {
        Some(Ok(fit)) if fit.vfs().iter().any(|one| one.address == vf.address) => Ok(fit),
        Some(Ok(_)) | None => {
            Err((Kind::Conflict, format!("is nothing that {} gives out as {wish}", gpu.name)))
        }
        Some(Err(why)) => Err((Kind::Conflict, format!("does not serve {wish}: {} {why}", gpu.name))),
    }
}

/// Returns whether a bar is for a VF: it names the PF, or the VF itself.
pub(super) fn bars(bar: &Barred, gpu: &Gpu, vf: &Vf) -> bool {
    bar.mdev_type.is_none() && (bar.parent == gpu.name || bar.parent.as_str().parse() == Ok(vf.address))
}
