//! Guaranteed slices, what a first start settles, pins, and profiles that change meanwhile.

use serde_json::Value;

use crate::kit::{HALF, allocations, device, domains, lab, place, two_gpus};
use crate::support::world::{World, stderr, wait};

fn one(world: &World, domain: &str) -> Value {
    allocations(world, domain).into_iter().next().unwrap_or(Value::Null)
}

fn id(world: &World, domain: &str) -> String {
    one(world, domain)["id"].as_str().expect("an allocation").to_owned()
}

fn refused(world: &World, words: &str, says: &[&str]) {
    let output = world.ctl(words);
    assert!(!output.status.success(), "vgpuctl {words} should have been refused");
    let text = stderr(&output);
    says.iter()
        .for_each(|word| assert!(text.contains(word), "vgpuctl {words} does not say {word:?}: {text}"));
}

/// Defines a domain and attaches a guaranteed slice.
fn guaranteed(world: &World, name: &str, number: u32, profile: &str) -> String {
    world.define(name, number);
    world.ok(&format!("attach {name} --profile {profile} --mode guaranteed"));
    device(world, name)
}

/// The type that the host says an mdev has.
fn type_of(world: &World, uuid: &str) -> String {
    let link = world.host.root().join("sys/bus/mdev/devices").join(uuid).join("mdev_type");
    let real = std::fs::canonicalize(link).expect("an mdev");
    real.file_name().expect("a type").to_string_lossy().into_owned()
}

/// Makes the service look at libvirt's domains, also where no VF is left for another promise.
fn look(world: &World) {
    world.ok("attach nobody --profile small --dry-run");
}

#[test]
fn a_guaranteed_slice_is_there_from_attach_to_detach_whatever_its_domain_does() {
    let mut world = lab();
    let slice = guaranteed(&world, "web1", 100, "screen");
    let only = [slice.clone()];
    assert_eq!(world.host.mdevs(), only, "made at attach");
    assert_eq!(one(&world, "web1")["status"], "ready");
    world.ok("attach web1 --profile screen --mode guaranteed");
    assert_eq!(world.host.mdevs(), only, "asking again changes nothing");
    let inode = || std::fs::canonicalize(world.host.root().join("sys/bus/mdev/devices").join(&slice));
    let before = inode().expect("an mdev");
    world.start("web1").expect("its own slice");
    world.stop("web1");
    look(&world);
    world.settles_to(&only, "after a stop and a look");
    assert_eq!(inode().expect("an mdev"), before);
    let writes = world.host.writes();
    let creates = writes.iter().filter(|write| write.path.ends_with("/create")).count();
    assert_eq!(creates, 1, "one slice for all runs");
    let xml = world.xml("web1");
    std::fs::remove_file(world.file("web1")).expect("undefine");
    wait("it is orphaned", || {
        look(&world);
        (one(&world, "web1")["state"] == "orphaned").then_some(())
    });
    assert_eq!(world.host.mdevs(), only, "undefine and define again is ordinary editing");
    world.set_xml("web1", &xml);
    world.stop_service();
    world.serve();
    look(&world);
    world.settles_to(&only, "after a restart of the service");
    world.start("web1").expect("its own slice");
    world.stop("web1");
    world.ok("detach web1");
    world.settles_to(&[], "after detach");
}

#[test]
fn what_is_guaranteed_is_used_for_everybody_else() {
    let world = lab();
    let mine: Vec<String> =
        (0..4).map(|n| guaranteed(&world, &format!("web{n}"), 100 + n, "screen")).collect();
    world.define("late", 200);
    world.ok("attach late --profile screen");
    let refusal = world.start("late").expect_err("all four are taken");
    assert!(refusal.contains("held by domain web0 (guaranteed) 1 x mdpy-hd"), "{refusal}");
    let explained = world.ok("profile explain screen");
    assert!(explained.contains("domain web0 (guaranteed)"), "{explained}");
    let gpus = world.ok("gpus");
    assert!(gpus.contains("guaranteed to web0"), "{gpus}");
    world.define("later", 201);
    refused(&world, "attach later --profile screen --mode guaranteed", &["cannot place", "guaranteed"]);
    refused(&world, "attach later --profile screen --mode guaranteed --dry-run", &["cannot place"]);
    assert_eq!((allocations(&world, "later"), world.devices("later")), (Vec::new(), Vec::new()));
    let mut sorted = mine;
    sorted.sort();
    assert_eq!(world.host.mdevs(), sorted);
    world.ok("detach web0");
    world.start("late").expect("room again");
}

#[test]
fn the_mode_changes_without_detaching() {
    let world = lab();
    domains(&world, "screen", &["web1"]);
    let slice = [device(&world, "web1")];
    let told = world.ok("allocation set web1 --mode guaranteed");
    assert!(told.contains("kept on mdpy"), "{told}");
    assert_eq!(world.host.mdevs(), slice);
    assert!(world.ok("allocations").contains("guaranteed"), "the table shows it");
    assert_eq!(world.ok("allocation set web1 --mode guaranteed"), "nothing to change\n");
    let told = world.ok(&format!("allocation set {} --mode on-start", id(&world, "web1")));
    assert!(told.contains("given back"), "{told}");
    world.settles_to(&[], "nothing is held any more");
    world.start("web1").expect("room");
    let told = world.ok("allocation set web1 --mode guaranteed --repoint never");
    assert!(
        told.contains("guaranteed, repoint never") && told.contains("stays when the domain stops"),
        "{told}"
    );
    world.stop("web1");
    look(&world);
    world.settles_to(&slice, "the run made it, the terms keep it");
    world.start("web1").expect("its slice");
    let told = world.ok("allocation set web1 --mode on-start");
    assert!(told.contains("given back when the domain stops"), "{told}");
    assert_eq!(world.host.mdevs(), slice, "never from a running guest");
    world.stop("web1");
    world.settles_to(&[], "after the stop");
    refused(&world, "allocation set nobody --pin", &["no allocation", "nobody"]);
    refused(&world, "allocation set web1", &["required"]);
}

#[test]
fn a_mode_for_which_there_is_no_room_changes_nothing() {
    let world = lab();
    for n in 0..4 {
        guaranteed(&world, &format!("web{n}"), 100 + n, "screen");
    }
    world.define("late", 200);
    world.ok("attach late --profile screen");
    let before = allocations(&world, "late");
    refused(&world, "allocation set late --mode guaranteed", &["cannot place", "guaranteed"]);
    assert_eq!(allocations(&world, "late"), before);
    assert_eq!(world.host.mdevs().len(), 4);
}

#[test]
fn a_guaranteed_slice_that_vanished_is_shown_and_made_again_by_the_next_start() {
    let mut world = lab();
    let slice = guaranteed(&world, "web1", 100, "screen");
    let remove = world.host.root().join("sys/bus/mdev/devices").join(&slice).join("remove");
    std::fs::write(remove, "1").expect("somebody removes it");
    world.stop_service();
    world.serve();
    look(&world);
    assert_eq!(one(&world, "web1")["status"], "missing", "{}", world.service_log());
    assert!(world.ok("allocations").contains("missing"));
    assert_eq!(world.host.mdevs(), Vec::<String>::new(), "never corrected by itself");
    world.start("web1").expect("room");
    world.stop("web1");
    look(&world);
    world.settles_to(&[slice], "kept again");
}

#[test]
fn a_guaranteed_vf_is_bound_and_nobody_elses() {
    let world = lab();
    world.ok("vfs set 0000:01:00.0 2");
    world.ok("profile create nic --vf 8086:10ca");
    let mine = guaranteed(&world, "web1", 500, "nic");
    assert_eq!(one(&world, "web1")["status"], "ready");
    domains(&world, "nic", &["a1", "a2", "a3"]);
    for name in ["a1", "a2", "a3"] {
        assert_ne!(device(&world, name), mine, "{name} is given the other one");
    }
    world.define("late", 300);
    world.start("a1").expect("the other VF");
    refused(&world, "attach late --profile nic --mode guaranteed", &["cannot place", "web1 (guaranteed)"]);
    world.stop("a1");
    world.start("web1").expect("its own VF");
    world.stop("web1");
    look(&world);
    assert_eq!(one(&world, "web1")["status"], "ready", "a stop keeps it");
    refused(&world, "vfs set 0000:01:00.0 1", &["in use", "web1", "guaranteed"]);
    world.ok("detach web1");
    assert_eq!(one(&world, "web1"), Value::Null);
    world.ok("vfs set 0000:01:00.0 1");
}

#[test]
fn a_vf_that_an_earlier_promise_names_can_be_guaranteed_and_the_other_start_says_so() {
    let world = lab();
    world.ok("vfs set 0000:01:00.0 1");
    world.ok("profile create nic --vf 8086:10ca");
    domains(&world, "nic", &["a1"]);
    guaranteed(&world, "web1", 200, "nic");
    assert_eq!(device(&world, "a1"), device(&world, "web1"), "there is only one");
    let refusal = world.start("a1").expect_err("guaranteed to another");
    assert!(refusal.contains("domain web1 (guaranteed)"), "{refusal}");
    world.start("web1").expect("its own");
    world.stop("web1");
}

#[test]
fn a_refused_start_of_two_slices_keeps_the_guaranteed_one() {
    let world = lab();
    world.ok("vfs set 0000:01:00.0 1");
    world.ok("profile create nic --vf 8086:10ca");
    guaranteed(&world, "web1", 100, "nic");
    world.ok("attach web1 --profile screen");
    for n in 0..4 {
        guaranteed(&world, &format!("full{n}"), 200 + n, "screen");
    }
    world.start("web1").expect_err("no room for the screen");
    look(&world);
    let states: Vec<Value> =
        allocations(&world, "web1").into_iter().map(|one| one["status"].clone()).collect();
    assert!(states.contains(&Value::from("ready")), "the VF is still kept: {states:?}");
}

#[test]
fn what_the_first_start_settled_stays_until_it_is_forgotten_or_may_float() {
    let world = lab();
    domains(&world, "screen", &["web1", "web2"]);
    world.start("web1").expect("room");
    assert_eq!(one(&world, "web1")["settled"]["mdev_type"], "mdpy-hd");
    assert_eq!(one(&world, "web2")["settled"], Value::Null);
    world.stop("web1");
    let plan = world.ok("profile edit screen --type mdpy-vga --dry-run");
    assert!(
        plan.contains("sticky: stays type mdpy-hd") && plan.contains("next start: type mdpy-vga"),
        "{plan}"
    );
    assert_eq!(world.json("profile show screen")["profile"]["wish"]["type"], "mdpy-hd", "a dry run");
    let told = world.json("profile edit screen --type mdpy-vga");
    assert_eq!(told["affected"].as_array().map(Vec::len), Some(2), "{told}");
    for name in ["web1", "web2"] {
        world.start(name).expect("room");
    }
    assert_eq!(type_of(&world, &device(&world, "web1")), "mdpy-hd", "settled");
    assert_eq!(type_of(&world, &device(&world, "web2")), "mdpy-vga", "not settled yet");
    refused(&world, "allocation unsettle web1", &["web1 runs"]);
    world.stop("web1");
    let bound = world.ok(&format!("profile explain screen --allocation {}", id(&world, "web1")));
    assert!(bound.contains("settled as type mdpy-hd") && bound.contains("unsettle"), "{bound}");
    world.ok("allocation unsettle web1");
    world.start("web1").expect("room");
    assert_eq!(type_of(&world, &device(&world, "web1")), "mdpy-vga", "forgotten");
    world.stop("web1");
    world.ok("profile edit screen --type mdpy-xga --float type");
    world.start("web1").expect("room");
    assert_eq!(type_of(&world, &device(&world, "web1")), "mdpy-xga", "the type floats");
    world.stop("web1");
    world.ok("profile edit screen --type mtty-1");
    let refusal = world.start("web1").expect_err("the vendor does not float");
    assert!(refusal.contains("settled mdpy"), "{refusal}");
    assert!(refusal.contains("--float vendor"), "it says how to lift it: {refusal}");
    world.ok("profile edit screen --float vendor");
    world.start("web1").expect("any vendor");
    assert_eq!(type_of(&world, &device(&world, "web1")), "mtty-1");
}

#[test]
fn a_settled_type_that_is_full_is_refused_with_the_reason() {
    let world = lab();
    domains(&world, "screen", &["web1"]);
    world.start("web1").expect("room");
    world.stop("web1");
    world.ok("profile edit screen --type mtty-1");
    world.ok("profile create full --type mdpy-hd");
    for n in 0..4 {
        guaranteed(&world, &format!("full{n}"), 200 + n, "full");
    }
    let refusal = world.start("web1").expect_err("the settled type is full");
    assert!(refusal.contains("settled as type mdpy-hd at its first start"), "{refusal}");
    assert!(refusal.contains("allocation unsettle") && refusal.contains("--float type"), "{refusal}");
}

#[test]
fn a_pin_keeps_the_gpu_of_the_last_start() {
    let world = two_gpus();
    world.define("web1", 100);
    world.ok("attach web1 --profile half --pin");
    let uuid = device(&world, "web1");
    let gpu = || if place(&world, &uuid).contains("0000:41:00") { "41" } else { "c1" };
    world.start("web1").expect("room");
    let first = gpu();
    world.stop("web1");
    let fill = |vf: u32| world.ok(&format!("mdev create 0000:{first}:00.{vf} {HALF}"));
    fill(4);
    world.start("web1").expect("its GPU has room for one");
    assert_eq!(gpu(), first, "the other GPU has more room, and it is pinned");
    world.stop("web1");
    fill(5);
    let refusal = world.start("web1").expect_err("its GPU is full");
    assert!(refusal.contains("pinned to GPU") && refusal.contains("--no-pin"), "{refusal}");
    world.ok("allocation set web1 --no-pin");
    world.start("web1").expect("the other GPU");
    assert_ne!(gpu(), first);
    let told = world.ok("allocation set web1 --pin");
    assert!(told.contains("pinned") && told.contains("starts on GPU"), "{told}");
    world.stop("web1");
    world.start("web1").expect("room");
    assert_ne!(gpu(), first, "pinned where it ran last");
}

#[test]
fn a_changed_profile_makes_a_guaranteed_slice_anew_when_its_domain_is_off() {
    let world = lab();
    let slice = guaranteed(&world, "web1", 100, "screen");
    let told = world.ok("profile edit screen --type mdpy-vga");
    assert!(told.contains("made anew"), "{told}");
    assert_eq!(type_of(&world, &slice), "mdpy-vga");
    // Not settled yet and running: it waits for the stop. Settled, it stays, unless the type floats.
    world.ok("profile edit screen --float type");
    world.start("web1").expect("its slice");
    let told = world.ok("profile edit screen --type mdpy-xga");
    assert!(told.contains("running") && told.contains("when the domain stops"), "{told}");
    assert_eq!(type_of(&world, &slice), "mdpy-vga");
    world.stop("web1");
    wait("it is made anew", || (type_of(&world, &slice) == "mdpy-xga").then_some(()));
    world.settles_to(&[slice], "one slice");
}

#[test]
fn a_guaranteed_slice_stays_as_it_was_when_the_new_one_has_no_room() {
    let world = lab();
    let slice = guaranteed(&world, "web1", 100, "screen");
    for _ in 0..12 {
        world.ok("mdev create mtty mtty-2");
    }
    let told = world.ok("profile edit screen --type mtty-1");
    assert!(told.contains("stays as it was") && told.contains("cannot place"), "{told}");
    assert_eq!(type_of(&world, &slice), "mdpy-hd", "put back");
    assert_eq!(one(&world, "web1")["status"], "ready");
    world.start("web1").expect_err("the profile asks for what nothing has");
    assert_eq!(type_of(&world, &slice), "mdpy-hd", "put back after the refused start too");
}

#[test]
fn an_edit_of_a_profile_that_changed_meanwhile_or_makes_no_sense_changes_nothing() {
    let world = lab();
    domains(&world, "screen", &["web1"]);
    let before = world.ok("profile list -o json");
    refused(&world, "profile edit screen --vf 8086:10ca", &["cannot become"]);
    refused(&world, "profile edit screen --ramfb on", &["ramfb"]);
    refused(&world, "profile edit screen", &["say what to change"]);
    refused(&world, "profile edit nothing --float type", &["no profile nothing"]);
    assert_eq!(world.ok("profile list -o json"), before);
    let was = serde_json::json!({ "name": "screen", "wish": { "type": "mdpy-xga" } });
    let body = serde_json::json!({ "was": was, "wanted": was }).to_string();
    let answer = crate::kit::request(&world, "POST", "/v1/profiles/screen/edit", body.as_bytes());
    assert_eq!(answer.status, 409, "{answer:?}");
    assert_eq!(world.ok("profile list -o json"), before);
}
