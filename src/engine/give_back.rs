//! Taking slices away: what a run made, what a sweep found, what an admin removes.

use std::time::{Duration, Instant};

use super::Engine;
use super::drift::is_where;
use super::settle::gone;
use super::work::{Armed, End};
use crate::ledger::{Change, Intent, Need};
use crate::model::{Allocation, Device, Kind, Realized, Refusal, Step};
use crate::wire::Hook;

/// How long a removal is waited for before it is left to its reaper.
pub(super) const REMOVAL: Duration = Duration::from_secs(6);

impl Engine {
    /// Serves `release end`: takes away what this domain's run made, and nothing that a newer run made.
    ///
    /// Never fails: what could not be removed stays in the ledger for the next sweep.
    pub fn release(&self, hook: &Hook, deadline: Instant) {
        if self.read_only().is_some() {
            tracing::warn!(domain = %hook.domain, "nothing is given back until the database is made anew");
            return;
        }
        let Ok(_domain) = self.domain_turn(hook.domain_uuid, deadline) else {
            tracing::warn!(domain = %hook.domain, "release had to wait too long, leaving it to the next sweep");
            return;
        };
        let records: Vec<Realized> = {
            let ledger = self.ledger();
            let book = ledger.book();
            book.of_domain(hook.domain_uuid)
                .filter_map(|allocation| book.realized.get(&allocation.id))
                .filter(|record| record.run < hook.at)
                .cloned()
                .collect()
        };
        let (count, kept) = (records.len(), self.kept_of(&records));
        let left = self.give_back(self.not_kept(records), deadline);
        if count > 0 {
            tracing::info!(domain = %hook.domain, slices = count, kept = kept.len(), left = left.len(), "domain released");
        }
        self.renew_released(&kept, deadline);
        // Nobody waits for a stop as for a start; and what is made anew under the same UUID before this is on the
        // disk would be taken for ours after a kill.
        self.flush();
    }

    fn kept_of(&self, records: &[Realized]) -> Vec<Allocation> {
        let ledger = self.ledger();
        let book = ledger.book();
        let kept = records.iter().filter(|record| book.keeps(&record.allocation));
        kept.filter_map(|record| book.allocations.get(&record.allocation)).cloned().collect()
    }

    /// A profile that was changed during the run has waited for its end.
    fn renew_released(&self, kept: &[Allocation], deadline: Instant) {
        for allocation in kept {
            match self.renew_in_turn(allocation, deadline) {
                Ok(false) => {}
                Ok(true) => {
                    tracing::info!(allocation = %allocation.id, "guaranteed slice made anew: its profile was changed")
                }
                Err(refusal) => {
                    tracing::warn!(allocation = %allocation.id, error = %refusal, "guaranteed slice stays as it was, its next start tries again")
                }
            }
        }
    }

    /// Nothing in the kernel changes when a VF is given back, so nothing there would refuse it while a guest has it.
    /// Returns the turns to put back, where a weight changed them.
    fn free_vf(&self, record: &Realized, deadline: Instant) -> Result<Option<Step>, Refusal> {
        let snapshot = self.fresh(deadline)?;
        let Some((_, vf)) = record.device.vf().and_then(|address| snapshot.function(address)) else {
            return Ok(None);
        };
        if let Some(holder) = vf.holders.first() {
            return Err(Refusal::new(Kind::Busy, format!("VF {} is held by {holder}", record.device)));
        }
        let back = record.quantum_before.filter(|before| vf.quantum != Some(*before));
        Ok(back.map(|quantum| Step::SetQuantum {
            vf: vf.address,
            quantum,
            before: vf.quantum.unwrap_or_default(),
        }))
    }

    /// Returns whether the slice is on another parent or of another type than we made it: then it is not ours.
    fn is_replaced(&self, record: &Realized, deadline: Instant) -> bool {
        // Of a host that cannot be read nothing is concluded.
        self.since_change(deadline).is_some_and(|snapshot| !is_where(record, &snapshot))
    }

    /// Removes slices and forgets those that are gone. Returns why each of the others is still there.
    pub(super) fn give_back(&self, records: Vec<Realized>, deadline: Instant) -> Vec<Refusal> {
        let deadline = deadline.min(Instant::now() + REMOVAL);
        let mut refusals = Vec::new();
        let mut armed = Vec::new();
        for record in records {
            match self.begin_removal(record, deadline) {
                Ok(one) => armed.extend(one),
                Err(refusal) => refusals.push(refusal),
            }
        }
        if armed.is_empty() {
            return refusals;
        }
        let announced = match self.announce(armed, Need::GiveBack) {
            Ok(announced) => announced,
            Err(refusal) => return vec![refusal],
        };
        let ends = self.let_go(announced, deadline);
        refusals.extend(ends.into_iter().filter_map(|(intent, end)| self.end_removal(&intent, end)));
        refusals
    }

    /// Arms the helper that removes an mdev or the vGPU of a VF, gives a whole GPU back, or a VF the turns that it had.
    /// A bare VF with its own turns needs none: its record is forgotten.
    fn begin_removal(&self, record: Realized, deadline: Instant) -> Result<Option<Armed>, Refusal> {
        let step = match (record.device, &record.mdev_type) {
            (Device::Mdev(uuid), _) => Step::RemoveMdev { uuid },
            (Device::Vf(vf), Some(vgpu_type)) => {
                Step::SetVgpuType { vf, vgpu_type: None, before: Some(vgpu_type.clone()) }
            }
            (Device::Vf(gpu), None) if !record.before.is_empty() => {
                Step::ReturnGpu { gpu, functions: record.before.clone() }
            }
            (Device::Vf(_), None) => match self.free_vf(&record, deadline)? {
                Some(step) => step,
                None => {
                    self.defer(vec![Change::DeleteRealized(record.allocation)]);
                    return Ok(None);
                }
            },
        };
        if let Some(stuck) = self.stuck_on(record.device) {
            return Err(Refusal::new(
                Kind::Busy,
                format!("{} has not ended yet; it is waited for", stuck.step),
            ));
        }
        if self.is_replaced(&record, deadline) {
            tracing::warn!(device = %record.device, allocation = %record.allocation, "somebody made this slice again, leaving it to them");
            self.defer(vec![Change::DeleteRealized(record.allocation)]);
            return Ok(None);
        }
        self.arm(self.intent(step, Some(record.allocation), record.gpu, record.run)).map(Some)
    }

    /// Closes a removal. Returns why the slice is still there.
    fn end_removal(&self, intent: &Intent, end: End) -> Option<Refusal> {
        match end {
            End::Done => {
                let mut ledger = self.ledger();
                let forgotten =
                    intent.step.device().map(|device| gone(ledger.book(), device)).unwrap_or_default();
                ledger.defer(forgotten.into_iter().chain([Change::CloseIntent(intent.id)]).collect());
                drop(ledger);
                self.nudge();
                None
            }
            End::Failed(failure) => {
                tracing::warn!(step = %intent.step, error = %failure.refusal, "slice not given back, leaving it to the next sweep");
                self.defer(vec![Change::CloseIntent(intent.id)]);
                Some(failure.refusal)
            }
            End::Overrun => {
                Some(Refusal::new(Kind::Busy, format!("{} has not ended yet; it is waited for", intent.step)))
            }
        }
    }
}
