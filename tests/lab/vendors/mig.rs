//! A GPU divided by MIG: from the request to the guest, over a real reboot, and back.

use super::sim::FIRST;
use crate::host::{LONG, Lab, SHORT};

const DIVIDE: &str = "--vfs 20 --mig 1g.10gb,3g.40gb,2g.20gb";

/// The driver's own word of a GPU's mode, VFs and GPU instances.
#[track_caller]
fn is(lab: &Lab, mig: &str, vfs: &str, instances: &str) {
    let state = lab.ok(&format!("cat /sys/kernel/debug/vgpu_sim/{FIRST}/state"));
    let has = |line: &str| state.lines().any(|one| one == line);
    assert!(
        has(&format!("mig={mig}")) && has(&format!("vfs={vfs}")),
        "not MIG {mig} and {vfs} VFs:\n{state}"
    );
    let made = state.lines().filter_map(|line| line.strip_prefix("gi ")?.split_once("name="));
    let mut made: Vec<&str> = made.map(|(_, name)| name).collect();
    made.sort_unstable();
    assert_eq!(made.join(" "), instances, "{state}");
}

#[test]
fn a_gpu_divided_by_mig_serves_guests_and_is_divided_again_after_a_reboot() {
    let Some(lab) = Lab::with_gpus("h100-vfio") else { return };
    lab.ok("echo 'options vgpu-sim gpus=h100-vfio' >/etc/modprobe.d/mig.conf
            echo vgpu-sim >/etc/modules-load.d/mig.conf");
    let set = |words: &str| format!("vgpuctl gpu set {FIRST} {words}");
    lab.run(&set("--mig 3g.40gb")).refused(&["GPU instances need VFs", "--vfs 20"]);
    lab.ok(&set(DIVIDE));
    is(&lab, "1", "20", "1g.10gb 2g.20gb 3g.40gb");
    lab.wait("vgpuctl gpus | grep 'MIG mode, GPU instances 3g.40gb, 2g.20gb, 1g.10gb'", SHORT);
    lab.run(&set("--mode mixed")).refused(&["neither a size mode nor a scheduler", "--mig off"]);

    lab.ok("vgpuctl profile create half --type H100-3-40C");
    lab.ok("vgpuctl profile create small --framebuffer 10GiB");
    let (half, keeps) = (lab.guest("half"), lab.guest("keeps"));
    half.attach("half");
    lab.ok("vgpuctl attach keeps --profile small --mode guaranteed");
    let kept = keeps.named_vfs().remove(0);
    half.start();
    let vf = half.named_vfs().remove(0);
    half.assert_holds(&vf);
    half.assert_reads(&[&format!("vf={vf}"), "type=1144", "fb_mib=40960"]);
    let of_vf = |vf: &str| lab.ok(&format!("cat /sys/bus/pci/devices/{vf}/nvidia/gpu_instance_id"));
    let profile_of = |vf: &str| {
        lab.ok(&format!(
            "grep '^gi id={} ' /sys/kernel/debug/vgpu_sim/{FIRST}/state | sed 's/.*name=//'",
            of_vf(vf)
        ))
    };
    assert_eq!((profile_of(&vf).as_str(), profile_of(&kept).as_str()), ("3g.40gb", "1g.10gb"));
    lab.run(&set("--mig 7g.80gb")).refused(&["guaranteed"]);
    lab.guest("next");
    lab.run("vgpuctl attach next --profile half --mode guaranteed").refused(&["GPU instance"]);
    half.destroy();
    lab.ok("sync");

    lab.reboot();
    lab.wait_booted();
    lab.wait_report_done();
    is(&lab, "1", "20", "1g.10gb 2g.20gb 3g.40gb");
    let order = lab.ok("vgpuctl boot-report -o json | jq -r '.steps[].step' | tr '\\n' ' '");
    assert_eq!(order.trim(), "mig vfs binding instances slice");
    assert_eq!(lab.ok(&format!("cat /sys/bus/pci/devices/{kept}/nvidia/current_vgpu_type")), "1141");
    let half = lab.known_guest("half");
    half.start();
    half.assert_holds(&half.named_vfs().remove(0));
    half.destroy();

    lab.ok("vgpuctl detach keeps");
    lab.wait(&set("--mig off --vfs 20"), LONG);
    is(&lab, "0", "20", "");
    lab.ok("vgpuctl profile create timed --type H100-8C");
    lab.ok("vgpuctl attach keeps --profile timed --mode guaranteed");
    lab.ok("vgpuctl detach keeps");
    lab.wait(&set("--vfs 0"), LONG);
    is(&lab, "0", "0", "");
}
