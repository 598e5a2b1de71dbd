//! One policy over many runs, as a row of a table.

use std::time::Instant;

use serde::Serialize;

use crate::fleet::slots::{Fleet, Pair, Policy};
use crate::simulate::slots::churn::{Churn, Drive, churn};
use crate::simulate::slots::fill::{Fill, refill};
use crate::simulate::slots::outcome::{BySize, Refused, Spread};
use crate::simulate::slots::{Setup, bounds};

/// What filling came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Filled {
    /// The policy's name.
    pub policy: String,
    /// How many runs.
    pub seeds: u64,
    /// Percent of GB allocated when 100 % of the capacity were asked for.
    pub allocated_percent_100: Spread,
    /// The same at 110 %.
    pub allocated_percent_110: Spread,
    /// The same at 130 %.
    pub allocated_percent_130: Spread,
    /// Percent allocated at the first refusal.
    pub first_refusal_percent: Spread,
    /// Refused over all runs.
    pub refused: Refused,
    /// By size.
    pub sizes: Vec<BySize>,
}

/// What keeping busy came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Busy {
    /// The policy's name.
    pub policy: String,
    /// How many runs.
    pub seeds: u64,
    /// Moves allowed for one request.
    pub moves_allowed: usize,
    /// Percent of GB refused.
    pub gb_refused_percent: Spread,
    /// Refused over all runs.
    pub refused: Refused,
    /// By size.
    pub sizes: Vec<BySize>,
    /// Percent of the GB in use, mean over time.
    pub used_percent: Spread,
    /// Slices moved, for each one placed.
    pub moves_per_placed: f64,
    /// GB moved, for each GB placed.
    pub gb_moved_per_gb_placed: f64,
    /// Mean time of a request in the simulator, with the search for moves.
    pub ns_per_request: f64,
}

/// Runs fills with the seeds `first..first + seeds`.
#[must_use]
pub fn filled(setup: &Setup, (name, policy): (&str, &Policy), first: u64, seeds: u64) -> Filled {
    let mut fleet = Fleet::new(&setup.catalog, policy.clone(), &setup.gpus);
    let run = |seed| {
        fleet.reseed(seed);
        refill(setup, &mut fleet, seed, false)
    };
    let runs: Vec<Fill> = (first..first + seeds).map(run).collect();
    let spread = |value: &dyn Fn(&Fill) -> f64| Spread::of(&runs.iter().map(value).collect::<Vec<_>>());
    let sizes = add_up(runs.iter().map(|run| run.sizes.as_slice()));
    Filled {
        policy: name.to_owned(),
        seeds,
        allocated_percent_100: spread(&|run| run.allocated[0]),
        allocated_percent_110: spread(&|run| run.allocated[1]),
        allocated_percent_130: spread(&|run| run.allocated[2]),
        first_refusal_percent: spread(&|run| match run.at_first_refusal {
            refused if refused >= 0.0 => refused,
            _ => run.allocated[2],
        }),
        refused: Refused::of(&sizes),
        sizes,
    }
}

/// Runs churns with the seeds from the drive's on.
#[must_use]
pub fn busy(
    setup: &Setup,
    (name, policy, table): (&str, &Policy, Option<&Pair>),
    drive: &Drive,
    seeds: u64,
) -> Busy {
    let began = Instant::now();
    let drives = (drive.seed..drive.seed + seeds).map(|seed| Drive { seed, ..*drive });
    let runs: Vec<Churn> = drives.map(|drive| churn(setup, policy, table, &drive)).collect();
    let elapsed = began.elapsed().as_secs_f64() * 1e9;
    let sizes = add_up(runs.iter().map(|run| run.sizes.as_slice()));
    let refused = |run: &Churn| Refused::of(&run.sizes).gb_percent;
    let sum = |value: fn(&Churn) -> u64| number(runs.iter().map(value).sum());
    let placed_gb = number(sizes.iter().map(|size| (size.asked - size.refused) * u64::from(size.gb)).sum());
    let asked = number(drive.requests * 5 / 4 * seeds);
    Busy {
        policy: name.to_owned(),
        seeds,
        moves_allowed: drive.moves,
        gb_refused_percent: Spread::of(&runs.iter().map(refused).collect::<Vec<_>>()),
        refused: Refused::of(&sizes),
        used_percent: Spread::of(&runs.iter().map(|run| run.used).collect::<Vec<_>>()),
        moves_per_placed: sum(|run| run.moves) / sum(|run| run.placed).max(1.0),
        gb_moved_per_gb_placed: sum(|run| run.moved_gb) / placed_gb.max(1.0),
        ns_per_request: elapsed / asked.max(1.0),
        sizes,
    }
}

/// Bounds and frame of an experiment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Frame {
    /// The boards.
    pub boards: Vec<String>,
    /// How many GPUs.
    pub gpus: usize,
    /// The mix.
    pub mix: String,
    /// Demand against capacity; absent when filling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// Percent of GB that one pool without slots and borders would refuse; absent when filling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_pool_gb_refused_percent: Option<f64>,
    /// Where the random numbers begin.
    pub first_seed: u64,
}

/// Describes an experiment and works out its bounds.
#[must_use]
pub fn frame(setup: &Setup, mix: &str, load: Option<f64>, first_seed: u64) -> Frame {
    Frame {
        boards: setup.catalog.kinds.iter().map(|kind| kind.name.clone()).collect(),
        gpus: setup.gpus.len(),
        mix: mix.to_owned(),
        load,
        one_pool_gb_refused_percent: load.map(|load| bounds::one_pool(setup, load).0),
        first_seed,
    }
}

/// Adds up counts by size over runs.
pub(crate) fn add_up<'a>(runs: impl Iterator<Item = &'a [BySize]>) -> Vec<BySize> {
    let mut total: Vec<BySize> = Vec::new();
    for run in runs {
        if total.is_empty() {
            total = run.iter().map(|size| BySize { asked: 0, refused: 0, ..size.clone() }).collect();
        }
        for (sum, size) in total.iter_mut().zip(run) {
            sum.asked += size.asked;
            sum.refused += size.refused;
        }
    }
    total
}

fn number(count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of an experiment stay below 2^53")]
    let number = count as f64;
    number
}
