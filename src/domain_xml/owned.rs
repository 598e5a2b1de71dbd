//! The list of our devices that the service publishes for the hook.

use std::collections::BTreeSet;

use crate::model::Device;

/// UUIDs and VF addresses that are ours. Lets the hook tell ours without a socket when an alias is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedSet {
    devices: BTreeSet<Device>,
}

impl OwnedSet {
    /// Reads the list: one UUID or PCI address a line. A line that is neither is ignored, so that a newer
    /// service can add kinds.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let device = |line: &str| {
            let uuid = line.parse().map(Device::Mdev).ok();
            uuid.or_else(|| line.parse().map(Device::Vf).ok())
        };
        Self { devices: text.lines().map(str::trim).filter_map(device).collect() }
    }

    /// Prints the list, sorted; [`OwnedSet::parse`] reads it back.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.devices.iter().map(|device| format!("{device}\n")).collect()
    }

    /// Returns how many devices there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// Returns the devices, sorted.
    pub fn iter(&self) -> impl Iterator<Item = Device> {
        self.devices.iter().copied()
    }

    /// Returns whether a device is ours.
    #[must_use]
    pub fn contains(&self, device: Device) -> bool {
        self.devices.contains(&device)
    }
}

impl FromIterator<Device> for OwnedSet {
    fn from_iter<I: IntoIterator<Item = Device>>(devices: I) -> Self {
        Self { devices: devices.into_iter().collect() }
    }
}
