//! Sizes with their unit in the type.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// GPU memory given to one vGPU, in MiB. Read from `4GiB`, `512MiB`, `4G`, `512M`; a plain number is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Framebuffer {
    mib: u32,
}

impl Framebuffer {
    /// Creates a size of `mib` MiB.
    #[must_use]
    pub const fn from_mib(mib: u32) -> Self {
        Self { mib }
    }

    /// Returns the size in MiB.
    #[must_use]
    pub const fn mib(self) -> u32 {
        self.mib
    }
}

/// A text that is no framebuffer size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// No unit, an unknown unit, or no number.
    #[error("{0:?} is not a size: write a whole number with its unit, such as 4GiB or 512MiB")]
    NotASize(String),
    /// Zero, or more than any GPU has.
    #[error("{0:?} is out of range: a framebuffer has 1 MiB to 1 TiB")]
    OutOfRange(String),
}

const MOST_MIB: u64 = 1 << 20;

impl FromStr for Framebuffer {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let short = || text.chars().take(40).collect::<String>();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let factor = match unit.trim_start() {
            "MiB" | "M" => 1,
            "GiB" | "G" => 1024,
            "TiB" | "T" => 1024 * 1024,
            _ => return Err(SizeError::NotASize(short())),
        };
        if number.is_empty() {
            return Err(SizeError::NotASize(short()));
        }
        let mib = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor));
        match mib.filter(|mib| (1..=MOST_MIB).contains(mib)).and_then(|mib| u32::try_from(mib).ok()) {
            Some(mib) => Ok(Self { mib }),
            None => Err(SizeError::OutOfRange(short())),
        }
    }
}

impl fmt::Display for Framebuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = if self.mib.is_multiple_of(1024) && self.mib > 0 {
            format!("{}GiB", self.mib / 1024)
        } else {
            format!("{}MiB", self.mib)
        };
        f.pad(&text)
    }
}

impl TryFrom<String> for Framebuffer {
    type Error = SizeError;

    fn try_from(text: String) -> Result<Self, SizeError> {
        text.parse()
    }
}

impl From<Framebuffer> for String {
    fn from(size: Framebuffer) -> Self {
        size.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn absurd_sizes_are_refused_with_the_range() {
        for text in ["0MiB", "2TiB", "99999999999999999999GiB"] {
            assert_eq!(text.parse::<Framebuffer>(), Err(SizeError::OutOfRange(text.to_owned())));
        }
        for text in ["", "4", "GiB", "4 KiB", "-1GiB", "4.5GiB", "4GB"] {
            assert_eq!(text.parse::<Framebuffer>(), Err(SizeError::NotASize(text.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn sizes_round_trip(mib in 1u32..=1 << 20) {
            let size = Framebuffer::from_mib(mib);
            prop_assert_eq!(size.to_string().parse::<Framebuffer>(), Ok(size));
        }
    }
}
