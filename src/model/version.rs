//! Which libvirt is there, and what of it is too old for what.

use std::fmt;
use std::str::FromStr;

/// The libvirt daemon's version, in libvirt's own counting: 9.7.0 is 9,007,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LibvirtVersion(u32);

impl LibvirtVersion {
    /// Since then programs in `hooks/qemu.d` are run.
    pub const HOOK_DIRECTORY: Self = Self(6_005_000);

    /// Since then `<qemu:override>` sets properties of QEMU's devices: docs/drvqemu.rst.
    pub const OVERRIDE: Self = Self(8_002_000);

    /// Since then an unmanaged PCI device may be on any driver that offers VFIO (`vfio-dev` in sysfs), not
    /// on the stubs alone: util/virpci.c.
    pub const VARIANT_DRIVERS: Self = Self(9_007_000);

    /// Since then `<driver model='...'>` of a PCI hostdev names the VFIO driver.
    pub const DRIVER_MODEL: Self = Self(10_000_000);

    /// Since then a PCI hostdev may have `display` and `ramfb`.
    pub const PCI_DISPLAY: Self = Self(10_003_000);

    /// Since then a hostdev may have `<acpi nodeset='...'/>`.
    pub const ACPI_NODESET: Self = Self(11_008_000);

    /// Since then a hostdev's driver may have `iommufd`.
    pub const IOMMUFD_DEVICE: Self = Self(12_001_000);

    /// Since then a domain may have `<iommufd>`.
    pub const IOMMUFD_DOMAIN: Self = Self(12_002_000);

    /// Takes libvirt's number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Returns whether a VF on `driver` can be given to a guest, by what this libvirt accepts.
    #[must_use]
    pub fn takes_vf_on(self, driver: &str) -> bool {
        self >= Self::VARIANT_DRIVERS || driver == "vfio-pci"
    }
}

impl fmt::Display for LibvirtVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0 / 1_000_000, self.0 / 1000 % 1000, self.0 % 1000)
    }
}

/// A text that is no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a version of libvirt looks like 9.7.0")]
pub struct NoVersion;

impl FromStr for LibvirtVersion {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let mut number = 0u32;
        let mut parts = text.trim().split('.');
        for _ in 0..3 {
            let part: u32 = parts.next().unwrap_or("0").parse().map_err(|_| NoVersion)?;
            number = number.checked_mul(1000).and_then(|n| n.checked_add(part)).ok_or(NoVersion)?;
        }
        if parts.next().is_some() { Err(NoVersion) } else { Ok(Self(number)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libvirts_number_and_text_are_the_same_version() {
        assert_eq!("9.7.0".parse(), Ok(LibvirtVersion::VARIANT_DRIVERS));
        assert_eq!("6.5".parse(), Ok(LibvirtVersion::HOOK_DIRECTORY));
        assert_eq!(LibvirtVersion::new(11_003_000).to_string(), "11.3.0");
        for bad in ["", "9.x", "9.7.0.1", "9999999.0.0"] {
            assert_eq!(bad.parse::<LibvirtVersion>(), Err(NoVersion), "{bad}");
        }
    }

    #[test]
    fn drivers_of_vendors_need_9_7() {
        let [old, new] = ["9.0.0", "9.7.0"].map(|text| text.parse::<LibvirtVersion>().expect("a version"));
        assert!(old.takes_vf_on("vfio-pci") && !old.takes_vf_on("nvidia"));
        assert!(new.takes_vf_on("vfio-pci") && new.takes_vf_on("nvidia"));
    }
}
