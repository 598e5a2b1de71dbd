//! How a GPU of NVIDIA's is divided by MIG.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::IdError;

/// Most GPU instances that are asked for at once: no GPU has more than eight slices of memory.
const MOST: usize = 16;

/// The name of a GPU instance profile, such as `1g.10gb` or `1g.10gb+me`, as `nvidia-smi mig -lgip` lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MigProfile {
    /// Compute slices.
    slices: u32,
    /// GB of memory.
    gb: u32,
    /// What follows the size, such as `+me`, `-me` or `+gfx`; mostly nothing.
    suffix: String,
}

impl MigProfile {
    /// By how much of the GPU one takes: the largest are to be made first, while their places are free.
    const fn order(&self) -> (Reverse<u32>, Reverse<u32>) {
        (Reverse(self.gb), Reverse(self.slices))
    }
}

impl fmt::Display for MigProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}g.{}gb{}", self.slices, self.gb, self.suffix)
    }
}

impl FromStr for MigProfile {
    type Err = IdError;

    /// Reads a name, also with the `MIG ` before it that NVIDIA's tools print.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || IdError::new("GPU instance profile (such as 1g.10gb)", text);
        let name = text.trim().trim_start_matches("MIG ").to_ascii_lowercase();
        let (slices, rest) = name.split_once("g.").ok_or_else(wrong)?;
        let (gb, suffix) = rest.split_once("gb").ok_or_else(wrong)?;
        let number = |text: &str| text.parse().ok().filter(|number| (1..1000).contains(number));
        let plain = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        let starts = suffix.is_empty() || suffix.starts_with(['+', '-']);
        if !starts || suffix.len() > 16 || !suffix.chars().all(plain) {
            return Err(wrong());
        }
        let (slices, gb) = (number(slices).ok_or_else(wrong)?, number(gb).ok_or_else(wrong)?);
        Ok(Self { slices, gb, suffix: suffix.to_owned() })
    }
}

/// How an admin wants a GPU to be divided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum MigWish {
    /// MIG mode off.
    Off,
    /// MIG mode on, with a GPU instance of each of these profiles: the largest first, at least one.
    Divided(Vec<MigProfile>),
}

impl MigWish {
    /// Returns whether MIG mode is to be on.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        matches!(self, Self::Divided(_))
    }

    /// Returns the profiles of the instances that are wanted, the largest first.
    #[must_use]
    pub fn profiles(&self) -> &[MigProfile] {
        match self {
            Self::Off => &[],
            Self::Divided(profiles) => profiles,
        }
    }

    /// Returns what is wanted and not among `there`, the largest first, and the instances that are there and not wanted.
    #[must_use]
    pub fn compare<'a>(&self, there: &'a [GpuInstance]) -> (Vec<MigProfile>, Vec<&'a GpuInstance>) {
        let mut missing = self.profiles().to_vec();
        let is_surplus = |one: &&GpuInstance| {
            let at = missing.iter().position(|wanted| wanted.to_string() == one.profile);
            at.map(|at| missing.remove(at)).is_none()
        };
        let surplus = there.iter().filter(is_surplus).collect();
        (missing, surplus)
    }

    /// Returns whether these are the instances that are wanted.
    #[must_use]
    pub fn is_met_by(&self, there: &[GpuInstance]) -> bool {
        let (missing, surplus) = self.compare(there);
        missing.is_empty() && surplus.is_empty()
    }
}

impl fmt::Display for MigWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Divided(profiles) => {
                let names: Vec<String> = profiles.iter().map(ToString::to_string).collect();
                f.write_str(&names.join(","))
            }
        }
    }
}

impl FromStr for MigWish {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let profiles: Result<Vec<MigProfile>, _> = text.split(',').map(str::parse).collect();
        let mut profiles = profiles?;
        if profiles.len() > MOST {
            return Err(IdError::new("list of GPU instances (at most 16)", text));
        }
        profiles.sort_by_key(|one| (one.order(), one.suffix.clone()));
        Ok(Self::Divided(profiles))
    }
}

impl TryFrom<String> for MigWish {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MigWish> for String {
    fn from(wish: MigWish) -> Self {
        wish.to_string()
    }
}

/// A GPU instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuInstance {
    /// Its number on its GPU; the number that a vGPU's `gpu_instance_id` names.
    pub id: u32,
    /// The name of its profile, such as `1g.10gb`; its id where the library knows no name.
    pub profile: String,
    /// The id of its profile, by which vGPU types name what carries them.
    pub profile_id: u32,
    /// The first memory slice that it has.
    pub start: u32,
    /// How many it has.
    pub size: u32,
}

/// A GPU instance profile that a GPU in MIG mode has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceProfile {
    /// Its name, such as `1g.10gb`; its id where the library knows no name.
    pub name: String,
    /// Most instances of it on an empty GPU.
    pub most: u32,
}

/// Says GPU instances by profile and number of each: `2 × 3g.40gb, 1g.10gb`.
#[must_use]
pub fn instances_text<T: AsRef<str>>(profiles: &[T]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for profile in profiles.iter().map(AsRef::as_ref) {
        match counts.iter_mut().find(|(known, _)| *known == profile) {
            Some((_, count)) => *count += 1,
            None => counts.push((profile, 1)),
        }
    }
    let one = |(profile, count): (&str, usize)| match count {
        1 => profile.to_owned(),
        count => format!("{count} × {profile}"),
    };
    counts.into_iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(text: &str) -> MigWish {
        text.parse().expect("a wish")
    }

    fn instance(id: u32, profile: &str) -> GpuInstance {
        GpuInstance { id, profile: profile.to_owned(), profile_id: 0, start: 0, size: 1 }
    }

    #[test]
    fn the_largest_are_first_whatever_the_order_of_the_words() {
        assert_eq!(
            wish("1g.10gb,3g.40gb,1g.10gb+me,4g.40gb").to_string(),
            "4g.40gb,3g.40gb,1g.10gb,1g.10gb+me"
        );
        assert_eq!(wish("MIG 2g.20gb"), wish("2g.20gb"));
        let json = serde_json::to_string(&wish("2g.20gb,7g.80gb")).expect("plain");
        assert_eq!(json, "\"7g.80gb,2g.20gb\"");
        assert_eq!(serde_json::from_str::<MigWish>("\"off\"").expect("a wish"), MigWish::Off);
    }

    #[test]
    fn what_names_no_profile_is_refused() {
        for text in
            ["", "on", "19", "1g", "1g.10", "0g.10gb", "1g.10gb me", "1g.10gb,", "1g.10gb+me;x", "1g.10gbx"]
        {
            assert!(text.parse::<MigWish>().is_err(), "{text:?}");
        }
        assert!(["1g.10gb"; 17].join(",").parse::<MigWish>().is_err());
    }

    #[test]
    fn instances_are_compared_by_profile_and_number() {
        let wanted = wish("3g.40gb,1g.10gb,1g.10gb");
        let there = [instance(1, "1g.10gb"), instance(2, "2g.20gb")];
        let (missing, surplus) = wanted.compare(&there);
        assert_eq!(missing, wish("3g.40gb,1g.10gb").profiles());
        assert_eq!(surplus, [&there[1]]);
        let whole = [instance(3, "1g.10gb"), instance(1, "1g.10gb"), instance(2, "3g.40gb")];
        assert!(wanted.is_met_by(&whole) && !wanted.is_met_by(&there));
        assert!(MigWish::Off.is_met_by(&[]) && !MigWish::Off.is_met_by(&there));
    }

    #[test]
    fn equal_ones_are_counted() {
        assert_eq!(instances_text(&["3g.40gb", "3g.40gb", "1g.10gb"]), "2 × 3g.40gb, 1g.10gb");
        assert_eq!(instances_text::<&str>(&[]), "");
    }
}
