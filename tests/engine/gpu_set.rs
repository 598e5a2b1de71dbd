//! How GPUs of NVIDIA's are set: VFs by its script, sizes and scheduler by its library, all of it remembered.

use crate::kit::vgpu_type;
use crate::support::nvidia::{GPUS, Nvidia};
use crate::support::spec::HostSpec;
use crate::support::world::{World, wait};

const A: &str = GPUS[0];

fn served() -> (Nvidia, World) {
    let (nvidia, mut world) = Nvidia::new();
    world.serve();
    world.define("nobody", 999);
    (nvidia, world)
}

fn vfs(world: &World, gpu: &str) -> usize {
    let dir = world.host.root().join("sys/bus/pci/devices").join(gpu);
    (0..).take_while(|index| dir.join(format!("virtfn{index}")).exists()).count()
}

fn is_set(nvidia: &Nvidia, gpu: &str) -> [String; 3] {
    ["mode", "scheduler", "time_slice_ns"].map(|key| nvidia.get(gpu, key))
}

fn refused_with(world: &World, words: &str) -> (i32, String) {
    let output = world.ctl(words);
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

const ALL: &str = "gpu set 41:00.0 --vfs 8 --mode mixed --scheduler equal-share --time-slice-ms 3";

#[test]
fn everything_is_set_in_the_order_of_the_road_and_once() {
    let (nvidia, world) = served();
    // A session that is open would keep the script from working.
    world.ok("top");
    let dry = world.ok(&format!("{ALL} --dry-run"));
    assert!(dry.contains("8 VFs") && dry.contains("mixed-size mode") && dry.contains("dry run"), "{dry}");
    assert_eq!((vfs(&world, A), nvidia.calls().len()), (0, 0), "a dry run changes nothing");
    let said = world.ok(ALL);
    assert!(said.contains("mixed-size mode, scheduler equal-share with 3 ms"), "{said}");
    assert_eq!(vfs(&world, A), 8);
    assert_eq!(is_set(&nvidia, A), ["mixed", "equal-share", "3000000"]);
    assert_eq!(nvidia.calls(), [format!("-e {A}")]);
    assert_eq!(vfs(&world, GPUS[1]), 0, "the other GPU is as it was");
    assert!(world.ok(ALL).contains("nothing to change"));
    assert_eq!(nvidia.calls().len(), 1);
    let bound = world.host.writes().iter().any(|write| write.path.ends_with("sriov_numvfs"));
    assert!(!bound, "never by the kernel's own file");
    let history = world.ok("history");
    assert!(history.contains("gpu set") && history.contains("8 VFs, mode mixed"), "{history}");
    // What is not named stays.
    world.ok("gpu set 41:00.0 --scheduler best-effort");
    assert_eq!(is_set(&nvidia, A), ["mixed", "best-effort", "0"]);
    world.ok("gpu set 41:00.0 --vfs 0");
    assert_eq!((vfs(&world, A), nvidia.calls()[1].clone()), (0, format!("-d {A}")));
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    let (nvidia, world) = served();
    let refused = |words: &str, code: i32, part: &str| {
        let (exit, text) = refused_with(&world, words);
        assert!(exit == code && text.contains(part), "{words}: {exit}, {text}");
    };
    refused("gpu set 41:00.0", 2, "nothing to set was named");
    refused("gpu set 99:00.0 --mode mixed", 4, "no device 0000:99:00.0");
    refused("gpu set 41:00.0 --mode mixed", 5, "mixed sizes need VFs");
    refused("gpu set 41:00.0 --vfs 3", 2, "makes all 8 VFs of 0000:41:00.0 or none, not 3");
    refused(
        "gpu set 41:00.0 --vfs 8 --mode mixed --scheduler fixed-share",
        5,
        "not available in mixed-size mode",
    );
    refused("gpu set 41:00.0 --scheduler equal-share --time-slice-ms 31", 2, "1 to 30 ms, not 31");
    refused("gpu set 41:00.0 --scheduler best-effort --time-slice-ms 3", 2, "a time slice belongs to");
    assert_eq!((nvidia.calls(), vfs(&world, A)), (Vec::<String>::new(), 0), "nothing was changed");
    let plain = World::new(HostSpec::lab());
    drop((nvidia, world));
    let mut world = plain;
    world.serve();
    let (exit, text) = refused_with(&world, "gpu set mtty --mode mixed");
    assert!(exit == 5 && text.contains("no driver, not nvidia"), "{exit}, {text}");
}

#[test]
fn a_missing_script_is_explained() {
    let (nvidia, mut world) = Nvidia::new();
    let config = std::fs::read_to_string(world.host.root().join("etc/vgpud/vgpud.toml")).expect("a file");
    let kept = config.lines().filter(|line| !line.starts_with("sriov_manage"));
    let kept: String = kept.flat_map(|line| [line, "\n"]).collect();
    world.host.put("etc/vgpud/vgpud.toml", &kept);
    world.serve();
    let (exit, text) = refused_with(&world, "gpu set 41:00.0 --vfs 8");
    assert!(exit == 8 && text.contains("sriov-manage, and that was not found"), "{exit}, {text}");
    assert!(text.contains("[nvidia] sriov_manage"), "{text}");
    assert_eq!(nvidia.calls(), [] as [&str; 0]);
}

#[test]
fn a_slice_on_the_gpu_keeps_it_as_it_is() {
    let (nvidia, world) = served();
    world.ok("gpu set 41:00.0 --vfs 8 --mode equal");
    world.ok("profile create eight --type L40S-8Q");
    world.define("web1", 101);
    world.ok("attach web1 --profile eight");
    world.start("web1").expect("the GPU is empty");
    for words in ["--mode mixed", "--scheduler equal-share", "--vfs 0"] {
        let (exit, text) = refused_with(&world, &format!("gpu set 41:00.0 {words}"));
        assert!(exit == 7 && text.contains("web1"), "{words}: {exit}, {text}");
    }
    assert_eq!((is_set(&nvidia, A)[0].as_str(), vfs(&world, A)), ("equal", 8));
    world.stop("web1");
    wait("the slice is gone", || world.ctl("gpu set 41:00.0 --mode mixed").status.success().then_some(()));
    assert_eq!(is_set(&nvidia, A)[0], "mixed");
}

#[test]
fn a_boot_brings_vfs_then_sizes_then_slices() {
    let (nvidia, mut world) = served();
    world.ok(ALL);
    world.ok("profile create eight --type L40S-8Q");
    world.define("web1", 101);
    world.ok("attach web1 --profile eight --mode guaranteed");
    let vf = world.devices("web1")[0].clone();
    world.lose_power();
    nvidia.boot();
    world.serve();
    world.wait_step("slice", A, "done");
    for kind in ["vfs", "binding", "mode", "scheduler"] {
        world.wait_step(kind, A, "done");
    }
    let log = world.service_log();
    assert!(!log.contains("trying again"), "each step waits for its facts: {log}");
    assert_eq!(is_set(&nvidia, A), ["mixed", "equal-share", "3000000"]);
    assert_eq!(vgpu_type(&world, &vf), "1155");
    assert_eq!(nvidia.calls(), [format!("-e {A}"), format!("-e {A}")]);
    let report = world.ok("boot-report");
    assert!(
        report.contains("mixed-size mode") && report.contains("scheduler equal-share with 3 ms"),
        "{report}"
    );
}

#[test]
fn what_somebody_sets_by_hand_in_this_boot_is_theirs_until_it_is_asked_for_again() {
    let (nvidia, mut world) = served();
    world.ok(ALL);
    nvidia.by_hand(A, "mode", "equal");
    world.stop_service();
    world.serve();
    world.wait_step("mode", A, "left");
    assert_eq!(is_set(&nvidia, A)[0], "equal");
    world.ok("gpu set 41:00.0 --mode mixed");
    assert_eq!(is_set(&nvidia, A)[0], "mixed");
    world.ok("gpu forget 41:00.0");
    assert!(world.ok("gpu forget 41:00.0").contains("nothing to change"));
}
