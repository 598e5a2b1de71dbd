//! Starts that wait for room. Who is next is pure: no clock, no lock, no host.
//!
//! A waiting start stands in the line by its priority, which grows by one for every [`AGE_S`] seconds that it waits; of
//! the same, the one that came first. Whoever fits may go, also before one that stands ahead and does not fit; but
//! one that has waited for [`HOLDS_S`] holds the line: from then on nobody behind it may take a GPU that could serve
//! it. So every start is served before any that comes much later, whatever the priorities.

use std::collections::BTreeSet;

use crate::model::{DomainRef, DomainUuid, GpuId, Kind, Refusal};

/// Seconds of waiting that count as one of priority.
pub(super) const AGE_S: i64 = 10;

/// Seconds after which a start that waits lets nobody past who could take its room.
pub(super) const HOLDS_S: i64 = 60;

/// The most starts that wait at one time.
const MOST: usize = 64;

/// One start that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) ticket: u64,
    pub(super) domain: DomainRef,
    pub(super) priority: i32,
    /// Seconds since the epoch.
    pub(super) since: i64,
    /// When it gives up.
    pub(super) until: i64,
    /// Why it waits, in one line.
    pub(super) why: String,
}

impl Waiting {
    pub(super) fn waited(&self, now: i64) -> i64 {
        now.saturating_sub(self.since).max(0)
    }

    /// Its priority with what waiting added.
    pub(super) fn aged(&self, now: i64) -> i64 {
        i64::from(self.priority).saturating_add(self.waited(now) / AGE_S)
    }
}

/// Where a waiting start stands, and whether it could go now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) ticket: u64,
    pub(super) fits: bool,
    /// The GPUs that could serve it if they had room.
    pub(super) gpus: BTreeSet<GpuId>,
    pub(super) waited: i64,
}

/// The line.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Vec<Waiting>,
    last: u64,
}

impl Queue {
    /// Lets a start wait; returns its ticket.
    pub(super) fn join(&mut self, mut one: Waiting) -> Result<u64, Refusal> {
        if self.waiting.iter().any(|other| other.domain.uuid == one.domain.uuid) {
            let text = format!("the start of domain {} waits already", one.domain.name);
            return Err(Refusal::new(Kind::Conflict, text).hint(format!(
                "vgpuctl queue shows where; vgpuctl queue cancel {} ends it",
                one.domain.name
            )));
        }
        if self.waiting.len() >= MOST {
            return Err(Refusal::new(Kind::Busy, format!("{MOST} starts wait already, which is the most")));
        }
        self.last += 1;
        one.ticket = self.last;
        self.waiting.push(one);
        Ok(self.last)
    }

    /// It waits no longer; returns whether it did.
    pub(super) fn leave(&mut self, ticket: u64) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|one| one.ticket != ticket);
        self.waiting.len() < before
    }

    /// The start of a domain waits no longer; returns whether it did.
    pub(super) fn cancel(&mut self, domain: DomainUuid) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|one| one.domain.uuid != domain);
        self.waiting.len() < before
    }

    pub(super) fn holds(&self, ticket: u64) -> bool {
        self.waiting.iter().any(|one| one.ticket == ticket)
    }

    /// Says why one waits now.
    pub(super) fn note(&mut self, ticket: u64, why: &str) {
        for one in self.waiting.iter_mut().filter(|one| one.ticket == ticket) {
            why.clone_into(&mut one.why);
        }
    }

    /// All that wait, the first in line first.
    pub(super) fn line(&self, now: i64) -> Vec<Waiting> {
        let mut line = self.waiting.clone();
        line.sort_by_key(|one| (std::cmp::Reverse(one.aged(now)), one.since, one.ticket));
        line
    }
}

/// Returns who may go now; `line` is in order.
pub(super) fn next(line: &[Standing]) -> Option<u64> {
    let mut held: BTreeSet<&GpuId> = BTreeSet::new();
    for one in line {
        let free = one.gpus.iter().all(|gpu| !held.contains(gpu));
        if one.fits && free {
            return Some(one.ticket);
        }
        if one.waited >= HOLDS_S {
            held.extend(&one.gpus);
        }
    }
    None
}

#[cfg(test)]
mod tests;
