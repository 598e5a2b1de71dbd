//! Taking turns: one key, one holder, first come first served, never without a deadline.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

/// Queues by key.
#[derive(Debug)]
pub(super) struct Turns<K> {
    queues: Mutex<(u64, BTreeMap<K, VecDeque<u64>>)>,
    moved: Condvar,
}

/// The right to act on a key; the next in line has it when this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a, K: Ord> {
    turns: &'a Turns<K>,
    key: K,
    ticket: u64,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self { queues: Mutex::new((0, BTreeMap::new())), moved: Condvar::new() }
    }
}

impl<K: Ord + Clone> Turns<K> {
    /// Waits for the turn; `None` when `deadline` passes first.
    pub(super) fn take(&self, key: &K, deadline: Instant) -> Option<Turn<'_, K>> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.0 += 1;
        let turn = Turn { turns: self, key: key.clone(), ticket: queues.0 };
        queues.1.entry(key.clone()).or_default().push_back(turn.ticket);
        loop {
            if queues.1.get(key).and_then(|queue| queue.front()) == Some(&turn.ticket) {
                return Some(turn);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(queues);
                return None;
            }
            queues = self.moved.wait_timeout(queues, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<K: Ord> Drop for Turn<'_, K> {
    fn drop(&mut self) {
        let mut queues = self.turns.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.1.get_mut(&self.key) {
            queue.retain(|ticket| *ticket != self.ticket);
            if queue.is_empty() {
                queues.1.remove(&self.key);
            }
        }
        self.turns.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(30)
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn a_second_taker_waits_and_gives_up_at_its_deadline() {
        let turns = Turns::default();
        let first = turns.take(&"a", later()).expect("free");
        assert!(turns.take(&"a", soon()).is_none());
        assert!(turns.take(&"b", soon()).is_some(), "another key is another queue");
        drop(first);
        assert!(turns.take(&"a", soon()).is_some(), "who gave up left the queue");
    }

    #[test]
    fn turns_come_in_the_order_they_were_asked_for() {
        let turns = Arc::new(Turns::default());
        let served = Arc::new(Mutex::new(Vec::new()));
        let first = turns.take(&(), later()).expect("free");
        let mut threads = Vec::new();
        for number in 0..8 {
            let (turns, served) = (Arc::clone(&turns), Arc::clone(&served));
            let waiting = number + 1;
            let queued = {
                let turns = Arc::clone(&turns);
                move || turns.queues.lock().expect("lock").1.get(&()).map_or(0, VecDeque::len)
            };
            threads.push(std::thread::spawn(move || {
                let _turn = turns.take(&(), later()).expect("turn");
                served.lock().expect("lock").push(number);
            }));
            while queued() <= waiting {
                std::thread::yield_now();
            }
        }
        drop(first);
        for thread in threads {
            thread.join().expect("thread");
        }
        assert_eq!(*served.lock().expect("lock"), (0..8).collect::<Vec<_>>());
    }
}
