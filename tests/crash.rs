//! The crash test: every operation is killed with SIGKILL before and after every write it makes, to the
//! database, to the kernel and to published files. The service starts again, and then no slice is leaked,
//! none is lost, nothing of a running guest was touched, and the same operation works.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "a fact that cannot be had fails the test"
)]

#[cfg(test)]
mod support;

#[cfg(test)]
#[path = "crash/foreign.rs"]
mod foreign;

#[cfg(all(test, feature = "nvml"))]
#[path = "crash/gpu_set.rs"]
mod gpu_set;

#[cfg(all(test, feature = "nvml"))]
#[path = "crash/mig.rs"]
mod mig;

#[cfg(test)]
#[path = "crash/passthrough.rs"]
mod passthrough;

#[cfg(test)]
#[path = "crash/vgpu.rs"]
mod vgpu;

#[cfg(test)]
#[path = "crash/xe.rs"]
mod xe;

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::spec::HostSpec;
use support::world::{Rehearsal, World};

/// One operation under test.
struct Operation {
    name: &'static str,
    /// Brings the world to the point where the operation can be made.
    arrange: fn(&mut World),
    /// The operation; it may fail, since its service may die.
    act: fn(&mut World),
    /// What must hold after the service came back.
    check: fn(&mut World),
}

const OPERATIONS: &[Operation] = &[
    Operation {
        name: "attach",
        arrange: profiled,
        act: |w| drop(w.ctl("attach web1 --profile small")),
        check: attached,
    },
    Operation { name: "detach", arrange: with_slice, act: |w| drop(w.ctl("detach web1")), check: detached },
    Operation { name: "start", arrange: with_slice, act: |w| drop(w.start("web1")), check: started },
    Operation {
        name: "start of two slices",
        arrange: with_two,
        act: |w| drop(w.start("web1")),
        check: started,
    },
    Operation { name: "stop", arrange: running, act: |w| w.stop("web1"), check: stopped },
    Operation {
        name: "xml --live",
        arrange: running,
        act: |w| drop(w.ctl("xml --profile small --domain web1 --live --lease 1s")),
        check: lease_over,
    },
    Operation {
        name: "vfs set",
        arrange: profiled,
        act: |w| drop(w.ctl("vfs set 0000:01:00.0 2")),
        check: vfs_set,
    },
    Operation {
        name: "vfs set down",
        arrange: with_vfs,
        act: |w| drop(w.ctl("vfs set 0000:01:00.0 2")),
        check: vfs_set,
    },
    Operation {
        name: "vfs forget",
        arrange: with_vfs,
        act: |w| drop(w.ctl("vfs forget 0000:01:00.0")),
        check: vfs_forgotten,
    },
    Operation {
        name: "mdev create",
        arrange: profiled,
        act: |w| drop(w.ctl("mdev create mdpy mdpy-hd --uuid cccccccc-0000-4000-8000-000000000001")),
        check: handmade,
    },
];

/// More operations on the same ground; VFs carry no owner's mark, and a running guest is changed.
const MORE: &[Operation] = &[
    Operation {
        name: "start with a VF",
        arrange: with_vf,
        act: |w| drop(w.start("web1")),
        check: vf_started,
    },
    Operation {
        name: "stop with a VF",
        arrange: running_with_vf,
        act: |w| w.stop("web1"),
        check: vf_stopped,
    },
    Operation {
        name: "attach --live",
        arrange: runs_bare,
        act: |w| drop(w.ctl("attach web1 --profile small --live")),
        check: plugged,
    },
    Operation {
        name: "detach --live",
        arrange: runs_plugged,
        act: |w| drop(w.ctl("detach web1 --live")),
        check: unplugged,
    },
    Operation {
        name: "re-pointing after a refused start",
        arrange: with_vf_and_another,
        act: |w| {
            taken(w);
            drop(w.start("web1"));
            repointed(w);
        },
        check: repointed_and_starts,
    },
    Operation {
        name: "re-pointing for vgpuctl start",
        arrange: with_vf_and_another,
        act: |w| {
            taken(w);
            drop(w.ctl("start web1"));
        },
        check: repointed_and_starts,
    },
    Operation {
        name: "mdev remove",
        arrange: with_handmade,
        act: |w| drop(w.ctl("mdev remove cccccccc-0000-4000-8000-000000000001")),
        check: handmade_gone,
    },
];

/// Promises on terms: a guaranteed slice outlives its runs.
const TERMS: &[Operation] = &[
    Operation {
        name: "attach --mode guaranteed",
        arrange: profiled,
        act: |w| drop(w.ctl("attach web1 --profile small --mode guaranteed")),
        check: guaranteed,
    },
    Operation {
        name: "attach --mode guaranteed of a VF",
        arrange: with_nic,
        act: |w| drop(w.ctl("attach web1 --profile nic --mode guaranteed")),
        check: vf_guaranteed,
    },
    Operation {
        name: "stop of a guaranteed domain",
        arrange: running_guaranteed,
        act: |w| w.stop("web1"),
        check: kept,
    },
    Operation {
        name: "allocation set --mode guaranteed",
        arrange: with_slice,
        act: |w| drop(w.ctl("allocation set web1 --mode guaranteed")),
        check: set_guaranteed,
    },
    Operation {
        name: "allocation set --mode on-start",
        arrange: with_guaranteed,
        act: |w| drop(w.ctl("allocation set web1 --mode on-start")),
        check: set_on_start,
    },
    Operation {
        name: "profile edit with a guaranteed slice",
        arrange: with_guaranteed,
        act: |w| drop(w.ctl("profile edit small --type mtty-2")),
        check: renewed,
    },
];

/// A guest that runs through everything, and whose slice must never be touched.
const BYSTANDER: &str = "web0";

fn profiled(world: &mut World) {
    world.ok("profile create small --type mtty-1");
    world.define(BYSTANDER, 10);
    world.define("web1", 11);
    world.ok("attach web0 --profile small");
    world.start(BYSTANDER).expect("room for one");
}

fn with_slice(world: &mut World) {
    profiled(world);
    world.ok("attach web1 --profile small");
}

fn with_two(world: &mut World) {
    profiled(world);
    world.ok("attach web1 --profile small --count 2");
}

fn running(world: &mut World) {
    with_slice(world);
    world.start("web1").expect("room for one more");
}

fn with_vfs(world: &mut World) {
    profiled(world);
    world.ok("vfs set 0000:01:00.0 4");
}

fn with_nic(world: &mut World) {
    with_vfs(world);
    world.ok("profile create nic --vf 8086:10ca");
}

fn with_vf(world: &mut World) {
    with_nic(world);
    world.ok("attach web1 --profile nic");
}

/// Two VFs on two PFs, the first of which web1 names.
fn with_vf_and_another(world: &mut World) {
    profiled(world);
    world.ok("vfs set 0000:01:00.0 1");
    world.ok("profile create nic --vf 8086:10ca");
    world.ok("attach web1 --profile nic");
    world.ok("vfs set 0000:02:00.0 1");
}

/// Somebody opens the VF that web1 names.
fn taken(world: &mut World) {
    assert!(world.host.hold("0000:01:10.0", "foreigner", 77));
}

/// Waits until web1 and the ledger name the other VF; a service that died in between does it when it is back.
fn repointed(world: &mut World) {
    let moved = || (world.devices("web1") == ["0000:02:10.0"]).then_some(());
    support::world::wait("web1 names the other VF", moved);
    let settled = || {
        // It may be dead at this moment.
        let all: serde_json::Value = serde_json::from_slice(&world.ctl("allocations -o json").stdout).ok()?;
        let own = all["allocations"].as_array()?.iter().find(|one| one["domain"]["name"] == "web1")?;
        (own["device"]["vf"] == "0000:02:10.0" && own["pointing"]["next"].is_null()).then_some(())
    };
    support::world::wait("the ledger agrees with the XML", settled);
}

fn repointed_and_starts(world: &mut World) {
    if is_running(world, "web1") {
        // It was started without a hook, as the directory that plays libvirt does here.
        world.forget_running("web1");
    }
    repointed(world);
    let owned = std::fs::read_to_string(world.host.root().join("run/vgpud/owned")).expect("a list");
    assert!(owned.contains("0000:02:10.0"), "{owned}");
    world.start("web1").expect("plain virsh start works");
    world.stop("web1");
    world.settles_to(&slices_of(world, &[BYSTANDER]), "after re-pointing");
}

fn running_with_vf(world: &mut World) {
    with_vf(world);
    world.start("web1").expect("a free VF");
}

fn runs_bare(world: &mut World) {
    profiled(world);
    world.start("web1").expect("nothing is asked of us");
}

fn runs_plugged(world: &mut World) {
    runs_bare(world);
    world.ok("attach web1 --profile small --live");
}

fn with_handmade(world: &mut World) {
    profiled(world);
    world.ok("mdev create mdpy mdpy-hd --uuid cccccccc-0000-4000-8000-000000000001");
}

fn with_guaranteed(world: &mut World) {
    profiled(world);
    world.ok("attach web1 --profile small --mode guaranteed");
}

fn running_guaranteed(world: &mut World) {
    with_guaranteed(world);
    world.start("web1").expect("its own slice");
}

fn slices_of(world: &World, domains: &[&str]) -> Vec<String> {
    domains.iter().flat_map(|name| world.devices(name)).collect()
}

fn is_running(world: &World, name: &str) -> bool {
    world.host.root().join(format!("etc/libvirt/qemu/{name}.live.xml")).exists()
}

fn allocations_of(world: &World, domain: &str) -> Vec<(String, String)> {
    let all = world.json("allocations");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    all["allocations"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|one| one["domain"]["name"] == domain)
        .map(|one| (text(&one["id"]), text(&one["state"])))
        .collect()
}

fn attached(world: &mut World) {
    world.ok("attach web1 --profile small");
    let allocations = allocations_of(world, "web1");
    assert_eq!(allocations.len(), 1, "one promise, however often it was asked for: {allocations:?}");
    assert_eq!(allocations[0].1, "attached");
    assert_eq!(world.devices("web1").len(), 1, "{}", world.xml("web1"));
    assert!(world.xml("web1").contains(&allocations[0].0), "the XML names that promise");
    world.start("web1").expect("room for one more");
    world.settles_to(&slices_of(world, &[BYSTANDER, "web1"]), "after attach and start");
}

fn detached(world: &mut World) {
    world.ok("detach web1");
    assert_eq!(world.devices("web1"), Vec::<String>::new());
    support::world::wait("the promise is gone", || allocations_of(world, "web1").is_empty().then_some(()));
    world.settles_to(&slices_of(world, &[BYSTANDER]), "after detach");
}

fn started(world: &mut World) {
    let mut domains = vec![BYSTANDER];
    if is_running(world, "web1") {
        domains.push("web1");
    }
    world.settles_to(&slices_of(world, &domains), "after a start that was cut short");
    if is_running(world, "web1") {
        world.stop("web1");
        world.settles_to(&slices_of(world, &[BYSTANDER]), "after the stop");
    }
    world.start("web1").expect("the same domain starts again");
    world.settles_to(&slices_of(world, &[BYSTANDER, "web1"]), "after starting again");
}

fn stopped(world: &mut World) {
    world.settles_to(&slices_of(world, &[BYSTANDER]), "after a stop that was cut short");
    world.start("web1").expect("the same domain starts again");
    world.settles_to(&slices_of(world, &[BYSTANDER, "web1"]), "after starting again");
}

fn lease_over(world: &mut World) {
    world.settles_to(&slices_of(world, &[BYSTANDER, "web1"]), "after the lease");
    world.ok("xml --profile small --domain web1 --live --lease 1s");
    world.settles_to(&slices_of(world, &[BYSTANDER, "web1"]), "after another lease");
}

fn vfs_set(world: &mut World) {
    world.settles_to(&slices_of(world, &[BYSTANDER]), "after a change of VFs that was cut short");
    world.ok("vfs set 0000:01:00.0 2");
    let gpus = world.json("gpus");
    let pf =
        gpus["gpus"].as_array().expect("list").iter().find(|gpu| gpu["name"] == "0000:01:00.0").expect("PF");
    assert_eq!(pf["sriov"]["enabled"], 2);
    assert_eq!(pf["sriov"]["autoprobe"], false);
    for vf in pf["sriov"]["vfs"].as_array().expect("VFs") {
        assert_eq!(vf["driver"], "vfio-pci", "{vf}");
    }
}

fn vfs_forgotten(world: &mut World) {
    world.settles_to(&slices_of(world, &[BYSTANDER]), "after a forgetting that was cut short");
    world.ok("vfs forget 0000:01:00.0");
    assert!(world.ok("vfs forget 0000:01:00.0").contains("nothing to change"));
    let gpus = world.json("gpus");
    let pf =
        gpus["gpus"].as_array().expect("list").iter().find(|gpu| gpu["name"] == "0000:01:00.0").expect("PF");
    assert_eq!(pf["sriov"]["autoprobe"], true, "as it was before the first change");
    let vfs = pf["sriov"]["vfs"].as_array().expect("VFs");
    assert!(vfs.len() == 4 && vfs.iter().all(|vf| vf["driver"] == "vfio-pci"), "they stay: {pf}");
}

/// What the service says of web1's slice: reserved, ready or in use.
fn slice_status(world: &World) -> String {
    let all = world.json("allocations");
    let list = all["allocations"].as_array().expect("a list");
    let own = list.iter().find(|one| one["domain"]["name"] == "web1").expect("an allocation of web1");
    own["status"].as_str().expect("a status").to_owned()
}

fn vf_started(world: &mut World) {
    world.settles_to(&slices_of(world, &[BYSTANDER]), "after a VF start that was cut short");
    if is_running(world, "web1") {
        let known = || (slice_status(world) == "in_use").then_some(());
        support::world::wait("the ledger knows the VF of a running guest", known);
        let refused = world.ctl("vfs set 0000:01:00.0 2");
        assert!(!refused.status.success(), "VFs in use are not taken away");
        world.stop("web1");
    }
    vf_stopped(world);
}

fn vf_stopped(world: &mut World) {
    let free = || (slice_status(world) == "reserved").then_some(());
    support::world::wait("the VF is given back", free);
    world.start("web1").expect("the same domain starts again");
    world.stop("web1");
}

fn plugged(world: &mut World) {
    world.ok("attach web1 --profile small --live");
    assert_eq!(allocations_of(world, "web1").len(), 1);
    let slice = slices_of(world, &["web1"]);
    assert_eq!(slice.len(), 1, "{}", world.xml("web1"));
    assert!(world.live_xml("web1").contains(&slice[0]));
    world.settles_to(&slices_of(world, &[BYSTANDER, "web1"]), "after the plug");
}

fn unplugged(world: &mut World) {
    world.ok("detach web1 --live");
    support::world::wait("the promise is gone", || allocations_of(world, "web1").is_empty().then_some(()));
    assert_eq!(world.devices("web1"), Vec::<String>::new());
    world.settles_to(&slices_of(world, &[BYSTANDER]), "after the unplug");
}

fn guaranteed(world: &mut World) {
    world.ok("attach web1 --profile small --mode guaranteed");
    let allocations = allocations_of(world, "web1");
    assert_eq!(allocations.len(), 1, "one promise, however often it was asked for: {allocations:?}");
    kept(world);
}

/// The slice is there, and stays through a run.
fn kept(world: &mut World) {
    let both = slices_of(world, &[BYSTANDER, "web1"]);
    assert_eq!(both.len(), 2, "{}", world.xml("web1"));
    world.settles_to(&both, "guaranteed");
    assert_eq!(slice_status(world), "ready");
    world.start("web1").expect("its own slice");
    world.stop("web1");
    world.settles_to(&both, "guaranteed after a run");
}

fn vf_guaranteed(world: &mut World) {
    world.ok("attach web1 --profile nic --mode guaranteed");
    assert_eq!(allocations_of(world, "web1").len(), 1);
    assert_eq!(slice_status(world), "ready");
    world.start("web1").expect("its own VF");
    world.stop("web1");
    assert_eq!(slice_status(world), "ready");
}

fn set_guaranteed(world: &mut World) {
    world.ok("allocation set web1 --mode guaranteed");
    kept(world);
}

fn set_on_start(world: &mut World) {
    world.ok("allocation set web1 --mode on-start");
    world.settles_to(&slices_of(world, &[BYSTANDER]), "nothing is held any more");
    world.start("web1").expect("room for one more");
    world.stop("web1");
    world.settles_to(&slices_of(world, &[BYSTANDER]), "after a run");
}

fn renewed(world: &mut World) {
    world.ok("profile edit small --type mtty-2");
    world.start("web1").expect("what its profile asks for now, or asked for before");
    world.stop("web1");
    world.settles_to(&slices_of(world, &[BYSTANDER, "web1"]), "guaranteed after a run");
    assert_eq!(slice_status(world), "ready");
}

fn handmade_gone(world: &mut World) {
    const UUID: &str = "cccccccc-0000-4000-8000-000000000001";
    if world.host.mdevs().iter().any(|uuid| uuid == UUID) {
        world.ok(&format!("mdev remove {UUID}"));
    }
    world.settles_to(&slices_of(world, &[BYSTANDER]), "after removing it");
}

fn handmade(world: &mut World) {
    const UUID: &str = "cccccccc-0000-4000-8000-000000000001";
    let made = world.host.mdevs().iter().any(|uuid| uuid == UUID);
    let again = world.ctl(&format!("mdev create mdpy mdpy-hd --uuid {UUID}"));
    assert_eq!(again.status.success(), !made, "{}", support::world::stderr(&again));
    world.ok(&format!("mdev remove {UUID}"));
    world.settles_to(&slices_of(world, &[BYSTANDER]), "after removing it");
}

fn world(operation: &Operation) -> World {
    let mut world = World::new(HostSpec::lab());
    world.host.put("etc/vgpud/vgpud.toml", "[devices]\ninclude = [\"8086:10c9\"]\n");
    world.serve();
    (operation.arrange)(&mut world);
    world.stop_service();
    world
}

/// Counts the crash points of an operation, from the service's start to its stop.
fn count(operation: &Operation) -> u64 {
    let mut world = world(operation);
    let log = world.host.root().join("var/crash.log");
    world.rehearse(&Rehearsal { crash_at: None, log: Some(log.clone()) });
    (operation.act)(&mut world);
    world.stop_service();
    let text = std::fs::read_to_string(log).expect("crash points");
    let last = text.lines().last().and_then(|line| line.split(' ').next()).expect("at least one");
    last.parse().expect("a number")
}

/// Dies at one point, comes back, and judges. Returns whether the point was reached.
fn visit(operation: &Operation, at: u64) -> bool {
    let mut world = world(operation);
    let bystander = world.devices(BYSTANDER)[0].clone();
    let writes_before = world.host.writes().len();
    world.rehearse(&Rehearsal { crash_at: Some(at), log: None });
    (operation.act)(&mut world);
    let died = world.come_back();
    (operation.check)(&mut world);
    let touched = world.host.writes()[writes_before..].iter().any(|write| write.path.contains(&bystander));
    assert!(!touched, "{} at {at}: the bystander's slice was written to", operation.name);
    let held = world.json("gpus")["slices"].as_array().expect("slices").iter().any(|slice| {
        slice["device"]["mdev"] == bystander.as_str() && slice["holders"][0]["domain"] == BYSTANDER
    });
    assert!(held, "{} at {at}: the bystander lost its slice", operation.name);
    died
}

// Bringing back after a boot: no bystander can run through a reboot -----------------------------------

const PF: &str = "0000:01:00.0";

/// Whose guaranteed slices a restore brings back; those of one GPU together.
const GUARANTEED: [&str; 3] = ["web1", "web2", "web3"];

/// A host that has just booted, with a count and guaranteed slices to bring back.
fn booted() -> World {
    let mut world = World::new(HostSpec::lab());
    world.host.put("etc/vgpud/vgpud.toml", "[devices]\ninclude = [\"8086:10c9\"]\n");
    world.serve();
    world.ok(&format!("vfs set {PF} 3"));
    world.ok("profile create small --type mtty-1");
    for (number, name) in (11..).zip(GUARANTEED) {
        world.define(name, number);
        world.ok(&format!("attach {name} --profile small --mode guaranteed"));
    }
    world.stop_service();
    world.host.reboot();
    world
}

/// Everything is back, by itself, and was brought back without a way through 0 VFs.
fn restored(world: &World, when: &str) {
    for (kind, place) in [("vfs", PF), ("binding", PF), ("slice", "mtty")] {
        world.wait_step(kind, place, "done");
    }
    world.settles_to(&slices_of(world, &GUARANTEED), when);
    let gpus = world.json("gpus");
    let pf = gpus["gpus"].as_array().expect("list").iter().find(|gpu| gpu["name"] == PF).expect("PF");
    let vfs = pf["sriov"]["vfs"].as_array().expect("VFs");
    let bound = vfs.iter().filter(|vf| vf["driver"] == "vfio-pci").count();
    assert_eq!((vfs.len(), bound), (3, 3), "{when}");
    let writes = world.host.writes();
    let none = writes.iter().find(|write| write.path.ends_with("sriov_numvfs") && write.value.trim() == "0");
    assert_eq!(none, None, "{when}: never through 0 VFs");
    for name in GUARANTEED {
        assert_eq!(allocations_of(world, name).len(), 1, "{when}: {name}");
    }
}

fn count_restore() -> u64 {
    let mut world = booted();
    let log = world.host.root().join("var/crash.log");
    world.rehearse(&Rehearsal { crash_at: None, log: Some(log.clone()) });
    restored(&world, "without a crash");
    world.stop_service();
    let text = std::fs::read_to_string(log).expect("crash points");
    let last = text.lines().last().and_then(|line| line.split(' ').next()).expect("at least one");
    last.parse().expect("a number")
}

/// Dies at one point of the restore; the service, or with a power cut the whole host, comes back.
fn visit_restore(at: u64, power_cut: bool) -> bool {
    let mut world = booted();
    world.begin(&Rehearsal { crash_at: Some(at), log: None });
    if power_cut {
        support::world::wait("it died, or has everything back", || {
            (world.deaths() > 0 || world.answers()).then_some(())
        });
        let died = world.deaths() > 0;
        world.lose_power();
        world.serve();
        restored(&world, &format!("power cut at {at}"));
        return died;
    }
    let died = world.come_back();
    restored(&world, &format!("killed at {at}"));
    died
}

#[test]
fn a_kill_or_a_power_cut_at_any_write_of_a_restore_loses_nothing() {
    let count = count_restore();
    assert!(count >= 8, "a restore has {count} crash points, which is too few to be true");
    say(&format!("restore: {count} crash points, each with a kill and with a power cut"));
    let points: Vec<(u64, bool)> = (1..=count).flat_map(|at| [(at, false), (at, true)]).collect();
    let kills = in_parallel(&points, |(at, power_cut)| visit_restore(*at, *power_cut));
    say(&format!("{} crash points of a restore visited, {kills} kills", points.len()));
    assert!(kills * 10 >= points.len() * 7, "only {kills} of {} points were reached", points.len());
}

/// Visits the points on all processors. Returns at how many of them a service died; fails after all when one failed.
fn in_parallel<P, V>(points: &[P], visit: V) -> usize
where
    P: std::fmt::Debug + Sync + std::panic::RefUnwindSafe,
    V: Fn(&P) -> bool + Sync + std::panic::RefUnwindSafe,
{
    let next = AtomicUsize::new(0);
    let (failures, kills) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(point) = points.get(next.fetch_add(1, Ordering::SeqCst)) {
                    match std::panic::catch_unwind(|| visit(point)) {
                        Ok(died) => drop(kills.fetch_add(usize::from(died), Ordering::SeqCst)),
                        Err(_) => failures.lock().expect("lock").push(format!("{point:?}")),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("lock");
    assert!(failures.is_empty(), "failed: {failures:?}");
    kills.into_inner()
}

/// Visits one crash point after another until one is not reached any more. `least` of them make the sweep credible.
fn sweep(what: &str, least: u64, visit: impl Fn(u64) -> bool) {
    const MOST: u64 = 200;
    let end = (1..MOST).find(|at| !visit(*at));
    let kills = end.unwrap_or_else(|| panic!("{what}: still alive at {MOST}")) - 1;
    say(&format!("{what}: {kills} crash points visited"));
    assert!(kills >= least, "{what}: {kills} kills, too few to be true");
}

/// Prints a line that is seen also when the test passes: the harness keeps `println!` for failures.
fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("stdout is open");
}

#[test]
fn a_kill_at_any_write_leaks_nothing_and_loses_nothing() {
    kill_everywhere(&OPERATIONS.iter().chain(MORE).collect::<Vec<_>>());
}

#[test]
fn a_kill_at_any_write_loses_no_guaranteed_slice() {
    kill_everywhere(&TERMS.iter().collect::<Vec<_>>());
}

fn kill_everywhere(operations: &[&Operation]) {
    let mut points: Vec<(&str, usize, u64)> = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        let count = count(operation);
        assert!(count >= 4, "{} has {count} crash points, which is too few to be true", operation.name);
        say(&format!("{}: {count} crash points", operation.name));
        points.extend((1..=count).map(|at| (operation.name, index, at)));
    }
    let kills = in_parallel(&points, |(_, index, at)| visit(operations[*index], *at));
    say(&format!("{} crash points visited in {} operations, {kills} kills", points.len(), operations.len()));
    // Closed intents reach the disk by time or with the next commit: the last points of a run can fall together.
    assert!(kills * 10 >= points.len() * 9, "only {kills} of {} points were reached", points.len());
}
