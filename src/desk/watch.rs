//! The keeper: looks at libvirt's domains at events, at the ends of leases, and now and then.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::index::Indexes;
use super::{CALL, Desk, ours};
use crate::clock;
use crate::domain_xml;
use crate::engine::{SavedImages, Seen, SeenDomain};
use crate::libvirt::{Definition, Event, Hypervisor, Images, Listed, VirtError};
use crate::model::DomainUuid;

/// How often domains are looked at while there is anything they could change, without any event.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How often while a kernel change has overrun its deadline.
const UNFINISHED: Duration = Duration::from_secs(5);

/// How long events are collected before a look: a start or stop brings several.
const SETTLE: Duration = Duration::from_millis(150);

/// The longest that a stream of events puts a look off.
const MOST_SETTLE: Duration = Duration::from_secs(1);

/// Whose definitions are read.
enum Wanted {
    All,
    /// Sorted.
    These(Vec<DomainUuid>),
}

impl Desk {
    /// Asks libvirt for its domains and lets the engine act on the answer. Returns whether libvirt answered.
    pub fn look(&self) -> bool {
        if self.engine.read_only().is_some() {
            // Nothing would be done; asked all the same, so that the state of the connection is known.
            let asked = self.link.call("list domains", CALL, |host| host.list().map(drop));
            return matches!(asked, Ok(()) | Err(VirtError::Off));
        }
        let wanted = self.wanted();
        let asked_at = clock::boottime();
        match self.link.call("list domains", CALL, move |host| report(host, &wanted)) {
            Ok((domains, indexes)) => {
                self.looked.store(true, Ordering::SeqCst);
                let seen = Seen { asked_at, domains };
                self.engine.look(&seen);
                self.mend_indexes(&seen, &indexes);
                true
            }
            Err(VirtError::Off) => {
                self.engine.end_leases();
                true
            }
            Err(error) => {
                tracing::debug!(%error, "libvirt's domains cannot be looked at now");
                false
            }
        }
    }

    /// The first look is at all: promises that no ledger knows are told by their aliases only. Later ones are at
    /// those with promises, and at those where something was odd.
    fn wanted(&self) -> Wanted {
        if !self.looked.load(Ordering::SeqCst) {
            return Wanted::All;
        }
        let mut domains: Vec<DomainUuid> =
            self.engine.book().allocations.values().map(|one| one.domain.uuid).collect();
        domains.extend(self.engine.odd_domains());
        domains.sort_unstable();
        domains.dedup();
        Wanted::These(domains)
    }

    /// Looks at libvirt's domains at events, at the ends of leases, and now and then. Does not return.
    pub fn watch(&self, events: &Receiver<Event>) {
        let mut failures = 0u32;
        loop {
            let answered = self.look();
            failures = if answered { 0 } else { failures.saturating_add(1) };
            match events.recv_timeout(self.pause(failures)) {
                Ok(event) => {
                    self.settle(event, events);
                    // Who holds a device has no kernel event; a domain that starts or is plugged has this one.
                    self.engine.guests_changed();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn settle(&self, first: Event, events: &Receiver<Event>) {
        if first == Event::Closed {
            tracing::info!("the libvirt connection ended, connecting again");
        }
        let end = Instant::now() + MOST_SETTLE;
        while let Ok(event) = events.recv_timeout(SETTLE.min(end.saturating_duration_since(Instant::now()))) {
            tracing::trace!(?event, "libvirt event");
            if Instant::now() >= end {
                return;
            }
        }
    }

    /// Nothing promised and libvirt answers: only events matter. Else until the next lease ends, and at
    /// least every minute; a libvirt that does not answer is asked again after 1, 2, 4, … 60 s.
    fn pause(&self, failures: u32) -> Duration {
        let retry = Duration::from_secs(1 << failures.saturating_sub(1).min(6)).min(LOOK_EVERY);
        let quiet = if self.engine.has_promises() { LOOK_EVERY } else { Duration::from_secs(3600) };
        // What a look could not give back because a change of it had not ended is asked for again soon.
        let quiet = if self.engine.has_unfinished() { UNFINISHED } else { quiet };
        let limit = if failures > 0 { retry } else { quiet };
        let until = self.engine.next_end().map(|end| end.saturating_sub(clock::epoch_seconds()));
        match until.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0) {
            Some(seconds) => limit.min(Duration::from_secs(seconds)),
            None => limit,
        }
    }
}

fn report(
    host: &mut dyn Hypervisor,
    wanted: &Wanted,
) -> Result<(BTreeMap<DomainUuid, SeenDomain>, Indexes), VirtError> {
    let (mut domains, mut indexes) = (BTreeMap::new(), Indexes::new());
    for Listed { domain, active, persistent } in host.list()? {
        let mut seen = SeenDomain { name: domain.name, active, inactive: None, live: None, images: None };
        let meant = match wanted {
            Wanted::All => true,
            Wanted::These(domains) => domains.binary_search(&domain.uuid).is_ok(),
        };
        if meant {
            let inactive = host.xml(domain.uuid, Definition::Inactive).ok();
            seen.inactive = inactive.as_deref().and_then(ours);
            if let Some(xml) = inactive.filter(|_| persistent) {
                indexes.insert(domain.uuid, domain_xml::index(&xml).unwrap_or_default());
            }
            let images = host.images(domain.uuid).ok();
            seen.images = images.map(|Images { managed_save, memory_snapshot }| SavedImages {
                managed_save,
                memory_snapshot,
            });
            if active {
                seen.live = host.xml(domain.uuid, Definition::Live).ok().as_deref().and_then(ours);
            }
        }
        domains.insert(domain.uuid, seen);
    }
    Ok((domains, indexes))
}
