//! One guest with slices of two vendors' GPUs at once, and a VF plugged into it while it runs.

use super::sim::{FIRST, SECOND};
use crate::host::{LONG, Lab, SHORT};

/// A VF of the simulated Arc, as the guest sees it.
const ARC_VF: &str = "8086:e211";

#[test]
fn a_guest_has_slices_of_both_gpus_and_a_vf_comes_and_goes_while_it_runs() {
    let Some(lab) = Lab::with_gpus("t4,arc-b") else { return };
    lab.ok(&format!("vgpuctl vfs set {SECOND} 2"));
    lab.ok("vgpuctl profile create cad --type T4-4Q && vgpuctl profile create media --vf 8086:e211");
    let web = lab.guest("web");
    web.attach("cad");
    web.attach("media");
    let (uuid, first) = (web.named_mdevs().remove(0), web.named_vfs().remove(0));
    web.start();
    web.assert_holds(&uuid);
    web.assert_holds(&first);
    web.assert_reads(&[&format!("pf={FIRST}"), &format!("mdev={uuid}"), "fb_mib=4096"]);
    web.assert_reads(&[&format!("pf={SECOND}"), &format!("vf={first}")]);
    web.wait_listed_in_use();

    lab.ok("vgpuctl attach web --profile media --count 2 --live");
    web.wait_sees(ARC_VF, 2);
    let second = web.named_vfs().into_iter().find(|vf| *vf != first).expect("another VF");
    // What was plugged in is not on QEMU's command line.
    assert_eq!(lab.ok(&format!("lab-guest holders {second}")), format!("{} web", web.pid()));
    web.assert_reads(&[&format!("pf={SECOND}"), &format!("vf={second}")]);
    lab.run("vgpuctl attach web --profile media --count 3 --live").refused(&["8086:e211"]);

    let plugged = lab.ok(&format!(
        "vgpuctl allocations --domain web -o json | jq -r '.allocations[] | select(.device.vf == \"{second}\").id'"
    ));
    lab.ok(&format!("vgpuctl detach web --live --allocation {plugged}"));
    web.wait_sees(ARC_VF, 1);
    lab.wait(&format!("test -z \"$(lab-guest holders {second})\""), LONG);
    web.assert_holds(&first);
    web.assert_holds(&uuid);

    web.destroy();
    lab.wait(&format!("! test -e /sys/bus/mdev/devices/{uuid}"), SHORT);
    lab.wait(&format!("test -z \"$(lab-guest holders {first})\""), SHORT);
    lab.wait_agreement(&[]);
    lab.ok(&format!("vgpuctl detach web && vgpuctl vfs set {SECOND} 0"));
    lab.ok("rmmod vgpu-sim");
}
