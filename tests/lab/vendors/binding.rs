//! Late binding: the GPU is chosen when a domain starts.

use super::sim::{FIRST, SECOND};
use crate::host::{LONG, Lab, SHORT};

#[test]
fn a_vgpu_on_a_vf_is_made_at_the_start_and_follows_the_room_to_the_other_gpu() {
    let Some(lab) = Lab::with_gpus("l40s-vfio,l40s-vfio") else { return };
    lab.enable_vfs(FIRST, 4);
    lab.enable_vfs(SECOND, 4);
    lab.ok("vgpuctl profile create desk --framebuffer 4GiB --parameters frame_rate_limiter=0,disable_vnc=1");
    let web = lab.guest("web");
    web.attach("desk");
    let named = web.named_vfs().remove(0);
    assert_eq!(lab.vgpu_type_of(&named), "0", "nothing is made before the start");

    web.start();
    assert_ne!(lab.vgpu_type_of(&named), "0");
    let parameters = lab.ok(&format!("cat /sys/bus/pci/devices/{named}/nvidia/vgpu_params"));
    assert_eq!(parameters, "frame_rate_limiter=0,disable_vnc=1", "the driver took them before the guest");
    web.assert_holds(&named);
    web.assert_reads(&[&format!("vf={named}"), "fb_mib=4096"]);
    web.destroy();
    lab.wait(&format!("grep -x 0 /sys/bus/pci/devices/{named}/nvidia/current_vgpu_type"), SHORT);
    web.wait_listed("reserved", "");

    // Another size on the GPU that it names: in equal-size mode that GPU has nothing for this profile any more.
    let (here, there) = if named.starts_with("0000:40") { (FIRST, SECOND) } else { (SECOND, FIRST) };
    let foreign = lab.ok(&format!(
        "for vf in /sys/bus/pci/devices/{here}/virtfn*; do address=$(basename $(readlink $vf))
             test $address = {named} || {{ echo 1155 >$vf/nvidia/current_vgpu_type && echo $address && break; }}
         done"
    ));
    let bus = &there[5..7];
    lab.wait(
        &format!("virsh dumpxml --inactive web | grep \"<address domain='0x0000' bus='0x{bus}'\""),
        LONG,
    );
    web.start();
    let moved = web.named_vfs().remove(0);
    web.assert_holds(&moved);
    web.assert_reads(&[&format!("pf={there}"), &format!("vf={moved}"), "fb_mib=4096"]);
    assert_eq!((lab.vgpu_type_of(&foreign), lab.vgpu_type_of(&named)), ("1155".to_owned(), "0".to_owned()));
    web.destroy();
    lab.wait(&format!("grep -x 0 /sys/bus/pci/devices/{moved}/nvidia/current_vgpu_type"), SHORT);
    assert_eq!(lab.vgpu_type_of(&foreign), "1155", "what others made stays");
}

#[test]
fn one_definition_starts_on_a_gpu_that_is_a_parent_and_on_one_whose_vfs_are() {
    let Some(lab) = Lab::with_gpus("t4,a40-mdev") else { return };
    lab.enable_vfs(SECOND, 4);
    // The types come some time after the VFs.
    let types =
        format!("test $(ls -d /sys/bus/pci/devices/{SECOND}/virtfn*/mdev_supported_types | wc -l) = 4");
    lab.wait(&types, LONG);
    lab.ok("vgpuctl profile create desk --framebuffer 4GiB --float type --parameters frame_rate_limiter=0");
    let web = lab.guest("web");
    web.attach("desk");
    let uuid = web.named_mdevs().remove(0);

    let mut landed = Vec::new();
    for _ in 0..2 {
        web.start();
        web.assert_holds(&uuid);
        let parameters = lab.ok(&format!("cat /sys/bus/mdev/devices/{uuid}/nvidia/vgpu_params"));
        assert_eq!(parameters, "frame_rate_limiter=0");
        web.assert_reads(&[&format!("mdev={uuid}"), "fb_mib=4096"]);
        let parent = lab.ok(&format!("basename $(dirname $(readlink -f /sys/bus/mdev/devices/{uuid}))"));
        web.destroy();
        lab.wait(&format!("! test -e /sys/bus/mdev/devices/{uuid}"), SHORT);
        // Full of another size by hand: the same definition starts on the other GPU.
        if parent == FIRST {
            lab.ok(&format!(
                "types=/sys/bus/pci/devices/{FIRST}/mdev_supported_types
                 for type in $types/*; do grep -q 'framebuffer=16384M' $type/description && break; done
                 cat /proc/sys/kernel/random/uuid >$type/create"
            ));
        } else {
            lab.ok(&format!(
                "for vf in /sys/bus/pci/devices/{SECOND}/virtfn*; do
                     for type in $vf/mdev_supported_types/*; do
                         grep -q 'framebuffer=24576M' $type/description || continue
                         test $(cat $type/available_instances) = 0 || cat /proc/sys/kernel/random/uuid >$type/create
                     done
                 done"
            ));
        }
        landed.push(parent == FIRST);
    }
    assert_ne!(landed[0], landed[1], "once on each GPU");
}
