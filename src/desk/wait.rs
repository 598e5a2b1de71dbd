//! `vgpuctl start --wait`: a start that waits for room, in its place in the line.

use std::time::{Duration, Instant};

use super::Desk;
use crate::engine::{Happened, Ticket};
use crate::model::{Kind, Refusal};
use crate::wire::{self, Change, Start};

/// The longest between two looks at the line: not everything that makes room has an event.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How often a waiter that nobody waits for any more is looked for.
const HUNG_UP: Duration = Duration::from_millis(500);

/// The longest that a start may wait.
const MOST_WAIT_S: u32 = 24 * 3600;

impl Desk {
    /// As [`Desk::start`]; while nothing has room, it waits for as long as the request says. `hung_up` tells that
    /// nobody waits for the answer any more.
    ///
    /// # Errors
    /// As [`Desk::start`]; the refusal of the last try when the time is over; when the wait was cancelled.
    pub fn start_in_turn(
        &self,
        request: &Start,
        hung_up: &dyn Fn() -> bool,
    ) -> Result<wire::Started, Refusal> {
        let Some(wait_s) = request.wait_s else {
            return if request.preempt { self.start_preempting(request) } else { self.start(request) };
        };
        if !(1..=MOST_WAIT_S).contains(&wait_s) {
            let text = format!("a wait of {wait_s} s is out of range: 1 to {MOST_WAIT_S}");
            return Err(Refusal::new(Kind::Usage, text));
        }
        if request.dry_run {
            return self.start(request);
        }
        // Nobody may be passed who waits already.
        let listed = self.find(&request.domain)?;
        let first = match self.engine.queue().waiting.is_empty() {
            true => match self.start(request) {
                Err(refusal) if waits_for(&refusal) => refusal,
                answer => return answer,
            },
            false if listed.active => return self.start(request),
            false => Refusal::new(Kind::NoCapacity, "others wait for room already"),
        };
        let ticket = self.engine.join_line(&listed.domain, wait_s, &first.message)?;
        let name = listed.domain.name;
        tracing::info!(domain = %name, why = %first, "a start waits for room");
        let happened = Happened {
            verb: "wait",
            object: name.clone(),
            domain: Some(name.clone()),
            ..Happened::default()
        };
        self.engine.record(None, happened, &format!("waits for room, at most {wait_s} s: {}", first.message));
        let began = Instant::now();
        let mut started = self.wait_and_start(request, &ticket, first, hung_up)?;
        if started.change == Change::Done {
            let waited = began.elapsed().as_secs();
            started.notes.push(format!("domain {name} waited {waited} s for room"));
        }
        Ok(started)
    }

    /// Ends the waiting of a domain's start.
    ///
    /// # Errors
    /// When there is no such domain.
    pub fn cancel_wait(&self, request: &wire::CancelWait) -> Result<wire::Changed, Refusal> {
        let listed = self.find(&request.domain)?;
        let waited = self.engine.cancel_wait(listed.domain.uuid);
        let change = if waited { Change::Done } else { Change::Unchanged };
        let note = waited.then(|| format!("the start of domain {} waits no longer", listed.domain.name));
        Ok(wire::Changed { change, notes: note.into_iter().collect() })
    }

    fn wait_and_start(
        &self,
        request: &Start,
        ticket: &Ticket,
        first: Refusal,
        hung_up: &dyn Fn() -> bool,
    ) -> Result<wire::Started, Refusal> {
        let end = Instant::now() + Duration::from_secs(request.wait_s.unwrap_or_default().into());
        let (mut last, mut heard, mut looked) = (first, 0, None::<Instant>);
        loop {
            if !ticket.is_valid() {
                return Err(Refusal::new(Kind::Conflict, "the wait for room was cancelled"));
            }
            if hung_up() {
                return Err(Refusal::new(Kind::Busy, "nobody waits for this start any more"));
            }
            let rung = self.engine.wait_capacity(heard, HUNG_UP);
            let due = rung != heard || looked.is_none_or(|at| at.elapsed() >= LOOK_AGAIN);
            heard = rung;
            if due {
                looked = Some(Instant::now());
                if ticket.is_next().unwrap_or(false) {
                    match self.start(request) {
                        Err(refusal) if waits_for(&refusal) => {
                            ticket.note(&refusal.message);
                            last = refusal;
                        }
                        answer => return answer,
                    }
                }
            }
            if Instant::now() >= end {
                return Err(last.hint("the time to wait is over; vgpuctl capacity says what is in the way"));
            }
        }
    }
}

/// Returns whether waiting can help against a refusal. libvirt tells the hook's words, not its kind.
pub(super) fn waits_for(refusal: &Refusal) -> bool {
    refusal.kind == Kind::NoCapacity
        || (refusal.kind == Kind::HostFault && refusal.message.contains("cannot place "))
}
