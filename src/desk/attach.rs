//! Attach and detach: promises into and out of a domain's definition.

use super::{CALL, Desk, shows};
use crate::libvirt::{Definition, Listed};
use crate::model::{Allocation, AllocationId, DomainUuid, Kind, Refusal};
use crate::wire::{self, Allocate, Detach, Through};

impl Desk {
    /// Promises slices to a domain; through its definition attaches them, live also plugs them in.
    ///
    /// # Errors
    /// When there is no such domain, nothing fits, or libvirt refuses: nothing has changed.
    pub fn allocate(&self, request: &Allocate) -> Result<wire::Allocated, Refusal> {
        let listed = self.find(&request.domain)?;
        if matches!(request.through, Through::LiveXml | Through::Live) && !listed.active {
            return Err(Refusal::new(Kind::Conflict, format!("domain {} does not run", listed.domain.name))
                .hint("without --live the slice is made when the domain starts"));
        }
        if matches!(request.through, Through::Definition | Through::Live) && !listed.persistent {
            return Err(transient(&listed.domain.name, request));
        }
        let mut allotment = self.engine.allocate(&listed.domain, request)?;
        let allowed = self.refuse_too_old(&allotment.new);
        let allowed = allowed.and_then(|()| self.interlocks(&listed, &allotment.xml));
        let warnings = allowed.inspect_err(|refusal| {
            if !request.dry_run {
                let new: Vec<AllocationId> = allotment.new.iter().map(|one| one.id.clone()).collect();
                self.take_back(&new, refusal);
            }
        })?;
        allotment.notes.extend(warnings);
        let define = matches!(request.through, Through::Definition | Through::Live);
        if define && !request.dry_run {
            let all: Vec<Allocation> = allotment.new.iter().chain(&allotment.kept).cloned().collect();
            let new: Vec<AllocationId> = allotment.new.iter().map(|one| one.id.clone()).collect();
            let plugged = match request.through {
                Through::Live => self.plug_all(&listed, &all),
                Through::Definition | Through::Xml | Through::LiveXml => Ok(Vec::new()),
            };
            let plugged = plugged.inspect_err(|refusal| self.take_back(&new, refusal))?;
            self.define_all(listed.domain.uuid, &all).inspect_err(|refusal| {
                self.unplug_all(&listed, &plugged);
                self.take_back(&new, refusal);
            })?;
            self.index(listed.domain.uuid);
            if listed.active && request.through == Through::Definition {
                allotment.notes.push(format!(
                    "domain {} runs: this takes effect at its next start; --live plugs it in now",
                    listed.domain.name
                ));
            }
        }
        // The watcher's pause must know the new lease.
        self.link.poke();
        Ok(self.engine.answer(allotment, request.dry_run))
    }

    /// Adds to the inactive definition what it does not show yet (an attach that was cut short leaves
    /// such a promise). All or nothing: what was added is taken out again when a later one is refused.
    fn define_all(&self, domain: DomainUuid, all: &[Allocation]) -> Result<(), Refusal> {
        let shown = self.shown(domain, Definition::Inactive)?;
        let mut added: Vec<(AllocationId, String)> = Vec::new();
        for allocation in all.iter().filter(|one| !shows(&shown, one)) {
            let xml = self.hostdev(allocation)?;
            let hostdev = xml.clone();
            let done = self.link.call("attach a hostdev", CALL, move |host| host.attach(domain, &hostdev));
            if let Err(error) = done {
                for (id, xml) in added {
                    let undone =
                        self.link.call("detach a hostdev", CALL, move |host| host.detach(domain, &xml, &id));
                    if let Err(undo) = undone {
                        tracing::warn!(%domain, error = %undo, "cannot undo an attach, the next look will see it");
                    }
                }
                return Err(Refusal::from(&error));
            }
            added.push((allocation.id.clone(), xml));
        }
        let ids: Vec<AllocationId> = added.into_iter().map(|(id, _)| id).collect();
        if ids.is_empty() { Ok(()) } else { self.engine.tie(&ids) }
    }

    /// A libvirt that did not answer in time may still do what it was asked: then the promise stays leased, and
    /// the look at its domain ties it or its lease ends it.
    fn take_back(&self, ids: &[AllocationId], refusal: &Refusal) {
        if refusal.kind == Kind::Busy {
            tracing::warn!(error = %refusal, "what became of an attach is not known yet, its lease decides");
            return;
        }
        if let Err(refusal) = self.engine.free(ids) {
            tracing::warn!(error = %refusal, "cannot take back a promise, its lease will");
        }
    }

    /// Takes slices out of a domain's inactive definition, and tells which. A running guest keeps what it
    /// has until it stops; live, it is unplugged.
    ///
    /// # Errors
    /// When there is no such domain or allocation, libvirt refuses, or (live) the guest does not let go.
    pub fn detach(&self, request: &Detach) -> Result<(wire::Changed, Vec<AllocationId>), Refusal> {
        let listed = self.find(&request.domain)?;
        let chosen = self.chosen(&listed, request)?;
        let ids: Vec<AllocationId> = chosen.iter().map(|one| one.id.clone()).collect();
        if chosen.is_empty() {
            return Ok((wire::Changed { change: wire::Change::Unchanged, notes: Vec::new() }, ids));
        }
        let domain = listed.domain.uuid;
        let shown = self.shown(domain, Definition::Inactive)?;
        for allocation in chosen.iter().filter(|one| shows(&shown, one)) {
            let hostdev = self.hostdev(allocation)?;
            let id = allocation.id.clone();
            let done =
                self.link.call("detach a hostdev", CALL, move |host| host.detach(domain, &hostdev, &id));
            done.map_err(|error| Refusal::from(&error))?;
        }
        if request.live && listed.active {
            self.unplug_and_wait(&listed, &chosen)?;
        }
        let ended = self.end_detached(&listed, &chosen)?;
        self.index(domain);
        Ok((ended, ids))
    }

    fn chosen(&self, listed: &Listed, request: &Detach) -> Result<Vec<Allocation>, Refusal> {
        let book = self.engine.book();
        let chosen: Vec<Allocation> = book
            .of_domain(listed.domain.uuid)
            .filter(|one| request.allocation.as_ref().is_none_or(|id| *id == one.id))
            .filter(|one| request.profile.as_ref().is_none_or(|profile| *profile == one.profile))
            .cloned()
            .collect();
        let all = request.allocation.is_none() && request.profile.is_none();
        if chosen.is_empty() && !all {
            return Err(Refusal::new(
                Kind::NotFound,
                format!("domain {} has no such allocation", listed.domain.name),
            )
            .hint("vgpuctl allocations lists them"));
        }
        Ok(chosen)
    }

    /// A stopped domain's promises end now; a running one's when its live XML no longer shows them.
    fn end_detached(&self, listed: &Listed, chosen: &[Allocation]) -> Result<wire::Changed, Refusal> {
        let name = &listed.domain.name;
        let mut notes: Vec<String> = chosen
            .iter()
            .map(|one| format!("detached {} ({}) from {name}", one.device, one.profile))
            .collect();
        // It may have been started meanwhile.
        if self.find(&listed.domain.uuid.to_string())?.active {
            self.look();
            let book = self.engine.book();
            if chosen.iter().any(|one| book.allocations.contains_key(&one.id)) {
                notes.push(format!(
                    "domain {name} runs and keeps its slices until it stops; --live unplugs them"
                ));
            }
        } else {
            let ids: Vec<AllocationId> = chosen.iter().map(|one| one.id.clone()).collect();
            self.engine.free(&ids)?;
        }
        Ok(wire::Changed { change: wire::Change::Done, notes })
    }
}

/// A transient domain has no definition to be changed, and one whose XML has no UUID gets another one each time.
fn transient(domain: &str, request: &Allocate) -> Refusal {
    let text = format!("domain {domain} is transient: it has no definition that could keep a slice");
    Refusal::new(Kind::Conflict, text)
        .hint(format!(
            "define it with a fixed <uuid>: virsh dumpxml {domain} >{domain}.xml, virsh define {domain}.xml"
        ))
        .hint(format!(
            "or plug one in for this run: vgpuctl xml --domain {domain} --profile {} --live, then virsh attach-device",
            request.profile
        ))
}
