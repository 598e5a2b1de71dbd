//! What is expected to come, and what that makes dear: cores beside idle GPUs, models, groups of GPUs.

#![expect(clippy::cast_possible_truncation, reason = "estimates, rounded to small whole numbers on purpose")]

use super::kind::Kind;
use super::node::{Node, WHOLE};

/// Group sizes that have a price.
const GROUPS: [u8; 3] = [2, 4, 8];
/// Ways to care for free groups: how many times the expected demand counts, and the price of a group as
/// a part of its GPUs when it is wholly scarce.
pub(super) const CARES: [(f64, f64); 3] = [(1.0, 0.05), (2.0, 0.1), (4.0, 0.2)];
/// Parts that the root of a level difference is counted in.
pub(super) const LEVEL_PARTS: i32 = 64;
/// Rounds of spreading the demand over the models.
const ROUNDS: usize = 60;
/// The most cores that an idle GPU should keep, and the fleet's cores per GPU that this is for.
const MOST_CORES: f64 = 11.4;
/// Cores per GPU of the fleet that the constants were found on.
pub(super) const KNOWN_RATIO: f64 = 17.23;

/// The mix of tasks that is expected.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    /// Each kind with its number of tasks.
    pub mix: Vec<(Kind, u32)>,
    /// Accepted models, with their part of the GPU demand.
    models: Vec<(u64, f64)>,
    /// Tasks for each of [`GROUPS`], per GPU of demand.
    groups: [f64; 3],
}

impl Demand {
    /// Creates the demand of a mix: each kind with its number of tasks.
    #[must_use]
    pub fn new(mix: Vec<(Kind, u32)>) -> Self {
        let milli = |kind: &Kind, count: u32| f64::from(kind.milli()) * f64::from(count);
        let all = mix.iter().map(|(kind, count)| milli(kind, *count)).sum::<f64>().max(1.0);
        let mut models: Vec<(u64, f64)> = Vec::new();
        let mut groups = [0.0; 3];
        for (kind, count) in mix.iter().filter(|(kind, _)| kind.gpus > 0) {
            let part = milli(kind, *count) / all;
            match models.iter_mut().find(|(set, _)| *set == kind.models) {
                Some((_, sum)) => *sum += part,
                None => models.push((kind.models, part)),
            }
            if kind.gpus > 1 {
                let at = GROUPS.iter().position(|&size| kind.gpus <= size).unwrap_or(2);
                groups[at] += f64::from(*count) * f64::from(WHOLE) / all;
            }
        }
        Self { mix, models, groups }
    }
}

/// Prices that follow from the demand and from what is idle; renewed now and then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Tenths of a core that an idle GPU should keep.
    pub(super) cores: i32,
    /// By model: the root of how much its level is above the least, in [`LEVEL_PARTS`].
    pub(super) levels: Vec<i32>,
    /// For each of [`CARES`], the thousandths of a GPU that losing a free group of 2, 4 or 8 costs.
    pub(super) groups: [[i32; 3]; CARES.len()],
}

impl Outlook {
    /// Creates the outlook for `nodes`, `ratio` being the fleet's cores per GPU when it was empty.
    #[must_use]
    pub fn new(demand: &Demand, nodes: &[Node], models: usize, ratio: f64) -> Self {
        let mut idle = vec![0.0; models.max(1)];
        let mut cpu = 0.0;
        let mut groups = [0.0; 3];
        for node in nodes.iter().filter(|node| node.gpus() > 0) {
            let free = node.free_gpus();
            for (left, size) in groups.iter_mut().zip(GROUPS) {
                *left += f64::from(free / size);
            }
            cpu += f64::from(node.cpu());
            idle[usize::from(node.model())] += f64::from(node.idle());
        }
        let all: f64 = idle.iter().sum();
        let most = MOST_CORES * ratio / KNOWN_RATIO;
        let cores = (0.7 * cpu / all.max(1.0)).clamp(most.min(1.0), most);
        let group = |(early, price): (f64, f64), at: usize| {
            let expected = early * demand.groups[at] * all / f64::from(WHOLE);
            let scarce = (expected / groups[at].max(0.5)).min(1.0).powi(3);
            (price * scarce * f64::from(GROUPS[at]) * f64::from(WHOLE) / 10.0).round() as i32 * 10
        };
        Self {
            cores: (cores * 5.0).round() as i32 * 2,
            levels: levels(demand, &idle, all),
            groups: CARES.map(|care| [group(care, 0), group(care, 1), group(care, 2)]),
        }
    }

    /// Returns the price of the free groups that are lost when `before` free GPUs become `after`.
    pub(super) fn lost_groups(&self, care: usize, before: u8, after: u8) -> i32 {
        let lost = |at: usize| i32::from(before / GROUPS[at]) - i32::from(after / GROUPS[at]);
        self.groups[care].iter().enumerate().map(|(at, price)| price * lost(at)).sum()
    }

    /// Returns the root of the level difference of a model, in [`LEVEL_PARTS`].
    pub(super) fn level(&self, model: u8) -> i32 {
        self.levels.get(usize::from(model)).copied().unwrap_or(0)
    }
}

/// Spreads the demand over the models as evenly as the accepted sets allow.
fn levels(demand: &Demand, idle: &[f64], all: f64) -> Vec<i32> {
    let any = |set: u64| (0..idle.len()).all(|model| set >> model & 1 == 1);
    if demand.models.iter().all(|&(set, _)| any(set)) {
        return vec![0; idle.len()];
    }
    let mut given = vec![vec![0.0; idle.len()]; demand.models.len()];
    let mut load = vec![0.0; idle.len()];
    for _ in 0..ROUNDS {
        for (share, &(set, part)) in given.iter_mut().zip(&demand.models) {
            load.iter_mut().zip(share.iter()).for_each(|(load, share)| *load -= share);
            *share = poured(part * all, set, &load, idle);
            load.iter_mut().zip(share.iter()).for_each(|(load, share)| *load += share);
        }
    }
    let level: Vec<f64> = load.iter().zip(idle).map(|(load, idle)| load / idle.max(1.0)).collect();
    let present = level.iter().zip(idle).filter(|&(_, &idle)| idle > 0.0);
    let least = present.map(|(&level, _)| level).fold(f64::INFINITY, f64::min);
    let part = |level: f64| ((level - least).clamp(0.0, 4.0).sqrt() * f64::from(LEVEL_PARTS)).round() as i32;
    level.into_iter().map(part).collect()
}

/// Pours an amount onto the models of a set so that their levels become equal where they can.
fn poured(amount: f64, set: u64, load: &[f64], idle: &[f64]) -> Vec<f64> {
    let mut open: Vec<usize> =
        (0..idle.len()).filter(|&model| set >> model & 1 == 1 && idle[model] > 0.0).collect();
    let level = |model: usize| load[model] / idle[model];
    open.sort_by(|&a, &b| level(a).total_cmp(&level(b)));
    let mut result = vec![0.0; idle.len()];
    for used in (1..=open.len()).rev() {
        let chosen = &open[..used];
        let room: f64 = chosen.iter().map(|&model| idle[model]).sum();
        let held: f64 = chosen.iter().map(|&model| load[model]).sum();
        let target = (held + amount) / room;
        if target >= level(chosen[used - 1]) || used == 1 {
            chosen.iter().for_each(|&model| result[model] = target * idle[model] - load[model]);
            break;
        }
    }
    result
}
