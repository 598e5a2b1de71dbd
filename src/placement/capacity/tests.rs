//! Capacity of small hosts.

use super::*;
use crate::model::fixture::{gpu, holder, host, mdev, mdev_type, parent, pf, profile, type_id, vf, vgpu_gpu};
use crate::model::{Framebuffer, MdevParent, Wish};
use proptest::prelude::*;

/// A GPU of 8000 MiB with types of 1000, 3000 and 4000 MiB, and slices of some types.
fn board(name: &str, used: &[&str]) -> Gpu {
    let mib = |id: &str| id[2..].parse::<u64>().expect("t-MIB");
    let free = 8000 - used.iter().map(|id| mib(id)).sum::<u64>();
    let offered = ["t-1000", "t-3000", "t-4000"].map(|id| {
        let most = u32::try_from(8000 / mib(id)).expect("few");
        let left = u32::try_from(free / mib(id)).expect("few");
        MdevType { max_instances: Some(most), ..mdev_type(id, u32::try_from(mib(id)).expect("few"), left) }
    });
    let start = 100 * u32::from(name.as_bytes()[0]);
    let mdevs = (start..).zip(used).map(|(number, id)| mdev(number, id)).collect();
    gpu(name, vec![MdevParent { mdevs, ..parent(name, offered.into()) }])
}

fn weighted(name: &str, mib: u32, weight: u64) -> Weighted {
    let profile = profile(name, Wish::Framebuffer(Framebuffer::from_mib(mib)));
    Weighted { profile, bounds: Bounds::default(), weight }
}

fn of(mix: &[Weighted], gpus: Vec<Gpu>) -> Capacity {
    capacity(mix, "a test", &host(gpus), &Owners::new())
}

#[test]
fn each_profile_is_counted_alone() {
    let mix = [weighted("big", 4000, 1), weighted("small", 1000, 3)];
    let found = of(&mix, vec![board("a", &["t-4000", "t-1000"]), board("b", &[])]);
    let counts: Vec<(u32, Option<u32>, u32)> =
        found.profiles.iter().map(|one| (one.possible, one.if_emptied, one.weight)).collect();
    assert_eq!(counts, [(2, Some(4), 250), (11, Some(16), 750)]);
    assert!(
        found.profiles[0].blocked.iter().any(|text| text.starts_with("a: has 0 of t-4000 left, held by"))
    );
    assert_eq!(
        found.largest,
        Some(LargestSlice { gpu: "b".parse().expect("name"), mdev_type: type_id("t-4000"), mib: 4000 })
    );
    let empty = of(&mix, vec![board("b", &[])]);
    assert!(empty.profiles.iter().all(|one| one.blocked.is_empty()), "nothing stands in the way of anything");
}

#[test]
fn fragmentation_is_the_mean_over_the_mix_of_what_is_of_no_use() {
    // 3000 MiB are free on `a`: of no use to a slice of 4000, of all use to those of 1000.
    let mix = [weighted("big", 4000, 1), weighted("small", 1000, 3)];
    let found = of(&mix, vec![board("a", &["t-4000", "t-1000"])]);
    assert_eq!((found.free_mib, found.stranded_mib, found.fragmented_mib), (3000, 0, 750));
    assert_eq!(found.fragmentation, Some(250));
    assert_eq!(
        of(&[weighted("big", 4000, 1)], vec![board("a", &["t-4000", "t-1000"])]).fragmentation,
        Some(1000)
    );
    assert_eq!(of(&mix, vec![board("a", &["t-4000", "t-4000"])]).fragmentation, None, "nothing is free");
    assert_eq!(of(&[], vec![board("a", &[])]).fragmentation, None, "nobody asks for anything");
}

#[test]
fn what_no_type_can_have_is_stranded() {
    // One size at a time: the driver offers only the type that is in use.
    let mut one_size = board("a", &["t-3000"]);
    for offered in &mut one_size.parents[0].types {
        offered.available = u32::from(offered.id == type_id("t-3000"));
    }
    let found = of(&[weighted("small", 1000, 1)], vec![one_size]);
    assert_eq!((found.free_mib, found.stranded_mib), (5000, 2000));
    assert_eq!(found.fragmentation, Some(1000));
}

#[test]
fn parents_that_share_memory_are_not_added_up_beyond_it() {
    let offered = MdevType { max_instances: Some(4), ..mdev_type("t-2000", 2000, 1) };
    let mut parents: Vec<MdevParent> =
        (0..6).map(|n| parent(&format!("a{n}"), vec![offered.clone()])).collect();
    for (number, one) in (0..3).zip(&mut parents) {
        one.mdevs = vec![mdev(number, "t-2000")];
        one.types[0].available = 0;
    }
    let found = of(&[weighted("p", 2000, 1)], vec![gpu("a", parents)]);
    assert_eq!(
        (found.profiles[0].possible, found.profiles[0].if_emptied),
        (1, Some(4)),
        "three parents say one each"
    );
    assert_eq!(
        (found.gpus[0].used_mib, found.gpus[0].total_mib, found.gpus[0].more),
        (Some(6000), Some(8000), 1)
    );
}

#[test]
fn vfs_count_each_and_have_no_size() {
    let mut held = vf("0000:01:10.0", "8086:10ca");
    held.holders = vec![holder(Some("web1"))];
    let nic = Weighted {
        profile: profile("nic", Wish::Vf("8086:10ca".parse().expect("id"))),
        bounds: Bounds::default(),
        weight: 1,
    };
    let found = of(&[nic], vec![pf("a", vec![held, vf("0000:01:10.2", "8086:10ca")]), gpu("none", vec![])]);
    assert_eq!((found.profiles[0].possible, found.profiles[0].if_emptied), (1, Some(2)));
    assert_eq!((found.gpus.len(), found.gpus[0].slices.len(), found.gpus[0].more), (1, 1, 1));
    assert_eq!(found.gpus[0].slices[0].owner, "foreign (domain web1)");
    assert_eq!((found.largest, found.fragmentation), (None, None));
}

#[test]
fn types_that_vfs_take_by_number_are_slices_too() {
    let kinds = [("nvidia-8", 8), ("nvidia-24", 24), ("nvidia-48", 48)];
    let largest = |current: &[Option<&str>], creatable: &[&str]| {
        let found = of(&[], vec![vgpu_gpu("a", &kinds, current, creatable), board("b", &[])]);
        (
            found.largest.map(|one| (one.gpu.to_string(), one.mdev_type.to_string(), one.mib)),
            found.gpus[0].more,
        )
    };
    let slice = |gpu: &str, id: &str, mib: u64| Some((gpu.to_owned(), id.to_owned(), mib));
    let all = kinds.map(|(id, _)| id);
    assert_eq!(largest(&[None; 4], &all), (slice("a", "nvidia-48", 48 * 1024), 4));
    let one = [Some("nvidia-24"), None, None, None];
    assert_eq!(largest(&one, &["nvidia-24"]), (slice("a", "nvidia-24", 24 * 1024), 1));
    assert_eq!(largest(&[Some("nvidia-24"); 4], &[]), (slice("b", "t-4000", 4000), 0), "no VF is free");
}

#[test]
fn what_rules_forbid_is_of_no_use_and_says_why() {
    let mut bound = weighted("ai", 1000, 1);
    let shut = Some("has slices of class render".to_owned());
    bound.bounds.gates =
        [("virtual:a".parse().expect("id"), crate::profile::Gate { shut, ..Default::default() })].into();
    let found = of(&[bound], vec![board("a", &[]), board("b", &[])]);
    assert_eq!((found.profiles[0].possible, found.profiles[0].if_emptied), (8, Some(16)));
    assert!(found.profiles[0].blocked.iter().any(|text| text == "a: has slices of class render"));
    assert_eq!(found.fragmentation, Some(500));
}

#[test]
fn weights_come_from_starts_then_from_allocations_then_are_alike() {
    let names: Vec<ProfileName> = ["a", "b"].iter().map(|name| name.parse().expect("name")).collect();
    let count = |a, b| BTreeMap::from([(names[0].clone(), a), (names[1].clone(), b)]);
    let got = |asked, followers| weights(names.iter(), &asked, &followers);
    assert_eq!(got(count(3, 1), count(0, 9)).0, count(3, 1));
    assert_eq!(got(count(0, 0), count(0, 9)).0, count(0, 9));
    let (alike, source) = got(BTreeMap::new(), BTreeMap::new());
    assert_eq!((alike, source.as_str()), (count(1, 1), "all profiles alike"));
}

proptest! {
    /// Fragmentation is a mean: never less than nothing, never more than what is free, and the stranded part of it
    /// is of no use to anybody.
    #[test]
    fn the_measures_are_within_what_is_free(
        used in proptest::collection::vec(proptest::collection::vec(0usize..3, 0..8), 1..4),
        weight in proptest::collection::vec(0u64..9, 3),
    ) {
        let sizes = [1000u64, 3000, 4000];
        let board_of = |(name, used): (&str, &Vec<usize>)| {
            let mut left = 8000;
            let fitting = used.iter().filter(|at| {
                let fits = sizes[**at] <= left;
                left -= if fits { sizes[**at] } else { 0 };
                fits
            });
            let ids: Vec<String> = fitting.map(|at| format!("t-{}", sizes[*at])).collect();
            board(name, &ids.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let gpus: Vec<Gpu> = ["a", "b", "c"].into_iter().zip(&used).map(board_of).collect();
        let mix: Vec<Weighted> = ["p1", "p3", "p4"].into_iter().zip([1000, 3000, 4000]).zip(&weight)
            .map(|((name, mib), weight)| weighted(name, mib, *weight)).collect();
        let found = of(&mix, gpus);
        prop_assert!(found.fragmented_mib <= found.free_mib);
        prop_assert!(found.stranded_mib <= found.free_mib);
        let asked = weight.iter().sum::<u64>() > 0;
        prop_assert_eq!(found.fragmentation.is_some(), asked && found.free_mib > 0);
        for gpu in &found.gpus {
            prop_assert!(!asked || gpu.fragmented_mib >= gpu.stranded_mib, "{:?}", gpu);
        }
    }
}
