//! The scores of the well-known policies; lower is better, and the first node of the order wins ties.

#![expect(clippy::cast_possible_truncation, reason = "scores are hundredths between 0 and 200")]

use super::formula::signed;
use super::kind::Kind;
use super::node::{Node, WHOLE};

/// The most CPU of a node in the published experiment, in thousandths of a core.
const MOST_CPU: f64 = 128_000.0;
/// The same for GPUs.
const MOST_GPU: f64 = 8_000.0;

/// Half the CPU left over and half the GPU left over after placing, both against the largest node.
pub(super) fn best_fit(kind: &Kind, node: &Node) -> i32 {
    let cpu = f64::from(node.cpu() - kind.cpu) / MOST_CPU;
    let gpu = f64::from(node.idle() - kind.milli()) / MOST_GPU;
    // As published: the better score is the higher one, and is cut to a hundredth.
    100 - ((1.0 - (0.5 * cpu + 0.5 * gpu)) * 100.0) as i32
}

/// The node whose GPUs have most left over, in thousandths.
pub(super) fn spread(kind: &Kind, node: &Node) -> i32 {
    8000 - signed(node.idle() - kind.milli())
}

/// The product of what is free and what is asked for, each against the largest node.
pub(super) fn dot_product(kind: &Kind, node: &Node) -> i32 {
    let cpu = f64::from(node.cpu()) / MOST_CPU * (f64::from(kind.cpu) / MOST_CPU);
    let gpu = f64::from(node.idle()) / MOST_GPU * (f64::from(kind.milli()) / MOST_GPU);
    100 - ((1.0 - f64::midpoint(cpu, gpu)) * 100.0) as i32
}

/// A GPU in use, then a free GPU of a node in use, then a free node.
pub(super) fn packing(kind: &Kind, node: &Node) -> i32 {
    if kind.gpus == 0 {
        return 100;
    }
    let free = i32::from(node.free_gpus());
    if free == i32::from(node.gpus()) {
        return 100 - (33 - free).max(free);
    }
    if kind.share < WHOLE {
        let idle = node.shares()[node.tightest_gpu(kind.share)];
        if idle < WHOLE {
            return 100 - (100 - i32::from(idle) / 100).max(50);
        }
    }
    100 - (50 - i32::from(kind.gpus)).max(33)
}

/// Nodes that hold the same use of GPUs and no other, then such with others, then idle ones.
pub(super) fn clustering(kind: &Kind, node: &Node) -> i32 {
    let Some(affinity) = kind.affinity() else { return 100 };
    let held = node.affinities();
    let tier = if held >> affinity & 1 == 1 {
        if held.count_ones() == 1 { 75 } else { 50 }
    } else if held == 0 {
        25
    } else {
        0
    };
    100 - (tier + 25 * (8000 - node.idle() as i32) / 8000)
}

/// The node whose GPUs are least in use, in thousandths.
pub(super) fn least_loaded(node: &Node) -> i32 {
    let gpus = u32::from(node.gpus()).max(1);
    1000 - (node.idle() / gpus) as i32
}
