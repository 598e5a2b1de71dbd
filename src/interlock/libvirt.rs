//! Rules about what libvirt's version can do.

use crate::domain_xml::{HostdevDetails, Source};
use crate::model::LibvirtVersion as Version;

use super::options::each;
use super::{Facts, Found, Slice};

/// What of a hostdev needs which version.
fn needs(hostdev: &HostdevDetails, slice: &Slice) -> Vec<(Version, String)> {
    let pci = matches!(hostdev.hostdev.source, Source::Pci(_));
    let mut needs = Vec::new();
    if pci && (hostdev.display || hostdev.ramfb) {
        needs.push((Version::PCI_DISPLAY, "display or ramfb of a PCI hostdev".to_owned()));
    }
    if let Some(model) = &hostdev.driver_model {
        needs.push((Version::DRIVER_MODEL, format!("<driver model='{model}'/>")));
    }
    if hostdev.acpi_nodeset {
        needs.push((Version::ACPI_NODESET, "<acpi nodeset='...'/>".to_owned()));
    }
    if hostdev.iommufd {
        needs.push((Version::IOMMUFD_DEVICE, "<driver iommufd='...'/>".to_owned()));
    }
    let variant = slice.driver.as_deref().filter(|driver| *driver != "vfio-pci");
    if let Some(driver) = variant.filter(|_| pci && !hostdev.hostdev.managed && slice.vfio == Some(true)) {
        needs.push((Version::VARIANT_DRIVERS, format!("an unmanaged device on driver {driver}")));
    }
    needs
}

pub(super) fn too_old(facts: &Facts) -> Vec<Found> {
    let Some(here) = facts.libvirt else { return Vec::new() };
    let say =
        |since: Version, what: &str| format!("{what} needs libvirt {since} or newer, and here is {here}");
    let mut found = each(facts, |hostdev, slice| {
        let missing: Vec<String> = needs(hostdev, slice)
            .iter()
            .filter(|(since, _)| here < *since)
            .map(|(since, what)| say(*since, what))
            .collect();
        (!missing.is_empty()).then(|| missing.join("; "))
    });
    if here < Version::IOMMUFD_DOMAIN {
        let using = facts.domains.iter().filter(|domain| domain.xml.iommufd);
        let text = say(Version::IOMMUFD_DOMAIN, "<iommufd>");
        found.extend(using.map(|domain| Found::new(domain.place(), text.clone())));
    }
    found
}
