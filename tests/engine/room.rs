//! Making room: plans, walking them, and starts that stop others.

use crate::kit::{HALF, allocations, domains, two_gpus};
use crate::support::spec::HostSpec;
use crate::support::world::{World, stderr, wait};

const A: &str = "0000:41:";
const C: &str = "0000:c1:";

/// Two GPUs that give one size at a time, the profiles `half` and `quarter`, and domains that the service starts.
fn world() -> World {
    let world = two_gpus();
    world.install_hook();
    world.ok("profile create quarter --framebuffer 12GiB --policy spread");
    world
}

/// The GPU of a running domain, by the first part of its parent's name.
fn gpu(world: &World, domain: &str) -> &'static str {
    let parent = allocations(world, domain)[0]["parent"].as_str().unwrap_or("").to_owned();
    if parent.starts_with(A) {
        A
    } else if parent.starts_with(C) {
        C
    } else {
        "nowhere"
    }
}

/// A quarter runs on each GPU, so that no half fits although three halves are free.
fn split() -> World {
    let world = world();
    domains(&world, "quarter", &["q1", "q2"]);
    world.define("h1", 200);
    world.ok("attach h1 --profile half");
    world.ok("start q1");
    world.ok("start q2");
    assert_eq!((gpu(&world, "q1"), gpu(&world, "q2")), (A, C));
    world
}

#[test]
fn one_restart_makes_room_for_another_size() {
    let world = split();
    let refused = world.ctl("start h1");
    assert_eq!(refused.status.code(), Some(6), "{}", stderr(&refused));
    let plan = world.ok("make-room half");
    assert!(
        plan.contains("   1  q1      restart  0000:41:") && plan.contains("nothing was changed"),
        "{plan}"
    );
    assert_eq!(gpu(&world, "q1"), A, "a plan changes nothing");
    let made = world.json("make-room half --apply");
    assert_eq!(made["change"], "done", "{made}");
    assert_eq!((gpu(&world, "q1"), gpu(&world, "q2")), (C, C));
    world.ok("start h1");
    assert_eq!(gpu(&world, "h1"), A);
    let again = world.ok("make-room half");
    assert!(again.contains("a slice fits on 0000:41:") && again.contains("nothing to change"), "{again}");
    let history = world.json("history --domain q1")["entries"].to_string();
    assert!(history.contains("shut down") && history.contains("started"), "{history}");
    assert!(world.json("history")["entries"].to_string().contains("make-room"));
}

#[test]
fn a_guest_that_cannot_be_saved_runs_on_and_one_that_can_is_resumed() {
    let world = split();
    let blocked = world.file("q1").with_extension("unsavable");
    std::fs::write(&blocked, "").expect("mark");
    let refused = world.ctl("make-room half --apply --save");
    assert_eq!(refused.status.code(), Some(8), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("blocks migration"), "{}", stderr(&refused));
    assert_eq!(gpu(&world, "q1"), A, "it runs on");
    std::fs::remove_file(&blocked).expect("mark");
    world.ok("make-room half --apply --save");
    assert_eq!(gpu(&world, "q1"), C);
    assert!(!world.file("q1").with_extension("save").exists(), "its image was resumed");
    let history = world.json("history --domain q1")["entries"].to_string();
    assert!(history.contains("saved"), "{history}");
}

#[test]
fn what_must_not_be_touched_is_not() {
    let world = world();
    world.define("g1", 100);
    world.define("g2", 101);
    world.ok("attach g1 --profile quarter --mode guaranteed");
    world.ok("attach g2 --profile quarter --mode guaranteed");
    world.ok("start g1");
    let refused = world.ctl("make-room half");
    assert_eq!(refused.status.code(), Some(6), "{}", stderr(&refused));
    let text = stderr(&refused);
    assert!(text.contains("no restarts make room for one more slice of profile half"), "{text}");
    assert!(text.contains("domain g1 is left alone: it has a guaranteed slice"), "{text}");
}

#[test]
fn a_fragmented_host_is_made_whole() {
    let world = split();
    // Its mix of requests has halves too.
    world.ok("make-room half --apply");
    world.ok("start h1");
    world.stop("h1");
    world.stop("q1");
    world.stop("q2");
    world.ok("start q1");
    world.ok("start q2");
    wait("one quarter on each", || ((gpu(&world, "q1"), gpu(&world, "q2")) == (A, C)).then_some(()));
    let plan = world.json("defrag --plan");
    let (before, after) = (plan["fragmented_mib"][0].as_u64(), plan["fragmented_mib"][1].as_u64());
    assert!(before > after, "{plan}");
    assert_eq!(plan["steps"].as_array().map(Vec::len), Some(1), "{plan}");
    world.ok("defrag --apply");
    assert_eq!(gpu(&world, "q1"), gpu(&world, "q2"), "both on one GPU");
    assert!(world.ok("defrag --plan").contains("nothing to change"));
}

#[test]
fn only_preemptible_domains_of_lesser_priority_are_stopped() {
    let world = world();
    world.ok(&format!("profile create urgent --type {HALF} --priority 50"));
    world.ok(&format!("profile create batch --type {HALF} --preemptible on"));
    domains(&world, "half", &["keep1", "keep2"]);
    for (number, name, profile) in [
        (200, "batch1", "batch"),
        (201, "batch2", "batch"),
        (202, "high1", "urgent"),
        (203, "high2", "urgent"),
        (204, "high3", "urgent"),
    ] {
        world.define(name, number);
        world.ok(&format!("attach {name} --profile {profile}"));
    }
    for name in ["keep1", "keep2", "batch1", "batch2"] {
        world.ok(&format!("start {name}"));
    }
    let refused = world.ctl("start high1");
    assert_eq!(refused.status.code(), Some(6), "nothing is stopped unless asked: {}", stderr(&refused));
    let dry = world.ctl("start high1 --preempt --dry-run");
    assert!(stderr(&dry).contains("domain batch1 would be stopped for it"), "{}", stderr(&dry));
    assert!(world.live_file("batch1").exists());
    let done = world.ctl("start high1 --preempt --save");
    assert!(
        done.status.success() && stderr(&done).contains("domain batch1 was stopped for it"),
        "{}",
        stderr(&done)
    );
    assert!(world.live_file("high1").exists() && !world.live_file("batch1").exists());
    assert!(world.file("batch1").with_extension("save").exists(), "nothing blocked saving it");
    std::fs::write(world.file("batch2").with_extension("unsavable"), "").expect("mark");
    world.ok("start high2 --preempt --save");
    assert!(!world.live_file("batch2").exists() && !world.file("batch2").with_extension("save").exists());
    let refused = world.ctl("start high3 --preempt");
    assert_eq!(refused.status.code(), Some(6), "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("no stops of domains whose profiles are preemptible"),
        "{}",
        stderr(&refused)
    );
    let history = world.json("history --domain batch2")["entries"].to_string();
    assert!(history.contains("\"preempt\"") && history.contains("shut down"), "{history}");
    for name in ["keep1", "keep2", "high1", "high2"] {
        assert!(world.live_file(name).exists(), "{name} runs");
    }
}

#[test]
fn vfs_that_are_free_are_room_and_vgpus_on_them_are_left_alone() {
    let mut world = World::new(HostSpec::vgpu_vfs());
    world.serve();
    world.ok("profile create half --framebuffer 24GiB");
    for (name, id) in [("web1", 101), ("web2", 102), ("web3", 103), ("web4", 104)] {
        let plan = world.ok("make-room half");
        assert!(plan.contains("a slice fits on 0000:") && plan.contains("nothing to change"), "{plan}");
        world.define(name, id);
        world.ok(&format!("attach {name} --profile half"));
        world.start(name).expect("two fit on each");
    }
    let refused = world.ctl("make-room half");
    let text = stderr(&refused);
    assert_eq!(refused.status.code(), Some(6), "{text}");
    assert!(text.contains("domain web1 is left alone: it has vGPUs on VFs"), "{text}");
}
