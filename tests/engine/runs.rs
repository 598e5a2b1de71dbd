//! Runs: which start a release belongs to, and what becomes of a start whose hook or service went away.

use std::time::Duration;

use crate::kit::{allocations, device, domains, hook, lab, look, now, post_hook, receive, send};
use crate::support::world::wait;

#[test]
fn a_release_older_than_the_current_prepare_is_ignored_and_a_newer_one_can_be_repeated() {
    let world = lab();
    domains(&world, "small", &["web1"]);
    // libvirt counts a domain that is being started as running.
    world.set_live_xml("web1", &world.xml("web1"));
    let before = now();
    let run = now();
    assert_eq!(post_hook(&world, &hook(&world, "prepare", run, "web1")).status, 200);
    for at in [before, run] {
        assert_eq!(post_hook(&world, &hook(&world, "release", at, "web1")).status, 200);
        assert_eq!(world.host.mdevs(), world.devices("web1"), "a release of {at} is not of run {run}");
    }
    for _ in 0..3 {
        assert_eq!(post_hook(&world, &hook(&world, "release", now(), "web1")).status, 200);
        assert_eq!(world.host.mdevs(), Vec::<String>::new());
    }
    world.settles_to(&[], "after the releases");
}

#[test]
fn a_prepare_sent_again_with_its_run_id_makes_nothing_twice() {
    let world = lab();
    world.define("web1", 100);
    world.ok("attach web1 --profile small --count 3");
    // libvirt counts a domain that is being started as running.
    world.set_live_xml("web1", &world.xml("web1"));
    let request = hook(&world, "prepare", now(), "web1");
    for _ in 0..3 {
        assert_eq!(post_hook(&world, &request).status, 200);
    }
    let creates = world.host.writes().iter().filter(|write| write.path.ends_with("/create")).count();
    assert_eq!(creates, 3);
    world.settles_to(&world.devices("web1"), "after three equal requests");
}

#[test]
fn a_start_refused_while_the_domain_runs_takes_nothing_of_the_running_guest() {
    let world = lab();
    domains(&world, "small", &["web1"]);
    world.start("web1").expect("room");
    let writes = world.host.writes().len();
    let answer = post_hook(&world, &hook(&world, "prepare", now(), "web1"));
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body["message"].as_str().expect("a line").contains("held by"), "{answer:?}");
    assert_eq!(world.host.writes().len(), writes);
    world.settles_to(&world.devices("web1"), "the guest still has it");
}

#[test]
fn a_release_after_a_failed_prepare_frees_only_what_that_start_made() {
    let world = lab();
    domains(&world, "screen", &["web1", "web2"]);
    world.start("web1").expect("room");
    world.ok("attach web2 --profile screen --count 4");
    world.start("web2").expect_err("only three are left");
    world.settles_to(&world.devices("web1"), "the other domain's slice stays");
}

#[test]
fn a_prepare_whose_hook_hung_up_is_undone() {
    let world = lab();
    domains(&world, "small", &["web1"]);
    world.host.delay("/create", Duration::from_millis(400));
    let request = hook(&world, "prepare", now(), "web1");
    let connection = send(&world, "POST", "/v1/hook", request.to_string().as_bytes());
    wait("the create is under way", || world.json("gpus")["slices"].as_array().map(|_| ()));
    drop(connection);
    wait("the slice is made", || (!world.host.writes().is_empty()).then_some(()));
    world.settles_to(&[], "nobody waits for this slice");
    world.host.unhang("/create");
    world.start("web1").expect("the next start works");
}

#[test]
fn a_service_killed_while_the_hook_waits_serves_it_when_it_is_back() {
    let world = lab();
    domains(&world, "small", &["web1"]);
    world.host.delay("/create", Duration::from_millis(700));
    std::thread::scope(|scope| {
        let start = scope.spawn(|| world.start("web1"));
        wait("the intent is stored", || {
            world.service_log().contains("ready").then_some(())?;
            let text = world.json("allocations").to_string();
            text.contains("web1").then_some(())
        });
        // The create is under way, or about to be: either must end well.
        world.kill_once();
        start.join().expect("a start").expect("the hook asks again");
    });
    world.settles_to(&world.devices("web1"), "made once, and not swept away");
    look(&world);
    world.settles_to(&world.devices("web1"), "a look does not touch a running guest");
    world.stop("web1");
    world.settles_to(&[], "after the stop");
}

#[test]
fn a_parent_that_vanishes_under_a_guest_leaves_a_domain_that_stops_and_starts_again() {
    let world = lab();
    world.ok("profile create either --framebuffer 4MiB");
    domains(&world, "screen", &["web1"]);
    world.start("web1").expect("room");
    world.host.vanish("mdpy");
    world.stop("web1");
    world.settles_to(&[], "it went with its parent");
    let line = world.start("web1").expect_err("no parent is left");
    assert!(line.contains("mdpy-hd") && line.lines().count() == 1, "{line}");
    world.ok("detach web1");
    assert_eq!(allocations(&world, "web1"), Vec::<serde_json::Value>::new());
}

#[test]
fn a_parent_that_vanishes_during_the_create_refuses_the_start_and_leaves_nothing() {
    let world = lab();
    domains(&world, "small", &["web1"]);
    world.host.delay("/create", Duration::from_millis(300));
    let connection =
        send(&world, "POST", "/v1/hook", hook(&world, "prepare", now(), "web1").to_string().as_bytes());
    world.host.vanish("mtty");
    let answer = receive(connection);
    assert_ne!(answer.status, 200, "{answer:?}");
    world.settles_to(&[], "nothing was made");
    world.host.unhang("/create");
    let line = world.start("web1").expect_err("no parent");
    assert!(line.contains("mtty-1"), "{line}");
}

#[test]
fn a_power_loss_voids_the_slices_and_the_next_start_makes_them_anew() {
    let mut world = lab();
    domains(&world, "small", &["web1"]);
    world.start("web1").expect("room");
    let uuid = device(&world, "web1");
    world.kill_service();
    world.host.reboot();
    std::fs::remove_file(world.live_file("web1")).expect("the guest ran");
    world.serve();
    world.settles_to(&[], "after the boot");
    assert_eq!(allocations(&world, "web1")[0]["status"], "reserved");
    world.start("web1").expect("room");
    world.settles_to(&[uuid], "the same promise on the new boot");
    world.stop("web1");
    world.settles_to(&[], "after the stop");
}

#[test]
fn a_vf_that_vanishes_between_two_starts_is_refused_by_name() {
    let world = lab();
    world.ok("vfs set 0000:01:00.0 2");
    world.ok("profile create nic --vf 8086:10ca");
    domains(&world, "nic", &["web1"]);
    let vf = device(&world, "web1");
    world.start("web1").expect("a VF");
    world.stop("web1");
    world.host.pull_out("0000:01:00.0");
    let line = world.start("web1").expect_err("its VF is gone");
    assert!(line.contains(&vf) && line.lines().count() == 1, "{line}");
    world.ok("detach web1");
    world.settles_to(&[], "after the detach");
}

// Foreign ----------------------------------------------------------------------------------------

#[test]
fn a_uuid_that_somebody_else_took_is_refused_with_the_likely_makers_and_never_touched() {
    let world = lab();
    domains(&world, "small", &["web1"]);
    let uuid = device(&world, "web1");
    world.host.foreign_mdev("mtty", "mtty-1", &uuid).expect("room");
    let line = world.start("web1").expect_err("the UUID is taken");
    assert!(line.contains(&uuid) && line.contains("mdevctl"), "{line}");
    look(&world);
    world.kill_once();
    look(&world);
    assert_eq!(post_hook(&world, &hook(&world, "release", now(), "web1")).status, 200);
    let answer = world.ctl(&format!("mdev remove {uuid}"));
    assert!(!answer.status.success());
    assert_eq!(world.host.mdevs(), [uuid.as_str()]);
    assert_eq!(world.host.writes(), [], "nobody wrote to a foreign device");
    world.host.foreign_remove("mtty", &uuid).expect("nobody holds it");
    world.start("web1").expect("the UUID is free again");
}

#[test]
fn a_slice_that_a_process_still_holds_is_never_removed() {
    let world = lab();
    domains(&world, "small", &["web1"]);
    let uuid = device(&world, "web1");
    world.set_live_xml("web1", &world.xml("web1"));
    assert_eq!(post_hook(&world, &hook(&world, "prepare", now(), "web1")).status, 200);
    assert!(world.host.hold(&uuid, "web1", 7000));
    world.forget_running("web1");
    assert_eq!(post_hook(&world, &hook(&world, "release", now(), "web1")).status, 200);
    look(&world);
    world.kill_once();
    look(&world);
    let detach = world.ctl("detach web1");
    assert_eq!(detach.status.code(), Some(7), "busy");
    let removes = world.host.writes().iter().filter(|write| write.path.ends_with("/remove")).count();
    assert_eq!(removes, 0);
    assert_eq!(world.host.mdevs(), [uuid.as_str()]);
    world.host.unhold(&uuid);
    wait("the sweep gives it back", || {
        look(&world);
        world.host.mdevs().is_empty().then_some(())
    });
}
