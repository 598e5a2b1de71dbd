//! What faces show: the snapshot joined with the book. Pure but for fetching the two.

use std::sync::Arc;

use super::guaranteed::is_guaranteed;
use super::{Engine, foreign};
use crate::inventory::Definitions;
use crate::ledger::{Book, Intent};
use crate::model::{Allocation, Device, HostSnapshot, MdevUuid, Refusal};
use crate::placement::{self, Owners};
use crate::wire::{AllocationView, Allocations, Gpus, Owner, SliceStatus, Status, slices};

impl Engine {
    /// Lists the host's devices, their slices and whose they are.
    ///
    /// # Errors
    /// Only while the first reading is under way.
    pub fn gpus(&self) -> Result<Gpus, Refusal> {
        let (snapshot, age) = self.recent()?;
        let definitions = Definitions::read(&self.inner.sysfs);
        let ledger = self.ledger();
        let slices = slices(&snapshot, |device| owner(ledger.book(), &snapshot, &definitions, device));
        drop(ledger);
        Ok(Gpus {
            gpus: snapshot.gpus.clone(),
            slices,
            problems: snapshot.problems.clone(),
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Lists the allocations with what their slices are doing.
    ///
    /// # Errors
    /// Only while the first reading is under way.
    pub fn allocations(&self) -> Result<Allocations, Refusal> {
        let (snapshot, age) = self.recent()?;
        let current = self.shows_last_change(age);
        let unfinished = self.unfinished();
        let ledger = self.ledger();
        let book = ledger.book();
        let mut views: Vec<AllocationView> = book
            .allocations
            .values()
            .map(|allocation| {
                let stuck = book.intents.values().find(|intent| {
                    intent.allocation.as_ref() == Some(&allocation.id)
                        && unfinished.iter().any(|(id, ..)| *id == intent.id)
                });
                let slice = match stuck {
                    Some(intent) => SliceStatus::Unfinished { what: intent.step.to_string() },
                    None => status_of(book, &snapshot, current, allocation),
                };
                AllocationView { allocation: allocation.clone(), slice }
            })
            .collect();
        drop(ledger);
        views.sort_by(|a, b| {
            (&a.allocation.domain.name, &a.allocation.id).cmp(&(&b.allocation.domain.name, &b.allocation.id))
        });
        Ok(Allocations { allocations: views })
    }

    /// Returns allocations with what their slices are doing.
    #[must_use]
    pub fn views(&self, wanted: &[Allocation]) -> Vec<AllocationView> {
        self.views_of(wanted)
    }

    pub(super) fn views_of(&self, wanted: &[Allocation]) -> Vec<AllocationView> {
        let all = self.allocations().map(|all| all.allocations).unwrap_or_default();
        wanted
            .iter()
            .map(|allocation| {
                let found = all.iter().find(|view| view.allocation.id == allocation.id);
                found.cloned().unwrap_or_else(|| AllocationView {
                    allocation: allocation.clone(),
                    slice: SliceStatus::Reserved,
                })
            })
            .collect()
    }

    /// Returns the newest reading of the host; `None` while the first is under way.
    #[must_use]
    pub fn newest(&self) -> Option<Arc<HostSnapshot>> {
        self.recent().ok().map(|(snapshot, _)| snapshot)
    }

    /// Says how the service is.
    #[must_use]
    pub fn status(&self, libvirt: String) -> Status {
        let stuck = self.unfinished();
        let since = |id| stuck.iter().find(|(stuck, ..)| *stuck == id).map(|(.., since)| since.as_secs());
        let tell = |intent: &Intent| match since(intent.id) {
            Some(seconds) => format!("{}: not ended for {seconds} s", intent.step),
            None => format!("{}: under way", intent.step),
        };
        let unfinished = self.ledger().book().intents.values().map(tell).collect();
        let mut warnings = self.unrestored();
        warnings.extend(self.given_up());
        let boot = self.boot_report().steps;
        let read_only = self.read_only();
        let drift = if read_only.is_some() { Vec::new() } else { self.drift() };
        let ledger = self.ledger();
        if !ledger.has_ballast() {
            warnings
                .push("the disk below the database is full: starts are refused, stops still work".to_owned());
        }
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: ledger.book().generation,
            libvirt_uri: self.inner.paths.libvirt_uri().to_owned(),
            libvirt,
            libvirt_version: None,
            nvml: String::new(),
            unfinished,
            warnings,
            boot,
            read_only,
            drift,
            waiting: self.queue().waiting,
        }
    }

    /// Returns who is promised what, for refusals that say who holds the rest.
    pub(super) fn owners(&self, snapshot: &HostSnapshot) -> Owners {
        let definitions = Definitions::read(&self.inner.sysfs);
        let ledger = self.ledger();
        let book = ledger.book();
        let owner = |record: &crate::model::Realized| {
            let allocation = book.allocations.get(&record.allocation)?;
            let owner = placement::Owner::Allocation {
                allocation: allocation.id.clone(),
                domain: allocation.domain.name.clone(),
                guaranteed: is_guaranteed(allocation),
            };
            Some((record.device, owner))
        };
        // What reserves a VF is the promise alone: nothing in the kernel says so.
        let reserved = |allocation: &Allocation| {
            let vf = allocation.device.vf().filter(|_| is_guaranteed(allocation))?;
            let owner = placement::Owner::Allocation {
                allocation: allocation.id.clone(),
                domain: allocation.domain.name.clone(),
                guaranteed: true,
            };
            Some((Device::Vf(vf), owner))
        };
        let reserved = book.allocations.values().filter_map(reserved);
        let handmade = book.handmade.keys().map(|uuid| (Device::Mdev(*uuid), placement::Owner::Handmade));
        let foreign = foreign::owners(book, snapshot, &definitions);
        reserved.chain(book.realized.values().filter_map(owner)).chain(handmade).chain(foreign).collect()
    }
}

fn owner(book: &Book, snapshot: &HostSnapshot, definitions: &Definitions, device: Device) -> Owner {
    let realized = book.realized.values().find(|record| record.device == device);
    let allocation = realized
        .and_then(|record| book.allocations.get(&record.allocation))
        .or_else(|| book.reserving(device));
    match (allocation, device) {
        (Some(allocation), _) => Owner::Allocation {
            allocation: allocation.id.clone(),
            domain: allocation.domain.name.clone(),
            guaranteed: is_guaranteed(allocation),
        },
        (None, Device::Mdev(uuid)) if book.handmade.contains_key(&uuid) => Owner::Handmade,
        (None, Device::Mdev(uuid)) => Owner::Foreign { maker: maker_of(snapshot, definitions, uuid) },
        (None, Device::Vf(vf)) if snapshot.vgpu_type_on(vf).is_some() => Owner::Foreign { maker: None },
        (None, Device::Vf(_)) => Owner::Free,
    }
}

fn maker_of(snapshot: &HostSnapshot, definitions: &Definitions, uuid: MdevUuid) -> Option<String> {
    // Looked up only when mdevctl knows it at all.
    if definitions.of(uuid).is_empty() {
        return None;
    }
    snapshot.mdev(uuid).and_then(|(_, parent, _)| foreign::maker(definitions, &parent.name, uuid))
}

/// `current` tells whether the snapshot shows all that we changed.
fn status_of(book: &Book, snapshot: &HostSnapshot, current: bool, allocation: &Allocation) -> SliceStatus {
    let guaranteed = is_guaranteed(allocation);
    let Some(record) = book.realized.get(&allocation.id) else {
        return if guaranteed { SliceStatus::Missing } else { SliceStatus::Reserved };
    };
    let holders = match record.device {
        Device::Mdev(uuid) => snapshot.mdev(uuid).map(|(_, _, mdev)| mdev.holders.clone()),
        Device::Vf(address) => snapshot.function(address).map(|(_, vf)| vf.holders.clone()),
    };
    match holders {
        None if guaranteed && current => SliceStatus::Missing,
        // Made after this reading.
        None => SliceStatus::Ready { parent: record.parent.clone() },
        Some(holders) if holders.is_empty() => SliceStatus::Ready { parent: record.parent.clone() },
        Some(holders) => SliceStatus::InUse { parent: record.parent.clone(), holders },
    }
}
