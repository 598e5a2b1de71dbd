//! An Intel GPU: its VFs by `gpu set`, and a profile's weight on the VF of a guest that runs.

use super::sim::FIRST;
use crate::host::{LONG, Lab, SHORT};

/// What a weight of 40 makes.
const WEIGHED: &str = "80 160000";
const UNLIMITED: &str = "0 0";

impl Lab {
    /// A shell's words that print the turns of a VF: milliseconds and microseconds.
    fn turns_of(vf: &str) -> String {
        format!(
            "for link in /sys/bus/pci/devices/{FIRST}/virtfn*; do
                 test $(basename $(readlink $link)) != {vf} || number=${{link##*virtfn}}
             done
             cd /sys/bus/pci/devices/{FIRST}/sriov_admin/vf$((number + 1))/profile &&
                 echo $(cat exec_quantum_ms preempt_timeout_us)"
        )
    }

    #[track_caller]
    fn wait_turns(&self, vf: &str, wanted: &str) {
        self.wait(&format!("test \"$({})\" = '{wanted}'", Self::turns_of(vf)), SHORT);
    }
}

#[test]
fn a_weight_is_turns_of_the_vf_while_its_guest_runs_and_comes_back_after_a_reboot() {
    let Some(lab) = Lab::with_gpus("arc-b") else { return };
    lab.ok(&format!("vgpuctl gpu set {FIRST} --vfs 4"));
    lab.ok("vgpuctl profile create critical --framebuffer 4GiB --weight 40");
    let said = lab.ok("vgpuctl profile explain critical");
    assert!(said.contains("turns of 80 ms with a time-out of 160000 µs"), "{said}");
    lab.ok("vgpuctl profile create plain --framebuffer 4GiB");
    let [weighed, plain] = ["weighed", "plain"].map(|name| lab.guest(name));
    weighed.attach("critical");
    plain.attach("plain");
    let vfs = [&weighed, &plain].map(|guest| guest.named_vfs().remove(0));
    assert_eq!(lab.ok(&Lab::turns_of(&vfs[0])), UNLIMITED, "nothing is set before the start");

    weighed.start();
    plain.start();
    assert_eq!(lab.ok(&Lab::turns_of(&vfs[0])), WEIGHED);
    assert_eq!(lab.ok(&Lab::turns_of(&vfs[1])), UNLIMITED, "no weight, no turns");
    weighed.assert_holds(&vfs[0]);
    weighed.assert_reads(&[&format!("vf={}", vfs[0]), "exec_quantum_ms=80", "preempt_timeout_us=160000"]);
    lab.run(&format!("vgpuctl gpu set {FIRST} --vfs 2")).refused(&["in use"]);

    // A service that is killed meanwhile takes nothing from the guest, and finds what is to be put back.
    lab.ok("systemctl kill --signal=KILL vgpud");
    lab.wait("vgpuctl status", LONG);
    assert_eq!(lab.ok(&Lab::turns_of(&vfs[0])), WEIGHED);
    weighed.destroy();
    plain.destroy();
    lab.wait_turns(&vfs[0], UNLIMITED);
    weighed.wait_listed("reserved", "");

    lab.ok("vgpuctl detach weighed && vgpuctl attach weighed --profile critical --mode guaranteed");
    let kept = weighed.named_vfs().remove(0);
    assert_eq!(lab.ok(&Lab::turns_of(&kept)), WEIGHED, "a guaranteed VF is kept as it is");
    lab.ok("echo 'options vgpu-sim gpus=arc-b' >/etc/modprobe.d/weight.conf
         echo vgpu-sim >/etc/modules-load.d/weight.conf
         sync");
    lab.reboot();
    lab.wait("vgpuctl status", LONG);
    let back = "vgpuctl boot-report -o json | jq -e '[.steps[].state] | length == 4 and all(. == \"done\")'";
    lab.wait(back, LONG);
    let order = lab.ok("vgpuctl boot-report -o json | jq -r '.steps[].step' | tr '\\n' ' '");
    assert_eq!(order.trim(), "vfs binding quantum slice");
    assert_eq!(lab.ok(&Lab::turns_of(&kept)), WEIGHED);

    lab.ok("vgpuctl detach weighed");
    lab.wait_turns(&kept, UNLIMITED);
    lab.ok("vgpuctl detach plain");
    lab.ok(&format!("vgpuctl gpu set {FIRST} --vfs 0"));
    let forgotten = lab.ok(&format!("vgpuctl gpu forget {FIRST}"));
    assert!(forgotten.contains("no longer come back"), "{forgotten}");
}
