//! Other terms for a promise that stays.

use std::time::Instant;

use super::guaranteed::is_guaranteed;
use super::{Engine, OPERATION};
use crate::ledger::{Change, Need};
use crate::model::{Allocation, AllocationId, Kind, Realized, Refusal, RunId};
use crate::wire::{self, SetTerms};

/// What libvirt said of a domain, and when it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainNow {
    /// Before it was asked.
    pub asked_at: RunId,
    /// Whether it runs.
    pub active: bool,
}

impl DomainNow {
    /// Returns whether a slice is of no run: one that began after the question says that the answer is old.
    pub(super) fn is_off(self, record: Option<&Realized>) -> bool {
        !self.active && record.is_none_or(|record| record.run < self.asked_at)
    }
}

/// Returns the promise as it is wanted. Pure.
fn changed(allocation: &Allocation, wanted: &SetTerms) -> Allocation {
    let mut after = allocation.clone();
    after.terms.mode = wanted.mode.unwrap_or(after.terms.mode);
    after.terms.pin = wanted.pin.unwrap_or(after.terms.pin);
    after.terms.repoint = wanted.repoint.unwrap_or(after.terms.repoint);
    after.terms.siblings = wanted.siblings.unwrap_or(after.terms.siblings);
    if wanted.unsettle {
        after.settled = None;
    }
    after
}

/// What a guest runs with now would be settled again at once, and one whose memory is kept needs it.
fn refuse_unsettling(before: &[Allocation], wanted: &SetTerms, now: DomainNow) -> Result<(), Refusal> {
    match before.iter().find(|one| one.settled.is_some()) {
        Some(one) if wanted.unsettle && now.active => Err(Refusal::new(
            Kind::Conflict,
            format!("domain {} runs, and what its guest has now would be settled again", one.domain.name),
        )
        .hint("stop the domain first, or let the profile float: vgpuctl profile edit NAME --float type")),
        Some(one) if wanted.unsettle && one.saved => Err(Refusal::new(
            Kind::Conflict,
            format!("the saved image or snapshot of domain {} needs what was settled", one.domain.name),
        )
        .hint("throw it away first: virsh managedsave-remove, virsh snapshot-delete")),
        _ => Ok(()),
    }
}

/// Says what a promise is on now, and what its next start may be. Pure.
fn told(before: &Allocation, after: &Allocation) -> Vec<String> {
    let mut notes = vec![format!("allocation {} of domain {}: {}", after.id, after.domain.name, after.terms)];
    if after.terms.pin && !before.terms.pin {
        notes.push(match &after.settled {
            Some(settled) => format!("it starts on GPU {} only", settled.gpu),
            None => "its next start decides on which GPU it is pinned".to_owned(),
        });
    }
    if before.settled.is_some() && after.settled.is_none() {
        notes.push("what its first start settled is forgotten, its next start settles it anew".to_owned());
    }
    notes
}

impl Engine {
    /// Changes the terms of promises of one domain. A slice that becomes guaranteed is made first: when that
    /// cannot be, nothing has changed. One that is no longer guaranteed is given back when its domain is off.
    ///
    /// # Errors
    /// When nothing has room, what a running guest has would be settled again, or the disk says no.
    pub fn set_terms(
        &self,
        ids: &[AllocationId],
        wanted: &SetTerms,
        now: DomainNow,
    ) -> Result<wire::Changed, Refusal> {
        let deadline = Instant::now() + OPERATION;
        let _turn = self.turn_of(ids)?;
        let before = self.promises(ids);
        let differs = |one: &&Allocation| changed(one, wanted) != **one;
        let before: Vec<Allocation> = before.iter().filter(differs).cloned().collect();
        if before.is_empty() {
            return Ok(wire::Changed { change: wire::Change::Unchanged, notes: Vec::new() });
        }
        refuse_unsettling(&before, wanted, now)?;
        let after: Vec<Allocation> = before.iter().map(|one| changed(one, wanted)).collect();
        let ids: Vec<AllocationId> = after.iter().map(|one| one.id.clone()).collect();
        self.touch(&ids);
        let newly = before.iter().zip(&after).filter(|(was, is)| !is_guaranteed(was) && is_guaranteed(is));
        let newly: Vec<Allocation> = newly.map(|(_, is)| is.clone()).collect();
        let there = self.records(&ids);
        self.hold_in_turn(&newly, Instant::now(), deadline)?;
        let stored = self.commit_with(Need::Promise, |book| {
            let found = ids.iter().filter_map(|id| book.allocations.get(id));
            found.map(|one| Change::PutAllocation(changed(one, wanted))).collect()
        });
        if let Err(refusal) = stored {
            let made = self.records(&ids).into_iter().filter(|record| !there.contains(record));
            self.give_back(made.collect(), Instant::now() + OPERATION);
            return Err(refusal);
        }
        let mut notes = Vec::new();
        for (was, is) in before.iter().zip(&after) {
            notes.extend(told(was, is));
            let ran = there.iter().find(|record| record.allocation == is.id);
            notes.extend(self.follow_terms(was, is, now.is_off(ran), deadline));
        }
        self.nudge();
        Ok(wire::Changed { change: wire::Change::Done, notes })
    }

    /// Brings the slice to the terms that are stored now, and says what became of it.
    fn follow_terms(
        &self,
        was: &Allocation,
        is: &Allocation,
        off: bool,
        deadline: Instant,
    ) -> Option<String> {
        let record = self.records(std::slice::from_ref(&is.id)).into_iter().next();
        match (is_guaranteed(was), is_guaranteed(is), record) {
            (_, true, Some(record)) if !off => {
                Some(format!("its slice on {} stays when the domain stops", record.parent))
            }
            (_, true, Some(record)) => match self.renew_in_turn(is, deadline) {
                Ok(_) => {
                    let records = self.records(std::slice::from_ref(&is.id));
                    records.first().map(|record| format!("its slice is kept on {}", record.parent))
                }
                Err(refusal) => Some(format!("its slice stays as it is on {}: {refusal}", record.parent)),
            },
            (true, false, Some(record)) if off => {
                let left = self.give_back(vec![record], deadline);
                Some(left.first().map_or_else(
                    || "its slice was given back".to_owned(),
                    |refusal| format!("its slice is given back later: {refusal}"),
                ))
            }
            (true, false, Some(_)) => Some("its slice is given back when the domain stops".to_owned()),
            (_, _, _) => None,
        }
    }

    fn promises(&self, ids: &[AllocationId]) -> Vec<Allocation> {
        let ledger = self.ledger();
        let known = |id: &AllocationId| ledger.book().allocations.get(id).cloned();
        ids.iter().filter_map(known).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AllocationState, CapacityMode, Device, DomainRef, Pointing, Settled, Terms};

    fn allocation() -> Allocation {
        Allocation {
            companions: Vec::new(),
            id: AllocationId::from_bits(1),
            domain: DomainRef {
                uuid: "11111111-1111-4111-8111-111111111111".parse().expect("uuid"),
                name: "web1".to_owned(),
            },
            profile: "small".parse().expect("name"),
            device: Device::Mdev("22222222-2222-4222-8222-222222222222".parse().expect("uuid")),
            state: AllocationState::Attached,
            until: None,
            saved: false,
            terms: Terms::default(),
            settled: Some(Settled {
                gpu: "virtual:mtty".parse().expect("id"),
                mdev_type: Some("mtty-1".parse().expect("type")),
                vf_id: None,
            }),
            owner: None,
            pointing: Pointing::default(),
        }
    }

    #[test]
    fn what_a_saved_image_needs_is_not_forgotten() {
        let saved = Allocation { saved: true, ..allocation() };
        let now = DomainNow { active: false, asked_at: RunId(1) };
        let forget = SetTerms { unsettle: true, ..wanted() };
        let refusal =
            refuse_unsettling(std::slice::from_ref(&saved), &forget, now).expect_err("the image needs it");
        assert!(refusal.message.contains("web1"), "{refusal}");
        refuse_unsettling(&[saved], &wanted(), now).expect("nothing is forgotten");
        refuse_unsettling(&[allocation()], &forget, now).expect("no image");
    }

    fn wanted() -> SetTerms {
        SetTerms {
            which: "web1".to_owned(),
            mode: None,
            pin: None,
            repoint: None,
            siblings: None,
            unsettle: false,
        }
    }

    #[test]
    fn only_what_is_said_changes() {
        assert_eq!(changed(&allocation(), &wanted()), allocation());
        let guaranteed = SetTerms { mode: Some(CapacityMode::Guaranteed), ..wanted() };
        let after = changed(&allocation(), &guaranteed);
        assert_eq!((after.terms.mode, after.terms.pin), (CapacityMode::Guaranteed, false));
        assert_eq!(after.settled, allocation().settled);
        let pinned = changed(&after, &SetTerms { pin: Some(true), ..wanted() });
        assert_eq!(told(&after, &pinned)[1], "it starts on GPU virtual:mtty only");
    }

    #[test]
    fn a_running_guest_cannot_be_unsettled() {
        let forget = SetTerms { unsettle: true, ..wanted() };
        let now = |active| DomainNow { asked_at: RunId(1), active };
        let refusal = refuse_unsettling(&[allocation()], &forget, now(true)).expect_err("it runs");
        assert!(refusal.message.contains("domain web1 runs"), "{refusal}");
        assert_eq!(refuse_unsettling(&[allocation()], &forget, now(false)), Ok(()));
        assert_eq!(refuse_unsettling(&[allocation()], &wanted(), now(true)), Ok(()));
    }
}
