//! Every fault that the simulated GPUs can have, once: the service lives, says what it is, and is right afterwards.
//! No guest's inside is looked at, so all are started paused.

use super::sim::{FIRST, SECOND};
use crate::guest::Guest;
use crate::host::{LONG, Lab, SHORT};

const THIRD: &str = "0000:44:00.0";

impl Lab {
    fn fault(&self, gpu: &str, fault: &str) {
        self.ok(&format!("echo {fault} >/sys/kernel/debug/vgpu_sim/{gpu}/faults"));
    }
}

impl Guest<'_> {
    /// Starts and stops it: the host is as it should be again.
    #[track_caller]
    fn assert_serves(&self, gpu: &str) {
        self.lab.wait(&format!("virsh start --paused {}", self.name), LONG);
        assert_eq!(self.lab.vgpus_of(gpu).len(), 1);
        self.destroy();
        self.lab.wait_no_vgpus(gpu);
        self.lab.wait_agreement(&[]);
    }

    #[track_caller]
    fn assert_refused(&self, words: &[&str]) {
        self.lab.run(&format!("virsh start --paused {}", self.name)).refused(words);
    }
}

#[test]
fn the_service_survives_every_fault_and_is_right_afterwards() {
    let Some(lab) = Lab::with_gpus("l40s-vfio,t4,arc-b") else { return };
    let service = lab.service_pid();
    lab.enable_vfs(FIRST, 2);
    lab.ok(&format!("vgpuctl vfs set {THIRD} 2"));
    lab.ok("vgpuctl profile create vgpu --type L40S-4Q && vgpuctl profile create mdev --type T4-4Q");
    let [vgpu, mdev] = ["vgpu", "mdev"].map(|name| {
        lab.ok(&format!("lab-guest define {name} --memory 32"));
        let guest = lab.known_guest(name);
        guest.attach(name);
        guest
    });

    // Errors of the nth write: at the making, then at the taking away.
    for (errno, guest, gpu) in [("EIO", &vgpu, FIRST), ("EIO", &mdev, SECOND), ("ENOSPC", &mdev, SECOND)] {
        lab.fault(gpu, &format!("fail={errno}@1"));
        guest.assert_refused(&["vgpud:"]);
        assert_eq!(lab.vgpus_of(gpu), [""; 0], "{errno}");
        lab.fault(gpu, "fail=off");
        guest.assert_serves(gpu);
    }
    lab.fault(FIRST, "fail=EBUSY@2");
    vgpu.assert_serves(FIRST);
    let told = lab.run(&format!(
        "echo fail=EIO@1 >/sys/kernel/debug/vgpu_sim/{THIRD}/faults; vgpuctl vfs set {THIRD} 3"
    ));
    told.refused(&[THIRD]);
    lab.fault(THIRD, "fail=off");
    lab.ok(&format!("vgpuctl vfs set {THIRD} 3"));
    assert_eq!(lab.vfs_of(THIRD), 3);

    // A removal that hangs: everything else goes on.
    lab.ok(&format!("virsh start --paused {}", vgpu.name));
    lab.fault(FIRST, "hang_remove=1");
    vgpu.destroy();
    lab.ok(&format!("virsh start --paused {0} && virsh destroy {0}", mdev.name));
    lab.wait_no_vgpus(SECOND);
    lab.ok("timeout 20 vgpuctl gpus && timeout 20 vgpuctl status");
    assert_eq!(lab.vgpus_of(FIRST).len(), 1, "it hangs still");
    lab.fault(FIRST, "hang_remove=0");
    lab.wait_no_vgpus(FIRST);
    vgpu.assert_serves(FIRST);

    // The PF resets, and its VFs' types come late: nothing is made before they are there.
    lab.fault(FIRST, "reset=1");
    lab.wait(&format!("grep -x vfs=0 /sys/kernel/debug/vgpu_sim/{FIRST}/state"), SHORT);
    vgpu.assert_refused(&["vgpud:"]);
    lab.fault(FIRST, "late_types_ms=15000");
    lab.wait(&format!("echo numvfs=2 >/sys/kernel/debug/vgpu_sim/{FIRST}/control"), SHORT);
    vgpu.assert_serves(FIRST);

    // Two GPUs vanish and return.
    lab.fault(SECOND, "vanish=1");
    lab.fault(THIRD, "vanish=1");
    lab.wait(&format!("! vgpuctl gpus | grep -E '^({SECOND}|{THIRD})'"), SHORT);
    mdev.assert_refused(&["vgpud:"]);
    vgpu.assert_serves(FIRST);
    lab.fault(SECOND, "return=1");
    lab.fault(THIRD, "return=1");
    mdev.assert_serves(SECOND);
    lab.wait(&format!("test $(ls -d /sys/bus/pci/devices/{THIRD}/virtfn* | wc -l) = 3"), LONG);

    assert_eq!(lab.service_pid(), service, "one process through all of it");
}
