//! The reader. Looks at files only, so that a recorded tree is as good as a host.

use super::{Bridge, Observations, Seen};
use crate::model::{Gpu, HostSnapshot, PciAddress};
use crate::sysfs::Sysfs;

/// Where the extended capabilities of a function's configuration space begin.
const EXTENDED: usize = 0x100;

/// Number of the extended capability Access Control Services (Linux, include/uapi/linux/pci_regs.h).
const ACS: u16 = 0x0d;

/// Bits of its control register that send requests or completions up, or let a port refuse them: P2P request redirect, P2P
/// completion redirect, P2P egress control.
const REDIRECT: u16 = 0x04 | 0x08 | 0x20;

/// The most extended capabilities that are followed; a list that is longer is a loop.
const MOST: usize = 96;

/// Looks at the host below the root of `sysfs`, of which `snapshot` is a reading.
#[must_use]
pub fn read(sysfs: &Sysfs, snapshot: &HostSnapshot) -> Observations {
    let mut gpus: Vec<Seen> = snapshot.gpus.iter().filter_map(|gpu| seen(sysfs, gpu)).collect();
    gpus.sort_by_key(|gpu| gpu.address);
    Observations {
        gpus,
        distances: distances(sysfs),
        host_bridge_forwards: forwards(&sysfs.read("proc/cpuinfo").unwrap_or_default()),
    }
}

/// Reads one display controller or accelerator; other devices that give slices are no GPUs.
fn seen(sysfs: &Sysfs, gpu: &Gpu) -> Option<Seen> {
    let pci = gpu.pci.as_ref().filter(|pci| matches!(pci.class >> 16, 0x03 | 0x12))?;
    let mut way = gpu.path.strip_prefix("sys/devices/")?.split('/');
    let root = way.next()?.to_owned();
    let mut at = format!("sys/devices/{root}");
    let mut bridges = Vec::new();
    for name in way {
        at = format!("{at}/{name}");
        let Ok(address) = name.parse::<PciAddress>() else { continue };
        if address != pci.address {
            bridges.push(Bridge { address, redirects: redirects(sysfs, &at) });
        }
    }
    Some(Seen {
        id: gpu.id.clone(),
        name: gpu.name.clone(),
        address: pci.address,
        pci: pci.id,
        class: pci.class,
        model: pci.device_name.clone(),
        root,
        bridges,
        numa_node: gpu.numa_node,
        iommu_group: gpu.iommu_group,
        link: pci.link.clone(),
    })
}

/// Reads whether the bridge in `dir` redirects. Without the capability it cannot. Others than root get 64 bytes.
fn redirects(sysfs: &Sysfs, dir: &str) -> Option<bool> {
    let space = sysfs.read_bytes(&format!("{dir}/config")).ok()?;
    control(&space).map(|control| control & REDIRECT != 0)
}

/// Finds the ACS control register, 0 without the capability; `None` when the space ends before the capabilities do.
fn control(space: &[u8]) -> Option<u16> {
    let word = |at: usize| Some(u16::from_le_bytes([*space.get(at)?, *space.get(at + 1)?]));
    let mut at = EXTENDED;
    for _ in 0..MOST {
        let (id, next) = (word(at)?, word(at + 2)? >> 4);
        if id == ACS {
            return word(at + 6);
        }
        if usize::from(next) < EXTENDED {
            return Some(0);
        }
        at = usize::from(next) & !3;
    }
    Some(0)
}

fn distances(sysfs: &Sysfs) -> Vec<(u32, Vec<u32>)> {
    const NODES: &str = "sys/devices/system/node";
    let names = sysfs.list_optional(NODES).unwrap_or_default();
    let row = |name: &String| {
        let number = name.strip_prefix("node")?.parse().ok()?;
        let text = sysfs.read(&format!("{NODES}/{name}/distance")).ok()?;
        let row: Option<Vec<u32>> = text.split_whitespace().map(|one| one.parse().ok()).collect();
        Some((number, row?))
    };
    let mut rows: Vec<(u32, Vec<u32>)> = names.iter().filter_map(row).collect();
    rows.sort();
    rows
}

/// AMD's root complexes pass requests on from family 0x17; of Intel's only some do, which the kernel lists by id.
fn forwards(cpuinfo: &str) -> Option<bool> {
    let field = |name: &str| {
        let line =
            cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
        line.split(':').nth(1).map(str::trim)
    };
    let family: u32 = field("cpu family")?.parse().ok()?;
    (field("vendor_id") == Some("AuthenticAMD") && family >= 0x17).then_some(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A space with a capability of another kind before ACS.
    fn space(control: u16) -> Vec<u8> {
        let mut space = vec![0; 4096];
        space[0x100..0x104].copy_from_slice(&[0x01, 0x00, 0x02, 0x15]);
        space[0x150..0x154].copy_from_slice(&[0x0d, 0x00, 0x01, 0x00]);
        space[0x156..0x158].copy_from_slice(&control.to_le_bytes());
        space
    }

    #[test]
    fn the_control_register_of_acs_is_found() {
        assert_eq!(control(&space(0x1d)), Some(0x1d));
        assert_eq!(control(&space(0)), Some(0));
        assert_eq!(control(&space(0x1d)[..64]), None, "what others than root get");
        let mut without = space(0x1d);
        without[0x103] = 0;
        assert_eq!(control(&without), Some(0));
        let mut endless = space(0x1d);
        endless[0x100..0x104].copy_from_slice(&[0x01, 0x00, 0x02, 0x10]);
        assert_eq!(control(&endless), Some(0), "a list that leads to itself ends");
    }

    #[test]
    fn amds_root_complexes_pass_requests_on_since_zen() {
        let cpu =
            |vendor: &str, family: u32| forwards(&format!("vendor_id\t: {vendor}\ncpu family\t: {family}\n"));
        assert_eq!(cpu("AuthenticAMD", 23), Some(true));
        assert_eq!(cpu("AuthenticAMD", 21), None);
        assert_eq!(cpu("GenuineIntel", 6), None);
        assert_eq!(forwards(""), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_tolerated(bytes: Vec<u8>, text: String) {
            control(&bytes);
            forwards(&text);
        }
    }
}
