//! Bringing back what was there: VF counts, their binding, guaranteed slices; after a boot, after a driver was
//! loaded anew, after the host slept. One road for all three, ordered by facts.
//!
//! A look reads the host and makes a plan; what can be done is begun, each device on a thread of its own, so
//! that one whose driver sleeps keeps no other waiting; what lacks a fact waits for the next look. A count that
//! somebody changes by hand is theirs: shown, not corrected. The way through 0 VFs is never taken here.

mod course;
mod plan;
pub(super) mod road;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub use course::Outlook;
use course::{Course, sentence};
pub use plan::Starting;
pub(super) use plan::others;
use plan::{Facts, Work};

use super::guaranteed::{is_guaranteed, place_of};
use super::{Engine, Happened, OPERATION};
use crate::clock;
use crate::inventory;
use crate::ledger::Change;
use crate::model::{
    AllocationId, BootId, BootReport, GpuId, HostSnapshot, Kind, PciAddress, Progress, Refusal, Restored,
    Sriov,
};

/// What the engine remembers of it.
#[derive(Debug)]
pub(super) struct Boot {
    course: Mutex<Course>,
    starting: Mutex<Vec<Starting>>,
    wake: Mutex<Option<Wake>>,
}

/// Has whoever brings things back look again.
struct Wake(Box<dyn Fn() + Send>);

impl std::fmt::Debug for Wake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wake")
    }
}

impl Boot {
    pub(super) fn new(stored: Option<BootReport>, boot_id: &BootId) -> Self {
        let course = Course::new(stored, boot_id, clock::epoch_seconds(), Instant::now());
        Self { course: Mutex::new(course), starting: Mutex::default(), wake: Mutex::default() }
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn starting(&self) -> Vec<Starting> {
        self.starting.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A piece of work on its thread; says that it ended even when that is by a panic.
struct Begun<F: Fn()> {
    engine: Engine,
    work: Work,
    outcome: Option<Result<(), Refusal>>,
    wake: F,
}

impl<F: Fn()> Begun<F> {
    fn run(&mut self) {
        let outcome = match &self.work {
            Work::Mig(gpu) => self.engine.restore_mig(gpu),
            Work::Vfs(gpu) => self.engine.restore_vfs(gpu),
            Work::Setting(gpu) => self.engine.restore_setting(gpu),
            Work::Slice(id) => self.engine.hold_again(id).map(drop),
        };
        self.outcome = Some(outcome);
    }
}

impl<F: Fn()> Drop for Begun<F> {
    fn drop(&mut self) {
        let panicked = || Err(Refusal::new(Kind::Internal, "it ended in a panic; the log says where"));
        self.engine.ended(&self.work, self.outcome.take().unwrap_or_else(panicked));
        (self.wake)();
    }
}

/// As many slices are brought back in one turn; whoever starts a domain meanwhile waits no longer than for these.
const BATCH: usize = 64;

/// Slices that are brought back in one turn. Those that are left at its end are begun one by one.
struct Together<F: Fn() + Clone + Send + 'static> {
    engine: Engine,
    works: Vec<Work>,
    /// When the look at the host began that found them missing.
    asked: Instant,
    wake: F,
}

impl<F: Fn() + Clone + Send + 'static> Together<F> {
    fn run(&mut self) {
        let id = |work: &Work| match work {
            Work::Slice(id) => Some(id.clone()),
            Work::Mig(_) | Work::Vfs(_) | Work::Setting(_) => None,
        };
        let ids: Vec<AllocationId> = self.works.iter().filter_map(id).collect();
        if ids.len() < 2 {
            return;
        }
        match self.engine.hold_all_again(&ids, self.asked) {
            Ok(()) => {
                let done = std::mem::take(&mut self.works);
                done.iter().for_each(|work| self.engine.ended(work, Ok(())));
                (self.wake)();
            }
            Err(refusal) => {
                tracing::info!(slices = ids.len(), error = %refusal, "not restored together, trying each by itself");
            }
        }
    }
}

impl<F: Fn() + Clone + Send + 'static> Drop for Together<F> {
    fn drop(&mut self) {
        for work in std::mem::take(&mut self.works) {
            self.engine.begin(work, self.wake.clone());
        }
    }
}

impl Engine {
    /// Says which domains libvirt will start by itself: it should find what they need.
    pub fn expect_starts(&self, starting: Vec<Starting>) {
        *self.inner.boot.starting.lock().unwrap_or_else(PoisonError::into_inner) = starting;
    }

    /// Says that a driver was bound to a device, or that it registered as a parent, by its name in sysfs: what
    /// was on it went with the driver before.
    pub fn device_renewed(&self, name: &str) {
        let address = name.parse::<PciAddress>().ok();
        let is_it = |id: &GpuId| {
            id.as_str().strip_prefix("virtual:") == Some(name)
                || (address.is_some() && slot_of(id) == address)
        };
        let ids: Vec<GpuId> = self.places().into_iter().filter(is_it).collect();
        ids.into_iter().for_each(|id| self.inner.boot.course().renew(id));
    }

    /// Says that what was set on a GPU, or made on it, went by our own change of its VFs.
    pub(super) fn gpu_renewed(&self, gpu: &GpuId) {
        self.inner.boot.course().renew(gpu.clone());
    }

    /// Says that what is to be brought back may stand otherwise by a request of ours, which the kernel does not report.
    pub(super) fn look_again(&self) {
        if let Some(wake) = &*self.inner.boot.wake.lock().unwrap_or_else(PoisonError::into_inner) {
            (wake.0)();
        }
    }

    /// Returns the GPUs that anything shall be back on.
    fn places(&self) -> BTreeSet<GpuId> {
        let ledger = self.ledger();
        let book = ledger.book();
        let guaranteed = book.allocations.values().filter(|one| is_guaranteed(one));
        let places = guaranteed.filter_map(|one| Some(place_of(book, one)?.gpu));
        book.wishes.keys().chain(book.settings.keys()).cloned().chain(places).collect()
    }

    /// Returns whether anything that was begun to bring things back has not ended.
    #[must_use]
    pub fn is_restoring(&self) -> bool {
        self.inner.boot.course().is_working()
    }

    /// Says that the host slept.
    pub fn host_slept(&self) {
        self.host_changed();
        self.inner.boot.course().renew_all();
    }

    /// Looks once: begins what can be done, on threads that call `wake` when they end. Calling it again is
    /// harmless.
    ///
    /// # Errors
    /// When the host cannot be read.
    pub fn restore(&self, wake: impl Fn() + Clone + Send + 'static) -> Result<Outlook, Refusal> {
        let again = Wake(Box::new(wake.clone()));
        *self.inner.boot.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(again);
        let starting = self.inner.boot.starting();
        let nothing = plan::is_empty(self.ledger().book(), &starting);
        if self.read_only().is_some() {
            // It is looked again, so that what a rebuilt database knows comes back too.
            return Ok(Outlook { waits: true, ..Outlook::default() });
        }
        if nothing && self.inner.boot.course().is_empty() {
            return Ok(Outlook::default());
        }
        let asked = Instant::now();
        let snapshot = self.fresh(asked + OPERATION)?;
        let occupants = self.occupants(&snapshot);
        let nvml = self.ask_of_settings(&snapshot);
        let mut course = self.inner.boot.course();
        let plan = {
            let ledger = self.ledger();
            plan::plan(&Facts {
                book: ledger.book(),
                boot_id: &self.inner.boot_id,
                snapshot: &snapshot,
                occupants: &occupants,
                renewed: &course.renewed(),
                seen: &course.seen(),
                starting: &starting,
                nvml: &nvml,
                overdue: &course.overdue(),
            })
        };
        let before = course.report(Instant::now());
        let begin = course.take(plan, Instant::now());
        let (after, outlook) = (course.report(Instant::now()), course.outlook(Instant::now()));
        drop(course);
        if is_news(&before, &after) {
            self.defer(vec![Change::PutBootReport(after)]);
        }
        let (slices, others): (Vec<Work>, Vec<Work>) =
            begin.into_iter().partition(|work| matches!(work, Work::Slice(_)));
        others.into_iter().for_each(|work| self.begin(work, wake.clone()));
        for works in self.batches(slices) {
            self.begin_together(works, asked, wake.clone());
        }
        Ok(outlook)
    }

    /// Slices of one GPU go together: the host is read and the ledger written once for all of them.
    fn batches(&self, slices: Vec<Work>) -> Vec<Vec<Work>> {
        let mut by_gpu: BTreeMap<Option<GpuId>, Vec<Work>> = BTreeMap::new();
        let ledger = self.ledger();
        let book = ledger.book();
        for work in slices {
            let Work::Slice(id) = &work else { continue };
            let place = book.allocations.get(id).and_then(|one| place_of(book, one));
            by_gpu.entry(place.map(|place| place.gpu)).or_default().push(work);
        }
        by_gpu
            .into_values()
            .flat_map(|works| works.chunks(BATCH).map(<[Work]>::to_vec).collect::<Vec<_>>())
            .collect()
    }

    /// Begins works of which all or none come about; where it is none, each is begun by itself.
    fn begin_together(&self, works: Vec<Work>, asked: Instant, wake: impl Fn() + Clone + Send + 'static) {
        let mut together = Together { engine: self.clone(), works, asked, wake };
        let thread = std::thread::Builder::new().name("restore".to_owned());
        let spawned = thread.spawn(move || together.run());
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread to restore anything on, trying again later");
        }
    }

    /// What sits in the slots of GPUs that are wanted and not in the reading.
    fn occupants(&self, snapshot: &HostSnapshot) -> BTreeMap<GpuId, GpuId> {
        let mut wanted = self.places();
        wanted.retain(|id| snapshot.gpus.iter().all(|gpu| gpu.id != *id));
        let found = wanted.into_iter().filter_map(|id| {
            let there = inventory::identity_at(&self.inner.sysfs, slot_of(&id)?)?;
            Some((id, there))
        });
        found.collect()
    }

    fn begin(&self, work: Work, wake: impl Fn() + Send + 'static) {
        let mut begun = Begun { engine: self.clone(), work, outcome: None, wake };
        let thread = std::thread::Builder::new().name("restore".to_owned());
        let spawned = thread.spawn(move || begun.run());
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread to restore anything on, trying again later");
        }
    }

    fn restore_vfs(&self, gpu: &GpuId) -> Result<(), Refusal> {
        let count = self.ledger().book().wishes.get(gpu).map(|wish| wish.count);
        let Some(count) = count else { return Ok(()) };
        // Asked in the lane, for which another change may have been waited.
        let admits = |sriov: &Sriov| match sriov.enabled {
            _ if self.ledger().book().wishes.get(gpu).map(|wish| wish.count) != Some(count) => {
                Err(Refusal::new(Kind::Conflict, "the remembered count was changed meanwhile"))
            }
            0 => Ok(()),
            enabled if enabled == count => Ok(()),
            enabled => Err(Refusal::new(Kind::Conflict, others(enabled))),
        };
        self.change_vfs(gpu.as_str(), count, admits).map(drop)
    }

    fn ended(&self, work: &Work, outcome: Result<(), Refusal>) {
        let said = outcome.as_ref().map_or_else(|refusal| refusal.message.clone(), |()| "done".to_owned());
        let is_news =
            self.inner.boot.course().ended(work, outcome.map_err(|refusal| refusal.message), Instant::now());
        if !is_news {
            return;
        }
        let mut happened = Happened { verb: "restore", ..Happened::default() };
        let ledger = self.ledger();
        match work {
            Work::Vfs(gpu) => {
                let count = ledger.book().wishes.get(gpu).map_or(0, |wish| wish.count);
                happened.object = format!("{gpu} {count}");
            }
            Work::Mig(gpu) | Work::Setting(gpu) => {
                let setting = ledger.book().settings.get(gpu).map(|wish| wish.setting.to_string());
                happened.object = format!("{gpu} {}", setting.unwrap_or_default());
            }
            Work::Slice(id) => {
                happened.object = id.to_string();
                happened.allocations = vec![id.clone()];
                happened.domain = ledger.book().allocations.get(id).map(|one| one.domain.name.clone());
            }
        }
        drop(ledger);
        self.record(None, happened, &said);
    }

    /// Notes that the service is ready, with `gave_up` still missing. Only the first time in a boot counts.
    pub fn said_ready(&self, gave_up: Vec<String>) {
        let mut course = self.inner.boot.course();
        if course.ready(gave_up, Instant::now()) {
            let report = course.report(Instant::now());
            drop(course);
            self.defer(vec![Change::PutBootReport(report)]);
        }
    }

    /// Returns whether the service has been ready in this boot before, and libvirt could start its domains.
    #[must_use]
    pub fn was_ready(&self) -> bool {
        self.inner.boot.course().was_ready()
    }

    /// Returns what was brought back in this boot, and what was not.
    #[must_use]
    pub fn boot_report(&self) -> BootReport {
        self.inner.boot.course().report(Instant::now())
    }

    /// Returns the PFs whose remembered counts this boot has not seen yet.
    fn unmet(&self) -> Vec<GpuId> {
        let ledger = self.ledger();
        let wishes = ledger.book().wishes.values();
        wishes.filter(|wish| wish.boot_id != self.inner.boot_id).map(|wish| wish.gpu.clone()).collect()
    }

    /// Returns whether VFs that are not there may come back by themselves.
    pub(super) fn brings_back_vfs(&self) -> bool {
        let coming = |progress: &Progress| matches!(progress, Progress::Working | Progress::Waiting { .. });
        let of_vfs = |what: &Restored| matches!(what, Restored::Vfs { .. } | Restored::Binding { .. });
        let steps = self.boot_report().steps;
        !self.unmet().is_empty() || steps.iter().any(|step| of_vfs(&step.what) && coming(&step.progress))
    }

    /// Returns why remembered counts and guaranteed slices are not back, one sentence each.
    pub(super) fn unrestored(&self) -> Vec<String> {
        let unmet = self.unmet();
        let is_told = |what: &Restored| match what {
            // A count that somebody changed in this boot is theirs.
            Restored::Vfs { gpu } => unmet.contains(gpu),
            Restored::Slice { .. }
            | Restored::Mig { .. }
            | Restored::Instances { .. }
            | Restored::Mode { .. }
            | Restored::Scheduler { .. } => true,
            // Told with its slice when it failed.
            Restored::Binding { .. } | Restored::Quantum { .. } | Restored::Start { .. } => false,
        };
        let report = self.boot_report();
        let open = report.steps.iter().filter(|step| step.progress != Progress::Done && is_told(&step.what));
        let told = open.map(|step| match &step.what {
            Restored::Vfs { gpu } => {
                format!("{} are wanted on {gpu} and not restored: {}", step.wanted, step.progress)
            }
            _ => format!("not restored: {}", sentence(step)),
        });
        told.collect()
    }
}

/// Times alone are no news.
fn is_news(before: &BootReport, after: &BootReport) -> bool {
    let timeless = |report: &BootReport| {
        let steps = report.steps.iter().cloned();
        steps.map(|step| crate::model::BootStep { took_ms: 0, ..step }).collect::<Vec<_>>()
    };
    timeless(before) != timeless(after)
}

/// Returns the slot that is part of a PCI device's identity.
fn slot_of(id: &GpuId) -> Option<PciAddress> {
    id.as_str().strip_prefix("pci:")?.split('/').next()?.parse().ok()
}
