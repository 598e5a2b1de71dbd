//! Slices that others made: beside ours, taken over, left to them again. What was changed by hand. And the
//! database lost.

use super::guest::{Guest, MTTY};
use super::host::{Lab, SHORT, daemon};

const BY_MDEVCTL: &str = "8a1c0e3e-0000-4000-8000-000000000002";
const BY_LIBVIRT: &str = "8a1c0e3e-0000-4000-8000-000000000003";
const BY_HAND: &str = "8a1c0e3e-0000-4000-8000-000000000004";

const MTTY_1: &str = "/sys/devices/virtual/mtty/mtty/mdev_supported_types/mtty-1";

/// Makes an mdev with `virsh nodedev-create`, as an admin does.
fn nodedev_create(lab: &Lab, uuid: &str) {
    let parent = lab.ok("virsh nodedev-list --cap mdev_types | grep mtty | head -1");
    lab.ok(&format!(
        "cat >/tmp/mdev.xml <<XML\n<device><parent>{}</parent><capability type='mdev'><type id='mtty-1'/>\
         <uuid>{uuid}</uuid></capability></device>\nXML\nvirsh nodedev-create /tmp/mdev.xml",
        parent.trim()
    ));
}

/// Writes a hostdev into a definition as an admin does.
fn attach_by_hand(guest: &Guest<'_>, uuid: &str) {
    guest.lab.ok(&format!(
        "echo \"<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='{uuid}'/></source></hostdev>\" \
         >/tmp/hand.xml && virsh attach-device {} /tmp/hand.xml --config",
        guest.name
    ));
}

fn wait_foreign(lab: &Lab, uuid: &str) {
    lab.wait(&format!("vgpuctl gpus | grep {uuid} | grep foreign"), SHORT);
}

#[test]
fn what_others_made_is_shown_counted_and_left_alone() {
    let lab = Lab::reset();
    let web1 = lab.guest("web1");
    lab.ok("vgpuctl profile create small --type mtty-1");
    web1.attach("small");
    let uuid = web1.named_mdevs().remove(0);

    lab.ok(&format!("mdevctl start --uuid {BY_MDEVCTL} --parent mtty --type mtty-1"));
    lab.ok(&format!("mdevctl define --uuid {BY_MDEVCTL} --auto"));
    nodedev_create(&lab, BY_LIBVIRT);
    lab.ok(&format!("echo {BY_HAND} >{MTTY_1}/create"));
    let theirs = [BY_MDEVCTL, BY_LIBVIRT, BY_HAND];
    theirs.iter().for_each(|uuid| wait_foreign(&lab, uuid));
    lab.ok(&format!("vgpuctl gpus | grep {BY_MDEVCTL} | grep 'foreign (mdevctl autostart)'"));
    let left = lab.ok(
        "vgpuctl gpus -o json | jq '.gpus[] | select(.name == \"mtty\").parents[].types[] | select(.id == \"mtty-1\").available'",
    );
    assert_eq!(left, "21");
    lab.run(&format!("vgpuctl mdev remove {BY_MDEVCTL}"))
        .refused(&["was not made by vgpud (mdevctl autostart)"]);
    lab.run(&format!("vgpuctl mdev remove {BY_HAND}")).refused(&["was not made by vgpud", "adopt --uuid"]);

    // Our UUID made by somebody else.
    lab.ok(&format!("mdevctl start --uuid {uuid} --parent mtty --type mtty-1"));
    web1.try_start().refused(&[&uuid, "exists already on mtty", "mdevctl"]);
    assert_eq!(lab.mdevs().len(), 4, "all are still there");
    lab.ok(&format!("mdevctl stop --uuid {uuid}"));

    web1.start();
    web1.wait_firmware_sees(MTTY, 1);
    web1.assert_holds(&uuid);
    web1.destroy();
    lab.wait_agreement(&theirs);
    lab.ok("systemctl restart vgpud");
    lab.wait_agreement(&theirs);
    assert_eq!(lab.mdevs(), theirs, "stop, sweep and restart left them alone");

    // One without a domain becomes ours, and theirs again.
    lab.ok(&format!("vgpuctl adopt --uuid {BY_HAND} && vgpuctl disown {BY_HAND}"));
    wait_foreign(&lab, BY_HAND);
    lab.ok(&format!("vgpuctl adopt --uuid {BY_HAND} && vgpuctl mdev remove {BY_HAND}"));
    assert_eq!(lab.mdevs(), [BY_MDEVCTL, BY_LIBVIRT]);
}

#[test]
fn a_running_guest_is_adopted_and_disowned_and_notices_nothing() {
    let lab = Lab::reset();
    let web1 = lab.guest("web1");
    lab.ok("vgpuctl profile create small --type mtty-1");
    nodedev_create(&lab, BY_LIBVIRT);
    attach_by_hand(&web1, BY_LIBVIRT);
    web1.start();
    web1.wait_firmware_sees(MTTY, 1);
    let (pid, live) = (web1.pid(), lab.ok("virsh dumpxml web1"));
    let before = lab.ok("virsh dumpxml --inactive web1");

    lab.ok("vgpuctl adopt web1 --dry-run");
    assert_eq!(lab.ok("virsh dumpxml --inactive web1"), before);
    lab.ok("vgpuctl adopt web1");
    assert_eq!((web1.pid(), lab.ok("virsh dumpxml web1")), (pid.clone(), live));
    let aliases = web1.aliases();
    let after = lab.ok("virsh dumpxml --inactive web1");
    let is_ours = |line: &&str| {
        line.contains(&aliases[0])
            || line.contains("vgpud:allocation")
            || line.trim_matches([' ', '<', '>', '/']) == "metadata"
    };
    let unmarked: Vec<&str> = after.lines().filter(|line| !is_ours(line)).collect();
    assert_eq!(unmarked.join("\n"), before, "the alias and the index, and nothing else");
    web1.wait_listed_in_use();
    lab.ok(&format!("systemctl restart vgpud && systemctl restart {}", daemon()));
    lab.wait("virsh domstate web1 | grep -x running", SHORT);
    assert_eq!(web1.pid(), pid, "nobody touched the guest");
    lab.wait_agreement(&[]);

    web1.destroy();
    lab.wait_no_mdevs();
    web1.start();
    web1.assert_holds(BY_LIBVIRT);

    // And back: the guest goes on, the mdev outlives it.
    let pid = web1.pid();
    lab.ok(&format!("vgpuctl disown {}", aliases[0].trim_start_matches("ua-vgpud-")));
    assert!(web1.aliases().is_empty());
    assert_eq!(web1.pid(), pid);
    web1.assert_holds(BY_LIBVIRT);
    web1.destroy();
    lab.wait_agreement(&[BY_LIBVIRT]);
    assert_eq!(lab.mdevs(), [BY_LIBVIRT]);
    web1.start();
    web1.assert_holds(BY_LIBVIRT);
}

#[test]
fn what_is_changed_by_hand_is_shown_and_not_corrected() {
    let lab = Lab::reset();
    lab.manage_igb();
    lab.ok("vgpuctl vfs set 0000:01:00.0 4");
    lab.ok("vgpuctl status | grep -v 'changed by hand'");
    lab.ok("echo 0 >/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs && echo 2 >/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs");
    lab.wait("vgpuctl status | grep '0000:01:00.0 has 2 VFs, 4 were set'", SHORT);
    assert_eq!(lab.ok("cat /sys/bus/pci/devices/0000:01:00.0/sriov_numvfs"), "2");
    lab.ok("vgpuctl vfs set 0000:01:00.0 4");
    lab.wait("! vgpuctl status | grep 'changed by hand'", SHORT);

    let uuid = lab.ok("vgpuctl mdev create mtty mtty-1");
    lab.ok(&format!("echo 1 >/sys/bus/mdev/devices/{uuid}/remove"));
    lab.wait(&format!("vgpuctl status | grep '{uuid}.*removed by hand'"), SHORT);
    lab.ok(&format!("vgpuctl mdev remove {uuid}"));
    lab.wait("! vgpuctl status | grep 'changed by hand'", SHORT);
}

#[test]
fn a_lost_or_damaged_database_is_rebuilt_from_the_domains_aliases() {
    let lab = Lab::reset();
    let (web1, web2) = (lab.guest("web1"), lab.guest("web2"));
    lab.ok("vgpuctl profile create small --type mtty-1");
    web1.attach("small");
    web2.attach("small");
    web1.start();
    let (pid, uuid) = (web1.pid(), web1.named_mdevs().remove(0));

    for (what, act) in [
        ("damaged", "rm -f /var/lib/vgpud/vgpud.db-*; head -c 20000 /dev/urandom >/var/lib/vgpud/vgpud.db"),
        ("lost", "rm -rf /var/lib/vgpud/*"),
    ] {
        lab.ok(&format!("systemctl stop vgpud; {act}; systemctl start vgpud"));
        lab.ok("vgpuctl status | grep 'running, read-only'");
        lab.run("vgpuctl attach web2 --profile small")
            .refused(&["vgpud changes nothing now", "adopt --rebuild"]);
        web2.try_start().refused(&["changes nothing now"]);
        lab.ok(&format!("systemctl restart {}", daemon()));
        lab.wait("virsh domstate web1 | grep -x running", SHORT);
        assert_eq!(lab.mdevs(), [uuid.as_str()], "{what}: nothing was touched");
        lab.ok("vgpuctl adopt --rebuild --dry-run | grep web1");
        lab.ok("vgpuctl adopt --rebuild");
        assert_eq!(web1.pid(), pid, "{what}");
        web1.wait_listed_in_use();
        lab.wait_agreement(&[]);
        // The stopped one says nothing of its type.
        lab.ok("vgpuctl adopt web2 --profile recovered-mtty-1");
    }
    assert_eq!(lab.ok("ls /var/lib/vgpud | grep -c damaged || true"), "0", "the second loss took all");
    web1.destroy();
    lab.wait_no_mdevs();
    web1.start();
    web1.assert_holds(&uuid);
    web2.start();
    web2.assert_holds(&web2.named_mdevs()[0]);
    lab.wait_agreement(&[]);
}
