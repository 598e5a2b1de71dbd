//! PCI addresses and ids, as the kernel prints them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::IdError;

/// A PCI function's address. Prints as `ssss:bb:dd.f`, lower case, always with the segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciAddress {
    /// First field; libvirt calls it "domain". More than four digits on hosts with VMD.
    pub segment: u32,
    /// Bus number.
    pub bus: u8,
    /// Device number, 0 to 31.
    pub device: u8,
    /// Function number, 0 to 7.
    pub function: u8,
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, bus, device, function } = self;
        write!(f, "{segment:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

impl fmt::Debug for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PciAddress {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        parse_address(text).ok_or_else(|| IdError::new("PCI address (ssss:bb:dd.f)", text))
    }
}

fn parse_address(text: &str) -> Option<PciAddress> {
    let (rest, function) = text.rsplit_once('.')?;
    let mut fields = rest.split(':');
    let (segment, bus, device) = match (fields.next()?, fields.next()?, fields.next()) {
        (segment, bus, Some(device)) => (hex(segment, 8)?, bus, device),
        (bus, device, None) => (0, bus, device),
    };
    if fields.next().is_some() {
        return None;
    }
    let device = u8::try_from(hex(device, 2)?).ok().filter(|d| *d < 32)?;
    let function = u8::try_from(hex(function, 1)?).ok().filter(|f| *f < 8)?;
    Some(PciAddress { segment, bus: u8::try_from(hex(bus, 2)?).ok()?, device, function })
}

fn hex(text: &str, most: usize) -> Option<u32> {
    let plain = !text.is_empty() && text.len() <= most && text.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

impl TryFrom<String> for PciAddress {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<PciAddress> for String {
    fn from(address: PciAddress) -> Self {
        address.to_string()
    }
}

/// Vendor and device id of a PCI function. Prints as `vvvv:dddd`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciId {
    /// Vendor id, e.g. 0x10de.
    pub vendor: u16,
    /// Device id within the vendor.
    pub device: u16,
}

impl fmt::Display for PciId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

impl fmt::Debug for PciId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PciId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let parts = text.split_once(':').and_then(|(vendor, device)| {
            let vendor = u16::try_from(hex(vendor, 4)?).ok()?;
            Some(Self { vendor, device: u16::try_from(hex(device, 4)?).ok()? })
        });
        parts.ok_or_else(|| IdError::new("PCI id (vvvv:dddd)", text))
    }
}

impl TryFrom<String> for PciId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<PciId> for String {
    fn from(id: PciId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_and_upper_case_addresses_are_read() {
        let short: PciAddress = "41:00.4".parse().expect("valid");
        assert_eq!(short.to_string(), "0000:41:00.4");
        let long: PciAddress = "10000:E1:1F.7".parse().expect("valid");
        assert_eq!(long.to_string(), "10000:e1:1f.7");
    }

    #[test]
    fn nonsense_addresses_are_refused() {
        for text in ["", "41:00", "0000:41:20.0", "0000:41:00.8", "0:0:0:0.0", "+1:00.0", "0000:041:00.0"] {
            assert!(text.parse::<PciAddress>().is_err(), "{text:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn addresses_round_trip(segment in 0u32..0x20000, bus: u8, device in 0u8..32, function in 0u8..8) {
            let address = PciAddress { segment, bus, device, function };
            prop_assert_eq!(address.to_string().parse::<PciAddress>(), Ok(address));
        }

        #[test]
        fn ids_round_trip(vendor: u16, device: u16) {
            let id = PciId { vendor, device };
            prop_assert_eq!(id.to_string().parse::<PciId>(), Ok(id));
        }
    }
}
