//! Promising slices to a domain, and taking promises back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::admit::Wanted;
use super::guaranteed::is_guaranteed;
use super::turn::Turn;
use super::{Engine, OPERATION};
use crate::clock;
use crate::domain_xml::Options;
use crate::ledger::{Change, Need};
use crate::model::{
    Allocation, AllocationId, AllocationState, CapacityMode, Device, DeviceKind, DomainRef, DomainUuid, Kind,
    MdevUuid, PciAddress, Pointing, Profile, Realized, Refusal, Terms, Wish,
};
use crate::placement::{self, Must, Naming};
use crate::wire::{self, Allocate, AllocationView, Through};

/// Most slices of one profile in one domain; QEMU machines have few more slots.
const MOST_COUNT: u32 = 16;

/// How long an allocation waits to be shown by a domain's XML, unless the caller says.
const LEASE: Duration = Duration::from_secs(600);

/// What a request for slices comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allotment {
    /// Promised now.
    pub new: Vec<Allocation>,
    /// Promised before, and counted.
    pub kept: Vec<Allocation>,
    /// The hostdev of each: the new ones, then the kept ones.
    pub xml: Vec<String>,
    /// What an admin should know.
    pub notes: Vec<String>,
}

/// Says which promises that stay are on other terms than those that were asked for.
fn other_terms(kept: &[Allocation], wanted: Terms) -> Vec<String> {
    let others = kept.iter().filter(|one| one.terms != wanted && !wanted.is_default());
    let tell = |one: &Allocation| {
        format!("allocation {0} stays {1}: vgpuctl allocation set {0} changes that", one.id, one.terms)
    };
    others.map(tell).collect()
}

/// While this lives, its slices are being plugged.
#[derive(Debug)]
pub struct Plugging {
    engine: Engine,
    ids: Vec<AllocationId>,
}

impl Drop for Plugging {
    fn drop(&mut self) {
        let mut plugging = self.engine.inner.plugging.lock().unwrap_or_else(PoisonError::into_inner);
        plugging.retain(|id| !self.ids.contains(id));
    }
}

impl Engine {
    /// Promises slices until the domain has `count` of the profile. With [`Through::LiveXml`] they are made at once.
    ///
    /// # Errors
    /// When the profile does not exist, no VF fits, or (live) nothing has room. Nothing has changed.
    pub fn allocate(&self, domain: &DomainRef, request: &Allocate) -> Result<Allotment, Refusal> {
        if !(1..=MOST_COUNT).contains(&request.count) {
            return Err(Refusal::new(
                Kind::Usage,
                format!("count {} is out of range: 1 to {MOST_COUNT}", request.count),
            ));
        }
        let profile = self.profile(&request.profile)?;
        if matches!(profile.wish, Wish::Gpu(_)) && matches!(request.through, Through::Live | Through::LiveXml)
        {
            let text =
                "a whole GPU is not plugged into a running guest: it has functions that must come together";
            return Err(Refusal::new(Kind::Conflict, text)
                .hint("without --live the domain has it from its next start on"));
        }
        let deadline = Instant::now() + OPERATION;
        let _turn = self.domain_turn(domain.uuid, deadline)?;
        let kept = self.kept(domain, request);
        let missing = request.count as usize - kept.len().min(request.count as usize);
        let new = self.draw(domain, &profile, missing, request)?;
        let mut notes = self.notes(&profile, missing);
        notes.extend(other_terms(&kept, request.terms));
        let mut allotment = Allotment { xml: Vec::new(), notes, new, kept };
        for allocation in allotment.new.iter().chain(&allotment.kept) {
            allotment.xml.push(self.hostdev(allocation, &profile)?);
            allotment.xml.extend(self.companion_hostdevs(allocation)?.into_iter().map(|(_, xml)| xml));
        }
        if request.dry_run {
            if request.terms.mode == CapacityMode::Guaranteed {
                self.would_fit(&allotment.new, deadline)?;
            }
            return Ok(allotment);
        }
        self.touch(allotment.new.iter().chain(&allotment.kept).map(|one| &one.id));
        let promises = allotment.new.iter().cloned().map(Change::PutAllocation);
        let promises = promises.chain(self.rota_of_vfs(&profile, &allotment.new)).collect();
        self.commit_if(promises, Need::Promise, |book| match book.profiles.contains_key(&profile.name) {
            true => Ok(()),
            false => Err(Refusal::new(Kind::NotFound, format!("profile {} was just deleted", profile.name))),
        })?;
        self.publish_owned()?;
        self.make_promised(&allotment, request.through, deadline)?;
        self.nudge();
        Ok(allotment)
    }

    /// A definition keeps what the domain has; an XML to be plugged by hand keeps what is still only leased.
    fn kept(&self, domain: &DomainRef, request: &Allocate) -> Vec<Allocation> {
        let ledger = self.ledger();
        let counts = |allocation: &&Allocation| {
            allocation.profile == request.profile
                && match request.through {
                    Through::Definition | Through::Live => allocation.state != AllocationState::Orphaned,
                    Through::Xml => allocation.state == AllocationState::Leased,
                    Through::LiveXml => false,
                }
        };
        ledger.book().of_domain(domain.uuid).filter(counts).take(request.count as usize).cloned().collect()
    }

    fn draw(
        &self,
        domain: &DomainRef,
        profile: &Profile,
        missing: usize,
        request: &Allocate,
    ) -> Result<Vec<Allocation>, Refusal> {
        let lease = request.lease_s.map_or(LEASE, |seconds| Duration::from_secs(seconds.into()));
        let until = clock::epoch_seconds().saturating_add(i64::try_from(lease.as_secs()).unwrap_or(i64::MAX));
        let promise = |id: AllocationId, device: Device| -> Result<Allocation, Refusal> {
            Ok(Allocation {
                id,
                domain: domain.clone(),
                profile: profile.name.clone(),
                device,
                companions: self.companions(device)?,
                state: AllocationState::Leased,
                until: Some(until),
                saved: false,
                terms: request.terms,
                settled: None,
                owner: request.owner.clone(),
                pointing: Pointing::default(),
            })
        };
        if profile.peers && missing > 0 {
            return self.draw_peers(domain, profile, missing, request.terms, &promise);
        }
        let (mut named, nothing) = (self.named_vfs(), BTreeSet::new());
        let mut new: Vec<Allocation> = Vec::with_capacity(missing);
        let kind = if missing > 0 { self.kind_for(profile)? } else { DeviceKind::Mdev };
        while new.len() < missing {
            let device = match kind {
                DeviceKind::Mdev => Device::Mdev(MdevUuid(uuid::Uuid::new_v4())),
                DeviceKind::Pci => {
                    Device::Vf(self.draw_vf(domain, profile, &mut named, &new, request.terms, &nothing)?)
                }
            };
            new.push(promise(self.free_id(&new), device)?);
        }
        Ok(new)
    }

    /// The kind of hostdev for new allocations of a profile. A host that cannot be read decides nothing: only a
    /// wish that names a VF needs it.
    fn kind_for(&self, profile: &Profile) -> Result<DeviceKind, Refusal> {
        if let Some(kind) = profile.wish.device_kind() {
            return Ok(kind);
        }
        let (snapshot, _) = self.recent()?;
        let barred = self.bars_of_unfinished(&snapshot);
        Ok(placement::device_kind(profile, &snapshot, &self.owners(&snapshot), &barred))
    }

    pub(super) fn named_vfs(&self) -> BTreeMap<PciAddress, u32> {
        let mut named = BTreeMap::new();
        for allocation in self.ledger().book().allocations.values() {
            for address in allocation.named_vfs() {
                *named.entry(address).or_insert(0) += 1;
            }
        }
        named
    }

    /// One domain never names a VF twice, nor one of `shut`; beyond that the least named VF is drawn.
    pub(super) fn draw_vf(
        &self,
        domain: &DomainRef,
        profile: &Profile,
        named: &mut BTreeMap<PciAddress, u32>,
        new: &[Allocation],
        terms: Terms,
        shut: &BTreeSet<PciAddress>,
    ) -> Result<PciAddress, Refusal> {
        let (must, snapshot) = match terms.mode {
            CapacityMode::OnStart => (Must::Exist, self.recent()?.0),
            CapacityMode::Guaranteed => (Must::BeFree, self.fresh(Instant::now() + OPERATION)?),
        };
        let mine: BTreeSet<PciAddress> = {
            let ledger = self.ledger();
            let of_domain = ledger.book().of_domain(domain.uuid).chain(new);
            of_domain.flat_map(Allocation::named_vfs).chain(shut.iter().copied()).collect()
        };
        let bounds = self.bounds_of_new(domain, profile, &snapshot, new, terms);
        let naming = Naming { named, mine: &mine, must };
        let address = placement::choose_vf(profile, &bounds, &snapshot, &self.owners(&snapshot), naming)?;
        *named.entry(address).or_insert(0) += 1;
        Ok(address)
    }

    /// The functions that go with a whole GPU; each gets a hostdev.
    fn companions(&self, device: Device) -> Result<Vec<PciAddress>, Refusal> {
        let Some(address) = device.vf() else { return Ok(Vec::new()) };
        let (snapshot, _) = self.recent()?;
        let whole = snapshot.whole(address).filter(|_| snapshot.vf(address).is_none());
        Ok(whole.map(|(_, whole)| whole.companion_addresses()).unwrap_or_default())
    }

    /// A VF is chosen when it is promised: there the round of its profile goes on.
    fn rota_of_vfs(&self, profile: &Profile, new: &[Allocation]) -> Option<Change> {
        let vf = new.iter().filter_map(|one| one.device.vf()).next_back()?;
        let (snapshot, _) = self.recent().ok()?;
        self.rota(profile, &snapshot.function(vf)?.0.id)
    }

    pub(super) fn free_id(&self, new: &[Allocation]) -> AllocationId {
        loop {
            let (bits, ..) = uuid::Uuid::new_v4().as_fields();
            let id = AllocationId::from_bits(bits);
            if !self.ledger().book().allocations.contains_key(&id) && new.iter().all(|one| one.id != id) {
                return id;
            }
        }
    }

    fn notes(&self, profile: &Profile, missing: usize) -> Vec<String> {
        let Ok(explanation) = self.explain(&profile.name, None) else { return Vec::new() };
        let possible: u32 = explanation.candidates.iter().map(|candidate| candidate.possible).sum();
        if missing == 0 || possible as usize >= missing {
            return Vec::new();
        }
        vec![format!(
            "{possible} of {missing} could be served now; vgpuctl profile explain {} says what holds the rest",
            profile.name
        )]
    }

    /// Says whether guaranteed slices would have room now.
    fn would_fit(&self, new: &[Allocation], deadline: Instant) -> Result<(), Refusal> {
        let wanted: Result<Vec<Wanted>, Refusal> = new.iter().map(|one| self.wanted(one)).collect();
        let snapshot = self.fresh(deadline)?;
        let could = self.could_choose(&wanted?, &snapshot, &self.bars_of_unfinished(&snapshot));
        could.map(drop).map_err(Refusal::from)
    }

    /// Renders the hostdev of an allocation.
    ///
    /// # Errors
    /// When the template does not take its values.
    pub fn hostdev(&self, allocation: &Allocation, profile: &Profile) -> Result<String, Refusal> {
        self.inner
            .templates
            .render(allocation.device, &allocation.id, Options::from(profile))
            .map_err(|error| Refusal::from_error(Kind::HostFault, &error))
    }

    /// Renders the hostdevs of the functions that go with a whole GPU, each with its alias.
    ///
    /// # Errors
    /// When the template does not take its values.
    pub fn companion_hostdevs(&self, allocation: &Allocation) -> Result<Vec<(String, String)>, Refusal> {
        let render = |function: &PciAddress| {
            let alias = allocation.id.companion_alias(*function);
            let xml = self.inner.templates.render_companion(*function, &alias);
            xml.map(|xml| (alias, xml)).map_err(|error| Refusal::from_error(Kind::HostFault, &error))
        };
        allocation.companions.iter().map(render).collect()
    }

    /// Makes what is not left to the start: slices for a running guest, and guaranteed ones, also those of an
    /// earlier attach that was cut short.
    fn make_promised(
        &self,
        allotment: &Allotment,
        through: Through,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let at_once = |one: &&Allocation| through == Through::LiveXml || is_guaranteed(one);
        let all = allotment.new.iter().chain(&allotment.kept);
        let now: Vec<Allocation> = all.filter(at_once).cloned().collect();
        if now.is_empty() {
            return Ok(());
        }
        let made = self.hold_in_turn(&now, Instant::now(), deadline).map(drop);
        made.inspect_err(|_| {
            if let Err(left) = self.forget(&allotment.new) {
                tracing::warn!(error = %left, "cannot take back a promise that could not be kept, its lease will");
            }
        })
    }

    /// Makes the slices of promises now, for a guest that runs already.
    ///
    /// # Errors
    /// When they do not all fit: none is made.
    pub fn make_now(&self, allocations: &[Allocation]) -> Result<(), Refusal> {
        let Some(first) = allocations.first() else { return Ok(()) };
        let deadline = Instant::now() + OPERATION;
        let _turn = self.domain_turn(first.domain.uuid, deadline)?;
        let wanted: Result<Vec<Wanted>, Refusal> = allocations.iter().map(|one| self.wanted(one)).collect();
        let _lane = self.capacity_turn(deadline)?;
        self.realize(&wanted?, clock::boottime(), deadline)
    }

    /// Removes the slices of promises that stay, of one domain; guaranteed ones stay too.
    pub fn unmake(&self, ids: &[AllocationId]) {
        match self.turn_of(ids) {
            Ok(_turn) => {
                let records = self.not_kept(self.records(ids));
                drop(self.give_back(records, Instant::now() + OPERATION));
            }
            Err(refusal) => {
                tracing::warn!(error = %refusal, "slices are not taken back now, the next look does")
            }
        }
    }

    /// Keeps slices from being taken for unplugged ones while they are being plugged.
    #[must_use]
    pub fn plugging(&self, allocations: &[Allocation]) -> Plugging {
        let ids: Vec<AllocationId> = allocations.iter().map(|one| one.id.clone()).collect();
        self.inner.plugging.lock().unwrap_or_else(PoisonError::into_inner).extend(ids.iter().cloned());
        Plugging { engine: self.clone(), ids }
    }

    /// Forgets promises. One whose slice exists, or is being made or removed, stays: its record must not be lost.
    fn forget(&self, allocations: &[Allocation]) -> Result<(), Refusal> {
        {
            let mut ledger = self.ledger();
            let book = ledger.book();
            let bound = allocations.iter().find(|one| {
                let open = book.intents.values().any(|intent| intent.allocation.as_ref() == Some(&one.id));
                open || book.realized.contains_key(&one.id)
            });
            if let Some(one) = bound {
                let text = format!("slice {} of domain {} still exists", one.device, one.domain.name);
                return Err(Refusal::new(Kind::Busy, text).hint("vgpuctl status shows what is under way"));
            }
            let changes =
                allocations.iter().map(|allocation| Change::DeleteAllocation(allocation.id.clone()));
            let done = ledger.commit(changes.collect(), Need::GiveBack);
            done.map_err(|error| Refusal::from_error(Kind::HostFault, &error))?;
        }
        self.publish_owned()
    }

    /// Marks allocations as shown by their domain's XML.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn tie(&self, ids: &[AllocationId]) -> Result<(), Refusal> {
        self.touch(ids);
        self.commit_with(Need::GiveBack, |book| {
            let found = ids.iter().filter_map(|id| book.allocations.get(id));
            let tied = found.map(|allocation| Allocation {
                state: AllocationState::Attached,
                until: None,
                ..allocation.clone()
            });
            tied.map(Change::PutAllocation).collect()
        })
    }

    /// Takes promises of one domain back: slices that exist are removed first, unless a guest holds them.
    ///
    /// # Errors
    /// When a slice is still held: its allocation stays.
    pub fn free(&self, ids: &[AllocationId]) -> Result<(), Refusal> {
        let _turn = self.turn_of(ids)?;
        self.free_in_turn(ids)
    }

    /// As [`Engine::free`], for a caller that has the domain's turn.
    pub(super) fn free_in_turn(&self, ids: &[AllocationId]) -> Result<(), Refusal> {
        let gone: Vec<Allocation> = {
            let ledger = self.ledger();
            ids.iter().filter_map(|id| ledger.book().allocations.get(id)).cloned().collect()
        };
        if let Some(refusal) =
            self.give_back(self.records(ids), Instant::now() + OPERATION).into_iter().next()
        {
            return Err(refusal);
        }
        self.forget(&gone)
    }

    pub(super) fn records(&self, ids: &[AllocationId]) -> Vec<Realized> {
        let ledger = self.ledger();
        ids.iter().filter_map(|id| ledger.book().realized.get(id)).cloned().collect()
    }

    pub(super) fn turn_of(&self, ids: &[AllocationId]) -> Result<Option<Turn<'_, DomainUuid>>, Refusal> {
        let owner = {
            let ledger = self.ledger();
            ids.iter().find_map(|id| ledger.book().allocations.get(id)).map(|one| one.domain.uuid)
        };
        owner.map(|domain| self.domain_turn(domain, Instant::now() + OPERATION)).transpose()
    }

    /// Turns an allotment into the answer a face gives.
    #[must_use]
    pub fn answer(&self, allotment: Allotment, dry_run: bool) -> wire::Allocated {
        let change = match (dry_run, allotment.new.is_empty()) {
            (_, true) => wire::Change::Unchanged,
            (true, false) => wire::Change::Planned,
            (false, false) => wire::Change::Done,
        };
        let all: Vec<Allocation> = allotment.new.into_iter().chain(allotment.kept).collect();
        let allocations: Vec<AllocationView> = self.views_of(&all);
        wire::Allocated { change, allocations, xml: allotment.xml, notes: allotment.notes }
    }
}
