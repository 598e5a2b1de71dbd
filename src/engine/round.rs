//! One round of making slices: choose, announce, make; parents that turn out to be full are barred for the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Engine;
use super::admit::Wanted;
use super::work::{Armed, End, Failure};
use crate::backend;
use crate::ledger::{Change, Intent, Need};
use crate::model::{
    Device, DeviceName, Gpu, HostDriver, HostSnapshot, Kind, MdevParent, Quantum, Realized, Refusal, RunId,
    Step,
};
use crate::placement::{Barred, Choice};
use crate::plan;

/// How long one creation is waited for: others wait behind it for their turn.
pub(super) const CREATE: Duration = Duration::from_secs(4);

/// A slice that was made, or found made, during one start.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) record: Realized,
    pub(super) intent: Option<Intent>,
    /// Made by this start, not found from an earlier one.
    pub(super) is_new: bool,
}

/// Who does a step.
#[derive(Debug)]
enum Work {
    Nothing,
    Thread(Intent),
    Helper(Armed),
}

/// One slice with its place and the step that makes it.
#[derive(Debug)]
struct Job {
    want: Wanted,
    choice: Choice,
    work: Work,
}

impl Job {
    fn intent(&self) -> Option<&Intent> {
        match &self.work {
            Work::Nothing => None,
            Work::Thread(intent) => Some(intent),
            Work::Helper(armed) => Some(armed.intent()),
        }
    }

    /// Sends a waiting helper away; nothing was done.
    fn dismiss(self) {
        if let Work::Helper(armed) = self.work {
            armed.dismiss();
        }
    }
}

impl Engine {
    /// Makes what is missing, round by round, until all is made or nothing has room. `snapshot` was read in
    /// the capacity turn that the caller holds; it serves the first round.
    pub(super) fn make_missing(
        &self,
        missing: Vec<Wanted>,
        snapshot: Arc<HostSnapshot>,
        run: RunId,
        deadline: Instant,
        made: &mut Vec<Made>,
    ) -> Result<(), Refusal> {
        let mut barred = Vec::new();
        let mut missing = missing;
        let mut snapshot = snapshot;
        while !missing.is_empty() {
            let closed = [barred.as_slice(), &self.bars_of_unfinished(&snapshot)].concat();
            let choices = self.choose(&missing, made, &snapshot, &closed)?;
            self.check_quota(&missing, &choices, made, &snapshot)?;
            let jobs = self.announce_round(missing, choices, run)?;
            missing = self.make_round(jobs, &snapshot, run, deadline, made, &mut barred)?;
            if !missing.is_empty() {
                snapshot = self.fresh(deadline)?;
            }
        }
        Ok(())
    }

    /// Makes the slices of a round. Returns those whose parent turned out to be full.
    fn make_round(
        &self,
        jobs: Vec<Job>,
        snapshot: &HostSnapshot,
        run: RunId,
        deadline: Instant,
        made: &mut Vec<Made>,
        barred: &mut Vec<Barred>,
    ) -> Result<Vec<Wanted>, Refusal> {
        let mut left = Vec::new();
        let mut failed = None;
        for job in jobs {
            if failed.is_some() {
                self.defer(job.intent().map(|intent| Change::CloseIntent(intent.id)).into_iter().collect());
                job.dismiss();
                continue;
            }
            let (want, choice) = (job.want.clone(), job.choice.clone());
            match self.make_one(job, run, deadline, made) {
                Ok(None) => {}
                Ok(Some(refusal)) => {
                    let more = bars(&choice, snapshot, &refusal, barred);
                    barred.extend(more);
                    left.push(want);
                }
                Err(refusal) => failed = Some(refusal),
            }
        }
        failed.map_or(Ok(left), Err)
    }

    /// Bars GPUs whose VFs are being changed, and parents on which a creation has not ended.
    pub(super) fn bars_of_unfinished(&self, snapshot: &HostSnapshot) -> Vec<Barred> {
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
                Step::SetVgpuType { vf: device, .. }
                | Step::TakeGpu { gpu: device, .. }
                | Step::ReturnGpu { gpu: device, .. }
                    if stuck.iter().any(|(id, ..)| *id == intent.id) =>
                {
                    bars.extend(device.to_string().parse().ok().map(bar));
                }
                Step::CreateMdev { .. }
                | Step::SetVgpuType { .. }
                | Step::RemoveMdev { .. }
                | Step::SetAutoprobe { .. }
                | Step::SetQuantum { .. }
                | Step::SetParameters { .. }
                | Step::TakeGpu { .. }
                | Step::ReturnGpu { .. }
                | Step::BindVf { .. } => {}
            }
        }
        bars
    }

    /// One commit for all steps of the round, with the ids of the helpers that will do those that can sleep.
    fn announce_round(
        &self,
        missing: Vec<Wanted>,
        choices: Vec<Choice>,
        run: RunId,
    ) -> Result<Vec<Job>, Refusal> {
        let mut jobs = Vec::with_capacity(choices.len());
        for (want, choice) in missing.into_iter().zip(choices) {
            let step = plan::step(&choice);
            let intent =
                step.map(|step| self.intent(step, Some(want.allocation.id.clone()), choice.gpu.clone(), run));
            let work = match intent {
                None => Work::Nothing,
                Some(intent) if backend::may_block(&intent.step) => Work::Helper(self.arm(intent)?),
                Some(intent) => Work::Thread(intent),
            };
            jobs.push(Job { want, choice, work });
        }
        let intents = jobs.iter().filter_map(Job::intent).cloned().map(Change::OpenIntent).collect();
        match self.commit(intents, Need::Promise) {
            Ok(()) => Ok(jobs),
            Err(refusal) => {
                jobs.into_iter().for_each(Job::dismiss);
                Err(refusal)
            }
        }
    }

    /// Makes one slice. `Some` is why this parent could not, though another still may.
    fn make_one(
        &self,
        job: Job,
        run: RunId,
        deadline: Instant,
        made: &mut Vec<Made>,
    ) -> Result<Option<Refusal>, Refusal> {
        let record = self.record_for(&job, run);
        let (intent, end) = match job.work {
            Work::Nothing => {
                let is_new = !self.is_known(&record);
                made.push(Made { record, intent: None, is_new });
                return Ok(None);
            }
            Work::Thread(intent) => {
                let end = self.in_thread(&intent, deadline.min(Instant::now() + CREATE));
                (intent, end)
            }
            Work::Helper(armed) => self.release_one(armed, deadline),
        };
        match end {
            End::Done => {
                let is_new = !self.is_known(&record);
                made.push(Made { record, intent: Some(intent), is_new });
            }
            End::Failed(Failure { refusal, unsure: true, .. }) => {
                // Something may be there: the host is asked, and what is there goes.
                self.overrun(&intent, || ());
                return Err(explain(&job.want, refusal));
            }
            End::Failed(Failure { refusal, elsewhere, .. }) => {
                self.close_failed(&intent);
                // A VF is named by the domain's XML: another one is a matter of re-pointing.
                let elsewhere = elsewhere && matches!(job.want.allocation.device, Device::Mdev(_));
                return if elsewhere { Ok(Some(refusal)) } else { Err(explain(&job.want, refusal)) };
            }
            End::Overrun => {
                let text = format!("{} did not end in time", intent.step);
                return Err(explain(&job.want, Refusal::new(Kind::Busy, text)));
            }
        }
        Ok(None)
    }

    /// A VF that is guaranteed is its allocation's before a start takes it, and stays so when that fails.
    fn is_known(&self, record: &Realized) -> bool {
        let vf = record.device.vf().is_some();
        let ledger = self.ledger();
        let known = ledger.book().realized.get(&record.allocation);
        vf && known.is_some_and(|known| known.device == record.device)
    }

    /// Closed durably: an intent that is found open after a crash would take a foreign mdev of the same
    /// UUID for its own.
    fn close_failed(&self, intent: &Intent) {
        let close = || vec![Change::CloseIntent(intent.id)];
        if self.commit(close(), Need::GiveBack).is_err() {
            self.defer(close());
        }
    }

    fn record_for(&self, Job { want, choice, .. }: &Job, run: RunId) -> Realized {
        Realized {
            allocation: want.allocation.id.clone(),
            device: want.allocation.device,
            gpu: choice.gpu.clone(),
            parent: choice.parent.clone(),
            mdev_type: choice.mdev_type.clone(),
            vf_id: choice.vf_id,
            boot_id: self.inner.boot_id.clone(),
            run,
            before: self.drivers_before(want, choice),
            quantum_before: self.quantum_before(want),
        }
    }

    /// What a VF goes back to: the turns that it had first, also when they did not come back after a run before.
    fn quantum_before(&self, want: &Wanted) -> Option<Quantum> {
        let ledger = self.ledger();
        let known = ledger.book().realized.get(&want.allocation.id)?;
        known.quantum_before.filter(|_| known.device == want.allocation.device)
    }

    /// What a whole GPU goes back to: the drivers from which it was taken first, also when it was taken in a run before
    /// and did not come back.
    fn drivers_before(&self, want: &Wanted, choice: &Choice) -> Vec<HostDriver> {
        let ledger = self.ledger();
        let known = ledger.book().realized.get(&want.allocation.id);
        let known = known.filter(|record| record.device == want.allocation.device);
        merged(known.map(|record| record.before.clone()).unwrap_or_default(), &choice.functions)
    }
}

/// Adds the functions that are not remembered yet.
pub(super) fn merged(mut before: Vec<HostDriver>, now: &[HostDriver]) -> Vec<HostDriver> {
    for one in now {
        if before.iter().all(|known| known.function != one.function) {
            before.push(one.clone());
        }
    }
    before
}

/// What the ledger learns of slices that exist now.
pub(super) fn changes_of(made: &[Made]) -> Vec<Change> {
    let records = made.iter().map(|one| Change::PutRealized(one.record.clone()));
    records.chain(closes_of(made)).collect()
}

/// What made them has ended.
pub(super) fn closes_of(made: &[Made]) -> Vec<Change> {
    let intents = made.iter().filter_map(|one| one.intent.as_ref());
    intents.map(|intent| Change::CloseIntent(intent.id)).collect()
}

/// Bars what turned out to be full for the next round. Parents of one GPU share its memory: when one has
/// no room for a type, none of them has. And a GPU of which a second parent fails is not asked 30 times more.
fn bars(choice: &Choice, snapshot: &HostSnapshot, refusal: &Refusal, barred: &[Barred]) -> Vec<Barred> {
    let before = |parent: &MdevParent| {
        let same = |bar: &Barred| bar.parent == parent.name && bar.mdev_type == choice.mdev_type;
        barred.iter().any(same)
    };
    let ours = snapshot.gpus.iter().filter(|gpu| gpu.id == choice.gpu);
    let whole = refusal.kind == Kind::NoCapacity || ours.flat_map(|gpu| &gpu.parents).any(before);
    let shares =
        |gpu: &Gpu, parent: &MdevParent| parent.name == choice.parent || (whole && gpu.id == choice.gpu);
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
