//! A host with GPUs of two vendors: one set of commands, each GPU by its own road.

use super::sim::{FIRST, SECOND};
use crate::guest::Guest;
use crate::host::{LONG, Lab, SHORT};

#[test]
fn one_profile_is_served_by_two_vendors_and_another_by_the_one_it_names() {
    let Some(lab) = Lab::with_gpus("l40s-vfio,arc-b") else { return };
    let road = |gpu: &str| {
        lab.ok(&format!(
            "vgpuctl gpus | awk -v gpu={gpu} '$1 == gpu {{ at = 1 }} !NF {{ at = 0 }} at && /slices/'"
        ))
    };
    assert!(road(FIRST).contains("driver nvidia makes VFs only through its own script"));
    lab.enable_vfs(FIRST, 4);
    lab.ok(&format!("vgpuctl vfs set {SECOND} 4"));
    lab.wait("vgpuctl gpus | grep 'slices by vGPU types of VFs'", SHORT);
    assert!(road(SECOND).contains("slices by SR-IOV with shares of memory"));

    lab.ok("vgpuctl profile create any --framebuffer 4GiB --policy most-free");
    lab.ok("vgpuctl profile create cad --type L40S-4Q");
    let can = |profile: &str, gpu: &str| {
        lab.ok(&format!(
            "vgpuctl profile explain {profile} -o json | jq '.candidates[] | select(.parent == \"{gpu}\").possible'"
        ))
    };
    assert_eq!((can("any", FIRST).as_str(), can("any", SECOND).as_str()), ("4", "4"));
    assert_eq!((can("cad", FIRST).as_str(), can("cad", SECOND).as_str()), ("4", "0"));

    let [web1, web2, cad] = ["web1", "web2", "cad"].map(|name| lab.guest(name));
    web1.attach("any");
    web2.attach("any");
    cad.attach("cad");
    let named = |guest: &Guest<'_>| guest.named_vfs().remove(0);
    let vfs = [named(&web1), named(&web2), named(&cad)];
    assert_ne!(lab.gpu_of(&vfs[0]), lab.gpu_of(&vfs[1]), "one on each vendor's");
    assert_eq!(lab.gpu_of(&vfs[2]), FIRST);
    assert_eq!(lab.vgpus_of(FIRST), [""; 0], "nothing is made before the start");

    let guests = [web1, web2, cad];
    guests.iter().for_each(Guest::start);
    for (guest, vf) in guests.iter().zip(&vfs) {
        guest.assert_holds(vf);
        guest.wait_listed_in_use();
        if lab.gpu_of(vf) == FIRST {
            guest.assert_reads(&[&format!("pf={FIRST}"), &format!("vf={vf}"), "type=1150", "fb_mib=4096"]);
        } else {
            // What the PF's driver says of its share, the guest says too.
            let share = lab.ok(&format!("cat {}", share_of(&lab, vf)));
            assert!(share.parse::<u64>().expect("bytes") >= 4 << 30, "{share}");
            guest.assert_reads(&[&format!("pf={SECOND}"), &format!("vf={vf}"), &format!("vram={share}")]);
        }
    }

    guests.iter().for_each(Guest::destroy);
    lab.wait_no_vgpus(FIRST);
    let held = "lab-guest holders";
    vfs.iter().for_each(|vf| drop(lab.wait(&format!("test -z \"$({held} {vf})\""), LONG)));
    guests.iter().for_each(|guest| guest.wait_listed("reserved", ""));
    lab.wait_agreement(&[]);
    lab.ok(&format!("vgpuctl vfs set {SECOND} 0"));
    lab.enable_vfs(FIRST, 0);
    lab.ok("for guest in web1 web2 cad; do vgpuctl detach $guest; done");
    lab.wait("vgpuctl allocations | grep -x 'no allocations'", LONG);
    lab.ok("rmmod vgpu-sim");
}

/// Where the PF's driver says how much memory a VF of an Intel GPU has.
fn share_of(lab: &Lab, vf: &str) -> String {
    let number = lab.ok(&format!(
        "for link in /sys/bus/pci/devices/{SECOND}/virtfn*; do
             test $(basename $(readlink $link)) != {vf} || echo ${{link##*virtfn}}
         done"
    ));
    let number: u32 = number.parse().expect("a number");
    format!("/sys/bus/pci/devices/{SECOND}/sriov_admin/vf{}/profile/vram_quota", number + 1)
}
