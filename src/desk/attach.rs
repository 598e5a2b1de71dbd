//! Attach and detach: promises into and out of a domain's definition.

use super::{CALL, Desk, shows};
use crate::domain_xml;
use crate::libvirt::{Definition, Listed, Version, VirtError};
use crate::model::{Allocation, AllocationId, Device, DomainUuid, HookDevice, Kind, Refusal, Wish};
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
        self.refuse_unmarked_peers(request)?;
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
        let mut added: Vec<Hostdev> = Vec::new();
        let mut ids: Vec<AllocationId> = Vec::new();
        for allocation in all {
            let missing = self.hostdevs(allocation)?.into_iter().filter(|one| !one.is_in(&shown));
            for hostdev in missing {
                let xml = hostdev.xml.clone();
                let done = self.link.call("attach a hostdev", CALL, move |host| host.attach(domain, &xml));
                if let Err(error) = done {
                    self.undefine_all(domain, added);
                    return Err(Refusal::from(&error));
                }
                added.push(hostdev);
                if ids.last() != Some(&allocation.id) {
                    ids.push(allocation.id.clone());
                }
            }
        }
        if self.has_peers(all)
            && let Err(refusal) = self.mark_peers(domain)
        {
            self.undefine_all(domain, added);
            return Err(refusal);
        }
        if ids.is_empty() { Ok(()) } else { self.engine.tie(&ids) }
    }

    /// Writes into the definition which whole GPUs are peers; two of one switch are, one alone is not.
    fn mark_peers(&self, domain: DomainUuid) -> Result<(), Refusal> {
        self.mark_as_peers(domain, self.engine.cliques_of(domain))
    }

    fn mark_as_peers(&self, domain: DomainUuid, peers: Vec<AllocationId>) -> Result<(), Refusal> {
        let done = self.link.call("edit a definition", CALL, move |host| {
            host.redefine(domain, &mut |xml| domain_xml::set_peers(xml, &peers))
        });
        match done {
            Ok(_) | Err(VirtError::NoDomain(_)) => Ok(()),
            Err(error) => Err(Refusal::from(&error)),
        }
    }

    /// An older libvirt takes the mark and forgets it.
    fn refuse_unmarked_peers(&self, request: &Allocate) -> Result<(), Refusal> {
        let peers = self.engine.profile(&request.profile)?.peers;
        match self.link.version().filter(|version| peers && *version < Version::OVERRIDE) {
            None => Ok(()),
            Some(version) => Err(Refusal::new(
                Kind::HostFault,
                format!(
                    "profile {} wants peers, for which libvirt {version} has no <qemu:override>; {} has",
                    request.profile,
                    Version::OVERRIDE
                ),
            )),
        }
    }

    fn has_peers(&self, allocations: &[Allocation]) -> bool {
        let profile = |one: &Allocation| self.engine.profile(&one.profile).ok();
        allocations.iter().any(|one| profile(one).is_some_and(|profile| profile.peers))
    }

    fn undefine_all(&self, domain: DomainUuid, added: Vec<Hostdev>) {
        for Hostdev { alias, xml, .. } in added.into_iter().rev() {
            let undone =
                self.link.call("detach a hostdev", CALL, move |host| host.detach(domain, &xml, &alias));
            if let Err(undo) = undone {
                tracing::warn!(%domain, error = %undo, "cannot undo an attach, the next look will see it");
            }
        }
    }

    /// The hostdevs of an allocation: its own first, then those of the functions that go with a whole GPU.
    fn hostdevs(&self, allocation: &Allocation) -> Result<Vec<Hostdev>, Refusal> {
        let own = Hostdev {
            alias: allocation.id.alias(),
            allocation: Some(allocation.clone()),
            device: allocation.device,
            xml: self.hostdev(allocation)?,
        };
        let companions = self.engine.companion_hostdevs(allocation)?;
        let companions = allocation.companions.iter().zip(companions).map(|(function, (alias, xml))| {
            Hostdev { alias, allocation: None, device: Device::Vf(*function), xml }
        });
        Ok(std::iter::once(own).chain(companions).collect())
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
        if request.live && listed.active {
            self.refuse_live_whole(&chosen)?;
        }
        let domain = listed.domain.uuid;
        let shown = self.shown(domain, Definition::Inactive)?;
        for allocation in &chosen {
            for Hostdev { alias, xml, .. } in
                self.hostdevs(allocation)?.into_iter().rev().filter(|one| one.is_in(&shown))
            {
                let done =
                    self.link.call("detach a hostdev", CALL, move |host| host.detach(domain, &xml, &alias));
                done.map_err(|error| Refusal::from(&error))?;
            }
        }
        if request.live && listed.active {
            self.unplug_and_wait(&listed, &chosen)?;
        }
        if self.has_peers(&chosen) {
            let gone = |id: &AllocationId| chosen.iter().any(|one| one.id == *id);
            let left: Vec<AllocationId> =
                self.engine.cliques_of(domain).into_iter().filter(|id| !gone(id)).collect();
            self.mark_as_peers(domain, left)?;
        }
        let ended = self.end_detached(&listed, &chosen)?;
        self.index(domain);
        Ok((ended, ids))
    }

    /// Its functions would leave the guest one by one, and their group with the last.
    fn refuse_live_whole(&self, chosen: &[Allocation]) -> Result<(), Refusal> {
        for one in chosen {
            if matches!(self.engine.profile(&one.profile)?.wish, Wish::Gpu(_)) {
                let text =
                    format!("{} is a whole GPU, which is not unplugged from a running guest", one.device);
                return Err(Refusal::new(Kind::Conflict, text).hint(
                    "without --live it leaves the definition, and the host has it back when the domain stops",
                ));
            }
        }
        Ok(())
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

/// A hostdev as it is written.
struct Hostdev {
    alias: String,
    /// Whose own it is; `None` for a function that goes with a whole GPU.
    allocation: Option<Allocation>,
    device: Device,
    xml: String,
}

impl Hostdev {
    fn is_in(&self, shown: &[HookDevice]) -> bool {
        match &self.allocation {
            Some(allocation) => shows(shown, allocation),
            None => shown.iter().any(|one| one.device == self.device),
        }
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
