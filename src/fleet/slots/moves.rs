//! Making a request fit by moving a few slices to other places.
//!
//! A *shift* gives a slice back and makes it again elsewhere. Shifts are walked in order, each into a place
//! that is free then. For each place the request could have, the slices in its way are settled anew, if
//! need be by shifting others; the search is over all places, and takes the plan with the fewest shifts,
//! among those the one that leaves the least fragmentation.

use std::collections::HashSet;

use crate::fleet::slots::fleet::{Choice, Fleet, Request};
use crate::fleet::slots::pattern::Mode;
use crate::fleet::slots::slices::{FOREIGN, Slice, SliceId};

/// From this many GPUs on, settling a slice looks at its best place only, and shifts of shifts are not tried
/// where a plan without them exists.
const MANY: usize = 5;

/// One slice moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift {
    /// The slice; it keeps its number.
    pub slice: SliceId,
    /// Its new place.
    pub to: Choice,
}

/// What makes a request fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they must be walked.
    pub shifts: Vec<Shift>,
    /// Where the request goes then.
    pub choice: Choice,
    /// Fragmentation when it is there.
    pub fragmentation: i64,
}

impl Plan {
    fn cost(&self) -> (usize, i64) {
        (self.shifts.len(), self.fragmentation)
    }

    fn better(self, other: Option<Self>) -> Option<Self> {
        match other {
            Some(other) if other.cost() <= self.cost() => Some(other),
            _ => Some(self),
        }
    }
}

/// A slice that was given back and has no new place yet, with its old one.
type Waiting = (SliceId, Choice);

/// A place and the slices in its way.
type Target = (Choice, Vec<(SliceId, Slice)>);

impl Fleet {
    /// Searches the cheapest plan of at most `most` shifts (never more than 2) that makes a request fit. The
    /// state stays as it is.
    pub fn rescue(&mut self, request: impl Into<Request>, most: usize) -> Option<Plan> {
        let request = request.into();
        (0..=most.min(2)).find_map(|budget| self.search(request, budget, None))
    }

    /// Walks a plan and returns the new slice's number.
    pub fn walk(&mut self, plan: &Plan) -> SliceId {
        plan.shifts.iter().for_each(|shift| self.shift(shift));
        self.take(plan.choice)
    }

    /// Moves one slice; its number stays.
    pub fn shift(&mut self, shift: &Shift) {
        if self.release(shift.slice).is_some() {
            let number = self.take(shift.to);
            debug_assert_eq!(number, shift.slice, "the number freed last is given first");
        }
    }

    /// Returns the best plan within a budget; `avoid` is a place that is not to be cleared.
    fn search(&mut self, request: Request, budget: usize, avoid: Option<Choice>) -> Option<Plan> {
        if let Some(choice) = self.choose(request).filter(|_| avoid.is_none()) {
            let slice = self.take(choice);
            let fragmentation = self.fragmentation();
            self.release(slice);
            return Some(Plan { shifts: Vec::new(), choice, fragmentation });
        }
        if budget == 0 {
            return None;
        }
        let mut best: Option<Plan> = None;
        let mut seen = HashSet::new();
        for gpu in 0..u32::try_from(self.len()).unwrap_or(u32::MAX) {
            for (choice, blockers) in self.targets(gpu, request.size, budget) {
                let alike: Vec<(u8, u8)> = blockers.iter().map(|(_, slice)| (slice.size, slice.id)).collect();
                let cleared = avoid.is_some_and(|avoid| avoid.gpu == gpu);
                if cleared || !seen.insert((self.pattern(gpu), choice.id, choice.mode, alike)) {
                    continue;
                }
                let plan = self.make_way(choice, &blockers, budget, avoid);
                best = plan.map_or(best.take(), |plan| plan.better(best.take()));
            }
        }
        best
    }

    /// Returns the places of a size on a GPU that at most `most` slices are in the way of.
    fn targets(&self, gpu: u32, size: u8, most: usize) -> Vec<Target> {
        let all: Vec<(SliceId, Slice)> = self.slices(gpu).collect();
        let pattern = self.pattern(gpu);
        let Some(shape) = self.catalog().shape(pattern.kind, size) else { return Vec::new() };
        let mut targets = Vec::new();
        let mut target = |id: u8, mode: Mode, blockers: Vec<(SliceId, Slice)>| {
            let movable = blockers.iter().all(|(_, slice)| slice.size != FOREIGN);
            if movable && !blockers.is_empty() && blockers.len() <= most {
                targets.push((Choice { gpu, size, id, mode, score: 0 }, blockers));
            }
        };
        if pattern.mode == Mode::Mixed {
            for &id in &shape.mixed {
                let over = |slice: &Slice| slice.id < id + shape.len && id < slice.id + slice.len;
                target(id, Mode::Mixed, all.iter().copied().filter(|(_, slice)| over(slice)).collect());
            }
        }
        if self.can_choose_mode(pattern.kind) && all.len() <= most {
            for (mode, ids) in [(Mode::Mixed, &shape.mixed), (Mode::Equal(size), &shape.equal)] {
                if let Some(id) = ids.first().filter(|_| mode != pattern.mode) {
                    target(*id, mode, all.clone());
                }
            }
        }
        targets
    }

    /// Clears a place for a request and settles the slices that were in its way.
    fn make_way(
        &mut self,
        choice: Choice,
        blockers: &[(SliceId, Slice)],
        budget: usize,
        avoid: Option<Choice>,
    ) -> Option<Plan> {
        let homes: Vec<Choice> = blockers.iter().map(|(_, slice)| self.home(slice)).collect();
        let mut order: Vec<Waiting> = blockers.iter().map(|(id, _)| *id).zip(homes.iter().copied()).collect();
        for (id, _) in blockers {
            self.release(*id);
        }
        let guest = self.take(choice);
        let mut best = None;
        for _ in 0..order.len() {
            let plan = self.settle(&order, budget - blockers.len(), avoid);
            let plan = plan.map(|(shifts, fragmentation)| Plan { shifts, choice, fragmentation });
            best = plan.map_or(best.take(), |plan| plan.better(best.take()));
            order.rotate_left(1);
        }
        self.release(guest);
        for home in homes.into_iter().rev() {
            self.take(home);
        }
        best
    }

    fn home(&self, slice: &Slice) -> Choice {
        let mode = self.pattern(slice.gpu).mode;
        Choice { gpu: slice.gpu, size: slice.size, id: slice.id, mode, score: 0 }
    }

    /// Finds new places for slices that were given back, with `spare` shifts of others allowed.
    fn settle(
        &mut self,
        waiting: &[Waiting],
        spare: usize,
        avoid: Option<Choice>,
    ) -> Option<(Vec<Shift>, i64)> {
        let Some((&(id, home), rest)) = waiting.split_first() else {
            return Some((Vec::new(), self.fragmentation()));
        };
        let mut best: Option<(Vec<Shift>, i64)> = None;
        for (first, choice) in self.homes_for(home, (rest, avoid), spare) {
            let from: Vec<(Shift, Choice)> = first.iter().filter_map(|shift| self.undo_of(shift)).collect();
            first.iter().for_each(|shift| self.shift(shift));
            let guest = self.take(choice);
            if let Some((later, f)) = self.settle(rest, spare.saturating_sub(first.len()), avoid) {
                let mut shifts = first.clone();
                shifts.push(Shift { slice: id, to: choice });
                shifts.extend(later);
                let cost = (shifts.len(), f);
                if best.as_ref().is_none_or(|(other, f)| cost < (other.len(), *f)) {
                    best = Some((shifts, f));
                }
            }
            self.release(guest);
            from.iter().rev().for_each(|(shift, home)| self.shift(&Shift { to: *home, ..*shift }));
        }
        best
    }

    fn undo_of(&self, shift: &Shift) -> Option<(Shift, Choice)> {
        let slice = self.slice(shift.slice)?;
        Some((*shift, self.home(&slice)))
    }

    /// Returns where a slice could go: in a small fleet everywhere, in a large one where the policy says; where
    /// nothing is free, after shifting others. Places that others still hold when the plan is walked are none.
    fn homes_for(
        &mut self,
        home: Choice,
        held: (&[Waiting], Option<Choice>),
        spare: usize,
    ) -> Vec<(Vec<Shift>, Choice)> {
        let request = Request::from(home.size);
        let first = if self.len() >= MANY { self.choose(request) } else { None };
        let (rest, avoid) = held;
        let clear = |choice: &Choice| {
            let mut others = rest.iter().map(|(_, other)| other).chain(&avoid);
            others.all(|other| !self.meets(choice, other))
        };
        if let Some(choice) = first.filter(clear) {
            return vec![(Vec::new(), choice)];
        }
        let all = 0..u32::try_from(self.len()).unwrap_or(u32::MAX);
        let places = all.flat_map(|gpu| self.open(gpu, home.size).into_iter().map(move |at| (gpu, at)));
        let choice = |(gpu, (id, mode))| Choice { gpu, size: home.size, id, mode, score: 0 };
        let direct: Vec<_> = places.map(choice).filter(clear).map(|choice| (Vec::new(), choice)).collect();
        if !direct.is_empty() || spare == 0 {
            return direct;
        }
        let plan = self.search(request, spare, Some(home));
        plan.map(|plan| (plan.shifts, plan.choice)).into_iter().collect()
    }

    /// Returns whether two places cannot be held at once.
    fn meets(&self, one: &Choice, other: &Choice) -> bool {
        let len = |choice: &Choice| {
            let kind = self.pattern(choice.gpu).kind;
            self.catalog().shape(kind, choice.size).map_or(0, |shape| shape.len)
        };
        let over = one.id < other.id + len(other) && other.id < one.id + len(one);
        one.gpu == other.gpu && (over || one.mode != other.mode)
    }
}
