//! The state of a fleet, and the decision for one task.

mod rescue;

use std::collections::HashMap;

use super::baseline;
use super::formula;
use super::fragments::Fragments;
use super::index::{Journal, NO_ROOM, Tree};
use super::kind::Kind;
use super::node::{Node, Place};
use super::outlook::{Demand, Outlook};
use super::policy::Policy;
use super::random::Random;
use super::values::Values;
pub use rescue::{Rescue, Tenants};

/// Draws of a node at random before the nodes with room are counted.
const DRAWS: usize = 32;
/// Parts of a task that equal growths are told apart by.
const STATE_PARTS: i64 = 16;
/// The part of the fleet that is asked for between two outlooks.
const RENEWALS: u64 = 200;

/// What a score depends on beside the kind and the node.
#[derive(Clone, Debug)]
struct Rules {
    policy: Policy,
    fragments: Option<Fragments>,
    values: Option<Values>,
    demand: Demand,
    outlook: Outlook,
    models: usize,
    /// Cores per GPU of the empty fleet.
    ratio: f64,
}

impl Rules {
    /// Returns the score of a node, lower is better, or [`NO_ROOM`].
    fn score(&self, kind: &Kind, node: &Node) -> i32 {
        if !node.fits(kind) {
            return NO_ROOM;
        }
        match self.policy {
            Policy::FirstFit | Policy::Random | Policy::RoundRobin => 0,
            Policy::BestFit | Policy::BestFitRandomTies => baseline::best_fit(kind, node),
            Policy::DotProduct => baseline::dot_product(kind, node),
            Policy::Packing | Policy::PackingRandomTies => baseline::packing(kind, node),
            Policy::Clustering => baseline::clustering(kind, node),
            Policy::Spread => baseline::spread(kind, node),
            Policy::LeastLoaded => baseline::least_loaded(node),
            Policy::Fgd | Policy::FgdRandomTies => self.fgd(kind, node),
            Policy::FgdExact => self.fgd_exact(kind, node, STATE_PARTS),
            Policy::FgdExactOrder => self.fgd_exact(kind, node, 1),
            Policy::Formula => formula::score(kind, node, &self.outlook),
            Policy::Vgpud => match &self.values {
                Some(values) => values.score(kind, node, &self.outlook),
                None => formula::score(kind, node, &self.outlook),
            },
        }
    }

    /// Returns the published score, turned so that lower is better.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "hundredths of a number between 0 and 1"
    )]
    fn fgd(&self, kind: &Kind, node: &Node) -> i32 {
        let Some(fragments) = &self.fragments else { return 0 };
        let growth = fragments.growth(kind, node).0 as f64 / fragments.total() as f64;
        100 - (100.0 / (1.0 + (growth / 1000.0).exp())) as i32
    }

    /// Returns the growth as a whole number, with a last digit of `parts` from the node's state.
    fn fgd_exact(&self, kind: &Kind, node: &Node, parts: i64) -> i32 {
        let Some(fragments) = &self.fragments else { return 0 };
        // Mixes of more tasks are counted in larger parts, so that 32 bits suffice.
        let growth = fragments.growth(kind, node).0.div_euclid(fragments.total() / 10_000 + 1);
        let score = growth * parts + (state_mark(node) % parts.unsigned_abs()).cast_signed();
        i32::try_from(score).unwrap_or(if score < 0 { i32::MIN } else { NO_ROOM - 1 })
    }

    /// Returns the GPUs that the policy takes on a node.
    fn gpus(&self, kind: &Kind, node: &Node) -> u8 {
        match (self.policy, &self.fragments) {
            (policy, Some(fragments)) if policy.is_fgd() => fragments.growth(kind, node).1,
            (Policy::LeastLoaded | Policy::Spread, _) if kind.is_share() => emptiest(node),
            _ => node.tightest(kind),
        }
    }
}

/// Mixes what is free on a node into a number.
fn state_mark(node: &Node) -> u64 {
    let start = u64::from(node.cpu()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = node.shares().iter().fold(start, |mark, &idle| {
        let mark = (mark ^ u64::from(idle)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mark ^ (mark >> 29)
    });
    mixed >> 40
}

fn emptiest(node: &Node) -> u8 {
    let shares = node.shares();
    let most = shares.iter().copied().max().unwrap_or(0);
    1 << shares.iter().position(|&idle| idle == most).unwrap_or(0)
}

/// A fleet in one order of nodes, with its policy.
#[derive(Clone, Debug)]
pub struct Placer {
    nodes: Vec<Node>,
    rules: Rules,
    kinds: Vec<(Kind, Option<Tree>)>,
    numbers: HashMap<Kind, usize>,
    journal: Journal,
    random: Random,
    /// Where round-robin goes on.
    next: usize,
    generation: u32,
    arrived: u64,
    renewal: u64,
    capacity: u64,
}

impl Placer {
    /// Creates a placer; the order of `nodes` is the order of ties.
    #[must_use]
    pub fn new(nodes: Vec<Node>, policy: Policy, demand: Demand, seed: u64) -> Self {
        let models = nodes.iter().map(|node| usize::from(node.model()) + 1).max().unwrap_or(1);
        let capacity: u64 = nodes.iter().map(|node| u64::from(node.idle())).sum();
        let ratio = ratio(&nodes);
        let mut placer = Self {
            rules: Rules {
                policy,
                fragments: policy.is_fgd().then(|| Fragments::new(&demand.mix, models)),
                values: None,
                demand,
                outlook: Outlook::default(),
                models,
                ratio,
            },
            journal: Journal::new(nodes.len()),
            nodes,
            kinds: Vec::new(),
            numbers: HashMap::new(),
            random: Random::new(seed),
            next: 0,
            generation: 0,
            arrived: 0,
            renewal: 0,
            capacity,
        };
        placer.renew();
        placer
    }

    /// Sets the value table that `vgpud` scores by.
    pub fn set_values(&mut self, values: Option<Values>) {
        self.rules.values = values;
        self.generation += 1;
    }

    /// Replaces the policy; what is placed stays.
    pub fn set_policy(&mut self, policy: Policy) {
        self.rules.policy = policy;
        self.generation += 1;
        self.renew();
    }

    /// Replaces the demand that is expected.
    pub fn set_demand(&mut self, demand: Demand) {
        if self.rules.fragments.is_some() {
            self.rules.fragments = Some(Fragments::new(&demand.mix, self.rules.models));
        }
        self.rules.demand = demand;
        self.generation += 1;
        self.renew();
    }

    /// Returns the nodes in their order.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns the number of GPU models.
    #[must_use]
    pub fn models(&self) -> usize {
        self.rules.models
    }

    /// Returns the cores per GPU of the fleet when the placer was made.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.rules.ratio
    }

    /// Returns the bytes that state and index hold.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let trees: usize = self.kinds.iter().filter_map(|(_, tree)| tree.as_ref()).map(Tree::bytes).sum();
        self.nodes.len() * size_of::<Node>() + self.journal.bytes() + trees
    }

    /// Returns the number of a kind; asking again gives the same.
    pub fn kind(&mut self, kind: &Kind) -> usize {
        let kinds = &mut self.kinds;
        *self.numbers.entry(*kind).or_insert_with(|| {
            kinds.push((*kind, None));
            kinds.len() - 1
        })
    }

    /// Decides for a task of the kind and takes what it needs; `None` when it fits nowhere.
    pub fn place(&mut self, kind: usize) -> Option<Place> {
        let place = self.decide(kind);
        if let Some(place) = place {
            self.reserve(kind, place);
        }
        self.arrived += u64::from(self.kinds[kind].0.milli());
        if self.arrived >= self.renewal {
            self.renew();
        }
        place
    }

    /// Decides by the index.
    pub fn decide(&mut self, number: usize) -> Option<Place> {
        let (kind, tree) = self.kinds.get_mut(number)?;
        let kind = *kind;
        let mut tree = tree.take().unwrap_or_else(|| Tree::new(self.nodes.len()));
        let (rules, nodes) = (&self.rules, &self.nodes);
        tree.refresh(&self.journal, self.generation, |node| rules.score(&kind, &nodes[node]));
        let found = match rules.policy {
            Policy::Random => self.any(&kind, |node| tree.score(node) == 0),
            Policy::RoundRobin => tree.first_from(self.next, 0).or_else(|| tree.first_from(0, 0)),
            policy if policy.has_random_ties() => {
                let least = tree.least();
                self.any(&kind, |node| tree.score(node) == least)
            }
            _ => tree.first(),
        };
        self.kinds[number].1 = Some(tree);
        self.at(&kind, found?)
    }

    /// Decides by looking at every node; the check of [`Self::decide`], same answer.
    pub fn decide_by_scan(&mut self, number: usize) -> Option<Place> {
        let kind = self.kinds.get(number)?.0;
        let scores: Vec<i32> = self.nodes.iter().map(|node| self.rules.score(&kind, node)).collect();
        let least = scores.iter().copied().min().filter(|&least| least != NO_ROOM)?;
        let first = |from: usize| (from..scores.len()).find(|&node| scores[node] == least);
        let found = match self.rules.policy {
            Policy::RoundRobin => first(self.next).or_else(|| first(0)),
            policy if policy == Policy::Random || policy.has_random_ties() => {
                self.any(&kind, |node| scores[node] == least)
            }
            _ => first(0),
        };
        self.at(&kind, found?)
    }

    /// Draws one of the nodes that are `good`, all equally likely.
    fn any(&mut self, kind: &Kind, good: impl Fn(usize) -> bool) -> Option<usize> {
        for _ in 0..DRAWS {
            let node = self.random.below(self.nodes.len());
            if good(node) && self.nodes[node].fits(kind) {
                return Some(node);
            }
        }
        let nodes = (0..self.nodes.len()).filter(|&node| good(node) && self.nodes[node].fits(kind));
        let nodes: Vec<usize> = nodes.collect();
        nodes.get(self.random.below(nodes.len())).copied()
    }

    fn at(&mut self, kind: &Kind, node: usize) -> Option<Place> {
        let gpus = if self.rules.policy == Policy::Random && kind.is_share() {
            let shares = self.nodes[node].shares();
            let fit: Vec<usize> = (0..shares.len()).filter(|&gpu| shares[gpu] >= kind.share).collect();
            1 << fit[self.random.below(fit.len())]
        } else {
            self.rules.gpus(kind, &self.nodes[node])
        };
        Some(Place { node: u32::try_from(node).ok()?, gpus })
    }

    /// Takes what a task of the kind needs at a place that was decided for it.
    pub fn reserve(&mut self, kind: usize, place: Place) {
        self.nodes[place.node as usize].take(&self.kinds[kind].0, place.gpus);
        self.journal.push(place.node);
        self.next = (place.node as usize + 1) % self.nodes.len();
    }

    /// Gives back what a task of the kind took.
    pub fn release(&mut self, kind: usize, place: Place) {
        self.nodes[place.node as usize].give(&self.kinds[kind].0, place.gpus);
        self.journal.push(place.node);
    }

    /// Returns the score of each node for a kind, for an explanation; `None` where it does not fit.
    #[must_use]
    pub fn scores(&self, kind: &Kind) -> Vec<Option<i32>> {
        let score = |node| Some(self.rules.score(kind, node)).filter(|&score| score != NO_ROOM);
        self.nodes.iter().map(score).collect()
    }

    fn renew(&mut self) {
        self.renewal = self.arrived + (self.capacity / RENEWALS).max(1);
        if matches!(self.rules.policy, Policy::Formula | Policy::Vgpud) {
            let outlook = Outlook::new(&self.rules.demand, &self.nodes, self.rules.models, self.rules.ratio);
            if outlook != self.rules.outlook {
                self.rules.outlook = outlook;
                self.generation += 1;
            }
        }
    }
}

/// Returns the cores per GPU of the nodes with GPUs.
fn ratio(nodes: &[Node]) -> f64 {
    let with = nodes.iter().filter(|node| node.gpus() > 0);
    let (cpu, gpus) = with.fold((0.0, 0.0), |(cpu, gpus), node| {
        (cpu + f64::from(node.cpu()) / 1000.0, gpus + f64::from(node.gpus()))
    });
    if gpus > 0.0 { cpu / gpus } else { 0.0 }
}
