//! A bell that anybody may ring and one waits for: something that decides about capacity may have changed.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts how often it was rung.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<u64>,
    moved: Condvar,
}

impl Bell {
    /// Rings it; never waits.
    pub(super) fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.moved.notify_all();
    }

    /// Waits until it was rung more than `heard` times, at most `limit`. Returns how often it was.
    pub(super) fn wait(&self, heard: u64, limit: Duration) -> u64 {
        let deadline = Instant::now() + limit;
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if *rung > heard || left.is_zero() {
                return *rung;
            }
            rung = self.moved.wait_timeout(rung, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_rung_before_is_heard_and_silence_ends() {
        let bell = Bell::default();
        assert_eq!(bell.wait(0, Duration::from_millis(1)), 0);
        bell.ring();
        bell.ring();
        assert_eq!(bell.wait(0, Duration::from_secs(60)), 2);
        assert_eq!(bell.wait(2, Duration::from_millis(1)), 2);
        std::thread::scope(|scope| {
            let heard = scope.spawn(|| bell.wait(2, Duration::from_secs(60)));
            bell.ring();
            assert_eq!(heard.join().expect("a thread"), 3);
        });
    }
}
