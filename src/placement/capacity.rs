//! What a host still holds. A function of its arguments.
//!
//! With free(g) for the framebuffer of GPU g that nobody has, size(m) for that of one slice of profile m, and
//! possible(m, g) for how many of it g can still make, each counted alone:
//!
//! - stranded(g) = free(g) − the most of size(t) · possible(t, g) over all types t that g offers;
//! - F(g) = Σ p(m) · (free(g) − size(m) · possible(m, g)), with p(m) the weight of m among the requests; a profile
//!   that g cannot serve counts with all of free(g). The share is Σ F(g) / Σ free(g).
//!
//! Several parents of one GPU share its memory, and each tells only what it could give alone: possible is what they
//! say together, and at most what the memory holds.

use std::collections::BTreeMap;

use crate::model::{
    Capacity, Device, Gpu, GpuCapacity, HostSnapshot, LargestSlice, MdevType, MdevTypeId, Profile,
    ProfileCapacity, ProfileName, SliceShare, Vf,
};
use crate::placement::offer::{mdev_owner, offers, vf_is_free, vf_owner};
use crate::placement::usage::{Memory, usage};
use crate::placement::{Owners, refusal, vgpu};
use crate::profile::{Bounds, Fit, candidates};

/// A profile with what binds a slice of it, and its weight in the mix.
#[derive(Clone, Debug)]
pub struct Weighted {
    /// The profile.
    pub profile: Profile,
    /// What rules say of GPUs for it.
    pub bounds: Bounds,
    /// How often it was asked for.
    pub weight: u64,
}

/// Says what a host still holds. `mix` has every profile once; `source` says where its weights come from.
#[must_use]
pub fn capacity(mix: &[Weighted], source: &str, snapshot: &HostSnapshot, owners: &Owners) -> Capacity {
    let sum: u64 = mix.iter().map(|one| one.weight).sum();
    let mut gpus: Vec<&Gpu> = snapshot.gpus.iter().filter(|gpu| makes_slices(gpu)).collect();
    gpus.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    let shown: Vec<GpuCapacity> = gpus.iter().map(|gpu| of_gpu(gpu, mix, sum, owners)).collect();
    let add = |of: fn(&GpuCapacity) -> Option<u64>| shown.iter().filter_map(of).sum::<u64>();
    let free_mib = add(|gpu| Some(gpu.total_mib?.saturating_sub(gpu.used_mib?)));
    let fragmented_mib = add(|gpu| gpu.fragmented_mib);
    let known = free_mib > 0 && sum > 0;
    Capacity {
        profiles: mix.iter().map(|one| of_profile(one, sum, snapshot, owners)).collect(),
        largest: largest(&gpus, owners),
        free_mib,
        stranded_mib: add(|gpu| gpu.stranded_mib),
        fragmented_mib,
        fragmentation: known.then(|| thousandths(fragmented_mib, free_mib)),
        mix: source.to_owned(),
        gpus: shown,
    }
}

fn makes_slices(gpu: &Gpu) -> bool {
    !gpu.parents.is_empty() || gpu.sriov.as_ref().is_some_and(|sriov| !sriov.vfs.is_empty())
}

fn thousandths(part: u64, whole: u64) -> u32 {
    u32::try_from(part.saturating_mul(1000) / whole.max(1)).unwrap_or(u32::MAX)
}

/// The types of a GPU with what its parents say together, by id.
fn types(gpu: &Gpu) -> BTreeMap<&MdevTypeId, (&MdevType, u32)> {
    let mut types: BTreeMap<&MdevTypeId, (&MdevType, u32)> = BTreeMap::new();
    for offered in gpu.parents.iter().flat_map(|parent| &parent.types) {
        let (_, sum) = types.entry(&offered.id).or_insert((offered, 0));
        *sum = sum.saturating_add(offered.available);
    }
    types
}

fn mib(offered: &MdevType) -> Option<u64> {
    offered.framebuffer.map(|size| u64::from(size.mib())).filter(|mib| *mib > 0)
}

/// Returns how many more of a type a GPU can make.
fn possible(offered: &MdevType, said: u32, memory: Option<Memory>) -> u32 {
    match (memory, mib(offered)) {
        (Some(memory), Some(mib)) => said.min(u32::try_from(memory.free() / mib).unwrap_or(u32::MAX)),
        _ => said,
    }
}

fn of_gpu(gpu: &Gpu, mix: &[Weighted], sum: u64, owners: &Owners) -> GpuCapacity {
    let memory = usage(gpu, owners).memory;
    let types = types(gpu);
    let held = |(offered, said): &(&MdevType, u32)| {
        mib(offered).map(|mib| mib * u64::from(possible(offered, *said, memory)))
    };
    let useful = types.values().filter_map(held).max().unwrap_or(0);
    let fragmented = memory.map(|memory| {
        let lost = |one: &Weighted| {
            u128::from(memory.free().saturating_sub(use_of(one, gpu, memory))) * u128::from(one.weight)
        };
        let total: u128 = mix.iter().map(lost).sum();
        u64::try_from(total / u128::from(sum.max(1))).unwrap_or(u64::MAX)
    });
    let more = types.values().map(|(offered, said)| possible(offered, *said, memory)).max();
    let free_vfs = own_vfs(gpu).filter(|vf| vf_is_free(vf, owners)).count();
    GpuCapacity {
        gpu: gpu.id.clone(),
        name: gpu.name.clone(),
        used_mib: memory.map(|memory| memory.used),
        total_mib: memory.map(|memory| memory.total),
        stranded_mib: memory.map(|memory| memory.free().saturating_sub(useful)),
        fragmented_mib: fragmented,
        slices: slices(gpu, owners),
        more: more.unwrap_or_else(|| u32::try_from(free_vfs).unwrap_or(u32::MAX)),
    }
}

/// MiB of a GPU that slices of one profile could have; 0 when it cannot be served there.
fn use_of(one: &Weighted, gpu: &Gpu, memory: Memory) -> u64 {
    let snapshot = HostSnapshot { boot_id: None, gpus: vec![gpu.clone()], problems: Vec::new() };
    let matches = candidates(&one.profile, &snapshot);
    let mut types: BTreeMap<&MdevTypeId, (&MdevType, u32)> = BTreeMap::new();
    for matched in matches.iter().filter(|matched| one.bounds.excludes(matched).is_none()) {
        if let Ok(Fit::Type(offered)) = matched.fit {
            let (_, sum) = types.entry(&offered.id).or_insert((offered, 0));
            *sum = sum.saturating_add(offered.available);
        }
    }
    let held = |(offered, said): &(&MdevType, u32)| {
        mib(offered).map(|mib| mib * u64::from(possible(offered, *said, Some(memory))))
    };
    types.values().filter_map(held).max().unwrap_or(0)
}

/// VFs that are slices themselves, not parents of some.
fn own_vfs(gpu: &Gpu) -> impl Iterator<Item = &Vf> {
    let parent = |vf: &Vf| gpu.parents.iter().any(|parent| parent.name.as_str().parse() == Ok(vf.address));
    gpu.sriov.iter().flat_map(|sriov| &sriov.vfs).filter(move |vf| !parent(vf))
}

fn slices(gpu: &Gpu, owners: &Owners) -> Vec<SliceShare> {
    let types = types(gpu);
    let mdevs = gpu.parents.iter().flat_map(|parent| &parent.mdevs).map(|mdev| SliceShare {
        device: Device::Mdev(mdev.uuid),
        mdev_type: Some(mdev.mdev_type.clone()),
        mib: types.get(&mdev.mdev_type).and_then(|(offered, _)| mib(offered)),
        owner: mdev_owner(mdev, owners),
    });
    let vfs = own_vfs(gpu).filter(|vf| !vf_is_free(vf, owners)).map(|vf| SliceShare {
        device: Device::Vf(vf.address),
        mdev_type: vf.vgpu_type().cloned(),
        mib: None,
        owner: vf_owner(vf, owners),
    });
    let whole =
        gpu.whole.iter().map(|whole| &whole.function).filter(|own| {
            owners.contains_key(&Device::Vf(own.address)) || own.vfio && !own.holders.is_empty()
        });
    let whole = whole.map(|own| SliceShare {
        device: Device::Vf(own.address),
        mdev_type: None,
        mib: None,
        owner: vf_owner(own, owners),
    });
    let mut slices: Vec<SliceShare> = mdevs.chain(vfs).chain(whole).collect();
    slices.sort_by(|a, b| (&b.mib, &a.owner, &a.device).cmp(&(&a.mib, &b.owner, &b.device)));
    slices
}

fn largest(gpus: &[&Gpu], owners: &Owners) -> Option<LargestSlice> {
    let mut found: Option<LargestSlice> = None;
    for gpu in gpus {
        let memory = usage(gpu, owners).memory;
        for (offered, said) in types(gpu).into_values() {
            let Some(mib) = mib(offered).filter(|_| possible(offered, said, memory) > 0) else { continue };
            if found.as_ref().is_none_or(|best| mib > best.mib) {
                found = Some(LargestSlice { gpu: gpu.name.clone(), mdev_type: offered.id.clone(), mib });
            }
        }
    }
    found
}

fn of_profile(one: &Weighted, sum: u64, snapshot: &HostSnapshot, owners: &Owners) -> ProfileCapacity {
    let Weighted { profile, bounds, weight } = one;
    let all = offers(profile, bounds, snapshot, owners, &[]);
    let mut possible_now = 0u32;
    let mut emptied = Some(0u32);
    let mut counted: Vec<&Gpu> = Vec::new();
    for offer in &all {
        let gpu = offer.matched.gpu;
        if counted.iter().any(|one| one.id == gpu.id) {
            continue;
        }
        counted.push(gpu);
        let memory = usage(gpu, owners).memory;
        let here = all.iter().filter(|other| other.matched.gpu.id == gpu.id);
        let said = here.clone().fold(0u32, |sum, offer| sum.saturating_add(offer.possible()));
        let offered = here.clone().find_map(|offer| offer.mdev_type());
        possible_now = possible_now.saturating_add(match offered {
            Some(offered) => possible(offered, said, memory),
            None => said,
        });
        emptied = emptied.zip(if_emptied(profile, gpu)).map(|(sum, more)| sum.saturating_add(more));
    }
    let blocked = refusal::places(profile, bounds, snapshot, owners, &[]).into_iter();
    let full = emptied.is_some_and(|most| most == possible_now);
    ProfileCapacity {
        profile: profile.name.clone(),
        wish: profile.wish.to_string(),
        possible: possible_now,
        if_emptied: emptied,
        blocked: if full {
            Vec::new()
        } else {
            blocked.map(|one| format!("{}: {}", one.place, one.text)).collect()
        },
        weight: thousandths(*weight, sum),
    }
}

/// How many an empty GPU could make, whatever rules say; `None` where the driver does not tell.
fn if_emptied(profile: &Profile, gpu: &Gpu) -> Option<u32> {
    let snapshot = HostSnapshot { boot_id: None, gpus: vec![gpu.clone()], problems: Vec::new() };
    let matches = candidates(profile, &snapshot);
    let fits: Vec<&Fit<'_>> = matches.iter().filter_map(|matched| matched.fit.as_ref().ok()).collect();
    let parents = u32::try_from(fits.len()).unwrap_or(u32::MAX);
    match fits.first() {
        None => Some(0),
        Some(Fit::Whole(_)) => Some(1),
        Some(Fit::Vfs(vfs)) => u32::try_from(vfs.len()).ok(),
        Some(Fit::Vgpu { vgpu_type, vfs }) => vgpu::if_emptied(gpu, vgpu_type, vfs.len()),
        // Where VFs are parents, each makes one.
        Some(Fit::Type(offered)) if gpu.parents.len() > 1 => Some(offered.max_instances?.min(parents)),
        Some(Fit::Type(offered)) => match offered.max_instances {
            Some(most) => Some(most),
            None if gpu.parents.iter().all(|parent| parent.mdevs.is_empty()) => Some(offered.available),
            None => None,
        },
    }
}

/// Counts requests by profile; a profile that nobody asked for weighs nothing, unless nobody asked for any.
#[must_use]
pub fn weights<'a>(
    profiles: impl Iterator<Item = &'a ProfileName>,
    asked: &BTreeMap<ProfileName, u64>,
    followers: &BTreeMap<ProfileName, u64>,
) -> (BTreeMap<ProfileName, u64>, String) {
    let names: Vec<&ProfileName> = profiles.collect();
    let sum =
        |counts: &BTreeMap<ProfileName, u64>| names.iter().filter_map(|name| counts.get(*name)).sum::<u64>();
    let of = |counts: &BTreeMap<ProfileName, u64>| {
        names.iter().map(|name| ((*name).clone(), counts.get(*name).copied().unwrap_or(0))).collect()
    };
    match (sum(asked), sum(followers)) {
        (0, 0) => (names.iter().map(|name| ((*name).clone(), 1)).collect(), "all profiles alike".to_owned()),
        (0, followed) => (of(followers), format!("{followed} allocations, as nothing was started yet")),
        (started, _) => (of(asked), format!("{started} slices that were started")),
    }
}

#[cfg(test)]
mod tests;
