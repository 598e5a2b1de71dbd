//! Work that flows through GPUs: at every moment each GPU's compute is shared out among what runs on it.
//!
//! Under *best effort* what runs gets equal parts, and what one cannot use goes to the others. Under *fixed
//! share* a slice gets its part and no more, used or not. A GPU on which tasks of several classes run loses a
//! part of its compute to changing between them.

use std::collections::VecDeque;

/// One piece of work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Task {
    /// Seconds.
    pub arrival: f64,
    /// Seconds it takes with a whole GPU.
    pub work: f64,
    /// The most of a GPU that it can use.
    pub most: f64,
    /// GB it needs.
    pub gb: f64,
    /// Whose it is.
    pub owner: usize,
    /// Its class.
    pub class: usize,
}

/// A part of a GPU in which one task runs at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// On which GPU.
    pub gpu: usize,
    /// Its GB.
    pub gb: f64,
    /// Its part of the GPU, where shares are fixed.
    pub share: f64,
    /// Who may use it; `None`: anybody.
    pub owner: Option<usize>,
}

/// How GPUs are divided.
#[derive(Clone, Debug, PartialEq)]
pub enum Division {
    /// Into cells that stay.
    Cells {
        /// The cells.
        cells: Vec<Cell>,
        /// Whether each gets its share and no more.
        fixed: bool,
    },
    /// On demand: a task takes the memory it needs where there is room.
    Demand {
        /// By class, the GPUs that it may use; empty: all.
        allowed: Vec<Vec<usize>>,
    },
}

/// GPUs that are alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Host {
    /// How many.
    pub gpus: usize,
    /// GB of each.
    pub gb: f64,
    /// The part of a GPU's compute that is lost while tasks of several classes run on it.
    pub loss: f64,
    /// When the run ends, in seconds.
    pub end: f64,
    /// From when on it counts.
    pub from: f64,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Done {
    /// Percent of the compute that did work.
    pub utilisation_percent: f64,
    /// Percent of the memory given to somebody: whole cells, whoever asked for less.
    pub memory_percent: f64,
    /// Percent of the work that arrived that was done.
    pub done_percent: f64,
    /// Seconds from arrival to the end, in the mean; those that have not ended count until the end of the run.
    pub turnaround_s: f64,
    /// 95 of 100 take no longer.
    pub turnaround_p95_s: f64,
    /// Seconds in the line, in the mean.
    pub waiting_s: f64,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    task: usize,
    gpu: usize,
    cell: usize,
    left: f64,
    rate: f64,
}

struct Motion<'a> {
    host: Host,
    division: &'a Division,
    tasks: &'a [Task],
    line: VecDeque<usize>,
    running: Vec<Running>,
    now: f64,
    /// Of the time that counts: compute that did work, and GB given away, times seconds.
    worked: f64,
    held: f64,
    begun: Vec<Option<f64>>,
    ended: Vec<Option<f64>>,
}

/// Runs tasks, which stand in the order of arrival, on a host that is divided in one way.
#[must_use]
pub fn flow(host: Host, division: &Division, tasks: &[Task]) -> Done {
    let none = vec![None; tasks.len()];
    let mut motion = Motion {
        host,
        division,
        tasks,
        line: VecDeque::new(),
        running: Vec::new(),
        now: 0.0,
        worked: 0.0,
        held: 0.0,
        begun: none.clone(),
        ended: none,
    };
    for (number, task) in tasks.iter().enumerate().take_while(|(_, task)| task.arrival < host.end) {
        motion.advance(task.arrival);
        motion.line.push_back(number);
        motion.turn();
    }
    motion.advance(host.end);
    motion.done()
}

impl Motion<'_> {
    /// Lets work flow until a time.
    fn advance(&mut self, to: f64) {
        loop {
            let ends =
                self.running.iter().filter(|one| one.rate > 0.0).map(|one| self.now + one.left / one.rate);
            let next = ends.fold(f64::INFINITY, f64::min);
            self.pass(next.min(to));
            if next > to {
                return;
            }
            let now = self.now;
            for one in self.running.iter().filter(|one| one.left <= 1e-6) {
                self.ended[one.task] = Some(now);
            }
            self.running.retain(|one| one.left > 1e-6);
            self.turn();
        }
    }

    fn pass(&mut self, to: f64) {
        let counted = (to - self.now.max(self.host.from)).max(0.0);
        self.worked += counted * self.running.iter().map(|one| one.rate).sum::<f64>();
        self.held += counted * self.running.iter().map(|one| self.gb(one)).sum::<f64>();
        for one in &mut self.running {
            one.left -= one.rate * (to - self.now);
        }
        self.now = to;
    }

    /// GB that a task holds: its cell, or what it asked for.
    fn gb(&self, one: &Running) -> f64 {
        match self.division {
            Division::Cells { cells, .. } => cells[one.cell].gb,
            Division::Demand { .. } => self.tasks[one.task].gb,
        }
    }

    /// Starts whoever can start, the first first; those behind pass one that cannot.
    fn turn(&mut self) {
        let mut at = 0;
        // What finds no place finds none behind either: in a turn, room only becomes less.
        let mut refused: Vec<(usize, usize, f64)> = Vec::new();
        while let Some(&number) = self.line.get(at) {
            let Task { class, owner, gb, .. } = self.tasks[number];
            if refused.contains(&(class, owner, gb)) {
                at += 1;
            } else if let Some((gpu, cell)) = self.place(&self.tasks[number]) {
                self.line.remove(at);
                self.begun[number] = Some(self.now);
                let left = self.tasks[number].work;
                self.running.push(Running { task: number, gpu, cell, left, rate: 0.0 });
            } else {
                refused.push((class, owner, gb));
                at += 1;
            }
        }
        self.share_out();
    }

    /// Returns the GPU, and the cell where there are cells, that a task can have.
    fn place(&self, task: &Task) -> Option<(usize, usize)> {
        match self.division {
            Division::Cells { cells, .. } => {
                let free = |at: usize| self.running.iter().all(|one| one.cell != at);
                let fits =
                    |cell: &Cell| cell.gb >= task.gb && cell.owner.is_none_or(|owner| owner == task.owner);
                let mut found = cells.iter().enumerate().filter(|(at, cell)| fits(cell) && free(*at));
                found.next().map(|(at, cell)| (cell.gpu, at))
            }
            Division::Demand { allowed } => {
                let of = |gpu: usize| self.running.iter().filter(move |one| one.gpu == gpu);
                let held = |gpu: usize| of(gpu).map(|one| self.gb(one)).sum::<f64>();
                let may = allowed.get(task.class).filter(|gpus| !gpus.is_empty());
                let gpus = (0..self.host.gpus).filter(|gpu| may.is_none_or(|may| may.contains(gpu)));
                let room = gpus.filter(|gpu| held(*gpu) + task.gb <= self.host.gb + 1e-9);
                // The GPU that has the most compute left for it.
                room.min_by_key(|gpu| of(*gpu).count()).map(|gpu| (gpu, 0))
            }
        }
    }

    /// Gives each task its part of the GPU.
    fn share_out(&mut self) {
        for gpu in 0..self.host.gpus {
            let class = |one: &Running| self.tasks[one.task].class;
            let mut of = self.running.iter().filter(|one| one.gpu == gpu);
            let first = of.next().map(class);
            let several = of.any(|one| Some(class(one)) != first);
            let mut whole = if several { 1.0 - self.host.loss } else { 1.0 };
            if let Division::Cells { cells, fixed: true } = self.division {
                for one in self.running.iter_mut().filter(|one| one.gpu == gpu) {
                    one.rate = (cells[one.cell].share * whole).min(self.tasks[one.task].most);
                }
                continue;
            }
            // Those that can use least are served first, so that what they leave is shared by the others.
            let of = self.running.iter().enumerate().filter(|(_, one)| one.gpu == gpu);
            let mut order: Vec<(usize, f64)> = of.map(|(at, one)| (at, self.tasks[one.task].most)).collect();
            order.sort_by(|a, b| a.1.total_cmp(&b.1));
            let mut left = order.len();
            for (at, most) in order {
                let part = whole / f64::from(u32::try_from(left).unwrap_or(1));
                self.running[at].rate = part.min(most);
                whole -= self.running[at].rate;
                left -= 1;
            }
        }
    }

    fn done(self) -> Done {
        let counted = |task: &Task| task.arrival >= self.host.from && task.arrival < self.host.end;
        let numbers: Vec<usize> = (0..self.tasks.len()).filter(|at| counted(&self.tasks[*at])).collect();
        let until =
            |at: usize, ends: &[Option<f64>]| ends[at].unwrap_or(self.host.end) - self.tasks[at].arrival;
        let mut turnarounds: Vec<f64> = numbers.iter().map(|at| until(*at, &self.ended)).collect();
        turnarounds.sort_by(f64::total_cmp);
        let mean = |values: &mut dyn Iterator<Item = f64>| {
            let (count, sum) = values.fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
            sum / f64::max(count, 1.0)
        };
        let gpus = f64::from(u32::try_from(self.host.gpus).unwrap_or(1));
        let time = (self.host.end - self.host.from).max(1e-9);
        let arrived: f64 = numbers.iter().map(|at| self.tasks[*at].work).sum();
        Done {
            utilisation_percent: 100.0 * self.worked / (gpus * time),
            memory_percent: 100.0 * self.held / (gpus * self.host.gb * time),
            done_percent: 100.0 * self.worked / arrived.max(1e-9),
            turnaround_s: mean(&mut turnarounds.iter().copied()),
            turnaround_p95_s: turnarounds
                .get(turnarounds.len().saturating_sub(1) * 95 / 100)
                .copied()
                .unwrap_or(0.0),
            waiting_s: mean(&mut numbers.iter().map(|at| until(*at, &self.begun))),
        }
    }
}
