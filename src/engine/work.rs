//! Letting the kernel do it: in a helper process or a thread, with a deadline either way.

use std::sync::atomic::Ordering;
use std::sync::{PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::{Engine, Stuck};
use crate::backend::helper::{Helper, Outcome, Running};
use crate::backend::{self, StepError};
use crate::ledger::{Change, Intent, IntentId, Need};
use crate::model::{AllocationId, Device, GpuId, Kind, Refusal, RunId, Step};

/// How a kernel change ended.
#[derive(Debug)]
pub(super) enum End {
    /// Done and read back.
    Done,
    /// Refused; nothing changed.
    Failed(Failure),
    /// Not ended within the deadline; it goes on, and its end will be noticed.
    Overrun,
}

/// Why a kernel change was refused.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// As the admin reads it.
    pub refusal: Refusal,
    /// Whether another parent may still do it.
    pub elsewhere: bool,
    /// Whether the kernel may have done it all the same.
    pub unsure: bool,
}

impl From<&StepError> for Failure {
    fn from(error: &StepError) -> Self {
        let unsure = matches!(error, StepError::NotSo { .. } | StepError::NoAnswer { .. });
        Self { refusal: error.refusal(), elsewhere: error.retry_elsewhere(), unsure }
    }
}

/// A helper that waits for its word.
#[derive(Debug)]
pub(super) struct Armed {
    intent: Intent,
    helper: Helper,
}

impl Armed {
    /// Returns the intent, with the helper's id.
    pub(super) const fn intent(&self) -> &Intent {
        &self.intent
    }

    /// Sends the helper away; it has done nothing.
    pub(super) fn dismiss(self) {
        self.helper.dismiss();
    }
}

/// Helpers whose intents are stored.
#[derive(Debug)]
pub(super) struct Announced(Vec<Armed>);

impl Engine {
    /// Makes an intent with a number that no other has.
    pub(super) fn intent(
        &self,
        step: Step,
        allocation: Option<AllocationId>,
        gpu: GpuId,
        run: RunId,
    ) -> Intent {
        let id = IntentId(self.inner.next_intent.fetch_add(1, Ordering::Relaxed));
        Intent { id, step, allocation, gpu, run, boot_id: self.inner.boot_id.clone(), helper: None }
    }

    /// Performs a step on a thread of its own. The intent is committed already.
    pub(super) fn in_thread(&self, intent: &Intent, deadline: Instant) -> End {
        let (answer, wait) = mpsc::sync_channel(1);
        let (sysfs, step) = (self.inner.sysfs.clone(), intent.step.clone());
        let spawned = std::thread::Builder::new().name("step".to_owned()).spawn(move || {
            answer.send(backend::execute(&sysfs, &step)).unwrap_or_default();
        });
        if let Err(error) = spawned {
            let text = format!("cannot start a thread for {}: {error}", intent.step);
            return End::Failed(Failure {
                refusal: Refusal::new(Kind::HostFault, text),
                elsewhere: false,
                unsure: false,
            });
        }
        match wait.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(result) => self.log_end(intent, result.as_ref().map_err(Failure::from)),
            Err(_) => {
                self.overrun(intent, move || drop(wait.recv()));
                End::Overrun
            }
        }
    }

    /// Starts a helper that does nothing until [`Engine::let_go`]; its id goes into the intent first.
    pub(super) fn arm(&self, mut intent: Intent) -> Result<Armed, Refusal> {
        let helper = Helper::spawn(&self.inner.paths).map_err(|error| {
            Refusal::new(Kind::HostFault, format!("cannot start a helper to {}: {error}", intent.step))
        })?;
        intent.helper = Some(helper.id());
        Ok(Armed { intent, helper })
    }

    /// Announces the steps of armed helpers with one commit.
    ///
    /// # Errors
    /// When the intents cannot be stored: the helpers are sent away and have done nothing. With
    /// [`Need::GiveBack`] it goes on all the same, unless the database is shut: a removal that nobody announced
    /// is safe to find half done.
    pub(super) fn announce(&self, armed: Vec<Armed>, need: Need) -> Result<Announced, Refusal> {
        if let Err(refusal) = self.writable() {
            armed.into_iter().for_each(Armed::dismiss);
            return Err(refusal);
        }
        let intents = armed.iter().map(|one| Change::OpenIntent(one.intent.clone())).collect();
        if let Err(refusal) = self.commit(intents, need) {
            if need == Need::Promise {
                armed.into_iter().for_each(Armed::dismiss);
                return Err(refusal);
            }
            tracing::warn!(error = %refusal, "giving back without a stored intent");
        }
        Ok(Announced(armed))
    }

    /// Lets announced helpers go, all at once, and waits for each.
    pub(super) fn let_go(&self, Announced(armed): Announced, deadline: Instant) -> Vec<(Intent, End)> {
        let running: Vec<(Intent, Running)> = armed
            .into_iter()
            .map(|Armed { intent, helper }| {
                let at_work = helper.go(&intent.step);
                (intent, at_work)
            })
            .collect();
        let mut ends = Vec::with_capacity(running.len());
        for (intent, helper) in running {
            let end = self.wait_helper(&intent, helper, deadline);
            ends.push((intent, end));
        }
        ends
    }

    /// Lets one announced helper go and waits for it.
    pub(super) fn release_one(&self, Armed { intent, helper }: Armed, deadline: Instant) -> (Intent, End) {
        let at_work = helper.go(&intent.step);
        let end = self.wait_helper(&intent, at_work, deadline);
        (intent, end)
    }

    fn wait_helper(&self, intent: &Intent, helper: Running, deadline: Instant) -> End {
        match helper.wait(deadline.saturating_duration_since(Instant::now())) {
            Outcome::Done => self.log_end(intent, Ok(&())),
            Outcome::Failed(error) => self.log_end(intent, Err(Failure::from(&error))),
            Outcome::Overrun(running) => {
                self.overrun(intent, move || drop(running.finish()));
                End::Overrun
            }
        }
    }

    fn log_end(&self, intent: &Intent, result: Result<&(), Failure>) -> End {
        self.note_change();
        self.inner.scanner.changed_on(&intent.gpu);
        let step = &intent.step;
        match result {
            Ok(()) => {
                tracing::info!(step = %step, "kernel change done");
                End::Done
            }
            Err(failure) => {
                tracing::debug!(step = %step, error = %failure.refusal, "kernel change refused");
                End::Failed(failure)
            }
        }
    }

    /// Notes that a kernel change of ours ended now: readings that began before do not show it.
    pub(super) fn host_was_changed(&self) {
        self.note_change();
        self.inner.scanner.changed();
    }

    fn note_change(&self) {
        *self.inner.changed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Remembers a change that goes on after its deadline, and settles its intent when it ends.
    pub(super) fn overrun(&self, intent: &Intent, wait: impl FnOnce() + Send + 'static) {
        let stuck = Stuck { what: intent.step.to_string(), since: Instant::now() };
        tracing::warn!(step = %intent.step, "kernel change goes on after its deadline, waiting for it aside");
        self.inner.stuck.lock().unwrap_or_else(PoisonError::into_inner).insert(intent.id, stuck);
        let (engine, id) = (self.clone(), intent.id);
        let spawned = std::thread::Builder::new().name("reaper".to_owned()).spawn(move || {
            wait();
            engine.inner.stuck.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            engine.settle(id);
        });
        if let Err(error) = spawned {
            tracing::error!(%error, step = %intent.step, "no thread to wait for an overrun change; restart the service once it ended");
        }
    }

    /// Returns the change of a device that overran and has not ended.
    pub(super) fn stuck_on(&self, device: Device) -> Option<Intent> {
        let stuck = self.unfinished();
        let ledger = self.ledger();
        let mut open = ledger.book().intents.values();
        open.find(|intent| {
            intent.step.device() == Some(device) && stuck.iter().any(|(id, ..)| *id == intent.id)
        })
        .cloned()
    }

    /// Returns whether a kernel change goes on after its deadline.
    #[must_use]
    pub fn has_unfinished(&self) -> bool {
        !self.unfinished().is_empty()
    }

    /// Returns the changes that overran: what, and for how long.
    pub(super) fn unfinished(&self) -> Vec<(IntentId, String, Duration)> {
        let stuck = self.inner.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        stuck.iter().map(|(id, stuck)| (*id, stuck.what.clone(), stuck.since.elapsed())).collect()
    }
}
