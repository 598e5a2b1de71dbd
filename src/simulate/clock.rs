//! Times of many acts, told in three numbers.

use serde::Serialize;

/// Nanoseconds of an act.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Nanoseconds {
    /// The median.
    pub p50: u64,
    /// 99 of 100 take no longer.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

impl Nanoseconds {
    /// Creates them from the times of all acts; zeros when there are none.
    #[must_use]
    pub fn of(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        let part = |part: usize| times.get(times.len() * part / 100).or(times.last()).copied().unwrap_or(0);
        Self { p50: part(50), p99: part(99), max: part(100) }
    }
}
