//! Boots of a real host: what comes back, in which order, and what is late, missing or cut short.

use super::guest::Guest;
use super::host::{LONG, Lab, daemon};

const PF: &str = "0000:01:00.0";
const OTHER_PF: &str = "0000:02:00.0";

/// A boot under emulation, with all that libvirt starts by itself.
const BOOTED: std::time::Duration = std::time::Duration::from_secs(200);

impl Lab {
    /// Counts on both PFs, a guaranteed slice of `held` on mtty, and `auto`, which starts with libvirt and has a
    /// slice of `profile`. All of it on the disk.
    fn promised(&self, profile: &str) -> (Guest<'_>, Guest<'_>) {
        self.manage_igb();
        self.ok(&format!("vgpuctl vfs set {PF} 3 && vgpuctl vfs set {OTHER_PF} 2"));
        self.ok("vgpuctl profile create small --type mtty-1 && vgpuctl profile create nic --vf 8086:10ca");
        let (held, auto) = (self.guest("held"), self.guest("auto"));
        self.ok("vgpuctl attach held --profile small --mode guaranteed");
        auto.attach(profile);
        self.ok("virsh autostart auto && sync");
        (held, auto)
    }

    /// Waits until the service and libvirt are up, and requires that libvirt came after READY.
    pub(crate) fn wait_booted(&self) {
        self.wait(&format!("systemctl is-active vgpud {} && virsh list", daemon()), BOOTED);
        let at = |unit: &str, moment: &str| -> u64 {
            self.ok(&format!("systemctl show -P {moment}Monotonic {unit}")).parse().expect("microseconds")
        };
        let (ready, libvirt) = (at("vgpud", "ActiveEnterTimestamp"), at(daemon(), "InactiveExitTimestamp"));
        assert!(
            ready > 0 && ready <= libvirt,
            "vgpud was ready at {ready} us, libvirt's daemon began at {libvirt} us"
        );
    }

    /// Waits until a step of the boot report has this state.
    pub(crate) fn wait_step(&self, step: &str, place: &str, state: &str) {
        let fact = format!(
            "vgpuctl boot-report -o json | tee /dev/stderr | jq -e '.steps[] |
                 select(.step == \"{step}\" and (.place | contains(\"{place}\")) and .state == \"{state}\")'"
        );
        self.wait(&fact, BOOTED);
    }

    /// Waits until every step of the boot report is done.
    pub(crate) fn wait_report_done(&self) {
        self.wait("vgpuctl boot-report -o json | jq -e 'all(.steps[]; .state == \"done\")'", BOOTED);
    }

    fn wait_all_back(&self) {
        self.wait_report_done();
        assert_eq!((self.vfs_of(PF), self.vfs_of(OTHER_PF)), (3, 2));
        let bound =
            self.ok(&format!("ls -d /sys/bus/pci/devices/{{{PF},{OTHER_PF}}}/virtfn*/vfio-dev | wc -l"));
        assert_eq!(bound, "5", "each on its VFIO driver");
    }
}

#[test]
fn after_a_reboot_counts_slices_and_the_autostart_guest_are_back_by_themselves() {
    let lab = Lab::reset();
    let (held, auto) = lab.promised("nic");
    lab.reboot();
    lab.wait_booted();
    lab.wait_all_back();
    lab.wait("virsh domstate auto | grep -x running", LONG);
    auto.assert_holds(&auto.named_vfs()[0]);
    assert_eq!(lab.mdevs(), held.named_mdevs());
    assert_eq!(lab.ok("vgpuctl boot-report -o json | jq -c .gave_up"), "[]");
    held.start();
    held.assert_holds(&held.named_mdevs()[0]);

    // The driver of both PFs is loaded anew: nobody holds a VF of the other guest any more.
    auto.destroy();
    auto.wait_listed("reserved", "");
    lab.ok("rmmod igb && modprobe igb");
    lab.wait("test $(ls -d /sys/bus/pci/devices/*/virtfn* | wc -l) = 5", LONG);
    lab.wait_all_back();
    lab.ok(&format!("echo 0 >/sys/bus/pci/devices/{PF}/sriov_numvfs"));
    lab.wait_step("vfs", PF, "left");
    assert_eq!(lab.vfs_of(PF), 0, "a count set by hand stays");
    // The stopped domain follows the room: whichever PF it named, it ends on the one that has VFs.
    lab.wait(
        &format!("virsh dumpxml --inactive auto | grep \"bus='0x{}' slot='0x10'\"", &OTHER_PF[5..7]),
        LONG,
    );
    auto.start();
    auto.assert_holds(&auto.named_vfs()[0]);
}

#[test]
fn a_parent_20_s_late_is_waited_for_and_a_missing_one_costs_nothing_else() {
    let lab = Lab::reset();
    let (held, auto) = lab.promised("small");
    // mtty comes 20 s after systemd began to bring things up, the second igb not at all.
    lab.ok(&format!(
        "echo 'install mtty /bin/false' >/etc/modprobe.d/late.conf
         unit() {{ printf '[Unit]\\nDefaultDependencies=no\\n%s\\n[Service]\\nType=%s\\nExecStart=%s\\n[Install]\\nWantedBy=sysinit.target\\n' \
             \"$2\" \"$3\" \"$4\" >/etc/systemd/system/$1.service; systemctl enable $1.service; }}
         unit late-mtty 'After=systemd-modules-load.service' exec '/bin/sh -c \"sleep 20; exec modprobe --ignore-install mtty\"'
         unit no-igb2 'Before=vgpud.service' oneshot '/bin/sh -c \"echo 1 >/sys/bus/pci/devices/{OTHER_PF}/remove\"'
         sync"
    ));
    lab.reboot();
    lab.wait_booted();
    lab.wait("virsh domstate auto | grep -x running", LONG);
    auto.assert_holds(&auto.named_mdevs()[0]);
    assert!(lab.mdevs().contains(&held.named_mdevs()[0]));
    assert_eq!(lab.ok("vgpuctl boot-report -o json | jq -c .gave_up"), "[]");
    assert_eq!(lab.vfs_of(PF), 3, "the PF that is there has its VFs");
    lab.wait_step("vfs", OTHER_PF, "waiting");
    let told = lab.ok("vgpuctl status");
    assert!(told.contains(&format!("2 VFs are wanted on pci:{OTHER_PF}")), "{told}");

    lab.ok("echo 1 >/sys/bus/pci/rescan");
    lab.wait_all_back();
}

#[test]
fn a_power_cut_in_the_middle_of_the_restore_is_made_good_at_the_next_boot() {
    let lab = Lab::reset();
    let (held, _) = lab.promised("nic");
    lab.ok("virsh autostart --disable auto && systemctl mask vgpud && sync");
    lab.reboot();
    assert_eq!(lab.vfs_of(PF), 0, "nothing is back yet");
    lab.ok("systemctl unmask vgpud && sync");
    lab.background("start", "systemctl start vgpud");
    lab.wait(
        &format!(
            "test -e /sys/bus/pci/devices/{PF}/virtfn0 || test -e /sys/bus/pci/devices/{OTHER_PF}/virtfn0"
        ),
        BOOTED,
    );
    lab.cut();
    lab.wait_booted();
    lab.wait_all_back();
    assert_eq!(lab.mdevs(), held.named_mdevs());
    lab.wait_agreement(&[]);
    held.start();
    held.assert_holds(&held.named_mdevs()[0]);
}
