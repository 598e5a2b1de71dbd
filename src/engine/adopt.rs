//! Foreign slices become ours, and ours become foreign. The device itself is not touched by either.

use std::time::Instant;

use super::adoptable::{self, Adoption, Asked};
use super::{Engine, OPERATION, foreign};
use crate::clock;
use crate::inventory::Definitions;
use crate::ledger::{Book, Change, Handmade, Need};
use crate::model::{Allocation, AllocationId, Device, Kind, MdevUuid, Refusal};
use crate::wire;

/// What adopting a domain came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Each hostdev that is an allocation now.
    pub adoptions: Vec<Adoption>,
    /// What an admin should know.
    pub notes: Vec<String>,
}

impl Taken {
    /// Returns whether the ledger learned anything, or the definition has to.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.adoptions.iter().any(|one| one.is_new || one.unmarked || one.realized.is_some())
    }
}

impl Engine {
    /// Makes allocations of a domain's hostdevs. Neither the devices nor a running guest are touched.
    ///
    /// # Errors
    /// When one of them cannot be served, is another's, or no one profile fits it: nothing has changed.
    pub fn adopt(&self, asked: &Asked, dry_run: bool) -> Result<Taken, Refusal> {
        let deadline = Instant::now() + OPERATION;
        let _turn = self.domain_turn(asked.domain.uuid, deadline)?;
        // No start may take the same device meanwhile.
        let _lane = self.capacity_turn(deadline)?;
        let snapshot = self.fresh(deadline)?;
        let definitions = Definitions::read(&self.inner.sysfs);
        let book = self.book();
        let facts = adoptable::Facts {
            book: &book,
            snapshot: &snapshot,
            definitions: &definitions,
            boot_id: &self.inner.boot_id,
            run: clock::boottime(),
        };
        let plan = adoptable::plan(&facts, asked, || self.free_id(&[]))?;
        let taken = Taken { adoptions: plan.adoptions, notes: plan.notes };
        for one in &taken.adoptions {
            self.refuse_open_intent(one.allocation.device)?;
        }
        if dry_run || !taken.changes() {
            return Ok(taken);
        }
        self.touch(taken.adoptions.iter().map(|one| &one.allocation.id));
        let new: Vec<&Adoption> = taken.adoptions.iter().filter(|one| one.is_new).collect();
        let changes = taken.adoptions.iter().flat_map(|one| learned(&book, one)).collect();
        self.commit_if(changes, Need::Promise, |book| still_free(book, &new))?;
        self.publish_owned()?;
        self.nudge();
        Ok(taken)
    }

    fn refuse_open_intent(&self, device: Device) -> Result<(), Refusal> {
        let ledger = self.ledger();
        let mut open = ledger.book().intents.values();
        match open.find(|intent| intent.step.device() == Some(device)) {
            Some(intent) => {
                Err(Refusal::new(Kind::Busy, format!("a change of {device} has not ended: {}", intent.step))
                    .hint("vgpuctl status shows what is under way"))
            }
            None => Ok(()),
        }
    }

    /// Makes an mdev that somebody else made, and no domain names, one of those made with `vgpuctl mdev create`.
    ///
    /// # Errors
    /// When it does not exist, is an allocation's, or a domain has it.
    pub fn adopt_mdev(&self, uuid: MdevUuid, dry_run: bool) -> Result<wire::Changed, Refusal> {
        let deadline = Instant::now() + OPERATION;
        let _lane = self.capacity_turn(deadline)?;
        let snapshot = self.fresh(deadline)?;
        let Some((_, parent, mdev)) = snapshot.mdev(uuid) else {
            return Err(
                Refusal::new(Kind::NotFound, format!("no mdev {uuid}")).hint("vgpuctl gpus lists them")
            );
        };
        self.refuse_open_intent(Device::Mdev(uuid))?;
        if let Some(domain) = mdev.holders.iter().find_map(|holder| holder.domain.as_ref()) {
            return Err(Refusal::new(Kind::Conflict, format!("mdev {uuid} is held by domain {domain}"))
                .hint(format!("vgpuctl adopt {domain} makes it an allocation of that domain")));
        }
        let book = self.book();
        if let Some(one) = book.naming(Device::Mdev(uuid)) {
            let text =
                format!("mdev {uuid} is promised to domain {} (allocation {})", one.domain.name, one.id);
            return Err(Refusal::new(Kind::Conflict, text)
                .hint(format!("vgpuctl adopt {} takes it for that domain", one.domain.name)));
        }
        if book.handmade.contains_key(&uuid) {
            return Ok(wire::Changed { change: wire::Change::Unchanged, notes: Vec::new() });
        }
        let made = Handmade {
            uuid,
            parent: parent.name.clone(),
            mdev_type: mdev.mdev_type.clone(),
            boot_id: self.inner.boot_id.clone(),
        };
        let mut notes = vec![format!("mdev {uuid} ({} on {}) is vgpud's", mdev.mdev_type, parent.name)];
        let definitions = Definitions::read(&self.inner.sysfs);
        if !definitions.of(uuid).is_empty() {
            notes.push(format!("mdevctl still defines it: {}", foreign::undefine(uuid)));
        }
        if dry_run {
            return Ok(wire::Changed { change: wire::Change::Planned, notes });
        }
        self.commit(vec![Change::PutHandmade(made)], Need::Promise)?;
        Ok(wire::Changed { change: wire::Change::Done, notes })
    }

    /// Finds what `vgpuctl disown` names: an allocation, or `None` for an mdev made by hand with vgpuctl.
    ///
    /// # Errors
    /// When there is no such thing.
    pub fn disownable(&self, asked: &wire::Disown) -> Result<Option<Allocation>, Refusal> {
        let ledger = self.ledger();
        let book = ledger.book();
        match (&asked.allocation, asked.mdev) {
            (Some(id), None) => match book.allocations.get(id) {
                Some(one) => Ok(Some(one.clone())),
                None => Err(Refusal::new(Kind::NotFound, format!("no allocation {id}"))
                    .hint("vgpuctl allocations lists them")),
            },
            (None, Some(uuid)) => match book.naming(Device::Mdev(uuid)) {
                Some(one) => Ok(Some(one.clone())),
                None if book.handmade.contains_key(&uuid) => Ok(None),
                None => Err(Refusal::new(Kind::NotFound, format!("mdev {uuid} is not vgpud's"))
                    .hint("vgpuctl gpus shows whose it is")),
            },
            _ => Err(Refusal::new(Kind::Usage, "name one allocation or one mdev")),
        }
    }

    /// Forgets an mdev made by hand with vgpuctl; it stays as it is.
    ///
    /// # Errors
    /// When a change of it has not ended, or the disk says no.
    pub fn disown_mdev(&self, uuid: MdevUuid) -> Result<(), Refusal> {
        self.refuse_open_intent(Device::Mdev(uuid))?;
        self.commit(vec![Change::DeleteHandmade(uuid)], Need::GiveBack)
    }

    /// Forgets promises and what was made for them; devices and running guests stay as they are. All of one domain.
    ///
    /// # Errors
    /// When a change of one has not ended, or the disk says no.
    pub fn disown(&self, ids: &[AllocationId]) -> Result<(), Refusal> {
        let _turn = self.turn_of(ids)?;
        let devices: Vec<Device> = {
            let ledger = self.ledger();
            ids.iter().filter_map(|id| ledger.book().allocations.get(id)).map(|one| one.device).collect()
        };
        for device in devices {
            self.refuse_open_intent(device)?;
        }
        let forgotten = ids
            .iter()
            .flat_map(|id| [Change::DeleteRealized(id.clone()), Change::DeleteAllocation(id.clone())]);
        self.commit(forgotten.collect(), Need::GiveBack)?;
        self.publish_owned()?;
        self.nudge();
        Ok(())
    }

    /// Turns what was adopted into the answer a face gives.
    #[must_use]
    pub fn adopted(&self, taken: Taken, dry_run: bool) -> wire::Adopted {
        let change = match (taken.changes(), dry_run) {
            (false, _) => wire::Change::Unchanged,
            (true, true) => wire::Change::Planned,
            (true, false) => wire::Change::Done,
        };
        let all: Vec<Allocation> = taken.adoptions.into_iter().map(|one| one.allocation).collect();
        wire::Adopted { change, allocations: self.views_of(&all), notes: taken.notes }
    }
}

/// What the ledger learns from one adoption. An mdev made by hand with vgpuctl gets a domain.
fn learned(book: &Book, one: &Adoption) -> Vec<Change> {
    let mut changes = Vec::new();
    if one.is_new {
        changes.push(Change::PutAllocation(one.allocation.clone()));
    }
    changes.extend(one.realized.clone().map(Change::PutRealized));
    if let Device::Mdev(uuid) = one.allocation.device
        && book.handmade.contains_key(&uuid)
    {
        changes.push(Change::DeleteHandmade(uuid));
    }
    changes
}

/// Promises can be made without the turns that this has: looked at once more under the lock of the commit.
fn still_free(book: &Book, new: &[&Adoption]) -> Result<(), Refusal> {
    for one in new {
        let allocation = &one.allocation;
        if !book.profiles.contains_key(&allocation.profile) {
            return Err(Refusal::new(
                Kind::NotFound,
                format!("profile {} was just deleted", allocation.profile),
            ));
        }
        let taken = matches!(allocation.device, Device::Mdev(_)) && book.naming(allocation.device).is_some();
        if taken || book.allocations.contains_key(&allocation.id) {
            return Err(Refusal::new(Kind::Busy, format!("{} was just promised", allocation.device))
                .hint("try again"));
        }
    }
    Ok(())
}
