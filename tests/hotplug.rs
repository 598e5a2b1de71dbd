//! Hot-plug by the service: made, plugged, seen in the live XML; a refused plug leaves nothing behind.

#[cfg(test)]
mod support;

#[cfg(test)]
mod hotplug {
    use crate::support::spec::HostSpec;
    use crate::support::world::{World, stderr, wait};

    /// A running domain without hostdevs.
    fn world() -> World {
        let mut world = World::new(HostSpec::lab());
        world.serve();
        world.ok("profile create small --type mtty-1");
        world.define("web1", 1);
        world.start("web1").expect("nothing is asked of us");
        world
    }

    fn mdev_of(world: &World) -> String {
        world.devices("web1").first().cloned().expect("a hostdev in the definition")
    }

    #[test]
    fn a_slice_is_plugged_into_the_guest_and_stays_in_the_definition() {
        let world = world();
        world.ok("attach web1 --profile small --live");
        let uuid = mdev_of(&world);
        assert!(world.live_xml("web1").contains(&uuid));
        assert!(world.host.hold(&uuid, "web1", 5001), "QEMU can open it");
        world.settles_to(&[uuid], "after the plug");
        let again = world.json("attach web1 --profile small --live");
        assert_eq!(again["change"], "unchanged");
    }

    #[test]
    fn an_unplugged_slice_is_given_back_when_the_guest_has_let_go() {
        let world = world();
        world.ok("attach web1 --profile small --live");
        let uuid = mdev_of(&world);
        assert!(world.host.hold(&uuid, "web1", 5001), "QEMU can open it");
        world.ok("detach web1 --live");
        assert!(!world.live_xml("web1").contains(&uuid));
        assert_eq!(world.host.mdevs(), std::slice::from_ref(&uuid), "a slice that is held is never removed");
        world.host.unhold(&uuid);
        wait("the next look gives it back", || {
            world.ok("detach web1 --live");
            world.host.mdevs().is_empty().then_some(())
        });
        assert_eq!(world.devices("web1"), Vec::<String>::new());
    }

    #[test]
    fn a_refused_plug_leaves_nothing_behind() {
        let world = world();
        world.set_live_xml(
            "web1",
            "<domain><name>web1</name><uuid>00000000-0000-4000-8000-000000000001</uuid></domain>",
        );
        let before = world.xml("web1");
        let refused = world.ctl("attach web1 --profile small --live");
        assert_eq!(refused.status.code(), Some(8), "{}", stderr(&refused));
        assert_eq!(world.xml("web1"), before);
        world.settles_to(&[], "after the refusal");
        assert_eq!(world.json("allocations")["allocations"], serde_json::json!([]));
    }

    #[test]
    fn a_domain_that_does_not_run_is_refused_with_what_to_do() {
        let world = world();
        world.define("web2", 2);
        let refused = world.ctl("attach web2 --profile small --live");
        assert_eq!(refused.status.code(), Some(5));
        assert!(stderr(&refused).contains("does not run"), "{}", stderr(&refused));
    }
}
