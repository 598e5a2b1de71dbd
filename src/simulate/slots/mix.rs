//! What is asked for: sizes with weights, by name or written out.

use std::str::FromStr;

use thiserror::Error;

/// A mix of sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    /// As it was asked for.
    pub name: String,
    /// Size and weight.
    pub sizes: Vec<(String, u32)>,
}

/// The mixes known by name: name, and sizes with weights in hundredths.
pub const MIXES: &[(&str, &str)] = &[
    ("aligned", "10:50,20:30,40:20"),
    ("d3", "8:40,10:30,20:30"),
    ("d4", "8:30,10:30,20:25,40:15"),
    ("odd", "2:20,3:20,4:15,6:15,8:15,12:10,16:5"),
    ("train", "2:30,4:20,12:20,24:20,48:10"),
    ("desktops", "1:30,2:40,4:20,8:10"),
    ("mig", "1g:40,1g.2m:10,2g:20,3g:15,4g:10,7g:5"),
];

/// A text that is no mix.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{part:?} is neither a mix's name nor SIZE:WEIGHT with a weight of 1 to 1000000")]
pub struct MixError {
    part: String,
}

impl FromStr for Mix {
    type Err = MixError;

    fn from_str(text: &str) -> Result<Self, MixError> {
        let known = MIXES.iter().find(|(name, _)| *name == text);
        let written = known.map_or(text, |(_, written)| written);
        let sizes: Vec<(String, u32)> = written.split(',').map(part).collect::<Result<_, _>>()?;
        let twice =
            sizes.iter().enumerate().find(|(at, (size, _))| sizes[..*at].iter().any(|(s, _)| s == size));
        match twice {
            Some((_, (size, _))) => Err(MixError { part: size.clone() }),
            None => Ok(Self { name: text.to_owned(), sizes }),
        }
    }
}

fn part(part: &str) -> Result<(String, u32), MixError> {
    let fault = || MixError { part: part.to_owned() };
    let (size, weight) = part.split_once(':').ok_or_else(fault)?;
    let weight: u32 = weight.trim().parse().map_err(|_| fault())?;
    let size = size.trim().to_owned();
    if size.is_empty() || weight == 0 || weight > 1_000_000 { Err(fault()) } else { Ok((size, weight)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_mix_and_so_is_a_list() {
        for (name, _) in MIXES {
            assert!(name.parse::<Mix>().is_ok(), "{name}");
        }
        let mix: Mix = "8:3, 20:1".parse().expect("a list");
        assert_eq!(mix.sizes, [("8".to_owned(), 3), ("20".to_owned(), 1)]);
    }

    #[test]
    fn what_is_no_mix_is_named() {
        for text in ["", "d5", "8:0", "8:3,8:1", "8:-1", ":3"] {
            assert!(text.parse::<Mix>().is_err(), "{text:?}");
        }
    }
}
