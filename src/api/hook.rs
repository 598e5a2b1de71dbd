//! `POST /v1/hook`: libvirt's words, through `vgpu-hook`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{ConnectInfo, State};

use super::routes::{Body, run_always};
use super::{Caller, No, Shared};
use crate::clock;
use crate::engine::Happened;
use crate::model::RunId;
use crate::wire::{Change, Hook, HookAnswer, HookOp};

/// From the hook's start to our answer; the hook itself gives up after 9.5 s, libvirt holds the domain's lock meanwhile.
const ANSWER_WITHIN: Duration = Duration::from_millis(8500);

/// Tells the operation that nobody waits for its answer: the handler's future was dropped.
pub(super) struct HangUp {
    flag: Arc<AtomicBool>,
    answered: bool,
}

impl HangUp {
    /// Returns one, and what it will tell.
    pub(super) fn new() -> (Self, Arc<AtomicBool>) {
        let flag = Arc::new(AtomicBool::new(false));
        (Self { flag: Arc::clone(&flag), answered: false }, flag)
    }

    /// The answer is there: a hang-up from here on is of no interest.
    pub(super) fn answered(&mut self) {
        self.answered = true;
    }
}

impl Drop for HangUp {
    fn drop(&mut self) {
        self.flag.store(!self.answered, Ordering::SeqCst);
    }
}

pub(super) async fn hook(
    State(shared): State<Shared>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Body(hook): Body<Hook>,
) -> Result<Json<HookAnswer>, No> {
    caller.require_root(shared.rehearsal)?;
    let (mut waiting, flag) = HangUp::new();
    let happened = Happened {
        verb: hook.op.name(),
        object: hook.domain_uuid.to_string(),
        domain: Some(hook.domain.clone()),
        allocations: hook.devices.iter().filter_map(|device| device.allocation.clone()).collect(),
        ..Happened::default()
    };
    let (operation, began) = (hook.op.name(), Instant::now());
    let answer = run_always(&shared, caller, happened, move |shared, happened| {
        let engine = shared.desk.engine();
        let deadline = deadline(hook.at);
        let mut exchanges = Vec::new();
        match hook.op {
            HookOp::Prepare => {
                engine.note_nodes(hook.domain_uuid, &hook.nodes);
                let done = shared.desk.prepare(&hook, deadline, &|| flag.load(Ordering::SeqCst));
                happened.decisions = engine.take_decisions(hook.domain_uuid);
                done?;
            }
            HookOp::Release => engine.release(&hook, deadline),
            HookOp::Started => engine.started(&hook),
            HookOp::Reconnect => engine.host_changed(),
            HookOp::Restore | HookOp::Migrate => exchanges = engine.resume(&hook, deadline)?,
        }
        Ok(HookAnswer { change: Change::Done, notes: Vec::new(), exchanges })
    })
    .await;
    // Answered: a hang-up from here on is noticed by the sweep.
    waiting.answered();
    let outcome = answer.as_ref().map_or_else(|no| super::metrics::word(no.kind()), |_| "done");
    shared.metrics.request(operation, outcome, began.elapsed());
    answer
}

/// Hook and service read the same clock, so the time the request waited in the socket counts.
fn deadline(began: RunId) -> Instant {
    let spent = Duration::from_nanos(clock::boottime().0.saturating_sub(began.0));
    Instant::now() + ANSWER_WITHIN.saturating_sub(spent)
}
