//! What faces show: the snapshot joined with the book. Pure but for fetching the two.

use super::Engine;
use crate::ledger::{Book, Intent};
use crate::model::{Allocation, Device, HostSnapshot, Refusal};
use crate::placement::{self, Owners};
use crate::wire::{AllocationView, Allocations, Gpus, Owner, SliceStatus, Status, slices};

impl Engine {
    /// Lists the host's devices, their slices and whose they are.
    ///
    /// # Errors
    /// Only while the first reading is under way.
    pub fn gpus(&self) -> Result<Gpus, Refusal> {
        let (snapshot, age) = self.recent()?;
        let ledger = self.ledger();
        let slices = slices(&snapshot, |device| owner(ledger.book(), device));
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
        let (snapshot, _) = self.recent()?;
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
                    None => status_of(book, &snapshot, allocation),
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
            nvml: String::new(),
            unfinished,
            warnings,
        }
    }

    /// Returns who is promised what, for refusals that say who holds the rest.
    pub(super) fn owners(&self) -> Owners {
        let ledger = self.ledger();
        let book = ledger.book();
        let owner = |record: &crate::model::Realized| {
            let allocation = book.allocations.get(&record.allocation)?;
            let owner = placement::Owner::Allocation {
                allocation: allocation.id.clone(),
                domain: allocation.domain.name.clone(),
            };
            Some((record.device, owner))
        };
        let handmade = book.handmade.keys().map(|uuid| (Device::Mdev(*uuid), placement::Owner::Handmade));
        book.realized.values().filter_map(owner).chain(handmade).collect()
    }
}

fn owner(book: &Book, device: Device) -> Owner {
    let realized = book.realized.values().find(|record| record.device == device);
    let allocation =
        realized.and_then(|record| book.allocations.get(&record.allocation)).or_else(|| book.naming(device));
    match (allocation, device) {
        (Some(allocation), _) => {
            Owner::Allocation { allocation: allocation.id.clone(), domain: allocation.domain.name.clone() }
        }
        (None, Device::Mdev(uuid)) if book.handmade.contains_key(&uuid) => Owner::Handmade,
        (None, Device::Mdev(_)) => Owner::Foreign,
        (None, Device::Vf(_)) => Owner::Free,
    }
}

fn status_of(book: &Book, snapshot: &HostSnapshot, allocation: &Allocation) -> SliceStatus {
    let Some(record) = book.realized.get(&allocation.id) else { return SliceStatus::Reserved };
    let holders = match record.device {
        Device::Mdev(uuid) => snapshot.mdev(uuid).map(|(_, _, mdev)| mdev.holders.clone()),
        Device::Vf(address) => snapshot.vf(address).map(|(_, vf)| vf.holders.clone()),
    };
    match holders {
        // Made after this reading.
        None => SliceStatus::Ready { parent: record.parent.clone() },
        Some(holders) if holders.is_empty() => SliceStatus::Ready { parent: record.parent.clone() },
        Some(holders) => SliceStatus::InUse { parent: record.parent.clone(), holders },
    }
}
