//! What is found, and that it goes when it is put right.

use std::collections::BTreeMap;

use super::*;
use crate::engine::SeenDomain;
use crate::ledger::{Handmade, Intent, IntentId, VfWish};
use crate::model::fixture::{gpu, host, mdev, mdev_type, name_of, parent, pci, pf, type_id, uuid, vf};
use crate::model::{AllocationState, DomainRef, Pointing, RunId, Terms};

const WEB1: &str = "11111111-1111-4111-8111-111111111111";
const WEB2: &str = "11111111-1111-4111-8111-111111111112";

fn allocation(device: Device) -> Allocation {
    Allocation {
        companions: Vec::new(),
        id: AllocationId::from_bits(1),
        domain: DomainRef { uuid: WEB1.parse().expect("uuid"), name: "web1".to_owned() },
        profile: "small".parse().expect("name"),
        device,
        state: AllocationState::Attached,
        until: None,
        terms: Terms::default(),
        settled: None,
        owner: None,
        pointing: Pointing::default(),
        saved: false,
    }
}

fn boot() -> BootId {
    "now".parse().expect("boot id")
}

fn with_slice(number: u32) -> Book {
    let one = allocation(Device::Mdev(uuid(number)));
    let record = Realized {
        before: Vec::new(),
        quantum_before: None,
        allocation: one.id.clone(),
        device: one.device,
        gpu: "virtual:a".parse().expect("id"),
        parent: name_of("a"),
        mdev_type: Some(type_id("t")),
        vf_id: None,
        boot_id: boot(),
        run: RunId(1),
    };
    let mut book = Book::default();
    book.realized.insert(one.id.clone(), record);
    book.allocations.insert(one.id.clone(), one);
    book
}

fn with_wish(count: u32) -> Book {
    let wish =
        VfWish { gpu: "virtual:p".parse().expect("id"), count, autoprobe_before: None, boot_id: boot() };
    let mut book = Book::default();
    book.wishes.insert(wish.gpu.clone(), wish);
    book
}

/// A host whose parent `on` has an mdev of `kind`.
fn one_mdev(on: &str, kind: &str) -> HostSnapshot {
    let mut parents = vec![parent("a", vec![mdev_type("t", 0, 1)]), parent("b", vec![mdev_type("t", 0, 1)])];
    for one in parents.iter_mut().filter(|one| one.name == name_of(on)) {
        one.mdevs.push(mdev(1, kind));
    }
    host(vec![gpu("a", parents)])
}

fn found(book: &Book, snapshot: &HostSnapshot) -> Vec<Drift> {
    let facts = Facts { book, boot_id: &boot(), definitions: &Definitions::default() };
    of_host(&facts, snapshot)
}

fn kinds(drift: &[Drift]) -> Vec<DriftKind> {
    drift.iter().map(|one| one.kind).collect()
}

#[test]
fn a_slice_that_was_removed_or_made_again_elsewhere_is_found() {
    let book = with_slice(1);
    assert_eq!(found(&book, &one_mdev("a", "t")), []);
    let gone = found(&book, &host(Vec::new()));
    assert_eq!(kinds(&gone), [DriftKind::SliceGone]);
    assert_eq!(gone[0].domain.as_deref(), Some("web1"));
    assert!(gone[0].text.contains("removed by hand"), "{gone:?}");
    for (on, kind) in [("b", "t"), ("a", "u")] {
        let moved = found(&book, &one_mdev(on, kind));
        assert_eq!(kinds(&moved), [DriftKind::SliceReplaced], "{on} {kind}");
        assert!(moved[0].fix.contains("vgpuctl disown 00000001"), "{moved:?}");
    }
}

#[test]
fn another_boots_slices_and_changes_under_way_are_no_drift() {
    let mut book = with_slice(1);
    let nothing = host(Vec::new());
    book.intents.insert(
        IntentId(1),
        Intent {
            id: IntentId(1),
            step: Step::RemoveMdev { uuid: uuid(1) },
            allocation: None,
            gpu: "virtual:a".parse().expect("id"),
            run: RunId(1),
            boot_id: boot(),
            helper: None,
        },
    );
    assert_eq!(found(&book, &nothing), []);
    let mut book = with_slice(1);
    book.realized.values_mut().for_each(|record| record.boot_id = "before".parse().expect("boot id"));
    assert_eq!(found(&book, &nothing), []);
}

#[test]
fn an_mdev_made_with_vgpuctl_that_is_gone_is_found() {
    let mut book = Book::default();
    let made = Handmade { uuid: uuid(1), parent: name_of("a"), mdev_type: type_id("t"), boot_id: boot() };
    book.handmade.insert(made.uuid, made);
    assert_eq!(found(&book, &one_mdev("a", "t")), []);
    let gone = found(&book, &host(Vec::new()));
    assert_eq!(kinds(&gone), [DriftKind::SliceGone]);
    assert!(gone[0].fix.contains("vgpuctl mdev remove"), "{gone:?}");
}

#[test]
fn another_number_of_vfs_and_another_driver_are_found() {
    let vfs = vec![vf("0000:01:10.0", "8086:10ca"), vf("0000:01:10.2", "8086:10ca")];
    assert_eq!(found(&with_wish(2), &host(vec![pf("p", vfs.clone())])), []);
    let count = found(&with_wish(4), &host(vec![pf("p", vfs.clone())]));
    assert_eq!(kinds(&count), [DriftKind::VfCount]);
    assert!(count[0].text.contains("has 2 VFs, 4 were set"), "{count:?}");
    assert!(
        count[0].fix.contains("vgpuctl vfs set p 4") && count[0].fix.contains("vfs set p 2"),
        "{count:?}"
    );
    let mut taken = vfs;
    taken[1].driver = Some("igbvf".to_owned());
    taken[1].vfio = false;
    let driver = found(&with_wish(2), &host(vec![pf("p", taken.clone())]));
    assert_eq!(kinds(&driver), [DriftKind::VfDriver]);
    assert!(driver[0].text.contains("igbvf"), "{driver:?}");
    assert_eq!(found(&Book::default(), &host(vec![pf("p", taken)])), [], "nobody set these");
}

fn seen(domain: &str, shown: Vec<HookDevice>) -> Seen {
    let name = if domain == WEB1 { "web1" } else { "web2" };
    let one =
        SeenDomain { name: name.to_owned(), active: false, inactive: Some(shown), live: None, images: None };
    Seen { asked_at: RunId(10), domains: BTreeMap::from([(domain.parse().expect("uuid"), one)]) }
}

#[test]
fn odd_aliases_are_found_and_new_promises_wait_for_the_next_report() {
    let book = with_slice(1);
    let id = AllocationId::from_bits(1);
    let names = |id: u32, device| vec![HookDevice { allocation: Some(AllocationId::from_bits(id)), device }];
    let (own, other) = (Device::Mdev(uuid(1)), Device::Vf(pci("0000:01:10.0")));
    let of = |seen: &Seen| kinds(&of_definitions(&book, &Touched::default(), seen));
    assert_eq!(of(&seen(WEB1, names(1, own))), []);
    assert_eq!(of(&seen(WEB1, names(1, other))), [DriftKind::HostdevEdited]);
    assert_eq!(of(&seen(WEB2, names(1, own))), [DriftKind::AliasCopied]);
    assert_eq!(of(&seen(WEB2, names(9, own))), [DriftKind::AliasUnknown]);
    assert_eq!(of(&seen(WEB2, vec![HookDevice { allocation: None, device: own }])), []);
    let touched = Touched::from([(id, RunId(11))]);
    assert_eq!(of_definitions(&book, &touched, &seen(WEB1, names(1, other))), []);
}
