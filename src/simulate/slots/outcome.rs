//! Numbers that come out of repeated runs.

use serde::Serialize;

/// A mean over runs with their spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation of single runs.
    pub deviation: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// Returns mean and spread; all zero without values.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        #[expect(clippy::cast_precision_loss, reason = "a number of runs is small")]
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Self {
            mean,
            deviation: (squares / (count - 1.0).max(1.0)).sqrt(),
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

/// What was asked for and refused of one size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BySize {
    /// The size.
    pub size: String,
    /// GB of one.
    pub gb: u32,
    /// How many were asked for.
    pub asked: u64,
    /// How many of them were refused.
    pub refused: u64,
}

/// What was asked for and refused, over all sizes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Refused {
    /// Percent of the GB asked for.
    pub gb_percent: f64,
    /// Percent of the requests.
    pub requests_percent: f64,
}

impl Refused {
    /// Adds up the sizes.
    #[must_use]
    pub fn of(sizes: &[BySize]) -> Self {
        let sum = |count: fn(&BySize) -> u64, gb: bool| {
            let each = |size: &BySize| count(size) * if gb { u64::from(size.gb) } else { 1 };
            sizes.iter().map(each).sum::<u64>()
        };
        Self {
            gb_percent: percent(sum(|size| size.refused, true), sum(|size| size.asked, true)),
            requests_percent: percent(sum(|size| size.refused, false), sum(|size| size.asked, false)),
        }
    }
}

/// Returns a share in percent; 0 of nothing.
#[must_use]
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of an experiment stay below 2^53")]
    let share = part as f64 / whole.max(1) as f64;
    100.0 * share
}

/// Counts a request.
pub(super) fn count(sizes: &mut [BySize], size: u8, refused: bool) {
    let size = &mut sizes[usize::from(size)];
    size.asked += 1;
    size.refused += u64::from(refused);
}
