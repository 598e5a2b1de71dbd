//! What one parent could give one profile now, and who has the rest.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::model::{
    Candidate, Device, Gpu, GpuId, Holder, HostSnapshot, Mdev, MdevParent, MdevType, Policy, Profile, Score,
    Vf, one_line,
};
use crate::placement::policy::{self, Place, Placed};
use crate::placement::usage::{Usage, usage};
use crate::placement::{Barred, Owner, Owners, vgpu};
use crate::profile::{Bounds, Fit, Match, candidates};

/// A parent that matches, or the reason why it does not.
#[derive(Clone, Debug)]
pub(super) struct Offer<'a> {
    pub(super) matched: Match<'a>,
    /// How many it can give, or one clause that says why it gives none although it matches, or why it does not match.
    pub(super) room: Result<u32, String>,
    /// How many all parents of its GPU can give.
    pub(super) of_gpu: u32,
    /// As the policy sees it.
    pub(super) place: Place<'a>,
    /// What the policy makes of it.
    pub(super) score: Score,
}

/// Returns what every parent offers, in the order of [`candidates`].
pub(super) fn offers<'a>(
    profile: &Profile,
    bounds: &Bounds,
    snapshot: &'a HostSnapshot,
    owners: &Owners,
    barred: &[Barred],
) -> Vec<Offer<'a>> {
    let offer = |mut matched: Match<'a>| {
        if let Some(reason) = bounds.excludes(&matched) {
            matched.fit = Err(reason);
        }
        let room = match &matched.fit {
            Err(reason) => Err(reason.clone()),
            Ok(fit) => match bar(&matched, fit, barred) {
                Some(reason) => Err(one_line(reason, 200)),
                None => count(matched.gpu, fit, owners),
            },
        };
        (matched, room)
    };
    let all: Vec<(Match<'a>, Result<u32, String>)> =
        candidates(&bounds.narrow(profile), snapshot).into_iter().map(offer).collect();
    let mut of_gpu: BTreeMap<&'a GpuId, (u32, Usage)> = BTreeMap::new();
    for (matched, room) in &all {
        let new = || (0, usage(matched.gpu, owners));
        let (sum, _) = of_gpu.entry(&matched.gpu.id).or_insert_with(new);
        *sum = sum.saturating_add(*room.as_ref().unwrap_or(&0));
    }
    let mut names: Vec<&Gpu> = all.iter().map(|(matched, _)| matched.gpu).collect();
    names.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    names.dedup_by(|a, b| a.id == b.id);
    let round: Vec<&GpuId> = names.into_iter().map(|gpu| &gpu.id).collect();
    let score = |(matched, room): (Match<'a>, Result<u32, String>)| {
        let (of_gpu, usage) = of_gpu.get(&matched.gpu.id).copied().unwrap_or_default();
        let place = place(&matched, *room.as_ref().unwrap_or(&0), of_gpu, usage, &round);
        let place = tasted(place, profile, bounds, &round);
        let score = policy::score(policy_of(profile, bounds), &place, Placed::default(), bounds.taste.seed);
        Offer { matched, room, of_gpu, place, score }
    };
    all.into_iter().map(score).collect()
}

/// Returns the policy that counts.
pub(super) fn policy_of(profile: &Profile, bounds: &Bounds) -> Policy {
    bounds.taste.policy.unwrap_or(profile.policy)
}

fn place<'a>(matched: &Match<'a>, left: u32, of_gpu: u32, usage: Usage, round: &[&GpuId]) -> Place<'a> {
    let each = match &matched.fit {
        Ok(Fit::Type(mdev_type)) => mdev_type.framebuffer.map(|size| u64::from(size.mib())),
        _ => None,
    };
    let ring = policy::ring(round, &matched.gpu.id, None);
    let (gpu, parent) = (matched.gpu, matched.parent);
    Place { gpu, parent, left, of_gpu, usage, each, busy: None, tier: 0, ring, rank: 0 }
}

/// Puts in what the profile and its rules say of a place.
fn tasted<'a>(place: Place<'a>, profile: &Profile, bounds: &Bounds, round: &[&GpuId]) -> Place<'a> {
    let (id, taste) = (&place.gpu.id, &bounds.taste);
    Place {
        busy: taste.busy.get(id).copied(),
        tier: bounds.tier(id).0,
        ring: policy::ring(round, id, taste.last.as_ref()),
        rank: policy::rank(&profile.rules.order, place.gpu, place.parent),
        ..place
    }
}

fn bar<'b>(matched: &Match<'_>, fit: &Fit<'_>, barred: &'b [Barred]) -> Option<&'b str> {
    let applies = |bar: &&Barred| {
        let whole = bar.mdev_type.is_none();
        let this = fit.type_id().is_some_and(|id| bar.mdev_type.as_ref() == Some(id));
        &bar.parent == matched.parent && (whole || this)
    };
    barred.iter().find(applies).map(|bar| bar.reason.as_str())
}

fn count(gpu: &Gpu, fit: &Fit<'_>, owners: &Owners) -> Result<u32, String> {
    Ok(match fit {
        Fit::Type(mdev_type) => mdev_type.available,
        Fit::Vgpu { vgpu_type, vfs } => return vgpu::room(gpu, vgpu_type, vfs, owners),
        Fit::Vfs(_) | Fit::Whole(_) => {
            let vfs = fit.vfs();
            let free = vfs.iter().filter(|vf| vf_is_free(vf, owners)).count();
            u32::try_from(free).unwrap_or(u32::MAX)
        }
    })
}

/// Returns whether nobody has a VF: no holder, no vGPU on it, and not made for any allocation.
pub(super) fn vf_is_free(vf: &Vf, owners: &Owners) -> bool {
    vf.holders.is_empty() && vf.vgpu_type().is_none() && !owners.contains_key(&Device::Vf(vf.address))
}

impl<'a> Offer<'a> {
    /// Returns the mdev type that would be made.
    pub(super) fn mdev_type(&self) -> Option<&'a MdevType> {
        match &self.matched.fit {
            Ok(Fit::Type(mdev_type)) => Some(mdev_type),
            _ => None,
        }
    }

    /// Returns how many it can give.
    pub(super) fn possible(&self) -> u32 {
        self.room.as_ref().copied().unwrap_or(0)
    }

    /// Orders by whether anything is left, then those that match at all, then by the policy, then by name.
    pub(super) fn best_first(&self, other: &Self) -> Ordering {
        let key = |offer: &Self| {
            let Score { tier, value, tie, .. } = offer.score;
            (offer.possible() == 0, offer.matched.fit.is_err(), tier, value, tie)
        };
        key(self)
            .cmp(&key(other))
            .then_with(|| self.matched.parent.cmp(other.matched.parent))
            .then_with(|| self.matched.gpu.id.cmp(&other.matched.gpu.id))
    }

    /// Returns what it has left, or why it gives none, as a clause that follows the parent's name.
    pub(super) fn left(&self) -> String {
        match (&self.room, &self.matched.fit) {
            (Err(reason), _) | (Ok(_), Err(reason)) => reason.clone(),
            (Ok(room), Ok(Fit::Type(mdev_type))) => format!("has {room} of {} left", mdev_type.id),
            (Ok(room), Ok(Fit::Vgpu { vgpu_type, .. })) => format!("has {room} of {} left", vgpu_type.id),
            (Ok(0), Ok(Fit::Whole(_))) => "is taken".to_owned(),
            (Ok(_), Ok(Fit::Whole(_))) => "is free".to_owned(),
            (Ok(room), Ok(Fit::Vfs(vfs))) => format!("has {room} of {} VFs free", vfs.len()),
        }
    }

    /// Counts the slices on it by owner and kind.
    pub(super) fn holders(&self, owners: &Owners) -> BTreeMap<(String, String), u32> {
        let mut held = BTreeMap::new();
        let mut add = |key| *held.entry(key).or_insert(0) += 1;
        match &self.matched.fit {
            Ok(Fit::Vgpu { vfs, .. }) => {
                let taken = vfs.iter().filter_map(|vf| Some((vf, vf.vgpu_type()?)));
                taken.for_each(|(vf, id)| add((vf_owner(vf, owners), id.to_string())));
            }
            Ok(Fit::Vfs(vfs)) => {
                let taken = vfs.iter().filter(|vf| !vf_is_free(vf, owners));
                taken.for_each(|vf| add((vf_owner(vf, owners), "VF".to_owned())));
            }
            Ok(Fit::Whole([function])) if !vf_is_free(function, owners) => {
                add((vf_owner(function, owners), "whole GPU".to_owned()));
            }
            Ok(Fit::Whole(_)) => {}
            Ok(Fit::Type(_)) => {
                let mdevs = self.matched.mdev_parent.map_or(&[][..], |parent: &MdevParent| &parent.mdevs);
                mdevs.iter().for_each(|mdev| add((mdev_owner(mdev, owners), mdev.mdev_type.to_string())));
            }
            Err(_) => {}
        }
        held
    }

    /// Makes it a candidate of an explanation.
    pub(super) fn candidate(&self, owners: &Owners) -> Candidate {
        let possible = self.possible();
        let reason = (possible == 0).then(|| self.left() + &held_text(&self.holders(owners)));
        Candidate {
            parent: self.matched.parent.clone(),
            gpu: self.matched.gpu.id.clone(),
            mdev_type: self.matched.fit.as_ref().ok().and_then(|fit| fit.type_id().cloned()),
            possible,
            reason,
            score: (possible > 0).then(|| self.score.clone()),
        }
    }
}

/// Returns who holds what as the end of a clause; empty when nobody holds anything.
pub(super) fn held_text(held: &BTreeMap<(String, String), u32>) -> String {
    const MOST: usize = 6;
    if held.is_empty() {
        return String::new();
    }
    let some = held.iter().take(MOST).map(|((owner, what), count)| format!("{owner} {count} x {what}"));
    let text = some.collect::<Vec<_>>().join(", ");
    let more = held.len().saturating_sub(MOST);
    if more > 0 { format!(", held by {text} and {more} more") } else { format!(", held by {text}") }
}

/// Returns who made an mdev, for people.
pub(super) fn mdev_owner(mdev: &Mdev, owners: &Owners) -> String {
    owner(Device::Mdev(mdev.uuid), &mdev.holders, owners).unwrap_or_else(|| "foreign".to_owned())
}

/// Returns who has a VF, for people.
pub(super) fn vf_owner(vf: &Vf, owners: &Owners) -> String {
    let nobody = || if vf.vgpu_type().is_some() { "foreign" } else { "nobody" }.to_owned();
    let holder = || vf.holders.first().map_or_else(nobody, |h| one_line(&h.to_string(), 80));
    owner(Device::Vf(vf.address), &vf.holders, owners).unwrap_or_else(holder)
}

fn owner(device: Device, holders: &[Holder], owners: &Owners) -> Option<String> {
    let domain = holders.iter().find_map(|holder| holder.domain.as_deref()).map(|name| one_line(name, 64));
    match (owners.get(&device), domain) {
        (Some(Owner::Allocation { domain, guaranteed: true, .. }), _) => {
            Some(format!("domain {} (guaranteed)", one_line(domain, 64)))
        }
        (Some(Owner::Allocation { domain, .. }), _) => Some(format!("domain {}", one_line(domain, 64))),
        (Some(Owner::Handmade), _) => Some("vgpuctl by hand".to_owned()),
        (Some(Owner::Foreign(maker)), None) => Some(format!("foreign ({maker})")),
        (Some(Owner::Foreign(maker)), Some(domain)) => Some(format!("foreign ({maker}, domain {domain})")),
        (None, domain) => domain.map(|domain| format!("foreign (domain {domain})")),
    }
}
