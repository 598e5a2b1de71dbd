//! Choices on small hosts.

use super::*;
use crate::model::fixture::{
    gpu, holder, host, mdev, mdev_type, name_of, parent, pci, pci_id, pf, profile, type_id, uuid, vf,
};
use crate::model::{Refusal, ScanProblem};

fn want(number: u32, profile: &Profile) -> Want {
    let allocation = AllocationId::from_bits(number);
    Want {
        allocation,
        profile: profile.clone(),
        bounds: Bounds::default(),
        device: Device::Mdev(uuid(number)),
    }
}

fn want_vf(number: u32, profile: &Profile, address: &str) -> Want {
    Want { device: Device::Vf(pci(address)), ..want(number, profile) }
}

fn owner(number: u32, domain: &str) -> Owner {
    let allocation = AllocationId::from_bits(number);
    Owner::Allocation { allocation, domain: domain.to_owned(), guaranteed: false }
}

fn of_type(id: &str) -> Profile {
    profile(&format!("p-{id}"), Wish::Type(id.to_owned()))
}

fn nic() -> Profile {
    profile("nic", Wish::Vf(pci_id("8086:10ca")))
}

/// Two GPUs, `a` with `left.0` and `b` with `left.1` of type `t`.
fn two(left: (u32, u32)) -> HostSnapshot {
    host(vec![
        gpu("a", vec![parent("a", vec![mdev_type("t", 0, left.0)])]),
        gpu("b", vec![parent("b", vec![mdev_type("t", 0, left.1)])]),
    ])
}

fn parents(choices: &[Choice]) -> Vec<&str> {
    choices.iter().map(|choice| choice.parent.as_str()).collect()
}

fn choose_mdevs(count: u32, snapshot: &HostSnapshot) -> Result<Vec<Choice>, NoPlacement> {
    let wants: Vec<Want> = (0..count).map(|number| want(number, &of_type("t"))).collect();
    choose(&wants, snapshot, &Owners::new(), &[])
}

#[test]
fn the_parent_with_the_most_left_wins_and_ties_go_by_name() {
    assert_eq!(parents(&choose_mdevs(1, &two((1, 3))).expect("room")), ["b"]);
    assert_eq!(parents(&choose_mdevs(1, &two((2, 2))).expect("room")), ["a"]);
    assert_eq!(parents(&choose_mdevs(4, &two((1, 3))).expect("room")), ["b", "b", "a", "b"]);
}

#[test]
fn slices_of_one_request_spread_over_gpus_whose_parents_share_memory() {
    let vfs = |gpu: &str| (0..4).map(|n| parent(&format!("{gpu}{n}"), vec![mdev_type("t", 0, 1)])).collect();
    let snapshot = host(vec![gpu("a", vfs("a")), gpu("b", vfs("b"))]);
    assert_eq!(parents(&choose_mdevs(4, &snapshot).expect("room")), ["a0", "b0", "a1", "b1"]);
}

#[test]
fn of_parents_that_have_the_same_left_one_on_the_emptier_gpu_wins() {
    let vfs = |gpu: &str, left: [u32; 3]| {
        left.iter()
            .enumerate()
            .map(|(n, left)| parent(&format!("{gpu}{n}"), vec![mdev_type("t", 0, *left)]))
            .collect()
    };
    let snapshot = host(vec![gpu("a", vfs("a", [0, 1, 1])), gpu("b", vfs("b", [1, 1, 1]))]);
    assert_eq!(parents(&choose_mdevs(1, &snapshot).expect("room")), ["b0"]);
    let explained = explain(&of_type("t"), &Bounds::default(), &snapshot, &Owners::new(), &[]);
    assert_eq!(explained[0].parent.as_str(), "b0", "explain names the same one first");
}

#[test]
fn a_choice_says_everything_the_record_needs() {
    let choice = choose_mdevs(1, &two((1, 0))).expect("room").remove(0);
    let expected = Choice {
        functions: Vec::new(),
        allocation: AllocationId::from_bits(0),
        device: Device::Mdev(uuid(0)),
        gpu: "virtual:a".parse().expect("valid"),
        parent: name_of("a"),
        mdev_type: Some(type_id("t")),
        vf_id: None,
        bind: false,
    };
    assert_eq!(choice, expected);
}

#[test]
fn all_or_none() {
    assert!(choose_mdevs(3, &two((1, 1))).is_err());
    assert_eq!(choose_mdevs(0, &two((0, 0))), Ok(vec![]));
}

#[test]
fn a_slice_moves_over_when_another_fits_nowhere_else() {
    let snapshot = host(vec![
        gpu("a", vec![parent("a", vec![mdev_type("t", 4096, 1)])]),
        gpu("b", vec![parent("b", vec![mdev_type("t", 0, 1)])]),
    ]);
    let sized = profile("sized", Wish::Framebuffer(crate::model::Framebuffer::from_mib(1024)));
    let alone = choose(&[want(0, &of_type("t"))], &snapshot, &Owners::new(), &[]).expect("room");
    assert_eq!(parents(&alone), ["a"]);
    let wants = [want(0, &of_type("t")), want(1, &sized)];
    let both = choose(&wants, &snapshot, &Owners::new(), &[]).expect("room for both");
    assert_eq!(parents(&both), ["b", "a"]);
}

#[test]
fn a_full_host_says_what_is_left_and_who_has_the_rest() {
    let mut snapshot = two((1, 0));
    snapshot.gpus[1].parents[0].mdevs =
        vec![mdev(1, "t"), mdev(2, "t"), mdev(3, "u"), mdev(4, "t"), mdev(5, "u")];
    snapshot.gpus[1].parents[0].mdevs[3].holders = vec![holder(Some("web9"))];
    snapshot.gpus.push(gpu("c", vec![]));
    snapshot.problems.push(ScanProblem { device: None, text: "cannot read d".to_owned() });
    let mut owners: Owners = [1, 2].map(|n| (Device::Mdev(uuid(n)), owner(n, "web1"))).into();
    owners.insert(Device::Mdev(uuid(5)), Owner::Handmade);
    let wants = [want(10, &of_type("t")), want(11, &of_type("t"))];
    let refusal = choose(&wants, &snapshot, &owners, &[]).expect_err("one short");
    assert_eq!(
        refusal.to_string(),
        "cannot place 2 x type t (profile p-t): a: has 1 of t left; b: has 0 of t left, held by domain web1 2 x t, \
         foreign 1 x u, foreign (domain web9) 1 x t, vgpuctl by hand 1 x u; c: offers no mdev types: there is no mdev_supported_types"
    );
    assert_eq!(refusal.kind(), Kind::NoCapacity);
    assert_eq!(
        refusal.hints(),
        [
            "`vgpuctl profile explain p-t` shows what every parent can give",
            "1 thing could not be read on this host, the first: cannot read d",
            "all slices of a domain are placed together or none is; fewer may fit",
        ]
    );
    assert_eq!(Refusal::from(refusal.clone()).message, refusal.to_string());
}

#[test]
fn a_barred_parent_is_passed_over_with_its_reason() {
    let bar = |mdev_type: Option<&str>| Barred {
        parent: name_of("b"),
        mdev_type: mdev_type.map(type_id),
        reason: "answered ENOSPC".to_owned(),
    };
    let choose = |bar: Barred| choose(&[want(0, &of_type("t"))], &two((0, 3)), &Owners::new(), &[bar]);
    assert_eq!(parents(&choose(bar(Some("u"))).expect("another type is barred")), ["b"]);
    for barred in [bar(None), bar(Some("t"))] {
        let refusal = choose(barred).expect_err("nothing else has room").to_string();
        assert!(refusal.ends_with("a: has 0 of t left; b: answered ENOSPC"), "{refusal}");
    }
}

#[test]
fn a_gpu_with_many_alike_parents_takes_one_place_in_the_line() {
    let one = |n: u32| {
        let mut one = parent(&format!("0000:41:{:02x}.{}", n / 8, n % 8), vec![mdev_type("t", 0, 0)]);
        one.mdevs.extend((n < 3).then(|| mdev(n, "t")));
        one
    };
    let snapshot = host(vec![gpu("0000:41:00.0", (0..32).map(one).collect())]);
    let refusal = choose(&[want(99, &of_type("t"))], &snapshot, &Owners::new(), &[]).expect_err("full");
    assert_eq!(
        refusal.to_string(),
        "cannot place 1 x type t (profile p-t): each of 32 parents on 0000:41:00.0: has 0 of t left, \
         held by foreign 3 x t"
    );
}

#[test]
fn the_line_is_bounded_however_large_and_hostile_the_host() {
    let odd = |n: u32| {
        let mut odd = gpu(&format!("g{n:05}"), vec![]);
        odd.backend_reason = "no\n\u{1b}[31m".repeat(1000);
        odd
    };
    let snapshot = host((0..1000).map(odd).collect());
    let line = choose_mdevs(1, &snapshot).expect_err("nothing").to_string();
    assert!(line.ends_with("; and 992 more"), "{line}");
    assert!(line.chars().count() < 4096 && !line.contains(char::is_control), "{line}");
    let empty = choose_mdevs(1, &host(vec![])).expect_err("nothing").to_string();
    assert_eq!(empty, "cannot place 1 x type t (profile p-t): this host has no device that makes slices");
}

#[test]
fn a_uuid_that_exists_is_a_conflict_that_names_its_maker() {
    let mut snapshot = two((3, 3));
    snapshot.gpus[0].parents[0].mdevs = vec![mdev(1, "t")];
    let refusal = choose(&[want(1, &of_type("t"))], &snapshot, &Owners::new(), &[]).expect_err("taken");
    assert_eq!(refusal.kind(), Kind::Conflict);
    assert!(refusal.to_string().ends_with("exists already on a as t, made by foreign"), "{refusal}");
}

#[test]
fn a_device_of_the_other_kind_is_a_conflict() {
    let mdev = choose(&[want(1, &nic())], &two((1, 1)), &Owners::new(), &[]).expect_err("kind");
    assert!(
        mdev.to_string().ends_with(
            "is a mediated device, but profile nic now asks for VF 8086:10ca: detach it and attach again"
        ),
        "{mdev}"
    );
    let snapshot = host(vec![pf("p", vec![vf("0000:01:10.0", "8086:10ca")])]);
    let vf = choose(&[want_vf(1, &of_type("t"), "0000:01:10.0")], &snapshot, &Owners::new(), &[]);
    assert_eq!(vf.expect_err("kind").kind(), Kind::Conflict);
    let twice = [want(1, &of_type("t")), want(1, &of_type("t"))];
    assert_eq!(choose(&twice, &two((2, 2)), &Owners::new(), &[]).expect_err("twice").kind(), Kind::Conflict);
}

#[test]
fn a_named_vf_is_taken_when_it_is_there_and_free() {
    let mut unbound = vf("0000:01:10.2", "8086:10ca");
    unbound.vfio = false;
    let snapshot = host(vec![pf("p", vec![vf("0000:01:10.0", "8086:10ca"), unbound])]);
    let wants = [want_vf(1, &nic(), "0000:01:10.0"), want_vf(2, &nic(), "0000:01:10.2")];
    let choices = choose(&wants, &snapshot, &Owners::new(), &[]).expect("both are free");
    assert_eq!(choices.iter().map(|choice| choice.bind).collect::<Vec<_>>(), [false, true]);
    assert_eq!(choices[0].vf_id, Some(pci_id("8086:10ca")));
    assert_eq!(parents(&choices), ["p", "p"]);
    let again: Owners = [(Device::Vf(pci("0000:01:10.0")), owner(1, "web1"))].into();
    assert!(choose(&wants, &snapshot, &again, &[]).is_ok(), "its own allocation has it");
}

#[test]
fn a_named_vf_that_cannot_be_had_says_why() {
    let mut held = vf("0000:01:10.2", "8086:10ca");
    held.holders = vec![holder(Some("web2"))];
    let mut host_used = vf("0000:01:10.4", "8086:10ca");
    host_used.holders =
        vec![crate::model::Holder { pid: 0, domain: None, name: "network interface eth1".to_owned() }];
    let vfs = vec![vf("0000:01:10.0", "8086:10ca"), held, host_used, vf("0000:01:10.6", "1af4:1041")];
    let snapshot = host(vec![pf("p", vfs)]);
    let owners: Owners = [(Device::Vf(pci("0000:01:10.0")), owner(7, "web1"))].into();
    let why = |address: &str, barred: &[Barred]| {
        let refusal =
            choose(&[want_vf(1, &nic(), address)], &snapshot, &owners, barred).expect_err("not to be had");
        (refusal.passed[0].text.clone(), refusal.kind())
    };
    assert_eq!(why("0000:01:10.0", &[]), ("is held by domain web1".to_owned(), Kind::NoCapacity));
    assert_eq!(why("0000:01:10.2", &[]).0, "is held by foreign (domain web2)");
    assert_eq!(why("0000:01:10.4", &[]).0, "is held by network interface eth1");
    assert_eq!(why("0000:01:11.0", &[]).0, "does not exist now");
    let other = why("0000:01:10.6", &[]);
    assert_eq!(
        other,
        ("is a 1af4:1041, not the 8086:10ca that the profile asks for".to_owned(), Kind::Conflict)
    );
    let line =
        choose(&[want_vf(1, &nic(), "0000:01:10.2")], &snapshot, &owners, &[]).expect_err("held").to_string();
    assert_eq!(
        line,
        "cannot place VF 0000:01:10.2 (profile nic): 0000:01:10.2: is held by foreign (domain web2); p: has 0 of 3 VFs \
         free, held by domain web1 1 x VF, foreign (domain web2) 1 x VF, network interface eth1 1 x VF"
    );
    let bar = Barred { parent: name_of("p"), mdev_type: None, reason: "is being changed".to_owned() };
    assert_eq!(why("0000:01:10.0", &[bar]).0, "cannot be had: p is being changed");
}

#[test]
fn an_attach_takes_the_vf_that_the_fewest_name() {
    let mut unbound = vf("0000:01:10.0", "8086:10ca");
    unbound.vfio = false;
    let mut held = vf("0000:01:10.2", "8086:10ca");
    held.holders = vec![holder(None)];
    let roomy = ["0000:02:10.4", "0000:02:10.2", "0000:02:10.0"].map(|a| vf(a, "8086:10ca")).to_vec();
    let snapshot = host(vec![pf("p", vec![unbound, held, vf("0000:01:10.4", "8086:10ca")]), pf("q", roomy)]);
    let mut named = BTreeMap::new();
    let mut order = Vec::new();
    for _ in 0..7 {
        let address = choose_vf(
            &nic(),
            &Bounds::default(),
            &snapshot,
            &Owners::new(),
            Naming { named: &named, mine: &BTreeSet::new(), must: Must::Exist },
        )
        .expect("some VF");
        *named.entry(address).or_insert(0) += 1;
        order.push(address.to_string());
    }
    // Roomier PF first, then alike PFs by address, the unbound one last, and then second names.
    let expected = ["02:10.0", "01:10.4", "02:10.2", "02:10.4", "01:10.0", "01:10.4", "02:10.0"];
    assert_eq!(order, expected.map(|short| format!("0000:{short}")));
}

#[test]
fn a_domain_never_gets_one_vf_twice() {
    let snapshot = host(vec![pf("p", vec![vf("0000:01:10.0", "8086:10ca")]), pf("q", vec![])]);
    let mine = BTreeSet::from([pci("0000:01:10.0")]);
    let refusal = choose_vf(
        &nic(),
        &Bounds::default(),
        &snapshot,
        &Owners::new(),
        Naming { named: &BTreeMap::new(), mine: &mine, must: Must::Exist },
    )
    .expect_err("it has the only one");
    assert_eq!(refusal.kind(), Kind::NoCapacity);
    assert_eq!(
        refusal.to_string(),
        "cannot place one more VF 8086:10ca (profile nic): p: has 1 of 1 VFs free; q: has 0 of 7 VFs enabled: \
         `vgpuctl vfs set q N` makes them"
    );
    assert!(refusal.hints().iter().any(|hint| hint.contains("names every VF")), "{:?}", refusal.hints());
}

#[test]
fn an_explanation_is_best_first_with_reasons_where_nothing_is_possible() {
    let mut snapshot = two((0, 2));
    snapshot.gpus[0].parents[0].mdevs = vec![mdev(1, "t")];
    snapshot.gpus.push(gpu("c", vec![]));
    let explained = explain(&of_type("t"), &Bounds::default(), &snapshot, &Owners::new(), &[]);
    let shown: Vec<_> =
        explained.iter().map(|c| (c.parent.as_str(), c.possible, c.reason.as_deref())).collect();
    let expected = [
        ("b", 2, None),
        ("a", 0, Some("has 0 of t left, held by foreign 1 x t")),
        ("c", 0, Some("offers no mdev types: there is no mdev_supported_types")),
    ];
    assert_eq!(shown, expected);
}

/// One PF with VFs at functions 0 and 2, the first guaranteed to web1.
fn with_guaranteed_vf() -> (HostSnapshot, Owners) {
    let vfs = ["0000:01:10.0", "0000:01:10.2"].map(|address| vf(address, "8086:10ca"));
    let (allocation, domain) = (AllocationId::from_bits(1), "web1".to_owned());
    let owner = Owner::Allocation { allocation, domain, guaranteed: true };
    (host(vec![pf("a", vfs.to_vec())]), Owners::from([(Device::Vf(pci("0000:01:10.0")), owner)]))
}

#[test]
fn a_guaranteed_vf_is_its_allocations_alone() {
    let (snapshot, owners) = with_guaranteed_vf();
    let (none, mine) = (BTreeMap::new(), BTreeSet::new());
    for must in [Must::Exist, Must::BeFree] {
        let named = BTreeMap::from([(pci("0000:01:10.2"), 9)]);
        let drawn = choose_vf(
            &nic(),
            &Bounds::default(),
            &snapshot,
            &owners,
            Naming { named: &named, mine: &mine, must },
        )
        .expect("the other one");
        assert_eq!(drawn, pci("0000:01:10.2"), "however many name it");
    }
    let mine = BTreeSet::from([pci("0000:01:10.2")]);
    let refusal = choose_vf(
        &nic(),
        &Bounds::default(),
        &snapshot,
        &owners,
        Naming { named: &none, mine: &mine, must: Must::Exist },
    )
    .expect_err("none left");
    assert!(refusal.to_string().contains("domain web1 (guaranteed) 1 x VF"), "{refusal}");
    let of = |number| choose(&[want_vf(number, &nic(), "0000:01:10.0")], &snapshot, &owners, &[]);
    assert!(of(1).is_ok(), "its own");
    assert!(of(2).expect_err("another's").to_string().contains("domain web1 (guaranteed)"));
}

#[test]
fn a_vf_that_must_be_free_is_not_one_that_runs() {
    let (mut snapshot, _) = with_guaranteed_vf();
    let sriov = snapshot.gpus[0].sriov.as_mut().expect("a PF");
    sriov.vfs[0].holders = vec![holder(Some("web9"))];
    let ran = Owners::from([(Device::Vf(pci("0000:01:10.2")), owner(2, "web2"))]);
    let (named, mine) = (BTreeMap::new(), BTreeSet::new());
    assert!(
        choose_vf(
            &nic(),
            &Bounds::default(),
            &snapshot,
            &ran,
            Naming { named: &named, mine: &mine, must: Must::Exist }
        )
        .is_ok(),
        "one that exists"
    );
    let refusal = choose_vf(
        &nic(),
        &Bounds::default(),
        &snapshot,
        &ran,
        Naming { named: &named, mine: &mine, must: Must::BeFree },
    )
    .expect_err("none is free");
    assert_eq!(refusal.kind(), Kind::NoCapacity);
}

#[test]
fn a_pinned_vf_on_another_gpu_is_refused_with_what_to_type() {
    let (snapshot, _) = with_guaranteed_vf();
    let gpu = Some("virtual:b".parse().expect("identity"));
    let bounds = Bounds { gpu, ..Bounds::default() };
    let pinned = Want { bounds, ..want_vf(1, &nic(), "0000:01:10.2") };
    let refusal = choose(&[pinned], &snapshot, &Owners::new(), &[]).expect_err("pinned elsewhere");
    assert!(refusal.to_string().contains("is not on GPU virtual:b"), "{refusal}");
    assert!(refusal.hints()[0].contains("--no-pin"), "{:?}", refusal.hints());
}
