//! Kills at every write of a start and a stop with a weight, and of an Intel GPU being set: no VF keeps turns that
//! nobody runs with, and no guest loses the turns it was started with.

use std::time::Duration;

use crate::support::spec::HostSpec;
use crate::support::world::{Rehearsal, World, wait};

const PF: &str = "0000:03:00.0";
const SET: &str = "gpu set 0000:03:00.0 --vfs 4";

/// What the admin wrote by hand before, and what the weight makes.
const BEFORE: [&str; 2] = ["7", "0"];
const WEIGHED: [&str; 2] = ["80", "160000"];

/// A service at rest with four VFs, and a domain that names the first one; it runs if `running`.
fn world(running: bool) -> World {
    let mut world = World::new(HostSpec::xe());
    world.serve();
    world.ok(SET);
    world.ok("profile create critical --framebuffer 5GiB --weight 40");
    world.define("web1", 11);
    world.ok("attach web1 --profile critical");
    let path = format!("{}/exec_quantum_ms", profile(&world, &world.devices("web1")[0]));
    world.host.by_hand(&path, BEFORE[0]).expect("an attribute");
    if running {
        world.start("web1").expect("room");
    }
    world.stop_service();
    world
}

/// The directory of a VF in `sriov_admin/`.
fn profile(world: &World, vf: &str) -> String {
    let dir = "sys/devices/pci0000:00/0000:00:02.0/0000:03:00.0";
    let link = |index: &u32| {
        let target = std::fs::read_link(world.host.root().join(format!("{dir}/virtfn{index}")));
        target.expect("few VFs").ends_with(vf)
    };
    format!("{dir}/sriov_admin/vf{}/profile", (0..12).find(link).expect("a VF of the PF") + 1)
}

fn turns(world: &World) -> [String; 2] {
    let profile = profile(world, &world.devices("web1")[0]);
    ["exec_quantum_ms", "preempt_timeout_us"].map(|name| {
        let text = std::fs::read_to_string(world.host.root().join(format!("{profile}/{name}")));
        text.expect("an attribute").trim_end().to_owned()
    })
}

fn act(world: &World, running: bool) {
    if running { world.stop("web1") } else { drop(world.start("web1")) }
}

/// Dies at one point and comes back. Returns whether the point was reached.
fn visit(running: bool, at: u64) -> bool {
    let mut world = world(running);
    world.rehearse(&Rehearsal { crash_at: Some(at), log: None });
    act(&world, running);
    let died = world.come_back();
    if super::is_running(&world, "web1") {
        assert_eq!(turns(&world), WEIGHED, "at {at}: the guest runs with them");
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(turns(&world), WEIGHED, "at {at}: and keeps them");
        world.stop("web1");
    }
    wait(&format!("at {at}: they are as before"), || (turns(&world) == BEFORE).then_some(()));
    world.start("web1").unwrap_or_else(|line| panic!("at {at}: {line}"));
    assert_eq!(turns(&world), WEIGHED, "at {at}: the next start sets them");
    world.stop("web1");
    wait(&format!("at {at}: they are as before again"), || (turns(&world) == BEFORE).then_some(()));
    died
}

#[test]
fn a_kill_at_any_write_of_a_start_or_stop_with_a_weight_leaves_no_turns_behind() {
    super::sweep("a start with a weight", 4, |at| visit(false, at));
    super::sweep("a stop with a weight", 4, |at| visit(true, at));
}

fn bound(world: &World) -> usize {
    let gpus = world.json("gpus");
    let gpu = gpus["gpus"].as_array().expect("GPUs").iter().find(|gpu| gpu["name"] == PF).expect("the GPU");
    let vfs = gpu["sriov"]["vfs"].as_array().expect("VFs");
    vfs.iter().filter(|vf| vf["driver"] == "vfio-pci").count()
}

/// Dies at one point of the GPU being set and comes back. Returns whether the point was reached.
fn visit_set(at: u64) -> bool {
    let mut world = World::new(HostSpec::xe());
    world.define("nobody", 999);
    world.rehearse(&Rehearsal { crash_at: Some(at), log: None });
    drop(world.ctl(SET));
    let died = world.come_back();
    wait(&format!("at {at}: nothing is under way"), || {
        world.json("status")["unfinished"].as_array().is_some_and(Vec::is_empty).then_some(())
    });
    if world.step("vfs", PF)["state"] != serde_json::Value::Null {
        wait(&format!("at {at}: what is remembered is so"), || (bound(&world) == 4).then_some(()));
    }
    world.ok(SET);
    assert_eq!(bound(&world), 4, "at {at}: the same request works");
    assert!(world.ok(SET).contains("nothing to change"), "at {at}: and is met");
    died
}

#[test]
fn a_kill_at_any_write_of_an_intel_gpu_being_set_leaves_it_whole_or_undone() {
    super::sweep("a setting of an Intel GPU", 6, visit_set);
}
