//! Making the slices of a domain that starts: all or nothing, on the best parents at this moment.

use std::time::Instant;

use super::Engine;
use super::admit::{self, Wanted};
use super::work::{End, Failure};
use crate::ledger::{Change, Intent, Need};
use crate::model::{Device, DeviceName, Gpu, HostSnapshot, Kind, MdevParent, Realized, Refusal, RunId, Step};
use crate::placement::{self, Barred, Choice, Want};
use crate::plan;
use crate::wire::Hook;

/// A slice that was made, or found made, during one start.
#[derive(Clone, Debug)]
struct Made {
    record: Realized,
    intent: Option<Intent>,
}

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
        let snapshot = self.fresh(deadline)?;
        let mut made = Vec::with_capacity(wanted.len());
        let mut missing = Vec::with_capacity(wanted.len());
        for want in wanted {
            match self.reusable(want, &snapshot, run)? {
                Some(record) => made.push(Made { record, intent: None }),
                None => missing.push(want.clone()),
            }
        }
        if let Err(refusal) = self.make_missing(missing, run, deadline, &mut made) {
            made.retain(|one| one.intent.is_some());
            self.defer(changes_of(&made));
            let created = made.into_iter().map(|one| one.record).collect();
            self.give_back(created, Instant::now() + super::OPERATION);
            return Err(refusal);
        }
        let mut changes = changes_of(&made);
        changes.extend(wanted.iter().map(|want| Change::PutAllocation(want.allocation.clone())));
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
        if let Some(holder) = mdev.holders.first() {
            return Err(Refusal::new(
                Kind::Busy,
                format!("mdev {uuid} of domain {} is held by {holder}", want.allocation.domain.name),
            ));
        }
        Ok(Some(Realized { run, ..record.clone() }))
    }

    fn make_missing(
        &self,
        missing: Vec<Wanted>,
        run: RunId,
        deadline: Instant,
        made: &mut Vec<Made>,
    ) -> Result<(), Refusal> {
        let mut barred = Vec::new();
        let mut missing = missing;
        while !missing.is_empty() {
            let snapshot = self.fresh(deadline)?;
            let closed = [barred.as_slice(), &self.bars_of_unfinished(&snapshot)].concat();
            let choices = self.choose(&missing, &snapshot, &closed)?;
            let intents = self.announce_round(&missing, &choices, run)?;
            let mut left = Vec::new();
            let mut failed = None;
            for ((want, choice), intent) in missing.into_iter().zip(choices).zip(intents) {
                if failed.is_some() {
                    self.defer(intent.map(|intent| Change::CloseIntent(intent.id)).into_iter().collect());
                    continue;
                }
                match self.make_one(&want, &choice, intent, run, deadline, made) {
                    Ok(None) => {}
                    Ok(Some(refusal)) => {
                        barred.extend(bars(&choice, &snapshot, &refusal));
                        left.push(want);
                    }
                    Err(refusal) => failed = Some(refusal),
                }
            }
            if let Some(refusal) = failed {
                return Err(refusal);
            }
            missing = left;
        }
        Ok(())
    }

    /// Bars GPUs whose VFs are being changed, and parents on which a creation has not ended.
    fn bars_of_unfinished(&self, snapshot: &HostSnapshot) -> Vec<Barred> {
        let stuck = self.unfinished();
        let ledger = self.ledger();
        let mut bars = Vec::new();
        for intent in ledger.book().intents.values() {
            let bar = |name: DeviceName| Barred {
                parent: name,
                mdev_type: None,
                reason: format!("is busy: {}", intent.step),
            };
            match &intent.step {
                Step::SetVfs { .. } => {
                    for gpu in snapshot.gpus.iter().filter(|gpu| gpu.id == intent.gpu) {
                        bars.push(bar(gpu.name.clone()));
                        bars.extend(gpu.parents.iter().map(|parent| bar(parent.name.clone())));
                    }
                }
                Step::CreateMdev { parent, .. } if stuck.iter().any(|(id, ..)| *id == intent.id) => {
                    bars.push(bar(parent.clone()))
                }
                Step::CreateMdev { .. } | Step::RemoveMdev { .. } | Step::BindVf { .. } => {}
            }
        }
        bars
    }

    fn choose(
        &self,
        missing: &[Wanted],
        snapshot: &HostSnapshot,
        barred: &[Barred],
    ) -> Result<Vec<Choice>, Refusal> {
        let wants: Vec<Want> = missing
            .iter()
            .map(|want| Want {
                allocation: want.allocation.id.clone(),
                profile: want.profile.clone(),
                device: want.allocation.device,
            })
            .collect();
        let owners = self.owners();
        placement::choose(&wants, snapshot, &owners, barred).map_err(Refusal::from)
    }

    /// One commit for all steps of the round. A choice that needs no kernel change has no intent.
    fn announce_round(
        &self,
        missing: &[Wanted],
        choices: &[Choice],
        run: RunId,
    ) -> Result<Vec<Option<Intent>>, Refusal> {
        let mut intents = Vec::with_capacity(choices.len());
        for (want, choice) in missing.iter().zip(choices) {
            let step = plan::step(choice);
            intents.push(
                step.map(|step| self.intent(step, Some(want.allocation.id.clone()), choice.gpu.clone(), run)),
            );
        }
        let changes = intents.iter().flatten().cloned().map(Change::OpenIntent).collect();
        self.commit(changes, Need::Promise)?;
        Ok(intents)
    }

    /// Makes one slice. `Some` is why this parent could not, though another still may.
    fn make_one(
        &self,
        want: &Wanted,
        choice: &Choice,
        intent: Option<Intent>,
        run: RunId,
        deadline: Instant,
        made: &mut Vec<Made>,
    ) -> Result<Option<Refusal>, Refusal> {
        let record = self.record_for(want, choice, run);
        let Some(intent) = intent else {
            made.push(Made { record, intent: None });
            return Ok(None);
        };
        match self.in_thread(&intent, deadline) {
            End::Done => made.push(Made { record, intent: Some(intent) }),
            End::Failed(Failure { refusal, elsewhere: true }) => {
                self.defer(vec![Change::CloseIntent(intent.id)]);
                return Ok(Some(refusal));
            }
            End::Failed(failure) => {
                self.defer(vec![Change::CloseIntent(intent.id)]);
                return Err(explain(want, failure.refusal));
            }
            End::Overrun => {
                let text = format!("{} did not end in time", intent.step);
                return Err(explain(want, Refusal::new(Kind::Busy, text)));
            }
        }
        Ok(None)
    }

    fn record_for(&self, want: &Wanted, choice: &Choice, run: RunId) -> Realized {
        Realized {
            allocation: want.allocation.id.clone(),
            device: want.allocation.device,
            gpu: choice.gpu.clone(),
            parent: choice.parent.clone(),
            mdev_type: choice.mdev_type.clone(),
            vf_id: choice.vf_id,
            boot_id: self.inner.boot_id.clone(),
            run,
        }
    }
}

/// What the ledger learns of slices that exist now.
fn changes_of(made: &[Made]) -> Vec<Change> {
    let records = made.iter().map(|one| Change::PutRealized(one.record.clone()));
    let closed =
        made.iter().filter_map(|one| one.intent.as_ref()).map(|intent| Change::CloseIntent(intent.id));
    records.chain(closed).collect()
}

/// Bars what turned out to be full for the next round. Parents of one GPU share its memory: when one has
/// no room for a type, none of them has.
fn bars(choice: &Choice, snapshot: &HostSnapshot, refusal: &Refusal) -> Vec<Barred> {
    let shares = |gpu: &Gpu, parent: &MdevParent| {
        parent.name == choice.parent || (refusal.kind == Kind::NoCapacity && gpu.id == choice.gpu)
    };
    let parents = snapshot.parents().filter(|(gpu, parent)| shares(gpu, parent));
    parents
        .map(|(_, parent)| Barred {
            parent: parent.name.clone(),
            mdev_type: choice.mdev_type.clone(),
            reason: refusal.message.clone(),
        })
        .collect()
}

fn explain(want: &Wanted, mut refusal: Refusal) -> Refusal {
    refusal.message = format!(
        "cannot make the slice of profile {} for domain {}: {}",
        want.profile.name, want.allocation.domain.name, refusal.message
    );
    refusal
}
