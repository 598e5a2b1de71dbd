//! Names and ids: each a newtype, each parsed once.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::PciAddress;

/// A text that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {wanted}")]
pub struct IdError {
    wanted: &'static str,
    text: String,
}

impl IdError {
    /// Creates the error; a long `text` is cut so that hostile input cannot fill a log.
    pub(crate) fn new(wanted: &'static str, text: &str) -> Self {
        const MOST: usize = 80;
        let mut short: String = text.chars().take(MOST).collect();
        if short.len() < text.len() {
            short.push('…');
        }
        Self { wanted, text: short }
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $wanted:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.hyphenated(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            /// Reads the hyphenated form only, in either case, as the kernel does.
            fn from_str(text: &str) -> Result<Self, IdError> {
                let strict = text.len() == 36;
                let uuid = strict.then(|| Uuid::try_parse(text).ok()).flatten();
                uuid.map(Self).ok_or_else(|| IdError::new($wanted, text))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

uuid_id!(
    /// The UUID of a mediated device. Prints lower case with hyphens.
    MdevUuid,
    "UUID of a mediated device"
);
uuid_id!(
    /// The UUID of a libvirt domain; allocations are keyed by it, so a rename is harmless.
    DomainUuid,
    "UUID of a domain"
);

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $wanted:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.to_owned())) } else { Err(IdError::new($wanted, text)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

fn is_word(text: &str, most: usize, extra: &[u8]) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    first && text.len() <= most && text.bytes().all(|b| b.is_ascii_alphanumeric() || extra.contains(&b))
}

text_id!(
    /// The name of a profile: letters, digits, `.`, `_` and `-`, at most 64.
    ProfileName,
    "profile name (letters, digits, '.', '_', '-'; at most 64)",
    |text| is_word(text, 64, b"._-")
);
text_id!(
    /// Who a slice is for, as the admin calls them: letters, digits, `.`, `_`, `@` and `-`, at most 64.
    OwnerName,
    "owner (letters, digits, '.', '_', '@', '-'; at most 64)",
    |text| is_word(text, 64, b"._-@")
);
text_id!(
    /// The id of an mdev type: the name of its directory, e.g. `nvidia-558`, `i915-GVTg_V5_4`.
    MdevTypeId,
    "mdev type id",
    |text| is_word(text, 128, b"._-+ ")
);
text_id!(
    /// A device's own name in sysfs: a PCI address, or a word such as `mtty`.
    DeviceName,
    "device name",
    |text| is_word(text, 128, b":._-+@")
);
text_id!(
    /// A GPU's stable identity, `pci:SLOT/DEVICE-ID/SUBSYSTEM-ID` or `virtual:NAME`. Addresses
    /// are a cache, this is what the ledger keeps. Never contains white space.
    GpuId,
    "GPU identity",
    |text| is_word(text, 160, b":._-+@/")
);
text_id!(
    /// An allocation's id: eight lower-case hexadecimal digits.
    AllocationId,
    "allocation id (eight hexadecimal digits)",
    |text| text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
);
text_id!(
    /// The kernel's boot id; another one voids every realized record.
    BootId,
    "boot id",
    |text| is_word(text, 64, b"-")
);

impl AllocationId {
    /// What libvirt's user alias starts with when the hostdev is ours.
    pub const ALIAS_PREFIX: &'static str = "ua-vgpud-";

    /// Creates an id from random bits.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        Self(format!("{bits:08x}"))
    }

    /// Returns the user alias that marks the hostdev of this allocation.
    #[must_use]
    pub fn alias(&self) -> String {
        format!("{}{}", Self::ALIAS_PREFIX, self.0)
    }

    /// Returns the user alias of a function that goes with the whole GPU of this allocation; libvirt takes letters, digits,
    /// `-` and `_` in one.
    #[must_use]
    pub fn companion_alias(&self, function: PciAddress) -> String {
        format!("{}-{:x}", self.alias(), function.function)
    }

    /// Returns whether a user alias is of a function that goes with a whole GPU of ours.
    #[must_use]
    pub fn is_companion_alias(alias: &str) -> bool {
        let own = alias.rsplit_once('-').filter(|(head, _)| Self::from_alias(head).is_some());
        own.is_some_and(|(_, function)| matches!(function.as_bytes(), [b'0'..=b'7']))
    }

    /// Reads an id from a user alias; `None` when the alias is not one of ours.
    #[must_use]
    pub fn from_alias(alias: &str) -> Option<Self> {
        alias.strip_prefix(Self::ALIAS_PREFIX)?.parse().ok()
    }
}

/// The number of an IOMMU group, as under `/sys/kernel/iommu_groups` and `/dev/vfio`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IommuGroupId(pub u32);

impl fmt::Display for IommuGroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One run of a domain: nanoseconds of `CLOCK_BOOTTIME` when its `prepare` hook began.
/// Comparable within one boot only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A process, told from a later one with the same number by its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HelperId {
    /// Process id.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`: clock ticks after boot.
    pub start_time: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_read_in_hyphenated_form_only() {
        let upper: MdevUuid = "C0FFEE00-0000-4000-8000-00000000000A".parse().expect("valid");
        assert_eq!(upper.to_string(), "c0ffee00-0000-4000-8000-00000000000a");
        assert!("c0ffee000000400080000000000000aa".parse::<MdevUuid>().is_err());
        assert!("{c0ffee00-0000-4000-8000-00000000000}".parse::<MdevUuid>().is_err());
    }

    #[test]
    fn names_that_would_leave_their_directory_are_refused() {
        for text in ["..", "../x", "a/b", ".hidden", "", "a\nb"] {
            assert!(text.parse::<ProfileName>().is_err(), "{text:?}");
            assert!(text.parse::<MdevTypeId>().is_err(), "{text:?}");
            assert!(text.parse::<DeviceName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn aliases_of_others_are_not_ours() {
        let id = AllocationId::from_bits(0x7f3a);
        assert_eq!(id.alias(), "ua-vgpud-00007f3a");
        let audio = id.companion_alias("0000:01:00.1".parse().expect("address"));
        assert_eq!(audio, "ua-vgpud-00007f3a-1");
        assert!(AllocationId::is_companion_alias(&audio) && AllocationId::from_alias(&audio).is_none());
        assert_eq!(AllocationId::from_alias(&id.alias()), Some(id));
        for alias in ["ua-vgpud-", "ua-vgpud-7f3a", "ua-vgpu-00007f3a", "hostdev0", "ua-vgpud-0000000G"] {
            assert_eq!(AllocationId::from_alias(alias), None, "{alias}");
            assert!(!AllocationId::is_companion_alias(alias), "{alias}");
        }
    }
}
