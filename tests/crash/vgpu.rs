//! Kills at every write of a start and a stop whose slice is a vGPU on a VF: nothing on the host says whose it is.

use std::time::Duration;

use crate::support::spec::HostSpec;
use crate::support::world::{Rehearsal, World, wait};

/// A service at rest, with a domain that names a VF; it runs if `running`.
fn world(running: bool) -> World {
    let mut world = World::new(HostSpec::vgpu_vfs());
    world.serve();
    world.ok("profile create eight --type L40S-8Q --parameters frame_rate_limiter=0");
    world.define("web1", 11);
    world.ok("attach web1 --profile eight");
    if running {
        world.start("web1").expect("room");
    }
    world.stop_service();
    world
}

fn act(world: &World, running: bool) {
    if running { world.stop("web1") } else { drop(world.start("web1")) }
}

fn attribute(world: &World, name: &str) -> String {
    let vf = world.devices("web1")[0].clone();
    let path = world.host.root().join(format!("sys/bus/pci/devices/{vf}/nvidia/{name}"));
    std::fs::read_to_string(path).expect("an attribute").trim_end().to_owned()
}

fn type_of(world: &World) -> String {
    attribute(world, "current_vgpu_type")
}

/// Dies at one point and comes back. Returns whether the point was reached.
fn visit(running: bool, at: u64) -> bool {
    let mut world = world(running);
    world.rehearse(&Rehearsal { crash_at: Some(at), log: None });
    act(&world, running);
    let died = world.come_back();
    if super::is_running(&world, "web1") {
        assert_eq!(type_of(&world), "1155", "at {at}: the guest runs on it");
        assert_eq!(attribute(&world, "vgpu_params"), "frame_rate_limiter=0", "at {at}: with its parameters");
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(type_of(&world), "1155", "at {at}: and keeps it");
        world.stop("web1");
    }
    wait(&format!("at {at}: it is given back"), || (type_of(&world) == "0").then_some(()));
    world.start("web1").unwrap_or_else(|line| panic!("at {at}: {line}"));
    world.stop("web1");
    wait(&format!("at {at}: it is given back again"), || (type_of(&world) == "0").then_some(()));
    died
}

#[test]
fn a_kill_at_any_write_of_a_start_or_stop_with_a_vgpu_leaks_and_loses_nothing() {
    super::sweep("a start with a vGPU on a VF", 4, |at| visit(false, at));
    super::sweep("a stop with a vGPU on a VF", 4, |at| visit(true, at));
}
