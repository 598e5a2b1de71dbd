//! Guaranteed capacity: the slice exists while its domain is off.
//!
//! It is made when the promise is, is left alone by every end of a run, and goes with the promise. One that
//! vanished is shown; the next start, or asking for it again, makes it again.

use std::collections::BTreeSet;
use std::time::Instant;

use super::admit::Wanted;
use super::{Engine, OPERATION};
use crate::clock;
use crate::ledger::Book;
use crate::model::{
    Allocation, AllocationId, CapacityMode, Device, DomainUuid, HostSnapshot, Kind, Realized, Refusal,
    Settled,
};

impl Engine {
    /// Makes the slice of one guaranteed allocation where it was, if it is not there, verified and bound.
    /// Returns whether it was made now. Takes the turns that it needs.
    ///
    /// # Errors
    /// When there is no such guaranteed allocation, its GPU has no room, or the kernel says no.
    pub(super) fn hold_again(&self, id: &AllocationId) -> Result<bool, Refusal> {
        let asked = Instant::now();
        let _turn = self.turn_of(std::slice::from_ref(id))?;
        self.hold_in_turn(&[self.where_it_was(id)?], asked, asked + OPERATION)
    }

    /// As [`Engine::hold_again`] for several of one GPU: all or none, for one reading of the host that began after
    /// `asked`.
    ///
    /// # Errors
    /// As there; those that were made are gone again.
    pub(super) fn hold_all_again(&self, ids: &[AllocationId], asked: Instant) -> Result<(), Refusal> {
        let deadline = Instant::now() + OPERATION;
        // In the order of their UUIDs, and before the lane: nobody else takes the turns of two domains.
        let domains: BTreeSet<DomainUuid> = {
            let ledger = self.ledger();
            let known = ids.iter().filter_map(|id| ledger.book().allocations.get(id));
            known.map(|one| one.domain.uuid).collect()
        };
        let turns: Result<Vec<_>, Refusal> =
            domains.into_iter().map(|domain| self.domain_turn(domain, deadline)).collect();
        let _turns = turns?;
        let again: Result<Vec<Allocation>, Refusal> = ids.iter().map(|id| self.where_it_was(id)).collect();
        self.hold_in_turn(&again?, asked, deadline).map(drop)
    }

    /// A guaranteed allocation that can get nothing but what it had.
    fn where_it_was(&self, id: &AllocationId) -> Result<Allocation, Refusal> {
        let ledger = self.ledger();
        let found = ledger.book().allocations.get(id).filter(|one| is_guaranteed(one));
        let again = found.map(|one| on_its_place(one.clone(), place_of(ledger.book(), one)));
        again.ok_or_else(|| Refusal::new(Kind::NotFound, format!("no guaranteed allocation {id}")))
    }

    /// Makes the slices of these allocations that are not there: all or none. Returns whether any was made.
    /// The caller has their domain's turn; whether they are guaranteed is the caller's matter. The host may have been read
    /// since `asked`, in which time all that changed was told.
    pub(super) fn hold_in_turn(
        &self,
        allocations: &[Allocation],
        asked: Instant,
        deadline: Instant,
    ) -> Result<bool, Refusal> {
        let _lane = self.capacity_turn(deadline)?;
        let wanted: Result<Vec<Wanted>, Refusal> = allocations.iter().map(|one| self.wanted(one)).collect();
        let mut wanted = wanted?;
        self.await_open(&wanted, deadline);
        let snapshot = self.read_since(asked, deadline)?;
        wanted.retain(|want| !is_held(self.ledger().book(), &snapshot, &want.allocation));
        if wanted.is_empty() {
            return Ok(false);
        }
        self.realize_from(snapshot, &wanted, clock::boottime(), deadline)?;
        Ok(true)
    }

    /// Makes a slice anew that is there and no longer what its profile asks for. The domain is off, and the
    /// caller has its turn. When that cannot be, the slice is there as it was. Returns whether it was made anew.
    pub(super) fn renew_in_turn(&self, allocation: &Allocation, deadline: Instant) -> Result<bool, Refusal> {
        let _lane = self.capacity_turn(deadline)?;
        let want = self.wanted(allocation)?;
        self.await_open(std::slice::from_ref(&want), deadline);
        let snapshot = self.fresh(deadline)?;
        if !self.is_outdated(&want, &snapshot) {
            return Ok(false);
        }
        self.realize_from(snapshot, &[want], clock::boottime(), deadline)?;
        Ok(true)
    }

    /// Puts back what a start or a renewal took away in vain.
    pub(super) fn put_back(&self, cleared: &[Realized], deadline: Instant) {
        for record in cleared {
            let allocation = {
                let ledger = self.ledger();
                let book = ledger.book();
                book.allocations.get(&record.allocation).filter(|_| book.keeps(&record.allocation)).cloned()
            };
            let Some(allocation) = allocation else { continue };
            let again = self.wanted(&as_it_was(allocation, record));
            let done = again.and_then(|want| self.realize(&[want], record.run, deadline));
            if let Err(refusal) = done {
                tracing::error!(allocation = %record.allocation, error = %refusal, "a guaranteed slice is gone; its next start makes it again");
            }
        }
    }

    pub(super) fn wanted(&self, allocation: &Allocation) -> Result<Wanted, Refusal> {
        Ok(Wanted { allocation: allocation.clone(), profile: self.profile(&allocation.profile)? })
    }

    /// Leaves out the records of slices that stay when a run is over.
    pub(super) fn not_kept(&self, records: Vec<Realized>) -> Vec<Realized> {
        let ledger = self.ledger();
        records.into_iter().filter(|record| !ledger.book().keeps(&record.allocation)).collect()
    }
}

/// Returns whether these are the terms of a slice that exists while its domain is off.
pub(super) fn is_guaranteed(allocation: &Allocation) -> bool {
    allocation.terms.mode == CapacityMode::Guaranteed
}

/// Returns whether the slice of an allocation is there and known. Pure.
fn is_held(book: &Book, snapshot: &HostSnapshot, allocation: &Allocation) -> bool {
    let record = book.realized.get(&allocation.id).filter(|record| record.device == allocation.device);
    record.is_some_and(|record| match allocation.device {
        Device::Mdev(uuid) => snapshot.mdev(uuid).is_some(),
        Device::Vf(address) => snapshot
            .function(address)
            .is_some_and(|(_, vf)| vf.vfio && vf.vgpu_type() == record.mdev_type.as_ref()),
    })
}

/// Returns where the slice of a promise was last, and what it was: its record, or what its guests settled. Pure.
pub(super) fn place_of(book: &Book, allocation: &Allocation) -> Option<Settled> {
    book.realized.get(&allocation.id).map(place_in).or_else(|| allocation.settled.clone())
}

fn place_in(record: &Realized) -> Settled {
    Settled { gpu: record.gpu.clone(), mdev_type: record.mdev_type.clone(), vf_id: record.vf_id }
}

/// An allocation that can get nothing but what it had.
fn as_it_was(allocation: Allocation, record: &Realized) -> Allocation {
    on_its_place(allocation, Some(place_in(record)))
}

fn on_its_place(allocation: Allocation, place: Option<Settled>) -> Allocation {
    let mut same = allocation;
    same.terms.pin = place.is_some();
    same.settled = place;
    same
}
