//! Finding the best GPU of a large fleet without looking at each: GPUs of equal pattern stand in one
//! bucket, and for each rule and size the patterns that are in use are kept in order of score.
//!
//! A decision reads the head of one ordered set and of one bucket. A change moves one GPU from one bucket
//! to another, and touches the ordered sets only when a bucket becomes empty or stops being so.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use crate::fleet::slots::bits::Bits;
use crate::fleet::slots::pattern::Mode;

/// A pattern in its order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    /// A GPU that holds one size comes before one that is mixed: only this size can use it.
    pub(super) tier: u8,
    pub(super) score: i64,
    pub(super) free: u8,
    pub(super) busy: u128,
    pub(super) pattern: u32,
}

impl Entry {
    pub(super) fn tier(mode: Mode) -> u8 {
        u8::from(!matches!(mode, Mode::Equal(_)))
    }
}

/// The GPUs of one pattern, and perhaps some that have left it: those are dropped when they come up.
#[derive(Clone, Debug, Default)]
struct Bucket {
    heap: BinaryHeap<Reverse<u32>>,
}

/// The index of a fleet.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// By rule and size.
    pub(super) order: Vec<BTreeSet<Entry>>,
    buckets: Vec<Bucket>,
    /// By size: the GPUs that have a place; for rules that take GPUs in order.
    pub(super) fits: Vec<Bits>,
}

impl Index {
    /// Creates the index of an empty fleet with this many ordered sets.
    pub(super) fn new(sets: usize, fits: Vec<Bits>) -> Self {
        Self { order: vec![BTreeSet::new(); sets], fits, buckets: Vec::new() }
    }

    /// Returns the bytes it holds; nodes of the ordered sets are counted as half full.
    pub(super) fn bytes(&self) -> usize {
        let order: usize = self.order.iter().map(|set| 2 * set.len() * size_of::<Entry>()).sum();
        let members: usize =
            self.buckets.iter().map(|bucket| bucket.heap.capacity() * size_of::<u32>()).sum();
        let fits: usize = self.fits.iter().map(Bits::bytes).sum();
        order + members + fits + self.buckets.capacity() * size_of::<Bucket>()
    }

    /// Puts a GPU into the bucket of a pattern, which holds `count` GPUs then.
    pub(super) fn enter(&mut self, gpu: u32, pattern: u32, count: u32, is_in: impl Fn(u32) -> bool) {
        let at = pattern as usize;
        if self.buckets.len() <= at {
            self.buckets.resize_with(at + 1, Bucket::default);
        }
        let heap = &mut self.buckets[at].heap;
        heap.push(Reverse(gpu));
        if heap.len() > 2 * count as usize + 32 {
            let mut members = std::mem::take(heap).into_vec();
            members.retain(|Reverse(gpu)| is_in(*gpu));
            members.sort_unstable();
            members.dedup();
            *heap = members.into();
        }
    }

    /// Returns the lowest GPU of a pattern.
    pub(super) fn first(&mut self, pattern: u32, is_in: impl Fn(u32) -> bool) -> Option<u32> {
        let heap = &mut self.buckets.get_mut(pattern as usize)?.heap;
        loop {
            let Reverse(gpu) = *heap.peek()?;
            if is_in(gpu) {
                return Some(gpu);
            }
            heap.pop();
        }
    }
}
