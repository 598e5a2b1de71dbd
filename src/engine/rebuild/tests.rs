//! Promises from aliases.

use super::*;
use crate::model::fixture::{gpu, host, mdev, mdev_type, parent, pci, pf, profile, uuid, vf};

fn domain(number: u32) -> DomainRef {
    let uuid = format!("11111111-1111-4111-8111-{number:012}").parse().expect("uuid");
    DomainRef { uuid, name: format!("web{number}") }
}

fn claim(number: u32, id: u32, device: Device, live: bool) -> Claim {
    Claim { not_live: !live, domain: domain(number), id: AllocationId::from_bits(id), device }
}

fn snapshot() -> HostSnapshot {
    let mut one = parent("a", vec![mdev_type("t+ x", 1024, 3)]);
    one.mdevs.push(mdev(1, "t+ x"));
    host(vec![gpu("a", vec![one]), pf("p", vec![vf("0000:01:10.0", "8086:10ca")])])
}

fn decide(book: &Book, claims: &[Claim]) -> Plan {
    let boot_id = "now".parse().expect("boot id");
    plan(&Facts { book, snapshot: &snapshot(), boot_id: &boot_id, run: RunId(7) }, claims)
}

fn records(plan: &Plan) -> Vec<&Realized> {
    plan.changes
        .iter()
        .filter_map(|change| if let Change::PutRealized(record) = change { Some(record) } else { None })
        .collect()
}

fn slice() -> Device {
    Device::Mdev(uuid(1))
}

fn nic() -> Device {
    Device::Vf(pci("0000:01:10.0"))
}

#[test]
fn aliases_become_promises_with_new_profiles_and_records_of_what_runs() {
    let plan = decide(&Book::default(), &[claim(1, 1, slice(), true), claim(2, 2, nic(), true)]);
    let profiles: Vec<String> = plan.profiles.keys().map(ToString::to_string).collect();
    assert_eq!(profiles, ["recovered-t--x", "recovered-vf-8086-10ca"]);
    assert_eq!(plan.allocations.len(), 2);
    assert_eq!(plan.allocations[0].domain, domain(1));
    assert_eq!(records(&plan).len(), 2);
    assert_eq!(records(&plan)[0].parent.as_str(), "a");
    assert_eq!(plan.left_out, Vec::<String>::new());
    assert!(plan.changes.iter().any(|change| matches!(change, Change::PutWish(wish) if wish.count == 1)));
}

#[test]
fn a_profile_that_fits_is_taken_and_a_stopped_domains_vf_has_no_record() {
    let mut book = Book::default();
    for one in [
        profile("desk", Wish::Type("t+ x".to_owned())),
        profile("nic", Wish::Vf("8086:10ca".parse().expect("id"))),
    ] {
        book.profiles.insert(one.name.clone(), one);
    }
    let plan = decide(&book, &[claim(1, 1, slice(), false), claim(1, 2, nic(), false)]);
    let names: Vec<&str> = plan.allocations.iter().map(|one| one.profile.as_str()).collect();
    assert_eq!(names, ["desk", "nic"]);
    assert!(plan.profiles.is_empty());
    assert_eq!(records(&plan).len(), 1, "the mdev is there, and the next look gives it back");
}

#[test]
fn what_nothing_tells_is_left_out_with_what_to_type() {
    let plan = decide(&Book::default(), &[claim(1, 1, Device::Mdev(uuid(9)), false)]);
    assert!(plan.allocations.is_empty() && plan.changes.is_empty());
    assert!(plan.left_out[0].contains("vgpuctl adopt web1 --profile NAME"), "{:?}", plan.left_out);
}

#[test]
fn what_could_be_read_counts_and_the_running_guest_wins_over_its_copy() {
    let mut book = Book::default();
    let desk = profile("desk", Wish::Type("t+ x".to_owned()));
    book.profiles.insert(desk.name.clone(), desk);
    let first = decide(&book, &[claim(2, 1, Device::Mdev(uuid(1)), true), claim(1, 1, slice(), false)]);
    assert_eq!(first.allocations[0].domain, domain(2));
    assert!(
        first.left_out[0].contains("web1 has a copy of allocation 00000001 of domain web2"),
        "{:?}",
        first.left_out
    );
    let one = first.allocations[0].clone();
    book.allocations.insert(one.id.clone(), one.clone());
    book.realized.insert(one.id.clone(), records(&first)[0].clone());
    let again = decide(&book, &[claim(2, 1, slice(), true)]);
    assert!(again.changes.is_empty(), "{again:?}");
    // Its profile was in the part that could not be read.
    book.profiles.clear();
    let again = decide(&book, &[claim(2, 1, slice(), true)]);
    assert_eq!(again.allocations[0].profile.as_str(), "recovered-t--x");
    let orphan = decide(&book, &[]);
    assert!(orphan.left_out[0].contains("no domain shows it"), "{orphan:?}");
}
