//! The terms of a promise: guaranteed slices, pins, and what a first start settled.

use super::guest::{MBOCHS, MTTY};
use super::host::{Lab, SHORT};

impl Lab {
    /// The parent and the type of an mdev, by the kernel's links.
    #[track_caller]
    fn place_and_type(&self, uuid: &str) -> String {
        let link = format!("/sys/bus/mdev/devices/{uuid}");
        self.ok(&format!(
            "basename $(dirname $(readlink -f {link})); basename $(readlink -f {link}/mdev_type)"
        ))
        .replace('\n', " ")
    }
}

#[test]
fn a_guaranteed_slice_stays_while_its_domain_is_off_and_nobody_else_gets_it() {
    let lab = Lab::reset();
    let (web1, web2) = (lab.guest("web1"), lab.guest("web2"));
    lab.ok("vgpuctl profile create small --type mtty-2");
    lab.ok("vgpuctl attach web1 --profile small --mode guaranteed");
    let slice = web1.named_mdevs().remove(0);
    assert_eq!(lab.mdevs(), [slice.as_str()], "made at attach");
    assert_eq!(lab.place_and_type(&slice), "mtty mtty-2");
    let born = lab.ok(&format!("stat -c %W:%i /sys/bus/mdev/devices/{slice}/uevent"));

    // Twelve fit, eleven are left.
    lab.ok("for n in {1..11}; do vgpuctl mdev create mtty mtty-2 || exit; done");
    web2.attach("small");
    web2.try_start().refused(&["cannot place", "held by domain web1 (guaranteed) 1 x mtty-2"]);
    lab.run("vgpuctl attach web2 --profile small --count 2 --mode guaranteed").refused(&["cannot place"]);

    web1.start();
    web1.wait_firmware_sees(MTTY, 1);
    web1.assert_holds(&slice);
    web1.destroy();
    web1.wait_listed("ready", "guaranteed");
    lab.ok("systemctl restart vgpud");
    lab.wait("vgpuctl status | grep connected", SHORT);
    lab.wait_agreement(&[]);
    assert_eq!(
        lab.ok(&format!("stat -c %W:%i /sys/bus/mdev/devices/{slice}/uevent")),
        born,
        "the same device"
    );

    let told = lab.ok("vgpuctl allocation set web1 --mode on-start");
    assert!(told.contains("given back"), "{told}");
    assert!(!lab.mdevs().contains(&slice));
    web2.start();
    web2.wait_firmware_sees(MTTY, 1);
    web2.destroy();
    lab.ok("vgpuctl detach web1 && vgpuctl detach web2");
    lab.wait_agreement(&[]);
    assert_eq!(lab.mdevs().len(), 11);
}

#[test]
fn a_settled_type_stays_after_the_profile_changed_and_floats_when_that_is_said() {
    let lab = Lab::reset();
    let web1 = lab.guest("web1");
    lab.ok("vgpuctl profile create desk --type mtty-1");
    web1.attach("desk");
    let slice = web1.named_mdevs().remove(0);
    web1.start();
    web1.wait_firmware_sees(MTTY, 1);
    lab.wait("vgpuctl allocations -o json | jq -e '.allocations[0].settled.mdev_type == \"mtty-1\"'", SHORT);

    // In an editor, on a terminal, while the guest runs.
    let told = lab.ok(
        "script -qec 'EDITOR=\"sed -i s/mtty-1/mbochs-small/\" vgpuctl profile edit desk' /dev/null </dev/null",
    );
    assert!(told.contains("running") && told.contains("sticky: stays type mtty-1"), "{told}");
    web1.destroy();
    web1.start();
    web1.wait_firmware_sees(MTTY, 1);
    assert_eq!(lab.place_and_type(&slice), "mtty mtty-1", "settled");
    lab.run("vgpuctl allocation unsettle web1").refused(&["web1 runs"]);
    web1.destroy();
    web1.wait_listed("reserved", "");

    lab.ok("vgpuctl allocation unsettle web1");
    web1.start();
    web1.wait_firmware_sees(MTTY, 0);
    web1.wait_firmware_sees(MBOCHS, 1);
    assert_eq!(lab.place_and_type(&slice), "mbochs mbochs-small", "forgotten");
    web1.assert_holds(&slice);
    web1.destroy();
    lab.wait_agreement(&[]);

    lab.ok("vgpuctl profile edit desk --type mtty-2 --float type");
    web1.try_start().refused(&["settled mbochs", "--float vendor"]);
    lab.ok("vgpuctl profile edit desk --float vendor");
    web1.start();
    web1.wait_firmware_sees(MTTY, 1);
    assert_eq!(lab.place_and_type(&slice), "mtty mtty-2");
    web1.destroy();
    lab.wait_agreement(&[]);
    lab.wait_no_mdevs();
}

#[test]
fn a_guaranteed_vf_is_nobody_elses_and_a_pin_keeps_its_card() {
    let lab = Lab::reset();
    lab.manage_igb();
    let (web1, web2) = (lab.guest("web1"), lab.guest("web2"));
    lab.ok("vgpuctl vfs set 0000:01:00.0 2");
    lab.ok("vgpuctl profile create nic --vf 8086:10ca");
    lab.ok("vgpuctl attach web1 --profile nic --mode guaranteed --pin --repoint never");
    let mine = web1.named_vfs().remove(0);
    assert_eq!(lab.ok(&format!("basename $(readlink /sys/bus/pci/devices/{mine}/driver)")), "vfio-pci");
    lab.ok("vgpuctl attach web2 --profile nic");
    assert_ne!(web2.named_vfs()[0], mine);
    lab.run("vgpuctl attach web2 --profile nic --count 2").refused(&["web1 (guaranteed)"]);
    web1.start();
    web1.wait_firmware_sees(super::guest::IGB_VF, 1);
    web1.assert_holds(&mine);
    web1.destroy();
    web1.wait_listed("ready", "guaranteed, pinned, repoint never");
    let settled = lab.ok("vgpuctl allocations -d web1 -o json | jq -r .allocations[0].settled.gpu");
    assert!(settled.contains("0000:01:00.0"), "{settled}");
    lab.run("vgpuctl vfs set 0000:01:00.0 1").refused(&["in use", "web1", "guaranteed"]);
    lab.ok("vgpuctl detach web1");
    lab.ok("vgpuctl vfs set 0000:01:00.0 1");
}
