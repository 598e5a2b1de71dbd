//! Making the slices of a domain that starts: all or nothing, on the best parents at this moment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::admit::{self, Wanted};
use super::resume::resuming;
use super::round::{CREATE, Made, changes_of, closes_of};
use super::{Engine, foreign};
use crate::inventory::Definitions;
use crate::ledger::{Change, Need};
use crate::model::{
    Allocation, AllocationState, Device, DeviceName, HostSnapshot, Kind, MdevUuid, PciAddress, Realized,
    Refusal, RunId,
};
use crate::profile::{self, Fit};
use crate::wire::Hook;

/// How long a start waits for a change of its own slices that is under way. One that hangs is not worth more.
const ABOUT_TO_END: Duration = Duration::from_secs(2);

/// Between two looks at whether it ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Engine {
    /// Serves `prepare begin`: the slices that the domain's hostdevs name are made and verified.
    ///
    /// `hung_up` is asked at the end: when the hook no longer waits, what was made is taken back.
    /// Asking again with the same run id is harmless.
    ///
    /// # Errors
    /// One refusal for the whole start; nothing made by it is left.
    pub fn prepare(&self, hook: &Hook, deadline: Instant, hung_up: &dyn Fn() -> bool) -> Result<(), Refusal> {
        self.writable().map_err(|refusal| Refusal {
            message: format!("domain {} needs vGPU slices, and {}", hook.domain, refusal.message),
            ..refusal
        })?;
        let asked = Instant::now();
        let _domain = self.domain_turn(hook.domain_uuid, deadline)?;
        let _lane = self.capacity_turn(deadline)?;
        let mut wanted = admit::prepare(self.ledger().book(), hook)?;
        if self.is_resuming(hook) {
            wanted = wanted.iter().map(|want| self.by_the_filter(resuming(want))).collect();
        }
        self.await_open(&wanted, deadline);
        // Starts that waited for one another share a reading as long as none of them changed anything.
        let snapshot = self.read_since(asked, deadline)?;
        self.realize_from(snapshot, &wanted, hook.at, deadline)?;
        self.forget_refused(hook.domain_uuid);
        if hung_up() {
            tracing::warn!(domain = %hook.domain, "the hook hung up during prepare, taking its slices back");
            let records = self.not_kept(self.records_of(&wanted));
            self.give_back(records, Instant::now() + super::OPERATION);
            return Err(Refusal::new(Kind::Busy, "the hook no longer waits"));
        }
        tracing::info!(domain = %hook.domain, slices = wanted.len(), "domain prepared");
        Ok(())
    }

    /// The XML of a resumed guest may name another VF because the filter wrote it: nobody overruled anybody.
    fn by_the_filter(&self, mut want: Wanted) -> Wanted {
        if let Some(known) = self.ledger().book().allocations.get(&want.allocation.id) {
            want.allocation.pointing.overruled = known.pointing.overruled;
        }
        want
    }

    fn records_of(&self, wanted: &[Wanted]) -> Vec<Realized> {
        let ledger = self.ledger();
        wanted.iter().filter_map(|want| ledger.book().realized.get(&want.allocation.id).cloned()).collect()
    }

    /// Makes what `wanted` names for `run`. The caller has the domain's turn and the capacity turn.
    pub(super) fn realize(&self, wanted: &[Wanted], run: RunId, deadline: Instant) -> Result<(), Refusal> {
        self.await_open(wanted, deadline);
        let snapshot = self.fresh(deadline)?;
        self.realize_from(snapshot, wanted, run, deadline)
    }

    /// As [`Engine::realize`], where changes under way were awaited and the host was read already in the capacity turn
    /// that the caller has.
    pub(super) fn realize_from(
        &self,
        snapshot: Arc<HostSnapshot>,
        wanted: &[Wanted],
        run: RunId,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        self.refuse_unfinished(wanted)?;
        self.touch(wanted.iter().map(|want| &want.allocation.id));
        let mut cleared = Vec::new();
        let done = self
            .clear_outdated(wanted, &snapshot, deadline, &mut cleared)
            .and_then(|()| if cleared.is_empty() { Ok(snapshot) } else { self.fresh(deadline) })
            .and_then(|snapshot| self.realize_on(wanted, &snapshot, run, deadline));
        if done.is_err() {
            self.put_back(&cleared, deadline.max(Instant::now() + CREATE));
        }
        done
    }

    /// As [`Engine::realize`], on a host from which outdated slices are gone.
    fn realize_on(
        &self,
        wanted: &[Wanted],
        snapshot: &Arc<HostSnapshot>,
        run: RunId,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let mut made = Vec::with_capacity(wanted.len());
        let mut missing = Vec::with_capacity(wanted.len());
        for want in wanted {
            match self.reusable(want, snapshot, run)? {
                Some(record) => made.push(Made { record, intent: None, is_new: false }),
                None => missing.push(want.clone()),
            }
        }
        let done = self
            .make_missing(missing, Arc::clone(snapshot), run, deadline, &mut made)
            .and_then(|()| self.set_parameters(wanted, &made, snapshot, deadline))
            .and_then(|()| self.weigh(wanted, &mut made, snapshot, deadline))
            .and_then(|()| self.remember(wanted, &made));
        if let Err(refusal) = done {
            let (created, before): (Vec<Made>, Vec<Made>) = made.into_iter().partition(|one| one.is_new);
            self.defer(changes_of(&created));
            self.defer(closes_of(&before));
            let created = created.into_iter().map(|one| one.record).collect();
            for left in self.give_back(created, Instant::now() + super::OPERATION) {
                tracing::warn!(error = %left, "a slice of a refused start is left to the next look");
            }
            return Err(refusal);
        }
        Ok(())
    }

    /// An mdev tells after a crash whose it is, by its UUID and the open intent; a VF does not, so its record
    /// is stored before the start goes on.
    fn remember(&self, wanted: &[Wanted], made: &[Made]) -> Result<(), Refusal> {
        let mut changes = changes_of(made);
        changes.extend(self.tied(wanted));
        changes.extend(self.turned(wanted, made));
        if made.iter().any(|one| matches!(one.record.device, Device::Vf(_))) {
            let known = |want: &Wanted| self.ledger().book().naming(want.allocation.device).is_some();
            let all_known = wanted.iter().all(known);
            self.commit(changes, Need::Promise)?;
            // The XML may name another VF than the book did.
            return if all_known { Ok(()) } else { self.publish_owned() };
        }
        self.defer(changes);
        Ok(())
    }

    /// Where the rounds of the profiles go on that go round.
    fn turned(&self, wanted: &[Wanted], made: &[Made]) -> Vec<Change> {
        let new = made.iter().filter(|one| one.is_new && one.intent.is_some());
        let profile = |one: &Made| wanted.iter().find(|want| want.allocation.id == one.record.allocation);
        new.filter_map(|one| self.rota(&profile(one)?.profile, &one.record.gpu)).collect()
    }

    /// A start proves that the XML shows what it names.
    fn tied(&self, wanted: &[Wanted]) -> Vec<Change> {
        let ledger = self.ledger();
        let shown = wanted.iter().filter(|want| want.allocation.state == AllocationState::Attached);
        let tie = |want: &Wanted| {
            // The device too: the XML may name another VF than the book did.
            let Allocation { domain, state, until, device, pointing, .. } = want.allocation.clone();
            let now = ledger.book().allocations.get(&want.allocation.id)?;
            Some(Change::PutAllocation(Allocation { domain, state, until, device, pointing, ..now.clone() }))
        };
        shown.filter_map(tie).collect()
    }

    /// A change that a killed service left to its helper is mostly about to end: it is waited for a little.
    pub(super) fn await_open(&self, wanted: &[Wanted], deadline: Instant) {
        let limit = deadline.min(Instant::now() + ABOUT_TO_END);
        let is_open = || {
            let ledger = self.ledger();
            let mut open = ledger.book().intents.values().filter_map(|intent| intent.step.device());
            open.any(|device| wanted.iter().any(|want| want.allocation.device == device))
        };
        while is_open() && Instant::now() < limit {
            std::thread::park_timeout(LOOK_AGAIN);
        }
    }

    /// A UUID whose creation or removal has not ended cannot be used.
    fn refuse_unfinished(&self, wanted: &[Wanted]) -> Result<(), Refusal> {
        for want in wanted {
            if let Some(intent) = self.stuck_on(want.allocation.device) {
                return Err(Refusal::new(
                    Kind::Busy,
                    format!(
                        "slice {} of domain {} cannot be made: its last change has not ended ({})",
                        want.allocation.device, want.allocation.domain.name, intent.step
                    ),
                )
                .hint("it ends when whoever holds the device lets go; vgpuctl status shows it"));
            }
        }
        Ok(())
    }

    /// Removes slices of an earlier run that the profile, changed since, no longer asks for; those that went
    /// are in `cleared`.
    fn clear_outdated(
        &self,
        wanted: &[Wanted],
        snapshot: &HostSnapshot,
        deadline: Instant,
        cleared: &mut Vec<Realized>,
    ) -> Result<(), Refusal> {
        let outdated = wanted.iter().filter(|want| self.is_outdated(want, snapshot)).cloned();
        let outdated = self.records_of(&outdated.collect::<Vec<Wanted>>());
        let refusals = self.give_back(outdated.clone(), deadline);
        let ledger = self.ledger();
        let gone = |record: &Realized| !ledger.book().realized.contains_key(&record.allocation);
        cleared.extend(outdated.into_iter().filter(gone));
        refusals.into_iter().next().map_or(Ok(()), Err)
    }

    /// Returns whether a slice is there that the profile no longer asks for.
    pub(super) fn is_outdated(&self, want: &Wanted, snapshot: &HostSnapshot) -> bool {
        let ledger = self.ledger();
        let record = ledger.book().realized.get(&want.allocation.id);
        record.is_some_and(|record| {
            let there = match record.device {
                Device::Mdev(uuid) => snapshot.mdev(uuid).is_some(),
                Device::Vf(vf) => snapshot.vgpu_type_on(vf).is_some(),
            };
            there && !still_fits(want, record, snapshot)
        })
    }

    /// Returns the slice if it is there already and still what the profile asks for.
    fn reusable(
        &self,
        want: &Wanted,
        snapshot: &HostSnapshot,
        run: RunId,
    ) -> Result<Option<Realized>, Refusal> {
        let uuid = match want.allocation.device {
            Device::Mdev(uuid) => uuid,
            Device::Vf(vf) => return Ok(self.reusable_vgpu(want, vf, snapshot, run)),
        };
        let Some((_, parent, mdev)) = snapshot.mdev(uuid) else { return Ok(None) };
        let ledger = self.ledger();
        let Some(record) = ledger
            .book()
            .realized
            .get(&want.allocation.id)
            .filter(|record| record.device == want.allocation.device)
        else {
            drop(ledger);
            return Err(self.made_by_others(&want.allocation.domain.name, &parent.name, uuid));
        };
        if parent.name != record.parent || Some(&mdev.mdev_type) != record.mdev_type.as_ref() {
            let text = format!(
                "mdev {uuid} of domain {} is now a {} on {}: somebody else made it anew",
                want.allocation.domain.name, mdev.mdev_type, parent.name
            );
            return Err(Refusal::new(Kind::Conflict, text)
                .hint(format!("remove it as it was made; the next start makes {uuid} again")));
        }
        if !still_fits(want, record, snapshot) {
            return Ok(None);
        }
        if let Some(holder) = mdev.holders.first() {
            return Err(Refusal::new(
                Kind::Busy,
                format!("mdev {uuid} of domain {} is held by {holder}", want.allocation.domain.name),
            ));
        }
        Ok(Some(Realized { run, ..record.clone() }))
    }
}

impl Engine {
    /// The vGPU that a VF has from an earlier run, or is guaranteed. One that is not ours is placement's matter:
    /// it refuses, and tells whose it is.
    fn reusable_vgpu(
        &self,
        want: &Wanted,
        vf: PciAddress,
        snapshot: &HostSnapshot,
        run: RunId,
    ) -> Option<Realized> {
        let (_, found) = snapshot.vf(vf)?;
        let now = found.vgpu_type()?;
        let ledger = self.ledger();
        let record = ledger.book().realized.get(&want.allocation.id)?;
        let same = record.device == want.allocation.device && record.mdev_type.as_ref() == Some(now);
        let usable = same && found.holders.is_empty() && still_fits(want, record, snapshot);
        usable.then(|| Realized { run, ..record.clone() })
    }

    /// The refusal of a start whose mdev somebody else made, with the tool where it can be told.
    fn made_by_others(&self, domain: &str, parent: &DeviceName, uuid: MdevUuid) -> Refusal {
        let maker = foreign::maker(&Definitions::read(&self.inner.sysfs), parent, uuid);
        let by = maker.as_ref().map(|maker| format!(" ({maker})")).unwrap_or_default();
        let text = format!(
            "mdev {uuid} promised to domain {domain} exists already on {parent} and was not made by vgpud{by}"
        );
        let refusal = Refusal::new(Kind::Conflict, text);
        match maker {
            Some(_) => refusal.hint(foreign::undefine(uuid)),
            None => refusal.hint(
                "mdevctl or libvirt's node devices may start it by themselves: mdevctl list, virsh nodedev-list --cap mdev",
            ),
        }
        .hint(format!("vgpuctl adopt {domain} takes it over as it is"))
    }
}

/// Returns whether a slice that exists is what its profile asks for today.
fn still_fits(want: &Wanted, record: &Realized, snapshot: &HostSnapshot) -> bool {
    let bounds = want.bounds();
    profile::candidates(&bounds.narrow(&want.profile), snapshot).iter().any(|matched| {
        let parent = matched.parent.as_str() == record.parent.as_str() && bounds.excludes(matched).is_none();
        let made = |fit: &Fit<'_>| fit.type_id() == record.mdev_type.as_ref();
        parent && matched.fit.as_ref().is_ok_and(made)
    })
}
