//! How GPUs are set, over a real reboot; and sizes beside each other at the places that NVIDIA's tables give. The
//! GPUs are simulated (`vgpu-sim`), and so are NVIDIA's library and script; PCI core, VFIO and libvirt are real.

use super::host::{LONG, Lab, SHORT, is_debian_12};

/// Where the simulated GPUs are, in their order.
const FIRST: &str = "0000:40:00.0";
const SECOND: &str = "0000:42:00.0";

/// The lab with these GPUs, also after a reboot, once the service lists them; `None` where the kernel is too old.
fn simulated(presets: &str) -> Option<Lab> {
    if is_debian_12() {
        return None;
    }
    let lab = Lab::reset();
    lab.ok(&format!(
        "echo 'options vgpu-sim gpus={presets}' >/etc/modprobe.d/gpu-set.conf
         echo vgpu-sim >/etc/modules-load.d/gpu-set.conf
         modprobe vgpu-sim"
    ));
    lab.wait(&format!("vgpuctl gpus -o json | grep -F {FIRST}"), SHORT);
    Some(lab)
}

/// What the simulated silicon says of itself.
#[track_caller]
fn is(lab: &Lab, gpu: &str, lines: &[&str]) {
    let state = lab.ok(&format!("cat /sys/kernel/debug/vgpu_sim/{gpu}/state"));
    for wanted in lines {
        assert!(state.lines().any(|line| line == *wanted), "{gpu} is not {wanted}:\n{state}");
    }
}

#[test]
fn sizes_and_scheduler_of_two_gpus_come_back_after_a_reboot() {
    let Some(lab) = simulated("l40s-vfio,l40s-vfio") else { return };
    lab.run(&format!("vgpuctl gpu set {FIRST} --mode mixed")).refused(&["mixed sizes need VFs", "--vfs 32"]);
    lab.ok(&format!(
        "vgpuctl gpu set {FIRST} --vfs 32 --mode mixed --scheduler equal-share --time-slice-ms 3"
    ));
    lab.ok(&format!("vgpuctl gpu set {SECOND} --vfs 32 --scheduler fixed-share"));
    let first = ["vfs=32", "mode=mixed", "scheduler=equal-share", "time_slice_ns=3000000"];
    let second = ["vfs=32", "mode=equal", "scheduler=fixed-share"];
    is(&lab, FIRST, &first);
    is(&lab, SECOND, &second);
    lab.run(&format!("vgpuctl gpu set {SECOND} --mode mixed")).refused(&["fixed share", "mixed-size mode"]);
    lab.ok("sync");

    lab.reboot();
    lab.wait("vgpuctl status", LONG);
    let back = "vgpuctl boot-report -o json | jq -e '[.steps[].state] | length == 7 and all(. == \"done\")'";
    lab.wait(back, LONG);
    is(&lab, FIRST, &first);
    is(&lab, SECOND, &second);
    let order = lab.ok(&format!(
        "vgpuctl boot-report -o json | jq -r '.steps[] | select(.place == \"{FIRST}\") | .step' | tr '\\n' ' '"
    ));
    assert_eq!(order.trim(), "vfs binding mode scheduler");
}

#[test]
fn sizes_sit_where_the_tables_say_and_the_next_one_is_refused_with_the_places() {
    let Some(lab) = simulated("l40s-vfio") else { return };
    lab.ok(&format!("vgpuctl gpu set {FIRST} --vfs 32 --mode mixed"));
    for (profile, vgpu_type) in [("whole", "L40S-24Q"), ("half", "L40S-16Q"), ("third", "L40S-8Q")] {
        lab.ok(&format!("vgpuctl profile create {profile} --type {vgpu_type}"));
        let guest = lab.guest(profile);
        lab.ok(&format!("vgpuctl attach {} --profile {profile} --mode guaranteed", guest.name));
    }
    let place = |name: &str| {
        let vf = lab.known_guest(name).named_vfs().remove(0);
        lab.ok(&format!("cat /sys/bus/pci/devices/{vf}/nvidia/placement_id"))
    };
    assert_eq!(["whole", "half", "third"].map(place), ["0", "32", "24"], "24, 16 and 8 GiB");
    let taken = "0-23 L40S-24Q, 24-31 L40S-8Q, 32-47 L40S-16Q";
    lab.guest("next");
    lab.run("vgpuctl attach next --profile third --mode guaranteed").refused(&[
        "no place left for L40S-8Q",
        "8 units from 0, 16, 24, 40",
        taken,
    ]);
    let shown = lab.ok("vgpuctl explain third");
    for part in
        ["0-23 L40S-24Q of domain whole", "24-31 L40S-8Q of domain third", "32-47 L40S-16Q of domain half"]
    {
        assert!(shown.contains(part), "the map does not show {part:?}:\n{shown}");
    }
    lab.run(&format!("vgpuctl gpu set {FIRST} --mode equal")).refused(&["VF 0000:40:", "guaranteed"]);
    lab.run(&format!("vgpuctl gpu set {FIRST} --vfs 0")).refused(&["in use"]);
}
