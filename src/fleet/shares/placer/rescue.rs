//! Making a refused task fit by moving one that is placed.
//!
//! The search looks at every placed task: would the refused one fit where it stands, and does it have another
//! place then? Of all such moves the cheapest is taken: by the policy's own scores of both new places, less
//! that of the place given up; then the smallest task; then the first of the order.

use crate::fleet::shares::index::{NO_ROOM, Tree};
use crate::fleet::shares::kind::Kind;
use crate::fleet::shares::node::{Node, Place};
use crate::fleet::shares::placer::Placer;

/// The placed tasks, by number and by node.
#[derive(Clone, Debug)]
pub struct Tenants {
    all: Vec<(usize, Place)>,
    by_node: Vec<Vec<u32>>,
}

impl Tenants {
    /// Creates an empty list for a fleet of `nodes`.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self { all: Vec::new(), by_node: vec![Vec::new(); nodes] }
    }

    /// Remembers a task of a kind at its place; tasks are numbered as they come.
    pub fn add(&mut self, kind: usize, place: Place) {
        let number = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.by_node[place.node as usize].push(number);
        self.all.push((kind, place));
    }

    /// Returns each task's kind and place, by its number.
    #[must_use]
    pub fn all(&self) -> &[(usize, Place)] {
        &self.all
    }

    fn shift(&mut self, number: u32, to: Place) {
        let place = &mut self.all[number as usize].1;
        self.by_node[place.node as usize].retain(|&other| other != number);
        self.by_node[to.node as usize].push(number);
        *place = to;
    }
}

/// One placed task moved, and where the refused one goes then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rescue {
    /// The number of the task that moves, as [`Tenants`] has it.
    pub tenant: u32,
    /// Its new place, which is free before it leaves the old one or is another GPU of its node.
    pub to: Place,
    /// The place of the task that did not fit.
    pub place: Place,
}

/// The best and the second best node of a kind, with their scores.
type Homes = [(i32, usize); 2];

impl Placer {
    /// Returns the cheapest move of one task that makes a task of the kind fit; `None` when none does. The
    /// state stays as it is. Meant for a kind that was just refused.
    pub fn rescue(&mut self, number: usize, tenants: &Tenants) -> Option<Rescue> {
        let kind = self.kinds.get(number)?.0;
        let mut homes: Vec<Option<Homes>> = vec![None; self.kinds.len()];
        let mut best: Option<((i64, u32, u32), Rescue)> = None;
        for (at, on) in tenants.by_node.iter().enumerate() {
            if !self.nodes[at].suits(&kind) {
                continue;
            }
            for &tenant in on {
                let (moved, place) = tenants.all[tenant as usize];
                let leaving = self.kinds[moved].0;
                let without = self.nodes[at].without(&leaving, place.gpus);
                if !without.fits(&kind) {
                    continue;
                }
                let homes = *homes[moved].get_or_insert_with(|| self.homes(moved));
                let Some((cost, to, gpus)) = self.settled((&kind, &without), (&leaving, at), homes) else {
                    continue;
                };
                let rank = (cost, leaving.milli(), leaving.cpu);
                if best.is_none_or(|(least, _)| rank < least) {
                    best = Some((rank, Rescue { tenant, to, place: Place { gpus, ..place } }));
                }
            }
        }
        best.map(|(_, rescue)| rescue)
    }

    /// Walks a rescue: moves the task, and takes the place for one of the kind.
    pub fn walk(&mut self, number: usize, rescue: &Rescue, tenants: &mut Tenants) {
        let (moved, from) = tenants.all[rescue.tenant as usize];
        self.release(moved, from);
        self.reserve(moved, rescue.to);
        self.reserve(number, rescue.place);
        tenants.shift(rescue.tenant, rescue.to);
        tenants.add(number, rescue.place);
    }

    /// Returns the two best nodes of a kind as things stand; [`NO_ROOM`] where there are fewer.
    fn homes(&mut self, number: usize) -> Homes {
        let kind = self.kinds[number].0;
        let mut tree = self.kinds[number].1.take().unwrap_or_else(|| Tree::new(self.nodes.len()));
        let (rules, nodes) = (&self.rules, &self.nodes);
        tree.refresh(&self.journal, self.generation, |node| rules.score(&kind, &nodes[node]));
        let mut homes = [(NO_ROOM, usize::MAX); 2];
        for node in 0..nodes.len() {
            let score = tree.score(node);
            if score < homes[0].0 {
                homes = [(score, node), homes[0]];
            } else if score < homes[1].0 {
                homes[1] = (score, node);
            }
        }
        self.kinds[number].1 = Some(tree);
        homes
    }

    /// Returns what it costs to put `kind` on a node that a task leaves, where that task goes, and the GPUs
    /// that `kind` gets.
    fn settled(
        &self,
        (kind, without): (&Kind, &Node),
        (leaving, at): (&Kind, usize),
        homes: Homes,
    ) -> Option<(i64, Place, u8)> {
        let gpus = self.rules.gpus(kind, without);
        let after = without.with(kind, gpus);
        let here = (self.rules.score(leaving, &after), at);
        let other = homes.into_iter().find(|&(_, node)| node != at).unwrap_or((NO_ROOM, at));
        let (score, node) = if here.0 <= other.0 { here } else { other };
        if score == NO_ROOM {
            return None;
        }
        let home = if node == at { &after } else { &self.nodes[node] };
        let to = Place { node: u32::try_from(node).ok()?, gpus: self.rules.gpus(leaving, home) };
        let [score, own, old] =
            [score, self.rules.score(kind, without), self.rules.score(leaving, without)].map(i64::from);
        Some((score + own - old, to, gpus))
    }
}
