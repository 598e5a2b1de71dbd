//! Boot and reboot: what is remembered comes back, what somebody changed by hand is left alone.

#[cfg(test)]
mod support;

#[cfg(test)]
mod boot {
    use crate::support::spec::HostSpec;
    use crate::support::world::{World, wait};

    const PF: &str = "0000:01:00.0";

    fn world() -> World {
        let world = World::new(HostSpec::lab());
        world.host.put("etc/vgpud/vgpud.toml", "[devices]\ninclude = [\"8086:10c9\"]\n");
        world
    }

    /// Enabled VFs and how many of them are on vfio-pci.
    fn vfs(world: &World) -> (u64, usize) {
        let gpus = world.json("gpus");
        let pf = gpus["gpus"].as_array().expect("list").iter().find(|gpu| gpu["name"] == PF).expect("the PF");
        let vfs = pf["sriov"]["vfs"].as_array().expect("VFs");
        let bound = vfs.iter().filter(|vf| vf["driver"] == "vfio-pci").count();
        (pf["sriov"]["enabled"].as_u64().expect("a count"), bound)
    }

    #[test]
    fn vfs_come_back_after_a_reboot_and_slices_are_made_anew() {
        let mut world = world();
        world.serve();
        world.ok(&format!("vfs set {PF} 3"));
        world.ok("profile create small --type mtty-1");
        world.define("web1", 1);
        world.ok("attach web1 --profile small");
        world.start("web1").expect("room");
        world.kill_service();
        world.host.reboot();
        world.forget_running("web1");
        world.serve();
        assert_eq!(vfs(&world), (3, 3));
        assert_eq!(world.host.mdevs(), Vec::<String>::new());
        world.start("web1").expect("it starts again");
        world.settles_to(&world.devices("web1"), "after the reboot");
    }

    #[test]
    fn a_count_changed_by_hand_in_this_boot_is_shown_and_not_corrected() {
        let mut world = world();
        world.serve();
        world.ok(&format!("vfs set {PF} 3"));
        world.stop_service();
        let numvfs = "sys/devices/pci0000:00/0000:00:02.0/0000:01:00.0/sriov_numvfs";
        world.host.by_hand(numvfs, "0").expect("nobody holds a VF");
        world.serve();
        assert_eq!(vfs(&world).0, 0);
        world.ok(&format!("vfs set {PF} 3"));
        assert_eq!(vfs(&world), (3, 3));
    }

    #[test]
    fn the_history_tells_who_asked_for_what_and_outlives_the_service() {
        let mut world = world();
        world.serve();
        world.ok("profile create small --type mtty-1");
        world.define("web1", 1);
        world.ok("attach web1 --profile small");
        assert!(!world.ctl("attach nobody --profile small").status.success());
        world.start("web1").expect("room");
        world.stop("web1");
        world.stop_service();
        world.serve();
        let entries = |words: &str| -> Vec<(String, String)> {
            let history = world.json(words);
            let text =
                |entry: &serde_json::Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            let list = history["entries"].as_array().expect("a list");
            list.iter().rev().map(|entry| (text(entry, "verb"), text(entry, "outcome"))).collect()
        };
        let verbs = |words: &str| entries(words).into_iter().map(|(verb, _)| verb).collect::<Vec<_>>();
        assert_eq!(verbs("history"), ["profile create", "attach", "attach", "prepare", "started", "release"]);
        assert!(entries("history --domain nobody")[0].1.contains("knows no domain"));
        let id = world.json("allocations")["allocations"][0]["id"].as_str().expect("an id").to_owned();
        assert_eq!(verbs(&format!("log {id}")), ["attach", "prepare", "started", "release"]);
        assert_eq!(verbs("history --limit 2"), ["started", "release"]);
        assert!(world.ok("history").contains("uid 0, pid "));
    }

    #[test]
    fn a_pf_that_is_missing_after_a_reboot_is_told_and_costs_nothing_else() {
        let mut world = world();
        world.serve();
        world.ok(&format!("vfs set {PF} 2"));
        world.ok("vfs set 0000:02:00.0 2");
        world.stop_service();
        world.host.reboot();
        world.host.pull_out(PF);
        world.serve();
        let status = world.json("status");
        let warnings = status["warnings"].as_array().expect("a list");
        assert!(
            warnings.iter().any(|text| text
                .as_str()
                .is_some_and(|text| text.contains("2 VFs are wanted on pci:0000:01:00.0"))),
            "{status}"
        );
        let other = wait("the other PF has its VFs", || {
            let gpus = world.json("gpus");
            let pf = gpus["gpus"].as_array()?.iter().find(|gpu| gpu["name"] == "0000:02:00.0")?.clone();
            (pf["sriov"]["enabled"] == 2).then_some(pf)
        });
        assert_eq!(other["sriov"]["autoprobe"], false);
    }
}
