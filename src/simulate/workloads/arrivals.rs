//! Requests drawn as streams.

use crate::fleet::slots::Draw;
use crate::simulate::replay::{Asked, Row};

/// A stream of requests that are alike: sizes by weight, lives with a mean, times between them.
#[derive(Clone, Debug)]
pub struct Arrivals {
    /// Sizes in GB, with weights.
    pub sizes: Vec<(f64, u32)>,
    /// Mean lives in seconds, with weights; each life is exponentially distributed about one of them.
    pub lives: Vec<(f64, u32)>,
    /// Priorities with weights.
    pub priorities: Vec<(i32, u32)>,
    /// How many owners share the stream.
    pub owners: usize,
    /// The class of all.
    pub class: &'static str,
    /// Seconds each waits.
    pub wait: Option<f64>,
}

fn pick<T: Copy>(draw: &mut Draw, choices: &[(T, u32)], otherwise: T) -> T {
    let weights: Vec<u32> = choices.iter().map(|(_, weight)| *weight).collect();
    choices.get(draw.weighted(&weights)).map_or(otherwise, |(value, _)| *value)
}

fn mean(choices: &[(f64, u32)]) -> f64 {
    let weight: f64 = choices.iter().map(|(_, weight)| f64::from(*weight)).sum();
    choices.iter().map(|(value, weight)| value * f64::from(*weight)).sum::<f64>() / weight.max(1.0)
}

impl Arrivals {
    /// Returns the mean of GB times seconds of a request.
    pub(super) fn mean_gb_s(&self) -> f64 {
        mean(&self.sizes) * mean(&self.lives)
    }

    /// Draws one that comes at a time.
    pub(super) fn at(&self, draw: &mut Draw, arrival: f64) -> Row {
        let gb = pick(draw, &self.sizes, 1.0);
        let about = pick(draw, &self.lives, 1.0);
        let life = draw.exponential(about);
        let priority = pick(draw, &self.priorities, 0);
        let owner = format!("{}-{}", self.class, draw.below(self.owners.max(1)));
        let (asked, class) = (Asked::Gb(gb), self.class.to_owned());
        Row { line: 0, arrival, life, owner, asked, class, priority, wait: self.wait }
    }

    /// Draws a Poisson stream until `end`; `rate` says how much of the most it is at a time, `gap` is the mean
    /// time between two at the most.
    pub(super) fn stream(
        &self,
        draw: &mut Draw,
        (gap, end): (f64, f64),
        rate: impl Fn(f64) -> f64,
    ) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut now = draw.exponential(gap);
        while now < end {
            // Thinning (Lewis and Shedler 1979).
            if draw.unit() < rate(now) {
                rows.push(self.at(draw, now));
            }
            now += draw.exponential(gap);
        }
        rows
    }
}
