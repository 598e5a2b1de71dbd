//! A power cut in the middle of each operation. Slices never outlive a boot; promises do.

use super::guest::{Guest, MTTY};
use super::host::{Lab, SHORT};

/// A lab with a profile and a guest that the disk has.
fn prepared() -> Lab {
    let lab = Lab::reset();
    lab.guest("web1");
    lab.ok("vgpuctl profile create small --type mtty-1 && sync");
    lab
}

impl Lab {
    /// Starts `operation`, cuts the power once `moment` has come, boots, and checks that nothing is left over.
    fn cut_during(&self, operation: &str, moment: &str) {
        self.background("cut", operation);
        self.wait(moment, SHORT);
        self.cut();
        self.wait("systemctl is-active vgpud && virsh list", SHORT);
        self.wait_agreement(&[]);
        assert_eq!(self.mdevs(), [""; 0]);
    }
}

/// The slice works, from nothing to the guest's view and back.
fn serves(web1: &Guest<'_>) {
    let uuid = web1.named_mdevs().remove(0);
    web1.start();
    web1.wait_firmware_sees(MTTY, 1);
    web1.assert_holds(&uuid);
    web1.destroy();
    web1.lab.wait_no_mdevs();
    web1.lab.wait_agreement(&[]);
}

#[test]
fn power_cut_during_attach_then_start_then_stop() {
    let lab = prepared();
    let web1 = lab.known_guest("web1");
    let promised = "sqlite3 -readonly /var/lib/vgpud/vgpud.db 'select key from allocations' | grep .";
    lab.cut_during("vgpuctl attach web1 --profile small", promised);
    web1.attach("small");
    assert_eq!(web1.named_mdevs().len(), 1, "one promise, one hostdev");
    assert_eq!(lab.ok("vgpuctl allocations | tail -n +2 | wc -l"), "1");

    lab.cut_during("virsh start web1", "ls /sys/bus/mdev/devices | grep .");
    assert!(!web1.is_running());
    web1.start();
    web1.assert_holds(&web1.named_mdevs()[0]);

    lab.cut_during("virsh destroy web1", "! pgrep qemu-system");
    assert!(!web1.is_running());
    serves(&web1);
}

#[test]
fn power_cut_during_hot_plug() {
    let lab = prepared();
    let web1 = lab.known_guest("web1");
    web1.start();
    let plug = "vgpuctl xml --profile small --domain web1 --live --lease 20s >/tmp/slice.xml &&
         virsh attach-device web1 /tmp/slice.xml --live";
    lab.cut_during(plug, "ls /sys/bus/mdev/devices | grep .");
    web1.start();
    lab.ok(plug);
    web1.wait_sees(MTTY, 1);
    lab.wait("test $(ls /sys/bus/mdev/devices | wc -l) = 1", SHORT);
    lab.wait("test $(vgpuctl allocations | tail -n +2 | wc -l) = 1", SHORT * 3);
    lab.wait_agreement(&[]);
}

#[test]
fn power_cut_during_a_change_of_vfs() {
    let lab = prepared();
    lab.manage_igb();
    let set = "vgpuctl vfs set 0000:01:00.0 4";
    let vfs = "ls -d /sys/bus/pci/devices/0000:01:00.0/virtfn*";
    lab.cut_during(set, vfs);
    lab.wait("vgpuctl gpus | grep -A2 ^0000:01:00.0 | grep 'driver igb'", SHORT * 2);
    lab.ok(set);
    assert_eq!(lab.ok(vfs).lines().count(), 4);
    lab.wait_agreement(&[]);
}
