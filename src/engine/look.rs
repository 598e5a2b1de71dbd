//! What libvirt's domain list means for promises and slices.
//!
//! The decision is pure: the book, the report and the time in, acts out. Nothing is ever concluded from
//! a definition that could not be read.

use std::collections::BTreeMap;

use super::settled::settled_by;
use super::{Engine, OPERATION};
use crate::clock;
use crate::ledger::{Book, Change, Need};
use crate::model::{Allocation, AllocationId, AllocationState, DomainRef, DomainUuid, Realized, RunId};
use crate::wire::HookDevice;

/// What libvirt said at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When it was asked, before the list was read.
    pub asked_at: RunId,
    /// Every domain it knows.
    pub domains: BTreeMap<DomainUuid, SeenDomain>,
}

/// One domain of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenDomain {
    /// Its name now.
    pub name: String,
    /// Whether it runs.
    pub active: bool,
    /// Our hostdevs in what the next start uses; `None` when it could not be read.
    pub inactive: Option<Vec<HookDevice>>,
    /// Our hostdevs in what runs; `None` when it does not run or could not be read.
    pub live: Option<Vec<HookDevice>>,
    /// What of its memory is kept; `None` when it could not be asked.
    pub images: Option<SavedImages>,
}

/// What of a domain's memory is kept: it needs the exact slices that it knew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedImages {
    /// The next start resumes one, whose own XML counts then and not the definition.
    pub managed_save: bool,
    /// A snapshot has some, to which a revert goes back.
    pub memory_snapshot: bool,
}

/// How long an allocation outlives its domain: undefine and define again is ordinary editing.
const GRACE_S: i64 = 600;

#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a handful live for the time of one look")]
enum Act {
    Put(Allocation),
    Free(AllocationId),
    GiveBack(AllocationId),
}

fn shows(devices: Option<&Vec<HookDevice>>, allocation: &Allocation) -> Option<bool> {
    devices.map(|devices| {
        devices
            .iter()
            .any(|one| one.allocation.as_ref() == Some(&allocation.id) || allocation.may_name(one.device))
    })
}

/// When each allocation was last changed by a request: a report that was asked for before says nothing of it.
pub(super) type Touched = BTreeMap<AllocationId, RunId>;

fn decide(book: &Book, touched: &Touched, seen: &Seen, now: i64) -> Vec<Act> {
    let orphans = book.realized.values().filter(|record| !book.allocations.contains_key(&record.allocation));
    let orphans = orphans.filter(|record| record.run < seen.asked_at);
    let orphans = orphans.map(|record| Act::GiveBack(record.allocation.clone()));
    let known = book.allocations.values();
    let known = known.filter(|allocation| touched.get(&allocation.id).is_none_or(|at| *at < seen.asked_at));
    known.flat_map(|allocation| decide_one(book, seen, now, allocation)).chain(orphans).collect()
}

fn decide_one(book: &Book, seen: &Seen, now: i64, allocation: &Allocation) -> Vec<Act> {
    let record = book.realized.get(&allocation.id);
    let known = record.filter(|record| record.run < seen.asked_at);
    // A guaranteed slice outlives its runs; it goes with its promise.
    let over = known.is_some() && !book.keeps(&allocation.id);
    let expired = allocation.until.is_some_and(|until| until <= now);
    let mut acts = Vec::new();
    let Some(domain) = seen.domains.get(&allocation.domain.uuid) else {
        if over {
            acts.push(Act::GiveBack(allocation.id.clone()));
        }
        match allocation.state {
            AllocationState::Attached => acts.push(Act::Put(Allocation {
                state: AllocationState::Orphaned,
                until: Some(now + GRACE_S),
                ..allocation.clone()
            })),
            AllocationState::Leased | AllocationState::Orphaned if expired => {
                acts.push(Act::Free(allocation.id.clone()))
            }
            AllocationState::Leased | AllocationState::Orphaned => {}
        }
        return acts;
    };
    let inactive = shows(domain.inactive.as_ref(), allocation);
    let live = shows(domain.live.as_ref(), allocation);
    let shown = inactive == Some(true) || live == Some(true);
    // What a definition does not show, the image of a managed save still may: it is asked at the next start.
    let waits = domain.images.is_none_or(|images| images.managed_save);
    let hidden = inactive == Some(false) && (live == Some(false) || !domain.active) && !waits;
    let saved = is_saved(allocation, domain);
    if over && !domain.active {
        acts.push(Act::GiveBack(allocation.id.clone()));
    } else if over && live == Some(false) && allocation.state == AllocationState::Attached {
        // Unplugged by hand from a running guest.
        acts.push(Act::GiveBack(allocation.id.clone()));
    }
    match allocation.state {
        _ if shown => {
            let running = known.filter(|_| live == Some(true));
            let tied = tied(allocation, domain, running);
            if tied != *allocation {
                acts.push(Act::Put(tied));
            }
        }
        AllocationState::Attached | AllocationState::Orphaned if hidden => {
            acts.push(Act::Free(allocation.id.clone()))
        }
        AllocationState::Leased if hidden && expired => acts.push(Act::Free(allocation.id.clone())),
        _ if allocation.saved != saved => acts.push(Act::Put(Allocation { saved, ..allocation.clone() })),
        AllocationState::Attached | AllocationState::Leased | AllocationState::Orphaned => {}
    }
    acts
}

/// Returns whether memory of the domain's guest is kept; as before when that could not be asked.
fn is_saved(allocation: &Allocation, domain: &SeenDomain) -> bool {
    let saved = domain.images.map(|images| images.managed_save || images.memory_snapshot);
    saved.unwrap_or(allocation.saved)
}

/// Returns an allocation as it is when its domain's XML shows it, and its guest runs on that slice.
fn tied(allocation: &Allocation, domain: &SeenDomain, running: Option<&Realized>) -> Allocation {
    let settled = running.and_then(|record| settled_by(allocation, record));
    Allocation {
        domain: DomainRef { uuid: allocation.domain.uuid, name: domain.name.clone() },
        state: AllocationState::Attached,
        until: None,
        saved: is_saved(allocation, domain),
        settled: settled.or_else(|| allocation.settled.clone()),
        ..allocation.clone()
    }
}

impl Engine {
    /// Acts on a report: ties what XML shows, frees what it no longer shows, gives back what no run uses.
    pub fn look(&self, seen: &Seen) {
        if self.read_only().is_some() {
            return;
        }
        self.follow(seen);
        let kept = std::sync::Arc::new(seen.clone());
        *self.inner.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(kept);
        let acts = self.tie_shown(seen);
        let mut free = Vec::new();
        let mut records: Vec<Realized> = Vec::new();
        for act in acts {
            match act {
                Act::Put(_) => {}
                Act::Free(id) => free.push(id),
                Act::GiveBack(id) if self.is_plugging(&id) => {}
                Act::GiveBack(id) => records.extend(self.ledger().book().realized.get(&id).cloned()),
            }
        }
        if !free.is_empty() || !records.is_empty() {
            self.sweep(records, seen);
            for id in free {
                self.free_unshown(&id, seen);
            }
            self.nudge();
        }
    }

    /// Decides and stores what is only a matter of the book, under one lock: no request comes in between.
    fn tie_shown(&self, seen: &Seen) -> Vec<Act> {
        let touched = self.touched();
        let mut ledger = self.ledger();
        let acts = decide(ledger.book(), &touched, seen, clock::epoch_seconds());
        let put = |act: &Act| match act {
            Act::Put(allocation) => Some(Change::PutAllocation(allocation.clone())),
            Act::Free(_) | Act::GiveBack(_) => None,
        };
        let puts: Vec<Change> = acts.iter().filter_map(put).collect();
        if !puts.is_empty()
            && let Err(error) = ledger.commit(puts, Need::GiveBack)
        {
            tracing::warn!(%error, "cannot store what libvirt's domains show, trying again at the next look");
        }
        acts
    }

    /// Frees an allocation that no domain's XML shows, if that is still so when its domain's turn has come.
    fn free_unshown(&self, id: &AllocationId, seen: &Seen) {
        let owner = self.ledger().book().allocations.get(id).map(|allocation| allocation.domain.clone());
        let Some(DomainRef { uuid, name }) = owner else { return };
        let Ok(_turn) = self.domain_turn(uuid, std::time::Instant::now() + OPERATION) else { return };
        let touched = self.touched();
        let still = decide(self.ledger().book(), &touched, seen, clock::epoch_seconds());
        if !still.contains(&Act::Free(id.clone())) {
            return;
        }
        match self.free_in_turn(std::slice::from_ref(id)) {
            Ok(()) => {
                self.record_own("free", id, name, "no domain's XML shows it");
                tracing::info!(allocation = %id, "allocation freed: no domain shows it");
            }
            Err(refusal) => {
                tracing::warn!(allocation = %id, error = %refusal, "allocation not freed yet, trying again at the next look");
            }
        }
    }

    pub(super) fn touched(&self) -> Touched {
        self.inner.touched.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Notes that a request changed allocations now.
    pub(super) fn touch<'a>(&self, ids: impl IntoIterator<Item = &'a AllocationId>) {
        let now = clock::boottime();
        let mut touched = self.inner.touched.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        touched.extend(ids.into_iter().map(|id| (id.clone(), now)));
        // An hour is longer than any report is old.
        touched.retain(|_, at| now.0 - at.0 < 3_600_000_000_000);
    }

    fn is_plugging(&self, id: &AllocationId) -> bool {
        self.inner.plugging.lock().unwrap_or_else(std::sync::PoisonError::into_inner).contains(id)
    }

    /// Gives back slices of runs that are over. A domain that is being started or stopped right now is left alone.
    fn sweep(&self, records: Vec<Realized>, seen: &Seen) {
        for record in records {
            let owner = self
                .ledger()
                .book()
                .allocations
                .get(&record.allocation)
                .map(|allocation| allocation.domain.uuid);
            // A record that no allocation explains has no domain to wait for.
            let turn = owner
                .map(|domain| self.domain_turn(domain, std::time::Instant::now() + OPERATION))
                .transpose();
            let Ok(_turn) = turn else { continue };
            let still = {
                let ledger = self.ledger();
                let book = ledger.book();
                // Made guaranteed meanwhile, it stays.
                let over = (!book.keeps(&record.allocation)).then_some(&record.allocation);
                over.and_then(|id| book.realized.get(id)).cloned()
            };
            match still {
                Some(still) if still == record && still.run < seen.asked_at => {
                    tracing::info!(allocation = %record.allocation, device = %record.device, "its run is over, giving the slice back");
                    self.give_back(vec![record], std::time::Instant::now() + OPERATION);
                }
                Some(_) | None => {}
            }
        }
    }

    /// Frees leases that ended, without libvirt's word. Only for a service that has no libvirt to ask.
    pub fn end_leases(&self) {
        if self.read_only().is_some() {
            return;
        }
        let now = clock::epoch_seconds();
        let ended: Vec<AllocationId> = {
            let ledger = self.ledger();
            let ended = ledger.book().allocations.values().filter(|allocation| {
                allocation.state == AllocationState::Leased
                    && allocation.until.is_some_and(|until| until <= now)
            });
            ended.map(|allocation| allocation.id.clone()).collect()
        };
        for id in ended {
            if let Err(refusal) = self.free(std::slice::from_ref(&id)) {
                tracing::warn!(allocation = %id, error = %refusal, "lease ended and its slice cannot be removed");
            }
        }
    }

    /// Returns when the next lease or grace period ends, in seconds since the epoch.
    #[must_use]
    pub fn next_end(&self) -> Option<i64> {
        self.ledger().book().allocations.values().filter_map(|allocation| allocation.until).min()
    }

    /// Returns whether any slice or promise exists that libvirt's word could change.
    #[must_use]
    pub fn has_promises(&self) -> bool {
        !self.ledger().book().allocations.is_empty()
    }
}

#[cfg(test)]
mod tests;
