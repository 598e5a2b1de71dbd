//! Intel's xe: VFs with a share of the memory each, found by the share; a profile's weight as turns of a VF.

use nix::errno::Errno;

use crate::kit::{device, domains};
use crate::support::spec::HostSpec;
use crate::support::world::{World, stderr, wait};

const PF: &str = "0000:03:00.0";
/// Its real directory.
const DIR: &str = "sys/devices/pci0000:00/0000:00:02.0/0000:03:00.0";

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

/// Where the driver says the turns of a VF.
fn profile_of(world: &World, vf: &str) -> String {
    let root = world.host.root();
    let link = |index: &u32| {
        let target = std::fs::read_link(root.join(format!("{DIR}/virtfn{index}"))).expect("few VFs");
        target.ends_with(vf)
    };
    let index = (0..12).find(link).expect("a VF of the PF");
    format!("{DIR}/sriov_admin/vf{}/profile", index + 1)
}

/// The turns of a VF: milliseconds and microseconds.
fn turns(world: &World, vf: &str) -> (u32, u32) {
    let profile = profile_of(world, vf);
    let read = |name: &str| {
        let text = std::fs::read_to_string(world.host.root().join(format!("{profile}/{name}")));
        text.expect("an attribute").trim_end().parse().expect("a number")
    };
    (read("exec_quantum_ms"), read("preempt_timeout_us"))
}

fn refused(world: &World, words: &str, code: i32, part: &str) {
    let output = world.ctl(words);
    let text = stderr(&output);
    assert!(output.status.code() == Some(code) && text.contains(part), "{words}: {output:?}");
}

/// Four VFs, and domains that ask for 5 GiB with a weight.
fn weighed(names: &[&str]) -> World {
    let world = one_gpu();
    world.ok(&format!("gpu set {PF} --vfs 4"));
    world.ok("profile create critical --framebuffer 5GiB --weight 40");
    domains(&world, "critical", names);
    world
}

#[test]
fn a_gpu_is_set_refused_while_slices_hold_it_restored_and_forgotten() {
    let mut world = weighed(&["web1"]);
    assert!(world.ok(&format!("gpu set {PF} --vfs 4")).contains("nothing to change"));
    refused(&world, &format!("gpu set {PF} --mode mixed"), 5, "driver xe, not nvidia");
    refused(&world, &format!("gpu set {PF} --vfs 13"), 2, "at most 12 VFs");
    world.start("web1").expect("room");
    refused(&world, &format!("gpu set {PF} --vfs 2"), 7, "web1");
    world.stop("web1");
    world.lose_power();
    world.serve();
    for step in ["vfs", "binding"] {
        world.wait_step(step, PF, "done");
    }
    world.start("web1").expect("its VF is back");
    world.stop("web1");
    let said = world.ok(&format!("gpu forget {PF}"));
    assert!(said.contains("4 VFs no longer come back"), "{said}");
    assert!(world.ok(&format!("gpu forget {PF}")).contains("nothing to change"));
    world.lose_power();
    world.serve();
    assert_eq!(world.step("vfs", PF)["state"], serde_json::Value::Null, "nothing is remembered");
}

#[test]
fn quotas_by_hand_for_some_vfs_only_are_told_before_vfs_without_memory_are_made() {
    let mut world = one_gpu();
    let quota = |vf: u32| format!("{DIR}/sriov_admin/vf{vf}/profile/vram_quota");
    let bulk = format!("{DIR}/sriov_admin/.bulk_profile/vram_quota");
    world.host.by_hand(&quota(1), "1073741824").expect("no VF is there");
    refused(&world, &format!("gpu set {PF} --vfs 2"), 5, "VF 2 of 0000:03:00.0 would have no memory");
    refused(&world, &format!("gpu set {PF} --vfs 2"), 5, ".bulk_profile/vram_quota");
    let written = |world: &World, name: &str| world.host.writes().iter().any(|one| one.path.ends_with(name));
    assert!(!written(&world, "sriov_numvfs"), "nothing was changed");
    world.host.by_hand(&quota(2), "2147483648").expect("no VF is there");
    world.ok(&format!("gpu set {PF} --vfs 2"));
    let shown = world.ok("gpus --all");
    assert!(shown.contains("1GiB") && shown.contains("2GiB"), "by hand, as they were written: {shown}");
    // After a boot the quotas are gone, and a script of the admin's writes but one of them.
    world.stop_service();
    world.lose_power();
    world.host.by_hand(&quota(1), "1073741824").expect("no VF is there");
    world.serve();
    let step = world.wait_step("vfs", PF, "waiting");
    assert!(step.to_string().contains("memory for VF 2"), "{step}");
    world.host.by_hand(&bulk, "0").expect("no VF is there");
    world.wait_step("vfs", PF, "done");
    assert!(world.ok("gpus --all").contains("12GiB"), "the driver divides again");
}

#[test]
fn a_weight_is_on_the_vf_before_the_guest_and_taken_from_it_after() {
    let world = weighed(&["web1", "web2"]);
    world.ok("profile create plain --framebuffer 5GiB");
    world.define("web3", 777);
    world.ok("attach web3 --profile plain");
    let [one, two, plain] = ["web1", "web2", "web3"].map(|name| device(&world, name));
    // What the admin set by hand comes back, not zero.
    let profile = profile_of(&world, &two);
    world.host.by_hand(&format!("{profile}/exec_quantum_ms"), "7").expect("an attribute");
    for name in ["web1", "web2", "web3"] {
        world.start(name).unwrap_or_else(|line| panic!("{name}: {line}"));
    }
    assert_eq!((turns(&world, &one), turns(&world, &two)), ((80, 160_000), (80, 160_000)));
    assert_eq!(turns(&world, &plain), (0, 0), "no weight, no write");
    let written = || world.host.writes().iter().filter(|one| one.path.contains("sriov_admin")).count();
    assert_eq!(written(), 4, "two attributes of two VFs");
    for name in ["web1", "web2", "web3"] {
        world.stop(name);
    }
    wait("the turns are as before", || {
        ((turns(&world, &one), turns(&world, &two)) == ((0, 0), (7, 0))).then_some(())
    });
    world.ok("profile edit critical --weight 10");
    world.start("web1").expect("as before");
    assert_eq!(turns(&world, &one), (20, 40_000), "an edited weight counts from the next start");
    world.stop("web1");
    wait("the turns are as before again", || (turns(&world, &one) == (0, 0)).then_some(()));
    assert!(world.ok("profile show critical").contains("10"));
}

#[test]
fn what_the_driver_says_no_to_is_told_and_nothing_is_left() {
    let world = weighed(&["web1"]);
    let vf = device(&world, "web1");
    for (errno, part) in [
        (Errno::EPERM, "no turns of single VFs"),
        (Errno::EIO, "firmware refused"),
        (Errno::EINVAL, "smaller weight"),
        (Errno::ENODEV, "letting the GPU go"),
        (Errno::EUCLEAN, "tiles"),
    ] {
        world.host.fail("preempt_timeout_us", 1, errno);
        let line = world.start("web1").expect_err("the driver says no");
        assert!(line.contains("cannot weigh the slice of profile critical"), "{line}");
        let log = world.ok("history");
        assert!(line.contains(part) || log.contains(part), "{errno}: {line}\n{log}");
        wait("what was written is put back", || (turns(&world, &vf) == (0, 0)).then_some(()));
        assert!(world.json("status")["unfinished"].as_array().is_some_and(Vec::is_empty));
    }
    world.host.ignore_writes("exec_quantum_ms");
    let line = world.start("web1").expect_err("it reads back otherwise");
    assert!(line.contains("reading back shows"), "{line}");
}

#[test]
fn a_write_that_hangs_refuses_the_start_and_is_put_right_when_it_ends() {
    let world = weighed(&["web1"]);
    let vf = device(&world, "web1");
    world.host.hang("exec_quantum_ms");
    let line = world.start("web1").expect_err("the driver does not answer");
    assert!(line.contains("did not end in time"), "{line}");
    assert!(world.json("status")["unfinished"].to_string().contains("turns of 80 ms"));
    let again = world.start("web1").expect_err("it still hangs");
    assert!(again.contains("has not ended"), "{again}");
    world.host.unhang("exec_quantum_ms");
    wait("nothing is under way", || {
        world.json("status")["unfinished"].as_array().is_some_and(Vec::is_empty).then_some(())
    });
    wait("the turns are as before", || (turns(&world, &vf) == (0, 0)).then_some(()));
    world.start("web1").expect("the driver answers again");
    assert_eq!(turns(&world, &vf), (80, 160_000));
    world.stop("web1");
    wait("the turns are as before again", || (turns(&world, &vf) == (0, 0)).then_some(()));
}

#[test]
fn the_weight_of_a_guaranteed_slice_is_back_after_a_boot_with_a_line_of_its_own() {
    let mut world = weighed(&[]);
    world.define("web1", 101);
    world.ok("attach web1 --profile critical --mode guaranteed");
    let vf = device(&world, "web1");
    assert_eq!(turns(&world, &vf), (80, 160_000), "it is kept while the domain is off");
    world.start("web1").expect("its own VF");
    world.stop("web1");
    assert_eq!(turns(&world, &vf), (80, 160_000));
    world.lose_power();
    world.serve();
    let step = world.wait_step("quantum", PF, "done");
    assert!(step.to_string().contains("weight 40 of domain web1: turns of 80 ms"), "{step}");
    assert_eq!(turns(&world, &vf), (80, 160_000));
    let report = world.ok("boot-report");
    let at = |word: &str| report.lines().position(|line| line.starts_with(word)).expect("a line");
    assert!(["vfs", "binding", "quantum", "slice"].map(at).is_sorted(), "{report}");
    world.ok("allocation set web1 --mode on-start");
    wait("the turns are as before", || (turns(&world, &vf) == (0, 0)).then_some(()));
}

#[test]
fn explanations_say_what_a_weight_means_here_and_what_quota_would_be_needed() {
    let world = weighed(&["web1"]);
    let weight = format!("weight 40: {PF} gives the VF turns of 80 ms with a time-out of 160000 µs");
    for words in ["profile explain critical", "explain critical"] {
        let text = world.ok(words);
        assert!(text.contains(&weight), "{words}: {text}");
    }
    world.ok("profile create big --framebuffer 8GiB");
    let text = world.ok("profile explain big");
    assert!(text.contains("vram_quota of 8589934592 bytes"), "{text}");
    assert!(text.contains(&format!("vgpuctl gpu set {PF} --vfs 3")), "{text}");
    refused(&world, "profile create wrong --framebuffer 5GiB --weight 101", 2, "weight from 1 to 100");
}
