//! What can be adopted, by which profile, and what cannot.

use super::*;
use crate::ledger::Book;
use crate::model::fixture::{gpu, holder, host, mdev, mdev_type, parent, pci, pf, profile, uuid, vf};

const DOMAIN: &str = "11111111-1111-4111-8111-111111111111";

fn domain() -> DomainRef {
    DomainRef { uuid: DOMAIN.parse().expect("uuid"), name: "web1".to_owned() }
}

fn shown(device: Device) -> ShownHostdev {
    ShownHostdev { device, allocation: None, other_alias: None, managed: false, inactive: true, live: false }
}

fn asked(hostdevs: Vec<ShownHostdev>) -> Asked {
    Asked { domain: domain(), active: false, hostdevs, profile: None, device: None }
}

fn snapshot() -> HostSnapshot {
    let mut one = parent("a", vec![mdev_type("t", 1024, 3), mdev_type("u", 0, 1)]);
    one.mdevs.push(mdev(1, "t"));
    host(vec![gpu("a", vec![one]), pf("p", vec![vf("0000:01:10.0", "8086:10ca")])])
}

fn book(profiles: &[(&str, Wish)]) -> Book {
    let mut book = Book::default();
    for (name, wish) in profiles {
        let profile = profile(name, wish.clone());
        book.profiles.insert(profile.name.clone(), profile);
    }
    book
}

fn small() -> (&'static str, Wish) {
    ("small", Wish::Type("t".to_owned()))
}

fn nic() -> (&'static str, Wish) {
    ("nic", Wish::Vf("8086:10ca".parse().expect("id")))
}

fn decide(book: &Book, snapshot: &HostSnapshot, asked: &Asked) -> Result<Plan, Refusal> {
    let facts = Facts {
        book,
        snapshot,
        definitions: &Definitions::default(),
        boot_id: &"now".parse().expect("boot id"),
        run: RunId(7),
    };
    let mut next = 100;
    plan(&facts, asked, || {
        next += 1;
        AllocationId::from_bits(next)
    })
}

fn slice() -> Device {
    Device::Mdev(uuid(1))
}

fn nic_vf() -> Device {
    Device::Vf(pci("0000:01:10.0"))
}

#[test]
fn an_mdev_and_a_vf_of_a_running_guest_become_allocations_with_records() {
    let mut asked = asked(vec![shown(slice()), shown(nic_vf())]);
    asked.active = true;
    asked.hostdevs.iter_mut().for_each(|one| one.live = true);
    let mut host = snapshot();
    host.gpus[0].parents[0].mdevs[0].holders = vec![holder(Some("web1"))];
    let plan = decide(&book(&[small(), nic()]), &host, &asked).expect("both fit");
    assert_eq!(plan.notes, Vec::<String>::new());
    let [mdev, vf] = plan.adoptions.as_slice() else { panic!("{plan:?}") };
    assert!(mdev.is_new && mdev.unmarked && vf.is_new && vf.unmarked);
    assert_eq!((mdev.allocation.profile.as_str(), vf.allocation.profile.as_str()), ("small", "nic"));
    assert_eq!(mdev.allocation.state, AllocationState::Attached);
    let record = mdev.realized.as_ref().expect("it exists");
    assert_eq!(
        (record.parent.as_str(), &record.allocation, record.run),
        ("a", &mdev.allocation.id, RunId(7))
    );
    let record = vf.realized.as_ref().expect("the guest has it");
    assert_eq!((record.parent.as_str(), record.vf_id), ("p", Some("8086:10ca".parse().expect("id"))));
}

#[test]
fn a_stopped_domains_vf_is_only_promised_and_its_mdev_goes() {
    let plan = decide(&book(&[small(), nic()]), &snapshot(), &asked(vec![shown(slice()), shown(nic_vf())]));
    let plan = plan.expect("both fit");
    assert!(plan.adoptions[0].realized.is_some() && plan.adoptions[1].realized.is_none());
    assert!(plan.notes[0].contains("goes now"), "{:?}", plan.notes);
}

#[test]
fn the_profile_is_the_one_named_or_the_only_one_that_fits() {
    let two = [small(), ("least", Wish::Framebuffer(crate::model::Framebuffer::from_mib(512)))];
    let refusal = decide(&book(&two), &snapshot(), &asked(vec![shown(slice())])).expect_err("several");
    assert!(refusal.message.contains("several profiles fit: least, small"), "{refusal}");
    let named =
        |name: &str| Asked { profile: Some(name.parse().expect("name")), ..asked(vec![shown(slice())]) };
    let plan = decide(&book(&two), &snapshot(), &named("least")).expect("it fits");
    assert_eq!(plan.adoptions[0].allocation.profile.as_str(), "least");
    let refusal = decide(&book(&[small(), nic()]), &snapshot(), &named("nic")).expect_err("another kind");
    assert!(
        refusal.message.contains("does not ask for") && refusal.hints[0].contains("small"),
        "{refusal:?}"
    );
    let refusal = decide(&book(&[nic()]), &snapshot(), &asked(vec![shown(slice())])).expect_err("none");
    assert_eq!(refusal.kind, Kind::NotFound);
    assert_eq!(decide(&book(&two), &snapshot(), &named("nobody")).expect_err("unknown").kind, Kind::NotFound);
}

#[test]
fn an_mdev_that_is_not_there_needs_a_named_profile() {
    let absent = || asked(vec![shown(Device::Mdev(uuid(5)))]);
    let refusal = decide(&book(&[small()]), &snapshot(), &absent()).expect_err("its type is not known");
    assert!(refusal.hints[0].contains("--profile"), "{refusal:?}");
    let named = Asked { profile: Some("small".parse().expect("name")), ..absent() };
    let plan = decide(&book(&[small()]), &snapshot(), &named).expect("said");
    assert_eq!(plan.adoptions[0].realized, None);
}

#[test]
fn what_others_hold_or_were_promised_is_refused() {
    let mut held = snapshot();
    held.gpus[0].parents[0].mdevs[0].holders = vec![holder(Some("web9"))];
    let refusal = decide(&book(&[small()]), &held, &asked(vec![shown(slice())])).expect_err("held");
    assert!(refusal.message.contains("held by domain web9"), "{refusal}");
    let mut promised = book(&[small()]);
    let one = decide(&promised, &snapshot(), &asked(vec![shown(slice())]))
        .expect("free")
        .adoptions
        .remove(0)
        .allocation;
    let other = DomainRef {
        uuid: "11111111-1111-4111-8111-111111111119".parse().expect("uuid"),
        name: "web9".to_owned(),
    };
    promised.allocations.insert(one.id.clone(), Allocation { domain: other, ..one.clone() });
    let refusal = decide(&promised, &snapshot(), &asked(vec![shown(slice())])).expect_err("promised");
    assert!(refusal.message.contains("promised to domain web9"), "{refusal}");
    let copied = ShownHostdev { allocation: Some(one.id), ..shown(slice()) };
    let refusal = decide(&promised, &snapshot(), &asked(vec![copied])).expect_err("a copy");
    assert!(refusal.message.contains("alias of allocation"), "{refusal}");
}

#[test]
fn other_hostdevs_are_left_alone_and_odd_ones_refused() {
    let disk = shown(Device::Vf(pci("0000:05:00.0")));
    let refusal =
        decide(&book(&[nic()]), &snapshot(), &asked(vec![disk.clone()])).expect_err("nothing of ours");
    assert_eq!(refusal.kind, Kind::NotFound);
    let plan = decide(&book(&[nic()]), &snapshot(), &asked(vec![disk, shown(nic_vf())])).expect("the VF");
    assert_eq!(plan.adoptions.len(), 1);
    assert!(
        plan.notes[0].contains("0000:05:00.0") && plan.notes[0].contains("left alone"),
        "{:?}",
        plan.notes
    );
    let managed = ShownHostdev { managed: true, ..shown(nic_vf()) };
    let refusal = decide(&book(&[nic()]), &snapshot(), &asked(vec![managed])).expect_err("managed");
    assert!(refusal.message.contains("managed='yes'"), "{refusal}");
    let named = ShownHostdev { other_alias: Some("ua-mine".to_owned()), ..shown(slice()) };
    let refusal = decide(&book(&[small()]), &snapshot(), &asked(vec![named])).expect_err("an admin's alias");
    assert!(refusal.message.contains("ua-mine"), "{refusal}");
}

#[test]
fn what_is_ours_already_is_completed_and_no_more() {
    let mut known = book(&[small()]);
    let first = decide(&known, &snapshot(), &asked(vec![shown(slice())])).expect("free").adoptions.remove(0);
    known.allocations.insert(first.allocation.id.clone(), first.allocation.clone());
    // Cut short before its mark: the same again marks it, and takes the slice that somebody made.
    let again = decide(&known, &snapshot(), &asked(vec![shown(slice())])).expect("known").adoptions.remove(0);
    assert!(!again.is_new && again.unmarked && again.realized.is_some());
    known.realized.insert(first.allocation.id.clone(), first.realized.expect("it exists"));
    let marked = ShownHostdev { allocation: Some(first.allocation.id), ..shown(slice()) };
    let again = decide(&known, &snapshot(), &asked(vec![marked])).expect("known").adoptions.remove(0);
    assert!(!again.is_new && !again.unmarked && again.realized.is_none());
}
