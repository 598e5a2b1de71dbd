//! Exchanging the VF address in a stopped domain's definition: the engine's half.
//!
//! The desk writes the definition, because that is libvirt's. Before it does, the new address is stored
//! beside the old one; afterwards the new one takes its place. In between either may be what the definition
//! says, and every reader takes both for ours: `/run/vgpud/owned`, `prepare`, and the next look.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::admit::Wanted;
use super::{Engine, OPERATION};
use crate::failpoint;
use crate::ledger::{Change, Need};
use crate::model::{
    Allocation, AllocationId, CapacityMode, Device, DomainUuid, HostSnapshot, Kind, PciAddress, Pointing,
    Profile, Refusal, Repoint, Terms,
};
use crate::placement::{self, Move, Scene};
use crate::wire::Hook;

pub use crate::placement::{DomainState, Move as Repointing, Occasion};

/// What libvirt says of domains, by identity.
pub type DomainStates = BTreeMap<DomainUuid, DomainState>;

/// What is to be said of domains beyond that capacity changed.
pub type Occasions = BTreeMap<DomainUuid, Occasion>;

/// libvirt lets go of a failed start within seconds; a promise about it that is older is forgotten.
const REFUSED: Duration = Duration::from_secs(120);

/// What is known of re-pointing beside the ledger; a service that starts anew does without.
#[derive(Debug, Default)]
pub(super) struct Underway {
    /// Addresses that are being written into definitions now.
    writing: BTreeSet<AllocationId>,
    /// Domains whose start was refused, and the VFs that their admins were told.
    refused: BTreeMap<DomainUuid, (Instant, BTreeMap<AllocationId, PciAddress>)>,
}

/// How the writing of a definition ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It names the new VFs.
    Yes,
    /// It is as it was.
    No,
    /// libvirt did not answer: the next look tells.
    Unknown,
}

/// Addresses of one domain that are being exchanged; looks leave them alone while this lives.
#[derive(Debug)]
pub struct Writing {
    engine: Engine,
    domain: DomainUuid,
    moves: Vec<Move>,
    asked: bool,
}

impl Writing {
    /// Returns what is exchanged.
    #[must_use]
    pub fn moves(&self) -> &[Move] {
        &self.moves
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut underway = self.engine.underway();
        underway.writing.retain(|id| self.moves.iter().all(|one| one.allocation != *id));
    }
}

impl Engine {
    fn underway(&self) -> MutexGuard<'_, Underway> {
        self.inner.underway.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns which addresses are being written now.
    pub(super) fn being_written(&self) -> BTreeSet<AllocationId> {
        self.underway().writing.clone()
    }

    /// Waits until something that decides about capacity may have changed, more often than `heard`.
    #[must_use]
    pub fn wait_capacity(&self, heard: u64, limit: Duration) -> u64 {
        self.inner.bell.wait(heard, limit)
    }

    /// Returns the domains that name VFs, if any of them would have to name another one were all of them
    /// stopped and named what the book says. Asks nobody: most changes of capacity end here.
    ///
    /// # Errors
    /// When the host cannot be read.
    pub fn needs_pointing(&self) -> Result<Vec<DomainUuid>, Refusal> {
        let mut states = DomainStates::new();
        for one in self.ledger().book().allocations.values() {
            if let Some(vf) = one.device.vf() {
                states.entry(one.domain.uuid).or_default().names.insert(one.id.clone(), vf);
            }
        }
        if states.is_empty() {
            return Ok(Vec::new());
        }
        let plan = self.plan_pointing(&states, &Occasions::new())?;
        Ok(if plan.is_empty() { Vec::new() } else { states.into_keys().collect() })
    }

    /// Plans what should be exchanged now.
    ///
    /// # Errors
    /// When the host cannot be read.
    pub fn plan_pointing(&self, states: &DomainStates, occasions: &Occasions) -> Result<Vec<Move>, Refusal> {
        let snapshot = self.fresh(Instant::now() + OPERATION)?;
        Ok(self.plan_on(&snapshot, states, occasions))
    }

    fn plan_on(
        &self,
        snapshot: &Arc<HostSnapshot>,
        states: &DomainStates,
        occasions: &Occasions,
    ) -> Vec<Move> {
        let (owners, barred) = (self.owners(snapshot), self.bars_of_unfinished(snapshot));
        let incomplete = self.brings_back_vfs();
        let book = self.book();
        placement::repoint(&Scene {
            allocations: &book.allocations,
            profiles: &book.profiles,
            domains: states,
            occasions,
            snapshot,
            owners: &owners,
            gates: &self.gates_of_vfs(&book, snapshot),
            barred: &barred,
            incomplete,
        })
    }

    /// Plans again for one domain, and stores what its definition is about to name. `None` when there is
    /// nothing to do any more.
    ///
    /// # Errors
    /// When a turn cannot be had in time, the host cannot be read, or the disk says no: nothing has changed.
    pub fn begin_pointing(
        &self,
        domain: DomainUuid,
        states: &DomainStates,
        occasions: &Occasions,
    ) -> Result<Option<Writing>, Refusal> {
        self.writable()?;
        let deadline = Instant::now() + OPERATION;
        let _turn = self.domain_turn(domain, deadline)?;
        let _lane = self.capacity_turn(deadline)?;
        let mut moves = self.plan_pointing(states, occasions)?;
        moves.retain(|one| one.domain.uuid == domain);
        if moves.is_empty() {
            return Ok(None);
        }
        let asked = occasions.get(&domain) == Some(&Occasion::Asked);
        self.underway().writing.extend(moves.iter().map(|one| one.allocation.clone()));
        let writing = Writing { engine: self.clone(), domain, moves, asked };
        self.touch(writing.moves.iter().map(|one| &one.allocation));
        self.store(&writing.moves, Need::Promise, |allocation, one| Some(allocation.to_be_named(one.to)))?;
        self.publish_owned()?;
        Ok(Some(writing))
    }

    /// Asked by whoever holds libvirt's ear, as the last thing before it writes: whether the domain is still
    /// to be written to. It is not while a start or stop of it is under way, or once it was prepared.
    #[must_use]
    pub fn may_define(&self, domain: DomainUuid, moves: &[Move]) -> bool {
        failpoint::hit("pointing.before-define");
        let Some(_quiet) = self.inner.domains.take(&domain, Instant::now()) else { return false };
        let ledger = self.ledger();
        let book = ledger.book();
        moves.iter().all(|one| {
            let allocation = book.allocations.get(&one.allocation);
            let meant = allocation.is_some_and(|allocation| allocation.pointing.next == Some(one.to));
            meant && !book.realized.contains_key(&one.allocation)
        })
    }

    /// Stores what became of the definition.
    ///
    /// A disk that says no costs nothing: both addresses stay known, and the next look at the definition tells.
    pub fn end_pointing(&self, writing: &Writing, written: Written) {
        failpoint::hit("pointing.after-define");
        if written == Written::Unknown {
            return;
        }
        let moves = writing.moves();
        let turn = self.domain_turn(writing.domain, Instant::now() + OPERATION);
        let stored = turn.and_then(|_turn| {
            self.touch(moves.iter().map(|one| &one.allocation));
            self.store(moves, Need::GiveBack, |allocation, one| {
                end_of(allocation, one, written, writing.asked)
            })
        });
        if let Err(refusal) = stored.and_then(|()| self.publish_owned()) {
            tracing::warn!(error = %refusal, "what became of a re-pointing is not stored yet, the next look does");
            return;
        }
        if written == Written::Yes {
            for Move { allocation, domain, from, to, why, .. } in moves {
                let outcome = format!("VF {from} -> {to}: {from} {why}");
                self.record_own("repoint", allocation, domain.name.clone(), &outcome);
                tracing::info!(%allocation, domain = %domain.name, %from, %to, why, "domain re-pointed");
            }
        }
    }

    /// Changes the allocations of moves under one lock; one for which `change` says nothing stays.
    fn store(
        &self,
        moves: &[Move],
        need: Need,
        change: impl Fn(&Allocation, &Move) -> Option<Allocation>,
    ) -> Result<(), Refusal> {
        self.commit_with(need, |book| {
            let known = moves.iter().filter_map(|one| Some((book.allocations.get(&one.allocation)?, one)));
            // A run that began meanwhile keeps its address; the definition is read again when it is over.
            let free = known.filter(|(allocation, _)| !book.realized.contains_key(&allocation.id));
            free.filter_map(|(allocation, one)| change(allocation, one)).map(Change::PutAllocation).collect()
        })
    }

    /// Called after a start was refused: plans where the domain could go once libvirt has let go of it, and
    /// keeps that in mind until then.
    #[must_use]
    pub fn after_refusal(&self, hook: &Hook) -> Vec<Move> {
        let mut state = DomainState::default();
        {
            let ledger = self.ledger();
            for device in &hook.devices {
                let Device::Vf(vf) = device.device else { continue };
                let own = ledger.book().of_domain(hook.domain_uuid).find(|own| match &device.allocation {
                    Some(id) => own.id == *id,
                    None => own.may_name(device.device),
                });
                state.names.extend(own.map(|own| (own.id.clone(), vf)));
            }
        }
        if state.names.is_empty() {
            return Vec::new();
        }
        let Ok((snapshot, _)) = self.recent() else { return Vec::new() };
        let states = [(hook.domain_uuid, state)].into();
        let occasions = [(hook.domain_uuid, Occasion::Refused(BTreeMap::new()))].into();
        let moves = self.plan_on(&snapshot, &states, &occasions);
        if !moves.is_empty() {
            let told = moves.iter().map(|one| (one.allocation.clone(), one.to)).collect();
            self.underway().refused.insert(hook.domain_uuid, (Instant::now(), told));
        }
        self.inner.bell.ring();
        moves
    }

    /// Returns the domains whose admins were told another VF that their definitions do not name yet.
    #[must_use]
    pub fn refused_starts(&self) -> Occasions {
        let mut underway = self.underway();
        underway.refused.retain(|_, (since, _)| since.elapsed() < REFUSED);
        let told = underway.refused.iter();
        told.map(|(domain, (_, told))| (*domain, Occasion::Refused(told.clone()))).collect()
    }

    /// A domain's refused start is no longer of interest.
    pub fn forget_refused(&self, domain: DomainUuid) {
        self.underway().refused.remove(&domain);
    }

    /// Says whether a domain could be started now, if it named what `names` says.
    ///
    /// # Errors
    /// The refusal that its start would get.
    pub fn rehearse_start(
        &self,
        domain: DomainUuid,
        names: &BTreeMap<AllocationId, PciAddress>,
    ) -> Result<(), Refusal> {
        let snapshot = self.fresh(Instant::now() + OPERATION)?;
        let barred = self.bars_of_unfinished(&snapshot);
        let book = self.book();
        let want = |one: &Allocation| {
            let profile: Profile = book.profiles.get(&one.profile).cloned()?;
            let device = names.get(&one.id).map_or(one.device, |vf| Device::Vf(*vf));
            Some(Wanted { allocation: Allocation { device, ..one.clone() }, profile })
        };
        let wanted: Vec<Wanted> = book.of_domain(domain).filter_map(want).collect();
        self.could_choose(&wanted, &snapshot, &barred).map(drop).map_err(Refusal::from)
    }

    /// Tells of domains that are no longer re-pointed because somebody else wants their addresses otherwise.
    pub(super) fn given_up(&self) -> Vec<String> {
        let ledger = self.ledger();
        let given_up = ledger.book().allocations.values().filter(|one| one.pointing.is_given_up());
        let tell = |one: &Allocation| {
            format!(
                "domain {0} is no longer pointed at free VFs: somebody else changed the address that vgpud wrote \
                 {1} times, now it names {2}; vgpuctl start {0} ends this",
                one.domain.name, one.pointing.overruled, one.device
            )
        };
        given_up.map(tell).collect()
    }

    /// Returns why the address of one of a domain's allocations is not exchanged whatever happens, if so.
    #[must_use]
    pub fn fixed_terms(&self, domain: DomainUuid) -> Option<String> {
        let ledger = self.ledger();
        let mut own = ledger.book().of_domain(domain);
        own.find_map(|one| {
            let why = match one.terms {
                Terms { pin: true, .. } => "it is pinned",
                Terms { repoint: Repoint::Never, .. } => "its terms say repoint=never",
                Terms { mode: CapacityMode::Guaranteed, .. } => "its terms say mode=guaranteed",
                Terms { .. } => return None,
            };
            one.device.vf().map(|vf| format!("VF {vf} of allocation {} is not exchanged: {why}", one.id))
        })
    }
}

/// What an allocation becomes when the writing of its definition has ended.
fn end_of(allocation: &Allocation, one: &Move, written: Written, asked: bool) -> Option<Allocation> {
    let mut ended = match written {
        Written::Yes => allocation.to_be_named(one.to).named(one.to),
        Written::No if allocation.pointing.next == Some(one.to) => {
            let pointing = Pointing { next: None, ..allocation.pointing };
            Allocation { pointing, ..allocation.clone() }
        }
        Written::No | Written::Unknown => return None,
    };
    if asked && written == Written::Yes {
        ended.pointing.overruled = 0;
    }
    Some(ended)
}

/// A definition that cannot be written now, for people.
#[must_use]
pub fn not_written(domain: &str, why: &str) -> Refusal {
    Refusal::new(Kind::Busy, format!("the definition of domain {domain} cannot be changed now: {why}"))
}
