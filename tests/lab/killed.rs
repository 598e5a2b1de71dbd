//! What is killed or missing at the worst moment: the service, libvirt, both.

use super::guest::MTTY;
use super::host::{Lab, SHORT, daemon};

/// Keeps vgpud from answering without ending it.
const FREEZE: &str = "kill -STOP $(systemctl show -P MainPID vgpud)";
const LIBVIRT_ANSWERS: &str = "virsh list";

/// An mdev that somebody else makes.
const THEIRS: &str = "ffffffff-0000-4000-8000-000000000001";

#[test]
fn the_service_killed_while_a_guest_runs_and_while_a_hook_waits_loses_nothing() {
    let lab = Lab::reset();
    let [web1, web2] = ["web1", "web2"].map(|name| lab.guest(name));
    lab.ok("vgpuctl profile create small --type mtty-1");
    web1.attach("small");
    web2.attach("small");
    let [first, second] = [&web1, &web2].map(|guest| guest.named_mdevs().remove(0));
    web1.start();
    web1.wait_sees(MTTY, 1);

    let killed = lab.service_pid();
    lab.ok("systemctl kill --signal KILL vgpud");
    lab.wait_service_other_than(&killed);
    web1.assert_holds(&first);
    lab.wait_agreement(&[]);

    // A hook waits for its answer while the service dies; the next one serves it.
    lab.ok(FREEZE);
    let frozen = lab.service_pid();
    lab.background("start", "virsh start web2");
    lab.wait("pgrep -f [h]ooks/qemu.d/vgpud", SHORT);
    lab.ok("systemctl kill --signal KILL vgpud");
    lab.wait_service_other_than(&frozen);
    let start = lab.end_of("start");
    assert_eq!(start.code, 0, "{start:#?}");
    web2.wait_firmware_sees(MTTY, 1);
    web2.assert_holds(&second);
    web1.assert_holds(&first);
    lab.wait_agreement(&[]);

    lab.ok("systemctl restart vgpud");
    web1.assert_holds(&first);
    web1.destroy();
    lab.wait(&format!("test \"$(ls /sys/bus/mdev/devices)\" = {second}"), SHORT);
    web2.destroy();
    lab.wait_no_mdevs();
    lab.wait_agreement(&[]);
}

#[test]
fn a_dead_service_stops_only_starts_that_need_it() {
    let lab = Lab::reset();
    let [web1, web2, plain] = ["web1", "web2", "plain"].map(|name| lab.guest(name));
    lab.ok("vgpuctl profile create small --type mtty-1");
    web1.attach("small");
    web2.attach("small");
    web1.start();
    web1.wait_firmware_sees(MTTY, 1);
    lab.ok("systemctl stop vgpud");

    plain.start();
    plain.destroy();
    web2.try_start().refused(&["web2 needs vGPU slices and vgpud is not running", "systemctl start vgpud"]);

    // libvirt asks the hook about each running guest, and kills those for which it fails.
    let pid = web1.pid();
    lab.ok(&format!("systemctl restart {}", daemon()));
    lab.wait(LIBVIRT_ANSWERS, SHORT);
    assert!(web1.is_running());
    assert_eq!(web1.pid(), pid);
    web1.assert_holds(&web1.named_mdevs()[0]);
    web1.destroy();
    assert_eq!(lab.mdevs(), web1.named_mdevs(), "nobody was there to take it back");

    lab.ok("systemctl start vgpud");
    lab.wait_no_mdevs();
    lab.wait_agreement(&[]);
    web2.start();
    web2.wait_firmware_sees(MTTY, 1);
}

#[test]
fn libvirt_killed_during_prepare_and_beside_a_running_guest_leaks_nothing() {
    let lab = Lab::reset();
    let [web1, web2] = ["web1", "web2"].map(|name| lab.guest(name));
    lab.ok("vgpuctl profile create small --type mtty-1");
    web1.attach("small");
    web2.attach("small");
    let [first, second] = [&web1, &web2].map(|guest| guest.named_mdevs().remove(0));
    web1.start();
    web1.wait_sees(MTTY, 1);

    // prepare is under way, and no release will ever come.
    lab.ok(FREEZE);
    lab.background("start", "virsh start web2");
    lab.wait("pgrep -f [h]ooks/qemu.d/vgpud", SHORT);
    lab.ok(&format!("kill -KILL $(pidof {}); kill -CONT $(systemctl show -P MainPID vgpud)", daemon()));
    assert_ne!(lab.end_of("start").code, 0);
    lab.wait(LIBVIRT_ANSWERS, SHORT);
    lab.wait(
        &format!("! pgrep -f [h]ooks/qemu.d/vgpud && test \"$(ls /sys/bus/mdev/devices)\" = {first}"),
        SHORT * 3,
    );
    web1.assert_holds(&first);
    lab.wait_agreement(&[]);

    web2.start();
    web2.wait_firmware_sees(MTTY, 1);
    web2.assert_holds(&second);
    lab.ok(&format!("kill -KILL $(pidof {})", daemon()));
    lab.wait(LIBVIRT_ANSWERS, SHORT);
    assert!(web1.is_running() && web2.is_running());
    web1.destroy();
    web2.destroy();
    lab.wait_no_mdevs();
    lab.wait_agreement(&[]);
}

/// Another hook beside ours, which waits at `release` until it is let go; it says when it waits.
fn hold_release(lab: &Lab, name: &str) {
    let script = "#!/bin/sh\\ntest \"$2\" = release || exit 0\\ntouch /run/held\\n\
                  while test -e /run/hold; do sleep 0.1; done\\n";
    lab.ok(&format!(
        "cd /etc/libvirt/hooks/qemu.d && printf '{script}' >{name} && chmod +x {name}
         touch /run/hold; rm -f /run/held"
    ));
}

#[test]
fn libvirt_killed_during_release_before_and_after_our_hook_leaks_nothing() {
    let lab = Lab::reset();
    let [web1, web2] = ["web1", "web2"].map(|name| lab.guest(name));
    lab.ok("vgpuctl profile create small --type mtty-1");
    web1.attach("small");
    web2.attach("small");
    let [first, second] = [&web1, &web2].map(|guest| guest.named_mdevs().remove(0));
    web1.start();
    web1.wait_firmware_sees(MTTY, 1);
    // Hooks run in the order of their names: the first of these keeps the release from ours, the second comes after it.
    for name in ["00-hold", "zz-hold"] {
        web2.start();
        web2.wait_firmware_sees(MTTY, 1);
        web2.assert_holds(&second);
        hold_release(&lab, name);
        lab.background("destroy", "virsh destroy web2");
        lab.wait("test -e /run/held", SHORT);
        lab.ok(&format!("kill -KILL $(pidof {}); pkill -KILL -f '[q]emu.d/{name}'; rm /run/hold", daemon()));
        assert_ne!(lab.end_of("destroy").code, 0, "{name}: the daemon died under it");
        lab.wait(LIBVIRT_ANSWERS, SHORT);
        // A hook that vanished between libvirt's list and its call would cost web1 its life.
        lab.ok(&format!(
            "cp -L /bin/true /etc/libvirt/{name} && mv /etc/libvirt/{name} /etc/libvirt/hooks/qemu.d/"
        ));
        lab.wait(&format!("test \"$(ls /sys/bus/mdev/devices)\" = {first}"), SHORT * 3);
        web1.assert_holds(&first);
        assert!(!web2.is_running(), "{name}");
        lab.wait_agreement(&[]);
    }
    web1.destroy();
    lab.wait_no_mdevs();
}

#[test]
fn guests_that_come_and_go_while_the_service_is_away_for_an_hour_are_found_as_they_are() {
    let lab = Lab::reset();
    let [web1, web2, web3, plain] = ["web1", "web2", "web3", "plain"].map(|name| lab.guest(name));
    lab.ok("vgpuctl profile create small --type mtty-1");
    for guest in [&web1, &web2, &web3] {
        guest.attach("small");
    }
    let stays = web1.named_mdevs().remove(0);
    // A promise that only its lease keeps.
    lab.ok("vgpuctl xml --domain plain --profile small --lease 10m");
    assert_eq!(promises(&lab, "plain"), 1);
    web1.start();
    web2.start();
    web1.wait_sees(MTTY, 1);
    web2.wait_firmware_sees(MTTY, 1);
    let pid = web1.pid();

    lab.ok("systemctl stop vgpud; date --set '+1 hour'");
    web2.destroy();
    plain.start();
    web3.try_start().refused(&["web3 needs vGPU slices and vgpud is not running"]);
    lab.ok("virsh undefine web3");
    lab.ok(&format!("echo {THEIRS} >/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1/create"));
    plain.destroy();

    lab.ok("systemctl start vgpud");
    let left = format!(
        "test \"$(ls /sys/bus/mdev/devices | sort)\" = \"$(printf '%s\\n' {stays} {THEIRS} | sort)\""
    );
    lab.wait(&left, SHORT);
    lab.wait_agreement(&[THEIRS]);
    assert_eq!(web1.pid(), pid);
    web1.assert_holds(&stays);
    web1.wait_sees(MTTY, 1);
    assert_eq!(
        [promises(&lab, "plain"), promises(&lab, "web2")],
        [0, 1],
        "a lease ends, an attachment stays"
    );
    web2.start();
    web2.wait_firmware_sees(MTTY, 1);
    web1.destroy();
    web2.destroy();
    lab.wait_agreement(&[THEIRS]);
    assert_eq!(lab.mdevs(), [THEIRS], "what others made is left alone");
}

/// How many allocations a domain has, as the service tells.
fn promises(lab: &Lab, domain: &str) -> usize {
    let filter = format!("[.allocations[] | select(.domain.name == \"{domain}\")] | length");
    let count = lab.ok(&format!("vgpuctl allocations -o json | jq '{filter}'"));
    count.parse().expect("a number")
}
