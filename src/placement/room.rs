//! Making room: which running domains to restart elsewhere, or to stop, so that a request fits; and which to restart
//! so that the host is less fragmented. Functions of their arguments; nothing here acts.
//!
//! The fewest domains are disturbed that make it fit; of plans with the same number the one with the fewest slices,
//! then the first by name. All sets of one domain are tried, then all of two, and so on up to [`MOST_DISTURBED`], and
//! for each every assignment to GPUs, so that the plan is the cheapest one there is (of domains with several slices:
//! among assignments that the policies give, or that put all on one GPU). Where there are too many sets, those are
//! tried that empty a part of one GPU; only plans in which somebody makes way for somebody who makes way are missed then. What a GPU could give when slices
//! go or come is estimated by [`Sim`]; the kernel has the last word, so a plan is walked one verified step at a time.

mod sim;

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Device, DeviceName, DomainRef, GpuId, HostSnapshot};
use crate::placement::capacity::{Weighted, capacity};
use crate::placement::constraints::{Tie, choose_tied, have_memory};
use crate::placement::{Barred, Choice, NoPlacement, Owners, Want, explain};
use sim::Sim;

/// The most domains that one plan disturbs.
pub const MOST_DISTURBED: usize = 4;

/// The most sets of domains that are tried: some seconds on a host with hundreds of domains.
const MOST_SETS: usize = 20_000;

/// The most restarts of a plan that makes the host less fragmented.
const MOST_STEPS: usize = 8;

/// The slices of one start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// What is wanted.
    pub wants: Vec<Want>,
    /// How the wants bind each other, one for each.
    pub ties: Vec<Tie>,
}

/// A running domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Which.
    pub domain: DomainRef,
    /// What its next start would want.
    pub party: Party,
    /// Its slices that exist.
    pub slices: Vec<Device>,
    /// Where they are.
    pub parents: Vec<DeviceName>,
    /// What it is worth; the least is stopped first.
    pub priority: i32,
}

/// What happens to a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// It is stopped, and started where the plan says.
    Restart,
    /// It is stopped, and stays so.
    Stop,
}

/// One domain of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disturbed {
    /// Which.
    pub domain: DomainRef,
    /// What happens to it.
    pub what: Disturbance,
    /// Where its slices are.
    pub from: Vec<DeviceName>,
    /// Where they will be; empty when it stays stopped.
    pub to: Vec<Choice>,
}

/// How to make room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomPlan {
    /// The domains that are disturbed, in the order of the steps. Empty when the request fits already.
    pub disturbed: Vec<Disturbed>,
    /// Where the request will be.
    pub to: Vec<Choice>,
}

/// The host as the planner takes it.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// The newest reading.
    pub snapshot: &'a HostSnapshot,
    /// The slices that exist and are ours.
    pub owners: &'a Owners,
    /// What must not be chosen now.
    pub barred: &'a [Barred],
}

/// Plans room for a request by what may happen to `tenants`; those that must not be touched are not in there.
/// `None` when no plan within the limits makes it fit.
#[must_use]
pub fn make_room(request: &Party, tenants: &[Tenant], what: Disturbance, site: Site<'_>) -> Option<RoomPlan> {
    let mut tenants: Vec<&Tenant> = tenants.iter().collect();
    tenants.sort_by(|a, b| (&a.domain.name, a.domain.uuid).cmp(&(&b.domain.name, b.domain.uuid)));
    let before = Sim::new(site.snapshot, site.owners);
    let homes: Vec<Vec<&GpuId>> = tenants.iter().map(|tenant| homes(tenant, site.snapshot)).collect();
    let mut freeing =
        Freeing { request, tenants: &tenants, homes: &homes, before: &before, known: BTreeMap::new() };
    let mut tried = 0;
    for count in 0..=MOST_DISTURBED.min(tenants.len()) {
        let mut best: Option<((i64, usize), RoomPlan)> = None;
        for set in sets_of(&homes, count, MOST_SETS - tried) {
            tried += 1;
            if tried >= MOST_SETS {
                return best.map(|(_, plan)| plan);
            }
            if !freeing.may_help(&set, site.barred) {
                continue;
            }
            let chosen: Vec<&Tenant> = set.into_iter().map(|at| tenants[at]).collect();
            let worth = chosen.iter().map(|one| i64::from(one.priority)).sum();
            let slices = chosen.iter().map(|one| one.slices.len()).sum();
            let cost = match what {
                Disturbance::Restart => (0, slices),
                Disturbance::Stop => (worth, slices),
            };
            if best.as_ref().is_some_and(|(least, _)| *least <= cost) {
                continue;
            }
            if let Some(plan) = with_set(request, &chosen, what, &before, site.barred) {
                best = Some((cost, plan));
            }
        }
        if best.is_some() {
            return best.map(|(_, plan)| plan);
        }
    }
    None
}

/// Which sets of tenants make room at all for a request of one slice. That is on one GPU in the end, so those of a set
/// that are on it must be enough by themselves; there are far fewer of these than sets.
struct Freeing<'a> {
    request: &'a Party,
    tenants: &'a [&'a Tenant],
    homes: &'a [Vec<&'a GpuId>],
    before: &'a Sim,
    known: BTreeMap<Vec<usize>, bool>,
}

impl Freeing<'_> {
    fn may_help(&mut self, set: &[usize], barred: &[Barred]) -> bool {
        let [want] = self.request.wants.as_slice() else { return true };
        let gpus: BTreeSet<&GpuId> = set.iter().flat_map(|at| self.homes[*at].iter().copied()).collect();
        let on = |gpu: &&GpuId| set.iter().copied().filter(|at| self.homes[*at].contains(gpu)).collect();
        let parts: Vec<Vec<usize>> = gpus.iter().map(on).collect();
        let enough = |part: &Vec<usize>| {
            let slices = part.iter().flat_map(|at| self.tenants[*at].slices.iter().copied()).collect();
            let after = self.before.without(&slices);
            let wants = std::slice::from_ref(want);
            choose_tied(wants, &self.request.ties, &after.snapshot, &after.owners, barred).is_ok()
        };
        // Nobody at all is a set too.
        set.is_empty()
            || parts.into_iter().any(|part| match self.known.get(&part) {
                Some(known) => *known,
                None => {
                    let found = enough(&part);
                    self.known.insert(part, found);
                    found
                }
            })
    }
}

/// The GPUs that a tenant's slices are on.
fn homes<'a>(tenant: &Tenant, snapshot: &'a HostSnapshot) -> Vec<&'a GpuId> {
    let home = |device: &Device| match device {
        Device::Mdev(uuid) => snapshot.mdev(*uuid).map(|(gpu, ..)| &gpu.id),
        Device::Vf(address) => snapshot.function(*address).map(|(gpu, _)| &gpu.id),
    };
    tenant.slices.iter().filter_map(home).collect()
}

/// The sets of `count` tenants to try, at most about `left` of them: all there are, or else those with a GPU in common.
fn sets_of<'a>(
    homes: &'a [Vec<&'a GpuId>],
    count: usize,
    left: usize,
) -> Box<dyn Iterator<Item = Vec<usize>> + 'a> {
    if combinations(homes.len(), count) <= left {
        return Box::new(sets(homes.len(), count));
    }
    let gpus: BTreeSet<&GpuId> = homes.iter().flatten().copied().collect();
    let on_one = move |gpu: &'a GpuId| {
        let tenants: Vec<usize> = (0..homes.len()).filter(|at| homes[*at].contains(&gpu)).collect();
        sets(tenants.len(), count).map(move |set| set.into_iter().map(|at| tenants[at]).collect())
    };
    Box::new(gpus.into_iter().flat_map(on_one))
}

/// How many sets of `count` there are among `of`.
fn combinations(of: usize, count: usize) -> usize {
    (0..count).fold(1, |sets: usize, at| sets.saturating_mul(of.saturating_sub(at)) / (at + 1))
}

/// All sets of `count` numbers below `of`, each sorted, in order.
fn sets(of: usize, count: usize) -> impl Iterator<Item = Vec<usize>> {
    let first = (count <= of).then(|| (0..count).collect::<Vec<usize>>());
    std::iter::successors(first, move |set| {
        let mut next = set.clone();
        let at = (0..count).rev().find(|at| next[*at] < of - count + *at)?;
        next[at] += 1;
        for later in at + 1..count {
            next[later] = next[later - 1] + 1;
        }
        Some(next)
    })
}

fn with_set(
    request: &Party,
    chosen: &[&Tenant],
    what: Disturbance,
    before: &Sim,
    barred: &[Barred],
) -> Option<RoomPlan> {
    let gone: BTreeSet<Device> = chosen.iter().flat_map(|one| one.slices.iter().copied()).collect();
    let after = before.without(&gone);
    let mut parties = vec![request];
    if what == Disturbance::Restart {
        parties.extend(chosen.iter().map(|one| &one.party));
    }
    let mut places = settle(&parties, &after, barred)?.into_iter();
    let to = places.next().unwrap_or_default();
    let disturbed = chosen.iter().map(|one| Disturbed {
        domain: one.domain.clone(),
        what,
        from: one.parents.clone(),
        to: places.next().unwrap_or_default(),
    });
    Some(RoomPlan { disturbed: disturbed.collect(), to })
}

/// Places all parties, trying every option of each; `None` when there is no way.
fn settle(parties: &[&Party], sim: &Sim, barred: &[Barred]) -> Option<Vec<Vec<Choice>>> {
    let Some((first, rest)) = parties.split_first() else { return Some(Vec::new()) };
    for option in options(first, sim, barred) {
        if let Some(mut places) = settle(rest, &sim.with(&option), barred) {
            places.insert(0, option);
            return Some(places);
        }
    }
    None
}

/// The ways to place a party: what its policies give, then each GPU alone.
fn options(party: &Party, sim: &Sim, barred: &[Barred]) -> Vec<Vec<Choice>> {
    let place = |wants: &[Want]| -> Result<Vec<Choice>, NoPlacement> {
        choose_tied(wants, &party.ties, &sim.snapshot, &sim.owners, barred)
    };
    let mut found: Vec<Vec<Choice>> = Vec::new();
    let mut keep = |choices: Vec<Choice>| {
        if have_memory(&choices, &sim.snapshot, &sim.owners) && !found.contains(&choices) {
            found.push(choices);
        }
    };
    let placed = place(&party.wants);
    // One slice that no policy places has no place; several may have been placed in each other's way.
    if placed.is_err() && party.wants.len() == 1 {
        return found;
    }
    placed.into_iter().for_each(&mut keep);
    for gpu in gpus(party, sim, barred) {
        let on = |want: &Want| {
            let mut want = want.clone();
            want.bounds.gpu = Some(gpu.clone());
            want
        };
        let wants: Vec<Want> = party.wants.iter().map(on).collect();
        place(&wants).into_iter().for_each(&mut keep);
    }
    found
}

fn gpus(party: &Party, sim: &Sim, barred: &[Barred]) -> Vec<GpuId> {
    let mut gpus: Vec<GpuId> = Vec::new();
    let Some(want) = party.wants.first() else { return gpus };
    for one in explain(&want.profile, &want.bounds, &sim.snapshot, &sim.owners, barred) {
        let pinned = want.bounds.gpu.as_ref().is_none_or(|gpu| *gpu == one.gpu);
        if one.possible > 0 && pinned && !gpus.contains(&one.gpu) {
            gpus.push(one.gpu);
        }
    }
    gpus
}

/// Plans restarts that make the host less fragmented for its mix of requests: at each step the one that helps most,
/// by the measure of [`capacity`], then by name. Returns the measure in MiB before and after.
#[must_use]
pub fn defragment(mix: &[Weighted], tenants: &[Tenant], site: Site<'_>) -> (RoomPlan, u64, u64) {
    let mut sim = Sim::new(site.snapshot, site.owners);
    let measure = |sim: &Sim| capacity(mix, "", &sim.snapshot, &sim.owners).fragmented_mib;
    let before = measure(&sim);
    let mut tenants: Vec<&Tenant> = tenants.iter().collect();
    tenants.sort_by(|a, b| (&a.domain.name, a.domain.uuid).cmp(&(&b.domain.name, b.domain.uuid)));
    let mut plan = RoomPlan::default();
    let mut now = before;
    while plan.disturbed.len() < MOST_STEPS {
        let mut best: Option<(u64, usize, Vec<Choice>, Sim)> = None;
        for (at, tenant) in tenants.iter().enumerate() {
            let after = sim.without(&tenant.slices.iter().copied().collect());
            for option in options(&tenant.party, &after, site.barred) {
                let moved = after.with(&option);
                let left = measure(&moved);
                if left < best.as_ref().map_or(now, |(least, ..)| *least) {
                    best = Some((left, at, option, moved));
                }
            }
        }
        let Some((left, at, to, moved)) = best else { break };
        // Each domain is restarted once at most.
        let tenant = tenants.remove(at);
        let (domain, from) = (tenant.domain.clone(), tenant.parents.clone());
        plan.disturbed.push(Disturbed { domain, what: Disturbance::Restart, from, to });
        (now, sim) = (left, moved);
    }
    (plan, before, now)
}

#[cfg(test)]
mod tests;
