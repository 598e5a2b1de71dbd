//! What others made on GPUs of two roads, beside ours.

use super::sim::{FIRST, SECOND};
use crate::host::{Lab, SHORT};

const BY_MDEVCTL: &str = "8a1c0e3e-0000-4000-8000-000000000002";
const BY_HAND: &str = "8a1c0e3e-0000-4000-8000-000000000004";

#[test]
fn what_others_made_on_gpus_is_counted_left_alone_and_adopted_on_demand() {
    let Some(lab) = Lab::with_gpus("t4,l40s-vfio") else { return };
    lab.enable_vfs(SECOND, 3);
    lab.ok("vgpuctl profile create cad --type T4-4Q && vgpuctl profile create desk --type L40S-4Q");
    // A T4 has room for four of these.
    let mdev_type = lab.ok(&format!(
        "cd /sys/bus/pci/devices/{FIRST}/mdev_supported_types && grep -l 'T4-4Q$' */name | cut -d/ -f1"
    ));
    lab.ok(&format!(
        "mdevctl start --uuid {BY_MDEVCTL} --parent {FIRST} --type {mdev_type}
         echo {BY_HAND} >/sys/bus/pci/devices/{FIRST}/mdev_supported_types/{mdev_type}/create"
    ));
    let theirs = lab.ok(&format!(
        "echo 1150 >/sys/bus/pci/devices/{SECOND}/virtfn0/nvidia/current_vgpu_type
         basename $(readlink /sys/bus/pci/devices/{SECOND}/virtfn0)"
    ));
    for device in [BY_MDEVCTL, BY_HAND, &theirs] {
        lab.wait(&format!("vgpuctl gpus | grep {device} | grep foreign"), SHORT);
    }
    let can = |profile: &str| {
        lab.ok(&format!("vgpuctl profile explain {profile} -o json | jq '[.candidates[].possible] | add'"))
    };
    assert_eq!((can("cad").as_str(), can("desk").as_str()), ("2", "2"));

    let [c1, c2, c3, d1, d2, d3] =
        [("c1", "cad"), ("c2", "cad"), ("c3", "cad"), ("d1", "desk"), ("d2", "desk"), ("d3", "desk")].map(
            |(name, profile)| {
                let guest = lab.guest(name);
                // The third of a kind finds no VF to name.
                if name != "d3" {
                    guest.attach(profile);
                }
                guest
            },
        );
    c1.start();
    c2.start();
    c3.try_start().refused(&["c3", "held by"]);
    assert!(![&d1, &d2].iter().any(|guest| guest.named_vfs()[0] == theirs));
    d1.start();
    d1.assert_reads(&[&format!("pf={SECOND}"), &format!("vf={}", d1.named_vfs()[0]), "fb_mib=4096"]);
    c1.destroy();
    c2.destroy();
    d1.destroy();
    lab.wait_agreement(&[BY_MDEVCTL, BY_HAND]);
    assert_eq!(lab.mdevs(), [BY_MDEVCTL, BY_HAND], "left alone");
    lab.wait(&format!("test $(grep -c '^vgpu ' /sys/kernel/debug/vgpu_sim/{SECOND}/state) = 1"), SHORT);
    assert_eq!(lab.vgpu_type_of(&theirs), "1150");

    // The domains that use them are taken over while they run.
    let hand = lab.guest("hand");
    lab.ok(&format!(
        "echo \"<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='{BY_HAND}'/></source></hostdev>\" >/tmp/hand.xml
         virsh attach-device hand /tmp/hand.xml --config"
    ));
    let [bus, function] = [&theirs[5..7], &theirs[11..]];
    let slot = &theirs[8..10];
    lab.ok(&format!(
        "echo \"<hostdev mode='subsystem' type='pci' managed='no'><source><address domain='0x0000' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/></source></hostdev>\" >/tmp/vf.xml
         virsh attach-device {} /tmp/vf.xml --config",
        d3.name
    ));
    hand.start();
    d3.start();
    let pids = [hand.pid(), d3.pid()];
    lab.ok("vgpuctl adopt hand && vgpuctl adopt d3");
    hand.wait_listed_in_use();
    d3.wait_listed_in_use();
    assert_eq!([hand.pid(), d3.pid()], pids, "nobody touched the guests");
    d3.assert_reads(&[&format!("vf={theirs}"), "fb_mib=4096"]);
    hand.assert_holds(BY_HAND);
    hand.destroy();
    d3.destroy();
    lab.wait(&format!("! test -e /sys/bus/mdev/devices/{BY_HAND}"), SHORT);
    lab.wait_no_vgpus(SECOND);
    lab.wait_agreement(&[BY_MDEVCTL]);
    assert_eq!(lab.mdevs(), [BY_MDEVCTL]);
    lab.ok(&format!("mdevctl stop --uuid {BY_MDEVCTL}"));
    lab.enable_vfs(SECOND, 0);
}
