//! Every GPU with its number, and why it was chosen or not.

use crate::fleet::slots::catalog::{Catalog, Modes};
use crate::fleet::slots::fleet::{Choice, Fleet, Request};
use crate::fleet::slots::pattern::{Mode, Way};

/// Why a GPU cannot give a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// Its board does not offer the size.
    NotOffered,
    /// It holds this other size only.
    HoldsSize(u8),
    /// It holds as many vGPUs, or compute slices, as it may.
    Limit,
    /// Enough slots are idle, yet no place of the size has all of its slots idle.
    Fragmented {
        /// Its idle slots.
        idle: u8,
    },
    /// Fewer slots are idle than the size takes.
    Full {
        /// Its idle slots.
        idle: u8,
    },
}

/// One GPU for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which GPU.
    pub gpu: u32,
    /// Where the slice would be on it and at what score, or why it cannot be.
    pub verdict: Result<Choice, Passed>,
}

impl Fleet {
    /// Says for each GPU where a request would go on it, or why it cannot. The chosen one comes first, the
    /// others by score, those that cannot last; among equals by number.
    pub fn explain(&mut self, request: impl Into<Request>) -> Vec<Candidate> {
        let request = request.into();
        let chosen = self.clone().choose(request);
        let all = u32::try_from(self.len()).unwrap_or(u32::MAX);
        let mut candidates: Vec<Candidate> = (0..all)
            .map(|gpu| match chosen {
                Some(choice) if choice.gpu == gpu => Candidate { gpu, verdict: Ok(choice) },
                _ => self.candidate(gpu, request),
            })
            .collect();
        let rank = |candidate: &Candidate| match &candidate.verdict {
            Ok(choice) => (u8::from(chosen != Some(*choice)), choice.score, candidate.gpu),
            Err(_) => (2, 0, candidate.gpu),
        };
        candidates.sort_by_key(rank);
        candidates
    }

    /// Says where a request would go on one GPU.
    fn candidate(&mut self, gpu: u32, request: Request) -> Candidate {
        let verdict = self.on(gpu, request).ok_or_else(|| self.passed(gpu, request.size));
        Candidate { gpu, verdict }
    }

    /// Returns the best place on one GPU.
    pub(super) fn on(&mut self, gpu: u32, request: Request) -> Option<Choice> {
        let rule = self.policy().rule_for(request.urgent);
        let (best, _) = self.best_on(gpu, (rule, request.size))?;
        Some(Choice { gpu, size: request.size, id: best.id, mode: best.mode, score: best.score })
    }

    fn passed(&self, gpu: u32, size: u8) -> Passed {
        let pattern = self.pattern(gpu);
        let catalog: &Catalog = self.catalog();
        let kind = &catalog.kinds[usize::from(pattern.kind)];
        let Some(shape) = catalog.shape(pattern.kind, size) else { return Passed::NotOffered };
        let idle = kind.slots - u8::try_from(pattern.busy.count_ones()).unwrap_or(kind.slots);
        match pattern.mode {
            Mode::Equal(of) if of != size => Passed::HoldsSize(of),
            _ if pattern.units + shape.units > kind.limit => Passed::Limit,
            Mode::Idle if kind.modes == Modes::Equal && shape.equal.is_empty() => Passed::NotOffered,
            Mode::Idle | Mode::Mixed | Mode::Equal(_) if idle >= shape.len => Passed::Fragmented { idle },
            Mode::Idle | Mode::Mixed | Mode::Equal(_) => Passed::Full { idle },
        }
    }

    /// Returns the free ids of a size on a GPU as it is now, with the mode of each; those of an idle GPU in
    /// both modes.
    pub(super) fn open(&self, gpu: u32, size: u8) -> Vec<(u8, Mode)> {
        let pattern = self.pattern(gpu);
        let ways = if pattern.mode == Mode::Idle { &[Way::Mixed, Way::Equal][..] } else { &[Way::Mixed] };
        let each = |way: &Way| {
            let mode = pattern.mode_for(size, *way);
            let ids = pattern.free_ids(self.catalog(), size, *way);
            ids.map(|id| (id, mode)).collect::<Vec<_>>()
        };
        ways.iter().flat_map(each).collect()
    }
}
