//! A node: what is free on it, and which of its GPUs a task gets.

use super::kind::Kind;

/// The most GPUs a node can have.
pub const MOST_GPUS: usize = 8;

/// The thousandths of a whole GPU.
pub const WHOLE: u16 = 1000;

/// What is free on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    cpu: u32,
    memory: u32,
    idle: [u16; MOST_GPUS],
    /// Tasks that hold a part of a GPU; beside `held` this is what `clustering` looks at.
    shares: u16,
    /// Tasks that hold 1, 2, 3 to 4, and more GPUs.
    held: [u8; 4],
    model: u8,
    gpus: u8,
}

/// Where a task was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The node's number in the fleet's order.
    pub node: u32,
    /// The GPUs, bit by number.
    pub gpus: u8,
}

impl Node {
    /// Creates an empty node. GPUs above eight are not looked at.
    #[must_use]
    pub fn new(cpu: u32, memory: u32, gpus: u8, model: u8) -> Self {
        let mut idle = [0; MOST_GPUS];
        let gpus = gpus.min(8);
        idle.iter_mut().take(usize::from(gpus)).for_each(|idle| *idle = WHOLE);
        Self { cpu, memory, idle, shares: 0, held: [0; 4], model, gpus }
    }

    /// Returns the free thousandths of a core.
    #[must_use]
    pub fn cpu(&self) -> u32 {
        self.cpu
    }

    /// Returns the free memory in MiB.
    #[must_use]
    pub fn memory(&self) -> u32 {
        self.memory
    }

    /// Returns the free thousandths of each GPU; 0 where there is none.
    #[must_use]
    pub fn shares(&self) -> &[u16; MOST_GPUS] {
        &self.idle
    }

    /// Returns the number of GPUs.
    #[must_use]
    pub fn gpus(&self) -> u8 {
        self.gpus
    }

    /// Returns the number of the GPUs' model.
    #[must_use]
    pub fn model(&self) -> u8 {
        self.model
    }

    /// Returns the free thousandths of all GPUs.
    #[must_use]
    pub fn idle(&self) -> u32 {
        self.idle.iter().map(|&idle| u32::from(idle)).sum()
    }

    /// Returns the number of GPUs that are wholly free.
    #[must_use]
    pub fn free_gpus(&self) -> u8 {
        self.idle.iter().map(|&idle| u8::from(idle == WHOLE)).sum()
    }

    /// Returns whether a task of `kind` fits.
    #[must_use]
    pub fn fits(&self, kind: &Kind) -> bool {
        if self.cpu < kind.cpu || self.memory < kind.memory {
            return false;
        }
        if kind.gpus == 0 {
            return true;
        }
        let enough: u8 = self.idle.iter().map(|&idle| u8::from(idle >= kind.share)).sum();
        enough >= kind.gpus && kind.models >> self.model & 1 == 1
    }

    /// Returns whether the node, were it empty, has the GPUs for a task of `kind`.
    pub(super) fn suits(&self, kind: &Kind) -> bool {
        kind.gpus == 0 || (self.gpus >= kind.gpus && kind.models >> self.model & 1 == 1)
    }

    /// Returns the GPUs a fitting task gets: the tightest for a share, whole ones from the lowest number.
    #[must_use]
    pub fn tightest(&self, kind: &Kind) -> u8 {
        if kind.is_share() { 1 << self.tightest_gpu(kind.share) } else { self.lowest(kind) }
    }

    /// Returns the number of the GPU with the least room of those with `share` free.
    pub(super) fn tightest_gpu(&self, share: u16) -> usize {
        let mut best = 0;
        let mut least = u16::MAX;
        for (gpu, &idle) in self.idle.iter().enumerate() {
            if idle >= share && idle < least {
                (best, least) = (gpu, idle);
            }
        }
        best
    }

    /// Returns the first GPUs with enough room.
    fn lowest(&self, kind: &Kind) -> u8 {
        let mut left = kind.gpus;
        let mut chosen = 0;
        for (gpu, &idle) in self.idle.iter().enumerate() {
            if left > 0 && idle >= kind.share {
                chosen |= 1 << gpu;
                left -= 1;
            }
        }
        chosen
    }

    /// Returns the node as it is with a task of `kind` on `gpus`; the task must fit there.
    #[must_use]
    pub fn with(&self, kind: &Kind, gpus: u8) -> Self {
        let mut after = self.clone();
        after.take(kind, gpus);
        after
    }

    /// Returns the node as it is when a task of `kind` on `gpus` has left.
    pub(super) fn without(&self, kind: &Kind, gpus: u8) -> Self {
        let mut after = self.clone();
        after.give(kind, gpus);
        after
    }

    /// Takes what a task of `kind` needs; it must fit on `gpus`.
    pub fn take(&mut self, kind: &Kind, gpus: u8) {
        self.cpu -= kind.cpu;
        self.memory -= kind.memory;
        for (gpu, idle) in self.idle.iter_mut().enumerate() {
            *idle -= if gpus >> gpu & 1 == 1 { kind.share } else { 0 };
        }
        match kind.affinity() {
            Some(0) => self.shares += 1,
            Some(at) => self.held[at - 1] += 1,
            None => {}
        }
    }

    /// Gives back what a task of `kind` on `gpus` had taken.
    pub fn give(&mut self, kind: &Kind, gpus: u8) {
        self.cpu += kind.cpu;
        self.memory += kind.memory;
        for (gpu, idle) in self.idle.iter_mut().enumerate() {
            *idle += if gpus >> gpu & 1 == 1 { kind.share } else { 0 };
        }
        match kind.affinity() {
            Some(0) => self.shares -= 1,
            Some(at) => self.held[at - 1] -= 1,
            None => {}
        }
    }

    /// Returns which uses of GPUs are on the node, bit by number.
    pub(super) fn affinities(&self) -> u8 {
        let held = self.held.iter().enumerate().map(|(at, &held)| u8::from(held > 0) << (at + 1));
        u8::from(self.shares > 0) | held.sum::<u8>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(gpus: u8, share: u16) -> Kind {
        Kind { cpu: 1000, memory: 10, gpus, share, models: u64::MAX }
    }

    #[test]
    fn a_node_is_half_a_cache_line() {
        assert_eq!(size_of::<Node>(), 32);
    }

    #[test]
    fn a_share_takes_the_tightest_gpu_and_whole_gpus_the_lowest() {
        let mut node = Node::new(100_000, 1000, 4, 0);
        node.take(&kind(1, 300), 0b100);
        node.take(&kind(1, 500), 0b010);
        assert_eq!(node.tightest(&kind(1, 400)), 0b010);
        assert_eq!(node.tightest(&kind(1, 600)), 0b100);
        assert_eq!(node.tightest(&kind(2, WHOLE)), 0b1001);
        assert!(!node.fits(&kind(3, WHOLE)));
    }

    #[test]
    fn giving_back_restores_the_node() {
        let empty = Node::new(100_000, 1000, 8, 3);
        let mut node = empty.clone();
        node.take(&kind(1, 300), 1);
        node.take(&kind(4, WHOLE), 0b1111_0000);
        assert_eq!(node.affinities(), 0b1001);
        node.give(&kind(4, WHOLE), 0b1111_0000);
        node.give(&kind(1, 300), 1);
        assert_eq!(node, empty);
    }
}
