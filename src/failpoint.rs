//! Places where a rehearsal can kill the process, numbered in the order they are reached.
//!
//! Active only below `VGPUD_ROOT`. With `VGPUD_CRASH_AT=N` the Nth place kills the process with
//! SIGKILL, as a power cut would; with `VGPUD_CRASH_LOG=FILE` each place appends a line `N NAME`.
//! The numbering runs on through helper processes: the counter travels to them and back.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

/// What the environment asks for.
struct Settings {
    crash_at: Option<u64>,
    log: Option<PathBuf>,
}

static SETTINGS: OnceLock<Option<Settings>> = OnceLock::new();
static HITS: AtomicU64 = AtomicU64::new(0);
/// The service whose helper this is; 0 in the service itself.
static SERVICE: AtomicU64 = AtomicU64::new(0);

fn settings() -> Option<&'static Settings> {
    SETTINGS.get_or_init(read_environment).as_ref()
}

fn read_environment() -> Option<Settings> {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    var("VGPUD_ROOT")?;
    let crash_at = var("VGPUD_CRASH_AT").and_then(|text| text.to_str()?.parse().ok());
    let log = var("VGPUD_CRASH_LOG").map(PathBuf::from);
    (crash_at.is_some() || log.is_some()).then_some(Settings { crash_at, log })
}

/// Passes a place where a crash must be survivable. Costs one atomic load when nothing is asked for.
pub fn hit(name: &'static str) {
    let Some(settings) = settings() else { return };
    let number = HITS.fetch_add(1, Ordering::SeqCst) + 1;
    if let Some(log) = &settings.log {
        let file = OpenOptions::new().append(true).create(true).open(log);
        let line = format!("{number} {name}\n");
        // A log that cannot be written must not change what is rehearsed.
        drop(file.and_then(|mut file| file.write_all(line.as_bytes())));
    }
    if settings.crash_at == Some(number) {
        crash();
    }
}

/// Returns how many places were passed, for a helper to count on from.
#[must_use]
pub fn hits() -> u64 {
    HITS.load(Ordering::SeqCst)
}

/// Counts on from `hits`, if that is further than here.
pub fn count_on_from(hits: u64) {
    HITS.fetch_max(hits, Ordering::SeqCst);
}

/// Makes a crash of this helper take the service along, the service first.
pub(crate) fn crash_with_service(service: u32) {
    SERVICE.store(u64::from(service), Ordering::SeqCst);
}

fn crash() -> ! {
    if let Ok(service @ 2..) = i32::try_from(SERVICE.load(Ordering::SeqCst)) {
        // It may be gone already: then there is nothing to take along.
        let _ = kill(Pid::from_raw(service), Signal::SIGKILL);
    }
    let _ = kill(getpid(), Signal::SIGKILL);
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_counted_without_a_rehearsal() {
        hit("test");
        assert_eq!(hits(), 0);
    }
}
