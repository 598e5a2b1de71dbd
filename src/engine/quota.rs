//! What the slices of one owner may be at most. Counted are the slices that exist, not the promises.

use std::collections::BTreeSet;

use super::Engine;
use super::admit::Wanted;
use super::round::Made;
use crate::ledger::Book;
use crate::model::{
    Allocation, AllocationId, Framebuffer, HostSnapshot, Kind, MdevTypeId, OwnerName, Quota, Realized,
    Refusal,
};
use crate::placement::Choice;

/// How much of something an owner has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) slices: u32,
    pub(super) mib: u64,
}

impl Sum {
    fn add(self, mib: u64) -> Self {
        Self { slices: self.slices.saturating_add(1), mib: self.mib.saturating_add(mib) }
    }
}

/// Says whether an owner may have `wanted` beside what it `has`. Pure.
fn check(owner: &OwnerName, quota: Quota, has: Sum, wanted: Sum) -> Result<(), Refusal> {
    let no = |what: String| {
        Refusal::new(Kind::NoCapacity, format!("owner {owner} has {what}"))
            .hint("stop a domain of the same owner, or raise the limit in /etc/vgpud/vgpud.toml")
    };
    if let Some(most) = quota.slices.filter(|most| has.slices + wanted.slices > *most) {
        let Sum { slices, .. } = has;
        return Err(no(format!("{slices} of at most {most} slices, and {} more are wanted", wanted.slices)));
    }
    match quota.framebuffer.map(Framebuffer::mib) {
        Some(most) if has.mib + wanted.mib > u64::from(most) => {
            let (has, wanted) = (has.mib, wanted.mib);
            Err(no(format!("{has} of at most {most} MiB of framebuffer, and {wanted} MiB more are wanted")))
        }
        _ => Ok(()),
    }
}

/// MiB of a type on a host; 0 where the driver does not say.
fn size(snapshot: &HostSnapshot, id: Option<&MdevTypeId>) -> u64 {
    let types = || snapshot.parents().flat_map(|(_, parent)| &parent.types);
    let found = id.and_then(|id| types().find(|one| one.id == *id));
    found.and_then(|one| one.framebuffer).map_or(0, |size| u64::from(size.mib()))
}

/// What an owner's slices are, but for those of `but`. Pure.
pub(super) fn used(book: &Book, snapshot: &HostSnapshot, owner: &OwnerName, but: &[&AllocationId]) -> Sum {
    let owned = |record: &&Realized| {
        let owns = |one: &Allocation| one.owner.as_ref() == Some(owner);
        book.allocations.get(&record.allocation).is_some_and(owns) && !but.contains(&&record.allocation)
    };
    let records = book.realized.values().filter(owned);
    records.fold(Sum::default(), |sum, record| sum.add(size(snapshot, record.mdev_type.as_ref())))
}

impl Engine {
    /// Refuses slices beyond what their owner may have. `made` are those that the same start has already.
    pub(super) fn check_quota(
        &self,
        missing: &[Wanted],
        choices: &[Choice],
        made: &[Made],
        snapshot: &HostSnapshot,
    ) -> Result<(), Refusal> {
        let limits = &self.inner.rules.quota;
        let owners: BTreeSet<&OwnerName> =
            missing.iter().filter_map(|want| want.allocation.owner.as_ref()).collect();
        let made: Vec<&Realized> = made.iter().map(|one| &one.record).collect();
        let taking: Vec<&AllocationId> = missing
            .iter()
            .map(|want| &want.allocation.id)
            .chain(made.iter().map(|one| &one.allocation))
            .collect();
        let ledger = self.ledger();
        let book = ledger.book();
        let owner_of = |id: &AllocationId| book.allocations.get(id).and_then(|one| one.owner.as_ref());
        for (owner, quota) in owners.into_iter().filter_map(|owner| limits.get_key_value(owner)) {
            let add = |sum: Sum, mdev_type: &Option<MdevTypeId>| sum.add(size(snapshot, mdev_type.as_ref()));
            let chosen =
                missing.iter().zip(choices).filter(|(want, _)| want.allocation.owner.as_ref() == Some(owner));
            let wanted = chosen.fold(Sum::default(), |sum, (_, choice)| add(sum, &choice.mdev_type));
            let mine = made.iter().filter(|one| owner_of(&one.allocation) == Some(owner));
            let before = used(book, snapshot, owner, &taking);
            let has = mine.fold(before, |sum, record| add(sum, &record.mdev_type));
            check(owner, *quota, has, wanted)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::{gpu, host, mdev_type, parent, type_id, vf_allocation};
    use crate::model::{BootId, RunId};

    fn owner() -> OwnerName {
        "alice".parse().expect("owner")
    }

    fn mib(mib: u32) -> Option<Framebuffer> {
        Some(Framebuffer::from_mib(mib))
    }

    #[test]
    fn both_limits_hold_and_nothing_is_limited_by_what_is_not_said() {
        let sum = |slices, mib| Sum { slices, mib };
        let both = Quota { slices: Some(2), framebuffer: mib(4096) };
        check(&owner(), both, sum(1, 2048), sum(1, 2048)).expect("exactly the limit");
        let refusal = check(&owner(), both, sum(2, 0), sum(1, 0)).expect_err("a third one");
        assert!(refusal.message.contains("owner alice has 2 of at most 2 slices"), "{refusal}");
        assert_eq!(refusal.kind, Kind::NoCapacity);
        let refusal = check(&owner(), both, sum(1, 2048), sum(1, 4096)).expect_err("too large");
        assert!(refusal.message.contains("2048 of at most 4096 MiB"), "{refusal}");
        check(&owner(), Quota::default(), sum(99, 1 << 40), sum(99, 1 << 40)).expect("no limit");
    }

    #[test]
    fn slices_count_by_their_type_on_the_host() {
        let snapshot = host(vec![gpu("a", vec![parent("a", vec![mdev_type("t", 2048, 1)])])]);
        let mut book = Book::default();
        for number in 0..3 {
            let mut one = vf_allocation(number, number, "0000:01:10.0");
            one.owner = (number > 0).then(owner);
            let record = Realized {
                before: Vec::new(),
                quantum_before: None,
                allocation: one.id.clone(),
                device: one.device,
                gpu: "virtual:a".parse().expect("id"),
                parent: "a".parse().expect("name"),
                mdev_type: Some(type_id("t")),
                vf_id: None,
                boot_id: "b".parse::<BootId>().expect("boot"),
                run: RunId(1),
            };
            book.realized.insert(one.id.clone(), record);
            book.allocations.insert(one.id.clone(), one);
        }
        assert_eq!(used(&book, &snapshot, &owner(), &[]), Sum { slices: 2, mib: 4096 });
        let one = AllocationId::from_bits(1);
        assert_eq!(used(&book, &snapshot, &owner(), &[&one]), Sum { slices: 1, mib: 2048 });
    }
}
