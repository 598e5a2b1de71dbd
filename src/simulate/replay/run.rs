//! One run: events in order of time, until the workload's end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::fleet::slots::{Fleet, Pair, Request, SliceId};
use crate::simulate::replay::contender::Prepared;
use crate::simulate::replay::course::{Course, Point};
use crate::simulate::replay::line::Line;
use crate::simulate::replay::map::UseMap;
use crate::simulate::replay::tally::Tally;
use crate::simulate::replay::workload::{Job, Workload};
use crate::simulate::slots::{f_per_gpu, percent};

/// What is kept of a run beside its counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Use, fragmentation and the line over time.
    pub course: bool,
    /// What each GPU held.
    pub map: bool,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Run {
    pub(super) tally: Tally,
    /// Percent of the GB in use, mean over the time that counts.
    pub used_percent: f64,
    /// The most that wait at one time.
    pub longest_line: usize,
    /// Over time, when wanted.
    pub course: Option<Course>,
    /// By GPU over time, when wanted.
    pub map: Option<UseMap>,
    pub(super) nanoseconds: Vec<u32>,
}

/// What comes to pass at a time; ends come before those who tire, both before arrivals.
#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    End(usize),
    Tires(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Event {
    at: f64,
    order: (u8, usize),
    what: What,
}

impl Eq for Event {}
impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.total_cmp(&other.at).then(self.order.cmp(&other.order))
    }
}

impl Event {
    fn new(at: f64, what: What) -> Reverse<Self> {
        let order = match what {
            What::End(job) => (0, job),
            What::Tires(job) => (1, job),
        };
        Reverse(Self { at, order, what })
    }
}

/// Where slices go: onto the GPUs, or into one pool without slots and borders.
enum Ground<'a> {
    Fleet { fleet: Box<Fleet>, table: Option<&'a Pair>, moves: usize },
    Pool { free: u64 },
}

struct Motion<'a> {
    work: &'a Workload,
    ground: Ground<'a>,
    line: Line,
    events: BinaryHeap<Reverse<Event>>,
    /// By job: its slice while it runs.
    slices: Vec<Option<SliceId>>,
    now: f64,
    used_gb: u64,
    all_gb: u64,
    /// GB times seconds in use, of the time that counts.
    area: f64,
    run: Run,
}

/// Replays a workload. `told` hears now and then how many of the requests have arrived.
pub fn replay(work: &Workload, prepared: &Prepared, record: Record, told: &mut dyn FnMut(usize)) -> Run {
    let mut motion = Motion::new(work, prepared, record);
    for (number, job) in work.jobs.iter().enumerate() {
        motion.advance(job.arrival);
        motion.arrive(number, job);
        if number % 1024 == 0 {
            told(number);
        }
    }
    motion.finish()
}

impl<'a> Motion<'a> {
    fn new(work: &'a Workload, prepared: &'a Prepared, record: Record) -> Self {
        let ground = match &prepared.policy {
            Some(policy) => {
                let fleet = Box::new(Fleet::new(&prepared.setup.catalog, policy.clone(), &work.setup.gpus));
                Ground::Fleet { fleet, table: prepared.table.as_ref(), moves: prepared.moves }
            }
            None => Ground::Pool { free: work.setup.gb() },
        };
        let map = match &ground {
            Ground::Fleet { fleet, .. } if record.map => Some(UseMap::new(fleet)),
            _ => None,
        };
        let run = Run {
            tally: Tally::new(work),
            used_percent: 0.0,
            longest_line: 0,
            course: record.course.then(|| Course::new(work.end())),
            map,
            nanoseconds: Vec::with_capacity(work.jobs.len()),
        };
        Self {
            work,
            ground,
            line: Line::new(prepared.discipline, work.setup.catalog.sizes.len()),
            events: BinaryHeap::new(),
            slices: vec![None; work.jobs.len()],
            now: 0.0,
            used_gb: 0,
            all_gb: work.setup.gb(),
            area: 0.0,
            run,
        }
    }

    /// Lets time pass, with what comes to pass until then.
    fn advance(&mut self, to: f64) {
        while let Some(&Reverse(event)) = self.events.peek().filter(|event| event.0.at <= to) {
            self.events.pop();
            self.pass(event.at);
            match event.what {
                What::End(number) => {
                    self.end(number);
                    // Others that end at the same time make room for the same turn.
                    let more = self
                        .events
                        .peek()
                        .is_some_and(|next| next.0.at <= event.at && matches!(next.0.what, What::End(_)));
                    if !more {
                        self.turn();
                    }
                }
                What::Tires(number) => self.tire(number),
            }
        }
        self.pass(to);
    }

    fn pass(&mut self, to: f64) {
        while let Some(at) = self.run.course.as_ref().and_then(|course| course.due(to)) {
            self.note(at);
        }
        #[expect(clippy::cast_precision_loss, reason = "the GB of a fleet are exact")]
        let used = self.used_gb as f64;
        self.area += used * (to - self.now.max(self.work.counted_from)).max(0.0);
        self.now = to;
    }

    fn note(&mut self, at: f64) {
        let fragmented_percent = match &self.ground {
            Ground::Fleet { fleet, .. } => f_per_gpu(fleet),
            Ground::Pool { .. } => 0.0,
        };
        let (refused, asked) = self.run.tally.gb();
        let point = Point {
            at_s: at,
            used_percent: percent(self.used_gb, self.all_gb),
            fragmented_percent,
            waiting: self.line.len(),
            refused_percent: percent(refused, asked),
        };
        if let Some(course) = &mut self.run.course {
            course.points.push(point);
        }
        if let (Some(map), Ground::Fleet { fleet, .. }) = (&mut self.run.map, &self.ground) {
            map.note(fleet);
        }
    }

    fn arrive(&mut self, number: usize, job: &Job) {
        let gb = self.work.gb(job);
        self.run.tally.asked(job, gb);
        if self.line.lets_wait(job) {
            self.line.join((number, job, gb));
            self.turn();
            if self.slices[number].is_none() && job.wait.is_finite() {
                self.events.push(Event::new(job.arrival + job.wait, What::Tires(number)));
            }
            self.run.longest_line = self.run.longest_line.max(self.line.len());
        } else if !self.serve(number, job) {
            self.run.tally.refused(job, gb);
        }
    }

    /// Serves those in the line who can be.
    fn turn(&mut self) {
        let work = self.work;
        let mut full = vec![false; work.setup.catalog.sizes.len()];
        while let Some(number) = self.line.turn(self.now, &full) {
            let job = &work.jobs[number];
            if self.serve(number, job) {
                self.line.leave((number, job, work.gb(job)));
            } else {
                full[usize::from(job.size)] = true;
            }
        }
    }

    fn tire(&mut self, number: usize) {
        let job = &self.work.jobs[number];
        let gb = self.work.gb(job);
        if self.line.leave((number, job, gb)) {
            self.run.tally.refused(job, gb);
            // Nobody passed the one that left.
            self.turn();
        }
    }

    /// Makes the slice of a job if it can be made.
    fn serve(&mut self, number: usize, job: &Job) -> bool {
        let gb = self.work.gb(job);
        let began = Instant::now();
        let slice = self.place(job, gb);
        let took = began.elapsed().as_nanos();
        self.run.nanoseconds.push(u32::try_from(took).unwrap_or(u32::MAX));
        let Some(slice) = slice else { return false };
        self.slices[number] = Some(slice);
        self.used_gb += u64::from(gb);
        if let (Some(map), Ground::Fleet { fleet, .. }) = (&mut self.run.map, &self.ground) {
            map.came_now(fleet, slice, job.class, self.now);
        }
        if job.life.is_finite() {
            self.events.push(Event::new(self.now + job.life, What::End(number)));
        }
        let could_wait = self.line.lets_wait(job);
        self.run.tally.served((job, gb), self.now, could_wait);
        true
    }

    fn place(&mut self, job: &Job, gb: u32) -> Option<SliceId> {
        let request = Request { size: job.size, urgent: job.priority > 0 };
        let (fleet, table, moves) = match &mut self.ground {
            Ground::Pool { free } => {
                *free = free.checked_sub(u64::from(gb))?;
                return Some(0);
            }
            Ground::Fleet { fleet, table, moves } => (fleet, table, *moves),
        };
        let choice = match table {
            Some(table) => table.choose(fleet, job.size),
            None => fleet.choose(request),
        };
        if let Some(choice) = choice {
            return Some(fleet.take(choice));
        }
        let plan = match table {
            _ if moves == 0 => None,
            Some(table) => table.rescue(fleet, job.size),
            None => fleet.rescue(request, moves),
        }?;
        let slice = fleet.walk(&plan);
        self.run.tally.moves += plan.shifts.len() as u64;
        if let Some(map) = &mut self.run.map {
            plan.shifts.iter().for_each(|shift| map.came_now(fleet, shift.slice, job.class, self.now));
        }
        Some(slice)
    }

    fn end(&mut self, number: usize) {
        let Some(slice) = self.slices[number].take() else { return };
        let gb = u64::from(self.work.gb(&self.work.jobs[number]));
        self.used_gb -= gb;
        match &mut self.ground {
            Ground::Pool { free } => *free += gb,
            Ground::Fleet { fleet, .. } => drop(fleet.release(slice)),
        }
        if let Some(map) = &mut self.run.map {
            map.went(slice, self.now);
        }
    }

    fn finish(mut self) -> Run {
        let end = self.work.end();
        self.advance(end);
        let waiting: Vec<usize> = self.line.rest().collect();
        waiting.into_iter().for_each(|number| self.run.tally.waits_still(&self.work.jobs[number], end));
        #[expect(clippy::cast_precision_loss, reason = "the GB of a fleet are exact")]
        let whole = self.all_gb as f64 * (end - self.work.counted_from);
        self.run.used_percent =
            if whole > 0.0 { 100.0 * self.area / whole } else { percent(self.used_gb, self.all_gb) };
        if let Some(map) = &mut self.run.map {
            map.close(end);
        }
        self.run
    }
}
