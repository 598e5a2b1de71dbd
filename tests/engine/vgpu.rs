//! vGPUs on VFs by type number: the XML names the VF, the start writes the type, the stop takes it away.

use nix::errno::Errno;

use crate::kit::{device, domains, vgpu_attribute, vgpu_type};
use crate::support::spec::HostSpec;
use crate::support::world::{World, wait};

const GPU_A: &str = "0000:41:";
const GPU_B: &str = "0000:c1:";

/// Two GPUs with VFs that take types, and the profiles `half` (two fit on a GPU) and `eight` (six fit).
fn two_gpus() -> World {
    let mut world = World::new(HostSpec::vgpu_vfs());
    world.serve();
    world.ok("profile create half --framebuffer 24GiB");
    world.ok("profile create eight --type L40S-8Q");
    world.define("nobody", 999);
    world
}

/// Somebody else writes a type into a VF.
fn foreign(world: &World, vf: &str, number: &str) {
    let bridge = if vf.starts_with(GPU_A) { "pci0000:40/0000:40:01.1" } else { "pci0000:c0/0000:c0:01.1" };
    let path = format!("sys/devices/{bridge}/{vf}/nvidia/current_vgpu_type");
    world.host.by_hand(&path, number).expect("room");
}

fn settles_without_types(world: &World, vfs: &[&str]) {
    for vf in vfs {
        wait(&format!("{vf} has no type"), || (vgpu_type(world, vf) == "0").then_some(()));
    }
    wait("nothing is under way", || {
        world.json("status")["unfinished"].as_array().is_some_and(Vec::is_empty).then_some(())
    });
}

#[test]
fn a_start_writes_the_type_and_a_stop_takes_it_away() {
    let world = two_gpus();
    domains(&world, "eight", &["web1"]);
    let vf = device(&world, "web1");
    assert!(world.xml("web1").contains("managed=\"no\""), "{}", world.xml("web1"));
    assert_eq!(vgpu_type(&world, &vf), "0", "nothing is held while the domain is off");
    world.start("web1").expect("both GPUs are empty");
    assert_eq!(vgpu_type(&world, &vf), "1155");
    let slice =
        || world.ok("gpus").lines().any(|line| line.contains("nvidia-1155") && line.contains("of web1"));
    wait("the slice is listed with its type", || slice().then_some(()));
    world.stop("web1");
    settles_without_types(&world, &[&vf]);
    let bound =
        world.host.writes().iter().any(|write| write.path.contains("driver") || write.path.contains("bind"));
    assert!(!bound, "such a VF is never taken from its driver");
}

#[test]
fn domains_are_spread_over_gpus_by_what_is_left() {
    let world = two_gpus();
    domains(&world, "half", &["web1", "web2", "web3", "web4"]);
    let on_a = ["web1", "web2", "web3", "web4"].map(|name| device(&world, name).starts_with(GPU_A));
    assert_eq!(on_a.iter().filter(|a| **a).count(), 2, "two fit on each");
    for name in ["web1", "web2", "web3", "web4"] {
        world.start(name).unwrap_or_else(|line| panic!("{name}: {line}"));
    }
    world.define("web5", 105);
    world.ok("attach web5 --profile half");
    let line = world.start("web5").expect_err("four fit");
    for part in ["24GiB", "web1", "nvidia-1158"] {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
    assert_eq!(line.lines().count(), 1, "{line}");
}

#[test]
fn capacity_names_the_largest_type_that_a_vf_still_takes() {
    let world = two_gpus();
    let largest = || {
        let largest = world.json("capacity")["largest"].clone();
        (largest["mdev_type"].as_str().map(str::to_owned), largest["mib"].as_u64())
    };
    let is = |id: &str, mib: u64| {
        let wanted = (Some(id.to_owned()), Some(mib));
        wait(id, || (largest() == wanted).then_some(()));
    };
    is("nvidia-1160", 48 * 1024);
    domains(&world, "half", &["web1", "web2"]);
    for name in ["web1", "web2"] {
        world.start(name).unwrap_or_else(|line| panic!("{name}: {line}"));
    }
    is("nvidia-1158", 24 * 1024);
}

#[test]
fn a_gpu_that_fills_up_points_the_stopped_domain_at_the_other() {
    let world = two_gpus();
    domains(&world, "half", &["web1"]);
    let first = device(&world, "web1");
    assert!(first.starts_with(GPU_A));
    world.start("web1").expect("room");
    world.stop("web1");
    settles_without_types(&world, &[&first]);
    // One size at a time: two small ones close the GPU for all others.
    foreign(&world, "0000:41:00.6", "1150");
    world.host.announce(
        "change@/devices/pci0000:40/0000:40:01.1/0000:41:00.0",
        &["SUBSYSTEM=pci", "PCI_SLOT_NAME=0000:41:00.0"],
    );
    wait("web1 names a VF of the other GPU", || device(&world, "web1").starts_with(GPU_B).then_some(()));
    world.start("web1").expect("the other GPU is empty");
    assert_eq!(vgpu_type(&world, &device(&world, "web1")), "1158");
    world.stop("web1");
    assert_eq!(vgpu_type(&world, "0000:41:00.6"), "1150", "what is foreign is left alone");
}

#[test]
fn another_size_on_the_gpu_is_told_in_the_refusal() {
    let world = two_gpus();
    domains(&world, "half", &["web1"]);
    for vf in ["0000:41:00.6", "0000:c1:00.6"] {
        foreign(&world, vf, "1155");
    }
    let line = world.start("web1").expect_err("both GPUs run another size");
    assert!(line.contains("8GiB") && line.contains("equal-size"), "{line}");
    let explained = world.ok("profile explain half");
    assert!(explained.contains("8GiB"), "{explained}");
}

#[test]
fn what_the_driver_refuses_leaves_nothing_and_says_what_to_do() {
    for errno in [Errno::EIO, Errno::EPERM, Errno::ENODEV, Errno::ENOMEM] {
        let world = two_gpus();
        domains(&world, "eight", &["web1"]);
        let vf = device(&world, "web1");
        world.host.fail("current_vgpu_type", 1, errno);
        let line = world.start("web1").expect_err("refused");
        assert!(line.contains("web1") && line.contains(&vf) && line.lines().count() == 1, "{errno}: {line}");
        settles_without_types(&world, &[&vf]);
        world.start("web1").unwrap_or_else(|line| panic!("{errno}: the fault is over: {line}"));
    }
}

#[test]
fn a_foreign_vgpu_on_the_named_vf_is_not_taken_and_its_name_outlives_the_lists() {
    let mut world = two_gpus();
    domains(&world, "eight", &["web1"]);
    let vf = device(&world, "web1");
    for gpu in [GPU_A, GPU_B] {
        foreign(&world, &format!("{gpu}00.5"), "1160");
    }
    foreign_full(&world, &vf);
    world.stop_service();
    world.serve();
    let shown = world.ok("gpus --all");
    assert!(shown.contains("nvidia-1160"), "{shown}");
    let types = world.json("gpus")["gpus"][0]["vgpu_types"].clone();
    let names: Vec<&str> =
        types.as_array().expect("types").iter().filter_map(|one| one["name"].as_str()).collect();
    assert!(names.contains(&"NVIDIA L40S-48Q"), "every list has only its header now: {names:?}");
    let line = world.start("web1").expect_err("both GPUs are full");
    assert!(line.contains("0000:41:00.0") && line.contains("foreign"), "{line}");
}

/// Both GPUs are full: no list has more than its header.
fn foreign_full(world: &World, vf: &str) {
    assert_eq!(vgpu_attribute(world, vf, "creatable_vgpu_types"), "ID    : vGPU Name");
}

#[test]
fn a_guest_that_still_has_the_vf_keeps_its_vgpu() {
    let world = two_gpus();
    domains(&world, "eight", &["web1"]);
    let vf = device(&world, "web1");
    world.start("web1").expect("room");
    let released = world.hook("web1", "release end destroyed");
    assert!(released.status.success());
    assert_eq!(vgpu_type(&world, &vf), "1155", "QEMU still has it open");
    world.stop("web1");
    settles_without_types(&world, &[&vf]);
}

#[test]
fn the_kind_of_hostdev_is_decided_by_the_host_and_kept() {
    let mut world = World::new(HostSpec::both_ways());
    world.serve();
    world.ok("profile create any --framebuffer 8GiB");
    world.ok("profile create vf --type L40S-8Q");
    world.ok("profile create mdev --type A40-8Q");
    for (number, (name, profile, kind)) in (100..).zip([
        ("web1", "vf", "type=\"pci\""),
        ("web2", "mdev", "type=\"mdev\""),
        ("web3", "any", "hostdev"),
    ]) {
        world.define(name, number);
        world.ok(&format!("attach {name} --profile {profile}"));
        assert!(world.xml(name).contains(kind), "{name}: {}", world.xml(name));
        world.start(name).unwrap_or_else(|line| panic!("{name}: {line}"));
    }
    let explained = world.ok("profile explain any");
    assert!(explained.contains("nvidia-1155") && explained.contains("0000:c1:00.0"), "{explained}");
    world.ok("profile edit vf --type A40-8Q");
    world.stop("web1");
    world.ok("allocation unsettle web1");
    let line = world.start("web1").expect_err("a PCI hostdev never becomes an mdev");
    assert!(line.contains("0000:c1:00.0"), "{line}");
}

#[test]
fn a_guaranteed_vgpu_is_there_while_its_domain_is_off_and_after_a_boot() {
    let mut world = two_gpus();
    world.define("web1", 101);
    world.ok("attach web1 --profile eight --mode guaranteed");
    let vf = device(&world, "web1");
    assert_eq!(vgpu_type(&world, &vf), "1155");
    world.start("web1").expect("its own");
    world.stop("web1");
    assert_eq!(vgpu_type(&world, &vf), "1155", "kept");
    world.lose_power();
    world.serve();
    wait("it is back", || (vgpu_type(&world, &vf) == "1155").then_some(()));
    world.wait_step("slice", GPU_A, "done");
    world.start("web1").expect("its own again");
    world.stop("web1");
    world.ok("detach web1");
    settles_without_types(&world, &[&vf]);
}

#[test]
fn a_vgpu_that_was_taken_away_by_hand_is_shown() {
    let world = two_gpus();
    domains(&world, "eight", &["web1"]);
    let vf = device(&world, "web1");
    world.start("web1").expect("room");
    world.host.unhold(&vf);
    foreign(&world, &vf, "0");
    foreign(&world, &vf, "1150");
    let status = || world.json("status")["drift"].to_string();
    wait("it is told", || status().contains("nvidia-1150 now").then_some(()));
    world.forget_running("web1");
    world.hook("web1", "release end destroyed");
    assert_eq!(vgpu_type(&world, &vf), "1150", "it is theirs now");
}
