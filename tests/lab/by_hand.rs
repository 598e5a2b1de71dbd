//! The road of those who keep using `virsh attach-device`.

use super::guest::MTTY;
use super::host::{LONG, Lab};

const NONE: &str = "vgpuctl allocations | grep -x 'no allocations'";

#[test]
fn a_slice_attached_by_virsh_to_the_definition_is_tied_served_and_freed() {
    let lab = Lab::reset();
    let web1 = lab.guest("web1");
    lab.ok("vgpuctl profile create small --type mtty-1");
    lab.ok("vgpuctl xml --profile small --domain web1 >/tmp/slice.xml");
    web1.wait_listed("leased", "");
    lab.ok("virsh attach-device web1 /tmp/slice.xml --config");
    web1.wait_listed("attached", "reserved");
    let uuid = web1.named_mdevs().remove(0);

    web1.start();
    web1.wait_firmware_sees(MTTY, 1);
    web1.assert_holds(&uuid);
    web1.destroy();
    lab.wait_no_mdevs();

    // Undefine and define again is ordinary editing.
    lab.ok("virsh dumpxml --inactive web1 >/tmp/web1.xml; virsh undefine web1");
    lab.wait("vgpuctl allocations | grep orphaned", LONG);
    lab.ok("virsh define /tmp/web1.xml");
    web1.wait_listed("attached", "reserved");
    assert_eq!(web1.named_mdevs(), [uuid.as_str()]);

    lab.ok("virsh detach-device web1 /tmp/slice.xml --config");
    lab.wait(NONE, LONG);
    lab.wait_agreement(&[]);
}

#[test]
fn a_slice_is_plugged_into_a_running_guest_and_out_again() {
    let lab = Lab::reset();
    let web1 = lab.guest("web1");
    lab.ok("vgpuctl profile create small --type mtty-1");
    lab.run("vgpuctl xml --profile small --domain web1 --live").refused(&["web1 does not run"]);
    web1.start();
    web1.wait_sees(MTTY, 0);

    lab.ok("vgpuctl xml --profile small --domain web1 --live >/tmp/slice.xml");
    let made = lab.mdevs();
    assert_eq!(made.len(), 1, "libvirt runs no hook on hot-plug: the slice is there before it");
    lab.ok("virsh attach-device web1 /tmp/slice.xml --live");
    web1.wait_sees(MTTY, 1);
    assert_eq!(lab.ok(&format!("lab-guest holders {}", made[0])), format!("{} web1", web1.pid()));
    web1.wait_listed("attached", "in use");

    lab.ok("virsh detach-device web1 /tmp/slice.xml --live");
    web1.wait_sees(MTTY, 0);
    lab.wait_no_mdevs();
    lab.wait(NONE, LONG);
    assert!(web1.is_running());

    // The same by the service: plugged, and in the definition too.
    lab.ok("vgpuctl attach web1 --profile small --live");
    web1.wait_sees(MTTY, 1);
    assert_eq!(web1.named_mdevs(), lab.mdevs());
    web1.wait_listed("attached", "in use");
    lab.ok("vgpuctl detach web1 --live");
    web1.wait_sees(MTTY, 0);
    lab.wait_no_mdevs();
    assert!(web1.named_mdevs().is_empty());
    lab.wait_agreement(&[]);
}

#[test]
fn a_lease_that_ends_takes_its_slice_back() {
    let lab = Lab::reset();
    let web1 = lab.guest("web1");
    lab.ok("vgpuctl profile create small --type mtty-1");
    lab.ok("vgpuctl xml --profile small --domain web1 --lease 2s");
    web1.start();
    lab.ok("vgpuctl xml --profile small --domain web1 --live --lease 5s");
    assert_eq!(lab.mdevs().len(), 1);
    lab.wait(NONE, LONG);
    lab.wait_no_mdevs();
    assert!(web1.is_running());
    lab.wait_agreement(&[]);
}
