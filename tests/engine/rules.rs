//! Policies and rules with the real binaries: which GPU a start gets, and why it gets none.

use crate::kit::{HALF, device, place};
use crate::support::spec::HostSpec;
use crate::support::world::{World, wait};

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

#[test]
fn a_start_can_be_explained_long_after_it() {
    let world = world("[placement]\nseparate = [[\"render\", \"ai\"]]\n");
    for class in ["render", "ai"] {
        world.ok(&format!("profile create {class} --type {HALF} --class {class} --policy pack"));
    }
    attach(&world, 100, "r1", "--profile render");
    attach(&world, 101, "a1", "--profile ai");
    assert_eq!((start(&world, "r1"), start(&world, "a1")), (A, C));
    let entry_of = |domain: &str| {
        let history = world.json(&format!("history --domain {domain}"));
        let entries = history["entries"].as_array().expect("a list").clone();
        entries.into_iter().find(|entry| entry["verb"] == "prepare").expect("a start")
    };
    let id = entry_of("a1")["allocations"][0].as_str().expect("an id").to_owned();
    let before = world.ok(&format!("explain {id}"));
    assert!(before.contains("has its slice now"), "{before}");
    world.stop("r1");
    world.stop("a1");
    wait("the host is empty again", || {
        let now = world.json("explain ai")["decisions"][0]["chosen"].clone();
        now.as_str().is_some_and(|parent| parent.starts_with("0000:41:")).then_some(())
    });
    let number = entry_of("a1")["number"].as_i64().filter(|number| *number > 0);
    let number = number.unwrap_or_else(|| {
        // It gets its number when it is stored, within a second.
        world.ok(&format!("explain {id}"));
        entry_of("a1")["number"].as_i64().expect("a number")
    });
    let told = world.ok(&format!("explain #{number}"));
    assert!(told.contains("prepare of domain a1: done"), "{told}");
    assert!(told.contains("profile ai: type nvidia-564, policy pack"), "{told}");
    assert!(told.contains("chosen: 0000:c1:") && told.contains("won: used 0.0 %"), "{told}");
    assert!(told.contains("has slices of class render, from which class ai is kept apart"), "{told}");
    let none = world.ctl("explain #999999");
    assert_eq!(none.status.code(), Some(4));
    assert_eq!(world.ctl("explain nothing").status.code(), Some(4));
}

#[test]
fn capacity_says_what_is_left_and_what_is_in_the_way() {
    let world = world("");
    world.ok(&format!("profile create half --type {HALF}"));
    world.ok("profile create small --framebuffer 2GiB");
    for (number, name) in [(100, "h1"), (101, "h2"), (102, "h3")] {
        attach(&world, number, name, "--profile half");
    }
    let empty = world.json("capacity");
    let counts = |answer: &serde_json::Value| -> Vec<(u64, u64)> {
        let profiles = answer["profiles"].as_array().expect("a list").iter();
        let pair = |one: &serde_json::Value| Some((one["possible"].as_u64()?, one["if_emptied"].as_u64()?));
        profiles.filter_map(pair).collect()
    };
    assert_eq!(counts(&empty), [(4, 4), (48, 48)]);
    assert_eq!(empty["free_mib"], 98_304);
    assert!(empty["mix"].as_str().is_some_and(|mix| mix.contains("3 allocations")), "{empty}");
    for name in ["h1", "h2", "h3"] {
        world.start(name).expect("room");
    }
    let full = wait("the newest reading of the host", || {
        let answer = world.json("capacity");
        (answer["free_mib"] == 24_576).then_some(answer)
    });
    // One size to a GPU at a time: what is left of both is for halves only, and small ones find nothing.
    assert_eq!(counts(&full), [(1, 4), (0, 48)]);
    assert_eq!(full["stranded_mib"], 0);
    assert_eq!(full["fragmentation"], 0, "only halves were started");
    assert_eq!(full["largest"]["mib"], 24_576);
    let drawn = world.ok("capacity");
    assert!(drawn.contains(&format!("[{}]", "A".repeat(24) + &"B".repeat(24))), "{drawn}");
    assert!(drawn.contains(&format!("[{}]", "A".repeat(24) + &".".repeat(24))), "{drawn}");
    assert!(drawn.contains("in the way of small:"), "{drawn}");
}
