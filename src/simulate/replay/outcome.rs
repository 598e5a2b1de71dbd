//! What runs came to, as rows of a table.

use serde::Serialize;

use crate::simulate::replay::run::Run;
use crate::simulate::replay::tally::ClassTally;
use crate::simulate::replay::workload::Workload;
use crate::simulate::slots::{BySize, Refused, Spread, add_up, percent};

/// What one contender came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Its name.
    pub policy: String,
    /// The line in which requests waited.
    pub line: &'static str,
    /// Percent of GB refused.
    pub gb_refused_percent: Spread,
    /// Refused over all runs.
    pub refused: Refused,
    /// Percent of the GB in use, mean over time.
    pub used_percent: Spread,
    /// Jain's index over the owners' parts served: 1 when all got the same part.
    pub fairness: Spread,
    /// Of requests that may wait.
    pub delay: Delay,
    /// By class.
    pub classes: Vec<ByClass>,
    /// By size.
    pub sizes: Vec<BySize>,
    /// Slices moved, for each one served.
    pub moves_per_served: f64,
    /// The most that waited at one time in any run.
    pub longest_line: usize,
    /// Nanoseconds of a try to place: median.
    pub ns_p50: u32,
    /// 99 of 100 take no longer.
    pub ns_p99: u32,
    /// The longest.
    pub ns_max: u32,
    /// Milliseconds of all tries of a run, in the mean.
    pub ms_per_run: f64,
}

/// What came of one class.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ByClass {
    /// Its name.
    pub class: String,
    /// Requests.
    pub asked: u64,
    /// Requests refused, or given up after their wait.
    pub refused: u64,
    /// Requests that still wait at the end.
    pub waiting: u64,
    /// Percent of its GB refused.
    pub gb_refused_percent: f64,
    /// Of its requests that may wait.
    pub delay: Delay,
    /// Seconds from arrival to the end, in the mean over those served that end.
    pub turnaround_s: f64,
}

/// Seconds that requests waited which were served or still wait; those count with what they waited so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Delay {
    /// How many.
    pub requests: u64,
    /// The mean.
    pub mean_s: f64,
    /// Half of them wait no longer.
    pub p50_s: f64,
    /// 95 of 100 wait no longer.
    pub p95_s: f64,
    /// The longest.
    pub most_s: f64,
}

impl Delay {
    fn of(mut delays: Vec<f64>) -> Self {
        delays.sort_by(f64::total_cmp);
        let Some(most) = delays.last() else { return Self::default() };
        let at = |part: usize| delays[rank(delays.len(), part)];
        Self {
            requests: delays.len() as u64,
            mean_s: mean(&delays),
            p50_s: at(50),
            p95_s: at(95),
            most_s: *most,
        }
    }
}

/// Returns which of `count` values in order is the least that `part` of 100 do not exceed.
fn rank(count: usize, part: usize) -> usize {
    (count * part).div_ceil(100).saturating_sub(1)
}

fn mean(values: &[f64]) -> f64 {
    Spread::of(values).mean
}

/// What is the same for all contenders.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The workload.
    pub workload: String,
    /// Runs, each with its own seed; 1 for what was read.
    pub runs: usize,
    /// The boards.
    pub boards: Vec<String>,
    /// How many GPUs.
    pub gpus: usize,
    /// Their GB.
    pub capacity_gb: u64,
    /// Requests of a run, those that do not count included.
    pub requests: usize,
    /// Seconds from the first to the last arrival.
    pub seconds: f64,
    /// Demand against the capacity; absent when slices stay.
    pub load: Option<f64>,
    /// GB that the slices have above what was asked for, in percent of that.
    pub rounded_percent: f64,
    /// What is assumed.
    pub notes: Vec<String>,
}

impl Summary {
    /// Describes the workloads of all runs by the first.
    #[must_use]
    pub fn of(works: &[Workload]) -> Option<Self> {
        let work = works.first()?;
        Some(Self {
            workload: work.name.clone(),
            runs: works.len(),
            boards: work.setup.catalog.kinds.iter().map(|kind| kind.name.clone()).collect(),
            gpus: work.setup.gpus.len(),
            capacity_gb: work.setup.gb(),
            requests: work.jobs.len(),
            seconds: work.end(),
            load: work.load(),
            rounded_percent: work.rounded_percent,
            notes: work.notes.clone(),
        })
    }
}

impl Outcome {
    /// Puts runs together; `classes` are the classes' names.
    #[must_use]
    pub fn of(policy: &str, line: &'static str, classes: &[String], runs: &[Run]) -> Self {
        let spread = |value: &dyn Fn(&Run) -> f64| Spread::of(&runs.iter().map(value).collect::<Vec<_>>());
        let refused_gb = |run: &Run| {
            let (refused, asked) = run.tally.gb();
            percent(refused, asked)
        };
        let sum = |value: fn(&Run) -> u64| runs.iter().map(value).sum::<u64>();
        let sizes = add_up(runs.iter().map(|run| run.tally.sizes.as_slice()));
        let by_class = |(at, name): (usize, &String)| {
            let tallies: Vec<&ClassTally> = runs.iter().filter_map(|run| run.tally.classes.get(at)).collect();
            by_class(name, &tallies)
        };
        let delays = runs.iter().flat_map(|run| &run.tally.classes).flat_map(|class| class.delays.clone());
        let mut times: Vec<u32> = runs.iter().flat_map(|run| run.nanoseconds.clone()).collect();
        times.sort_unstable();
        let time = |part: usize| times.get(rank(times.len(), part)).copied().unwrap_or(0);
        let whole: u64 = times.iter().map(|time| u64::from(*time)).sum();
        Self {
            policy: policy.to_owned(),
            line,
            gb_refused_percent: spread(&refused_gb),
            refused: Refused::of(&sizes),
            used_percent: spread(&|run| run.used_percent),
            fairness: spread(&|run| run.tally.fairness()),
            delay: Delay::of(delays.collect()),
            classes: classes.iter().enumerate().map(by_class).collect(),
            sizes,
            moves_per_served: percent(sum(|run| run.tally.moves), sum(|run| run.tally.served)) / 100.0,
            longest_line: runs.iter().map(|run| run.longest_line).max().unwrap_or(0),
            ns_p50: time(50),
            ns_p99: time(99),
            ns_max: time(100),
            ms_per_run: percent(whole, runs.len() as u64) / 1e8,
        }
    }
}

fn by_class(name: &str, tallies: &[&ClassTally]) -> ByClass {
    let sum = |value: fn(&ClassTally) -> u64| tallies.iter().map(|tally| value(tally)).sum::<u64>();
    let turnarounds: Vec<f64> = tallies.iter().flat_map(|tally| tally.turnarounds.iter().copied()).collect();
    ByClass {
        class: name.to_owned(),
        asked: sum(|tally| tally.asked),
        refused: sum(|tally| tally.refused),
        waiting: sum(|tally| tally.waiting),
        gb_refused_percent: percent(sum(|tally| tally.refused_gb), sum(|tally| tally.asked_gb)),
        delay: Delay::of(tallies.iter().flat_map(|tally| tally.delays.iter().copied()).collect()),
        turnaround_s: mean(&turnarounds),
    }
}
