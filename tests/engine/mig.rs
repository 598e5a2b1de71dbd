//! How GPUs are divided by MIG: mode and GPU instances, MIG-backed slices, and all of it after a boot.

use crate::kit::vgpu_type;
use crate::support::nvidia::{GPUS, Nvidia};
use crate::support::world::{World, wait};

const A: &str = GPUS[0];

fn served() -> (Nvidia, World) {
    let (nvidia, mut world) = Nvidia::with_mig();
    world.serve();
    world.define("nobody", 999);
    (nvidia, world)
}

fn refused_with(world: &World, words: &str) -> (i32, String) {
    let output = world.ctl(words);
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// MIG mode, VFs, and the GPU instances in the order in which they were made.
fn found(nvidia: &Nvidia) -> (String, String, String) {
    (nvidia.get(A, "mig"), nvidia.get(A, "vfs"), nvidia.instances(A).join(" "))
}

fn is(nvidia: &Nvidia, mig: &str, vfs: &str, instances: &str) {
    assert_eq!(found(nvidia), (mig.to_owned(), vfs.to_owned(), instances.to_owned()));
}

const DIVIDE: &str = "gpu set 41:00.0 --vfs 8 --mig 1g.10gb,3g.40gb,1g.10gb";
const MADE: &str = "3g.40gb 1g.10gb 1g.10gb";

#[test]
fn a_gpu_is_divided_in_the_order_of_the_road_and_once() {
    let (nvidia, world) = served();
    let dry = world.ok(&format!("{DIVIDE} --dry-run"));
    assert!(dry.contains("MIG mode, GPU instances 3g.40gb, 2 × 1g.10gb") && dry.contains("8 VFs"), "{dry}");
    is(&nvidia, "0", "0", "");
    let said = world.ok(DIVIDE);
    assert!(said.contains("GPU instances 3g.40gb, 2 × 1g.10gb"), "{said}");
    is(&nvidia, "1", "8", MADE);
    assert_eq!(nvidia.calls(), [format!("-e {A}")], "VFs once, after MIG mode");
    assert!(world.ok(DIVIDE).contains("nothing to change"));
    let shown = world.ok("gpus");
    assert!(shown.contains("MIG mode, GPU instances 3g.40gb, 2 × 1g.10gb"), "{shown}");
    let json = world.json("gpus");
    let gpu = json["gpus"].as_array().expect("a list").iter().find(|gpu| gpu["name"] == A).expect("is here");
    assert_eq!(gpu["nvml"]["instances"][0]["profile"], "3g.40gb");
    assert_eq!(gpu["nvml"]["instances"][0]["size"], 4);
    let history = world.ok("history");
    assert!(history.contains("8 VFs, MIG 3g.40gb,1g.10gb,1g.10gb"), "{history}");

    // Other instances replace those that are there, without the VFs being made anew.
    world.ok("gpu set 41:00.0 --mig 2g.20gb,3g.40gb");
    is(&nvidia, "1", "8", "3g.40gb 2g.20gb");
    assert_eq!(nvidia.calls().len(), 1);
    // What the script loses comes back.
    world.ok("gpu set 41:00.0 --vfs 0");
    is(&nvidia, "1", "0", "");
    world.ok("gpu set 41:00.0 --vfs 8");
    wait("the instances are back", || (nvidia.instances(A).len() == 2).then_some(()));
    // Off again: VFs make way for it.
    world.ok("gpu set 41:00.0 --mig off --vfs 8");
    is(&nvidia, "0", "8", "");
    assert_eq!(nvidia.calls().len(), 5);
    assert!(!world.ok("gpus").contains("MIG mode"));
    assert!(world.ok("gpu set 41:00.0 --mode mixed").contains("mixed-size mode"), "time-sliced again");
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    let (nvidia, world) = served();
    let refused = |words: &str, code: i32, part: &str| {
        let (exit, text) = refused_with(&world, &format!("gpu set {words}"));
        assert!(exit == code && text.contains(part), "{words}: {exit}, {text}");
    };
    refused("41:00.0 --mig on", 2, "GPU instance profile");
    refused("41:00.0 --mig 1g.10gb", 5, "make them in the same step: --vfs 8");
    refused("41:00.0 --mig 1g.10gb --vfs 8 --mode mixed", 5, "neither a size mode nor a scheduler");
    refused("c1:00.0 --mig 1g.10gb --vfs 8", 5, "it knows no MIG");
    nvidia.by_hand(A, "process", "4711");
    refused("41:00.0 --mig 1g.10gb --vfs 8", 7, "process 4711 computes on it");
    nvidia.by_hand(A, "process", "0");
    world.ok("gpu set 41:00.0 --vfs 8");
    refused("41:00.0 --mig 1g.10gb", 5, "MIG mode does not change beside VFs, and it has 8");
    is(&nvidia, "0", "8", "");

    refused("41:00.0 --mig 1g.10gb,4g.40gb --vfs 8", 8, "no such profile, but 1g.10gb, 2g.20gb, 3g.40gb");
    assert_eq!(nvidia.get(A, "mig"), "1", "profiles are only known in MIG mode");
    world.ok("gpu set 41:00.0 --mig 2g.20gb");
    refused("41:00.0 --mig 4g.40gb", 5, "no GPU instance profile 4g.40gb, but 1g.10gb, 2g.20gb, 3g.40gb");
    refused("41:00.0 --mig 3g.40gb,3g.40gb,3g.40gb", 5, "it has room for 2 GPU instances 3g.40gb, not 3");
    is(&nvidia, "1", "8", "2g.20gb");
    refused("41:00.0 --mode equal", 5, "name --mig off as well");
    let (exit, text) = refused_with(&world, "gpu set 41:00.0 --mig 3g.40gb,3g.40gb,1g.10gb");
    assert!(
        exit == 6 && text.contains("make a GPU instance 1g.10gb") && text.contains("-lgipp"),
        "{exit}, {text}"
    );
    world.ok("gpu set 41:00.0 --mig 3g.40gb,3g.40gb");
    is(&nvidia, "1", "8", "3g.40gb 3g.40gb");
}

#[test]
fn without_the_library_it_is_said_what_to_type() {
    let (nvidia, mut world) = Nvidia::with_mig();
    let config = std::fs::read_to_string(world.host.root().join("etc/vgpud/vgpud.toml")).expect("a file");
    let gone = config.replace("libnvidia_ml.so", "libnvidia_gone.so");
    world.host.put("etc/vgpud/vgpud.toml", &gone);
    world.serve();
    let (exit, text) = refused_with(&world, DIVIDE);
    assert!(exit == 8 && text.contains("NVML is absent"), "{exit}, {text}");
    assert!(text.contains("nvidia-smi mig -i GPU -cgi 3g.40gb,1g.10gb,1g.10gb"), "{text}");
    is(&nvidia, "0", "0", "");
}

#[test]
fn a_mig_backed_slice_keeps_the_gpu_as_it_is() {
    let (nvidia, world) = served();
    world.ok(DIVIDE);
    world.ok("profile create half --type H100-3-40C");
    world.ok("profile create small --framebuffer 10GiB");
    for (name, number) in [("web1", 101), ("web2", 102), ("web3", 103), ("web4", 104)] {
        world.define(name, number);
    }
    world.ok("attach web1 --profile half");
    world.start("web1").expect("one half is free");
    let vf = world.devices("web1")[0].clone();
    assert_eq!(vgpu_type(&world, &vf), "1144");
    for words in ["--mig 1g.10gb", "--mig off --vfs 8", "--vfs 0"] {
        let (exit, text) = refused_with(&world, &format!("gpu set 41:00.0 {words}"));
        assert!(exit == 7 && text.contains("web1"), "{words}: {exit}, {text}");
    }
    is(&nvidia, "1", "8", MADE);
    // Both small instances, and no more.
    for name in ["web2", "web3"] {
        world.ok(&format!("attach {name} --profile small"));
        world.start(name).expect("a small one is free");
        assert_eq!(vgpu_type(&world, &world.devices(name)[0]), "1141");
    }
    let (_, text) = refused_with(&world, "attach web4 --profile half --mode guaranteed");
    assert!(text.contains("GPU instance"), "{text}");
    for name in ["web1", "web2", "web3"] {
        world.stop(name);
    }
    wait("the slices are gone", || world.ctl("gpu set 41:00.0 --mig 2g.20gb").status.success().then_some(()));
    is(&nvidia, "1", "8", "2g.20gb");
}

#[test]
fn a_boot_brings_mig_mode_then_vfs_then_instances_then_slices() {
    let (nvidia, mut world) = served();
    world.ok(DIVIDE);
    world.ok("profile create half --type H100-3-40C");
    world.define("web1", 101);
    world.ok("attach web1 --profile half --mode guaranteed");
    let vf = world.devices("web1")[0].clone();
    for keeps_mode in [true, false] {
        world.lose_power();
        if !keeps_mode {
            // Another board's firmware, or a mode that was never in force.
            nvidia.by_hand(A, "mig", "0");
        }
        nvidia.boot();
        world.serve();
        world.wait_step("slice", A, "done");
        for kind in ["mig", "vfs", "binding", "instances"] {
            world.wait_step(kind, A, "done");
        }
        let log = world.service_log();
        assert!(!log.contains("trying again"), "each step waits for its facts: {log}");
        is(&nvidia, "1", "8", MADE);
        assert_eq!(vgpu_type(&world, &vf), "1144");
    }
    assert_eq!(nvidia.calls(), [format!("-e {A}"), format!("-e {A}"), format!("-e {A}")]);
    let report = world.ok("boot-report");
    assert!(
        report.contains("MIG mode on") && report.contains("GPU instances 3g.40gb, 2 × 1g.10gb"),
        "{report}"
    );
    let order: Vec<String> = world.json("boot-report")["steps"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|step| step["step"].as_str().expect("a word").to_owned())
        .collect();
    assert_eq!(order, ["mig", "vfs", "binding", "instances", "slice"]);
}

#[test]
fn instances_that_somebody_else_made_stay_after_a_boot_and_go_for_a_request() {
    let (nvidia, mut world) = served();
    world.ok(DIVIDE);
    world.lose_power();
    nvidia.boot();
    let vfs = world.host.root().join("sys/bus/pci/devices").join(A).join("vendor_numvfs");
    std::fs::write(vfs, "8").expect("is taken");
    nvidia.by_hand(A, "vfs", "8");
    nvidia.make_instance(A, 1, "2g.20gb", 14, 0);
    world.serve();
    let step = world.wait_step("instances", A, "left");
    assert!(
        step["why"].as_str().is_some_and(|why| why.contains("1 (2g.20gb) was made by somebody else")),
        "{step}"
    );
    assert_eq!(nvidia.instances(A), ["2g.20gb"]);
    world.ok(DIVIDE);
    is(&nvidia, "1", "8", MADE);
    world.wait_step("instances", A, "done");
    world.ok("gpu forget 41:00.0");
    is(&nvidia, "1", "8", MADE);
}

#[test]
fn a_refusal_half_way_says_what_was_done_before_it() {
    let (nvidia, world) = served();
    let (code, text) = refused_with(&world, "gpu set 41:00.0 --vfs 8 --mig 3g.40gb,3g.40gb,1g.10gb");
    assert_ne!(code, 0, "{text}");
    is(&nvidia, "1", "8", "3g.40gb 3g.40gb");
    for part in [
        "do not all fit",
        "what was done before that stays: MIG mode on, 8 VFs instead of 0, GPU instances 2 × 3g.40gb",
    ] {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    // Refused before anything was done: nothing is left to tell.
    let (_, text) = refused_with(&world, "gpu set 41:00.0 --mig 9g.90gb");
    assert!(!text.contains("what was done before"), "{text}");
    is(&nvidia, "1", "8", "3g.40gb 3g.40gb");
}
