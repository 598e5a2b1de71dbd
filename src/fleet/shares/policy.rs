//! The policies by name.

use std::fmt;
use std::str::FromStr;

/// How a node is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// The first node of the order that has room.
    FirstFit,
    /// The node with the least CPU and GPU left over, cut to hundredths.
    BestFit,
    /// The same, ties at random.
    BestFitRandomTies,
    /// The node whose free vector has the least product with the task's, cut to hundredths.
    DotProduct,
    /// A GPU in use, then a free GPU of a used node, then a free node.
    Packing,
    /// The same, ties at random.
    PackingRandomTies,
    /// Nodes that hold the same use of GPUs first.
    Clustering,
    /// The emptiest node.
    Spread,
    /// Any node that has room, and any GPU of it.
    Random,
    /// The node whose GPUs are least in use, and its emptiest GPU.
    LeastLoaded,
    /// The next node after the last one chosen.
    RoundRobin,
    /// Least growth of fragmentation, cut to hundredths as published.
    Fgd,
    /// Least growth of fragmentation, compared exactly; equal growth in no order, as with sums of
    /// floating-point numbers, whose last bits depend on the node's state.
    FgdExact,
    /// Least growth of fragmentation, compared exactly, and the first node on ties.
    FgdExactOrder,
    /// The published score, ties at random.
    FgdRandomTies,
    /// The closed formula.
    Formula,
    /// The value table, learned from the mix; the closed formula until there is one.
    Vgpud,
}

/// A policy's name that is not known.
#[derive(Debug, thiserror::Error)]
#[error("there is no placement policy {name}")]
pub struct UnknownPolicy {
    name: String,
}

const NAMES: &[(&str, Policy)] = &[
    ("first-fit", Policy::FirstFit),
    ("best-fit", Policy::BestFit),
    ("best-fit-random-ties", Policy::BestFitRandomTies),
    ("dot-product", Policy::DotProduct),
    ("packing", Policy::Packing),
    ("packing-random-ties", Policy::PackingRandomTies),
    ("clustering", Policy::Clustering),
    ("spread", Policy::Spread),
    ("random", Policy::Random),
    ("least-loaded", Policy::LeastLoaded),
    ("round-robin", Policy::RoundRobin),
    ("fgd", Policy::Fgd),
    ("fgd-exact", Policy::FgdExact),
    ("fgd-exact-order", Policy::FgdExactOrder),
    ("fgd-random-ties", Policy::FgdRandomTies),
    ("vgpud-formula", Policy::Formula),
    ("vgpud", Policy::Vgpud),
];

/// Other names of the same policies.
const ALIASES: &[(&str, Policy)] = &[("pack", Policy::Packing), ("worst-fit", Policy::Spread)];

impl Policy {
    /// Returns all policies, in the order of the documentation.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|&(_, policy)| policy)
    }

    /// Returns the names of all policies.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|&(name, _)| name)
    }

    /// Returns whether it scores by the growth of fragmentation.
    pub(super) fn is_fgd(self) -> bool {
        matches!(self, Self::Fgd | Self::FgdExact | Self::FgdExactOrder | Self::FgdRandomTies)
    }

    pub(super) fn has_random_ties(self) -> bool {
        matches!(self, Self::BestFitRandomTies | Self::PackingRandomTies | Self::FgdRandomTies)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, policy)| policy == self).map_or("unnamed", |(name, _)| name);
        formatter.write_str(name)
    }
}

impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let mut all = NAMES.iter().chain(ALIASES);
        let found = all.find(|(known, _)| *known == name);
        found.map(|&(_, policy)| policy).ok_or_else(|| UnknownPolicy { name: name.to_owned() })
    }
}
