//! Keeping a fleet busy: requests arrive as a Poisson stream, slices live for exponentially distributed
//! times, and a request that does not fit is lost.

use std::cmp::Ordering;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::fleet::slots::{Draw, Fleet, Pair, Plan, Policy, SliceId};
use crate::simulate::slots::Setup;
use crate::simulate::slots::fill::{f_per_gpu, sizes};
use crate::simulate::slots::outcome::{BySize, count, percent};

/// What one run came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Churn {
    /// By size.
    pub sizes: Vec<BySize>,
    /// Requests that were placed.
    pub placed: u64,
    /// Slices that were moved for them.
    pub moves: u64,
    /// GB of the slices that were moved.
    pub moved_gb: u64,
    /// Percent of the capacity in use, mean over time.
    pub used: f64,
    /// Now and then: percent of the run, percent in use, F per GPU; only when wanted.
    pub course: Vec<[f64; 3]>,
}

/// How a run is driven.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drive {
    /// Demand against capacity: 0.9 asks for 90 % of it on the mean.
    pub load: f64,
    /// At most so many moves for a request that would be refused.
    pub moves: usize,
    /// Requests that are measured; a quarter as many come before them, at least 2,000.
    pub requests: u64,
    /// Where the random numbers begin.
    pub seed: u64,
    /// Whether the course is kept.
    pub course: bool,
}

/// The end of a slice's life.
#[derive(Clone, Copy, Debug, PartialEq)]
struct End {
    at: f64,
    slice: SliceId,
}

impl Eq for End {}
impl PartialOrd for End {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for End {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.total_cmp(&other.at).then(self.slice.cmp(&other.slice))
    }
}

/// A fleet in motion.
struct Motion<'a> {
    fleet: Fleet,
    table: Option<&'a Pair>,
    ends: BinaryHeap<Reverse<End>>,
    now: f64,
    used_gb: u64,
    /// GB times time since the count began.
    area: f64,
}

/// Runs one churn: by the policy, or by an exact table of two GPUs.
#[must_use]
pub fn churn(setup: &Setup, policy: &Policy, table: Option<&Pair>, drive: &Drive) -> Churn {
    let policy = Policy { seed: drive.seed, ..policy.clone() };
    let fleet = Fleet::new(&setup.catalog, policy, &setup.gpus);
    let mut motion = Motion { fleet, table, ends: BinaryHeap::new(), now: 0.0, used_gb: 0, area: 0.0 };
    let mut draw = Draw::new(drive.seed);
    let weights = setup.catalog.weights();
    #[expect(clippy::cast_precision_loss, reason = "the GB of a fleet are exact")]
    let capacity = setup.gb() as f64;
    let gap = setup.catalog.mean_gb() / (drive.load * capacity);
    let before = (drive.requests / 4).max(2_000).max(3 * setup.gpus.len() as u64 * 16);
    let mut run = Churn { sizes: sizes(setup), ..Churn::default() };
    let mut began = 0.0;
    for number in 0..before + drive.requests {
        if number == before {
            (motion.area, began) = (0.0, motion.now);
            run = Churn { sizes: sizes(setup), ..Churn::default() };
        }
        motion.advance(motion.now + draw.exponential(gap));
        let size = u8::try_from(draw.weighted(&weights)).unwrap_or(0);
        let life = draw.exponential(1.0);
        let fits = motion.ask(size, life, drive.moves, &mut run);
        count(&mut run.sizes, size, !fits);
        if drive.course && number >= before && (number - before).is_multiple_of((drive.requests / 400).max(1))
        {
            let used = percent(motion.used_gb, setup.gb());
            run.course.push([percent(number - before, drive.requests), used, f_per_gpu(&motion.fleet)]);
        }
    }
    run.used = 100.0 * motion.area / ((motion.now - began) * capacity);
    run
}

impl Motion<'_> {
    /// Lets time pass, with the slices that end until then.
    fn advance(&mut self, to: f64) {
        while let Some(&Reverse(end)) = self.ends.peek().filter(|end| end.0.at <= to) {
            self.ends.pop();
            self.pass(end.at);
            if let Some(slice) = self.fleet.release(end.slice) {
                self.used_gb -= self.gb(slice.size);
            }
        }
        self.pass(to);
    }

    fn pass(&mut self, to: f64) {
        #[expect(clippy::cast_precision_loss, reason = "the GB of a fleet are exact")]
        let used = self.used_gb as f64;
        self.area += used * (to - self.now);
        self.now = to;
    }

    fn gb(&self, size: u8) -> u64 {
        u64::from(self.fleet.catalog().sizes[usize::from(size)].gb)
    }

    /// Places a request if it can be done; moves count in `run`.
    fn ask(&mut self, size: u8, life: f64, moves: usize, run: &mut Churn) -> bool {
        let choice = match self.table {
            Some(table) => table.choose(&self.fleet, size),
            None => self.fleet.choose(size),
        };
        let placed = choice.map(|choice| self.fleet.take(choice)).or_else(|| {
            let plan = self.rescue(size, moves)?;
            run.moves += plan.shifts.len() as u64;
            run.moved_gb += plan.shifts.iter().map(|shift| self.gb(shift.to.size)).sum::<u64>();
            Some(self.fleet.walk(&plan))
        });
        let Some(slice) = placed else { return false };
        self.used_gb += self.gb(size);
        self.ends.push(Reverse(End { at: self.now + life, slice }));
        run.placed += 1;
        true
    }

    fn rescue(&mut self, size: u8, moves: usize) -> Option<Plan> {
        match self.table {
            _ if moves == 0 => None,
            Some(table) => table.rescue(&mut self.fleet, size),
            None => self.fleet.rescue(size, moves),
        }
    }
}
