//! How far a long run is, on a terminal's stderr.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Nothing is shown before a run has taken so long, nor twice within it.
const EVERY: Duration = Duration::from_millis(300);

/// One line that is written anew as the run goes on, and is gone at its end. Without a terminal there is none.
#[derive(Debug)]
pub(super) struct Progress {
    /// When it was written last, and whether it stands there; `None` without a terminal.
    shown: Option<Mutex<(Instant, bool)>>,
}

impl Progress {
    pub(super) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { shown: terminal.then(|| Mutex::new((Instant::now(), false))) }
    }

    /// Says what is being done, if it is time to.
    pub(super) fn say(&self, what: impl FnOnce() -> String) {
        let Some(shown) = &self.shown else { return };
        let Ok(mut shown) = shown.lock() else { return };
        if shown.0.elapsed() >= EVERY {
            *shown = (Instant::now(), true);
            // Progress that nobody can read costs nothing.
            drop(write!(std::io::stderr(), "\r\x1b[K{}", what()));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let stands = self.shown.as_ref().and_then(|shown| shown.lock().ok()).is_some_and(|shown| shown.1);
        if stands {
            drop(write!(std::io::stderr(), "\r\x1b[K"));
        }
    }
}
