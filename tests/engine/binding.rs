//! Where a slice is made is decided at the start: the emptiest GPU, and the next one when the first refuses.

use nix::errno::Errno;

use crate::kit::{HALF, device, domains, lab, place, two_gpus};

const FOREIGN: [&str; 4] = [
    "ffffffff-0000-4000-8000-000000000001",
    "ffffffff-0000-4000-8000-000000000002",
    "ffffffff-0000-4000-8000-000000000003",
    "ffffffff-0000-4000-8000-000000000004",
];

#[test]
fn a_full_gpu_sends_the_same_domain_with_the_same_xml_to_the_other() {
    let world = two_gpus();
    domains(&world, "half", &["web1"]);
    let xml = world.xml("web1");
    let uuid = device(&world, "web1");
    world.start("web1").expect("both GPUs are empty");
    assert!(place(&world, &uuid).contains("/0000:41:"), "ties go by address: {}", place(&world, &uuid));
    world.stop("web1");
    world.host.foreign_mdev("0000:41:00.5", HALF, FOREIGN[0]).expect("room");
    world.start("web1").expect("room");
    assert!(place(&world, &uuid).contains("/0000:c1:"), "the emptier GPU: {}", place(&world, &uuid));
    world.stop("web1");
    for (parent, uuid) in [("0000:c1:00.5", FOREIGN[1]), ("0000:c1:00.6", FOREIGN[2])] {
        world.host.foreign_mdev(parent, HALF, uuid).expect("room");
    }
    world.start("web1").expect("room for one on the first");
    assert!(place(&world, &uuid).contains("/0000:41:"), "the other is full: {}", place(&world, &uuid));
    world.stop("web1");
    assert_eq!(world.xml("web1"), xml);
    assert_eq!(world.host.mdevs(), FOREIGN[..3]);
}

#[test]
fn a_driver_that_refuses_although_it_showed_room_sends_the_slice_elsewhere() {
    for errno in [Errno::ENOSPC, Errno::EUSERS, Errno::EIO] {
        let world = two_gpus();
        domains(&world, "half", &["web1"]);
        world.host.fail("0000:41:", 1, errno);
        world.start("web1").unwrap_or_else(|line| panic!("{errno}: {line}"));
        let refused = world.host.writes()[0].path.clone();
        let found = place(&world, &device(&world, "web1"));
        let parent = refused.split("/mdev_supported_types").next().expect("a parent").to_owned();
        assert!(!found.contains(&parent), "{errno}: it is on {found}, which refused");
        if errno != Errno::EIO {
            assert!(
                found.contains("/0000:c1:"),
                "{errno}: a GPU without room has none on its other VFs either"
            );
        }
        world.settles_to(&world.devices("web1"), "after a start at the second try");
        world.stop("web1");
        world.settles_to(&[], "after the stop");
    }
}

#[test]
fn no_room_anywhere_is_refused_in_one_line_that_says_who_has_it_and_leaves_nothing() {
    let world = two_gpus();
    domains(&world, "half", &["web1", "web2", "web3"]);
    world.start("web1").expect("room");
    world.start("web2").expect("room");
    world.host.foreign_mdev("0000:41:01.0", HALF, FOREIGN[0]).expect("room");
    world.host.foreign_mdev("0000:c1:01.0", HALF, FOREIGN[1]).expect("room");
    let mdevs = world.host.mdevs();
    let line = world.start("web3").expect_err("all four are taken");
    println!("{line}");
    for part in [HALF, "half", "0000:41:00.0", "0000:c1:00.0", "web1", "web2"] {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
    assert_eq!(line.lines().count(), 1, "{line}");
    assert_eq!(world.host.mdevs(), mdevs);
    world.stop("web1");
    world.start("web3").expect("one became free");
    world.stop("web3");
    world.stop("web2");
    assert_eq!(world.host.mdevs(), FOREIGN[..2]);
}

#[test]
fn drivers_that_refuse_everywhere_end_the_start_in_time_and_leave_nothing() {
    let world = two_gpus();
    domains(&world, "half", &["web1"]);
    for errno in [Errno::ENOSPC, Errno::EIO] {
        world.host.fail_always("/create", errno);
        let line = world.start("web1").expect_err("nothing works");
        println!("{errno}: {line}");
        assert!(line.contains(HALF) && line.lines().count() == 1, "{line}");
        world.settles_to(&[], "after a refused start");
        world.host.unhang("/create");
    }
    world.start("web1").expect("the drivers came to their senses");
}

#[test]
fn a_parent_that_counts_for_itself_is_full_by_eusers() {
    let world = lab();
    domains(&world, "screen", &["web1"]);
    world.host.fail_always("mdpy/", Errno::EUSERS);
    let line = world.start("web1").expect_err("refused");
    assert!(line.contains("mdpy") && line.contains("room"), "{line}");
    world.settles_to(&[], "after a refused start");
}

#[test]
fn a_second_slice_that_cannot_be_made_takes_the_first_one_back() {
    let world = lab();
    world.define("web1", 100);
    world.ok("attach web1 --profile small --count 2");
    world.ok("attach web1 --profile screen");
    for (number, errno) in [(2, Errno::ENOSPC), (3, Errno::EINVAL), (2, Errno::ENOMEM)] {
        world.host.fail("/create", number, errno);
        let line = world.start("web1").expect_err("one of three cannot be made");
        assert!(line.contains("web1") || line.contains("cannot place"), "{line}");
        world.settles_to(&[], "after a start that failed halfway");
        world.host.unhang("/create");
    }
    world.start("web1").expect("room for all");
    world.settles_to(&world.devices("web1"), "all three");
}

#[test]
fn one_slot_for_two_starts_has_one_winner_and_one_who_is_told_why() {
    let world = lab();
    domains(&world, "screen", &["web1", "web2"]);
    for uuid in &FOREIGN[..3] {
        world.host.foreign_mdev("mdpy", "mdpy-hd", uuid).expect("room");
    }
    race(&world, &["web1", "web2"], 1, "mdpy");
    assert_eq!(world.host.mdevs(), FOREIGN[..3]);
}

#[test]
fn twenty_four_starts_for_four_slots_have_four_winners_and_leak_nothing() {
    let world = lab();
    let names: Vec<String> = (0..24).map(|number| format!("web{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    domains(&world, "screen", &names);
    race(&world, &names, 4, "mdpy");
    world.settles_to(&[], "after all stopped");
}

/// Starts all at once; `fit` of them win, the others are told why. Then all winners stop at once.
fn race(world: &crate::support::world::World, names: &[&str], fit: usize, told: &str) {
    let foreign = world.host.mdevs();
    let ends: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let starts: Vec<_> = names.iter().map(|name| scope.spawn(|| world.start(name))).collect();
        starts.into_iter().map(|start| start.join().expect("a start")).collect()
    });
    let winners: Vec<&str> =
        names.iter().zip(&ends).filter(|(_, end)| end.is_ok()).map(|(name, _)| *name).collect();
    assert_eq!(winners.len(), fit, "{ends:?}");
    for line in ends.iter().filter_map(|end| end.as_ref().err()) {
        assert!(line.contains(told) && line.lines().count() == 1, "{line}");
    }
    let mut all = foreign;
    all.extend(winners.iter().map(|name| device(world, name)));
    all.sort();
    assert_eq!(world.host.mdevs(), all);
    std::thread::scope(|scope| {
        for name in winners {
            scope.spawn(|| world.stop(name));
        }
    });
}
