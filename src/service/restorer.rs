//! What makes the engine bring things back, and for how long libvirt waits for it.
//!
//! One thread looks when the kernel says that a parent changed, when the host has slept, when something that
//! was begun has ended, and, while a fact is missing, now and then: not every fact has an event. The start of
//! the service waits for it, bounded, and only for what libvirt's first domains need.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::ServiceError;
use crate::clock::SleepWatch;
use crate::config::Paths;
use crate::engine::{Engine, Outlook};
use crate::uevent::{self, Event, Listener};

/// What the waiting start hears.
#[derive(Debug)]
pub(super) enum News {
    /// How things stand.
    Outlook(Outlook),
    /// The service shall end.
    Stop,
}

/// How the wait before READY ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// libvirt may start.
    Now,
    /// The service shall end.
    Stopped,
}

/// Why to look again.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Poke {
    /// Something that was begun has ended.
    Ended,
    /// A parent came, went or changed.
    Look,
    /// A driver was bound to this device, or it registered as a parent of mediated devices.
    Renewed(String),
    /// The host has slept.
    Slept,
}

/// Events come in bursts while a PF makes its VFs; a burst is looked at when it pauses, or after the longest.
const GATHER: Duration = Duration::from_millis(300);
/// What ends by itself says so once; others that end at the same moment are looked at with it.
const GATHER_ENDS: Duration = Duration::from_millis(20);
const MOST_GATHER: Duration = Duration::from_secs(2);

/// How soon a missing fact is looked for without an event, and how late at most.
const FIRST_LOOK: Duration = Duration::from_secs(1);
const LAST_LOOK: Duration = Duration::from_secs(30);

/// Starts looking. The listeners are open before the first look, so that nothing falls in between.
pub(super) fn start(engine: &Engine, paths: &Paths, news: Sender<News>) -> Result<(), ServiceError> {
    let (pokes, wake) = mpsc::channel();
    hear_kernel(engine, paths, pokes.clone())?;
    hear_sleep(pokes.clone())?;
    let engine = engine.clone();
    let thread = std::thread::Builder::new().name("restorer".to_owned());
    let spawned = thread.spawn(move || run(&engine, &pokes, &wake, &news));
    spawned.map(drop).map_err(ServiceError::Thread)
}

fn run(engine: &Engine, pokes: &Sender<Poke>, wake: &Receiver<Poke>, news: &Sender<News>) {
    let mut pause = FIRST_LOOK;
    loop {
        let again = pokes.clone();
        let looked = engine.restore(move || again.send(Poke::Ended).unwrap_or_default());
        let next = match looked {
            Ok(outlook) => {
                let next = outlook.waits.then_some(pause).into_iter().chain(outlook.retry_in).min();
                // Nobody listens once the service is ready.
                news.send(News::Outlook(outlook)).unwrap_or_default();
                next
            }
            Err(refusal) => {
                tracing::warn!(error = %refusal, "cannot look what is to be restored, trying again");
                Some(pause)
            }
        };
        let first = match next {
            None => wake.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(next) => wake.recv_timeout(next),
        };
        match first {
            Ok(poke) => {
                pause = FIRST_LOOK;
                take_in(engine, gather(poke, wake, || engine.is_restoring()));
            }
            Err(RecvTimeoutError::Timeout) => pause = (pause * 2).min(LAST_LOOK),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Collects a burst. While more is being brought back, what ended is no reason to look at once: each look is a reading of
/// the host, behind which the next batch would wait.
fn gather(first: Poke, wake: &Receiver<Poke>, goes_on: impl Fn() -> bool) -> Vec<Poke> {
    let end = Instant::now() + MOST_GATHER;
    let mut pokes = vec![first];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return pokes;
        }
        let pause = match pokes == [Poke::Ended] {
            true if goes_on() => left,
            true => GATHER_ENDS,
            false => GATHER,
        };
        let Ok(poke) = wake.recv_timeout(pause.min(left)) else {
            return pokes;
        };
        if !pokes.contains(&poke) {
            pokes.push(poke);
        }
    }
}

/// A sleep comes first: what went during it shows in the same burst.
fn take_in(engine: &Engine, pokes: Vec<Poke>) {
    if pokes.contains(&Poke::Slept) {
        tracing::info!("the host has slept, looking at everything anew");
        engine.host_slept();
    }
    for poke in pokes {
        if let Poke::Renewed(device) = poke {
            engine.device_renewed(&device);
        }
    }
}

/// How long libvirt waits before READY.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// For changes under way.
    under_way: Duration,
    /// For facts that are missing.
    missing: Duration,
}

impl Limits {
    /// A service that is started again in the same boot finds libvirt running, whose hooks wait for it.
    fn new(was_ready: bool, wait: Duration) -> Self {
        match was_ready {
            true => Self { under_way: Duration::from_secs(5), missing: Duration::ZERO },
            false => Self { under_way: Duration::from_secs(45), missing: wait },
        }
    }

    /// Returns what is still waited for, the first few by name, and for how long more at most.
    fn open(self, outlook: &Outlook, waited: Duration) -> Option<(String, Duration)> {
        let both = [(&outlook.under_way, self.under_way), (&outlook.missing, self.missing)];
        let open = both.into_iter().filter(|(what, limit)| !what.is_empty() && waited < *limit);
        open.map(|(what, limit)| (first_of(what), limit - waited))
            .reduce(|(a, left), (b, other)| (format!("{a}; {b}"), left.min(other)))
    }
}

/// Says the first of many, and how many there are beside.
fn first_of(what: &[String]) -> String {
    const FEW: usize = 4;
    let text = what.iter().take(FEW).map(String::as_str).collect::<Vec<_>>().join("; ");
    match what.len().saturating_sub(FEW) {
        0 => text,
        more => format!("{text}; and {more} more"),
    }
}

/// Waits until libvirt may start: until what is under way has ended, and what guaranteed slices and autostart
/// domains need is there, at most for `wait`. systemd is asked for as much more time.
pub(super) fn wait_ready(engine: &Engine, news: &Receiver<News>, wait: Duration) -> Ready {
    /// How often systemd is told that this still goes on, and how much time that gives.
    const TELL: Duration = Duration::from_secs(5);
    const MORE_US: u32 = 30_000_000;
    let limits = Limits::new(engine.was_ready(), wait);
    let began = Instant::now();
    let mut outlook =
        Outlook { under_way: vec!["the first look at the host".to_owned()], ..Outlook::default() };
    let mut told = String::new();
    while let Some((open, left)) = limits.open(&outlook, began.elapsed()) {
        if open != told {
            tracing::info!(waits_for = open, "libvirt waits");
            told = open;
        }
        let status = format!("libvirt waits for: {told}");
        // Without systemd there is nobody to tell.
        sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(MORE_US), NotifyState::Status(&status)])
            .unwrap_or_default();
        match news.recv_timeout(left.min(TELL)) {
            Ok(News::Stop) => return Ready::Stopped,
            Ok(News::Outlook(newer)) => outlook = newer,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let gave_up = [outlook.under_way, outlook.missing].concat();
    for missing in &gave_up {
        tracing::warn!(missing, "libvirt starts without");
    }
    engine.said_ready(gave_up);
    sd_notify::notify(&[NotifyState::Status("")]).unwrap_or_default();
    Ready::Now
}

/// Kernel events make the next reading fresh and the restorer look; a listener that cannot be had costs
/// freshness, not function.
fn hear_kernel(engine: &Engine, paths: &Paths, pokes: Sender<Poke>) -> Result<(), ServiceError> {
    let opened = if paths.is_rehearsal() { Listener::rehearse(&paths.uevents()) } else { Listener::open() };
    let listener = match opened {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, "kernel events cannot be heard, readings may be up to 5 s old");
            return Ok(());
        }
    };
    let (engine, rehearsal) = (engine.clone(), paths.is_rehearsal());
    let thread = std::thread::Builder::new().name("uevents".to_owned());
    let spawned = thread.spawn(move || {
        loop {
            match listener.next() {
                Ok(event) => {
                    match &event {
                        _ if !uevent::concerns_us(&event) => {}
                        Event::Device { devpath, .. } => engine.device_changed(devpath),
                        Event::Overflow => engine.host_changed(),
                    }
                    if let Some(poke) = poke_of(&event, rehearsal) {
                        pokes.send(poke).unwrap_or_default();
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "kernel events are no longer heard, readings may be up to 5 s old");
                    return;
                }
            }
        }
    });
    spawned.map(drop).map_err(ServiceError::Thread)
}

/// Nobody can put a rehearsal to sleep, so that there `resume` is a word of its own. The kernel says no such thing.
fn poke_of(event: &Event, rehearsal: bool) -> Option<Poke> {
    if rehearsal && matches!(event, Event::Device { action, .. } if action == "resume") {
        return Some(Poke::Slept);
    }
    if let Some(device) = uevent::renewed_device(event) {
        return Some(Poke::Renewed(device.to_owned()));
    }
    uevent::concerns_parents(event).then_some(Poke::Look)
}

fn hear_sleep(pokes: Sender<Poke>) -> Result<(), ServiceError> {
    let mut watch = match SleepWatch::start() {
        Ok(watch) => watch,
        Err(error) => {
            tracing::warn!(%error, "cannot tell when the host has slept");
            return Ok(());
        }
    };
    let thread = std::thread::Builder::new().name("sleep".to_owned());
    let spawned = thread.spawn(move || {
        loop {
            match watch.wait() {
                Ok(()) => pokes.send(Poke::Slept).unwrap_or_default(),
                Err(error) => {
                    tracing::warn!(%error, "cannot tell any more when the host has slept");
                    return;
                }
            }
        }
    });
    spawned.map(drop).map_err(ServiceError::Thread)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlook(under_way: &[&str], missing: &[&str]) -> Outlook {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Outlook { under_way: owned(under_way), missing: owned(missing), ..Outlook::default() }
    }

    #[test]
    fn libvirt_waits_for_both_kinds_each_within_its_limit() {
        let limits = Limits::new(false, Duration::from_secs(60));
        let at = |seconds| Duration::from_secs(seconds);
        assert_eq!(limits.open(&outlook(&[], &[]), at(0)), None);
        let both = outlook(&["a"], &["b"]);
        assert_eq!(limits.open(&both, at(5)), Some(("a; b".to_owned(), at(40))));
        assert_eq!(limits.open(&both, at(50)), Some(("b".to_owned(), at(10))));
        assert_eq!(limits.open(&both, at(60)), None);
    }

    #[test]
    fn of_many_the_first_are_named() {
        let many: Vec<String> = (1..=6).map(|number| number.to_string()).collect();
        assert_eq!(first_of(&many), "1; 2; 3; 4; and 2 more");
        assert_eq!(first_of(&many[..4]), "1; 2; 3; 4");
    }

    #[test]
    fn what_ended_is_looked_at_sooner_than_a_burst_of_the_kernel() {
        let (pokes, wake) = mpsc::channel();
        let began = Instant::now();
        assert_eq!(gather(Poke::Ended, &wake, || false), [Poke::Ended]);
        assert!(began.elapsed() < GATHER, "{:?}", began.elapsed());
        pokes.send(Poke::Look).expect("heard");
        assert_eq!(gather(Poke::Ended, &wake, || false), [Poke::Ended, Poke::Look]);
        assert!(began.elapsed() >= GATHER);
        // Another batch is under way, until it says that it has ended.
        let more = std::cell::Cell::new(true);
        let goes_on = || {
            if more.get() {
                pokes.send(Poke::Ended).expect("heard");
            }
            more.replace(false)
        };
        assert_eq!(gather(Poke::Ended, &wake, goes_on), [Poke::Ended]);
        assert!(wake.try_recv().is_err(), "it was taken in too");
    }

    #[test]
    fn a_service_started_again_keeps_no_hook_waiting_for_what_is_missing() {
        let limits = Limits::new(true, Duration::from_secs(60));
        assert_eq!(limits.open(&outlook(&[], &["b"]), Duration::ZERO), None);
        assert!(limits.open(&outlook(&["a"], &[]), Duration::ZERO).is_some());
        assert_eq!(limits.open(&outlook(&["a"], &[]), Duration::from_secs(5)), None);
    }
}
