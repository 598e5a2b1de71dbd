//! The closed formula: little left over on the GPU, cores kept beside idle GPUs, wanted models spared.

use super::kind::Kind;
use super::node::Node;
use super::outlook::{LEVEL_PARTS, Outlook};

/// Scores are rounded to this many parts, so that near-equal nodes are ties and go by the order.
const GRAIN: i32 = 10_000;

/// Returns the score: 50 for each GPU left over beside a share, 5 for each core that idle GPUs lose,
/// 3 for each thousandth on a model by the root of its level above the least; in tens.
pub(super) fn score(kind: &Kind, node: &Node, outlook: &Outlook) -> i32 {
    let idle = signed(node.idle());
    let left = if kind.is_share() {
        i32::from(node.shares()[node.tightest_gpu(kind.share)]) - i32::from(kind.share)
    } else {
        0
    };
    let short = |idle: i32, cpu: i32| (outlook.cores * idle / 10 - cpu).max(0);
    let cpu = signed(node.cpu());
    let milli = signed(kind.milli());
    let lost = short(idle - milli, cpu - signed(kind.cpu)) - short(idle, cpu);
    let level = 3000 / LEVEL_PARTS * milli * outlook.level(node.model());
    (50 * left + 5 * lost + level + GRAIN / 2).div_euclid(GRAIN)
}

/// Returns a quantity with its sign; what does not fit is the most there can be.
pub(super) fn signed(quantity: u32) -> i32 {
    i32::try_from(quantity).unwrap_or(i32::MAX)
}
