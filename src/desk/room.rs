//! Walking a plan that makes room, one verified step at a time; and starts that may stop others.

use std::time::{Duration, Instant};

use super::{CALL, Desk};
use crate::engine::{Disturbance, Disturbed, Happened, Planned};
use crate::libvirt::Listed;
use crate::model::{Kind, Refusal};
use crate::wire::{self, Change, MakeRoom, RoomAct, RoomMade, RoomStep, Start};

/// How long a guest may take to shut down.
const SHUTDOWN: Duration = Duration::from_secs(180);

/// Writing a guest's memory to disk takes as long as there is of it.
const SAVE: Duration = Duration::from_secs(600);

/// How long its slices may take to be given back then.
const GIVEN_BACK: Duration = Duration::from_secs(15);

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

impl Desk {
    /// Plans room for a slice of a profile, or a less fragmented host; with `apply` the plan is walked.
    ///
    /// # Errors
    /// When there is no plan; or, walking it, at the first step that does not come out as planned: domains that
    /// were stopped by then are started again.
    pub fn make_room(&self, request: &MakeRoom) -> Result<RoomMade, Refusal> {
        let planned = match &request.profile {
            Some(profile) => self.engine.plan_room(profile)?,
            None => self.engine.plan_defrag()?,
        };
        let mut made = told(&planned);
        if made.steps.is_empty() {
            made.change = Change::Unchanged;
            return Ok(made);
        }
        if !request.apply {
            return Ok(made);
        }
        let steps: Vec<&[Disturbed]> = match &request.profile {
            // All go before one comes back: they may change places.
            Some(_) => vec![&planned.plan.disturbed],
            None => planned.plan.disturbed.chunks(1).collect(),
        };
        for step in steps {
            self.walk(step, request.save)?;
        }
        for (step, one) in made.steps.iter_mut().zip(&planned.plan.disturbed) {
            step.to = self.engine.parents_of(one.domain.uuid);
        }
        made.change = Change::Done;
        Ok(made)
    }

    /// Stops all domains of a step, then starts each where the plan puts it.
    fn walk(&self, step: &[Disturbed], save: bool) -> Result<(), Refusal> {
        let mut stopped: Vec<&Disturbed> = Vec::new();
        for one in step {
            if let Err(refusal) = self.stop_for("room", one, save) {
                for again in stopped {
                    self.start_again(again);
                }
                return Err(refusal);
            }
            stopped.push(one);
        }
        let mut failed = None;
        for one in stopped {
            let done = {
                let _there = self.engine.steering(one.domain.uuid, &one.to);
                self.start(&plain(one))
            };
            let outcome =
                done.as_ref().map_or_else(|refusal| refusal.message.clone(), |_| "started".to_owned());
            self.tell("room", one, &outcome);
            if let Err(refusal) = done {
                self.start_again(one);
                failed = failed.or(Some(refusal));
            }
        }
        match failed {
            None => Ok(()),
            Some(refusal) => {
                Err(refusal.hint("the host changed under the plan; vgpuctl make-room plans anew"))
            }
        }
    }

    /// Starts a domain wherever there is room, because it must not stay stopped.
    fn start_again(&self, one: &Disturbed) {
        let done = self.start(&plain(one));
        let outcome =
            done.as_ref().map_or_else(|refusal| refusal.message.clone(), |_| "started again".to_owned());
        if let Err(refusal) = done {
            tracing::error!(domain = %one.domain.name, error = %refusal, "a domain that was stopped to make room cannot be started again");
        }
        self.tell("room", one, &outcome);
    }

    /// Ends the run of a domain, if it is still where the plan found it, and waits until its slices are given back.
    fn stop_for(&self, verb: &'static str, one: &Disturbed, save: bool) -> Result<(), Refusal> {
        let (uuid, name) = (one.domain.uuid, &one.domain.name);
        if self.engine.parents_of(uuid) != one.from {
            let text = format!("domain {name} is not where the plan found it");
            return Err(Refusal::new(Kind::Busy, text).hint("plan anew"));
        }
        let done = match save {
            true => self.link.call("save a domain", SAVE, move |host| host.save(uuid)),
            false => self.link.call("shut a domain down", CALL, move |host| host.shutdown(uuid)),
        };
        done.map_err(|error| Refusal::from(&error))?;
        let over = self.wait(SHUTDOWN, || {
            let listed = self.find(&uuid.to_string());
            listed.is_ok_and(|listed: Listed| !listed.active)
        });
        if !over {
            let text = format!(
                "domain {name} was asked to shut down, and still runs after {} s",
                SHUTDOWN.as_secs()
            );
            return Err(Refusal::new(Kind::Busy, text));
        }
        self.look();
        if !self.wait(GIVEN_BACK, || !self.engine.has_slices(uuid)) {
            return Err(Refusal::new(
                Kind::Busy,
                format!("the slices of domain {name} are not given back yet"),
            ));
        }
        self.tell(verb, one, if save { "saved" } else { "shut down" });
        Ok(())
    }

    fn wait(&self, limit: Duration, mut done: impl FnMut() -> bool) -> bool {
        let end = Instant::now() + limit;
        loop {
            if done() {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            std::thread::park_timeout(LOOK_AGAIN);
        }
    }

    /// Writes into the history what was done to a domain.
    fn tell(&self, verb: &'static str, one: &Disturbed, outcome: &str) {
        let name = one.domain.name.clone();
        let happened = Happened { verb, object: name.clone(), domain: Some(name), ..Happened::default() };
        self.engine.record(None, happened, outcome);
    }

    /// Starts a domain; when nothing has room, stops domains of preemptible profiles and lesser priority for it.
    ///
    /// # Errors
    /// As [`Desk::start`]; when stopping such domains would not help, or one of them does not stop.
    pub fn start_preempting(&self, request: &Start) -> Result<wire::Started, Refusal> {
        let first = match self.start(request) {
            Err(refusal) if super::wait::waits_for(&refusal) => refusal,
            answer => return answer,
        };
        let listed = self.find(&request.domain)?;
        let planned = self.engine.plan_preemption(listed.domain.uuid).map_err(|no| Refusal {
            hints: std::iter::once(no.message).chain(first.hints.clone()).collect(),
            ..first
        })?;
        let victims = &planned.plan.disturbed;
        let names = |verb: &str| -> Vec<String> {
            victims.iter().map(|one| format!("domain {} {verb} for it", one.domain.name)).collect()
        };
        if request.dry_run {
            return Ok(self.started(&listed, Change::Planned, Vec::new(), names("would be stopped")));
        }
        for one in victims {
            let done = match request.save {
                // What cannot be saved is shut down: its profile allows that.
                true => self.stop_for("preempt", one, true).or_else(|_| self.stop_for("preempt", one, false)),
                false => self.stop_for("preempt", one, false),
            };
            done?;
        }
        let mut started = self.start(request)?;
        started.notes.extend(names("was stopped"));
        Ok(started)
    }
}

fn plain(one: &Disturbed) -> Start {
    Start { domain: one.domain.uuid.to_string(), dry_run: false, wait_s: None, preempt: false, save: false }
}

fn told(planned: &Planned) -> RoomMade {
    let step = |one: &Disturbed| RoomStep {
        domain: one.domain.name.clone(),
        what: match one.what {
            Disturbance::Restart => RoomAct::Restart,
            Disturbance::Stop => RoomAct::Stop,
        },
        from: one.from.clone(),
        to: one.to.iter().map(|choice| choice.parent.clone()).collect(),
    };
    RoomMade {
        change: Change::Planned,
        steps: planned.plan.disturbed.iter().map(step).collect(),
        to: planned
            .plan
            .to
            .iter()
            .map(|choice| choice.parent.clone())
            .chain(planned.fits_on.clone())
            .collect(),
        fragmented_mib: planned.fragmented_mib,
        notes: planned.notes.clone(),
    }
}
