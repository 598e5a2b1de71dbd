//! Rules and policies on this host: what they go by is gathered here, what they decide is pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::Engine;
use super::admit::Wanted;
use super::guaranteed::is_guaranteed;
use super::room::{self, Steered};
use super::round::Made;
use crate::ledger::{Book, Change};
use crate::model::{
    Allocation, AllocationId, Decision, Device, DomainRef, DomainUuid, GpuId, HostRules, HostSnapshot,
    Policy, Profile, Refusal, Terms,
};
use crate::placement::{self, Barred, Choice, NoPlacement, Resident, Subject, Tie, Want};
use crate::profile::{Bounds, Gates, Taste};

/// How long a measured load counts.
const LOAD_COUNTS: Duration = Duration::from_secs(60);

/// What is known beside ledger and host, and is gone with the service: it decides preferences only.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The NUMA nodes of domains' memory, as their XML said last.
    nodes: BTreeMap<DomainUuid, BTreeSet<u32>>,
    /// How busy GPUs were, in thousandths, and when.
    busy: BTreeMap<GpuId, (Instant, u32)>,
    /// The decisions of the newest start of each domain, until the history has them.
    decisions: BTreeMap<DomainUuid, Vec<Decision>>,
    /// Where domains are to start, while a plan is walked.
    steered: Steered,
}

/// Returns our slices that exist, and the VFs that are kept for somebody. Pure.
pub(super) fn residents(book: &Book, snapshot: &HostSnapshot) -> Vec<Resident> {
    let made = book.realized.values().filter_map(|record| {
        let allocation = book.allocations.get(&record.allocation)?;
        Some(resident(book, allocation, &record.gpu))
    });
    let kept =
        book.allocations.values().filter(|one| is_guaranteed(one) && !book.realized.contains_key(&one.id));
    let kept = kept.filter_map(|one| {
        let (gpu, _) = snapshot.function(one.device.vf()?)?;
        Some(resident(book, one, &gpu.id))
    });
    made.chain(kept).collect()
}

fn resident(book: &Book, allocation: &Allocation, gpu: &GpuId) -> Resident {
    Resident {
        gpu: gpu.clone(),
        allocation: allocation.id.clone(),
        domain: allocation.domain.uuid,
        class: book.profiles.get(&allocation.profile).and_then(|profile| profile.class.clone()),
    }
}

/// Everything that rules and policies go by at one moment.
#[derive(Debug)]
pub(super) struct Ground<'a> {
    rules: &'a HostRules,
    residents: Vec<Resident>,
    generation: u64,
    rota: BTreeMap<crate::model::ProfileName, GpuId>,
    nodes: BTreeMap<DomainUuid, BTreeSet<u32>>,
    busy: BTreeMap<GpuId, u32>,
    steered: Steered,
    snapshot: &'a HostSnapshot,
}

impl Ground<'_> {
    /// Says what rules make of each GPU for an allocation.
    pub(super) fn gates(&self, allocation: &Allocation, profile: &Profile) -> Gates {
        let nothing = BTreeSet::new();
        let subject = Subject {
            allocation: Some(&allocation.id),
            domain: Some(allocation.domain.uuid),
            profile,
            siblings: allocation.terms.siblings,
            nodes: self.nodes.get(&allocation.domain.uuid).unwrap_or(&nothing),
        };
        placement::gates(&subject, self.rules, &self.residents, self.snapshot)
    }

    /// Says what rules make of each GPU for a profile that nobody follows yet.
    pub(super) fn gates_of_profile(&self, profile: &Profile) -> Gates {
        let nodes = BTreeSet::new();
        let subject = Subject {
            allocation: None,
            domain: None,
            profile,
            siblings: crate::model::Siblings::Any,
            nodes: &nodes,
        };
        placement::gates(&subject, self.rules, &self.residents, self.snapshot)
    }

    /// Says what the policy goes by; `lot` is what a lot is drawn for.
    pub(super) fn taste(&self, profile: &Profile, lot: &str) -> Taste {
        Taste {
            policy: Some(self.policy(profile)),
            seed: placement::seed(lot, self.generation),
            last: self.rota.get(&profile.name).cloned(),
            busy: self.busy.clone(),
        }
    }

    /// Returns the policy that counts.
    pub(super) fn policy(&self, profile: &Profile) -> Policy {
        profile.policy.or(self.rules.policy)
    }

    /// Returns a want with everything that binds it.
    pub(super) fn want(&self, wanted: &Wanted) -> Want {
        let mut want = wanted.want();
        want.bounds.gates = self.gates(&wanted.allocation, &wanted.profile);
        let steered = self.steered.get(&wanted.allocation.domain.uuid);
        let to = steered.and_then(|steered| steered.get(&wanted.allocation.id));
        room::steer_gates(&mut want.bounds.gates, to, self.snapshot);
        want.bounds.taste = self.taste(&wanted.profile, wanted.allocation.id.as_str());
        want
    }

    pub(super) fn tie(&self, wanted: &Wanted) -> Tie {
        Tie::of(&wanted.profile, wanted.allocation.terms.siblings, self.rules)
    }

    /// Returns what binds a slice of a profile that nobody follows yet.
    pub(super) fn bounds_of_profile(&self, profile: &Profile) -> Bounds {
        Bounds {
            gates: self.gates_of_profile(profile),
            taste: self.taste(profile, profile.name.as_str()),
            ..Bounds::default()
        }
    }
}

impl Engine {
    /// Gathers what rules and policies go by.
    pub(super) fn ground<'a>(&'a self, snapshot: &'a HostSnapshot) -> Ground<'a> {
        let (nodes, busy, steered) = {
            let mut known = self.known();
            known.busy.retain(|_, (at, _)| at.elapsed() < LOAD_COUNTS);
            let busy = known.busy.iter().map(|(gpu, (_, load))| (gpu.clone(), *load)).collect();
            (known.nodes.clone(), busy, known.steered.clone())
        };
        let ledger = self.ledger();
        let book = ledger.book();
        Ground {
            rules: &self.inner.rules,
            residents: residents(book, snapshot),
            generation: book.generation,
            rota: book.rota.clone(),
            nodes,
            busy,
            steered,
            snapshot,
        }
    }

    /// Returns what the configuration says of the choice of a GPU.
    #[must_use]
    pub fn rules(&self) -> &HostRules {
        &self.inner.rules
    }

    /// Notes on which NUMA nodes a domain's memory is, as its XML says.
    pub fn note_nodes(&self, domain: DomainUuid, nodes: &BTreeSet<u32>) {
        let mut known = self.known();
        match nodes.is_empty() {
            true => drop(known.nodes.remove(&domain)),
            false => drop(known.nodes.insert(domain, nodes.clone())),
        }
    }

    /// Notes how busy a GPU is, in thousandths; it counts for a minute.
    pub fn note_busy(&self, gpu: GpuId, thousandths: u32) {
        self.known().busy.insert(gpu, (Instant::now(), thousandths.min(1000)));
    }

    /// Chooses places for what is missing of a start, and notes why each is where it is. `made` are the slices
    /// that the same start has already.
    pub(super) fn choose(
        &self,
        missing: &[Wanted],
        made: &[Made],
        snapshot: &HostSnapshot,
        barred: &[Barred],
    ) -> Result<Vec<Choice>, Refusal> {
        let mut ground = self.ground(snapshot);
        ground.residents.extend(self.residents_of(made));
        let wants: Vec<Want> = missing.iter().map(|one| ground.want(one)).collect();
        let ties: Vec<Tie> = missing.iter().map(|one| ground.tie(one)).collect();
        let owners = self.owners(snapshot);
        let chosen = placement::choose_tied(&wants, &ties, snapshot, &owners, barred);
        let decided = wants.iter().enumerate().map(|(at, want)| {
            let choice = chosen.as_ref().ok().and_then(|choices| choices.get(at));
            let parent = choice.map(|choice| &choice.parent);
            let mut decision = placement::weigh(want, parent, snapshot, &owners, barred);
            if chosen.is_err() {
                decision.chosen = None;
            }
            decision
        });
        if let Some(first) = missing.first() {
            self.known().decisions.insert(first.allocation.domain.uuid, decided.collect());
        }
        chosen.map_err(Refusal::from)
    }

    /// Says what binds the VF of a promise that is about to be given; `new` are those given with it.
    pub(super) fn bounds_of_new(
        &self,
        domain: &DomainRef,
        profile: &Profile,
        snapshot: &HostSnapshot,
        new: &[Allocation],
        terms: Terms,
    ) -> Bounds {
        let mut ground = self.ground(snapshot);
        let book = self.book();
        let named = |one: &Allocation| {
            let (gpu, _) = snapshot.function(one.device.vf()?)?;
            Some(resident(&book, one, &gpu.id))
        };
        ground.residents.extend(book.of_domain(domain.uuid).chain(new).filter_map(named));
        let nothing = BTreeSet::new();
        let subject = Subject {
            allocation: None,
            domain: Some(domain.uuid),
            profile,
            siblings: terms.siblings,
            nodes: ground.nodes.get(&domain.uuid).unwrap_or(&nothing),
        };
        let gates = placement::gates(&subject, ground.rules, &ground.residents, snapshot);
        let mut taste = ground.taste(profile, &format!("{}-{}", domain.uuid, new.len()));
        taste.last = new.last().and_then(named).map(|before| before.gpu).or(taste.last);
        Bounds { gates, taste, ..Bounds::default() }
    }

    /// Returns where the round of a profile goes on, when its policy goes round.
    pub(super) fn rota(&self, profile: &Profile, gpu: &GpuId) -> Option<Change> {
        let round = profile.policy.or(self.inner.rules.policy) == Policy::RoundRobin;
        round.then(|| Change::PutRota(profile.name.clone(), gpu.clone()))
    }

    fn residents_of(&self, made: &[Made]) -> Vec<Resident> {
        let ledger = self.ledger();
        let book = ledger.book();
        let new =
            made.iter().map(|one| &one.record).filter(|one| !book.realized.contains_key(&one.allocation));
        let known = new.filter_map(|one| Some((one, book.allocations.get(&one.allocation)?)));
        known.map(|(record, allocation)| resident(book, allocation, &record.gpu)).collect()
    }

    /// Says whether wants could be had now, without noting anything; the answer is of those that are not there.
    pub(super) fn could_choose(
        &self,
        wanted: &[Wanted],
        snapshot: &HostSnapshot,
        barred: &[Barred],
    ) -> Result<Vec<Choice>, NoPlacement> {
        let ground = self.ground(snapshot);
        // A slice that is there, as a guaranteed one is while its domain is off, is used as it is.
        let missing = wanted.iter().filter(|one| !self.is_there(one, snapshot));
        let wants: Vec<Want> = missing.clone().map(|one| ground.want(one)).collect();
        let ties: Vec<Tie> = missing.map(|one| ground.tie(one)).collect();
        placement::choose_tied(&wants, &ties, snapshot, &self.owners(snapshot), barred)
    }

    fn is_there(&self, wanted: &Wanted, snapshot: &HostSnapshot) -> bool {
        let Device::Mdev(uuid) = wanted.allocation.device else { return false };
        let ledger = self.ledger();
        let record = ledger.book().realized.get(&wanted.allocation.id);
        record.is_some_and(|record| record.device == wanted.allocation.device)
            && snapshot.mdev(uuid).is_some()
    }

    /// Returns what rules make of the GPUs for each allocation that names a VF.
    pub(super) fn gates_of_vfs(&self, book: &Book, snapshot: &HostSnapshot) -> BTreeMap<AllocationId, Gates> {
        let ground = self.ground(snapshot);
        let naming = book.allocations.values().filter(|one| one.device.vf().is_some());
        let gates = naming.filter_map(|one| {
            let profile = book.profiles.get(&one.profile)?;
            Some((one.id.clone(), ground.gates(one, profile)))
        });
        gates.collect()
    }

    /// Takes the decisions of the newest start of a domain, for the history.
    #[must_use]
    pub fn take_decisions(&self, domain: DomainUuid) -> Vec<Decision> {
        self.known().decisions.remove(&domain).unwrap_or_default()
    }

    /// Notes where a domain is to start; `None` ends it.
    pub(super) fn steer(&self, domain: DomainUuid, to: Option<BTreeMap<AllocationId, GpuId>>) {
        let steered = &mut self.known().steered;
        match to {
            Some(to) => drop(steered.insert(domain, to)),
            None => drop(steered.remove(&domain)),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
