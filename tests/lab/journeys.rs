//! The core of an admin's day: profile, attach, plain `virsh start`, stop.

use super::guest::{MBOCHS, MTTY};
use super::host::{LONG, Lab};

#[test]
fn a_slice_is_in_the_guest_while_it_runs_and_gone_when_it_stops() {
    let lab = Lab::reset();
    let web1 = lab.guest("web1");
    lab.ok("vgpuctl profile create small --type mtty-1");
    web1.attach("small");
    assert_eq!(lab.mdevs(), [""; 0], "nothing is made before the start");
    let uuid = web1.named_mdevs().remove(0);

    web1.start();
    web1.wait_firmware_sees(MTTY, 1);
    assert_eq!(lab.mdevs(), [uuid.as_str()]);
    web1.assert_holds(&uuid);
    web1.wait_listed_in_use();
    web1.wait_sees(MTTY, 1);

    // A reboot is QEMU's own affair: no hook runs, the slice stays.
    let pid = web1.pid();
    lab.ok("lab-guest tell web1 reboot");
    lab.wait("test \"$(lab-guest boots web1)\" -ge 2", LONG);
    web1.wait_sees(MTTY, 1);
    assert_eq!((web1.pid(), lab.mdevs()), (pid, vec![uuid.clone()]));

    lab.ok("lab-guest tell web1 poweroff");
    web1.wait_off();
    lab.wait_no_mdevs();
    web1.wait_listed("reserved", "");
    lab.wait_agreement(&[]);

    // The same UUID again, and the hard way to stop.
    web1.start();
    web1.wait_firmware_sees(MTTY, 1);
    assert_eq!(lab.mdevs(), [uuid.as_str()]);
    web1.destroy();
    lab.wait_no_mdevs();
    web1.wait_listed("reserved", "");
    lab.wait_agreement(&[]);
}

#[test]
fn several_slices_of_two_profiles_are_made_together_and_detached_again() {
    let lab = Lab::reset();
    let web1 = lab.guest("web1");
    lab.ok("vgpuctl profile create small --type mtty-1");
    lab.ok("vgpuctl profile create screen --framebuffer 16MiB");

    let plan = lab.ok("vgpuctl attach web1 --profile small --count 2 --dry-run");
    assert!(plan.contains("nothing was changed: dry run"), "{plan}");
    assert_eq!(plan.matches("<hostdev").count(), 2, "{plan}");
    assert_eq!(web1.named_mdevs(), [""; 0], "a dry run defines nothing");
    assert_eq!(lab.ok("vgpuctl allocations"), "no allocations");

    lab.ok("vgpuctl attach web1 --profile small --count 2");
    web1.attach("screen");
    let named = web1.named_mdevs();
    assert_eq!(named.len(), 3);
    let again = lab.ok("vgpuctl attach web1 --profile small --count 2");
    assert!(again.contains("nothing to change"), "{again}");
    assert_eq!(web1.named_mdevs(), named, "asking again changes nothing");

    web1.start();
    web1.wait_firmware_sees(MTTY, 2);
    web1.wait_firmware_sees(MBOCHS, 1);
    named.iter().for_each(|uuid| web1.assert_holds(uuid));
    // The smallest type with 16 MiB, by the kernel's word.
    let types =
        lab.ok("for d in /sys/bus/mdev/devices/*; do basename \"$(readlink -f $d/mdev_type)\"; done | sort");
    assert_eq!(types, "mbochs-medium\nmtty-1\nmtty-1");

    // A running guest keeps what it has until it stops.
    let detached = lab.ok("vgpuctl detach web1");
    assert!(detached.contains("keeps its slices until it stops"), "{detached}");
    assert_eq!(web1.named_mdevs(), [""; 0]);
    assert_eq!(lab.mdevs().len(), 3);
    web1.wait_sees(MTTY, 2);
    lab.ok("virsh shutdown web1");
    web1.wait_off();
    lab.wait_no_mdevs();
    lab.wait("vgpuctl allocations | grep -x 'no allocations'", LONG);
    lab.wait_agreement(&[]);
}
