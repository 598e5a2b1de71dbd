//! The line of starts that wait for room, on this host.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Instant;

use super::admit::Wanted;
use super::queue::{self, Queue, Standing, Waiting};
use super::{Engine, OPERATION};
use crate::clock;
use crate::model::{Allocation, DomainRef, DomainUuid, GpuId, HostSnapshot, Kind, Refusal};
use crate::placement::{self, Owners};
use crate::profile;
use crate::wire;

/// A place in the line; it is given up with this.
#[derive(Debug)]
pub struct Ticket {
    engine: Engine,
    number: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.engine.line().leave(self.number);
        self.engine.inner.bell.ring();
    }
}

impl Ticket {
    /// Returns whether it still counts: nobody cancelled it.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.engine.line().holds(self.number)
    }

    /// Says why it waits now.
    pub fn note(&self, why: &str) {
        self.engine.line().note(self.number, why);
    }

    /// Returns whether it may go now.
    ///
    /// # Errors
    /// When the host cannot be read.
    pub fn is_next(&self) -> Result<bool, Refusal> {
        let line = self.engine.standings()?;
        Ok(queue::next(&line) == Some(self.number))
    }
}

impl Engine {
    fn line(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.inner.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the start of a domain wait, for at most `timeout_s` seconds. Its priority is the greatest of its
    /// profiles.
    ///
    /// # Errors
    /// When it waits already, too many wait, or the domain has no slices that could be waited for.
    pub fn join_line(&self, domain: &DomainRef, timeout_s: u32, why: &str) -> Result<Ticket, Refusal> {
        let since = clock::epoch_seconds();
        let priority = {
            let ledger = self.ledger();
            let book = ledger.book();
            let of = |one: &Allocation| book.profiles.get(&one.profile).map(|profile| profile.rules.priority);
            book.of_domain(domain.uuid).filter_map(of).max()
        };
        let priority = priority.ok_or_else(|| {
            Refusal::new(Kind::Conflict, format!("domain {} has no slices to wait for", domain.name))
        })?;
        let one = Waiting {
            ticket: 0,
            domain: domain.clone(),
            priority,
            since,
            until: since.saturating_add(i64::from(timeout_s)),
            why: why.to_owned(),
        };
        let number = self.line().join(one)?;
        Ok(Ticket { engine: self.clone(), number })
    }

    /// Ends the waiting of a domain's start; returns whether it waited.
    #[must_use]
    pub fn cancel_wait(&self, domain: DomainUuid) -> bool {
        let waited = self.line().cancel(domain);
        self.inner.bell.ring();
        waited
    }

    /// Lists the starts that wait, the first in line first.
    #[must_use]
    pub fn queue(&self) -> wire::Queue {
        let now = clock::epoch_seconds();
        let line = self.line().line(now);
        let shown = line.into_iter().map(|one| wire::WaitingStart {
            priority: one.priority,
            aged: one.aged(now),
            waited_s: one.waited(now),
            until: one.until,
            holds: one.waited(now) >= queue::HOLDS_S,
            domain: one.domain.name,
            why: one.why,
        });
        wire::Queue { waiting: shown.collect() }
    }

    fn standings(&self) -> Result<Vec<Standing>, Refusal> {
        let snapshot = self.fresh(Instant::now() + OPERATION)?;
        // Read last: whoever joined while the host was read stands ahead of what that reading found.
        let now = clock::epoch_seconds();
        let line = self.line().line(now);
        let owners = self.owners(&snapshot);
        let stand = |one: &Waiting| {
            let wanted = self.wanted_of(one.domain.uuid);
            Standing {
                ticket: one.ticket,
                fits: self.fits(&wanted, &snapshot, &owners),
                gpus: serving(&wanted, &snapshot),
                waited: one.waited(now),
            }
        };
        Ok(line.iter().map(stand).collect())
    }

    /// Returns what the start of a domain wants, as the book has it.
    pub(super) fn wanted_of(&self, domain: DomainUuid) -> Vec<Wanted> {
        let ledger = self.ledger();
        let book = ledger.book();
        let wanted = |one: &Allocation| {
            let profile = book.profiles.get(&one.profile)?.clone();
            Some(Wanted { allocation: one.clone(), profile })
        };
        book.of_domain(domain).filter_map(wanted).collect()
    }

    /// Returns whether a start would find room, as far as can be told: which VFs it names can be changed.
    fn fits(&self, wanted: &[Wanted], snapshot: &HostSnapshot, owners: &Owners) -> bool {
        let barred = self.bars_of_unfinished(snapshot);
        let (vfs, mdevs): (Vec<Wanted>, Vec<Wanted>) =
            wanted.iter().cloned().partition(|want| want.allocation.device.vf().is_some());
        let ground = self.ground(snapshot);
        let enough = |want: &Wanted| {
            let alike = vfs.iter().filter(|other| other.profile.name == want.profile.name).count();
            let want = ground.want(want);
            let offered = placement::explain(&want.profile, &want.bounds, snapshot, owners, &barred);
            offered.iter().map(|one| one.possible as usize).sum::<usize>() >= alike
        };
        vfs.iter().all(enough) && self.could_choose(&mdevs, snapshot, &barred).is_ok()
    }
}

/// The GPUs that could serve any of these if they had room.
fn serving(wanted: &[Wanted], snapshot: &HostSnapshot) -> BTreeSet<GpuId> {
    let mut gpus = BTreeSet::new();
    for want in wanted {
        let bounds = want.bounds();
        let matches = profile::candidates(&bounds.narrow(&want.profile), snapshot);
        let serves = matches.iter().filter(|one| one.fit.is_ok() && bounds.excludes(one).is_none());
        gpus.extend(serves.map(|one| one.gpu.id.clone()));
    }
    gpus
}
