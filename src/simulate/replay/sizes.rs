//! Which of the sizes that the boards offer serves a request.

use std::collections::BTreeMap;
use std::str::FromStr;

use thiserror::Error;

use crate::fleet::geometry::{Board, MigBoard};
use crate::simulate::replay::workload::Asked;

/// What is done with a request between two sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// The least size that holds it.
    #[default]
    Up,
    /// The nearest size, the smaller one of two; a guest may get less than it asked for.
    Nearest,
}

/// Why no size serves a request.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SizeError {
    /// More than any board has.
    #[error("{asked} GB is more than the {most} GB of the largest board")]
    Large {
        /// GB asked for.
        asked: String,
        /// GB of the largest size.
        most: u32,
    },
    /// A name that says no size.
    #[error("nothing says how many GB the profile {0:?} is")]
    Profile(String),
    /// No such board.
    #[error("no board is called {0:?}")]
    Board(String),
}

/// The sizes of some boards, ascending.
#[derive(Clone, Debug)]
pub(super) struct Ladder {
    steps: Vec<(u32, String)>,
    rounding: Rounding,
    named: BTreeMap<String, f64>,
}

impl Ladder {
    /// Lists the sizes of boards; `named` says the GB of profiles that the boards do not know.
    pub(super) fn new(
        boards: &[String],
        rounding: Rounding,
        named: BTreeMap<String, f64>,
    ) -> Result<Self, SizeError> {
        let mut steps = Vec::new();
        for name in boards {
            if let Some(board) = Board::named(name) {
                steps.extend(board.sizes.iter().map(|gb| (u32::from(*gb), gb.to_string())));
            } else if let Some(board) = MigBoard::named(name) {
                let gb = |profile| u32::from(board.shape(profile).map_or(0, |shape| shape.len));
                let gb = |profile| gb(profile) * u32::from(board.slice_gb);
                steps.extend(board.profiles().map(|profile| (gb(profile), profile.to_owned())));
            } else {
                return Err(SizeError::Board(name.clone()));
            }
        }
        steps.sort();
        steps.dedup();
        Ok(Self { steps, rounding, named })
    }

    /// Returns the size for a request: its name, and the GB that were asked for.
    pub(super) fn step(&self, asked: &Asked) -> Result<(&str, f64), SizeError> {
        let gb = match asked {
            Asked::Gb(gb) => *gb,
            Asked::Profile(name) => {
                if let Some((gb, step)) = self.steps.iter().find(|(_, step)| step == name) {
                    return Ok((step, f64::from(*gb)));
                }
                let known = self.named.get(name).copied().or_else(|| type_gb(name));
                known.ok_or_else(|| SizeError::Profile(name.clone()))?
            }
        };
        let above = self.steps.iter().find(|(size, _)| f64::from(*size) >= gb);
        let below = self.steps.iter().rev().find(|(size, _)| f64::from(*size) < gb);
        let far = |step: &(u32, String)| (f64::from(step.0) - gb).abs();
        let step = match (above, below, self.rounding) {
            (Some(above), Some(below), Rounding::Nearest) if far(below) <= far(above) => below,
            (Some(above), _, _) => above,
            (None, Some(below), Rounding::Nearest) => below,
            (None, _, _) => {
                let most = self.steps.last().map_or(0, |step| step.0);
                return Err(SizeError::Large { asked: gb.to_string(), most });
            }
        };
        Ok((&step.1, gb))
    }
}

/// Returns the GB of a type by NVIDIA's names: `NVIDIA L40S-12Q` has 12.
fn type_gb(name: &str) -> Option<f64> {
    let (_, last) = name.rsplit_once('-')?;
    let digits = last.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let gb = u32::from_str(digits).ok().filter(|gb| *gb > 0 && digits.len() < last.len())?;
    Some(f64::from(gb))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(board: &str, rounding: Rounding, asked: &Asked) -> Result<String, SizeError> {
        let named = BTreeMap::from([("desk".to_owned(), 3.5)]);
        let ladder = Ladder::new(&[board.to_owned()], rounding, named).expect("a board");
        ladder.step(asked).map(|(name, _)| name.to_owned())
    }

    #[test]
    fn requests_get_the_next_size_or_the_nearest() {
        let gb = |gb, rounding| step("h100-80", rounding, &Asked::Gb(gb)).expect("a size");
        assert_eq!(gb(8.0, Rounding::Up), "8");
        assert_eq!(gb(41.0, Rounding::Up), "80");
        assert_eq!(gb(41.0, Rounding::Nearest), "40");
        assert_eq!(gb(79.0, Rounding::Nearest), "80");
        let large = step("h100-80", Rounding::Up, &Asked::Gb(96.0)).expect_err("too much");
        assert_eq!(large.to_string(), "96 GB is more than the 80 GB of the largest board");
    }

    #[test]
    fn profiles_are_known_by_the_board_the_caller_or_their_name() {
        let of = |board, name: &str| step(board, Rounding::Up, &Asked::Profile(name.to_owned()));
        assert_eq!(of("mig-80", "3g").as_deref(), Ok("3g"));
        assert_eq!(of("l40s-48", "desk").as_deref(), Ok("4"));
        assert_eq!(of("l40s-48", "NVIDIA L40S-12Q").as_deref(), Ok("12"));
        assert_eq!(of("mig-80", "NVIDIA H100-18Q").as_deref(), Ok("1g.2m"));
        for name in ["train", "L40S-Q", "a-12", "-0Q"] {
            assert_eq!(of("l40s-48", name), Err(SizeError::Profile(name.to_owned())));
        }
    }
}
