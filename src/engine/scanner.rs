//! The newest snapshot: read on a thread of its own, so that a reader can stop waiting.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::publish::Types;
use super::survey::Survey;
use crate::inventory::{self, ScanOptions};
use crate::model::HostSnapshot;
use crate::sysfs::Sysfs;

/// How old an answer may be when no kernel event said that anything changed. Some facts have no event.
const MOST_AGE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct State {
    wanted: u64,
    done: u64,
    /// The newest reading, when it began, and whether something changed since.
    last: Option<(Arc<HostSnapshot>, Instant)>,
    stale: bool,
}

/// Reads the host on demand.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    state: Mutex<State>,
    moved: Condvar,
}

impl Scanner {
    /// Starts the thread.
    pub(super) fn start(
        sysfs: Sysfs,
        options: ScanOptions,
        mut types: Types,
        survey: Survey,
    ) -> std::io::Result<Arc<Self>> {
        let scanner = Arc::new(Self::default());
        let worker = Arc::clone(&scanner);
        std::thread::Builder::new()
            .name("scanner".to_owned())
            .spawn(move || worker.run(&sysfs, &options, &mut types, &survey))?;
        Ok(scanner)
    }

    fn run(&self, sysfs: &Sysfs, options: &ScanOptions, types: &mut Types, survey: &Survey) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            while state.wanted == state.done {
                state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let serves = state.wanted;
            state.stale = false;
            drop(state);
            let began = Instant::now();
            let mut snapshot = inventory::scan(sysfs, options);
            survey.dress(&mut snapshot);
            let snapshot = Arc::new(snapshot);
            types.keep(&snapshot);
            state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.done = serves;
            state.last = Some((snapshot, began));
            self.moved.notify_all();
        }
    }

    /// Says that something on the host changed.
    pub(super) fn changed(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stale = true;
    }

    /// Returns a snapshot whose reading began after this call; `None` when it takes longer than `deadline`.
    pub(super) fn fresh(&self, deadline: Instant) -> Option<Arc<HostSnapshot>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.wanted += 1;
        let mine = state.wanted;
        self.moved.notify_all();
        loop {
            if state.done >= mine {
                return state.last.as_ref().map(|(snapshot, _)| Arc::clone(snapshot));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self.moved.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Returns the newest snapshot, however old; `None` before the first.
    pub(super) fn last(&self) -> Option<Arc<HostSnapshot>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.last.as_ref().map(|(snapshot, _)| Arc::clone(snapshot))
    }

    /// Returns the newest snapshot and its age, read again first when it is old or something changed,
    /// unless that takes longer than `patience`. `None` only while the very first reading is under way.
    pub(super) fn recent(&self, patience: Duration) -> Option<(Arc<HostSnapshot>, Duration)> {
        let age = |state: &State| {
            state.last.as_ref().map(|(snapshot, began)| (Arc::clone(snapshot), began.elapsed()))
        };
        {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((snapshot, age)) = age(&state)
                && !state.stale
                && age < MOST_AGE
            {
                return Some((snapshot, age));
            }
        }
        drop(self.fresh(Instant::now() + patience));
        age(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
