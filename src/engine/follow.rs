//! The ledger follows the definition: which VF a stopped domain names is what its XML says, whoever wrote it.

use std::collections::BTreeSet;

use super::Engine;
use super::look::{Seen, Touched};
use crate::ledger::{Book, Change, Need};
use crate::model::{Allocation, AllocationId, Device, HostSnapshot, PciAddress};
use crate::profile;

/// Returns the allocations whose domain's definition names another VF than the book, as they are now. Pure.
///
/// Only of stopped domains: what a running one has is what it was prepared with. An address that is no VF of
/// the profile's kind is left alone: it may be a slip, and would become one of ours by being written down.
fn followed(
    book: &Book,
    touched: &Touched,
    writing: &BTreeSet<AllocationId>,
    seen: &Seen,
    snapshot: &HostSnapshot,
) -> Vec<Allocation> {
    let settled = |one: &&Allocation| {
        !writing.contains(&one.id) && touched.get(&one.id).is_none_or(|at| *at < seen.asked_at)
    };
    let known = book.allocations.values().filter(settled);
    known.filter_map(|one| follow_one(book, seen, snapshot, one)).collect()
}

fn follow_one(book: &Book, seen: &Seen, snapshot: &HostSnapshot, one: &Allocation) -> Option<Allocation> {
    let domain = seen.domains.get(&one.domain.uuid).filter(|domain| !domain.active)?;
    let shown = domain.inactive.as_ref()?;
    let marked = shown.iter().find(|device| device.allocation.as_ref() == Some(&one.id));
    let unmarked = || shown.iter().find(|device| device.allocation.is_none() && one.may_name(device.device));
    let Device::Vf(vf) = marked.or_else(unmarked)?.device else { return None };
    if book.realized.contains_key(&one.id) {
        return None;
    }
    let own = one.named_vfs().any(|own| own == vf);
    (own || serves(book, snapshot, one, vf)).then(|| one.named(vf)).filter(|named| named != one)
}

fn serves(book: &Book, snapshot: &HostSnapshot, one: &Allocation, vf: PciAddress) -> bool {
    let Some(profile) = book.profiles.get(&one.profile).filter(|_| one.device.vf().is_some()) else {
        return false;
    };
    let matches = profile::candidates(profile, snapshot);
    let mut fits = matches.iter().filter_map(|matched| matched.fit.as_ref().ok());
    fits.any(|fit| fit.vfs().iter().any(|one| one.address == vf))
}

impl Engine {
    /// Brings the book to what the definitions of stopped domains name.
    pub(super) fn follow(&self, seen: &Seen) {
        if self.ledger().book().allocations.values().all(|one| one.device.vf().is_none()) {
            return;
        }
        let Ok((snapshot, _)) = self.recent() else { return };
        let (touched, writing) = (self.touched(), self.being_written());
        let mut changed: Vec<(Allocation, Allocation)> = Vec::new();
        let stored = self.commit_with(Need::GiveBack, |book| {
            let now = followed(book, &touched, &writing, seen, &snapshot);
            changed.extend(
                now.iter().filter_map(|now| Some((book.allocations.get(&now.id)?.clone(), now.clone()))),
            );
            now.into_iter().map(Change::PutAllocation).collect()
        });
        if changed.is_empty() {
            return;
        }
        if let Err(refusal) = stored.and_then(|()| self.publish_owned()) {
            tracing::warn!(error = %refusal, "cannot store what definitions name, trying again at the next look");
            return;
        }
        for (before, now) in changed {
            let Some(text) = story(&before, &now) else { continue };
            tracing::info!(allocation = %now.id, domain = %now.domain.name, "{text}");
            self.record_own("repoint", &now.id, now.domain.name.clone(), &text);
        }
    }
}

/// What a change that was found in a definition means, for the history.
fn story(before: &Allocation, now: &Allocation) -> Option<String> {
    let (old, new) = (before.device, now.device);
    if old == new {
        return None;
    }
    let text = match (before.pointing.next.map(Device::Vf) == Some(new), now.pointing.is_given_up()) {
        (true, _) => format!("VF {old} -> {new}: written by vgpud before it was interrupted"),
        (false, true) if now.pointing.overruled > before.pointing.overruled => {
            format!("VF {old} -> {new}: written by somebody else; vgpud no longer exchanges it")
        }
        (false, _) => format!("VF {old} -> {new}: written by somebody else"),
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::engine::SeenDomain;
    use crate::model::fixture::{host, pci, pci_id, pf, profile, vf, vf_allocation};
    use crate::model::{Pointing, RunId, Wish};
    use crate::wire::HookDevice;

    const A: &str = "0000:01:10.0";
    const B: &str = "0000:02:10.0";

    fn book(one: &Allocation) -> Book {
        let mut book = Book::default();
        let profile = profile("nic", Wish::Vf(pci_id("8086:10ca")));
        book.profiles.insert(profile.name.clone(), profile);
        book.allocations.insert(one.id.clone(), one.clone());
        book
    }

    fn seen(one: &Allocation, active: bool, alias: bool, shown: &str) -> Seen {
        let device = HookDevice { allocation: alias.then(|| one.id.clone()), device: Device::Vf(pci(shown)) };
        let domain = SeenDomain {
            name: one.domain.name.clone(),
            active,
            inactive: Some(vec![device]),
            live: None,
            images: None,
        };
        Seen { asked_at: RunId(100), domains: [(one.domain.uuid, domain)].into() }
    }

    fn follow(one: &Allocation, seen: &Seen) -> Vec<Allocation> {
        let vfs = vec![vf(A, "8086:10ca"), vf(B, "8086:10ca"), vf("0000:03:10.0", "1b36:0010")];
        followed(&book(one), &BTreeMap::new(), &BTreeSet::new(), seen, &host(vec![pf("a", vfs)]))
    }

    #[test]
    fn the_definition_of_a_stopped_domain_counts() {
        let one = vf_allocation(1, 7, A);
        assert_eq!(follow(&one, &seen(&one, false, true, A)), []);
        assert_eq!(follow(&one, &seen(&one, false, true, B)), [one.named(pci(B))]);
        assert_eq!(follow(&one, &seen(&one, true, true, B)), [], "a running one has what it has");
        assert_eq!(follow(&one, &seen(&one, false, false, B)), [], "without a mark it is anybody's");
        for other in ["0000:03:10.0", "0000:09:10.0"] {
            assert_eq!(follow(&one, &seen(&one, false, true, other)), [], "{other} is none of this kind");
        }
    }

    #[test]
    fn what_was_interrupted_is_settled_by_the_definition() {
        let during = vf_allocation(1, 7, A).to_be_named(pci(B));
        let after = Pointing { next: None, was: Some(pci(A)), overruled: 0 };
        for alias in [true, false] {
            let written = follow(&during, &seen(&during, false, alias, B));
            assert_eq!((written[0].device, written[0].pointing), (Device::Vf(pci(B)), after));
            assert_eq!(follow(&during, &seen(&during, false, alias, A)), [vf_allocation(1, 7, A)]);
        }
        let gone = vf_allocation(1, 7, A).to_be_named(pci("0000:09:10.0"));
        let written = follow(&gone, &seen(&gone, false, true, "0000:09:10.0"));
        assert_eq!(written.len(), 1, "what vgpud wrote itself needs no proof");
    }

    #[test]
    fn what_is_being_written_or_was_just_changed_is_left_alone() {
        let one = vf_allocation(1, 7, A);
        let (seen, host) = (seen(&one, false, true, B), host(vec![pf("a", vec![vf(B, "8086:10ca")])]));
        let writing = [one.id.clone()].into();
        assert_eq!(followed(&book(&one), &BTreeMap::new(), &writing, &seen, &host), []);
        let touched = [(one.id.clone(), RunId(200))].into();
        assert_eq!(followed(&book(&one), &touched, &BTreeSet::new(), &seen, &host), []);
    }

    #[test]
    fn the_history_says_who_wrote() {
        let one = vf_allocation(1, 7, A);
        let during = one.to_be_named(pci(B));
        assert!(story(&during, &during.named(pci(B))).is_some_and(|text| text.contains("interrupted")));
        assert_eq!(story(&during, &one), None);
        assert!(story(&one, &one.named(pci(B))).is_some_and(|text| text.ends_with("somebody else")));
        let once = Pointing { next: None, was: Some(pci(B)), overruled: 1 };
        let last = Allocation { pointing: once, ..one };
        assert!(story(&last, &last.named(pci(B))).is_some_and(|text| text.contains("no longer")));
    }
}
