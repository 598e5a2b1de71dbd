//! How quick and how small the engine is, in fleets of two to a million GPUs.
//!
//! A fleet is filled to one half; then tasks leave at random and others come, so that it stays half full. Only
//! the engine is on the clock: what is asked for was drawn before. The clock itself takes some ten
//! nanoseconds a reading, which are in every figure; [`clock_ns`] says how many.

mod nodes;
mod slots;
mod storm;

pub use nodes::nodes;
pub use slots::slots;
pub use storm::{Storm, StormError, storm};

use std::time::Instant;

use serde::Serialize;

use crate::simulate::clock::Nanoseconds;

/// The sizes of the fleets that are measured, in GPUs.
pub const FLEETS: [usize; 5] = [2, 64, 6_212, 100_000, 1_000_000];

/// What one fleet came to.
#[derive(Clone, Debug, Serialize)]
pub struct Pace {
    /// What is placed: `slots` of vGPUs, or `shares` of GPUs on nodes.
    pub engine: &'static str,
    /// The policy's name.
    pub policy: String,
    /// GPUs in the fleet.
    pub gpus: usize,
    /// Slices or tasks that it holds, half full.
    pub held: usize,
    /// Decisions on the clock.
    pub decisions: usize,
    /// A decision and its reservation.
    pub ns: Nanoseconds,
    /// Giving back.
    pub release_ns: Nanoseconds,
    /// Decisions in a second of one core, their reservations included.
    pub per_second: f64,
    /// Bytes of the GPUs' state and the index, for each GPU.
    pub bytes_per_gpu: f64,
    /// Bytes for each slice or task held.
    pub bytes_per_held: f64,
    /// Bytes of what was worked out for patterns, which all GPUs share.
    pub table_bytes: usize,
}

/// Returns how many decisions come before those on the clock: a small fleet must have met its patterns.
fn warm_up(gpus: usize, decisions: usize) -> usize {
    if gpus <= 64 { 10 * decisions } else { decisions / 2 }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for a table")]
fn each(bytes: usize, of: usize) -> f64 {
    (10.0 * bytes as f64 / of.max(1) as f64).round() / 10.0
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs three digits")]
fn rate(acts: usize, ns: u64) -> f64 {
    (acts as f64 * 1e9 / ns.max(1) as f64).round()
}

/// Collects times.
#[derive(Debug, Default)]
struct Times {
    each: Vec<u64>,
    sum: u64,
}

impl Times {
    /// Runs an act on the clock.
    #[expect(clippy::cast_possible_truncation, reason = "no act takes centuries")]
    fn of<T>(&mut self, act: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = act();
        let took = start.elapsed().as_nanos() as u64;
        self.each.push(took);
        self.sum += took;
        result
    }
}

/// Returns what reading the clock takes by itself: the median.
#[must_use]
pub fn clock_ns() -> u64 {
    let mut times = Times::default();
    (0..10_000).for_each(|_| times.of(|| {}));
    Nanoseconds::of(times.each).p50
}

/// Returns the exponent by which the median grows with the fleet: 0 not at all, 1 in proportion. Least
/// squares over the logarithms; `None` for fewer than two fleets.
#[must_use]
pub fn growth(paces: &[Pace]) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a fitted exponent needs three digits")]
    let points: Vec<(f64, f64)> =
        paces.iter().map(|pace| ((pace.gpus as f64).ln(), (pace.ns.p50.max(1) as f64).ln())).collect();
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let count = points.len() as f64;
    let (x, y) =
        points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0 / count, sum.1 + point.1 / count));
    let above: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let below: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    (below > 0.0).then(|| above / below)
}

#[cfg(test)]
mod tests;
