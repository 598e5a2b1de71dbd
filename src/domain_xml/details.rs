//! What of a domain's XML decides whether it can run with its hostdevs: memory, graphics, options of hostdevs.

use roxmltree::Node;

use crate::domain_xml::read::{self, child_text, children, hostdev, hostdevs};
use crate::domain_xml::{DomainXmlError, Hostdev, MAX_XML, Source};
use crate::model::{DomainUuid, one_line};

/// A domain as far as rules about hostdevs look at it. Unlike [`crate::domain_xml::read()`] it takes XML
/// without a UUID, as people write it for `virsh define`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Its identity, when the XML says.
    pub uuid: Option<DomainUuid>,
    /// Its name.
    pub name: String,
    /// `<memory>` in KiB.
    pub memory_kib: Option<u64>,
    /// `<currentMemory>` in KiB: what the balloon leaves to the guest.
    pub current_kib: Option<u64>,
    /// `<memtune><hard_limit>` in KiB.
    pub hard_limit_kib: Option<u64>,
    /// Whether the balloon gives free pages back to the host by itself.
    pub free_page_reporting: bool,
    /// Whether it has a graphics device.
    pub graphics: bool,
    /// Whether it has an IOMMU of its own.
    pub viommu: bool,
    /// Whether it has `<iommufd>`.
    pub iommufd: bool,
    /// NVMe disks and vDPA interfaces: each pins the guest's memory once more.
    pub other_pinning: u32,
    /// NUMA cells of the guest.
    pub cells: u32,
    /// Its hostdevs, in the order of the XML.
    pub hostdevs: Vec<HostdevDetails>,
}

/// A hostdev with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostdevDetails {
    /// Alias, source, managed.
    pub hostdev: Hostdev,
    /// `model`, which an mdev must have.
    pub model: Option<String>,
    /// `display='on'`.
    pub display: bool,
    /// `ramfb='on'`.
    pub ramfb: bool,
    /// `<driver model='...'>`: the VFIO driver that libvirt shall take.
    pub driver_model: Option<String>,
    /// `<driver iommufd='...'>` is there.
    pub iommufd: bool,
    /// `<acpi nodeset='...'>` is there.
    pub acpi_nodeset: bool,
}

impl HostdevDetails {
    /// Returns whether it is a device that QEMU opens by VFIO.
    #[must_use]
    pub const fn is_vfio(&self) -> bool {
        matches!(self.hostdev.source, Source::Mdev(_) | Source::Pci(_))
    }
}

/// Reads them.
///
/// # Errors
/// When the XML is too large, not UTF-8, not well-formed, has a DTD, or is not a domain with a name.
pub fn details(xml: &[u8]) -> Result<Details, DomainXmlError> {
    if xml.len() > MAX_XML {
        return Err(DomainXmlError::TooLarge);
    }
    let text = std::str::from_utf8(xml).map_err(|error| DomainXmlError::NotText(error.valid_up_to()))?;
    let document = read::parse(text).map_err(DomainXmlError::Malformed)?;
    let root = document.root_element();
    if !root.has_tag_name("domain") {
        let text = format!("its root is <{}>", one_line(root.tag_name().name(), 40));
        return Err(DomainXmlError::NotADomain(text));
    }
    let Some(name) = child_text(root, "name") else {
        return Err(DomainXmlError::NotADomain("it has no name".to_owned()));
    };
    let device = |name| children(root, "devices").flat_map(move |devices| children(devices, name));
    let is = |node: Node<'_, '_>, name: &str, value: &str| node.attribute(name) == Some(value);
    let pinning = device("disk")
        .filter(|disk| is(*disk, "type", "nvme"))
        .chain(device("interface").filter(|one| is(*one, "type", "vdpa")));
    let cells = within(root, &["cpu", "numa"]).map_or(0, |numa| children(numa, "cell").count());
    Ok(Details {
        uuid: child_text(root, "uuid").and_then(|uuid| uuid.trim().parse().ok()),
        name,
        memory_kib: kib(within(root, &["memory"])),
        current_kib: kib(within(root, &["currentMemory"])),
        hard_limit_kib: kib(within(root, &["memtune", "hard_limit"])),
        free_page_reporting: device("memballoon").any(|balloon| is(balloon, "freePageReporting", "on")),
        graphics: device("graphics").next().is_some(),
        viommu: device("iommu").next().is_some(),
        iommufd: within(root, &["iommufd"]).is_some_and(|node| !is(node, "enabled", "no")),
        other_pinning: u32::try_from(pinning.count()).unwrap_or(u32::MAX),
        cells: u32::try_from(cells).unwrap_or(u32::MAX),
        hostdevs: hostdevs(root).map(options).collect(),
    })
}

/// Reads one `<hostdev>` that stands alone, as a template makes it; `None` when it is none.
#[must_use]
pub fn hostdev_details(fragment: &str) -> Option<HostdevDetails> {
    let document = read::parse(fragment).ok()?;
    let root = document.root_element();
    root.has_tag_name("hostdev").then(|| options(root))
}

fn options(node: Node<'_, '_>) -> HostdevDetails {
    let on = |name: &str| node.attribute(name) == Some("on");
    let driver = |name: &str| children(node, "driver").find_map(|driver| driver.attribute(name));
    HostdevDetails {
        hostdev: hostdev(node),
        model: node.attribute("model").map(|model| one_line(model, 40)),
        display: on("display"),
        ramfb: on("ramfb"),
        driver_model: driver("model").map(|model| one_line(model, 40)),
        iommufd: driver("iommufd").is_some_and(|value| value != "no"),
        acpi_nodeset: children(node, "acpi").any(|acpi| acpi.has_attribute("nodeset")),
    }
}

fn within<'a, 'i>(node: Node<'a, 'i>, path: &[&'static str]) -> Option<Node<'a, 'i>> {
    path.iter().try_fold(node, |node, name| children(node, name).next())
}

/// Reads a size with libvirt's units; KiB without one. `None` when it is no size.
fn kib(node: Option<Node<'_, '_>>) -> Option<u64> {
    let node = node?;
    let number: u64 = node.text()?.trim().parse().ok()?;
    let unit: u64 = match node.attribute("unit").unwrap_or("KiB") {
        "b" | "bytes" => 1,
        "KB" => 1000,
        "k" | "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "M" | "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "G" | "GiB" => 1 << 30,
        "TB" => 1_000_000_000_000,
        "T" | "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(unit).map(|bytes| bytes / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = "<domain type='kvm'><name>web1</name><memory unit='GiB'>4</memory>\
        <currentMemory>2097152</currentMemory><memtune><hard_limit unit='G'>5</hard_limit></memtune>\
        <cpu><numa><cell id='0'/><cell id='1'/></numa></cpu><iommufd enabled='yes'/>\
        <devices><graphics type='vnc'/><iommu model='intel'/><disk type='nvme'/><interface type='vdpa'/>\
        <memballoon model='virtio' freePageReporting='on'/>\
        <hostdev mode='subsystem' type='mdev' model='vfio-pci' display='on' ramfb='on'>\
        <source><address uuid='11111111-2222-3333-4444-555555555555'/></source></hostdev>\
        <hostdev mode='subsystem' type='pci' managed='yes'><driver model='xe-vfio-pci' iommufd='yes'/>\
        <source><address domain='0' bus='1' slot='2' function='3'/></source><acpi nodeset='1-8'/></hostdev>\
        </devices></domain>";

    #[test]
    fn everything_is_found_where_libvirt_has_it() {
        let found = details(XML.as_bytes()).expect("a domain");
        assert_eq!((found.uuid, found.name.as_str()), (None, "web1"));
        assert_eq!(found.memory_kib, Some(4 << 20));
        assert_eq!(found.current_kib, Some(2 << 20));
        assert_eq!(found.hard_limit_kib, Some(5 << 20));
        assert!(found.free_page_reporting && found.graphics && found.viommu && found.iommufd);
        assert_eq!((found.other_pinning, found.cells), (2, 2));
        let [mdev, pci] = found.hostdevs.as_slice() else { panic!("two hostdevs") };
        assert_eq!(mdev.model.as_deref(), Some("vfio-pci"));
        assert!(mdev.display && mdev.ramfb && mdev.is_vfio() && !mdev.iommufd);
        assert_eq!(pci.driver_model.as_deref(), Some("xe-vfio-pci"));
        assert!(pci.iommufd && pci.acpi_nodeset && pci.hostdev.managed);
    }

    #[test]
    fn what_is_absent_is_unknown_or_off() {
        let found = details(b"<domain><name>a</name><memory unit='parsec'>1</memory></domain>").expect("it");
        assert_eq!(found, Details { name: "a".to_owned(), ..Details::default() });
        details(b"<domain/>").expect_err("no name");
        details(b"<network><name>a</name></network>").expect_err("no domain");
    }

    #[test]
    fn a_hostdev_of_a_template_is_read_alone() {
        let text = "<hostdev mode='subsystem' type='mdev' model='vfio-pci' display='on'>\
            <source><address uuid='11111111-2222-3333-4444-555555555555'/></source></hostdev>";
        assert!(hostdev_details(text).is_some_and(|one| one.display && !one.ramfb));
        assert_eq!(hostdev_details("<disk/>"), None);
    }
}
