//! Facts of one device: names, identity, link, and which backend drives it and why.

use super::names;
use crate::backend::sriov::read_hex;
use crate::model::{BackendKind, Link, MdevParent, PciFacts, PciId, Sriov};
use crate::sysfs::Sysfs;

/// Reads `0x030200`.
pub(super) fn parse_class(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok().filter(|class| *class < 1 << 24)
}

/// Reads a pair of id attributes.
pub(super) fn pci_id(sysfs: &Sysfs, dir: &str, vendor: &str, device: &str) -> Option<PciId> {
    let read = |attribute| read_hex(sysfs, &format!("{dir}/{attribute}"));
    Some(PciId { vendor: read(vendor)?, device: read(device)? })
}

/// Reads what PCI says of the function `name` in `dir`; `None` when it has no address or no ids.
pub(super) fn pci_facts(sysfs: &Sysfs, dir: &str, name: &str, class: u32) -> Option<PciFacts> {
    let id = pci_id(sysfs, dir, "vendor", "device")?;
    let subsystem = pci_id(sysfs, dir, "subsystem_vendor", "subsystem_device");
    Some(PciFacts {
        address: name.parse().ok()?,
        id,
        subsystem: subsystem.unwrap_or(PciId { vendor: 0, device: 0 }),
        class,
        vendor_name: names::vendor(id.vendor),
        device_name: names::device(id),
        link: link(sysfs, dir),
    })
}

/// Reads the link; `None` when the function is not PCI Express, where reading says EINVAL.
fn link(sysfs: &Sysfs, dir: &str) -> Option<Link> {
    let read =
        |attribute: &str| sysfs.read(&format!("{dir}/{attribute}")).ok().filter(|text| !text.is_empty());
    let max_speed = read("max_link_speed")?;
    let max_width = read("max_link_width")?.parse().ok()?;
    let link = Link {
        speed: read("current_link_speed")?,
        width: read("current_link_width")?.parse().ok()?,
        max_speed,
        max_width,
    };
    (link.max_width > 0).then_some(link)
}

/// Returns the identity that the ledger keeps: slot, device id and subsystem id. The slot is the
/// address, which is as stable as the board's wiring and the firmware's numbering of buses; the ids
/// tell when another card sits there.
pub(super) fn pci_identity(pci: &PciFacts) -> String {
    format!("pci:{}/{}/{}", pci.address, pci.id, pci.subsystem)
}

/// What decides about the backend.
pub(super) struct Facts<'a> {
    pub(super) dir: &'a str,
    pub(super) driver: Option<&'a str>,
    pub(super) sriov: Option<&'a Sriov>,
    pub(super) parents: &'a [MdevParent],
    pub(super) included: bool,
}

/// Chooses the backend by the attributes that are there, and says which one decided.
pub(super) fn choose_backend(sysfs: &Sysfs, facts: &Facts<'_>) -> (BackendKind, String) {
    let own = facts.parents.iter().filter(|parent| parent.path == facts.dir).count();
    match (own, facts.parents.len() - own) {
        (0, 0) => without_mdev_types(sysfs, facts),
        (0, vfs) => (BackendKind::Mdev, format!("{vfs} of its VFs offer mdev types in mdev_supported_types")),
        _ => (BackendKind::Mdev, "offers mdev types in mdev_supported_types".to_owned()),
    }
}

/// What is said of a GPU that has no slices, and that a guest can have.
pub(super) fn only_whole(driver: Option<&str>) -> (BackendKind, String) {
    let driver = driver.map_or_else(|| "no driver".to_owned(), |driver| format!("driver {driver}"));
    let reason = format!("no mdev_supported_types, no sriov_totalvfs: a guest can have it whole; {driver}");
    (BackendKind::Passthrough, reason)
}

fn without_mdev_types(sysfs: &Sysfs, facts: &Facts<'_>) -> (BackendKind, String) {
    let driver = facts.driver.map_or_else(|| "no driver".to_owned(), |driver| format!("driver {driver}"));
    let none = |reason: String| (BackendKind::None, reason);
    let Some(sriov) = facts.sriov.filter(|sriov| sriov.total > 0) else {
        return none(format!("nothing can be made: no mdev_supported_types, no sriov_totalvfs; {driver}"));
    };
    let total = sriov.total;
    if sriov.vfs.iter().any(|vf| vf.vgpu.is_some()) {
        let reason = "its VFs take vGPU types in nvidia/current_vgpu_type".to_owned();
        return (BackendKind::NvidiaVfio, reason);
    }
    if sysfs.exists(&format!("{}/sriov_admin", facts.dir)) {
        return (BackendKind::Xe, format!("has sriov_totalvfs {total}, and VFs have shares in sriov_admin"));
    }
    if facts.driver == Some("nvidia") {
        return none(format!(
            "has sriov_totalvfs {total}, but driver nvidia makes VFs only through its own script, which \
             vgpuctl gpu set runs; none of them offers vGPU types"
        ));
    }
    if facts.included {
        return (BackendKind::Sriov, format!("has sriov_totalvfs {total} and is listed in devices.include"));
    }
    (BackendKind::Sriov, format!("has sriov_totalvfs {total} and no mdev_supported_types; {driver}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn classes_have_24_bits() {
        assert_eq!(parse_class("0x030200"), Some(0x03_0200));
        assert_eq!(parse_class("0x1000000"), None);
        assert_eq!(parse_class("030200"), None);
    }

    proptest! {
        #[test]
        fn any_class_text_is_tolerated(text: String) {
            parse_class(&text);
        }
    }
}
