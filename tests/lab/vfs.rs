//! The road of plain SR-IOV functions, on QEMU's igb.

use super::guest::IGB_VF;
use super::host::Lab;

/// The PCI addresses of the lab's two igb functions.
const PF: &str = "0000:01:00.0";
const OTHER_PF: &str = "0000:02:00.0";

impl Lab {
    /// How many VFs a PF has, by the kernel's links.
    pub(crate) fn vfs_of(&self, pf: &str) -> usize {
        self.ok(&format!("ls -d /sys/bus/pci/devices/{pf}/virtfn* || true")).lines().count()
    }
}

#[test]
fn vfs_are_made_for_guests_only_and_never_taken_from_one() {
    let lab = Lab::reset();
    lab.manage_igb();
    let netdevs = lab.ok("ls /sys/class/net");

    lab.ok(&format!("vgpuctl vfs set {PF} 4"));
    lab.ok(&format!("vgpuctl vfs set {OTHER_PF} 1"));
    assert_eq!((lab.vfs_of(PF), lab.vfs_of(OTHER_PF)), (4, 1));
    let devices = "/sys/bus/pci/devices";
    let facts = lab.ok(&format!(
        "for vf in {devices}/{{{PF},{OTHER_PF}}}/virtfn*; do
             echo $(basename $(readlink $vf/driver)) $(ls $vf/iommu_group/devices | wc -l)
         done | sort | uniq -c
         cat {devices}/{{{PF},{OTHER_PF}}}/sriov_drivers_autoprobe"
    ));
    let facts: Vec<&str> = facts.lines().map(str::trim).collect();
    assert_eq!(facts, ["5 vfio-pci 1", "0", "0"], "each on vfio-pci, alone in its group, autoprobe off");
    assert_eq!(lab.ok("ls /sys/class/net"), netdevs, "no VF became a network card of the host");
    lab.run(&format!("vgpuctl vfs set {PF} 99")).refused(&["at most 7", "99"]);

    lab.ok("vgpuctl profile create nic --vf 8086:10ca");
    let web1 = lab.guest("web1");
    lab.ok("vgpuctl attach web1 --profile nic --count 5");
    web1.start();
    web1.wait_firmware_sees(IGB_VF, 5);
    let named = web1.named_vfs();
    assert_eq!(named.len(), 5, "both PFs serve");
    named.iter().for_each(|vf| web1.assert_holds(vf));
    web1.wait_listed_in_use();
    lab.run(&format!("vgpuctl vfs set {PF} 2")).refused(&["in use", "web1"]);
    lab.run(&format!("vgpuctl vfs set {OTHER_PF} 0")).refused(&["in use", "web1"]);
    assert_eq!((lab.vfs_of(PF), lab.vfs_of(OTHER_PF)), (4, 1));
    web1.wait_sees(IGB_VF, 5);

    // 4 to 2 is what the kernel refuses in one step.
    web1.destroy();
    web1.wait_listed("reserved", "");
    let told = lab.run(&format!("vgpuctl vfs set {PF} 2"));
    assert!(told.code == 0 && told.text().contains("no longer exists"), "{told:#?}");
    assert_eq!(lab.vfs_of(PF), 2);
    web1.try_start().refused(&["does not exist now", "web1"]);
    lab.wait_agreement(&[]);
}
