//! What libvirt runs at each step of a domain's life: is the domain ours, and if so, what does the
//! service say?
//!
//! libvirt holds the domain's lock while this runs, and a failure at the wrong step kills a running
//! guest. So there is an end to everything (10 seconds), and only what runs before the guest may fail:
//!
//! | operation | not ours | ours, service answers | ours, no answer |
//! |---|---|---|---|
//! | `prepare begin` | 0 | 0, or 1 with the refusal | 1 with one line |
//! | `restore begin`, `migrate begin` | 0 | 0, the XML on stdout if a VF must be another one; or 1 with the refusal | 1 with one line |
//! | `started begin`, `release end`, `reconnect begin` | 0 | 0 | 0 with one line |
//! | anything else | 0 | not asked | not asked |
//!
//! Nothing else is ever written to stdout.
//! A domain without hostdevs costs reading stdin and nothing else.

mod ask;
mod filter;
mod input;

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::clock;
use crate::config::Paths;
use crate::domain_xml::{self, OwnedSet};
use crate::model::{RunId, one_line};
use crate::wire::{Hook, HookOp};

/// The end of everything; documented to admins. `ask` ends earlier by itself.
const HARD_CAP: Duration = Duration::from_secs(10);
/// The longest line for libvirt's message.
const MOST_LINE: usize = 2000;
/// The most that is read of the list of our devices: room for a hundred thousand.
const MOST_OWNED: u64 = 4 << 20;

/// What the process was called for.
struct Call {
    /// When it began.
    started: Instant,
    /// The domain's name by the first argument; for messages only.
    guest: String,
    /// What libvirt does with it, when that is of interest here.
    op: Option<HookOp>,
}

/// Runs `vgpu-hook` on the process's arguments, stdin and environment.
#[must_use]
pub fn main() -> ExitCode {
    let started = Instant::now();
    let at = clock::boottime();
    // A panic's message has many lines, and its exit code would kill a guest at `reconnect`.
    std::panic::set_hook(Box::new(|_| {}));
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.len() < 3 {
        complain(
            "libvirt runs this as: vgpu-hook GUEST OPERATION SUB-OPERATION EXTRA, the domain's XML on stdin",
        );
        return ExitCode::SUCCESS;
    }
    let call = Call::new(started, &arguments);
    let outcome = catch_unwind(AssertUnwindSafe(|| run(&call, at)));
    match outcome.unwrap_or_else(|_| Err(call.defect())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            complain(&line);
            call.failure()
        }
    }
}

impl Call {
    fn new(started: Instant, arguments: &[OsString]) -> Self {
        let text = |at: usize| arguments.get(at).map(|text| text.to_string_lossy()).unwrap_or_default();
        Self { started, guest: one_line(&text(0), 80), op: operation(&text(1), &text(2)) }
    }

    /// Returns the exit code of a call that did not get what it wanted.
    fn failure(&self) -> ExitCode {
        if self.op.is_some_and(HookOp::may_refuse) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    fn defect(&self) -> String {
        format!("domain {}: vgpu-hook stopped at a defect of its own", self.guest)
    }

    /// Returns what is left of the hard cap.
    fn left(&self) -> Duration {
        HARD_CAP.saturating_sub(self.started.elapsed())
    }
}

/// Returns what an operation of libvirt is to the service; `None` when it is nothing to it.
fn operation(name: &str, sub: &str) -> Option<HookOp> {
    match (name, sub) {
        ("prepare", "begin") => Some(HookOp::Prepare),
        ("started", "begin") => Some(HookOp::Started),
        ("release", "end") => Some(HookOp::Release),
        ("reconnect", "begin") => Some(HookOp::Reconnect),
        ("restore", "begin") => Some(HookOp::Restore),
        ("migrate", "begin") => Some(HookOp::Migrate),
        _ => None,
    }
}

fn run(call: &Call, at: RunId) -> Result<(), String> {
    // Read in any case: a writer that finds nobody reading may take it for a failure.
    let input = input::read(call.started + input::DEADLINE);
    let Some(op) = call.op else { return Ok(()) };
    let xml = input.map_err(|error| format!("domain {}: {error}", call.guest))?;
    if !domain_xml::mentions_hostdev(&xml) {
        return Ok(());
    }
    // Whatever blocks from here on, blocks the worker; the process ends with this thread.
    let (sender, receiver) = mpsc::channel();
    let guest = call.guest.clone();
    let started = call.started;
    std::thread::spawn(move || {
        // Nobody listens any more when the cap has passed.
        drop(sender.send(judge(&xml, &guest, op, at, started).and_then(filter::print)));
    });
    receiver.recv_timeout(call.left()).unwrap_or_else(|error| match error {
        mpsc::RecvTimeoutError::Timeout => {
            Err(format!("domain {}: no answer within {} s", call.guest, HARD_CAP.as_secs()))
        }
        mpsc::RecvTimeoutError::Disconnected => Err(call.defect()),
    })
}

/// Decides whether the domain is ours, and asks the service if it is. Returns the XML for libvirt, when it
/// must be another one. The fault is a line.
fn judge(xml: &[u8], guest: &str, op: HookOp, at: RunId, started: Instant) -> Result<Option<String>, String> {
    let paths = Paths::from_env();
    let domain = domain_xml::read(xml).map_err(|error| format!("domain {guest}: {error}"))?;
    let devices =
        domain_xml::ours(&domain, &owned(&paths)).map_err(|error| format!("domain {guest}: {error}"))?;
    if devices.is_empty() {
        return Ok(None);
    }
    if !paths.is_rehearsal() && !nix::unistd::geteuid().is_root() {
        return Err(format!("domain {guest} needs vGPU slices, which only domains of qemu:///system get"));
    }
    let hook = Hook { op, at, domain_uuid: domain.uuid, domain: domain.name, devices, nodes: domain.nodes };
    let exchanges = ask::ask(&paths, &hook, started)?;
    if matches!(op, HookOp::Restore | HookOp::Migrate) {
        filter::apply(xml, guest, exchanges)
    } else {
        Ok(None)
    }
}

/// Reads which devices are ours. A list that is absent or unreadable is empty: our alias still tells.
fn owned(paths: &Paths) -> OwnedSet {
    let mut text = String::new();
    let file = std::fs::File::open(paths.owned());
    match file.and_then(|file| file.take(MOST_OWNED).read_to_string(&mut text)) {
        Ok(_) => OwnedSet::parse(&text),
        Err(_) => OwnedSet::default(),
    }
}

/// Writes one line for libvirt's message and log.
fn complain(line: &str) {
    // The exit code still tells when nobody reads.
    drop(writeln!(std::io::stderr(), "vgpud: {}", one_line(line, MOST_LINE)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_runs_before_the_guest_can_fail() {
        let operations = [
            ("prepare", "begin", true),
            ("start", "begin", false),
            ("started", "begin", false),
            ("stopped", "end", false),
            ("release", "end", false),
            ("reconnect", "begin", false),
            ("attach", "begin", false),
            ("migrate", "begin", true),
            ("restore", "begin", true),
            ("prepare", "end", false),
            ("", "", false),
        ];
        for (name, sub, fails) in operations {
            let arguments = ["web1", name, sub, "-"].map(OsString::from);
            let call = Call::new(Instant::now(), &arguments);
            let failed = format!("{:?}", call.failure()) == format!("{:?}", ExitCode::FAILURE);
            assert_eq!(failed, fails, "{name} {sub}");
        }
    }
}
