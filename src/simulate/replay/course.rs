//! How a run went over time.

use serde::Serialize;

/// What is noted at a point in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// Seconds since the first arrival.
    pub at_s: f64,
    /// Percent of the GB in use.
    pub used_percent: f64,
    /// Percent of the fleet that is idle and of no use to the mix of sizes, in the mean.
    pub fragmented_percent: f64,
    /// Requests that wait.
    pub waiting: usize,
    /// Percent of the GB asked for so far that was refused.
    pub refused_percent: f64,
}

/// Points at even distances.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Course {
    /// In order of time.
    pub points: Vec<Point>,
    #[serde(skip)]
    step: f64,
}

/// Points of a course.
const POINTS: f64 = 240.0;

impl Course {
    pub(super) fn new(end: f64) -> Self {
        Self { points: Vec::new(), step: end / POINTS }
    }

    /// Returns the next time to be noted, if it is not after `now`.
    pub(super) fn due(&self, now: f64) -> Option<f64> {
        let next = self.step * f64::from(u32::try_from(self.points.len()).unwrap_or(u32::MAX));
        let more = self.step > 0.0 && self.points.len() <= 240;
        Some(next).filter(|next| more && *next <= now)
    }
}
