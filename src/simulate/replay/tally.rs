//! Counting what came of requests.

use crate::simulate::replay::workload::{Job, Workload};
use crate::simulate::slots::BySize;

/// What came of the requests of one class.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ClassTally {
    pub(super) asked: u64,
    pub(super) refused: u64,
    pub(super) waiting: u64,
    pub(super) asked_gb: u64,
    pub(super) refused_gb: u64,
    /// Seconds that each request waited which may wait and was served, or still waits.
    pub(super) delays: Vec<f64>,
    /// Seconds from arrival to the end of each that was served and ends.
    pub(super) turnarounds: Vec<f64>,
}

/// What came of the requests of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) classes: Vec<ClassTally>,
    pub(super) sizes: Vec<BySize>,
    /// By owner: GB times seconds asked for, and served.
    pub(super) owners: Vec<(f64, f64)>,
    pub(super) served: u64,
    pub(super) moves: u64,
    counted_from: f64,
    end: f64,
}

impl Tally {
    pub(super) fn new(work: &Workload) -> Self {
        let size = |size: &crate::fleet::slots::Size| BySize {
            size: size.name.clone(),
            gb: size.gb,
            ..BySize::default()
        };
        Self {
            classes: vec![ClassTally::default(); work.classes.len()],
            sizes: work.setup.catalog.sizes.iter().map(size).collect(),
            owners: vec![(0.0, 0.0); work.owners.len()],
            counted_from: work.counted_from,
            end: work.end(),
            ..Self::default()
        }
    }

    pub(super) fn counts(&self, job: &Job) -> bool {
        job.arrival >= self.counted_from
    }

    /// Returns the seconds within the run of a slice that begins at `from`.
    fn within(&self, job: &Job, from: f64) -> f64 {
        job.life.min((self.end - from).max(0.0))
    }

    pub(super) fn asked(&mut self, job: &Job, gb: u32) {
        if self.counts(job) {
            let class = &mut self.classes[usize::from(job.class)];
            class.asked += 1;
            class.asked_gb += u64::from(gb);
            self.sizes[usize::from(job.size)].asked += 1;
            self.owners[job.owner as usize].0 += f64::from(gb) * self.within(job, job.arrival);
        }
    }

    pub(super) fn served(&mut self, (job, gb): (&Job, u32), now: f64, could_wait: bool) {
        if self.counts(job) {
            self.served += 1;
            let within = self.within(job, now);
            let class = &mut self.classes[usize::from(job.class)];
            if could_wait {
                class.delays.push(now - job.arrival);
            }
            if job.life.is_finite() {
                class.turnarounds.push(now - job.arrival + job.life);
            }
            self.owners[job.owner as usize].1 += f64::from(gb) * within;
        }
    }

    pub(super) fn refused(&mut self, job: &Job, gb: u32) {
        if self.counts(job) {
            let class = &mut self.classes[usize::from(job.class)];
            class.refused += 1;
            class.refused_gb += u64::from(gb);
            self.sizes[usize::from(job.size)].refused += 1;
        }
    }

    pub(super) fn waits_still(&mut self, job: &Job, now: f64) {
        if self.counts(job) {
            let class = &mut self.classes[usize::from(job.class)];
            class.waiting += 1;
            class.delays.push(now - job.arrival);
        }
    }

    /// Returns GB refused and asked for so far.
    pub(super) fn gb(&self) -> (u64, u64) {
        let sum = |part: fn(&ClassTally) -> u64| self.classes.iter().map(part).sum();
        (sum(|class| class.refused_gb), sum(|class| class.asked_gb))
    }

    /// Returns how evenly owners were served, by Jain's index over the part that each got of what it asked for:
    /// 1 when all got the same part, 1/n when one of n got all.
    pub(super) fn fairness(&self) -> f64 {
        let parts = self.owners.iter().filter(|(asked, _)| *asked > 0.0).map(|(asked, got)| got / asked);
        let (count, sum, squares) = parts
            .fold((0.0, 0.0, 0.0), |(n, sum, squares), part| (n + 1.0, sum + part, squares + part * part));
        if squares > 0.0 { sum * sum / (count * squares) } else { 1.0 }
    }
}
