//! The newest snapshot: read on a thread of its own, so that a reader can stop waiting.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::publish::Types;
use super::survey::Survey;
use crate::inventory::{self, ScanOptions};
use crate::model::{Gpu, GpuId, HostSnapshot};
use crate::sysfs::Sysfs;

/// How old an answer may be when no kernel event said that anything changed. Some facts have no event.
const MOST_AGE: Duration = Duration::from_secs(5);

/// What changed since the newest reading began, as far as the kernel and this service said.
#[derive(Debug, Default, PartialEq, Eq)]
enum Changed {
    #[default]
    Nothing,
    Gpus(BTreeSet<GpuId>),
    Anything,
}

#[derive(Debug, Default)]
struct State {
    /// Numbers of the newest question, and of the newest that only a reading of the whole host answers.
    wanted: u64,
    whole: u64,
    done: u64,
    /// The newest reading, and when that of the whole host began in which it only has some GPUs anew.
    last: Option<(Arc<HostSnapshot>, Instant)>,
    changed: Changed,
    /// A guest may have taken or left a device since. No question of a start is about that.
    moved: bool,
}

/// What serves a question.
#[derive(Debug)]
enum Answer {
    /// The newest reading.
    Last(Arc<HostSnapshot>),
    /// The newest reading with what changed read again.
    Again,
    /// A reading of the whole host.
    Whole,
}

impl State {
    fn is_stale(&self) -> bool {
        self.moved || self.changed != Changed::Nothing
    }

    /// Returns what serves somebody who asked at this time.
    fn answer(&self, asked: Instant) -> Answer {
        // A reading under way has taken with it what changed before it began, and the newest one does not show that.
        let is_reading = self.wanted != self.done;
        let last = self.last.as_ref().filter(|(_, began)| *began >= asked);
        match (last, &self.changed) {
            (Some((snapshot, _)), Changed::Nothing) if !is_reading => Answer::Last(Arc::clone(snapshot)),
            (Some(_), Changed::Nothing | Changed::Gpus(_)) => Answer::Again,
            (None, _) | (Some(_), Changed::Anything) => Answer::Whole,
        }
    }

    /// Notes that a GPU changed, and with it those that share its IOMMU group. One that is not in the reading may be
    /// anything.
    fn note(&mut self, is_it: impl Fn(&Gpu) -> bool) {
        let known = self.last.as_ref().map(|(snapshot, _)| Arc::clone(snapshot));
        let found = known.as_ref().and_then(|snapshot| snapshot.gpus.iter().find(|gpu| is_it(gpu)));
        let (Some(known), Some(found)) = (&known, found) else {
            self.changed = Changed::Anything;
            return;
        };
        let together = |gpu: &&Gpu| gpu.id == found.id || gpu.shares_group(found);
        let ids = known.gpus.iter().filter(together).map(|gpu| gpu.id.clone());
        match &mut self.changed {
            Changed::Anything => {}
            Changed::Gpus(all) => all.extend(ids),
            Changed::Nothing => self.changed = Changed::Gpus(ids.collect()),
        }
    }
}

/// Reads the host on demand.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    state: Mutex<State>,
    done: Condvar,
}

/// What a reading has to look at.
enum Extent {
    Whole,
    /// These GPUs of this reading, when that began.
    Some(Arc<HostSnapshot>, Instant, BTreeSet<GpuId>),
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
        let mut state = self.state();
        loop {
            while state.wanted == state.done {
                state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let serves = state.wanted;
            let extent = extent_of(&mut state);
            drop(state);
            let asked = Instant::now();
            let again = match extent {
                Extent::Some(last, began, ids) => {
                    inventory::scan_again(sysfs, options, &last, &ids).map(|snapshot| (snapshot, began))
                }
                Extent::Whole => None,
            };
            let (mut snapshot, began) = again.unwrap_or_else(|| (inventory::scan(sysfs, options), asked));
            survey.dress(&mut snapshot);
            let snapshot = Arc::new(snapshot);
            types.keep(&snapshot);
            state = self.state();
            state.done = serves;
            state.last = Some((snapshot, began));
            self.done.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that something on the host changed.
    pub(super) fn changed(&self) {
        self.state().changed = Changed::Anything;
    }

    /// Says that something changed at a path below the root: of a GPU, if it is one's.
    pub(super) fn changed_at(&self, path: &str) {
        self.state().note(|gpu| gpu.has_path(path));
    }

    /// Says that something of a GPU changed.
    pub(super) fn changed_on(&self, id: &GpuId) {
        self.state().note(|gpu| gpu.id == *id);
    }

    /// Says that a guest may have taken or left a device.
    pub(super) fn moved(&self) {
        self.state().moved = true;
    }

    /// Returns a snapshot whose reading began after this call; `None` when it takes longer than `deadline`.
    pub(super) fn fresh(&self, deadline: Instant) -> Option<Arc<HostSnapshot>> {
        let mut state = self.state();
        state.whole = state.wanted + 1;
        self.ask(state, deadline)
    }

    /// Returns a snapshot of a reading that began after `asked`, with all GPUs read again that changed since, as far as
    /// the kernel and this service said: whoever asked before it can be served from it like from one of its own.
    pub(super) fn since(&self, asked: Instant, deadline: Instant) -> Option<Arc<HostSnapshot>> {
        let state = self.state();
        match state.answer(asked) {
            Answer::Last(snapshot) => Some(snapshot),
            Answer::Again => self.ask(state, deadline),
            Answer::Whole => {
                drop(state);
                self.fresh(deadline)
            }
        }
    }

    /// Wakes the thread and waits for its answer.
    fn ask(&self, mut state: MutexGuard<'_, State>, deadline: Instant) -> Option<Arc<HostSnapshot>> {
        state.wanted += 1;
        let mine = state.wanted;
        self.done.notify_all();
        loop {
            if state.done >= mine {
                return state.last.as_ref().map(|(snapshot, _)| Arc::clone(snapshot));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self.done.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Returns the newest snapshot, however old; `None` before the first.
    pub(super) fn last(&self) -> Option<Arc<HostSnapshot>> {
        self.state().last.as_ref().map(|(snapshot, _)| Arc::clone(snapshot))
    }

    /// Returns the newest snapshot and its age, read again first when it is old or something changed,
    /// unless that takes longer than `patience`. `None` only while the very first reading is under way.
    pub(super) fn recent(&self, patience: Duration) -> Option<(Arc<HostSnapshot>, Duration)> {
        let age = |state: &State| {
            state.last.as_ref().map(|(snapshot, began)| (Arc::clone(snapshot), began.elapsed()))
        };
        {
            let state = self.state();
            if let Some((snapshot, age)) = age(&state)
                && !state.is_stale()
                && age < MOST_AGE
            {
                return Some((snapshot, age));
            }
        }
        drop(self.fresh(Instant::now() + patience));
        age(&self.state())
    }
}

/// Takes what the next reading has to look at; what changes from here on is the matter of one after it.
fn extent_of(state: &mut State) -> Extent {
    let whole = state.whole > state.done;
    match (std::mem::take(&mut state.changed), &state.last) {
        (Changed::Nothing, Some((last, began))) if !whole => {
            Extent::Some(Arc::clone(last), *began, BTreeSet::new())
        }
        (Changed::Gpus(ids), Some((last, began))) if !whole => Extent::Some(Arc::clone(last), *began, ids),
        _ => {
            state.moved = false;
            Extent::Whole
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Paths;

    fn on(root: &std::path::Path) -> Arc<Scanner> {
        let types = Types::new(&Paths::new(Some(root.into()), None, None));
        Scanner::start(Sysfs::new(root), ScanOptions::default(), types, Survey::default()).expect("a thread")
    }

    fn soon() -> Instant {
        Instant::now() + MOST_AGE
    }

    #[test]
    fn one_reading_serves_all_that_asked_before_it_until_something_changes() {
        let empty = tempfile::tempdir().expect("a directory");
        let scanner = on(empty.path());
        let asked = Instant::now();
        let read = scanner.since(asked, soon()).expect("in time");
        let shared = scanner.since(asked, soon()).expect("in time");
        assert!(Arc::ptr_eq(&read, &shared), "it began after the question");
        let other = scanner.since(Instant::now(), soon()).expect("in time");
        assert!(!Arc::ptr_eq(&read, &other), "who asks now needs a new one");
        scanner.changed();
        let after = scanner.since(asked, soon()).expect("in time");
        assert!(!Arc::ptr_eq(&other, &after), "the one before may not show the change");
        scanner.moved();
        let same = scanner.since(asked, soon()).expect("in time");
        assert!(Arc::ptr_eq(&after, &same), "who has a device is not asked");
        let (recent, _) = scanner.recent(MOST_AGE).expect("in time");
        assert!(!Arc::ptr_eq(&same, &recent), "but shown");
    }

    #[test]
    fn what_a_reading_under_way_is_to_show_is_not_missed() {
        let empty = tempfile::tempdir().expect("a directory");
        let asked = Instant::now();
        let snapshot = inventory::scan(&Sysfs::new(empty.path()), &ScanOptions::default());
        let mut state = State { last: Some((Arc::new(snapshot), Instant::now())), ..State::default() };
        assert!(matches!(state.answer(asked), Answer::Last(_)));
        state.changed = Changed::Gpus(BTreeSet::new());
        state.wanted += 1;
        assert!(matches!(extent_of(&mut state), Extent::Some(..)), "it takes the change with it");
        assert!(matches!(state.answer(asked), Answer::Again), "and the newest reading is from before");
        state.done = state.wanted;
        assert!(matches!(state.answer(asked), Answer::Last(_)));
        assert!(matches!(state.answer(Instant::now() + MOST_AGE), Answer::Whole), "whoever asks after it");
    }

    /// An mdev parent that is no PCI function, with room for `free` of its one type.
    fn parent(root: &std::path::Path, name: &str, free: u32) {
        let dir = root.join("sys/devices/virtual").join(name).join(name);
        let kind = dir.join("mdev_supported_types").join(format!("{name}-1"));
        std::fs::create_dir_all(&kind).expect("a directory");
        for (file, text) in [("available_instances", free.to_string()), ("device_api", "vfio-pci".to_owned())]
        {
            #[expect(clippy::disallowed_methods, reason = "a fixture")]
            std::fs::write(kind.join(file), text + "\n").expect("a file");
        }
    }

    fn free(snapshot: &HostSnapshot) -> Vec<u32> {
        let types = snapshot.parents().flat_map(|(_, parent)| &parent.types);
        types.map(|one| one.available).collect()
    }

    #[test]
    fn what_changed_is_read_again_and_nothing_else() {
        let root = tempfile::tempdir().expect("a directory");
        parent(root.path(), "first", 4);
        parent(root.path(), "second", 4);
        let scanner = on(root.path());
        let asked = Instant::now();
        assert_eq!(free(&scanner.since(asked, soon()).expect("in time")), [4, 4]);

        parent(root.path(), "first", 3);
        parent(root.path(), "second", 3);
        scanner.changed_at("sys/devices/virtual/second/second/8a1c0e3e-c0de-4000-8000-000000000001");
        assert_eq!(free(&scanner.since(asked, soon()).expect("in time")), [4, 3], "the path says which one");
        parent(root.path(), "second", 2);
        scanner.changed_on(&"virtual:first".parse().expect("an identity"));
        assert_eq!(free(&scanner.since(asked, soon()).expect("in time")), [3, 3], "its identity does");
        scanner.changed_at("sys/devices/virtual/third");
        assert_eq!(free(&scanner.since(asked, soon()).expect("in time")), [3, 2], "nobody's: all are read");

        std::fs::remove_dir_all(root.path().join("sys/devices/virtual/first")).expect("it is there");
        parent(root.path(), "second", 1);
        scanner.changed_on(&"virtual:first".parse().expect("an identity"));
        assert_eq!(free(&scanner.since(asked, soon()).expect("in time")), [1], "one is gone: all are read");
        parent(root.path(), "second", 0);
        assert_eq!(free(&scanner.fresh(soon()).expect("in time")), [0]);
    }
}
