//! Where a slice of a size may start on a board: computed by the driver's rule, not copied from a table.
//!
//! The unit is a *slot*: one GB of framebuffer on a time-sliced board, one memory slice under MIG. A
//! *place* is a start slot and a length. Source of the rule: NVIDIA's open kernel modules 595.45.04,
//! `_kvgpumgrSetHeterogeneousResources`; of the MIG starts: NVIDIA's MIG user guide.

mod mig;
mod rule;

pub use mig::{MIG_BOARDS, MigBoard};

/// Which rule a board's ids follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Volta, Turing and Ampere: halves.
    Ampere,
    /// Halves, with another list of 1 GB places left out.
    Ada,
    /// As Ada.
    Hopper,
    /// Even steps; the same ids in both modes.
    Blackwell,
}

/// A time-sliced board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Board {
    /// Its name on the command line.
    pub name: &'static str,
    /// Whose rule it follows.
    pub architecture: Architecture,
    /// Its framebuffer in GB, which is its number of slots.
    pub region: u8,
    /// The sizes it offers, in GB, ascending.
    pub sizes: &'static [u8],
}

/// How one size lies on one board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Slots it covers.
    pub len: u8,
    /// What it takes of the board's count: one vGPU, or compute slices under MIG.
    pub units: u8,
    /// Start slots when sizes are mixed, in the driver's order.
    pub mixed: Vec<u8>,
    /// Start slots when the GPU holds this size only; empty where that mode does not exist.
    pub equal: Vec<u8>,
}

const SIZES_24: &[u8] = &[1, 2, 3, 4, 6, 8, 12, 24];
const SIZES_48: &[u8] = &[1, 2, 3, 4, 6, 8, 12, 16, 24, 48];

/// The boards known by name.
pub const BOARDS: &[Board] = &[
    board("a10-24", Architecture::Ampere, 24, SIZES_24),
    board("l4-24", Architecture::Ada, 24, SIZES_24),
    board("a100-40", Architecture::Ampere, 40, &[4, 5, 8, 10, 20, 40]),
    board("a40-48", Architecture::Ampere, 48, SIZES_48),
    board("l40s-48", Architecture::Ada, 48, SIZES_48),
    board("a100-80", Architecture::Ampere, 80, &[4, 8, 10, 16, 20, 40, 80]),
    board("h100-80", Architecture::Hopper, 80, &[4, 5, 8, 10, 16, 20, 40, 80]),
    board("h100-94", Architecture::Hopper, 94, &[4, 6, 11, 15, 23, 47, 94]),
    board("rtxpro6000-96", Architecture::Blackwell, 96, &[2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 96]),
];

const fn board(name: &'static str, architecture: Architecture, region: u8, sizes: &'static [u8]) -> Board {
    Board { name, architecture, region, sizes }
}

impl Board {
    /// Finds a board by name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        BOARDS.iter().copied().find(|board| board.name == name)
    }

    /// Returns the most vGPUs that one GPU may hold (driver source: 32 before Blackwell, 48 from there).
    #[must_use]
    pub fn limit(&self) -> u8 {
        if self.architecture == Architecture::Blackwell { 48 } else { 32 }
    }

    /// Returns how `gb` lies on this board; `None` when it is nothing or does not fit.
    #[must_use]
    pub fn shape(&self, gb: u8) -> Option<Shape> {
        rule::shape(self, gb)
    }
}

#[cfg(test)]
mod tests;
