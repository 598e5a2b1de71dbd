//! Plans on small hosts, and against a search that is written without looking at the planner.

use super::*;
use crate::model::fixture::{gpu, host, mdev_type, parent, profile, uuid};
use crate::model::{AllocationId, Framebuffer, Gpu, Mdev, MdevParent, MdevType, Wish};
use crate::placement::Owner;
use crate::profile::Bounds;
use proptest::prelude::*;

/// MiB of one unit of size.
const UNIT: u32 = 1000;

/// A running domain: on which GPU, and how many units its slice has.
type Running = (usize, u32);

const NAMES: [&str; 16] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];

fn want(number: u32, units: u32) -> Want {
    let wish = Wish::Framebuffer(Framebuffer::from_mib(units * UNIT));
    Want {
        allocation: AllocationId::from_bits(number),
        profile: profile(&format!("p{units}"), wish),
        bounds: Bounds::default(),
        device: Device::Mdev(uuid(number)),
    }
}

fn party(number: u32, units: u32) -> Party {
    Party { wants: vec![want(number, units)], ties: vec![Tie::default()] }
}

fn tenant(number: u32, (gpu, units): Running) -> Tenant {
    let name = format!("web{number}");
    let uuid_of = format!("00000000-0000-4000-8000-{number:012}").parse().expect("uuid");
    Tenant {
        domain: DomainRef { uuid: uuid_of, name },
        party: party(number, units),
        slices: vec![Device::Mdev(uuid(number))],
        parents: vec![NAMES[gpu].parse().expect("name")],
        priority: 0,
    }
}

/// GPUs of so many units whose driver lets all sizes share one, with running domains on them.
fn built(capacity: &[u32], running: &[Running]) -> (HostSnapshot, Owners, Vec<Tenant>) {
    let board = |at: usize| {
        let used: u32 = running.iter().filter(|(gpu, _)| *gpu == at).map(|(_, units)| units).sum();
        let free = capacity[at] - used;
        let offered = (1..=capacity[at]).map(|units| MdevType {
            max_instances: Some(capacity[at] / units),
            ..mdev_type(&format!("t-{units}"), units * UNIT, free / units)
        });
        let mdevs = (0..).zip(running).filter(|(_, (gpu, _))| *gpu == at).map(|(number, (_, units))| Mdev {
            uuid: uuid(number),
            mdev_type: format!("t-{units}").parse().expect("type"),
            iommu_group: None,
            holders: Vec::new(),
            parameters: None,
        });
        gpu(NAMES[at], vec![MdevParent { mdevs: mdevs.collect(), ..parent(NAMES[at], offered.collect()) }])
    };
    let snapshot = host((0..capacity.len()).map(board).collect::<Vec<Gpu>>());
    let tenants: Vec<Tenant> = (0..).zip(running).map(|(number, one)| tenant(number, *one)).collect();
    let owner = |one: &Tenant| {
        let allocation = one.party.wants[0].allocation.clone();
        (one.slices[0], Owner::Allocation { allocation, domain: one.domain.name.clone(), guaranteed: false })
    };
    let owners = tenants.iter().map(owner).collect();
    (snapshot, owners, tenants)
}

fn plan(capacity: &[u32], running: &[Running], units: u32, what: Disturbance) -> Option<RoomPlan> {
    let (snapshot, owners, tenants) = built(capacity, running);
    let site = Site { snapshot: &snapshot, owners: &owners, barred: &[] };
    make_room(&party(900, units), &tenants, what, site)
}

fn told(plan: &RoomPlan) -> Vec<String> {
    let one = |one: &Disturbed| {
        let to: Vec<&str> = one.to.iter().map(|choice| choice.parent.as_str()).collect();
        format!("{} {} -> {}", one.domain.name, one.from[0], to.join(","))
    };
    plan.disturbed.iter().map(one).collect()
}

#[test]
fn what_fits_needs_no_plan_and_what_never_fits_has_none() {
    let free = plan(&[4, 4], &[(0, 2)], 4, Disturbance::Restart).expect("b is empty");
    assert!(free.disturbed.is_empty());
    assert_eq!(free.to[0].parent.as_str(), "b");
    assert_eq!(plan(&[4, 4], &[(0, 2), (1, 3)], 4, Disturbance::Restart), None, "5 are in use, 3 are left");
    assert_eq!(plan(&[4], &[], 5, Disturbance::Stop), None, "larger than any GPU");
}

#[test]
fn one_restart_makes_room_where_two_halves_are_free() {
    let made = plan(&[4, 4], &[(0, 2), (1, 2)], 4, Disturbance::Restart).expect("one moves over");
    assert_eq!(told(&made), ["web0 a -> b"]);
    assert_eq!(made.to[0].parent.as_str(), "a");
}

#[test]
fn the_fewest_domains_are_disturbed() {
    // Moving the slice of 3 is one restart, moving those of 1 would be two.
    let made = plan(&[4, 6], &[(0, 1), (0, 1), (1, 3)], 4, Disturbance::Restart);
    assert_eq!(made.map(|made| made.disturbed.len()), Some(2), "3 has no other place");
    let made = plan(&[6, 6], &[(0, 1), (0, 1), (1, 3)], 6, Disturbance::Restart).expect("3 moves over");
    assert_eq!(told(&made), ["web2 b -> a"]);
}

#[test]
fn stopping_takes_the_one_that_is_worth_the_least() {
    let (snapshot, owners, mut tenants) = built(&[4, 4], &[(0, 4), (1, 4)]);
    tenants[0].priority = 5;
    let site = Site { snapshot: &snapshot, owners: &owners, barred: &[] };
    let made = make_room(&party(900, 3), &tenants, Disturbance::Stop, site).expect("one is stopped");
    assert_eq!(told(&made), ["web1 b -> "]);
    assert_eq!(made.to[0].parent.as_str(), "b");
}

#[test]
fn a_gpu_that_gives_one_size_is_emptied_before_another_size_fits() {
    let (mut snapshot, owners, tenants) = built(&[4, 4], &[(0, 1), (1, 1), (1, 1)]);
    for offered in
        snapshot.gpus.iter_mut().flat_map(|gpu| &mut gpu.parents).flat_map(|parent| &mut parent.types)
    {
        let same = offered.id.as_str() == "t-1";
        offered.available = if same { offered.available } else { 0 };
    }
    let site = Site { snapshot: &snapshot, owners: &owners, barred: &[] };
    let made = make_room(&party(900, 2), &tenants, Disturbance::Restart, site).expect("a is emptied");
    assert_eq!(told(&made), ["web0 a -> b"]);
}

#[test]
fn a_large_host_is_planned_too() {
    // 16 GPUs of 8 units with 7 slices of 1 each: 112 domains, and more than 200,000 sets of three.
    let running: Vec<Running> = (0..16).flat_map(|gpu| [(gpu, 1); 7]).collect();
    let began = std::time::Instant::now();
    let made = plan(&[8; 16], &running, 4, Disturbance::Restart).expect("three make way on one GPU");
    println!("a plan for 16 GPUs and 112 domains took {:.1?}", began.elapsed());
    assert_eq!(made.disturbed.len(), 3);
    let (home, to) = (&made.disturbed[0].from, &made.to[0].parent);
    assert!(made.disturbed.iter().all(|one| one.from == *home && home[0] == *to), "{made:?}");
    assert!(made.disturbed.iter().all(|one| one.to[0].parent != *to), "{made:?}");
    let stopped = plan(&[8; 16], &running, 4, Disturbance::Stop).expect("three go");
    assert_eq!(stopped.disturbed.len(), 3);
}

#[test]
fn sets_are_all_there_and_each_once() {
    let count = |of, count| sets(of, count).collect::<BTreeSet<_>>().len();
    assert_eq!((count(5, 0), count(5, 1), count(5, 2), count(5, 5), count(2, 3)), (1, 5, 10, 1, 0));
    assert_eq!(sets(4, 2).count(), 6);
    assert_eq!((combinations(5, 2), combinations(112, 3), combinations(2, 3)), (10, 227_920, 0));
    let ids: Vec<GpuId> = ["virtual:a", "virtual:b"].iter().map(|id| id.parse().expect("id")).collect();
    let homes = [vec![&ids[0]], vec![&ids[0]], vec![&ids[0], &ids[1]], vec![&ids[1]]];
    assert_eq!(sets_of(&homes, 2, 6).count(), 6, "all");
    let shared: Vec<Vec<usize>> = sets_of(&homes, 2, 5).collect();
    assert_eq!(shared, [[0, 1], [0, 2], [1, 2], [2, 3]], "those with a GPU in common");
}

#[test]
fn a_host_is_made_whole_by_the_restart_that_helps_most() {
    let (snapshot, owners, tenants) = built(&[4, 4], &[(0, 2), (1, 2)]);
    let site = Site { snapshot: &snapshot, owners: &owners, barred: &[] };
    let large = Weighted { profile: want(900, 4).profile, bounds: Bounds::default(), weight: 1 };
    let (plan, before, after) = defragment(std::slice::from_ref(&large), &tenants, site);
    assert_eq!(told(&plan), ["web0 a -> b"]);
    assert_eq!((before, after), (4000, 0), "two halves of 2000 MiB are of no use to a slice of 4000");
    let (none, before, after) = defragment(&[large], &tenants[..0], site);
    assert!(none.disturbed.is_empty() && before == after);
}

/// The fewest that move so that all and the request fit: every assignment is tried.
fn fewest(capacity: &[u32], running: &[Running], units: u32) -> Option<usize> {
    let all: Vec<u32> = running.iter().map(|(_, units)| *units).chain([units]).collect();
    let mut best = None;
    for code in 0..capacity.len().pow(u32::try_from(all.len()).expect("few")) {
        let on: Vec<usize> = (0..all.len())
            .map(|at| code / capacity.len().pow(u32::try_from(at).expect("few")) % capacity.len())
            .collect();
        let load = |gpu: usize| {
            all.iter().zip(&on).filter(|(_, on)| **on == gpu).map(|(units, _)| units).sum::<u32>()
        };
        if (0..capacity.len()).all(|gpu| load(gpu) <= capacity[gpu]) {
            let moved = running.iter().zip(&on).filter(|((gpu, _), on)| gpu != *on).count();
            best = Some(best.map_or(moved, |least: usize| least.min(moved)));
        }
    }
    best
}

fn any_site() -> impl Strategy<Value = (Vec<u32>, Vec<Running>, u32)> {
    let capacity = proptest::collection::vec(3u32..=8, 1..=3);
    (capacity, proptest::collection::vec((0usize..3, 1u32..=5), 0..=4), 1u32..=8).prop_map(
        |(capacity, running, units)| {
            let mut left = capacity.clone();
            let fits = |one: &Running| {
                let fits = one.0 < left.len() && one.1 <= left[one.0];
                if fits {
                    left[one.0] -= one.1;
                }
                fits
            };
            let running = running.into_iter().filter(fits).collect();
            (capacity, running, units)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn plans_are_the_cheapest_there_are((capacity, running, units) in any_site()) {
        let made = plan(&capacity, &running, units, Disturbance::Restart);
        prop_assert_eq!(made.as_ref().map(|made| made.disturbed.len()), fewest(&capacity, &running, units), "{:?}", made);
        let Some(made) = made else { return Ok(()) };
        // Walked on paper, it never puts more on a GPU than that has.
        let number = |name: &DeviceName| NAMES.iter().position(|one| *one == name.as_str()).expect("a GPU");
        let mut on: Vec<usize> = running.iter().map(|(gpu, _)| *gpu).collect();
        for one in &made.disturbed {
            let at: usize = one.domain.name[3..].parse().expect("a number");
            on[at] = number(&one.to[0].parent);
        }
        for (gpu, most) in capacity.iter().enumerate() {
            let load: u32 = running.iter().zip(&on).filter(|(_, on)| **on == gpu).map(|((_, units), _)| units).sum();
            let own = if number(&made.to[0].parent) == gpu { units } else { 0 };
            prop_assert!(load + own <= *most, "{:?}", made);
        }
    }

    #[test]
    fn stopping_helps_whenever_a_gpu_is_large_enough((capacity, running, units) in any_site()) {
        let made = plan(&capacity, &running, units, Disturbance::Stop);
        let possible = capacity.iter().any(|most| *most >= units);
        prop_assert_eq!(made.is_some(), possible);
    }
}
