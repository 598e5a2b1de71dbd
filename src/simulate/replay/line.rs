//! Requests that wait, and who of them goes first.

use std::collections::BTreeMap;

use crate::simulate::replay::workload::Job;

/// Who goes first. In each of them a request that does not wait is tried at once, whoever stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discipline {
    /// Nobody waits.
    Lost,
    /// The one that came first; while it does not fit, nobody passes.
    Fifo,
    /// The one that came first of those that fit.
    Backfill,
    /// As the service lets starts wait: by priority, which grows by one in 10 s; those that fit pass, until one has
    /// waited for 60 s, which nobody passes from then on.
    Service,
    /// The least GB of those that fit; large ones may starve.
    Smallest,
}

/// The disciplines by name, each with what it does in a line.
pub const LINES: &[(&str, Discipline, &str)] = &[
    ("lost", Discipline::Lost, "nobody waits: what does not fit is refused"),
    ("fifo", Discipline::Fifo, "the one that came first; nobody passes it"),
    ("backfill", Discipline::Backfill, "the one that came first of those that fit"),
    (
        "service",
        Discipline::Service,
        "as `vgpuctl start --wait`: by priority with ageing; nobody passes after 60 s",
    ),
    ("smallest", Discipline::Smallest, "the least GB of those that fit"),
];

/// Seconds of waiting that count as one of priority in the service.
const AGE_S: f64 = 10.0;
/// Seconds after which the service lets nobody pass.
const HOLDS_S: f64 = 60.0;

impl Discipline {
    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        LINES.iter().find(|(_, line, _)| *line == self).map_or("lost", |(name, _, _)| name)
    }

    /// Returns the discipline of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        LINES.iter().find(|(known, _, _)| *known == name).map(|(_, line, _)| *line)
    }

    /// Returns where a request stands: the least first. Ageing by equal steps keeps the order, so that who came
    /// so much earlier stands as one of so much more priority.
    fn place(self, job: &Job, gb: u32) -> f64 {
        match self {
            Self::Lost | Self::Fifo | Self::Backfill => job.arrival,
            Self::Service => job.arrival - AGE_S * f64::from(job.priority),
            Self::Smallest => f64::from(gb),
        }
    }

    /// Returns after how many seconds nobody passes.
    fn holds(self) -> f64 {
        match self {
            Self::Lost | Self::Fifo => 0.0,
            Self::Service => HOLDS_S,
            Self::Backfill | Self::Smallest => f64::INFINITY,
        }
    }
}

/// A float in an order.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Place(f64);

impl Eq for Place {}
impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Place {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Where one stands: by its place, then by its number.
type Standing = (Place, usize);

/// The line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    discipline: Discipline,
    /// With the size of each.
    waiting: BTreeMap<Standing, (u8, f64)>,
    /// By size: how many wait.
    sizes: Vec<u32>,
}

impl Line {
    pub(super) fn new(discipline: Discipline, sizes: usize) -> Self {
        Self { discipline, waiting: BTreeMap::new(), sizes: vec![0; sizes] }
    }

    fn standing(&self, (number, job, gb): (usize, &Job, u32)) -> Standing {
        (Place(self.discipline.place(job, gb)), number)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn lets_wait(&self, job: &Job) -> bool {
        self.discipline != Discipline::Lost && job.wait > 0.0
    }

    pub(super) fn join(&mut self, one: (usize, &Job, u32)) {
        let before = self.waiting.insert(self.standing(one), (one.1.size, one.1.arrival));
        if before.is_none() {
            self.sizes[usize::from(one.1.size)] += 1;
        }
    }

    /// It waits no longer; returns whether it did.
    pub(super) fn leave(&mut self, one: (usize, &Job, u32)) -> bool {
        let was = self.waiting.remove(&self.standing(one)).is_some();
        if was {
            self.sizes[usize::from(one.1.size)] -= 1;
        }
        was
    }

    /// Returns the numbers of those that may be tried now, in order, up to one that nobody passes. Whoever is
    /// told that a size does not fit skips it from then on.
    pub(super) fn turn(&self, now: f64, full: &[bool]) -> Option<usize> {
        // Nobody is looked for when no size that waits could fit.
        if self.sizes.iter().zip(full).all(|(count, full)| *count == 0 || *full) {
            return None;
        }
        for ((_, number), (size, since)) in &self.waiting {
            if !full[usize::from(*size)] {
                return Some(*number);
            }
            if now - since >= self.discipline.holds() {
                return None;
            }
        }
        None
    }

    /// Returns who still waits.
    pub(super) fn rest(&self) -> impl Iterator<Item = usize> {
        self.waiting.keys().map(|(_, number)| *number)
    }
}
