//! How much of a GPU's time a slice gets beside others.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::IdError;

/// How long a slice's turns on a GPU are beside those of other slices: with twice the weight, twice as long.
/// From 1 to [`Weight::MOST`]. Weights say nothing of slices that have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u32", try_from = "u32")]
pub struct Weight(u32);

impl Weight {
    /// The greatest weight.
    pub const MOST: u32 = 100;

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

impl TryFrom<u32> for Weight {
    type Error = IdError;

    fn try_from(number: u32) -> Result<Self, IdError> {
        match number {
            1..=Self::MOST => Ok(Self(number)),
            _ => Err(IdError::new(WANTED, &number.to_string())),
        }
    }
}

const WANTED: &str = "weight from 1 to 100";

impl FromStr for Weight {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let number = text.parse::<u32>().map_err(|_| IdError::new(WANTED, text))?;
        Self::try_from(number)
    }
}

impl From<Weight> for u32 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

/// How long a VF of Intel's xe has the engines at a time, and how long they wait for it to leave.
///
/// Attributes `exec_quantum_ms` and `preempt_timeout_us` of the kernel's
/// Documentation/ABI/testing/sysfs-driver-intel-xe-sriov; 0, the driver's default, is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantum {
    /// The turn, in milliseconds.
    pub exec_ms: u32,
    /// The time-out of its preemption, in microseconds.
    pub preempt_us: u32,
}

impl Quantum {
    /// Milliseconds of a turn for each unit of weight.
    pub const MS_PER_WEIGHT: u32 = 2;

    /// Returns the turn of a weight. The time-out is twice the turn, as Intel's XPU manager sets the PF's (64 ms and
    /// 128000 µs).
    #[must_use]
    pub const fn of(weight: Weight) -> Self {
        let exec_ms = weight.0 * Self::MS_PER_WEIGHT;
        Self { exec_ms, preempt_us: exec_ms * 2 * 1000 }
    }

    /// Returns whether reading `self` back after it was written is near enough: the firmware may round, but not by half
    /// or more, and never makes a limit of no limit.
    #[must_use]
    pub fn is_as_written(self, found: Self) -> bool {
        let near = |wanted: u32, found: u32| match (wanted, found) {
            (0, found) => found == 0,
            (wanted, found) => u64::from(wanted.abs_diff(found)) * 2 < u64::from(wanted),
        };
        near(self.exec_ms, found.exec_ms) && near(self.preempt_us, found.preempt_us)
    }
}

impl fmt::Display for Quantum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.exec_ms {
            0 => f.write_str("turns without a limit")?,
            ms => write!(f, "turns of {ms} ms")?,
        }
        match self.preempt_us {
            0 => Ok(()),
            us => write!(f, " with a time-out of {us} µs"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_a_number_in_its_range_and_makes_turns_in_proportion() {
        for wrong in ["0", "101", "-1", "", "ten", "4294967296"] {
            let refusal = wrong.parse::<Weight>().expect_err("no weight").to_string();
            assert!(refusal.contains("1 to 100"), "{refusal}");
        }
        let of = |text: &str| Quantum::of(text.parse().expect("a weight"));
        assert_eq!(of("1"), Quantum { exec_ms: 2, preempt_us: 4000 });
        assert_eq!(of("100"), Quantum { exec_ms: 200, preempt_us: 400_000 });
        assert_eq!(of("40").exec_ms, 2 * of("20").exec_ms);
        assert_eq!(of("20").to_string(), "turns of 40 ms with a time-out of 80000 µs");
        assert_eq!(Quantum::default().to_string(), "turns without a limit");
    }

    #[test]
    fn what_the_firmware_rounds_is_as_written_and_what_it_drops_is_not() {
        let wanted = Quantum { exec_ms: 40, preempt_us: 80_000 };
        assert!(wanted.is_as_written(wanted));
        assert!(wanted.is_as_written(Quantum { exec_ms: 32, preempt_us: 81_920 }));
        for other in
            [Quantum::default(), Quantum { exec_ms: 20, ..wanted }, Quantum { preempt_us: 0, ..wanted }]
        {
            assert!(!wanted.is_as_written(other), "{other}");
        }
        assert!(Quantum::default().is_as_written(Quantum::default()));
        assert!(!Quantum::default().is_as_written(wanted));
    }
}
