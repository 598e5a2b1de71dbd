//! What the templates make of a slice, judged by libvirt itself.

use super::guest::{IGB_VF, MTTY};
use super::host::Lab;

/// A display on the slice needs a graphics device.
const ADD_GRAPHICS: &str = "virsh dumpxml --inactive web1 |
     sed \"s|</devices>|<graphics type='vnc' autoport='yes'/><video><model type='none'/></video></devices>|\" |
     virsh define /dev/stdin";

#[test]
fn every_template_is_valid_for_libvirt_and_starts() {
    let lab = Lab::reset();
    lab.manage_igb();
    let web1 = lab.guest("web1");
    lab.ok(ADD_GRAPHICS);
    lab.ok("vgpuctl vfs set 0000:01:00.0 1
         vgpuctl profile create plain --type mtty-1
         vgpuctl profile create screen --type mdpy-vga --display --ramfb
         vgpuctl profile create nic --vf 8086:10ca");
    ["plain", "screen", "nic"].iter().for_each(|profile| drop(web1.attach(profile)));
    lab.ok("virsh dumpxml --inactive web1 >/tmp/web1.xml && virt-xml-validate /tmp/web1.xml domain");
    let aliases = web1.aliases();
    assert!(aliases.len() == 3 && aliases.iter().all(|alias| alias.starts_with("ua-vgpud-")), "{aliases:?}");

    web1.start();
    web1.wait_firmware_sees(MTTY, 1);
    web1.wait_firmware_sees(IGB_VF, 1);
    let line = web1.command_line();
    assert!(aliases.iter().all(|alias| line.contains(alias.as_str())), "our marks reach QEMU: {line}");
    assert!(line.contains("\"ramfb\":true") || line.contains("ramfb=on"), "{line}");
    web1.destroy();
    lab.wait_no_mdevs();
}
