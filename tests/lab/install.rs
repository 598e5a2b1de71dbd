//! `scripts/install` and `scripts/uninstall` on a host that is in use.

use super::guest::MTTY;
use super::host::Lab;

const INSTALL: &str = "/usr/src/vgpud/scripts/install --binaries /usr/src/vgpud/bin";
const UNINSTALL: &str = "/usr/share/vgpud/uninstall";
const PF: &str = "/sys/bus/pci/devices/0000:01:00.0";

/// A guest that runs with one slice, whose UUID is returned.
fn running(lab: &Lab) -> String {
    lab.ok("vgpuctl profile create small --type mtty-1");
    let web1 = lab.guest("web1");
    web1.attach("small");
    web1.start();
    web1.wait_firmware_sees(MTTY, 1);
    web1.named_mdevs().remove(0)
}

#[test]
fn installing_again_and_upgrading_touch_no_guest_and_no_edited_file() {
    let lab = Lab::reset();
    lab.ok("sha256sum --check --quiet /usr/share/vgpud/manifest");
    let again = lab.ok(INSTALL);
    assert!(again.ends_with("nothing to change"), "{again}");

    let uuid = running(&lab);
    let pid = lab.known_guest("web1").pid();
    let service = lab.service_pid();
    lab.ok("printf '[devices]\\ninclude = [\"8086:10c9\"]\\n' >/etc/vgpud/vgpud.toml
         printf '#!/bin/sh\\nexit 0\\n' >/etc/libvirt/hooks/qemu && chmod 755 /etc/libvirt/hooks/qemu
         rm /etc/libvirt/hooks/qemu.d/vgpud
         printf '#!/bin/sh\\n# my own\\nexec /usr/bin/vgpu-hook \"$@\"\\n' >/etc/libvirt/hooks/qemu.d/vgpud
         chmod 755 /etc/libvirt/hooks/qemu.d/vgpud
         sha256sum /etc/vgpud/vgpud.toml /etc/libvirt/hooks/qemu /etc/libvirt/hooks/qemu.d/vgpud >/tmp/edited");
    // A newer version: another program, another default, a rule less.
    lab.ok("cd /usr/src/vgpud && printf 'x' >>bin/vgpud && echo '# newer' >>config/vgpud.toml
         echo old >/usr/lib/udev/rules.d/91-vgpud-old.rules
         sha256sum /usr/lib/udev/rules.d/91-vgpud-old.rules >>/usr/share/vgpud/manifest");
    let plan = lab.ok(&format!("{INSTALL} --dry-run"));
    assert!(plan.ends_with("dry run: nothing was changed"), "{plan}");
    assert_eq!(lab.service_pid(), service);
    let told = lab.ok(INSTALL);
    for word in [
        "replace /usr/bin/vgpud",
        "keep /etc/vgpud/vgpud.toml",
        "keep /etc/libvirt/hooks/qemu.d/vgpud",
        "remove /usr/lib/udev/rules.d/91-vgpud-old.rules",
        "restart vgpud.service",
    ] {
        assert!(told.contains(word) && plan.contains(word), "{word}:\n{plan}\n{told}");
    }
    lab.ok("sha256sum --check --quiet /tmp/edited && grep newer /etc/vgpud/vgpud.toml.dist
         test ! -e /usr/lib/udev/rules.d/91-vgpud-old.rules");
    assert_ne!(lab.service_pid(), service, "the new program runs");
    let web1 = lab.known_guest("web1");
    assert_eq!((web1.pid(), lab.mdevs()), (pid, vec![uuid.clone()]));
    web1.assert_holds(&uuid);
    web1.wait_listed_in_use();
    web1.destroy();
    lab.wait_no_mdevs();
    lab.wait_agreement(&[]);
}

#[test]
fn uninstalling_leaves_the_host_as_it_was_and_a_running_guest_alone() {
    let lab = Lab::reset();
    lab.manage_igb();
    assert_eq!(lab.ok(&format!("cat {PF}/sriov_drivers_autoprobe")), "1");
    lab.ok("vgpuctl vfs set 0000:01:00.0 1");
    assert_eq!(lab.ok(&format!("cat {PF}/sriov_drivers_autoprobe")), "0");
    let uuid = running(&lab);
    let web1 = lab.known_guest("web1");
    let pid = web1.pid();

    lab.run(UNINSTALL).refused(&["web1", "stop them first"]);
    lab.ok("vgpuctl status && sha256sum --check --quiet /usr/share/vgpud/manifest");

    let told = lab.ok(&format!("{UNINSTALL} --keep-guests"));
    assert!(told.contains("0000:01:00.0: 1 VFs no longer come back"), "{told}");
    assert!(told.contains(&format!("mdev {uuid} stays")), "{told}");
    assert_eq!(lab.ok(&format!("cat {PF}/sriov_drivers_autoprobe")), "1", "as before vgpud");
    let left = lab.ok("find / -xdev -path /usr/src/vgpud -prune -o -iname '*vgpu*' -print 2>/dev/null |
         grep -vE '^/(usr/bin/lab-guest|tmp|var/log|root|etc/vgpud-lab|usr/lib/vgpud-lab|var/lib/vgpud-lab|var/log)' |
         grep -vE 'vgpud-lab|vgpu-sim' | sort");
    assert_eq!(
        left.lines()
            .filter(|path| !path.starts_with("/var/lib/vgpud") && !path.starts_with("/etc/vgpud"))
            .count(),
        0,
        "{left}"
    );
    lab.ok("test -s /var/lib/vgpud/vgpud.db && test -f /etc/vgpud/vgpud.toml && getent group vgpud");
    assert_eq!((web1.pid(), lab.mdevs()), (pid, vec![uuid.clone()]), "the guest runs on");

    // A domain that never was ours starts as ever; one that names a slice does once it is taken out as told.
    let plain = lab.guest("plain");
    plain.start();
    plain.destroy();
    web1.destroy();
    lab.ok(&format!("echo 1 >/sys/bus/mdev/devices/{uuid}/remove"));
    web1.try_start().refused(&["mediated device"]);
    let take_out = told.lines().find_map(|line| line.trim().strip_prefix("virsh detach-device-alias"));
    lab.ok(&format!("virsh detach-device-alias {}", take_out.expect("what to type")));
    web1.start();
    web1.destroy();

    // Back again: promises and profiles are remembered.
    lab.ok(INSTALL);
    lab.ok("vgpuctl profile show small || vgpuctl profile list | grep small");
    lab.ok(&format!("{UNINSTALL} --purge"));
    lab.ok("test ! -e /var/lib/vgpud && test ! -e /etc/vgpud && ! getent group vgpud");
}
