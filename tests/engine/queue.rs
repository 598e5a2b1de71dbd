//! Starts that wait for room.

use std::process::{Child, Stdio};

use crate::kit::{HALF, domains, two_gpus};
use crate::support::world::{World, stderr, wait};

/// Two GPUs that are full of running domains `full1` to `full4`.
fn full() -> World {
    let world = two_gpus();
    world.install_hook();
    world.ok(&format!("profile create urgent --type {HALF} --priority 50"));
    domains(&world, "half", &["full1", "full2", "full3", "full4", "low", "other"]);
    world.define("high", 200);
    world.ok("attach high --profile urgent");
    for name in ["full1", "full2", "full3", "full4"] {
        world.start(name).expect("room");
    }
    world
}

/// Starts a domain that waits, aside.
fn waiting(world: &World, words: &str) -> Child {
    let mut command = world.command(env!("CARGO_BIN_EXE_vgpuctl"));
    command.args(words.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("vgpuctl runs")
}

/// The domains that wait, in order.
fn line(world: &World) -> Vec<String> {
    let queue = world.json("queue");
    let waiting = queue["waiting"].as_array().expect("a list").iter();
    waiting.filter_map(|one| Some(one["domain"].as_str()?.to_owned())).collect()
}

fn wait_line(world: &World, expected: &[&str]) {
    wait(&format!("{expected:?} wait"), || (line(world) == expected).then_some(()));
}

#[test]
fn starts_that_wait_are_served_by_priority_as_room_comes() {
    let world = full();
    let low = waiting(&world, "start low --wait --timeout 60s");
    wait_line(&world, &["low"]);
    let high = waiting(&world, "start high --wait --timeout 60s");
    wait_line(&world, &["high", "low"]);
    let status = world.ok("status");
    assert!(status.contains("waiting for room:") && status.contains("  1  high"), "{status}");
    let twice = world.ctl("start low --wait");
    assert_eq!(twice.status.code(), Some(5), "{}", stderr(&twice));
    world.stop("full1");
    let high = high.wait_with_output().expect("an end");
    assert!(high.status.success(), "{}", stderr(&high));
    assert!(stderr(&high).contains("domain high waited"), "{}", stderr(&high));
    assert!(world.live_file("high").exists());
    // A reading of the host that is half before and half after a start may let the next one try; the driver
    // refuses it, and it waits on.
    wait("low waits on", || (line(&world) == ["low"] && !world.live_file("low").exists()).then_some(()));
    world.stop("full2");
    let low = low.wait_with_output().expect("an end");
    assert!(low.status.success(), "{}", stderr(&low));
    wait_line(&world, &[]);
    let history = world.json("history --domain low");
    let mut verbs: Vec<String> = history["entries"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| {
            format!("{} {}", entry["verb"].as_str().unwrap_or(""), entry["outcome"].as_str().unwrap_or(""))
        })
        .collect();
    verbs.reverse();
    assert!(verbs.iter().any(|verb| verb.starts_with("wait waits for room, at most 60 s: ")), "{verbs:?}");
    assert!(verbs.contains(&"start --wait done".to_owned()), "{verbs:?}");
}

#[test]
fn a_wait_ends_with_its_time_its_caller_or_a_word() {
    let world = full();
    let over = world.ctl("start low --wait --timeout 1s");
    assert_eq!(over.status.code(), Some(6), "{}", stderr(&over));
    assert!(stderr(&over).contains("the time to wait is over"), "{}", stderr(&over));
    let mut gone = waiting(&world, "start low --wait");
    wait_line(&world, &["low"]);
    gone.kill().expect("a process of ours");
    gone.wait().expect("an end");
    wait_line(&world, &[]);
    let cancelled = waiting(&world, "start other --wait");
    wait_line(&world, &["other"]);
    assert!(world.ok("queue cancel other").contains("waits no longer"));
    let cancelled = cancelled.wait_with_output().expect("an end");
    assert_eq!(cancelled.status.code(), Some(5), "{}", stderr(&cancelled));
    assert!(stderr(&cancelled).contains("was cancelled"), "{}", stderr(&cancelled));
    assert!(world.ok("queue cancel other").contains("nothing to change"), "it waits no longer");
    assert_eq!(world.ok("queue"), "no start waits\n");
    world.stop("full1");
    assert!(!world.live_file("low").exists() && !world.live_file("other").exists());
}
