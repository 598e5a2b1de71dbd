//! Kills at every write of a GPU being divided by MIG: afterwards it is divided as it is remembered, or nothing is
//! remembered and the same request works.

use crate::support::nvidia::{GPUS, Nvidia};
use crate::support::world::{Rehearsal, World, wait};

const A: &str = GPUS[0];
const DIVIDE: &str = "gpu set 41:00.0 --vfs 8 --mig 3g.40gb,1g.10gb,1g.10gb";
const OTHERWISE: &str = "gpu set 41:00.0 --vfs 8 --mig 1g.10gb,2g.20gb,2g.20gb";
const OFF: &str = "gpu set 41:00.0 --vfs 0 --mig off";

/// Whether the GPU is as a request wants it.
fn is_so(nvidia: &Nvidia, request: &str) -> bool {
    let instances = nvidia.instances(A).join(",");
    let (mig, vfs) = (nvidia.get(A, "mig"), nvidia.get(A, "vfs"));
    match request {
        DIVIDE => (mig, vfs, instances) == ("1".into(), "8".into(), "3g.40gb,1g.10gb,1g.10gb".into()),
        OTHERWISE => (mig, vfs, instances) == ("1".into(), "8".into(), "2g.20gb,2g.20gb,1g.10gb".into()),
        _ => (mig, vfs) == ("0".into(), "0".into()),
    }
}

/// Dies at one point of `request` and comes back. Returns whether the point was reached.
fn visit(before: &[&str], request: &str, at: u64) -> bool {
    let (nvidia, mut world) = Nvidia::with_mig();
    world.define("nobody", 999);
    if !before.is_empty() {
        world.serve();
        before.iter().for_each(|words| drop(world.ok(words)));
        world.stop_service();
    }
    world.rehearse(&Rehearsal { crash_at: Some(at), log: None });
    drop(world.ctl(request));
    let died = world.come_back();
    wait(&format!("{request} at {at}: nothing is under way"), || {
        world.json("status")["unfinished"].as_array().is_some_and(Vec::is_empty).then_some(())
    });
    settled(&nvidia, &world, &format!("{request} at {at}"));
    world.ok(request);
    assert!(is_so(&nvidia, request), "{request} at {at}: the same request works");
    assert!(world.ok(request).contains("nothing to change"), "{request} at {at}: and is met");
    died
}

/// What is remembered is brought about, unless there are no VFs for it: then that is said.
fn settled(nvidia: &Nvidia, world: &World, when: &str) {
    wait(&format!("{when}: what is remembered is so"), || {
        let mode = world.step("mig", A);
        if mode["state"].is_null() {
            return Some(());
        }
        let is_on = nvidia.get(A, "mig") == "1";
        let as_wished = mode["state"] == "done" && (mode["wanted"] == "MIG mode on") == is_on;
        let instances = world.step("instances", A);
        let why = instances["why"].as_str().or(instances["waits_for"].as_str()).unwrap_or_default();
        let divided = instances["state"].is_null() || instances["state"] == "done" || why.contains("VFs");
        (as_wished && divided).then_some(())
    });
}

fn sweep(before: &[&str], request: &str, least: u64) {
    super::sweep(request, least, |at| visit(before, request, at));
}

#[test]
fn a_kill_at_any_write_of_a_division_leaves_it_whole_or_undone() {
    sweep(&[], DIVIDE, 8);
}

#[test]
fn a_kill_at_any_write_of_another_division_leaves_one_of_the_two() {
    sweep(&[DIVIDE], OTHERWISE, 2);
}

#[test]
fn a_kill_at_any_write_of_mig_mode_going_off_leaves_it_on_or_off() {
    sweep(&[DIVIDE], OFF, 8);
}
