//! Kernel changes that can sleep for ever, in a process of their own.
//!
//! ```text
//!  spawn ──> Helper (waits on its stdin) ──go(step)──> Running ──wait(limit)──> Done | Failed
//!              │ id() goes into the intent first           │                      Overrun(Running)
//!              └ end of file: exits, nothing was done      └ the service dies: it goes on to the end
//! ```
//!
//! The helper is this same program with the argument [`ARGUMENT`]. It first waits for one line, so that
//! its pid and start time can be committed before anything happens; a service that dies between the two
//! leaves a helper that does nothing. It is a process group of its own: Ctrl-C does not reach it. All
//! descriptors of the service are close-on-exec, so it inherits neither locks nor sockets.

mod id;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

pub use id::wait_end;

use crate::backend::{StepError, execute};
use crate::config::Paths;
use crate::failpoint;
use crate::model::{HelperId, Step};
use crate::sysfs::Sysfs;

/// The hidden argument that turns the service's program into a helper.
pub const ARGUMENT: &str = "helper";

/// Longest line that either side accepts.
const MOST_BYTES: u64 = 64 * 1024;

/// The one line that a helper waits for.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    step: Step,
    /// Fail points passed so far.
    hits: u64,
    /// Who asks; a rehearsed crash takes it along.
    service: HelperId,
}

/// The one line that a helper answers.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    result: Result<(), StepError>,
    hits: u64,
}

/// A helper that waits to be told what to do. Dropped: it exits and has done nothing.
#[derive(Debug)]
pub struct Helper {
    id: HelperId,
    child: Child,
}

/// A helper at work.
#[derive(Debug)]
pub struct Running {
    id: HelperId,
    child: Child,
    answers: ChildStdout,
    received: Vec<u8>,
    step: Step,
}

/// How a step in a helper went.
#[derive(Debug)]
pub enum Outcome {
    /// Done and verified.
    Done,
    /// Not done, or not as asked.
    Failed(StepError),
    /// Still under way when the time was up. It goes on; [`Running::finish`] waits for its end.
    Overrun(Running),
}

impl Helper {
    /// Starts a helper of the running program.
    ///
    /// # Errors
    /// When no process can be started.
    pub fn spawn(paths: &Paths) -> io::Result<Self> {
        Self::spawn_program(Path::new("/proc/self/exe"), paths)
    }

    /// Starts a helper of `program`, which must call [`main`] for [`ARGUMENT`].
    ///
    /// # Errors
    /// When no process can be started.
    pub fn spawn_program(program: &Path, paths: &Paths) -> io::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "a change that can sleep for ever needs a process")]
        let mut command = std::process::Command::new(program);
        command.arg(ARGUMENT).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        if paths.is_rehearsal() {
            command.env("VGPUD_ROOT", paths.root());
        }
        let mut child = command.spawn()?;
        match HelperId::of(child.id()) {
            Some(id) => Ok(Self { id, child }),
            None => {
                let status = child.wait()?;
                Err(io::Error::other(format!("the helper process ended at once with {status}")))
            }
        }
    }

    /// Returns how to recognize this helper later, also after a restart of the service.
    #[must_use]
    pub const fn id(&self) -> HelperId {
        self.id
    }

    /// Tells the helper to perform the step.
    #[must_use]
    pub fn go(mut self, step: &Step) -> Running {
        failpoint::hit("before a helper is told to go");
        let order =
            Order { step: step.clone(), hits: failpoint::hits(), service: HelperId::of_this_process() };
        if let (Some(mut stdin), Ok(mut line)) = (self.child.stdin.take(), serde_json::to_vec(&order)) {
            line.push(b'\n');
            // A helper that is gone shows up as an answer that does not come.
            drop(stdin.write_all(&line));
        }
        failpoint::hit("after a helper was told to go");
        #[expect(clippy::expect_used, reason = "spawn asked for the pipe and nobody else takes it")]
        let answers = self.child.stdout.take().expect("a helper's stdout is a pipe");
        Running { id: self.id, child: self.child, answers, received: Vec::new(), step: step.clone() }
    }

    /// Sends the helper away without anything done, and waits for its end.
    pub fn dismiss(mut self) {
        drop(self.child.stdin.take());
        // It only has to read an end of file.
        drop(self.child.wait());
    }
}

impl Running {
    /// Returns how to recognize this helper.
    #[must_use]
    pub const fn id(&self) -> HelperId {
        self.id
    }

    /// Returns what it does.
    #[must_use]
    pub const fn step(&self) -> &Step {
        &self.step
    }

    /// Waits for its answer, at most for `limit`.
    #[must_use]
    pub fn wait(mut self, limit: Duration) -> Outcome {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.readable(left) {
                Ok(false) if left.is_zero() => return Outcome::Overrun(self),
                Ok(false) => continue,
                Ok(true) => {}
                Err(errno) => return Outcome::Failed(StepError::no_answer(&self.step, errno.to_string())),
            }
            let mut piece = [0u8; 4096];
            match self.answers.read(&mut piece) {
                Ok(0) => return self.outcome(),
                Ok(count) => self.received.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Outcome::Failed(StepError::no_answer(&self.step, error.to_string())),
            }
        }
    }

    /// Waits for its end, however long that takes; for a thread of its own.
    ///
    /// # Errors
    /// What the step ended with.
    pub fn finish(mut self) -> Result<(), StepError> {
        loop {
            match self.wait(Duration::from_secs(3600)) {
                Outcome::Done => return Ok(()),
                Outcome::Failed(error) => return Err(error),
                Outcome::Overrun(running) => self = running,
            }
        }
    }

    fn readable(&self, left: Duration) -> Result<bool, Errno> {
        // Rounded up, so that a fraction of a millisecond is not waited for in a busy loop.
        let left = PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.answers.as_fd(), PollFlags::POLLIN)], left) {
            Ok(count) => Ok(count > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// The pipe is closed: the helper has ended or is about to.
    fn outcome(mut self) -> Outcome {
        let status = self.child.wait();
        match serde_json::from_slice::<Report>(&self.received) {
            Ok(report) => {
                failpoint::count_on_from(report.hits);
                match report.result {
                    Ok(()) => Outcome::Done,
                    Err(error) => Outcome::Failed(error),
                }
            }
            Err(_) => {
                let how =
                    status.map_or_else(|error| error.to_string(), |status| format!("ended with {status}"));
                Outcome::Failed(StepError::no_answer(&self.step, how))
            }
        }
    }
}

/// Is a helper: waits for one order on stdin, performs it, reports on stdout. For the service's
/// program, when its first argument is [`ARGUMENT`].
#[must_use]
pub fn main(paths: &Paths) -> ExitCode {
    let mut line = String::new();
    let read = BufReader::new(io::stdin().take(MOST_BYTES)).read_line(&mut line);
    let order = match (read, serde_json::from_str::<Order>(&line)) {
        (Ok(0), _) => return ExitCode::SUCCESS,
        (Ok(_), Ok(order)) => order,
        _ => return ExitCode::from(crate::model::Kind::Usage.exit_code()),
    };
    failpoint::count_on_from(order.hits);
    if order.service.is_alive() {
        failpoint::crash_with_service(order.service.pid);
    }
    let result = execute(&Sysfs::new(paths.root()), &order.step);
    let report = Report { result, hits: failpoint::hits() };
    let written = serde_json::to_vec(&report).map(|line| io::stdout().write_all(&line));
    match written {
        Ok(Ok(())) => ExitCode::SUCCESS,
        // The service is gone; the next one reads the host.
        _ => ExitCode::FAILURE,
    }
}
