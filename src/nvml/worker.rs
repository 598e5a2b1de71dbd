//! One thread that alone calls the library, and callers that wait for it no longer than they want.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Fault, NvmlError};

/// An open session that nobody uses ends after this.
const IDLE: Duration = Duration::from_secs(3);

/// What the thread works on.
pub(super) trait Resource {
    /// Lets go of what it holds open.
    fn close(&mut self);

    /// Returns whether it holds anything open.
    fn is_open(&self) -> bool;
}

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

#[derive(Debug, Default)]
struct Turn {
    /// What the thread is at.
    at: Option<&'static str>,
    /// Guards that keep the session ended.
    closed: u32,
}

#[derive(Debug, Default)]
struct Shared {
    turn: Mutex<Turn>,
    freed: Condvar,
    open: AtomicBool,
}

impl Shared {
    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the turn back when the job is over, also when it is never done.
struct Done(Arc<Shared>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.turn().at = None;
        self.0.freed.notify_one();
    }
}

/// Keeps the session ended while it lives.
#[derive(Debug)]
#[must_use = "the session may be opened again as soon as this is dropped"]
pub struct Closed(Arc<Shared>);

impl Drop for Closed {
    fn drop(&mut self) {
        let mut turn = self.0.turn();
        turn.closed = turn.closed.saturating_sub(1);
    }
}

/// The callers' side; clones share the thread, which starts with the first call.
pub(super) struct Worker<S> {
    shared: Arc<Shared>,
    sender: Arc<Mutex<Option<Sender<Job<S>>>>>,
    make: Arc<dyn Fn() -> S + Send + Sync>,
}

impl<S> Clone for Worker<S> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), sender: self.sender.clone(), make: self.make.clone() }
    }
}

impl<S> fmt::Debug for Worker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl<S: Resource + 'static> Worker<S> {
    /// Creates the handle; `make` makes the resource on the thread.
    pub(super) fn new(make: impl Fn() -> S + Send + Sync + 'static) -> Self {
        Self { shared: Arc::default(), sender: Arc::default(), make: Arc::new(make) }
    }

    /// Has the thread do `job`, and waits for it at most `within`. Jobs take turns; one that overran goes on,
    /// and whoever calls meanwhile is told so instead of waiting.
    pub(super) fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        within: Duration,
        job: impl FnOnce(&mut S) -> Result<T, NvmlError> + Send + 'static,
    ) -> Result<T, NvmlError> {
        self.run(what, within, false, job)
    }

    /// Ends the session and keeps it ended.
    pub(super) fn close(&self, within: Duration) -> Result<Closed, NvmlError> {
        self.shared.turn().closed += 1;
        let closed = Closed(Arc::clone(&self.shared));
        self.run("close NVML", within, true, |session| {
            session.close();
            Ok(())
        })?;
        Ok(closed)
    }

    pub(super) fn is_open(&self) -> bool {
        self.shared.open.load(Ordering::SeqCst)
    }

    fn run<T: Send + 'static>(
        &self,
        what: &'static str,
        within: Duration,
        closing: bool,
        job: impl FnOnce(&mut S) -> Result<T, NvmlError> + Send + 'static,
    ) -> Result<T, NvmlError> {
        let deadline = Instant::now() + within;
        self.take_turn(what, deadline, closing)?;
        let done = Done(Arc::clone(&self.shared));
        let (answer, answered) = channel();
        let shared = Arc::clone(&self.shared);
        let job: Job<S> = Box::new(move |session| {
            // A panic costs this call only, and what it left half done.
            let result = catch_unwind(AssertUnwindSafe(|| job(session))).unwrap_or_else(|_| {
                session.close();
                let fault = Fault::Other("the call ended in a panic; the log says where".to_owned());
                Err(NvmlError::Failed { what: what.to_owned(), gpu: None, fault })
            });
            shared.open.store(session.is_open(), Ordering::SeqCst);
            drop(done);
            // Whoever asked may have gone.
            drop(answer.send(result));
        });
        self.send(job)?;
        match answered.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(NvmlError::Late { what, within }),
            Err(RecvTimeoutError::Disconnected) => {
                Err(NvmlError::Absent("the thread that calls it ended".to_owned()))
            }
        }
    }

    fn take_turn(&self, what: &'static str, deadline: Instant, closing: bool) -> Result<(), NvmlError> {
        let mut turn = self.shared.turn();
        loop {
            if turn.closed > 0 && !closing {
                return Err(NvmlError::Closed(what));
            }
            let Some(earlier) = turn.at else { break };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(NvmlError::Stuck { what, earlier });
            }
            turn = self.shared.freed.wait_timeout(turn, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        turn.at = Some(what);
        Ok(())
    }

    fn send(&self, job: Job<S>) -> Result<(), NvmlError> {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let unsent = match sender.as_ref() {
            None => job,
            Some(sender) => match sender.send(job) {
                Ok(()) => return Ok(()),
                // The thread ended: closing the session panicked.
                Err(unsent) => unsent.0,
            },
        };
        let (jobs, taken) = channel();
        let (make, shared) = (Arc::clone(&self.make), Arc::clone(&self.shared));
        let thread = std::thread::Builder::new().name("nvml".to_owned());
        let started = thread.spawn(move || work(make(), &taken, &shared));
        started.map_err(|error| NvmlError::Absent(format!("no thread to call it: {error}")))?;
        // The receiver is at hand: the thread was started just now.
        drop(jobs.send(unsent));
        *sender = Some(jobs);
        Ok(())
    }
}

fn work<S: Resource>(mut session: S, jobs: &Receiver<Job<S>>, shared: &Shared) {
    loop {
        let next = if session.is_open() {
            jobs.recv_timeout(IDLE)
        } else {
            jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match next {
            Ok(job) => job(&mut session),
            Err(RecvTimeoutError::Timeout) => {
                session.close();
                shared.open.store(session.is_open(), Ordering::SeqCst);
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Fake(bool);

    impl Resource for Fake {
        fn close(&mut self) {
            self.0 = false;
        }

        fn is_open(&self) -> bool {
            self.0
        }
    }

    fn worker() -> Worker<Fake> {
        Worker::new(Fake::default)
    }

    const SOON: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_call_that_hangs_costs_its_callers_their_deadline_and_no_more() {
        let worker = worker();
        let (release, held) = channel::<()>();
        let hang = worker.call("hang", SOON, move |_| Ok(held.recv().is_ok()));
        assert_eq!(hang, Err(NvmlError::Late { what: "hang", within: SOON }));
        let next = worker.call("ask", SOON, |_| Ok(1));
        assert_eq!(next, Err(NvmlError::Stuck { what: "ask", earlier: "hang" }));
        assert!(worker.close(SOON).is_err(), "a session that is in use cannot be ended");
        release.send(()).expect("the job waits for it");
        assert_eq!(worker.call("ask", LONG, |_| Ok(2)), Ok(2), "and when it comes back, all is well");
    }

    #[test]
    fn a_closed_session_stays_closed_until_the_guard_goes() {
        let worker = worker();
        let open = |fake: &mut Fake| {
            fake.0 = true;
            Ok(())
        };
        worker.call("open", LONG, open).expect("opens");
        assert!(worker.is_open());
        let guard = worker.close(LONG).expect("closes");
        assert!(!worker.is_open());
        let second = worker.close(LONG).expect("closing twice is harmless");
        drop(guard);
        assert_eq!(worker.call("open", LONG, open), Err(NvmlError::Closed("open")));
        drop(second);
        worker.call("open", LONG, open).expect("opens again");
    }

    #[test]
    fn a_panic_of_a_call_ends_that_call_only() {
        let worker = worker();
        let broken = worker.call("break", LONG, |_| -> Result<(), NvmlError> { panic!("on purpose") });
        assert!(matches!(broken, Err(NvmlError::Failed { .. })));
        assert_eq!(worker.call("ask", LONG, |_| Ok(3)), Ok(3));
    }
}
