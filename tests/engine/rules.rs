//! Policies and rules with the real binaries: which GPU a start gets, and why it gets none.

use crate::kit::{HALF, device, place};
use crate::support::spec::HostSpec;
use crate::support::world::World;

const A: &str = "0000:41:00.0";
const C: &str = "0000:c1:00.0";

/// Two GPUs, each on a NUMA node of its own, with a configuration.
fn world(config: &str) -> World {
    let mut world = World::new(HostSpec::dual_gpu());
    world.host.put("etc/vgpud/vgpud.toml", config);
    world.serve();
    world
}

fn attach(world: &World, number: u32, name: &str, options: &str) {
    world.define(name, number);
    world.ok(&format!("attach {name} {options}"));
}

/// The GPU on which a device of a running domain is.
fn gpu_of(world: &World, device: &str) -> &'static str {
    let place = place(world, device);
    if place.contains("/0000:41:") { A } else { C }
}

fn gpu(world: &World, name: &str) -> &'static str {
    gpu_of(world, &device(world, name))
}

fn start(world: &World, name: &str) -> &'static str {
    world.start(name).unwrap_or_else(|why| panic!("{name}: {why}"));
    gpu(world, name)
}

#[test]
fn classes_are_kept_apart_and_share_a_gpu_only_where_overflow_is_allowed() {
    let world = world("[placement]\nseparate = [[\"render\", \"ai\"]]\n");
    for class in ["render", "ai"] {
        world.ok(&format!("profile create {class} --type {HALF} --class {class}"));
    }
    for (number, name) in ["render1", "render2", "render3", "ai1", "ai2"].into_iter().enumerate() {
        let number = 100 + u32::try_from(number).expect("few");
        attach(&world, number, name, &format!("--profile {}", name.trim_end_matches(char::is_numeric)));
    }
    assert_eq!((start(&world, "render1"), start(&world, "ai1")), (A, C));
    assert_eq!(start(&world, "render2"), A, "a class stays on the GPU it has");
    let refused = world.start("render3").expect_err("its GPU is full, the other one is of another class");
    assert!(refused.contains("has slices of class ai, from which class render is kept apart"), "{refused}");
    world.ok("profile edit render --overflow on");
    assert_eq!(start(&world, "render3"), C, "the other GPU, because its own is full");
    let refused = world.start("ai2").expect_err("both are full or of another class");
    assert!(refused.contains("has slices of class render, from which class ai is kept apart"), "{refused}");
    world.stop("render1");
    world.stop("render3");
    assert_eq!(start(&world, "render3"), A, "it goes back to where its class is");
    assert_eq!(start(&world, "ai2"), C);
}

#[test]
fn policies_choose_each_in_its_own_way_and_a_round_outlives_the_service() {
    let mut world = world("[placement]\npolicy = \"pack\"\n");
    let quarter = "--framebuffer 12GiB";
    world.ok(&format!("profile create host {quarter}"));
    world.ok(&format!("profile create round {quarter} --policy round-robin"));
    world.ok(&format!("profile create order {quarter} --policy priority --order {C},{A}"));
    world.ok(&format!("profile create spread {quarter} --policy spread"));
    for (number, name) in
        ["host1", "host2", "round1", "round2", "round3", "order1", "spread1"].into_iter().enumerate()
    {
        let number = 100 + u32::try_from(number).expect("few");
        attach(&world, number, name, &format!("--profile {}", name.trim_end_matches(char::is_numeric)));
    }
    assert_eq!((start(&world, "host1"), start(&world, "host2")), (A, A), "packed, as vgpud.toml says");
    assert_eq!(start(&world, "spread1"), C);
    world.stop("host1");
    world.stop("host2");
    world.stop("spread1");
    assert_eq!(start(&world, "round1"), A);
    world.stop_service();
    world.serve();
    assert_eq!(start(&world, "round2"), C, "the round goes on after a restart of the service");
    assert_eq!(start(&world, "round3"), A);
    assert_eq!(start(&world, "order1"), C);
    let explained = world.ok("profile explain host");
    assert!(explained.starts_with("profile host: framebuffer 12GiB, policy pack\n"), "{explained}");
    assert!(explained.contains("used 50.0 %"), "two of four on each: {explained}");
}

#[test]
fn an_owner_gets_no_more_than_its_limit() {
    let world = world("[placement.quota.alice]\nslices = 2\nframebuffer = \"30GiB\"\n");
    world.ok(&format!("profile create half --type {HALF}"));
    world.ok("profile create small --framebuffer 2GiB");
    attach(&world, 100, "a1", "--profile half --owner alice");
    attach(&world, 101, "a2", "--profile half --owner alice");
    attach(&world, 102, "a3", "--profile small --owner alice");
    attach(&world, 103, "a4", "--profile small --owner alice");
    attach(&world, 104, "b1", "--profile half");
    world.start("a1").expect("within the limit");
    let refused = world.start("a2").expect_err("too much framebuffer");
    assert!(refused.contains("owner alice has 24576 of at most 30720 MiB"), "{refused}");
    world.start("a3").expect("2 GiB more");
    let refused = world.start("a4").expect_err("a third slice");
    assert!(refused.contains("owner alice has 2 of at most 2 slices"), "{refused}");
    world.start("b1").expect("nobody limits others");
    world.stop("a3");
    world.start("a4").expect("one of two again");
    world.settles_to(
        &["a1", "a4", "b1"].map(|name| device(&world, name)),
        "nothing of the refused starts is left",
    );
}

#[test]
fn the_numa_node_of_the_memory_is_required_or_preferred() {
    let world = world("");
    world.ok(&format!("profile create near --type {HALF} --numa require"));
    world.ok(&format!("profile create nearer --type {HALF} --numa prefer"));
    for (number, name, profile) in
        [(100, "n1", "near"), (101, "n2", "near"), (102, "n3", "near"), (103, "p1", "nearer")]
    {
        attach(&world, number, name, &format!("--profile {profile}"));
        let tuned = "<numatune><memory mode='strict' nodeset='1'/></numatune>\n  <devices>";
        world.set_xml(name, &world.xml(name).replace("<devices>", tuned));
    }
    assert_eq!((start(&world, "n1"), start(&world, "n2")), (C, C));
    let refused = world.start("n3").expect_err("the node's GPU is full");
    assert!(refused.contains("is on NUMA node 0, and the domain's memory on 1"), "{refused}");
    assert_eq!(start(&world, "p1"), A, "preferred only");
}

#[test]
fn the_slices_of_a_domain_are_together_or_apart() {
    let world = world("");
    world.ok(&format!("profile create half --type {HALF}"));
    attach(&world, 100, "both", "--profile half --count 2 --together");
    attach(&world, 101, "apart", "--profile half --count 2 --apart");
    let gpus = |name: &str| -> Vec<&str> {
        world.start(name).unwrap_or_else(|why| panic!("{name}: {why}"));
        world.devices(name).iter().map(|device| gpu_of(&world, device)).collect()
    };
    assert_eq!(gpus("both"), [A, A]);
    let refused = world.start("apart").expect_err("one GPU is full");
    assert!(refused.contains("its slices shall be apart, and there are not enough GPUs"), "{refused}");
    world.stop("both");
    let mut apart = gpus("apart");
    apart.sort_unstable();
    assert_eq!(apart, [A, C]);
    let refused = world.start("both").expect_err("one is left on each");
    assert!(refused.contains("together on one GPU"), "{refused}");
    world.ok("allocation set both --siblings any");
    world.start("both").expect("anywhere");
}
