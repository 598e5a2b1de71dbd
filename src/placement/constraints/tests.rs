//! Rules on small hosts.

use super::*;
use crate::model::fixture::{gpu, host, mdev, mdev_type, parent, pci, pf, profile, uuid, vf};
use crate::model::{Device, MdevParent, MdevType, Wish};
use crate::profile::Bounds;
use proptest::prelude::*;

fn boards(left: &[u32]) -> HostSnapshot {
    let names = ["a", "b", "c", "d"];
    let one = |(name, left): (&&str, &u32)| gpu(name, vec![parent(name, vec![mdev_type("t", 0, *left)])]);
    host(names.iter().zip(left).map(one).collect())
}

fn of_class(class: &str) -> Profile {
    Profile { class: Some(class.parse().expect("class")), ..profile(class, Wish::Type("t".to_owned())) }
}

fn id(name: &str) -> GpuId {
    format!("virtual:{name}").parse().expect("id")
}

fn domain(number: u32) -> DomainUuid {
    format!("00000000-0000-4000-8000-{number:012}").parse().expect("uuid")
}

fn on(gpu: &str, number: u32, class: &str) -> Resident {
    let class = Some(class.parse().expect("class"));
    Resident { gpu: id(gpu), allocation: AllocationId::from_bits(number), domain: domain(number), class }
}

fn separated(overflow: bool) -> HostRules {
    let classes = ["render", "ai"].map(|class| class.parse().expect("class"));
    HostRules { separate: vec![classes.into()], overflow, ..HostRules::default() }
}

fn subject<'a>(profile: &'a Profile, nodes: &'a BTreeSet<u32>) -> Subject<'a> {
    Subject { allocation: None, domain: None, profile, siblings: Siblings::Any, nodes }
}

fn said(profile: &Profile, rules: &HostRules, residents: &[Resident], snapshot: &HostSnapshot) -> Gates {
    gates(&subject(profile, &BTreeSet::new()), rules, residents, snapshot)
}

fn want(number: u32, profile: &Profile, gates: Gates) -> Want {
    let bounds = Bounds { gates, ..Bounds::default() };
    let allocation = AllocationId::from_bits(number);
    Want { allocation, profile: profile.clone(), bounds, device: Device::Mdev(uuid(number)) }
}

fn place(profile: &Profile, gates: Gates, snapshot: &HostSnapshot) -> Result<String, NoPlacement> {
    let choices = choose(&[want(1, profile, gates)], snapshot, &Owners::new(), &[])?;
    Ok(choices[0].parent.to_string())
}

#[test]
fn classes_that_are_kept_apart_share_no_gpu() {
    let (ai, snapshot) = (of_class("ai"), boards(&[8, 3]));
    let residents = [on("a", 9, "render")];
    let gates = said(&ai, &separated(false), &residents, &snapshot);
    assert_eq!(place(&ai, gates.clone(), &snapshot).expect("the other GPU"), "b");
    let refusal = place(&ai, gates, &boards(&[8, 0])).expect_err("the other one is full").to_string();
    assert!(refusal.contains("kept apart, and overflow is not allowed"), "{refusal}");
}

#[test]
fn overflow_shares_a_gpu_only_when_all_others_are_full() {
    let (ai, residents) = (of_class("ai"), [on("a", 9, "render")]);
    let gates = |snapshot: &HostSnapshot| said(&ai, &separated(true), &residents, snapshot);
    for (left, expected) in [([8, 1], "b"), ([8, 0], "a")] {
        let snapshot = boards(&left);
        assert_eq!(place(&ai, gates(&snapshot), &snapshot).expect("room"), expected);
    }
    let mut strict = ai.clone();
    strict.rules.overflow = Some(false);
    let gates = said(&strict, &separated(true), &residents, &boards(&[8, 0]));
    place(&strict, gates, &boards(&[8, 0])).expect_err("the profile forbids what the host allows");
}

#[test]
fn a_class_stays_on_the_gpus_it_has() {
    let render = of_class("render");
    let snapshot = boards(&[2, 8]);
    let gates = said(&render, &separated(false), &[on("a", 9, "render")], &snapshot);
    assert_eq!(place(&render, gates, &snapshot).expect("room"), "a");
    let alone = said(&render, &separated(false), &[], &snapshot);
    assert!(alone.is_empty(), "nothing is said of an empty host");
    let office = said(&of_class("office"), &separated(false), &[on("a", 9, "render")], &snapshot);
    assert!(office.is_empty(), "other classes are not concerned");
}

#[test]
fn its_own_slice_does_not_stand_in_the_way() {
    let (ai, snapshot) = (of_class("ai"), boards(&[1]));
    let own = AllocationId::from_bits(9);
    let nodes = BTreeSet::new();
    let me = Subject { allocation: Some(&own), ..subject(&ai, &nodes) };
    assert!(gates(&me, &separated(false), &[on("a", 9, "render")], &snapshot).is_empty());
}

#[test]
fn numa_prefers_or_requires_the_node_of_the_memory() {
    let mut snapshot = boards(&[8, 1, 4]);
    (snapshot.gpus[0].numa_node, snapshot.gpus[1].numa_node) = (Some(0), Some(1));
    let nodes = BTreeSet::from([1]);
    let with = |numa: Numa| {
        let mut profile = of_class("ai");
        profile.rules.numa = numa;
        profile
    };
    let on = |numa: Numa, snapshot: &HostSnapshot| {
        let profile = with(numa);
        let gates = gates(&subject(&profile, &nodes), &HostRules::default(), &[], snapshot);
        place(&profile, gates, snapshot)
    };
    assert_eq!(on(Numa::Any, &snapshot).expect("room"), "a");
    // A GPU whose node is not known is neither preferred nor forbidden.
    assert_eq!(on(Numa::Prefer, &snapshot).expect("room"), "c");
    snapshot.gpus.remove(2);
    assert_eq!(on(Numa::Prefer, &snapshot).expect("room"), "b");
    snapshot.gpus[1].parents[0].types[0].available = 0;
    assert_eq!(on(Numa::Prefer, &snapshot).expect("the other node"), "a");
    let refusal = on(Numa::Require, &snapshot).expect_err("the node is full").to_string();
    assert!(refusal.contains("NUMA node 0, and the domain's memory on 1"), "{refusal}");
}

fn tied(count: u32, siblings: Siblings, snapshot: &HostSnapshot) -> Result<Vec<String>, NoPlacement> {
    let profile = profile("p", Wish::Type("t".to_owned()));
    let wants: Vec<Want> = (0..count).map(|number| want(number, &profile, Gates::new())).collect();
    let ties: Vec<Tie> = wants.iter().map(|_| Tie { siblings, ..Tie::default() }).collect();
    let choices = choose_tied(&wants, &ties, snapshot, &Owners::new(), &[])?;
    Ok(choices.into_iter().map(|choice| choice.parent.to_string()).collect())
}

#[test]
fn siblings_are_together_or_apart() {
    let snapshot = boards(&[2, 3]);
    assert_eq!(tied(3, Siblings::Together, &snapshot).expect("room"), ["b", "b", "b"]);
    assert_eq!(tied(2, Siblings::Apart, &snapshot).expect("room"), ["b", "a"]);
    let refusal = tied(4, Siblings::Together, &snapshot).expect_err("5 are left, on two GPUs");
    assert!(refusal.hints()[0].contains("together on one GPU"), "{refusal:?}");
    let refusal = tied(3, Siblings::Apart, &snapshot).expect_err("two GPUs");
    assert!(refusal.hints()[0].contains("shall be apart"), "{refusal:?}");
}

#[test]
fn memory_that_parents_share_counts_for_slices_that_belong_together() {
    let offered = MdevType { max_instances: Some(2), ..mdev_type("t", 1000, 1) };
    let vfs = |name: &str, used: u32| {
        let mut parents: Vec<MdevParent> =
            (0..3).map(|n| parent(&format!("{name}{n}"), vec![offered.clone()])).collect();
        parents[0].mdevs = (0..used).map(|n| mdev(70 + n, "t")).collect();
        gpu(name, parents)
    };
    // Three parents of `a` say that they could give one each, and its memory is enough for one.
    let snapshot = host(vec![vfs("a", 1), vfs("b", 0)]);
    assert_eq!(tied(2, Siblings::Together, &snapshot).expect("room"), ["b0", "b1"]);
    tied(2, Siblings::Together, &host(vec![vfs("a", 1), vfs("b", 1)])).expect_err("one is left on each");
}

#[test]
fn slices_that_run_bind_those_that_come() {
    let snapshot = boards(&[2, 3]);
    let (plain, nodes) = (profile("p", Wish::Type("t".to_owned())), BTreeSet::new());
    let of = |siblings| Subject { domain: Some(domain(9)), siblings, ..subject(&plain, &nodes) };
    let residents = [on("a", 9, "render")];
    let said = |siblings| gates(&of(siblings), &HostRules::default(), &residents, &snapshot);
    assert_eq!(place(&plain, said(Siblings::Together), &snapshot).expect("room"), "a");
    assert_eq!(place(&plain, said(Siblings::Apart), &snapshot).expect("room"), "b");
    assert_eq!(place(&plain, said(Siblings::Any), &snapshot).expect("room"), "b");
}

#[test]
fn one_domain_of_two_classes_gets_two_gpus() {
    let snapshot = boards(&[2, 8]);
    let profiles = [of_class("render"), of_class("ai")];
    let wants: Vec<Want> =
        (0..).zip(&profiles).map(|(number, one)| want(number, one, Gates::new())).collect();
    let ties = |rules: &HostRules| -> Vec<Tie> {
        profiles.iter().map(|one| Tie::of(one, Siblings::Any, rules)).collect()
    };
    let placed = |rules: &HostRules, snapshot: &HostSnapshot| {
        let choices = choose_tied(&wants, &ties(rules), snapshot, &Owners::new(), &[]);
        choices.map(|choices| choices.into_iter().map(|one| one.parent.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(placed(&separated(false), &snapshot).expect("room"), ["b", "a"]);
    placed(&separated(false), &boards(&[0, 8])).expect_err("one GPU is full");
    assert_eq!(placed(&separated(true), &boards(&[0, 8])).expect("overflow"), ["b", "b"]);
}

#[test]
fn named_vfs_are_judged_where_they_are() {
    let vfs = |bus: u8| (0..2).map(|n| vf(&format!("0000:0{bus}:10.{n}"), "8086:10ca")).collect();
    let snapshot = host(vec![pf("a", vfs(1)), pf("b", vfs(2))]);
    let nic = profile("nic", Wish::Vf("8086:10ca".parse().expect("id")));
    let named = |addresses: [&str; 2], siblings| {
        let named = |(number, address): (u32, &str)| Want {
            device: Device::Vf(pci(address)),
            ..want(number, &nic, Gates::new())
        };
        let wants: Vec<Want> = (0..).zip(addresses).map(named).collect();
        let ties = vec![Tie { siblings, ..Tie::default() }; 2];
        choose_tied(&wants, &ties, &snapshot, &Owners::new(), &[]).is_ok()
    };
    let (same, other) = (["0000:01:10.0", "0000:01:10.1"], ["0000:01:10.0", "0000:02:10.0"]);
    assert!(named(same, Siblings::Together) && !named(other, Siblings::Together));
    assert!(named(other, Siblings::Apart) && !named(same, Siblings::Apart));
}

fn any_tie() -> impl Strategy<Value = Tie> {
    let siblings =
        proptest::sample::select(vec![Siblings::Any, Siblings::Any, Siblings::Together, Siblings::Apart]);
    let class = proptest::option::of(proptest::sample::select(vec!["render", "ai"]));
    (siblings, class).prop_map(|(siblings, class)| match class {
        Some(class) => Tie::of(&of_class(class), siblings, &separated(false)),
        None => Tie { siblings, ..Tie::default() },
    })
}

/// Tries every assignment of wants to GPUs.
fn possible(ties: &[Tie], left: &mut [u32], on: &mut Vec<usize>) -> bool {
    let Some(tie) = ties.get(on.len()) else { return true };
    (0..left.len()).any(|gpu| {
        let kept = |(index, other): (usize, &usize)| {
            let other_tie = &ties[index];
            if *other == gpu {
                let foe = |a: &Tie, b: &Tie| b.class.as_ref().is_some_and(|class| a.foes.contains(class));
                let apart = [tie, other_tie].iter().any(|one| one.siblings == Siblings::Apart);
                !apart && !foe(tie, other_tie) && !foe(other_tie, tie)
            } else {
                [tie, other_tie].iter().all(|one| one.siblings != Siblings::Together)
            }
        };
        if left[gpu] == 0 || !on.iter().enumerate().all(kept) {
            return false;
        }
        left[gpu] -= 1;
        on.push(gpu);
        let done = possible(ties, left, on);
        on.pop();
        left[gpu] += 1;
        done
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn ties_are_kept_and_refusals_are_true(
        mut left in proptest::collection::vec(0u32..4, 1..4), ties in proptest::collection::vec(any_tie(), 1..5),
    ) {
        let snapshot = boards(&left);
        let plain = profile("p", Wish::Type("t".to_owned()));
        let wants: Vec<Want> = (0..).zip(&ties).map(|(number, _)| want(number, &plain, Gates::new())).collect();
        let answer = choose_tied(&wants, &ties, &snapshot, &Owners::new(), &[]);
        prop_assert_eq!(answer.is_ok(), possible(&ties, &mut left, &mut Vec::new()), "{:?}", answer);
        if let Ok(choices) = answer {
            for (a, b) in pairs(&ties) {
                prop_assert!(fits(&ties[a], &ties[b], choices[a].gpu == choices[b].gpu));
            }
        }
    }
}
