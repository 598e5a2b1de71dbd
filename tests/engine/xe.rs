//! Intel's xe: VFs with a share of the memory each, found by the share.

use crate::kit::{device, domains};
use crate::support::spec::HostSpec;
use crate::support::world::{World, stderr};

const PF: &str = "0000:03:00.0";

fn one_gpu() -> World {
    let mut world = World::new(HostSpec::xe());
    world.serve();
    world.ok("profile create five --framebuffer 5GiB");
    world.define("nobody", 999);
    world
}

#[test]
fn a_framebuffer_is_served_by_a_vf_whose_share_is_enough() {
    let world = one_gpu();
    world.ok(&format!("vfs set {PF} 4"));
    domains(&world, "five", &["web1", "web2"]);
    assert_ne!(device(&world, "web1"), device(&world, "web2"));
    for name in ["web1", "web2"] {
        assert!(world.xml(name).contains("type=\"pci\""), "{}", world.xml(name));
        world.start(name).unwrap_or_else(|line| panic!("{name}: {line}"));
    }
    let shown = world.ok("gpus");
    assert!(shown.contains("6GiB") && shown.contains("of web1"), "{shown}");
    for name in ["web1", "web2"] {
        world.stop(name);
        world.start(name).unwrap_or_else(|line| panic!("{name} again, settled: {line}"));
    }
}

#[test]
fn shares_that_are_too_small_are_told_with_what_to_do() {
    let world = one_gpu();
    world.define("web1", 101);
    let none = stderr(&world.ctl("attach web1 --profile five"));
    assert!(none.contains("vfs set 0000:03:00.0 N"), "{none}");
    world.ok(&format!("vfs set {PF} 8"));
    let small = stderr(&world.ctl("attach web1 --profile five"));
    assert!(small.contains("3GiB each"), "{small}");
    world.ok(&format!("vfs set {PF} 4"));
    world.ok("attach web1 --profile five");
    world.start("web1").expect("6 GiB are enough");
}
