//! Taking slices away: what a run made, what a sweep found, what an admin removes.

use std::time::{Duration, Instant};

use super::Engine;
use super::settle::gone;
use super::work::End;
use crate::ledger::{Change, Need};
use crate::model::{Device, Kind, Realized, Refusal, Step};
use crate::wire::Hook;

/// How long a removal is waited for before it is left to its reaper.
pub(super) const REMOVAL: Duration = Duration::from_secs(6);

impl Engine {
    /// Serves `release end`: takes away what this domain's run made, and nothing that a newer run made.
    ///
    /// Never fails: what could not be removed stays in the ledger for the next sweep.
    pub fn release(&self, hook: &Hook, deadline: Instant) {
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
        let count = records.len();
        let left = self.give_back(records, deadline);
        if count > 0 {
            tracing::info!(domain = %hook.domain, slices = count, left = left.len(), "domain released");
        }
    }

    /// Nothing in the kernel changes when a VF is given back, so nothing there would refuse it while a guest has it.
    fn refuse_held_vf(&self, record: &Realized, deadline: Instant) -> Result<(), Refusal> {
        let snapshot = self.fresh(deadline)?;
        let holder = record
            .device
            .vf()
            .and_then(|address| snapshot.vf(address))
            .and_then(|(_, vf)| vf.holders.first());
        match holder {
            Some(holder) => {
                Err(Refusal::new(Kind::Busy, format!("VF {} is held by {holder}", record.device)))
            }
            None => Ok(()),
        }
    }

    /// Removes slices and forgets those that are gone. Returns why each of the others is still there.
    pub(super) fn give_back(&self, records: Vec<Realized>, deadline: Instant) -> Vec<Refusal> {
        let deadline = deadline.min(Instant::now() + REMOVAL);
        let mut refusals = Vec::new();
        let mut armed = Vec::new();
        let mut forgotten = Vec::new();
        for record in records {
            let Device::Mdev(uuid) = record.device else {
                match self.refuse_held_vf(&record, deadline) {
                    Ok(()) => forgotten.push(Change::DeleteRealized(record.allocation)),
                    Err(refusal) => refusals.push(refusal),
                }
                continue;
            };
            if let Some(stuck) = self.stuck_on(record.device) {
                let text = format!("{} has not ended yet; it is waited for", stuck.step);
                refusals.push(Refusal::new(Kind::Busy, text));
                continue;
            }
            let intent =
                self.intent(Step::RemoveMdev { uuid }, Some(record.allocation), record.gpu, record.run);
            match self.arm(intent) {
                Ok(one) => armed.push(one),
                Err(refusal) => refusals.push(refusal),
            }
        }
        if !forgotten.is_empty() {
            self.defer(forgotten);
        }
        if armed.is_empty() {
            return refusals;
        }
        let announced = match self.announce(armed, Need::GiveBack) {
            Ok(announced) => announced,
            Err(refusal) => return vec![refusal],
        };
        for (intent, end) in self.let_go(announced, deadline) {
            match end {
                End::Done => {
                    let mut changes = match intent.step.device() {
                        Some(device) => gone(self.ledger().book(), device),
                        None => Vec::new(),
                    };
                    changes.push(Change::CloseIntent(intent.id));
                    self.defer(changes);
                }
                End::Failed(failure) => {
                    tracing::warn!(step = %intent.step, error = %failure.refusal, "slice not given back, leaving it to the next sweep");
                    self.defer(vec![Change::CloseIntent(intent.id)]);
                    refusals.push(failure.refusal);
                }
                End::Overrun => refusals.push(Refusal::new(
                    Kind::Busy,
                    format!("{} has not ended yet; it is waited for", intent.step),
                )),
            }
        }
        refusals
    }
}
