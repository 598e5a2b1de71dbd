use proptest::prelude::*;

use super::*;
use crate::model::Wish;
use crate::model::fixture::{holder, host, pci, pci_id, pf, profile, vf, vf_allocation};
use crate::model::{Device, Gpu, ScanProblem, Terms};
use crate::placement::Owner;

const NIC: &str = "8086:10ca";

/// A host, a book and libvirt's word.
#[derive(Clone, Debug)]
struct World {
    allocations: BTreeMap<AllocationId, Allocation>,
    profiles: BTreeMap<ProfileName, Profile>,
    domains: BTreeMap<DomainUuid, DomainState>,
    occasions: BTreeMap<DomainUuid, Occasion>,
    snapshot: HostSnapshot,
    owners: Owners,
    barred: Vec<Barred>,
    incomplete: bool,
}

impl World {
    fn new(gpus: Vec<Gpu>, allocations: Vec<Allocation>) -> Self {
        let profile = profile("nic", Wish::Vf(pci_id(NIC)));
        let mut world = Self {
            allocations: BTreeMap::new(),
            profiles: [(profile.name.clone(), profile)].into(),
            domains: BTreeMap::new(),
            occasions: BTreeMap::new(),
            snapshot: host(gpus),
            owners: Owners::new(),
            barred: Vec::new(),
            incomplete: false,
        };
        for one in allocations {
            let state = world.domains.entry(one.domain.uuid).or_default();
            state.names.insert(one.id.clone(), one.device.vf().expect("a VF"));
            world.allocations.insert(one.id.clone(), one);
        }
        world
    }

    fn plan(&self) -> Vec<Move> {
        repoint(&Scene {
            allocations: &self.allocations,
            profiles: &self.profiles,
            domains: &self.domains,
            occasions: &self.occasions,
            snapshot: &self.snapshot,
            owners: &self.owners,
            barred: &self.barred,
            gates: &BTreeMap::new(),
            incomplete: self.incomplete,
        })
    }

    fn targets(&self) -> Vec<String> {
        self.plan().into_iter().map(|one| format!("{} {}", one.domain.name, one.to)).collect()
    }

    /// The host with everybody gone who holds a VF.
    fn emptied(&self) -> Self {
        let mut other = self.clone();
        other.owners.clear();
        for gpu in &mut other.snapshot.gpus {
            gpu.sriov.iter_mut().flat_map(|sriov| &mut sriov.vfs).for_each(|vf| vf.holders.clear());
        }
        other
    }

    fn apply(&mut self, moves: &[Move]) {
        for one in moves {
            let allocation = self.allocations.get_mut(&one.allocation).expect("known");
            *allocation = allocation.to_be_named(one.to).named(one.to);
            let state = self.domains.get_mut(&one.domain.uuid).expect("known");
            state.names.insert(one.allocation.clone(), one.to);
        }
    }

    fn one(&mut self, bits: u32) -> &mut Allocation {
        self.allocations.get_mut(&AllocationId::from_bits(bits)).expect("known")
    }

    fn state(&mut self, domain: u32) -> &mut DomainState {
        let uuid = vf_allocation(0, domain, "0000:00:00.0").domain.uuid;
        self.domains.get_mut(&uuid).expect("known")
    }

    fn occasion(&mut self, domain: u32, occasion: Occasion) {
        self.occasions.insert(vf_allocation(0, domain, "0000:00:00.0").domain.uuid, occasion);
    }
}

fn held(address: &str) -> Vf {
    Vf { holders: vec![holder(Some("other"))], ..vf(address, NIC) }
}

/// PF a with two VFs that are held, PF b with three free ones, PF c with one.
fn gpus() -> Vec<Gpu> {
    vec![
        pf("a", vec![held("0000:01:10.0"), held("0000:01:10.2")]),
        pf("b", vec![vf("0000:02:10.0", NIC), vf("0000:02:10.2", NIC), vf("0000:02:10.4", NIC)]),
        pf("c", vec![vf("0000:03:10.0", NIC)]),
    ]
}

fn one_on_a() -> World {
    World::new(gpus(), vec![vf_allocation(1, 1, "0000:01:10.0")])
}

#[test]
fn a_domain_whose_vf_is_held_goes_to_the_pf_with_the_most_left() {
    let world = one_on_a();
    let plan = world.plan();
    assert_eq!(plan.len(), 1);
    assert_eq!((plan[0].from, plan[0].to), (pci("0000:01:10.0"), pci("0000:02:10.0")));
    assert_eq!(plan[0].pf.as_str(), "b");
    assert_eq!(plan[0].why, "is held by foreign (domain other)");
}

#[test]
fn several_are_spread_and_none_shares() {
    let on_a = |n| vf_allocation(n, n, if n % 2 == 0 { "0000:01:10.0" } else { "0000:01:10.2" });
    let world = World::new(gpus(), (1..=6).map(on_a).collect());
    // b has 3, 2, then b and c are even and the address decides.
    let expected = ["web1 0000:02:10.0", "web2 0000:02:10.2", "web3 0000:02:10.4", "web4 0000:03:10.0"];
    assert_eq!(world.targets(), expected, "four VFs for six: two stay");
}

#[test]
fn what_can_be_served_stays_where_it_is_and_is_never_moved_back() {
    let mut world = one_on_a();
    world.apply(&world.plan());
    assert_eq!(world.plan(), [], "once is enough");
    assert_eq!(world.emptied().plan(), [], "its first VF is free again, and that is no reason");
    assert_eq!(one_on_a().emptied().plan(), []);
}

#[test]
fn a_vf_that_others_name_is_taken_only_for_a_start() {
    let mut world = World::new(
        vec![gpus().remove(0), gpus().remove(2)],
        vec![vf_allocation(1, 1, "0000:01:10.0"), vf_allocation(2, 2, "0000:03:10.0")],
    );
    assert_eq!(world.plan(), []);
    world.occasion(1, Occasion::Asked);
    assert_eq!(world.targets(), ["web1 0000:03:10.0"]);
    world.occasion(1, Occasion::Refused(BTreeMap::new()));
    assert_eq!(world.targets(), ["web1 0000:03:10.0"]);
    let mut twice = World::new(
        vec![gpus().remove(0), gpus().remove(2)],
        vec![vf_allocation(1, 1, "0000:01:10.0"), vf_allocation(2, 1, "0000:03:10.0")],
    );
    twice.occasion(1, Occasion::Asked);
    assert_eq!(twice.plan(), [], "a domain cannot have one VF twice");
}

#[test]
fn what_was_told_after_a_refusal_is_kept() {
    let id = AllocationId::from_bits(1);
    let mut world = one_on_a();
    let told = pci("0000:03:10.0");
    world.occasion(1, Occasion::Refused([(id.clone(), told)].into()));
    assert_eq!(world.targets(), ["web1 0000:03:10.0"]);
    assert_eq!(world.emptied().targets(), ["web1 0000:03:10.0"], "although its VF became free");
    world.occasion(1, Occasion::Refused([(id, pci("0000:01:10.2"))].into()));
    assert_eq!(world.targets(), ["web1 0000:02:10.0"], "somebody took what was told");
}

#[test]
fn terms_and_others_forbid_it() {
    let moved = |change: &dyn Fn(&mut World), occasion: Option<Occasion>| {
        let mut world = one_on_a();
        change(&mut world);
        occasion.into_iter().for_each(|occasion| world.occasion(1, occasion));
        !world.plan().is_empty()
    };
    let refused = || Some(Occasion::Refused(BTreeMap::new()));
    let terms = |terms: Terms| move |world: &mut World| world.one(1).terms = terms;
    let forbidden = [
        Terms { pin: true, ..Terms::default() },
        Terms { mode: CapacityMode::Guaranteed, ..Terms::default() },
        Terms { repoint: Repoint::Never, ..Terms::default() },
    ];
    for one in forbidden {
        for occasion in [None, refused(), Some(Occasion::Asked)] {
            assert!(!moved(&terms(one), occasion), "{one:?}");
        }
    }
    let on_refusal = terms(Terms { repoint: Repoint::OnRefusal, ..Terms::default() });
    assert!(!moved(&on_refusal, None));
    assert!(moved(&on_refusal, refused()) && moved(&on_refusal, Some(Occasion::Asked)));
    let given_up = |world: &mut World| world.one(1).pointing.overruled = 2;
    assert!(!moved(&given_up, None) && !moved(&given_up, refused()));
    assert!(moved(&given_up, Some(Occasion::Asked)), "an admin's word counts for more");
    assert!(moved(&|world| world.one(1).pointing.overruled = 1, None));
    let stays: [&dyn Fn(&mut World); 5] = [
        &|world| world.state(1).active = true,
        &|world| world.state(1).saved = true,
        &|world| world.state(1).names.clear(),
        &|world| world.domains.clear(),
        &|world| world.one(1).state = AllocationState::Orphaned,
    ];
    for (number, change) in stays.iter().enumerate() {
        assert!(!moved(change, Some(Occasion::Asked)), "case {number}");
    }
}

#[test]
fn another_id_than_the_first_start_had_is_no_target() {
    let settled = |vf_id: &str| crate::model::Settled {
        gpu: "virtual:a".parse().expect("id"),
        mdev_type: None,
        vf_id: Some(pci_id(vf_id)),
    };
    let mut world = one_on_a();
    world.one(1).settled = Some(settled(NIC));
    assert_eq!(world.plan().len(), 1);
    world.one(1).settled = Some(settled("1b36:0010"));
    assert_eq!(world.plan(), []);
    let other = vf("0000:02:10.0", "1b36:0010");
    let lonely =
        World::new(vec![gpus().remove(0), pf("b", vec![other])], vec![vf_allocation(1, 1, "0000:01:10.0")]);
    assert_eq!(lonely.plan(), []);
}

#[test]
fn a_vf_that_may_come_back_is_waited_for_unless_a_start_is_asked() {
    let missing = || World::new(gpus(), vec![vf_allocation(1, 1, "0000:09:10.0")]);
    assert_eq!(missing().plan()[0].why, "does not exist now");
    let changes: [&dyn Fn(&mut World); 3] = [
        &|world| world.incomplete = true,
        &|world| world.snapshot.problems.push(ScanProblem { device: None, text: "odd".to_owned() }),
        &|world| {
            let parent = "a".parse().expect("name");
            world.barred.push(Barred { parent, mdev_type: None, reason: "is busy".to_owned() });
        },
    ];
    for change in changes {
        let mut world = missing();
        change(&mut world);
        assert_eq!(world.plan(), []);
        world.occasion(1, Occasion::Asked);
        assert_eq!(world.plan().len(), 1);
    }
}

#[test]
fn a_pf_that_is_being_changed_is_no_target() {
    let mut world = one_on_a();
    let parent = "b".parse().expect("name");
    world.barred.push(Barred { parent, mdev_type: None, reason: "is busy".to_owned() });
    assert_eq!(world.targets(), ["web1 0000:03:10.0"]);
}

fn any_pf(number: u32) -> impl Strategy<Value = Gpu> {
    let one = move |index: u32| {
        (0u8..4, any::<bool>()).prop_map(move |(kind, vfio)| {
            let id = if kind == 3 { "1b36:0010" } else { NIC };
            let mut one = vf(&format!("0000:0{number}:10.{index}"), id);
            one.vfio = vfio;
            one.holders = if kind == 2 { vec![holder(Some("other"))] } else { vec![] };
            one
        })
    };
    let vfs = (0..=4u32).prop_flat_map(move |count| (0..count).map(one).collect::<Vec<_>>());
    vfs.prop_map(move |vfs| pf(&format!("g{number}"), vfs))
}

fn any_terms() -> impl Strategy<Value = Terms> {
    let repoint = prop_oneof![
        6 => Just(Repoint::Auto),
        1 => Just(Repoint::OnRefusal),
        1 => Just(Repoint::Never)
    ];
    (proptest::bool::weighted(0.1), repoint).prop_map(|(pin, repoint)| Terms {
        pin,
        repoint,
        ..Terms::default()
    })
}

fn any_world() -> impl Strategy<Value = World> {
    let allocation = (1u32..5, 0u8..4, 0u8..5, any_terms(), 0u32..3);
    let flags = proptest::collection::vec((any::<bool>(), 0u8..8), 5);
    let gpus = (0..3u32).map(any_pf).collect::<Vec<_>>();
    (gpus, proptest::collection::vec(allocation, 0..9), flags).prop_map(|(gpus, wanted, flags)| {
        let make = |(bits, (domain, bus, function, terms, overruled)): (u32, (u32, u8, u8, Terms, u32))| {
            let mut one = vf_allocation(bits, domain, &format!("0000:0{bus}:10.{function}"));
            one.terms = terms;
            one.pointing.overruled = overruled;
            one
        };
        let mut world = World::new(gpus, (0..).zip(wanted).map(make).collect());
        let domains: Vec<DomainUuid> = world.domains.keys().copied().collect();
        for (uuid, (made, kind)) in domains.into_iter().zip(flags) {
            let state = world.domains.get_mut(&uuid).expect("known");
            state.active = kind == 0;
            state.saved = kind == 1;
            match kind {
                2 => drop(world.occasions.insert(uuid, Occasion::Asked)),
                3 => drop(world.occasions.insert(uuid, Occasion::Refused(BTreeMap::new()))),
                _ => {}
            }
            if made && kind == 0 {
                for one in world.allocations.values().filter(|one| one.domain.uuid == uuid) {
                    let (allocation, domain) = (one.id.clone(), one.domain.name.clone());
                    world
                        .owners
                        .insert(one.device, Owner::Allocation { allocation, domain, guaranteed: false });
                }
            }
        }
        world
    })
}

proptest! {
    #[test]
    fn the_laws_hold(world in any_world()) {
        let plan = world.plan();
        let mut targets = BTreeSet::new();
        let mut moved = BTreeSet::new();
        for one in &plan {
            prop_assert!(targets.insert(one.to), "two to one VF");
            prop_assert!(moved.insert(one.allocation.clone()), "one moved twice");
            prop_assert!(one.from != one.to);
            let allocation = &world.allocations[&one.allocation];
            let state = &world.domains[&one.domain.uuid];
            prop_assert!(!state.active && !state.saved, "a domain that runs or is saved");
            prop_assert!(!allocation.terms.pin && allocation.terms.repoint != Repoint::Never);
            let (_, vf) = world.snapshot.vf(one.to).expect("a VF that exists");
            prop_assert_eq!(vf.id, pci_id(NIC));
            prop_assert!(vf.holders.is_empty() && !world.owners.contains_key(&Device::Vf(one.to)));
            let from = world.snapshot.vf(one.from);
            let servable = from.is_some_and(|(_, vf)| {
                let free = vf.holders.is_empty() && !world.owners.contains_key(&Device::Vf(one.from));
                vf.id == pci_id(NIC) && free
            });
            prop_assert!(!servable, "no need");
            let occasion = world.occasions.get(&one.domain.uuid);
            let others = |own_domain: bool| world.allocations.values().any(|other| {
                let same = other.domain.uuid == one.domain.uuid;
                other.id != one.allocation && other.device == Device::Vf(one.to) && (same || !own_domain)
            });
            prop_assert!(!others(true), "a VF that the domain names already");
            prop_assert!(occasion.is_some() || !others(false), "a VF that another names");
            prop_assert!(occasion.is_some() || allocation.terms.repoint == Repoint::Auto);
            prop_assert!(occasion == Some(&Occasion::Asked) || allocation.pointing.overruled < 2);
        }
    }

    #[test]
    fn nothing_is_moved_back_and_a_plan_is_carried_out_once(world in any_world()) {
        let mut after = world.clone();
        let plan = world.plan();
        after.apply(&plan);
        let again = after.plan();
        let moved = |one: &Move| plan.iter().any(|before| before.allocation == one.allocation);
        prop_assert!(!again.iter().any(moved), "{:?} after {:?}", again, plan);
        let empty = after.emptied();
        prop_assert!(!empty.plan().iter().any(moved), "moved back");
    }

    #[test]
    fn the_order_of_reading_does_not_matter(world in any_world()) {
        let mut other = world.clone();
        other.snapshot.gpus.reverse();
        for gpu in &mut other.snapshot.gpus {
            gpu.sriov.iter_mut().for_each(|sriov| sriov.vfs.reverse());
        }
        prop_assert_eq!(world.plan(), other.plan());
    }

    #[test]
    fn nobody_is_left_behind_while_an_unnamed_vf_would_do(world in any_world()) {
        let mut after = world.clone();
        after.apply(&world.plan());
        // Every profile is the same here, so greedy is complete: what is needy still has nowhere to go.
        prop_assert!(after.plan().iter().all(|one| world.occasions.contains_key(&one.domain.uuid)));
    }
}
