//! Plugin parameters of NVIDIA's vGPUs: in the vGPU before its guest has it, on both roads, and never those of before.

use nix::errno::Errno;

use crate::kit::{self, device, domains, vgpu_attribute, vgpu_type};
use crate::support::spec::HostSpec;
use crate::support::world::World;

const SLOW: &str = "frame_rate_limiter=1,disable_vnc=1";

fn on_vfs() -> World {
    let mut world = World::new(HostSpec::vgpu_vfs());
    world.serve();
    world.ok(&format!("profile create eight --type L40S-8Q --parameters {SLOW}"));
    world.define("nobody", 999);
    world
}

fn parameters(world: &World, vf: &str) -> String {
    vgpu_attribute(world, vf, "vgpu_params")
}

/// The values that were written into `vgpu_params`, in their order.
fn written(world: &World) -> Vec<String> {
    let of_plugin = |path: &str| path.ends_with("/nvidia/vgpu_params");
    world.host.writes().into_iter().filter(|one| of_plugin(&one.path)).map(|one| one.value).collect()
}

#[test]
fn a_vf_has_them_before_its_guest_and_loses_them_with_its_type() {
    let world = on_vfs();
    domains(&world, "eight", &["web1"]);
    world.start("web1").expect("room");
    let vf = device(&world, "web1");
    assert_eq!((vgpu_type(&world, &vf).as_str(), parameters(&world, &vf).as_str()), ("1155", SLOW));
    world.stop("web1");
    assert_eq!(written(&world), [SLOW], "once, and nothing is written to take them away");
    let shown = world.ok("profile show eight");
    assert!(shown.contains(SLOW), "{shown}");
    let notes = world.ok("profile explain eight");
    assert!(notes.contains(&format!("plugin parameters {SLOW}: ")), "{notes}");
    assert!(notes.contains("gives them to the vGPU before its guest starts"), "{notes}");
}

#[test]
fn a_guaranteed_vgpu_follows_its_profile_at_the_next_start() {
    let world = on_vfs();
    world.define("web1", 101);
    world.ok("attach web1 --profile eight --mode guaranteed");
    let vf = device(&world, "web1");
    assert_eq!((vgpu_type(&world, &vf).as_str(), parameters(&world, &vf).as_str()), ("1155", SLOW));
    for _ in 0..2 {
        world.start("web1").expect("it is there");
        assert_eq!(parameters(&world, &vf), SLOW);
        world.stop("web1");
    }
    assert_eq!(written(&world), [SLOW], "what is so already is not written again");
    let told = world.ok("profile edit eight --no-parameters");
    assert!(told.contains("next start: no plugin parameters"), "{told}");
    assert_eq!(parameters(&world, &vf), SLOW, "until the next start");
    world.start("web1").expect("it is there");
    assert_eq!((vgpu_type(&world, &vf).as_str(), parameters(&world, &vf).as_str()), ("1155", ""));
    world.stop("web1");
    assert_eq!(written(&world), [SLOW, " "], "a space takes them away");
}

#[test]
fn a_mediated_device_has_them_too() {
    let world = kit::two_gpus();
    world.ok(&format!("profile edit half --parameters {SLOW}"));
    domains(&world, "half", &["web1"]);
    world.start("web1").expect("room");
    let uuid = device(&world, "web1");
    let path = world.host.root().join(format!("sys/bus/mdev/devices/{uuid}/nvidia/vgpu_params"));
    assert_eq!(std::fs::read_to_string(path).expect("an attribute").trim_end(), SLOW);
    world.stop("web1");
}

#[test]
fn elsewhere_they_mean_nothing_and_explain_says_so() {
    let world = kit::lab();
    world.ok(&format!("profile edit small --parameters {SLOW}"));
    domains(&world, "small", &["web1"]);
    world.start("web1").expect("room");
    world.stop("web1");
    let notes = world.ok("profile explain small");
    assert!(notes.contains(&format!("plugin parameters {SLOW}: mtty has none")), "{notes}");
}

#[test]
fn a_refusal_says_what_to_do_and_nothing_of_the_start_is_left() {
    let world = on_vfs();
    domains(&world, "eight", &["web1"]);
    for (errno, hint) in [
        (Errno::EINVAL, "--no-parameters"),
        (Errno::EPERM, "nvidia-vgpu-mgr"),
        (Errno::EIO, "nvidia-vgpu-mgr"),
    ] {
        world.host.fail("vgpu_params", 1, errno);
        let line = world.start("web1").expect_err("the driver refuses");
        assert!(line.contains("set plugin parameters") && line.contains(hint), "{errno}: {line}");
        assert!(line.contains("profile eight for domain web1"), "{line}");
        assert_eq!(vgpu_type(&world, &device(&world, "web1")), "0", "{errno}");
    }
    world.start("web1").expect("now it takes them");
    world.stop("web1");
    for wrong in ["uvm", "enable_uvm", "a=1,a=2", "vgpu-placement-id=4"] {
        let output = world.ctl(&format!("profile edit eight --parameters {wrong}"));
        assert_eq!(output.status.code(), Some(2), "{wrong}: {output:?}");
    }
}

#[test]
fn what_they_forbid_is_found_before_a_guest_fails_on_it() {
    let world = on_vfs();
    world.ok("profile edit eight --parameters enable_uvm=1");
    domains(&world, "eight", &["web1"]);
    let found = world.ctl("check web1");
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(text.contains("nv-uvm-migration"), "{text} {found:?}");
}
