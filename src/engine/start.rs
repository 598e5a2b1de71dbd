//! Making the slices of a domain that starts: all or nothing, on the best parents at this moment.

use std::time::Instant;

use super::Engine;
use super::admit::{self, Wanted};
use super::round::{Made, changes_of};
use crate::ledger::{Change, Need};
use crate::model::{Device, HostSnapshot, Kind, Realized, Refusal, RunId};
use crate::profile::{self, Fit};
use crate::wire::Hook;

impl Engine {
    /// Serves `prepare begin`: the slices that the domain's hostdevs name are made and verified.
    ///
    /// `hung_up` is asked at the end: when the hook no longer waits, what was made is taken back.
    /// Asking again with the same run id is harmless.
    ///
    /// # Errors
    /// One refusal for the whole start; nothing made by it is left.
    pub fn prepare(&self, hook: &Hook, deadline: Instant, hung_up: &dyn Fn() -> bool) -> Result<(), Refusal> {
        let _domain = self.domain_turn(hook.domain_uuid, deadline)?;
        let _lane = self.capacity_turn(deadline)?;
        let wanted = admit::prepare(self.ledger().book(), hook)?;
        self.realize(&wanted, hook.at, deadline)?;
        if hung_up() {
            tracing::warn!(domain = %hook.domain, "the hook hung up during prepare, taking its slices back");
            let records = self.records_of(&wanted);
            self.give_back(records, Instant::now() + super::OPERATION);
            return Err(Refusal::new(Kind::Busy, "the hook no longer waits"));
        }
        tracing::info!(domain = %hook.domain, slices = wanted.len(), "domain prepared");
        Ok(())
    }

    fn records_of(&self, wanted: &[Wanted]) -> Vec<Realized> {
        let ledger = self.ledger();
        wanted.iter().filter_map(|want| ledger.book().realized.get(&want.allocation.id).cloned()).collect()
    }

    /// Makes what `wanted` names for `run`. The caller has the domain's turn and the capacity turn.
    pub(super) fn realize(&self, wanted: &[Wanted], run: RunId, deadline: Instant) -> Result<(), Refusal> {
        self.refuse_unfinished(wanted)?;
        self.touch(wanted.iter().map(|want| &want.allocation.id));
        let mut snapshot = self.fresh(deadline)?;
        if self.clear_outdated(wanted, &snapshot)? {
            snapshot = self.fresh(deadline)?;
        }
        let mut made = Vec::with_capacity(wanted.len());
        let mut missing = Vec::with_capacity(wanted.len());
        for want in wanted {
            match self.reusable(want, &snapshot, run)? {
                Some(record) => made.push(Made { record, intent: None, is_new: false }),
                None => missing.push(want.clone()),
            }
        }
        let done =
            self.make_missing(missing, run, deadline, &mut made).and_then(|()| self.remember(wanted, &made));
        if let Err(refusal) = done {
            made.retain(|one| one.is_new);
            self.defer(changes_of(&made));
            let created = made.into_iter().map(|one| one.record).collect();
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
        changes.extend(wanted.iter().map(|want| Change::PutAllocation(want.allocation.clone())));
        if made.iter().any(|one| matches!(one.record.device, Device::Vf(_))) {
            return self.commit(changes, Need::Promise);
        }
        self.defer(changes);
        Ok(())
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

    /// Removes slices of an earlier run that the profile, changed since, no longer asks for. Returns
    /// whether there were any.
    fn clear_outdated(&self, wanted: &[Wanted], snapshot: &HostSnapshot) -> Result<bool, Refusal> {
        let outdated: Vec<Realized> = {
            let ledger = self.ledger();
            let records = wanted.iter().filter_map(|want| {
                let record = ledger.book().realized.get(&want.allocation.id)?;
                (!still_fits(want, record, snapshot)).then(|| record.clone())
            });
            records
                .filter(|record| matches!(record.device, Device::Mdev(uuid) if snapshot.mdev(uuid).is_some()))
                .collect()
        };
        let any = !outdated.is_empty();
        let refusals = self.give_back(outdated, Instant::now() + super::OPERATION);
        refusals.into_iter().next().map_or(Ok(any), Err)
    }

    /// Returns the slice if it is there already and still what the profile asks for.
    fn reusable(
        &self,
        want: &Wanted,
        snapshot: &HostSnapshot,
        run: RunId,
    ) -> Result<Option<Realized>, Refusal> {
        let Device::Mdev(uuid) = want.allocation.device else { return Ok(None) };
        let Some((_, parent, mdev)) = snapshot.mdev(uuid) else { return Ok(None) };
        let ledger = self.ledger();
        let Some(record) = ledger
            .book()
            .realized
            .get(&want.allocation.id)
            .filter(|record| record.device == want.allocation.device)
        else {
            return Err(Refusal::new(
                Kind::Conflict,
                format!("mdev {uuid} promised to domain {} exists already on {} and was not made by vgpud", want.allocation.domain.name, parent.name),
            )
            .hint("mdevctl or libvirt's node devices may start it by themselves: mdevctl list, virsh nodedev-list --cap mdev"));
        };
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

/// Returns whether a slice that exists is what its profile asks for today.
fn still_fits(want: &Wanted, record: &Realized, snapshot: &HostSnapshot) -> bool {
    profile::candidates(&want.profile, snapshot).iter().any(|matched| {
        let parent = matched.parent.as_str() == record.parent.as_str();
        parent && matches!(&matched.fit, Ok(Fit::Type(mdev_type)) if Some(&mdev_type.id) == record.mdev_type.as_ref())
    })
}
