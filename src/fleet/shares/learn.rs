//! Learning the value table by self-play: runs on an empty copy of the fleet, with tasks drawn from the
//! expected mix. Never the sequence that is to be placed.

use super::kind::{Class, Kind};
use super::node::Node;
use super::outlook::{CARES, Demand};
use super::placer::Placer;
use super::policy::Policy;
use super::random::Random;
use super::values::{Lessons, Values};

/// Tables of the best rounds that are tried.
const CANDIDATES: usize = 4;

/// How much is played.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds; the first is played by first-fit.
    pub rounds: usize,
    /// Runs in each round.
    pub runs: usize,
    /// Thousandths that scores are rounded to.
    pub grain: i32,
    /// Runs by which the candidates are compared at the end.
    pub trials: usize,
}

impl Default for Effort {
    fn default() -> Self {
        Self { rounds: 12, runs: 8, grain: 60, trials: 24 }
    }
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Thousandths of GPUs given away.
    pub allocated: f64,
    /// By class: demand refused, and demand in all.
    pub classes: [(f64, f64); 4],
}

impl Outcome {
    fn add(&mut self, other: &Self) {
        self.allocated += other.allocated;
        for (sum, class) in self.classes.iter_mut().zip(other.classes) {
            *sum = (sum.0 + class.0, sum.1 + class.1);
        }
    }

    /// Returns by how many points a class is refused above `other`, less what is allowed, at most.
    ///
    /// A little stricter than the promise of 3 points for CPU-only tasks and 2 for others; most for
    /// several GPUs, of which a run has so few that trials tell the rate least exactly.
    fn excess(&self, other: &Self) -> f64 {
        let rate = |(refused, all): (f64, f64)| 100.0 * refused / all.max(1.0);
        let limits = [2.9, 1.7, 1.7, 1.0];
        let over = self.classes.iter().zip(&other.classes).zip(limits);
        over.map(|((own, other), limit)| rate(*own) - rate(*other) - limit).fold(f64::MIN, f64::max)
    }
}

/// What a policy learned.
#[derive(Clone, Debug)]
pub struct Lesson {
    /// The policy that did best in the trials, and kept the limits of all classes.
    pub policy: Policy,
    /// Its table, when it is the value table.
    pub values: Option<Values>,
    /// Percent of the GPUs given away in the trials: first-fit, the formula, the best table.
    pub trials: [f64; 3],
}

/// A stream of tasks drawn from a mix.
struct Draws<'a> {
    demand: &'a Demand,
    tasks: Vec<u32>,
}

impl<'a> Draws<'a> {
    fn new(demand: &'a Demand) -> Self {
        let mut tasks = Vec::new();
        for (number, &(_, count)) in (0_u32..).zip(&demand.mix) {
            tasks.extend((0..count).map(|_| number));
        }
        Self { demand, tasks }
    }

    fn draw(&self, random: &mut Random) -> &'a Kind {
        &self.demand.mix[self.tasks[random.below(self.tasks.len())] as usize].0
    }
}

/// Learns from a mix on the empty fleet `nodes`.
#[must_use]
pub fn learn(nodes: &[Node], demand: &Demand, seed: u64, effort: Effort) -> Lesson {
    let capacity: u64 = nodes.iter().map(|node| u64::from(node.idle())).sum();
    let wanted: u64 =
        demand.mix.iter().map(|(kind, count)| u64::from(kind.milli()) * u64::from(*count)).sum();
    if wanted == 0 || capacity == 0 {
        return Lesson { policy: Policy::FirstFit, values: None, trials: [0.0; 3] };
    }
    let draws = Draws::new(demand);
    let tables = tables(nodes, &draws, seed, effort);
    let percent = |outcome: &Outcome| {
        outcome.allocated / f64::from(u32::try_from(effort.trials.max(1)).unwrap_or(1)) / 10.0 * 1000.0
            / f64::from(u32::try_from(capacity / 1000).unwrap_or(u32::MAX).max(1))
            / 10.0
    };
    let trial = |policy, values: Option<&Values>| {
        let mut sum = Outcome::default();
        for run in 0..effort.trials {
            sum.add(&play(nodes, &draws, (policy, values), seed ^ (0x7a11 + run as u64), None));
        }
        sum
    };
    let first = trial(Policy::FirstFit, None);
    let formula = trial(Policy::Formula, None);
    let mut best = (Policy::FirstFit, None, first.allocated);
    if formula.allocated > best.2 && formula.excess(&first) <= 0.0 {
        best = (Policy::Formula, None, formula.allocated);
    }
    let mut highest = 0.0;
    for values in tables {
        let outcome = trial(Policy::Vgpud, Some(&values));
        highest = f64::max(highest, percent(&outcome));
        if outcome.allocated > best.2 && outcome.excess(&first) <= 0.0 {
            best = (Policy::Vgpud, Some(values), outcome.allocated);
        }
    }
    Lesson { policy: best.0, values: best.1, trials: [percent(&first), percent(&formula), highest] }
}

/// Plays the rounds and returns the tables of those that came out best.
fn tables(nodes: &[Node], draws: &Draws<'_>, seed: u64, effort: Effort) -> Vec<Values> {
    let placer = Placer::new(nodes.to_vec(), Policy::FirstFit, Demand::default(), 0);
    let mut lessons = Lessons::new(placer.models(), placer.ratio());
    let mut ranked: Vec<(f64, Values)> = Vec::new();
    let mut values: Option<Values> = None;
    for round in 0..effort.rounds {
        lessons.fade();
        let mut sum = Outcome::default();
        for run in 0..effort.runs {
            let policy = if values.is_some() { Policy::Vgpud } else { Policy::FirstFit };
            let seed = seed.wrapping_add((round * effort.runs + run) as u64 + 1);
            sum.add(&play(nodes, draws, (policy, values.as_ref()), seed, Some(&mut lessons)));
        }
        if let Some(values) = values.take() {
            ranked.push((sum.allocated, values));
        }
        values = Some(lessons.values(effort.grain));
    }
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    ranked.truncate(CANDIDATES);
    let priced =
        |(_, values): (f64, Values)| (0..CARES.len()).map(move |care| values.clone().with_care(care));
    ranked.into_iter().flat_map(priced).collect()
}

/// Plays one run: a random order of nodes, tasks until as much as there is has been asked for.
fn play(
    nodes: &[Node],
    draws: &Draws<'_>,
    (policy, values): (Policy, Option<&Values>),
    seed: u64,
    mut lessons: Option<&mut Lessons>,
) -> Outcome {
    let mut random = Random::new(seed);
    let mut order = nodes.to_vec();
    random.shuffle(&mut order);
    let capacity: u64 = order.iter().map(|node| u64::from(node.idle())).sum();
    let mut placer = Placer::new(order, policy, draws.demand.clone(), seed);
    placer.set_values(values.cloned());
    let mut outcome = Outcome::default();
    let mut arrived = 0;
    while arrived < capacity {
        let kind = draws.draw(&mut random);
        arrived += u64::from(kind.milli());
        let number = placer.kind(kind);
        let place = placer.place(number);
        outcome.count(kind, place.is_some());
        if let (Some(place), Some(lessons)) = (place, lessons.as_deref_mut()) {
            lessons.visit(place.node, &placer.nodes()[place.node as usize]);
        }
    }
    if let Some(lessons) = lessons {
        lessons.finish(placer.nodes());
    }
    outcome
}

impl Outcome {
    /// Counts a task: CPU-only tasks by their cores, others by their GPUs.
    pub fn count(&mut self, kind: &Kind, placed: bool) {
        let class = kind.class();
        let weight = f64::from(if class == Class::Cpu { kind.cpu } else { kind.milli() });
        let refused = if placed { 0.0 } else { weight };
        let (sum, all) = &mut self.classes[class as usize];
        *sum += refused;
        *all += weight;
        if placed {
            self.allocated += f64::from(kind.milli());
        }
    }
}
