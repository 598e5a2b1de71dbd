//! One run, and the statistics over the seeds.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use crate::fleet::shares::learn::{Effort, Lesson, Outcome, learn};
use crate::fleet::shares::{Class, Demand, Fragments, Kind, Placer, Policy, Random, Tenants, Values};
use crate::simulate::clock::Nanoseconds;
use crate::simulate::openb::trace::{Trace, count};

/// The percentages of arrived demand that are reported.
const POINTS: [u32; 6] = [50, 80, 95, 100, 110, 130];
/// With popularity from the arrivals, how much has arrived when the mix is taken anew, in thousandths.
const LOOKS: [u64; 7] = [20, 50, 100, 200, 350, 550, 800];

/// Where a policy's knowledge of the mix comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Popularity {
    /// The trace, as the published system has it.
    Trace,
    /// Other tasks: nothing of what arrives is known.
    Tasks(Vec<Kind>),
    /// What has arrived so far.
    Arrivals,
}

/// The experiment's settings.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// Runs with the seeds 0 and up.
    pub seeds: u64,
    /// Percent of the GPUs that are asked for in the end.
    pub arrived: u32,
    /// Where the mix comes from.
    pub popularity: Popularity,
    /// A table to use instead of learning one.
    pub values: Option<Values>,
    /// Percent of the tasks arrived so far that may have been moved, so that others fit.
    pub moves: f64,
}

/// Mean and spread over the seeds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Statistic {
    /// The mean.
    pub mean: f64,
    /// The sample's standard deviation.
    pub spread: f64,
}

/// What a policy came to.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyResult {
    /// The policy's name.
    pub policy: String,
    /// The number of runs.
    pub seeds: u64,
    /// Percent of the GPU thousandths given away, by percent of demand arrived.
    pub allocated_percent: BTreeMap<u32, Statistic>,
    /// Fragmentation amount in percent of the GPUs, by percent of demand arrived.
    pub fragmentation_percent: BTreeMap<u32, Statistic>,
    /// Tasks dropped at the end.
    pub refused_tasks: f64,
    /// Percent of each class's demand that was refused when 100 % had arrived.
    pub refused_percent: BTreeMap<&'static str, f64>,
    /// Tasks moved, mean of the runs.
    pub moves: f64,
    /// Time of a decision, its commit included.
    pub ns_per_decision: Nanoseconds,
}

/// What one run measured.
#[derive(Clone, Debug, Default)]
struct Run {
    /// By point: sums of allocation and fragmentation, and their number.
    points: BTreeMap<u32, (f64, f64, f64)>,
    refused: u32,
    at_full: Outcome,
    moves: u32,
    nanoseconds: Vec<u64>,
}

impl Experiment {
    /// Runs one policy; `progress` is told each finished seed.
    pub fn run(&self, trace: &Trace, policy: Policy, progress: &(dyn Fn(u64) + Sync)) -> PolicyResult {
        let mix = trace.mix();
        let models = trace.models.len();
        let fragments = Fragments::new(&mix, models);
        let demand = self.known(trace);
        let lesson = self.lesson(trace, policy, &demand);
        let half = |part: u64| {
            let seeds = (0..self.seeds).filter(|seed| seed % 2 == part);
            let run = |seed| {
                let run = self.one(trace, (policy, lesson.as_ref()), (&demand, &fragments), seed);
                progress(seed);
                run
            };
            seeds.map(run).collect::<Vec<Run>>()
        };
        let runs = std::thread::scope(|scope| {
            let other = scope.spawn(|| half(1));
            let mut runs = half(0);
            runs.extend(other.join().unwrap_or_default());
            runs
        });
        result(policy, self.seeds, &runs)
    }

    /// Returns the mix that the policies go by before anything has arrived.
    fn known(&self, trace: &Trace) -> Demand {
        match &self.popularity {
            Popularity::Trace => Demand::new(trace.mix()),
            Popularity::Tasks(tasks) => Demand::new(count(tasks)),
            Popularity::Arrivals => Demand::default(),
        }
    }

    fn lesson(&self, trace: &Trace, policy: Policy, demand: &Demand) -> Option<Lesson> {
        if policy != Policy::Vgpud || self.popularity == Popularity::Arrivals {
            return None;
        }
        if let Some(values) = &self.values {
            return Some(Lesson { policy, values: Some(values.clone()), trials: [0.0; 3] });
        }
        Some(learn(&trace.nodes, demand, LEARNING_SEED, Effort::default()))
    }

    fn one(
        &self,
        trace: &Trace,
        (policy, lesson): (Policy, Option<&Lesson>),
        (demand, fragments): (&Demand, &Fragments),
        seed: u64,
    ) -> Run {
        let mut random = Random::new(seed);
        let mut nodes = trace.nodes.clone();
        random.shuffle(&mut nodes);
        let tasks = arrivals(trace, self.arrived, &mut random);
        let empty = nodes.clone();
        let mut placer =
            Placer::new(nodes, lesson.map_or(policy, |lesson| lesson.policy), demand.clone(), seed);
        placer.set_values(lesson.and_then(|lesson| lesson.values.clone()));
        let numbers: Vec<usize> = tasks.iter().map(|kind| placer.kind(kind)).collect();
        let capacity = trace.capacity();
        let mut meter = Meter::new(&placer, fragments, capacity);
        meter.moves = self.moves;
        let mut looks = LOOKS.iter().filter(|_| self.popularity == Popularity::Arrivals).peekable();
        for (at, (kind, &number)) in tasks.iter().zip(&numbers).enumerate() {
            if looks.next_if(|&&look| meter.arrived * 1000 >= look * capacity).is_some() {
                look(&mut placer, policy, &tasks[..at], &empty);
            }
            meter.step(&mut placer, (kind, number), fragments);
        }
        meter.run
    }
}

/// Learning draws from seeds that no run has.
const LEARNING_SEED: u64 = 1 << 40;

/// Takes the mix from what has arrived, and learns from it.
fn look(placer: &mut Placer, policy: Policy, arrived: &[Kind], empty: &[crate::fleet::shares::Node]) {
    let demand = Demand::new(count(arrived));
    if policy == Policy::Vgpud {
        let lesson = learn(empty, &demand, LEARNING_SEED, Effort { rounds: 8, runs: 4, ..Effort::default() });
        placer.set_policy(lesson.policy);
        placer.set_values(lesson.values);
    }
    placer.set_demand(demand);
}

/// Draws the order of arrival: the trace, then repeats until the wanted part has been asked for.
fn arrivals(trace: &Trace, percent: u32, random: &mut Random) -> Vec<Kind> {
    let mut tasks = trace.tasks.clone();
    random.shuffle(&mut tasks);
    let wanted = trace.capacity() * u64::from(percent);
    let milli = |kind: &Kind| u64::from(kind.milli()) * 100;
    let mut asked: u64 = tasks.iter().map(milli).sum();
    if asked == 0 {
        return tasks;
    }
    while asked < wanted {
        let kind = trace.tasks[random.below(trace.tasks.len())];
        asked += milli(&kind);
        tasks.push(kind);
    }
    while asked.saturating_sub(tasks.last().map_or(0, milli)) >= wanted {
        asked -= tasks.pop().as_ref().map_or(0, milli);
    }
    tasks
}

/// Follows a run.
struct Meter {
    run: Run,
    arrived: u64,
    tasks: u32,
    allocated: u64,
    capacity: u64,
    /// By node: fragmentation times the number of typical tasks.
    fragments: Vec<i64>,
    /// Their sum.
    fragmented: i64,
    outcome: Outcome,
    /// Percent of the tasks that may be moved.
    moves: f64,
    tenants: Tenants,
}

impl Meter {
    fn new(placer: &Placer, fragments: &Fragments, capacity: u64) -> Self {
        let by_node: Vec<i64> = placer.nodes().iter().map(|node| fragments.of(node)).collect();
        Self {
            run: Run::default(),
            arrived: 0,
            tasks: 0,
            allocated: 0,
            capacity,
            fragmented: by_node.iter().sum(),
            tenants: Tenants::new(by_node.len()),
            fragments: by_node,
            outcome: Outcome::default(),
            moves: 0.0,
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "no decision takes centuries")]
    fn step(&mut self, placer: &mut Placer, (kind, number): (&Kind, usize), fragments: &Fragments) {
        self.arrived += u64::from(kind.milli());
        self.tasks += 1;
        let start = Instant::now();
        let touched = match placer.place(number) {
            Some(place) => {
                if self.moves > 0.0 {
                    self.tenants.add(number, place);
                }
                Some([place.node; 2])
            }
            None => self.rescued(placer, number),
        };
        self.run.nanoseconds.push(start.elapsed().as_nanos() as u64);
        self.outcome.count(kind, touched.is_some());
        match touched {
            Some(touched) => {
                self.allocated += u64::from(kind.milli());
                for node in touched.map(|node| node as usize) {
                    let now = fragments.of(&placer.nodes()[node]);
                    self.fragmented += now - self.fragments[node];
                    self.fragments[node] = now;
                }
            }
            None => self.run.refused += 1,
        }
        self.note(fragments);
    }

    /// Makes a refused task fit by a move, while moves are left; returns the nodes that changed.
    fn rescued(&mut self, placer: &mut Placer, number: usize) -> Option<[u32; 2]> {
        if f64::from(self.run.moves + 1) * 100.0 > f64::from(self.tasks) * self.moves {
            return None;
        }
        let rescue = placer.rescue(number, &self.tenants)?;
        placer.walk(number, &rescue, &mut self.tenants);
        self.run.moves += 1;
        Some([rescue.place.node, rescue.to.node])
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "percentages of some thousand GPUs"
    )]
    fn note(&mut self, fragments: &Fragments) {
        let percent = ((200 * self.arrived + self.capacity) / (2 * self.capacity.max(1))) as u32;
        if POINTS.contains(&percent) {
            let allocated = 100.0 * self.allocated as f64 / self.capacity as f64;
            let fragmented = 100.0 * self.fragmented as f64 / fragments.total() as f64 / self.capacity as f64;
            let sums = self.run.points.entry(percent).or_default();
            *sums = (sums.0 + allocated, sums.1 + fragmented, sums.2 + 1.0);
        }
        if self.arrived <= self.capacity {
            self.run.at_full = self.outcome;
        }
    }
}

fn statistic(values: &[f64]) -> Statistic {
    let count = f64::from(u32::try_from(values.len()).unwrap_or(u32::MAX));
    let mean = values.iter().sum::<f64>() / count.max(1.0);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Statistic { mean: round(mean), spread: round((squares / (count - 1.0).max(1.0)).sqrt()) }
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn result(policy: Policy, seeds: u64, runs: &[Run]) -> PolicyResult {
    let at = |point: u32, part: fn(&(f64, f64, f64)) -> f64| {
        let values: Vec<f64> = runs.iter().filter_map(|run| run.points.get(&point)).map(part).collect();
        (!values.is_empty()).then(|| (point, statistic(&values)))
    };
    let mean = |value: &dyn Fn(&Run) -> f64| statistic(&runs.iter().map(value).collect::<Vec<_>>()).mean;
    let refused = |class: Class| {
        let sums = runs.iter().map(|run| run.at_full.classes[class as usize]);
        let (refused, all) = sums.fold((0.0, 0.0), |sum, class| (sum.0 + class.0, sum.1 + class.1));
        (class.name(), round(100.0 * refused / f64::max(all, 1.0)))
    };
    let times = runs.iter().flat_map(|run| run.nanoseconds.iter().copied()).collect();
    PolicyResult {
        policy: policy.to_string(),
        seeds,
        allocated_percent: POINTS.iter().filter_map(|&point| at(point, |sums| sums.0 / sums.2)).collect(),
        fragmentation_percent: POINTS.iter().filter_map(|&point| at(point, |sums| sums.1 / sums.2)).collect(),
        refused_tasks: mean(&|run| f64::from(run.refused)),
        refused_percent: Class::ALL.into_iter().map(refused).collect(),
        moves: mean(&|run| f64::from(run.moves)),
        ns_per_decision: Nanoseconds::of(times),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_know_nothing_of_tasks_that_are_held_out() {
        let nodes = "sn,cpu_milli,memory_mib,gpu,model\nn1,64000,262144,2,T4\n";
        let pods = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\np1,1000,1024,1,500\np2,2000,1024,1,250\n";
        let trace = Trace::parse(nodes, pods).expect("lists");
        let (known, rest) = trace.halves(1);
        let experiment =
            |popularity| Experiment { seeds: 1, arrived: 100, popularity, values: None, moves: 0.0 };
        let kinds = |popularity| -> Vec<Kind> {
            experiment(popularity).known(&rest).mix.iter().map(|(kind, _)| *kind).collect()
        };
        assert_eq!(kinds(Popularity::Tasks(known.clone())), known);
        assert_eq!(kinds(Popularity::Trace), rest.tasks);
        assert_eq!(kinds(Popularity::Arrivals), []);
        let result = experiment(Popularity::Tasks(known)).run(&rest, Policy::Vgpud, &|_| {});
        assert!(result.allocated_percent[&100].mean > 50.0, "{result:?}");
    }
}
