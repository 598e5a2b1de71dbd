//! Boot and reboot: what is remembered comes back, what somebody changed by hand is left alone.

#[cfg(test)]
mod support;

#[cfg(test)]
mod boot {
    use std::time::{Duration, Instant};

    use nix::errno::Errno;

    use crate::support::spec::HostSpec;
    use crate::support::world::{Rehearsal, World, wait};

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
    fn slices_come_back_together_and_one_that_fails_costs_the_others_nothing() {
        let mut world = world();
        world.serve();
        world.ok("profile create small --type mtty-1");
        for number in 0..4 {
            let name = format!("held{number}");
            world.define(&name, number);
            world.ok(&format!("attach {name} --profile small --count 2 --mode guaranteed"));
        }
        let slices = world.host.mdevs();
        assert_eq!(slices.len(), 8);
        world.lose_power();
        // The third write of the batch fails; all are then made one by one.
        world.host.fail("/create", 3, Errno::EIO);
        world.serve();
        wait("all slices are back", || (world.host.mdevs() == slices).then_some(()));
        assert!(world.service_log().contains("not restored together"), "{}", world.service_log());

        world.lose_power();
        world.serve();
        wait("all slices are back", || (world.host.mdevs() == slices).then_some(()));
        let again = world.service_log().matches("not restored together").count();
        assert!(again <= 1, "the second time in one go");
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
    fn a_vf_that_this_libvirt_would_not_take_is_refused_before_anything_is_promised() {
        let mut spec = HostSpec::lab();
        spec.drivers.push(("igb-vfio-pci".to_owned(), true));
        spec.aliases.push_str("alias vfio_pci:v00008086d000010CAsv*sd*bc*sc*i* igb_vfio_pci\n");
        let mut world = World::new(spec);
        world.host.put("etc/vgpud/vgpud.toml", "[devices]\ninclude = [\"8086:10c9\"]\n");
        world.host.put("etc/libvirt/qemu/version", "9.0.0\n");
        world.serve();
        world.ok(&format!("vfs set {PF} 1"));
        world.ok("profile create nic --vf 8086:10ca");
        world.define("web1", 1);
        let told = wait("the version is known", || {
            let status = world.json("status");
            (status["libvirt_version"] == "9.0.0").then(|| status["warnings"].to_string())
        });
        assert!(told.contains("vfio-pci only") && told.contains("igb-vfio-pci"), "{told}");
        for words in ["attach web1 --profile nic", "attach web1 --profile nic --dry-run"] {
            let refused = world.ctl(words);
            let text = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert_eq!(refused.status.code(), Some(8), "{words}: {text}");
            assert!(text.contains("libvirt 9.0.0") && text.contains("9.7.0 or newer"), "{words}: {text}");
        }
        assert_eq!(world.json("allocations")["allocations"], serde_json::json!([]));
        assert_eq!(world.devices("web1"), Vec::<String>::new());
        world.stop_service();
        world.host.put("etc/libvirt/qemu/version", "9.7.0\n");
        world.serve();
        world.ok("attach web1 --profile nic");
    }

    #[test]
    fn a_forgotten_pf_is_as_before_and_gets_nothing_at_the_next_boot() {
        let mut world = world();
        world.serve();
        world.ok(&format!("vfs set {PF} 2"));
        world.ok("vfs set 0000:02:00.0 2");
        world.stop_service();
        world.host.reboot();
        world.host.pull_out("0000:02:00.0");
        world.serve();
        let state = || {
            let gpus = world.json("gpus");
            let pf = gpus["gpus"].as_array()?.iter().find(|gpu| gpu["name"] == PF)?["sriov"].clone();
            Some((pf["enabled"].as_u64()?, pf["autoprobe"].as_bool()?))
        };
        wait("the VFs are back", || (state()? == (2, false)).then_some(()));
        assert!(!world.ctl("vfs forget 0000:99:00.0").status.success());
        let told = world.ok("vfs forget --all");
        assert!(told.contains("0000:01:00.0: 2 VFs no longer come back"), "{told}");
        assert!(told.contains("0000:02:00.0") && told.contains("not here now"), "{told}");
        assert_eq!(state(), Some((2, true)), "probing as before, VFs as they are");
        assert!(world.ok("vfs forget --all").contains("nothing to change"));
        assert_eq!(world.json("status")["warnings"], serde_json::json!([]));
        world.stop_service();
        world.host.reboot();
        world.serve();
        let gpus = world.json("gpus");
        let pf = gpus["gpus"].as_array().expect("list").iter().find(|gpu| gpu["name"] == PF).cloned();
        assert_eq!(pf.expect("PF")["sriov"]["enabled"], 0);
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

    // The five cases of a boot ----------------------------------------------------------------------

    /// A guaranteed slice on mtty, an autostart domain with a VF, counts on both PFs; the power goes.
    fn after_a_boot() -> World {
        let mut world = configured(60);
        world.serve();
        world.ok(&format!("vfs set {PF} 3"));
        world.ok(&format!("vfs set {OTHER} 2"));
        world.ok("profile create small --type mtty-1");
        world.ok("profile create nic --vf 8086:10ca");
        world.define("held", 1);
        world.define("auto", 2);
        world.ok("attach held --profile small --mode guaranteed");
        world.ok("attach auto --profile nic");
        world.autostart("auto");
        world.stop_service();
        world.lose_power();
        world
    }

    fn configured(wait_s: u16) -> World {
        let world = World::new(HostSpec::lab());
        let text = format!("[devices]\ninclude = [\"8086:10c9\"]\n[boot]\nwait_s = {wait_s}\n");
        world.host.put("etc/vgpud/vgpud.toml", &text);
        world
    }

    const OTHER: &str = "0000:02:00.0";

    /// The PF of the VF that a domain names.
    fn pf_of(world: &World, domain: &str) -> &'static str {
        if world.devices(domain)[0].starts_with("0000:01") { PF } else { OTHER }
    }

    #[test]
    fn all_well_everything_is_back_before_libvirt_starts() {
        let mut world = after_a_boot();
        world.serve();
        let report = world.json("boot-report");
        let steps = report["steps"].as_array().expect("a list");
        let states: Vec<_> = steps.iter().map(|step| (&step["step"], &step["state"])).collect();
        let kinds: Vec<_> = states.iter().map(|(kind, _)| kind.as_str().expect("a kind")).collect();
        assert_eq!(kinds, ["vfs", "binding", "vfs", "binding", "slice", "start"]);
        assert!(states.iter().all(|(_, state)| *state == "done"), "{report:#}");
        assert!(report["ready_ms"].is_u64() && report["gave_up"] == serde_json::json!([]), "{report:#}");
        assert_eq!(vfs(&world), (3, 3));
        assert_eq!(world.host.mdevs(), world.devices("held"));
        let zero =
            |write: &&crate::support::fake::Write| write.path.ends_with("sriov_numvfs") && write.value == "0";
        assert_eq!(world.host.writes().iter().find(zero), None, "never through 0 VFs");
        world.start("auto").expect("its VF is there");
        world.start("held").expect("its slice is there");
        let text = world.ok("boot-report");
        assert!(text.contains("3 VFs on VFIO") && text.contains("mtty-1 of domain held"), "{text}");
        assert!(world.ok("status").contains("since the boot:"));
    }

    #[test]
    fn the_report_of_a_boot_outlives_the_service() {
        let mut world = after_a_boot();
        world.serve();
        let before = world.json("boot-report");
        world.stop_service();
        world.serve();
        assert_eq!(world.json("boot-report"), before);
        let restored = world.json("history")["entries"].to_string();
        assert_eq!(restored.matches("\"verb\":\"restore\"").count(), 3, "{restored}");
    }

    #[test]
    fn a_missing_parent_that_nobody_needs_keeps_libvirt_waiting_for_nothing() {
        let mut world = after_a_boot();
        let (needed, other) = if pf_of(&world, "auto") == PF { (PF, OTHER) } else { (OTHER, PF) };
        world.host.pull_out(other);
        let began = Instant::now();
        world.serve();
        assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
        assert_eq!(world.step("vfs", needed)["state"], "done");
        let missing = world.step("vfs", other);
        assert_eq!(missing["state"], "waiting", "{missing}");
        assert!(missing["waits_for"].as_str().expect("text").contains("not here"), "{missing}");
        assert_eq!(world.step("slice", "mtty")["state"], "done");
    }

    #[test]
    fn a_missing_parent_that_is_needed_is_waited_for_within_the_limit() {
        let mut world = after_a_boot();
        world.host.put("etc/vgpud/vgpud.toml", "[devices]\ninclude = [\"8086:10c9\"]\n[boot]\nwait_s = 2\n");
        world.host.vanish("mtty");
        let began = Instant::now();
        world.serve();
        assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
        let report = world.json("boot-report");
        let gave_up = report["gave_up"].to_string();
        assert!(gave_up.contains("mtty-1 of domain held") && gave_up.contains("virtual:mtty"), "{gave_up}");
        assert!(world.json("status")["warnings"].to_string().contains("mtty-1 of domain held"));
        assert_eq!(vfs(&world), (3, 3), "the others are back all the same");
        world.host.appear("mtty");
        world.wait_step("slice", "mtty", "done");
        assert_eq!(world.host.mdevs(), world.devices("held"));
        world.stop_service();
        world.host.vanish("mtty");
        let began = Instant::now();
        world.serve();
        assert!(began.elapsed() < Duration::from_secs(40), "libvirt runs: {:?}", began.elapsed());
    }

    #[test]
    fn a_late_parent_is_waited_for_and_taken_when_the_kernel_announces_it() {
        let mut world = after_a_boot();
        let pf = pf_of(&world, "auto");
        world.host.pull_out(pf);
        world.begin(&Rehearsal::default());
        world.wait_logged("libvirt waits waits_for=\"a place for 1 slice on domain auto");
        assert!(!world.answers(), "libvirt is kept waiting");
        world.host.plug_in(pf);
        world.wait_answering();
        assert_eq!(world.json("boot-report")["gave_up"], serde_json::json!([]));
        assert_eq!(world.step("start", "auto")["state"], "done");
        let late = world.step("vfs", pf);
        assert!(late["state"] == "done" && late["took_ms"].as_u64() > Some(0), "{late}");
        world.start("auto").expect("its VF is there");
    }

    #[test]
    fn a_late_parent_is_found_without_any_event_too() {
        let mut world = after_a_boot();
        world.host.pull_out(PF);
        world.host.pull_out(OTHER);
        world.begin(&Rehearsal::default());
        world.wait_logged("libvirt waits waits_for=\"a place");
        world.host.plug_in_silently(PF);
        world.host.plug_in_silently(OTHER);
        world.wait_answering();
        assert_eq!(vfs(&world), (3, 3));
    }

    #[test]
    fn a_card_swapped_for_another_is_reported_and_not_touched() {
        let mut world = after_a_boot();
        world.host.pull_out(PF);
        world.host.plug_in_another(PF, (0x8086, 0x1572));
        let before = world.host.writes().len();
        world.serve();
        let step = world.step("vfs", PF);
        assert_eq!(step["state"], "left", "{step}");
        let why = step["why"].as_str().expect("text");
        assert!(why.contains("another card is in its place") && why.contains("8086:1572"), "{why}");
        let warnings = world.json("status")["warnings"].to_string();
        assert!(warnings.contains("another card"), "{warnings}");
        let touched = world.host.writes()[before..].iter().any(|write| write.path.contains(PF));
        assert!(!touched, "nothing is written to the other card");
        assert_eq!(world.step("vfs", OTHER)["state"], "done");
    }

    #[test]
    fn a_pf_that_fails_or_hangs_fails_alone_and_is_tried_again() {
        let mut world = after_a_boot();
        world.host.fail_always("0000:01:00.0/sriov_numvfs", Errno::EIO);
        world.host.hang("0000:02:00.0/sriov_numvfs");
        world.begin(&Rehearsal::default());
        wait("the slice is back while a PF hangs", || {
            (world.host.mdevs() == world.devices("held")).then_some(())
        });
        world.host.wait_sleeping(1);
        world.host.unhang("0000:02:00.0/sriov_numvfs");
        if pf_of(&world, "auto") == OTHER {
            world.wait_answering();
            world.wait_step("vfs", PF, "failed");
        }
        world.host.unhang("0000:01:00.0/sriov_numvfs");
        world.wait_answering();
        for pf in [PF, OTHER] {
            world.wait_step("vfs", pf, "done");
            world.wait_step("binding", pf, "done");
        }
    }

    #[test]
    fn a_stop_during_the_wait_ends_it_at_once() {
        let mut world = after_a_boot();
        world.host.vanish("mtty");
        world.begin(&Rehearsal::default());
        world.wait_logged("libvirt waits waits_for=\"mtty-1 of domain held");
        let began = Instant::now();
        world.stop_service();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(!world.answers());
    }

    // The same road without a boot ------------------------------------------------------------------

    #[test]
    fn a_driver_loaded_anew_gets_its_vfs_back_and_a_count_set_by_hand_stays() {
        let mut world = after_a_boot();
        world.serve();
        world.host.unload_driver(PF);
        let waiting = world.wait_step("vfs", PF, "waiting");
        assert!(waiting["waits_for"].as_str().expect("text").contains("a driver on"), "{waiting}");
        world.host.load_driver(PF);
        world.wait_step("binding", PF, "done");
        assert_eq!(vfs(&world), (3, 3));

        let numvfs = "sys/devices/pci0000:00/0000:00:02.0/0000:01:00.0/sriov_numvfs";
        world.host.by_hand(numvfs, "0").expect("nobody holds a VF");
        world.host.announce("remove@/devices/x/0000:01:10.0", &["SUBSYSTEM=pci"]);
        let left = world.wait_step("vfs", PF, "left");
        assert!(left["why"].as_str().expect("text").contains("by hand"), "{left}");
        assert_eq!(vfs(&world).0, 0);
    }

    #[test]
    fn a_sample_driver_loaded_anew_gets_its_guaranteed_slice_back() {
        let mut world = after_a_boot();
        world.serve();
        world.host.vanish("mtty");
        assert_eq!(world.host.mdevs(), Vec::<String>::new());
        world.host.appear("mtty");
        wait("the slice is back", || (world.host.mdevs() == world.devices("held")).then_some(()));
        world.settles_to(&world.devices("held"), "after the driver was loaded anew");
    }

    #[test]
    fn vfs_that_went_while_the_host_slept_come_back() {
        let mut world = after_a_boot();
        world.serve();
        let numvfs = "sys/devices/pci0000:00/0000:00:02.0/0000:01:00.0/sriov_numvfs";
        world.host.by_hand(numvfs, "0").expect("nobody holds a VF");
        world.host.announce("resume@/power", &[]);
        wait("the VFs are back", || (vfs(&world) == (3, 3)).then_some(()));
        world.wait_logged("the host has slept");
    }
}
