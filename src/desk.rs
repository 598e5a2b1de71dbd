//! Admin requests that need libvirt as well as the engine, and the keeper that looks at libvirt's domains.
//!
//! Engine and libvirt meet here and nowhere else: the engine never waits for libvirt, and nothing here
//! holds a turn of the engine while it asks libvirt.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::clock;
use crate::domain_xml;
use crate::engine::{Engine, Seen, SeenDomain};
use crate::libvirt::{self, Definition, Event, Hypervisor, Link, Listed, VirtError};
use crate::model::{Allocation, AllocationId, DomainUuid, HookDevice, Kind, Refusal};
use crate::wire::{self, Allocate, Detach, Through};

/// libvirt may be waiting for our hook, which waits for other starts: longer than the hook's own cap.
const CALL: Duration = Duration::from_secs(15);

/// How often domains are looked at while there is anything they could change, without any event.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How long events are collected before a look: a start or stop brings several.
const SETTLE: Duration = Duration::from_millis(150);

/// The longest that a stream of events puts a look off.
const MOST_SETTLE: Duration = Duration::from_secs(1);

/// What is wanted to be looked at in each domain.
type Wanted = Vec<DomainUuid>;

/// The desk; clones share the engine and the link.
#[derive(Clone, Debug)]
pub struct Desk {
    engine: Engine,
    link: Link,
}

impl Desk {
    /// Joins an engine and a libvirt link.
    #[must_use]
    pub const fn new(engine: Engine, link: Link) -> Self {
        Self { engine, link }
    }

    /// Returns the engine.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns how the libvirt connection is, for people.
    #[must_use]
    pub fn libvirt_state(&self) -> String {
        self.link.state()
    }

    fn find(&self, name: &str) -> Result<Listed, Refusal> {
        let wanted = name.to_owned();
        let found = self.link.call("list domains", CALL, move |host| libvirt::find(&host.list()?, &wanted));
        found.map_err(|error| {
            let refusal = Refusal::from(&error);
            match error {
                VirtError::NoDomain(_) => refusal.hint("virsh list --all shows the domains"),
                _ => refusal,
            }
        })
    }

    /// Promises slices to a domain and, through its definition, attaches them.
    ///
    /// # Errors
    /// When there is no such domain, nothing fits, or libvirt refuses: nothing has changed.
    pub fn allocate(&self, request: &Allocate) -> Result<wire::Allocated, Refusal> {
        let listed = self.find(&request.domain)?;
        if request.through == Through::LiveXml && !listed.active {
            return Err(Refusal::new(Kind::Conflict, format!("domain {} does not run", listed.domain.name))
                .hint("without --live the slice is made when the domain starts"));
        }
        let mut allotment = self.engine.allocate(&listed.domain, request)?;
        if request.through == Through::Definition && !request.dry_run {
            // What was only leased so far, by an attach that was cut short, is attached now.
            let unattached = self.unattached(listed.domain.uuid, &allotment.kept)?;
            let ids: Vec<AllocationId> =
                allotment.new.iter().map(|allocation| allocation.id.clone()).collect();
            self.attach_all(listed.domain.uuid, allotment.new.iter().chain(&unattached))
                .inspect_err(|_| self.take_back(&ids))?;
            if listed.active {
                allotment
                    .notes
                    .push(format!("domain {} runs: this takes effect at its next start", listed.domain.name));
            }
        }
        // The watcher's pause must know the new lease.
        self.link.poke();
        Ok(self.engine.answer(allotment, request.dry_run))
    }

    fn unattached(&self, domain: DomainUuid, kept: &[Allocation]) -> Result<Vec<Allocation>, Refusal> {
        if kept.is_empty() {
            return Ok(Vec::new());
        }
        let xml =
            self.link.call("read a definition", CALL, move |host| host.xml(domain, Definition::Inactive));
        let shown = ours(&xml.map_err(|error| Refusal::from(&error))?).unwrap_or_default();
        let hidden =
            |one: &&Allocation| !shown.iter().any(|device| device.allocation.as_ref() == Some(&one.id));
        Ok(kept.iter().filter(hidden).cloned().collect())
    }

    /// All or nothing: what was attached is detached again when a later one is refused.
    fn attach_all<'a>(
        &self,
        domain: DomainUuid,
        all: impl Iterator<Item = &'a Allocation>,
    ) -> Result<(), Refusal> {
        let mut attached: Vec<(AllocationId, String)> = Vec::new();
        for allocation in all {
            let profile = self.engine.profile(&allocation.profile)?;
            let xml = self.engine.hostdev(allocation, &profile)?;
            let hostdev = xml.clone();
            let done = self.link.call("attach a hostdev", CALL, move |host| host.attach(domain, &hostdev));
            if let Err(error) = done {
                for (id, xml) in attached {
                    let undone =
                        self.link.call("detach a hostdev", CALL, move |host| host.detach(domain, &xml, &id));
                    if let Err(undo) = undone {
                        tracing::warn!(%domain, error = %undo, "cannot undo an attach, the next look will see it");
                    }
                }
                return Err(Refusal::from(&error));
            }
            attached.push((allocation.id.clone(), xml));
        }
        let ids: Vec<AllocationId> = attached.into_iter().map(|(id, _)| id).collect();
        if ids.is_empty() { Ok(()) } else { self.engine.tie(&ids) }
    }

    fn take_back(&self, ids: &[AllocationId]) {
        if let Err(refusal) = self.engine.free(ids) {
            tracing::warn!(error = %refusal, "cannot take back a promise, its lease will");
        }
    }

    /// Takes slices out of a domain's inactive definition; what a running guest has stays until it stops.
    ///
    /// # Errors
    /// When there is no such domain or allocation, or libvirt refuses.
    pub fn detach(&self, request: &Detach) -> Result<wire::Changed, Refusal> {
        let listed = self.find(&request.domain)?;
        let book = self.engine.book();
        let chosen: Vec<Allocation> = book
            .of_domain(listed.domain.uuid)
            .filter(|one| request.allocation.as_ref().is_none_or(|id| *id == one.id))
            .filter(|one| request.profile.as_ref().is_none_or(|profile| *profile == one.profile))
            .cloned()
            .collect();
        if chosen.is_empty() {
            return match (&request.allocation, &request.profile) {
                (None, None) => Ok(wire::Changed { change: wire::Change::Unchanged, notes: Vec::new() }),
                _ => Err(Refusal::new(
                    Kind::NotFound,
                    format!("domain {} has no such allocation", listed.domain.name),
                )
                .hint("vgpuctl allocations lists them")),
            };
        }
        let domain = listed.domain.uuid;
        let xml =
            self.link.call("read a definition", CALL, move |host| host.xml(domain, Definition::Inactive));
        let shown = ours(&xml.map_err(|error| Refusal::from(&error))?).unwrap_or_default();
        for allocation in &chosen {
            if !shown.iter().any(|device| device.allocation.as_ref() == Some(&allocation.id)) {
                continue;
            }
            let profile = self.engine.profile(&allocation.profile)?;
            let hostdev = self.engine.hostdev(allocation, &profile)?;
            let id = allocation.id.clone();
            let done =
                self.link.call("detach a hostdev", CALL, move |host| host.detach(domain, &hostdev, &id));
            done.map_err(|error| Refusal::from(&error))?;
        }
        self.end_detached(&listed, &chosen)
    }

    /// A stopped domain's promises end now; a running one's when its live XML no longer shows them.
    fn end_detached(&self, listed: &Listed, chosen: &[Allocation]) -> Result<wire::Changed, Refusal> {
        let mut notes: Vec<String> = chosen
            .iter()
            .map(|one| format!("detached {} ({}) from {}", one.device, one.profile, listed.domain.name))
            .collect();
        if listed.active {
            self.look();
            if self
                .engine
                .book()
                .of_domain(listed.domain.uuid)
                .any(|one| chosen.iter().any(|was| was.id == one.id))
            {
                notes.push(format!("domain {} runs and keeps its slices until it stops", listed.domain.name));
            }
        } else {
            let ids: Vec<AllocationId> = chosen.iter().map(|one| one.id.clone()).collect();
            self.engine.free(&ids)?;
        }
        Ok(wire::Changed { change: wire::Change::Done, notes })
    }

    /// Asks libvirt for its domains and lets the engine act on the answer. Returns whether libvirt answered.
    pub fn look(&self) -> bool {
        let mut wanted: Wanted = self.engine.book().allocations.values().map(|one| one.domain.uuid).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let asked_at = clock::boottime();
        match self.link.call("list domains", CALL, move |host| report(host, &wanted)) {
            Ok(domains) => {
                self.engine.look(&Seen { asked_at, domains });
                true
            }
            Err(VirtError::Off) => {
                self.engine.end_leases();
                true
            }
            Err(error) => {
                tracing::debug!(%error, "libvirt's domains cannot be looked at now");
                false
            }
        }
    }

    /// Looks at libvirt's domains at events, at the ends of leases, and now and then. Does not return.
    pub fn watch(&self, events: &Receiver<Event>) {
        let mut failures = 0u32;
        loop {
            let answered = self.look();
            failures = if answered { 0 } else { failures.saturating_add(1) };
            match events.recv_timeout(self.pause(failures)) {
                Ok(event) => {
                    self.settle(event, events);
                    // Who holds a device has no kernel event; a domain that starts or is plugged has this one.
                    self.engine.host_changed();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn settle(&self, first: Event, events: &Receiver<Event>) {
        if first == Event::Closed {
            tracing::info!("the libvirt connection ended, connecting again");
        }
        let end = Instant::now() + MOST_SETTLE;
        while let Ok(event) = events.recv_timeout(SETTLE.min(end.saturating_duration_since(Instant::now()))) {
            tracing::trace!(?event, "libvirt event");
            if Instant::now() >= end {
                return;
            }
        }
    }

    /// Nothing promised and libvirt answers: only events matter. Else until the next lease ends, and at
    /// least every minute; a libvirt that does not answer is asked again after 1, 2, 4, … 60 s.
    fn pause(&self, failures: u32) -> Duration {
        let retry = Duration::from_secs(1 << failures.saturating_sub(1).min(6)).min(LOOK_EVERY);
        let quiet = if self.engine.has_promises() { LOOK_EVERY } else { Duration::from_secs(3600) };
        let limit = if failures > 0 { retry } else { quiet };
        let until = self.engine.next_end().map(|end| end.saturating_sub(clock::epoch_seconds()).max(1));
        match until.and_then(|seconds| u64::try_from(seconds).ok()) {
            Some(seconds) => limit.min(Duration::from_secs(seconds)),
            None => limit,
        }
    }
}

/// Reads our hostdevs of a definition; `None` when the XML makes no sense to us, so that nothing is concluded from it.
fn ours(xml: &str) -> Option<Vec<HookDevice>> {
    let domain = domain_xml::read(xml.as_bytes()).ok()?;
    // Owned devices without our alias are matched by the engine, which knows the devices.
    let devices = domain.hostdevs.iter().filter_map(|hostdev| {
        let device = hostdev.source.device()?;
        let allocation = hostdev.alias.as_deref().and_then(AllocationId::from_alias);
        Some(HookDevice { allocation, device })
    });
    Some(devices.collect())
}

fn report(host: &mut dyn Hypervisor, wanted: &Wanted) -> Result<BTreeMap<DomainUuid, SeenDomain>, VirtError> {
    let mut domains = BTreeMap::new();
    for Listed { domain, active } in host.list()? {
        let mut seen = SeenDomain { name: domain.name, active, inactive: None, live: None };
        if wanted.binary_search(&domain.uuid).is_ok() {
            seen.inactive = host.xml(domain.uuid, Definition::Inactive).ok().as_deref().and_then(ours);
            if active {
                seen.live = host.xml(domain.uuid, Definition::Live).ok().as_deref().and_then(ours);
            }
        }
        domains.insert(domain.uuid, seen);
    }
    Ok(domains)
}
