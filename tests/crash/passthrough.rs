//! Kills at every write of a start and a stop with a whole GPU: no function stays between two drivers.

use std::time::Duration;

use crate::support::spec::HostSpec;
use crate::support::world::{Rehearsal, World, wait};

/// A service at rest, with a domain that names a VF; it runs if `running`.
fn world(running: bool) -> World {
    let mut world = World::new(HostSpec::cards());
    world.serve();
    world.ok("profile create card --gpu any");
    world.define("web1", 11);
    world.ok("attach web1 --profile card");
    if running {
        world.start("web1").expect("room");
    }
    world.stop_service();
    world
}

fn act(world: &World, running: bool) {
    if running { world.stop("web1") } else { drop(world.start("web1")) }
}

fn drivers(world: &World) -> Vec<String> {
    let of = |function: &str| {
        let link = world.host.root().join(format!("sys/bus/pci/devices/{function}/driver"));
        let target = std::fs::read_link(link).unwrap_or_else(|_| "none".into());
        target.file_name().expect("a name").to_string_lossy().into_owned()
    };
    world.devices("web1").iter().map(|function| of(function)).collect()
}

const HOST: [&str; 2] = ["amdgpu", "snd_hda_intel"];
const VFIO: [&str; 2] = ["vfio-pci", "vfio-pci"];

/// Dies at one point and comes back. Returns whether the point was reached.
fn visit(running: bool, at: u64) -> bool {
    let mut world = world(running);
    world.rehearse(&Rehearsal { crash_at: Some(at), log: None });
    act(&world, running);
    let died = world.come_back();
    if super::is_running(&world, "web1") {
        assert_eq!(drivers(&world), VFIO, "at {at}: the guest runs on it");
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(drivers(&world), VFIO, "at {at}: and keeps it");
        world.stop("web1");
    }
    wait(&format!("at {at}: it is given back"), || (drivers(&world) == HOST).then_some(()));
    world.start("web1").unwrap_or_else(|line| panic!("at {at}: {line}"));
    world.stop("web1");
    wait(&format!("at {at}: it is given back again"), || (drivers(&world) == HOST).then_some(()));
    died
}

#[test]
fn a_kill_at_any_write_of_a_start_or_stop_with_a_whole_gpu_leaves_no_function_between_drivers() {
    super::sweep("a start with a whole GPU", 4, |at| visit(false, at));
    super::sweep("a stop with a whole GPU", 4, |at| visit(true, at));
}
