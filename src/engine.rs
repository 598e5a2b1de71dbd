//! The one place that changes the host: takes requests, decides, announces, executes, verifies.
//!
//! Each operation is a plain sequence: look at the book, take a fresh snapshot, decide (pure), commit the
//! intent, let the kernel do it, read back, close the intent. Operations that need capacity take turns in
//! one lane, so that two starts can never be promised the same slice; operations on one domain take turns
//! by its UUID. Every wait has a deadline: a kernel write that sleeps for ever costs its own operation its
//! deadline and nothing else. The engine holds no libvirt handle; what libvirt knows comes in as a
//! [`Seen`] report.

mod admit;
mod adopt;
mod adoptable;
mod attach;
mod bell;
mod boot;
mod capacity;
mod drift;
mod edit;
mod follow;
mod foreign;
mod forget;
mod give_back;
mod guaranteed;
mod handmade;
mod history;
mod line;
mod look;
mod nvidia;
mod peers;
mod plugin;
mod pointing;
mod profiles;
mod publish;
mod queue;
mod quota;
mod rebuild;
mod recover;
mod resume;
mod room;
mod round;
mod rules;
mod scanner;
mod setting;
mod settle;
mod settled;
mod start;
mod survey;
mod terms;
mod turn;
mod vfs;
mod view;
mod weigh;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{self, Config, Paths};
use crate::domain_xml::Templates;
use crate::inventory::ScanOptions;
use crate::ledger::{Book, Change, IntentId, Ledger, LedgerError, Need};
use crate::model::{AllocationId, BootId, DomainUuid, GpuId, HostRules, HostSnapshot, Kind, Refusal};
use crate::nvml::{Closed, Nvml};
use crate::sysfs::Sysfs;

pub use adopt::Taken;
pub use adoptable::{Adoption, Asked, ShownHostdev};
pub use attach::{Allotment, Plugging};
pub use boot::{Outlook, Starting};
pub use edit::Activity;
pub use history::{Happened, Wanted as WantedHistory};
pub use line::Ticket;
pub use look::{SavedImages, Seen, SeenDomain};
pub use pointing::{
    DomainState, DomainStates, Occasion, Occasions, Repointing, Writing, Written, not_written,
};
pub use rebuild::Claim;
pub use room::{Disturbance, Disturbed, Planned, Steering};
use scanner::Scanner;
pub use terms::DomainNow;
use turn::{Turn, Turns};

/// Who asks, from the socket's peer credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// User id.
    pub uid: u32,
    /// Process id, when the kernel told.
    pub pid: Option<i32>,
}

/// How long operations without a deadline of their caller's may take.
pub(crate) const OPERATION: Duration = Duration::from_secs(30);

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The ledger.
    #[error("cannot open the ledger")]
    Ledger(#[from] LedgerError),
    /// The templates.
    #[error("cannot load the XML templates")]
    Templates(#[from] crate::domain_xml::TemplateError),
    /// A thread could not be made.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// `/proc/sys/kernel/random/boot_id` says nothing usable.
    #[error("cannot read the boot id")]
    BootId(#[source] crate::sysfs::SysfsError),
    /// It is readable and odd.
    #[error("cannot use the boot id")]
    OddBootId(#[source] crate::model::IdError),
}

/// A change in the kernel whose end was not seen within its deadline.
#[derive(Clone, Debug)]
struct Stuck {
    what: String,
    since: Instant,
}

#[derive(Debug)]
struct Inner {
    paths: Paths,
    sysfs: Sysfs,
    templates: Templates,
    boot_id: BootId,
    /// What the configuration says of the choice of a GPU.
    rules: HostRules,
    /// What rules and policies go by, beside ledger and host.
    known: Mutex<rules::Known>,
    /// Starts that wait for room.
    queue: Mutex<queue::Queue>,
    ledger: Mutex<Ledger>,
    scanner: Arc<Scanner>,
    next_intent: AtomicU64,
    capacity: Turns<()>,
    domains: Turns<DomainUuid>,
    /// GPUs that are being set.
    settings: Turns<GpuId>,
    stuck: Mutex<BTreeMap<IntentId, Stuck>>,
    /// When requests last changed allocations.
    touched: Mutex<look::Touched>,
    /// What libvirt's domains showed last.
    seen: Mutex<Option<Arc<Seen>>>,
    /// When a kernel change of ours last ended.
    changed: Mutex<Option<Instant>>,
    /// Slices that are being plugged: made, and not in the live XML yet.
    plugging: Mutex<BTreeSet<AllocationId>>,
    /// What is known of re-pointing beside the ledger.
    underway: Mutex<pointing::Underway>,
    /// Rung when something that decides about capacity may have changed.
    bell: bell::Bell,
    /// What is brought back in this boot.
    boot: boot::Boot,
    /// NVIDIA's management library, and what keeps its session ended meanwhile.
    nvml: Nvml,
    closed: Mutex<BTreeMap<IntentId, Closed>>,
    survey: survey::Survey,
    /// Where NVIDIA's parts are.
    nvidia: config::Nvidia,
    /// Guests that are being resumed: when libvirt asked for their XML.
    resuming: Mutex<BTreeMap<DomainUuid, resume::Resuming>>,
    /// Signalled when something was deferred or a lease was given, so that the keeper recomputes its wait.
    nudge: (Mutex<bool>, Condvar),
}

fn refuse_commit(error: &LedgerError) -> Refusal {
    let refusal = Refusal::from_error(Kind::HostFault, error);
    match error {
        LedgerError::Shut(why) => rebuild::shut(why),
        LedgerError::Full { .. } => {
            refusal.hint("free space below /var/lib/vgpud; running guests and stops are not affected")
        }
        _ => refusal,
    }
}

/// The engine; clones share one state.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
}

impl Engine {
    /// Opens the ledger and starts the scanner. Changes nothing on the host; [`Engine::recover`] comes next.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(paths: &Paths, config: &Config) -> Result<Self, OpenError> {
        let sysfs = Sysfs::new(paths.root());
        let boot_id = sysfs.read("proc/sys/kernel/random/boot_id").map_err(OpenError::BootId)?;
        let boot_id = boot_id.trim().parse().map_err(OpenError::OddBootId)?;
        let mut ledger = Ledger::open(&paths.state_dir())?;
        if ledger.is_blank() {
            // A fresh install has promised nothing; a list of devices in this boot says that there was one before.
            let promised = publish::published(paths);
            if promised > 0 {
                let list = paths.owned().display().to_string();
                ledger.shut(format!(
                    "the database is lost: it is empty, and {list} lists {promised} devices of vgpud"
                ));
            }
        }
        let next_intent = ledger.book().next_intent().0;
        let boot = boot::Boot::new(ledger.book().boot_report.clone(), &boot_id);
        let templates = Templates::load(&paths.template_dirs())?;
        let options = ScanOptions { include: config.devices.include.clone() };
        let types = publish::Types::new(paths);
        let survey = survey::Survey::default();
        let scanner =
            Scanner::start(sysfs.clone(), options, types, survey.clone()).map_err(OpenError::Thread)?;
        Ok(Self {
            inner: Arc::new(Inner {
                paths: paths.clone(),
                sysfs,
                templates,
                boot_id,
                rules: config.placement.clone(),
                known: Mutex::default(),
                queue: Mutex::default(),
                ledger: Mutex::new(ledger),
                scanner,
                next_intent: AtomicU64::new(next_intent),
                capacity: Turns::default(),
                domains: Turns::default(),
                settings: Turns::default(),
                stuck: Mutex::default(),
                touched: Mutex::default(),
                seen: Mutex::default(),
                changed: Mutex::default(),
                plugging: Mutex::default(),
                underway: Mutex::default(),
                bell: bell::Bell::default(),
                boot,
                nvml: Nvml::new(paths.nvml(&config.nvidia)),
                closed: Mutex::default(),
                survey,
                nvidia: config.nvidia.clone(),
                resuming: Mutex::default(),
                nudge: (Mutex::new(false), Condvar::new()),
            }),
        })
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.inner.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a copy of the book as it is now.
    #[must_use]
    pub fn book(&self) -> Book {
        self.ledger().book().clone()
    }

    fn commit(&self, changes: Vec<Change>, need: Need) -> Result<(), Refusal> {
        self.commit_if(changes, need, |_| Ok(()))
    }

    /// Checks the book and commits under one lock: no other change comes in between.
    fn commit_if(
        &self,
        changes: Vec<Change>,
        need: Need,
        check: impl FnOnce(&Book) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut ledger = self.ledger();
        check(ledger.book())?;
        self.commit_in(&mut ledger, changes, need)
    }

    /// Reads the book and commits what follows from it under one lock.
    fn commit_with(&self, need: Need, decide: impl FnOnce(&Book) -> Vec<Change>) -> Result<(), Refusal> {
        let mut ledger = self.ledger();
        let changes = decide(ledger.book());
        if changes.is_empty() { Ok(()) } else { self.commit_in(&mut ledger, changes, need) }
    }

    fn commit_in(&self, ledger: &mut Ledger, changes: Vec<Change>, need: Need) -> Result<(), Refusal> {
        let done = ledger.commit(changes, need);
        self.inner.bell.ring();
        done.map_err(|error| refuse_commit(&error))
    }

    fn defer(&self, changes: Vec<Change>) {
        self.ledger().defer(changes);
        self.inner.bell.ring();
        self.nudge();
    }

    /// Says that the kernel reported a change.
    pub fn host_changed(&self) {
        self.inner.scanner.changed();
        self.inner.bell.ring();
    }

    /// Says that the kernel reported a change of the device at `devpath`, a path below `/sys`.
    pub fn device_changed(&self, devpath: &str) {
        // A node of VFIO comes and goes with its device, of which the kernel tells too.
        if !devpath.starts_with("/devices/virtual/vfio/") {
            self.inner.scanner.changed_at(&format!("sys{devpath}"));
        }
        self.inner.bell.ring();
    }

    /// Says that a guest may have taken or left a device.
    pub fn guests_changed(&self) {
        self.inner.scanner.moved();
        self.inner.bell.ring();
    }

    fn fresh(&self, deadline: Instant) -> Result<Arc<HostSnapshot>, Refusal> {
        self.inner.scanner.fresh(deadline).ok_or_else(unread)
    }

    /// Returns a reading that began after `asked` and shows all that changed since: one that others made, too.
    fn read_since(&self, asked: Instant, deadline: Instant) -> Result<Arc<HostSnapshot>, Refusal> {
        self.inner.scanner.since(asked, deadline).ok_or_else(unread)
    }

    fn capacity_turn(&self, deadline: Instant) -> Result<Turn<'_, ()>, Refusal> {
        self.inner.capacity.take(&(), deadline).ok_or_else(|| {
            Refusal::new(Kind::Busy, "other starts and changes of the GPUs did not end in time")
                .hint("nothing was changed, try again; vgpuctl status shows what is under way")
        })
    }

    fn domain_turn(&self, domain: DomainUuid, deadline: Instant) -> Result<Turn<'_, DomainUuid>, Refusal> {
        self.inner.domains.take(&domain, deadline).ok_or_else(|| {
            Refusal::new(Kind::Busy, format!("another request for domain {domain} did not end in time"))
        })
    }

    fn nudge(&self) {
        *self.inner.nudge.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.inner.nudge.1.notify_all();
    }

    /// Waits for a nudge, at most `limit` (`None`: as long as it takes). Returns whether one came.
    #[must_use]
    pub fn wait_nudge(&self, limit: Option<Duration>) -> bool {
        let (lock, moved) = &self.inner.nudge;
        let mut nudged = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = limit.map(|limit| Instant::now() + limit);
        while !*nudged {
            nudged = match deadline {
                None => moved.wait(nudged).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    moved.wait_timeout(nudged, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        *nudged = false;
        true
    }

    /// Stores what was deferred.
    pub fn flush(&self) {
        if let Err(error) = self.ledger().flush() {
            tracing::warn!(error = %Refusal::from_error(Kind::HostFault, &error), "cannot store closed intents yet");
        }
    }

    /// Returns whether something waits to be stored.
    #[must_use]
    pub fn has_deferred(&self) -> bool {
        self.ledger().has_deferred()
    }
}

fn unread() -> Refusal {
    Refusal::new(Kind::Busy, "reading the host's devices did not end in time")
        .hint("nothing was changed; try again when fewer starts wait for one another")
}
