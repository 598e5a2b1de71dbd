//! What is killed or missing at the worst moment: the service, libvirt, both.

use super::guest::MTTY;
use super::host::{Lab, SHORT};

/// Keeps vgpud from answering without ending it.
const FREEZE: &str = "kill -STOP $(systemctl show -P MainPID vgpud)";
const LIBVIRT_ANSWERS: &str = "virsh list";

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
    lab.ok("systemctl restart libvirtd");
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
    lab.ok("kill -KILL $(pidof libvirtd); kill -CONT $(systemctl show -P MainPID vgpud)");
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
    lab.ok("kill -KILL $(pidof libvirtd)");
    lab.wait(LIBVIRT_ANSWERS, SHORT);
    assert!(web1.is_running() && web2.is_running());
    web1.destroy();
    web2.destroy();
    lab.wait_no_mdevs();
    lab.wait_agreement(&[]);
}
