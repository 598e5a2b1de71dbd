//! Hostdevs that others wrote become allocations, and allocations become hostdevs of their own again. Only our
//! alias comes and goes, in the definition for the next start; a running guest is not touched.

use super::{CALL, Desk};
use crate::domain_xml::{self, DomainXml, Edited};
use crate::engine::{Asked, ShownHostdev};
use crate::libvirt::{Definition, VirtError};
use crate::model::{Allocation, AllocationId, Device, DomainUuid, Kind, Refusal};
use crate::wire::{self, Adopt, Disown};

impl Desk {
    /// Makes allocations of what a domain's hostdevs name.
    ///
    /// # Errors
    /// When there is no such domain, a hostdev cannot be served or is another's, or libvirt refuses the mark:
    /// nothing has changed.
    pub fn adopt(&self, request: &Adopt) -> Result<wire::Adopted, Refusal> {
        let listed = self.find(&request.domain)?;
        let domain = listed.domain.uuid;
        let inactive = self.definition(domain, Definition::Inactive)?;
        let live = if listed.active { Some(self.definition(domain, Definition::Live)?) } else { None };
        let asked = Asked {
            domain: listed.domain,
            active: listed.active,
            hostdevs: hostdevs(&inactive, live.as_ref())?,
            profile: request.profile.clone(),
            device: request.device,
        };
        // The promise first: a hostdev with an alias that nobody knows could not start.
        let mut taken = self.engine.adopt(&asked, request.dry_run)?;
        if !request.dry_run {
            let unmarked = taken.adoptions.iter().filter(|one| one.unmarked);
            let marks: Vec<(Device, AllocationId)> =
                unmarked.map(|one| (one.allocation.device, one.allocation.id.clone())).collect();
            if let Err(refusal) = self.mark_all(domain, marks) {
                let new = taken.adoptions.iter().filter(|one| one.is_new);
                let new: Vec<AllocationId> = new.map(|one| one.allocation.id.clone()).collect();
                self.give_up(&new, &refusal);
                return Err(refusal);
            }
            if listed.active && taken.adoptions.iter().any(|one| one.unmarked) {
                let text = format!(
                    "domain {} runs on untouched: its hostdevs have their marks from its next start on",
                    asked.domain.name
                );
                taken.notes.push(text);
            }
            self.index(domain);
        }
        self.link.poke();
        Ok(self.engine.adopted(taken, request.dry_run))
    }

    fn definition(&self, domain: DomainUuid, definition: Definition) -> Result<DomainXml, Refusal> {
        let xml = self.link.call("read a definition", CALL, move |host| host.xml(domain, definition));
        let xml = xml.map_err(|error| Refusal::from(&error))?;
        domain_xml::read(xml.as_bytes()).map_err(|error| {
            Refusal::from_error(Kind::HostFault, &error).hint(format!("virsh dumpxml --inactive {domain}"))
        })
    }

    fn mark_all(&self, domain: DomainUuid, marks: Vec<(Device, AllocationId)>) -> Result<(), Refusal> {
        if marks.is_empty() {
            return Ok(());
        }
        let edit = move |xml: &str| {
            let mut edited = Edited::Same;
            for (device, id) in &marks {
                let before = if let Edited::Changed(xml) = &edited { xml.as_str() } else { xml };
                if let Edited::Changed(after) = domain_xml::mark(before, *device, id)? {
                    edited = Edited::Changed(after);
                }
            }
            Ok(edited)
        };
        let done = self.link.call("edit a definition", CALL, move |host| {
            let mut edit = edit;
            host.redefine(domain, &mut edit)
        });
        done.map(drop).map_err(|error| Refusal::from(&error))
    }

    /// A libvirt that did not answer in time may still do it: then the promises stay, and adopting again completes it.
    fn give_up(&self, new: &[AllocationId], refusal: &Refusal) {
        if refusal.kind == Kind::Busy {
            tracing::warn!(error = %refusal, "what became of a mark is not known yet, adopting again tells");
            return;
        }
        if let Err(refusal) = self.engine.disown(new) {
            tracing::warn!(error = %refusal, "cannot take back what was adopted; vgpuctl disown does");
        }
    }

    /// Forgets an allocation, or an mdev made by hand with vgpuctl. What exists stays as it is and is foreign.
    ///
    /// # Errors
    /// When there is no such thing, or libvirt refuses to take the mark off: nothing has changed.
    pub fn disown(&self, request: &Disown) -> Result<(wire::Changed, Option<Allocation>), Refusal> {
        let found = self.engine.disownable(request)?;
        let change = if request.dry_run { wire::Change::Planned } else { wire::Change::Done };
        let Some(allocation) = found else {
            let uuid = request.mdev.map(|uuid| uuid.to_string()).unwrap_or_default();
            if let Some(uuid) = request.mdev.filter(|_| !request.dry_run) {
                self.engine.disown_mdev(uuid)?;
            }
            let notes = vec![format!("mdev {uuid} is foreign: vgpud leaves it as it is")];
            return Ok((wire::Changed { change, notes }, None));
        };
        let mut notes = vec![format!(
            "{} of domain {} is foreign: vgpud leaves it as it is",
            allocation.device, allocation.domain.name
        )];
        if !request.dry_run {
            // The mark first: without its promise, a hostdev that has it could not start.
            notes.extend(self.unmark(&allocation)?);
            self.engine.disown(std::slice::from_ref(&allocation.id))?;
            self.index(allocation.domain.uuid);
            self.link.poke();
        }
        if matches!(allocation.device, Device::Mdev(_)) {
            notes.push(format!(
                "domain {} starts only where somebody made that mdev before; nobody takes it away when it stops",
                allocation.domain.name
            ));
        }
        Ok((wire::Changed { change, notes }, Some(allocation)))
    }

    /// Takes our alias out of the definition. Returns what an admin should know.
    fn unmark(&self, allocation: &Allocation) -> Result<Option<String>, Refusal> {
        let (domain, id) = (allocation.domain.uuid, allocation.id.clone());
        let done = self.link.call("edit a definition", CALL, move |host| {
            host.redefine(domain, &mut |xml| domain_xml::unmark(xml, &id))
        });
        match done {
            Ok(_) | Err(VirtError::NoDomain(_)) => Ok(None),
            Err(VirtError::Off) => Ok(Some(format!(
                "libvirt is off: take the alias {} out of the definition yourself",
                allocation.id.alias()
            ))),
            Err(error) => Err(Refusal::from(&error)),
        }
    }
}

/// Joins the hostdevs of both definitions by what they name.
fn hostdevs(inactive: &DomainXml, live: Option<&DomainXml>) -> Result<Vec<ShownHostdev>, Refusal> {
    let mut all: Vec<ShownHostdev> = Vec::new();
    let sides = inactive.hostdevs.iter().map(|one| (one, false));
    let sides = sides.chain(live.into_iter().flat_map(|live| live.hostdevs.iter().map(|one| (one, true))));
    for (hostdev, is_live) in sides {
        let Some(device) = hostdev.source.device() else { continue };
        let ours = hostdev.alias.as_deref().and_then(AllocationId::from_alias);
        // Other aliases of the live definition are libvirt's own and end with the run.
        let other =
            hostdev.alias.clone().filter(|alias| !is_live && ours.is_none() && alias.starts_with("ua-"));
        match all.iter_mut().find(|one| one.device == device) {
            Some(one) if is_live && !one.live => one.live = true,
            Some(_) => {
                let text = format!("domain {} names {device} in two hostdevs", inactive.name);
                return Err(Refusal::new(Kind::Conflict, text).hint("remove one of them with virsh edit"));
            }
            None => all.push(ShownHostdev {
                device,
                allocation: ours,
                other_alias: other,
                managed: hostdev.managed,
                inactive: !is_live,
                live: is_live,
            }),
        }
    }
    Ok(all)
}
