//! What the vendors' rules forbid is refused where it would come about: at the attach.

use crate::kit::allocations;
use crate::support::spec::HostSpec;
use crate::support::world::{World, stderr};

/// Two GPUs with mediated types of three series, a profile of each of two, and a domain with a slice of the first.
fn with_one_q() -> World {
    let mut world = World::new(HostSpec::dual_gpu());
    world.serve();
    world.ok("profile create q8 --type A40-8Q");
    world.ok("profile create q4 --type A40-4Q");
    world.ok("profile create c8 --type A40-8C");
    world.define("web1", 101);
    world.ok("attach web1 --profile q8");
    world
}

#[test]
fn a_second_series_in_one_domain_is_refused_and_leaves_nothing() {
    let world = with_one_q();
    let before = (world.xml("web1"), allocations(&world, "web1"));
    for options in ["", " --dry-run"] {
        let refused = world.ctl(&format!("attach web1 --profile c8{options}"));
        let text = stderr(&refused);
        assert_eq!(refused.status.code(), Some(5), "{options}: {text}");
        for part in
            ["A40-8Q", "A40-8C", "two boards or series", "nv-multi-vgpu-board", "vgpuctl check --rules"]
        {
            assert!(text.contains(part), "{options}: {part:?} is not in: {text}");
        }
        assert_eq!((world.xml("web1"), allocations(&world, "web1")), before, "{options}");
    }
    world.ok("check web1");
    world.ok("attach web1 --profile q4");
    assert_eq!(world.devices("web1").len(), 2, "another framebuffer of the same series is allowed");
}

#[test]
fn what_was_there_before_does_not_stand_in_the_way_of_others() {
    let world = with_one_q();
    // Of two series by hand: a fault of web1's, told by check, and not of web2's.
    world.define("web2", 102);
    world.ok("attach web2 --profile c8");
    let hostdev = |name: &str| {
        let xml = world.xml(name);
        let start = xml.find("<hostdev").expect("a hostdev");
        let end = xml.find("</hostdev>").expect("its end") + "</hostdev>".len();
        xml[start..end].to_owned()
    };
    let both = world.xml("web1").replace("</devices>", &format!("{}</devices>", hostdev("web2")));
    world.set_xml("web1", &both);
    let checked = world.ctl("check web1");
    assert_eq!(checked.status.code(), Some(1), "{}", stderr(&checked));
    world.define("web3", 103);
    world.ok("attach web3 --profile c8");
    world.ok("attach web1 --profile q4");
}
