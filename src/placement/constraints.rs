//! What rules say of each GPU for one allocation, and wants of one request that bind each other. Functions of
//! their arguments.
//!
//! - **Classes kept apart**: a GPU with slices of a class that this one is kept apart from is forbidden; where overflow
//!   is allowed, it comes after all others instead. GPUs with slices of the own class come before empty ones, so
//!   that a class leaves as many GPUs to the other as it can.
//! - **NUMA**: GPUs of the domain's node come first, or are the only ones.
//! - **Siblings**: the slices of a domain on one GPU, or each on its own.
//!
//! Foreign slices have no class: they take room, and forbid nothing.

use std::collections::BTreeSet;

use crate::model::{
    AllocationId, DomainUuid, Gpu, GpuId, HostRules, HostSnapshot, Numa, Profile, ProfileName, Siblings,
};
use crate::placement::{Barred, Choice, NoPlacement, Owners, Want, choose, explain, usage};
use crate::profile::{Gate, Gates};

/// A slice of ours that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resident {
    /// On which GPU.
    pub gpu: GpuId,
    /// Whose.
    pub allocation: AllocationId,
    /// Of which domain.
    pub domain: DomainUuid,
    /// Of which class.
    pub class: Option<ProfileName>,
}

/// Whom a slice is for, as far as rules go by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The allocation; its own slice does not stand in its way.
    pub allocation: Option<&'a AllocationId>,
    /// Its domain.
    pub domain: Option<DomainUuid>,
    /// Its profile.
    pub profile: &'a Profile,
    /// Where its domain's other slices shall be.
    pub siblings: Siblings,
    /// The NUMA nodes of its domain's memory; empty when that is not known.
    pub nodes: &'a BTreeSet<u32>,
}

/// GPUs of another node come after all that NUMA prefers.
const OTHER_NODE: u8 = 1;
/// Empty GPUs come after those with slices of the own class.
const NEW_GPU: u8 = 2;
/// GPUs that are shared only when all others are full come last.
const SHARED: u8 = 8;

/// Says what rules make of each GPU. A GPU of which they say nothing is not in the answer.
#[must_use]
pub fn gates(
    subject: &Subject<'_>,
    rules: &HostRules,
    residents: &[Resident],
    snapshot: &HostSnapshot,
) -> Gates {
    let others: Vec<&Resident> =
        residents.iter().filter(|one| Some(&one.allocation) != subject.allocation).collect();
    let gate = |gpu: &Gpu| {
        let said = [
            by_class(subject, rules, &others, gpu),
            by_node(subject, gpu),
            by_siblings(subject, &others, gpu),
        ];
        let gate = said.into_iter().flatten().fold(Gate::default(), |sum, one| Gate {
            shut: sum.shut.or(one.shut),
            tier: sum.tier.saturating_add(one.tier),
            note: sum.note.or(one.note),
        });
        (gate != Gate::default()).then(|| (gpu.id.clone(), gate))
    };
    snapshot.gpus.iter().filter_map(gate).collect()
}

fn by_class(subject: &Subject<'_>, rules: &HostRules, others: &[&Resident], gpu: &Gpu) -> Option<Gate> {
    let class = subject.profile.class.as_ref()?;
    let foes = rules.foes(class, &subject.profile.rules);
    if foes.is_empty() {
        return None;
    }
    let here: BTreeSet<&ProfileName> =
        others.iter().filter(|one| one.gpu == gpu.id).filter_map(|one| one.class.as_ref()).collect();
    if let Some(foe) = foes.iter().find(|foe| here.contains(foe)) {
        let has = format!("has slices of class {foe}, from which class {class} is kept apart");
        return Some(if subject.profile.rules.overflow.unwrap_or(rules.overflow) {
            Gate { tier: SHARED, note: Some(format!("{has} unless all others are full")), shut: None }
        } else {
            Gate { shut: Some(format!("{has}, and overflow is not allowed")), ..Gate::default() }
        });
    }
    if here.contains(class) {
        return None;
    }
    let note = format!("has no slice of class {class} yet, and GPUs that have come first");
    let elsewhere = others.iter().any(|one| one.class.as_ref() == Some(class));
    elsewhere.then_some(Gate { tier: NEW_GPU, note: Some(note), shut: None })
}

fn by_node(subject: &Subject<'_>, gpu: &Gpu) -> Option<Gate> {
    let wanted = subject.profile.rules.numa;
    let node = gpu.numa_node?;
    if wanted == Numa::Any || subject.nodes.is_empty() || subject.nodes.contains(&node) {
        return None;
    }
    let nodes: Vec<String> = subject.nodes.iter().map(ToString::to_string).collect();
    let text = format!("is on NUMA node {node}, and the domain's memory on {}", nodes.join(" and "));
    Some(match wanted {
        Numa::Require => Gate { shut: Some(text), ..Gate::default() },
        Numa::Prefer | Numa::Any => Gate { tier: OTHER_NODE, note: Some(text), shut: None },
    })
}

fn by_siblings(subject: &Subject<'_>, others: &[&Resident], gpu: &Gpu) -> Option<Gate> {
    let domain = subject.domain?;
    let theirs: BTreeSet<&GpuId> =
        others.iter().filter(|one| one.domain == domain).map(|one| &one.gpu).collect();
    let shut = |text: &str| Some(Gate { shut: Some(text.to_owned()), ..Gate::default() });
    match subject.siblings {
        Siblings::Any => None,
        Siblings::Together if theirs.is_empty() || theirs.contains(&gpu.id) => None,
        Siblings::Together => shut("is not the GPU of the domain's other slices, which shall be together"),
        Siblings::Apart if theirs.contains(&gpu.id) => {
            shut("has another slice of the domain, and they shall be apart")
        }
        Siblings::Apart => None,
    }
}

/// How a want binds the others of its request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tie {
    /// Where they shall be.
    pub siblings: Siblings,
    /// Its class.
    pub class: Option<ProfileName>,
    /// The classes that it shares no GPU with, whatever is full.
    pub foes: BTreeSet<ProfileName>,
}

impl Tie {
    /// Says how a want of a profile binds the others.
    #[must_use]
    pub fn of(profile: &Profile, siblings: Siblings, rules: &HostRules) -> Self {
        let foes = match &profile.class {
            Some(class) if !profile.rules.overflow.unwrap_or(rules.overflow) => {
                rules.foes(class, &profile.rules)
            }
            _ => BTreeSet::new(),
        };
        Self { siblings, class: profile.class.clone(), foes }
    }

    /// Returns whether it binds nobody.
    fn is_loose(&self) -> bool {
        self.siblings == Siblings::Any && self.foes.is_empty()
    }

    /// Returns whether two may be on one GPU.
    fn may_share(&self, other: &Self) -> bool {
        let hates =
            |one: &Self, other: &Self| other.class.as_ref().is_some_and(|class| one.foes.contains(class));
        let apart = self.siblings == Siblings::Apart || other.siblings == Siblings::Apart;
        !apart && !hates(self, other) && !hates(other, self)
    }

    /// Returns whether two may be on different GPUs.
    fn may_part(&self, other: &Self) -> bool {
        self.siblings != Siblings::Together && other.siblings != Siblings::Together
    }
}

/// The most assignments that are tried; hosts have a handful of GPUs, and most wants are alike.
const MOST_TRIES: u32 = 20_000;

/// As [`choose`], for wants that bind each other: `ties` has one for each want. GPUs are tried in the order of
/// each want's policy, so that the first assignment that fits is taken.
///
/// # Errors
/// When not all of them can be had so: then none is.
pub fn choose_tied(
    wants: &[Want],
    ties: &[Tie],
    snapshot: &HostSnapshot,
    owners: &Owners,
    barred: &[Barred],
) -> Result<Vec<Choice>, NoPlacement> {
    let free = choose(wants, snapshot, owners, barred)?;
    if ties.iter().all(Tie::is_loose) {
        return Ok(free);
    }
    let on = |index: usize| free.get(index).map(|choice| &choice.gpu);
    let kept = pairs(ties).all(|(a, b)| fits(&ties[a], &ties[b], on(a) == on(b)));
    if kept && have_memory(&free, snapshot, owners) {
        return Ok(free);
    }
    let open: Vec<Vec<GpuId>> = wants.iter().map(|want| gpus_of(want, snapshot, owners, barred)).collect();
    let mut search = Search { wants, ties, open, snapshot, owners, barred, tries: 0 };
    match search.assign(&mut Vec::new()) {
        Some(choices) => Ok(choices),
        None => Err(no_assignment(wants, ties, snapshot, owners, barred)),
    }
}

fn pairs(ties: &[Tie]) -> impl Iterator<Item = (usize, usize)> {
    let count = ties.len();
    (0..count).flat_map(move |a| (a + 1..count).map(move |b| (a, b)))
}

fn fits(a: &Tie, b: &Tie, same: bool) -> bool {
    if same { a.may_share(b) } else { a.may_part(b) }
}

/// The GPUs that could serve a want, in the order of its policy.
fn gpus_of(want: &Want, snapshot: &HostSnapshot, owners: &Owners, barred: &[Barred]) -> Vec<GpuId> {
    if let Some(vf) = want.device.vf() {
        return snapshot.function(vf).map(|(gpu, _)| gpu.id.clone()).into_iter().collect();
    }
    let mut gpus: Vec<GpuId> = Vec::new();
    for candidate in explain(&want.profile, &want.bounds, snapshot, owners, barred) {
        if candidate.possible > 0 && !gpus.contains(&candidate.gpu) {
            gpus.push(candidate.gpu);
        }
    }
    gpus
}

struct Search<'a> {
    wants: &'a [Want],
    ties: &'a [Tie],
    open: Vec<Vec<GpuId>>,
    snapshot: &'a HostSnapshot,
    owners: &'a Owners,
    barred: &'a [Barred],
    tries: u32,
}

impl Search<'_> {
    /// Gives the next want a GPU, and goes on; takes it back where that leads nowhere.
    fn assign(&mut self, on: &mut Vec<GpuId>) -> Option<Vec<Choice>> {
        let next = on.len();
        if next == self.wants.len() {
            return self.place(on);
        }
        for gpu in self.open[next].clone() {
            self.tries += 1;
            if self.tries > MOST_TRIES {
                return None;
            }
            let kept =
                |(index, other): (usize, &GpuId)| fits(&self.ties[index], &self.ties[next], *other == gpu);
            if !on.iter().enumerate().all(kept) {
                continue;
            }
            on.push(gpu);
            let found = self.assign(on);
            on.pop();
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn place(&self, on: &[GpuId]) -> Option<Vec<Choice>> {
        let fixed = |(want, gpu): (&Want, &GpuId)| {
            let mut want = want.clone();
            want.bounds.gpu = Some(gpu.clone());
            want
        };
        let fixed: Vec<Want> = self.wants.iter().zip(on).map(fixed).collect();
        let choices = choose(&fixed, self.snapshot, self.owners, self.barred).ok()?;
        have_memory(&choices, self.snapshot, self.owners).then_some(choices)
    }
}

/// Returns whether each GPU has the memory for all that is put on it, as far as its driver tells sizes. Parents
/// that share one GPU's memory each say what they could give alone, and slices that are bound to each other
/// cannot be tried elsewhere one by one.
pub(super) fn have_memory(choices: &[Choice], snapshot: &HostSnapshot, owners: &Owners) -> bool {
    let size = |gpu: &Gpu, choice: &Choice| {
        let mut types = gpu.parents.iter().flat_map(|parent| &parent.types);
        let found = types.find(|one| Some(&one.id) == choice.mdev_type.as_ref());
        found.and_then(|one| one.framebuffer).map_or(0, |size| u64::from(size.mib()))
    };
    snapshot.gpus.iter().all(|gpu| {
        let here = choices.iter().filter(|choice| choice.gpu == gpu.id && choice.mdev_type.is_some());
        let wanted: u64 = here.map(|choice| size(gpu, choice)).sum();
        wanted == 0 || usage(gpu, owners).memory.is_none_or(|memory| wanted <= memory.free())
    })
}

fn no_assignment(
    wants: &[Want],
    ties: &[Tie],
    snapshot: &HostSnapshot,
    owners: &Owners,
    barred: &[Barred],
) -> NoPlacement {
    let of = |siblings| ties.iter().any(|tie| tie.siblings == siblings);
    let why = match (of(Siblings::Together), of(Siblings::Apart)) {
        (true, _) => "its slices shall be together on one GPU, and none has room for all of them",
        (_, true) => "its slices shall be apart, and there are not enough GPUs with room",
        _ => "its slices are of classes that share no GPU",
    };
    NoPlacement::of_wants(wants, snapshot, owners, barred).hint(why.to_owned())
}

#[cfg(test)]
mod tests;
