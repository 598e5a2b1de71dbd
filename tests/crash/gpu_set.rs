//! Kills at every write of a GPU being set: afterwards it is set as it is remembered, or nothing is remembered and the
//! same request works.

use crate::support::nvidia::{GPUS, Nvidia};
use crate::support::world::{Rehearsal, World, wait};

const SET: &str = "gpu set 41:00.0 --vfs 8 --mode mixed --scheduler equal-share";

fn is_set(nvidia: &Nvidia) -> bool {
    let is = |key: &str, value: &str| nvidia.get(GPUS[0], key) == value;
    is("vfs", "8") && is("mode", "mixed") && is("scheduler", "equal-share")
}

fn remembered(world: &World) -> bool {
    world.step("mode", GPUS[0])["state"] != serde_json::Value::Null
}

/// Dies at one point and comes back. Returns whether the point was reached.
fn visit(at: u64) -> bool {
    let (nvidia, mut world) = Nvidia::new();
    world.define("nobody", 999);
    world.rehearse(&Rehearsal { crash_at: Some(at), log: None });
    drop(world.ctl(SET));
    let died = world.come_back();
    wait(&format!("at {at}: nothing is under way"), || {
        world.json("status")["unfinished"].as_array().is_some_and(Vec::is_empty).then_some(())
    });
    if remembered(&world) {
        wait(&format!("at {at}: what is remembered is so"), || is_set(&nvidia).then_some(()));
    }
    world.ok(SET);
    assert!(is_set(&nvidia), "at {at}: the same request works");
    assert!(world.ok(SET).contains("nothing to change"), "at {at}: and is met");
    died
}

#[test]
fn a_kill_at_any_write_of_a_setting_leaves_it_whole_or_undone() {
    super::sweep("a setting of an NVIDIA GPU", 6, visit);
}
