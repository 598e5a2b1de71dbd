//! Two GPUs, exactly: the value of every joint state, and the choice that follows from it.
//!
//! Requests arrive as a Poisson stream and slices live for exponential times. The value of a state is what
//! is refused from it on, in GB, above the mean; it is found by relative value iteration over all joint
//! states. What fits is taken, at the place that leads to the best state; what does not fit may be served by
//! at most two moves, each at a charge, if that is worth it.

use crate::fleet::slots::catalog::Catalog;
use crate::fleet::slots::fleet::{Choice, Fleet};
use crate::fleet::slots::moves::{Plan, Shift};
use crate::fleet::slots::pattern::Mode;
use crate::fleet::slots::solo::Solo;

/// More states of one GPU than this make the table too large.
const MOST: usize = 600;
/// Iterations between two searches for the best moves.
const EVERY: usize = 8;

/// What a table is made for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// Demand against capacity.
    pub load: f64,
    /// At most so many moves for one request: 0 to 2.
    pub moves: usize,
    /// GB that a move counts.
    pub charge: f32,
    /// When the values move by less than this many GB a step, they are settled.
    pub tolerance: f32,
}

/// The values of all joint states of two GPUs of one kind.
#[derive(Clone, Debug)]
pub struct Pair {
    solo: Solo,
    demand: Demand,
    gb: Vec<f32>,
    values: Vec<f32>,
    /// For each joint state: where its neighbours by one move begin.
    starts: Vec<u32>,
    neighbours: Vec<u32>,
    /// Percent of GB refused, by the table's own account.
    refused: f64,
}

impl Pair {
    /// Works the table out; `None` when the GPU has too many states, or several kinds.
    #[must_use]
    pub fn new(catalog: &Catalog, demand: Demand) -> Option<Self> {
        let solo = if catalog.kinds.len() == 1 { Solo::new(catalog, MOST) } else { None }?;
        let joint = solo.len() * (solo.len() + 1) / 2;
        #[expect(clippy::cast_precision_loss, reason = "sizes are small")]
        let gb = catalog.sizes.iter().map(|size| size.gb as f32).collect();
        let mut pair = Self {
            solo,
            demand,
            gb,
            values: vec![0.0; joint],
            starts: Vec::new(),
            neighbours: Vec::new(),
            refused: 0.0,
        };
        if demand.moves > 0 {
            pair.list_neighbours();
        }
        pair.iterate(catalog);
        Some(pair)
    }

    /// Returns the number of joint states.
    #[must_use]
    pub fn states(&self) -> usize {
        self.values.len()
    }

    /// Returns the percent of GB that the table refuses, by its own account (moves are charged as refusals).
    #[must_use]
    pub fn refused_percent(&self) -> f64 {
        self.refused
    }

    fn list_neighbours(&mut self) {
        let states = u32::try_from(self.solo.len()).unwrap_or(0);
        self.starts.push(0);
        for b in 0..states {
            for a in 0..=b {
                let mut found = self.moved(a, b);
                found.extend(self.moved(b, a));
                found.sort_unstable();
                found.dedup();
                self.neighbours.extend(found);
                self.starts.push(u32::try_from(self.neighbours.len()).unwrap_or(u32::MAX));
            }
        }
    }

    /// Returns the joint states that moving one slice of the first GPU leads to.
    fn moved(&self, from: u32, other: u32) -> Vec<u32> {
        let mut found = Vec::new();
        for &(size, left, _) in &self.solo.leave[from as usize] {
            let size = usize::from(size);
            found.extend(self.solo.place[other as usize][size].iter().map(|to| joint(left, *to)));
            found.extend(self.solo.place[left as usize][size].iter().map(|to| joint(*to, other)));
        }
        found
    }

    fn near(&self, state: u32) -> &[u32] {
        let (from, to) = (self.starts[state as usize], self.starts[state as usize + 1]);
        &self.neighbours[from as usize..to as usize]
    }

    /// Returns the best value that placing a request leads to; infinite when it does not fit.
    fn placed(&self, (a, b): (u32, u32), size: usize) -> (f32, u32) {
        let first = self.solo.place[a as usize][size].iter().map(|to| joint(*to, b));
        let second = self.solo.place[b as usize][size].iter().map(|to| joint(a, *to));
        let each = first.chain(second).map(|to| (self.values[to as usize], to));
        each.min_by(|one, other| one.0.total_cmp(&other.0)).unwrap_or((f32::INFINITY, u32::MAX))
    }

    fn iterate(&mut self, catalog: &Catalog) {
        let rates = rates(catalog, self.demand.load);
        let pairs = pairs(self.solo.len());
        let slices = (0..u32::try_from(self.solo.len()).unwrap_or(0)).map(|state| self.solo.slices(state));
        let most = number(2 * slices.max().unwrap_or(0));
        let arrivals: f32 = rates.iter().sum();
        let clock = arrivals + most;
        // For each size and joint state that refuses it: where it leads at best, and what that costs.
        let mut detours: Vec<Vec<(u32, f32)>> = vec![Vec::new(); rates.len()];
        for round in 0..4000 {
            if round % EVERY == 0 {
                detours = (0..rates.len()).map(|size| self.detours(size, &pairs)).collect();
            }
            let next: Vec<f32> = (0..)
                .zip(&pairs)
                .map(|(at, &(a, b))| {
                    let mut sum = self.left((a, b), at, clock - arrivals);
                    for (size, rate) in rates.iter().enumerate() {
                        let (to, cost) = detours[size][at as usize];
                        let fits = to == u32::MAX;
                        let value =
                            if fits { self.placed((a, b), size).0 } else { self.values[to as usize] + cost };
                        sum += rate * value;
                    }
                    sum / clock
                })
                .collect();
            let change = |(new, old): (&f32, &f32)| new - old;
            let least = next.iter().zip(&self.values).map(change).fold(f32::INFINITY, f32::min);
            let most = next.iter().zip(&self.values).map(change).fold(f32::NEG_INFINITY, f32::max);
            let base = next[0];
            self.values = next.into_iter().map(|value| value - base).collect();
            let asked: f32 = rates.iter().zip(&self.gb).map(|(rate, gb)| rate * gb).sum();
            self.refused = f64::from(100.0 * (least + most) / 2.0 * clock / asked);
            if most - least < self.demand.tolerance && round > EVERY {
                return;
            }
        }
    }

    /// Returns the rate-weighted values after departures, with what is left of the clock staying put.
    fn left(&self, (a, b): (u32, u32), at: u32, ticks: f32) -> f32 {
        let mut rest = ticks;
        let mut sum = 0.0;
        for (state, other) in [(a, b), (b, a)] {
            for &(_, to, count) in &self.solo.leave[state as usize] {
                let count = number(count as usize);
                sum += count * self.values[joint(to, other) as usize];
                rest -= count;
            }
        }
        sum + rest * self.values[at as usize]
    }

    /// Returns for each joint state where a request that does not fit leads: refused, or served by moves.
    fn detours(&self, size: usize, pairs: &[(u32, u32)]) -> Vec<(u32, f32)> {
        let charge = self.demand.charge;
        let direct: Vec<(f32, u32)> = pairs.iter().map(|pair| self.placed(*pair, size)).collect();
        let step = |from: &[(f32, u32)]| -> Vec<(f32, u32)> {
            let through = |at: u32| {
                let each = self.near(at).iter().map(|near| from[*near as usize]);
                let best = each.min_by(|one, other| one.0.total_cmp(&other.0));
                best.map_or((f32::INFINITY, u32::MAX), |(value, to)| (value + charge, to))
            };
            (0..).take(pairs.len()).map(through).collect()
        };
        let one = if self.demand.moves > 0 { step(&direct) } else { Vec::new() };
        let two = if self.demand.moves > 1 { step(&one) } else { Vec::new() };
        let choose = |at: usize| {
            if direct[at].1 != u32::MAX {
                return (u32::MAX, 0.0);
            }
            let here = u32::try_from(at).unwrap_or(u32::MAX);
            let refuse = (self.values[at] + self.gb[size], here);
            let ways = [one.get(at), two.get(at)].into_iter().flatten().copied().chain([refuse]);
            let best = ways.min_by(|one, other| one.0.total_cmp(&other.0)).unwrap_or(refuse);
            (best.1, best.0 - self.values[best.1 as usize])
        };
        (0..pairs.len()).map(choose).collect()
    }

    /// Chooses a place in a fleet of two GPUs; `None` when there is none, or the fleet is not of this table.
    #[must_use]
    pub fn choose(&self, fleet: &Fleet, size: u8) -> Option<Choice> {
        self.best(fleet, size).map(|(_, choice)| choice)
    }

    fn best(&self, fleet: &Fleet, size: u8) -> Option<(f32, Choice)> {
        let mut best: Option<(f32, Choice)> = None;
        for gpu in 0..2 {
            let other = self.state(fleet, 1 - gpu, None)?;
            for (id, mode) in fleet.open(gpu, size) {
                let Some(state) = self.state(fleet, gpu, Some((size, id, mode))) else { continue };
                let value = self.values[joint(state, other) as usize];
                if best.is_none_or(|(least, _)| value < least) {
                    best = Some((value, Choice { gpu, size, id, mode, score: 0 }));
                }
            }
        }
        best
    }

    /// Returns the state of a GPU, with one slice more.
    fn state(&self, fleet: &Fleet, gpu: u32, more: Option<(u8, u8, Mode)>) -> Option<u32> {
        let held = fleet.slices(gpu).map(|(_, slice)| (slice.size, slice.id));
        let held = held.chain(more.map(|(size, id, _)| (size, id)));
        self.solo.find(more.map_or(fleet.pattern(gpu).mode, |(_, _, mode)| mode), held)
    }

    /// Searches the moves that serve a request that does not fit, if they are worth it. The state stays.
    pub fn rescue(&self, fleet: &mut Fleet, size: u8) -> Option<Plan> {
        if self.demand.moves == 0 {
            return None;
        }
        let here = joint(self.state(fleet, 0, None)?, self.state(fleet, 1, None)?);
        let refused = self.values[here as usize] + self.gb[usize::from(size)];
        let (value, plan) = self.by_moves(fleet, size, self.demand.moves)?;
        (value < refused).then_some(plan)
    }

    fn by_moves(&self, fleet: &mut Fleet, size: u8, most: usize) -> Option<(f32, Plan)> {
        let mut best: Option<(f32, Plan)> = None;
        let mut seen = Vec::new();
        let all: Vec<_> = (0..2).flat_map(|gpu| fleet.slices(gpu).collect::<Vec<_>>()).collect();
        for (slice, held) in all {
            let mode = fleet.pattern(held.gpu).mode;
            let home = Choice { gpu: held.gpu, size: held.size, id: held.id, mode, score: 0 };
            fleet.release(slice)?;
            let open = (0..2).flat_map(|gpu| fleet.open(gpu, held.size).into_iter().map(move |at| (gpu, at)));
            for (gpu, (id, mode)) in open.collect::<Vec<_>>() {
                let to = Choice { gpu, size: held.size, id, mode, score: 0 };
                fleet.take(to);
                let found = self.after_move(fleet, size, most, &mut seen);
                if let Some((value, mut plan)) =
                    found.filter(|(value, _)| best.as_ref().is_none_or(|b| *value < b.0))
                {
                    plan.shifts.insert(0, Shift { slice, to });
                    best = Some((value, plan));
                }
                fleet.release(slice);
            }
            fleet.take(home);
        }
        best
    }

    /// Returns the best value after one move, by placing now or after one more move.
    fn after_move(
        &self,
        fleet: &mut Fleet,
        size: u8,
        most: usize,
        seen: &mut Vec<u32>,
    ) -> Option<(f32, Plan)> {
        let state = joint(self.state(fleet, 0, None)?, self.state(fleet, 1, None)?);
        if seen.contains(&state) {
            return None;
        }
        seen.push(state);
        let charge = self.demand.charge;
        if let Some((value, choice)) = self.best(fleet, size) {
            return Some((value + charge, Plan { shifts: Vec::new(), choice, fragmentation: 0 }));
        }
        let later = if most > 1 { self.by_moves(fleet, size, most - 1) } else { None };
        later.map(|(value, plan)| (value + charge, plan))
    }
}

/// Returns the number of a joint state.
fn joint(a: u32, b: u32) -> u32 {
    let (low, high) = (a.min(b), a.max(b));
    high * (high + 1) / 2 + low
}

fn pairs(states: usize) -> Vec<(u32, u32)> {
    let states = u32::try_from(states).unwrap_or(0);
    (0..states).flat_map(|b| (0..=b).map(move |a| (a, b))).collect()
}

/// Returns the arrivals of each size in a mean lifetime.
fn rates(catalog: &Catalog, load: f64) -> Vec<f32> {
    let total: f64 = catalog.sizes.iter().map(|size| f64::from(size.weight)).sum();
    let all = load * 2.0 * f64::from(catalog.kinds[0].gb()) / catalog.mean_gb();
    #[expect(clippy::cast_possible_truncation, reason = "a rate needs no more digits")]
    let rate = |weight: u32| (all * f64::from(weight) / total) as f32;
    catalog.sizes.iter().map(|size| rate(size.weight)).collect()
}

fn number(count: usize) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "a count of slices is small")]
    let number = count as f32;
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(size: &str, load: f64) -> f64 {
        let catalog = Catalog::new(&["h100-80"], &[(size.to_owned(), 1)]).expect("a catalogue");
        let demand = Demand { load, moves: 0, charge: 0.5, tolerance: 1e-4 };
        Pair::new(&catalog, demand).expect("few states").refused_percent()
    }

    #[test]
    fn one_size_is_refused_as_erlangs_formula_says() {
        // 2 servers, 1 Erlang: 1/2 / (1 + 1 + 1/2).
        assert!((refused("80", 0.5) - 20.0).abs() < 0.01);
        // 4 servers, 4 Erlang: (256/24) / (1 + 4 + 8 + 64/6 + 256/24).
        assert!((refused("40", 1.0) - 31.068).abs() < 0.01);
    }
}
