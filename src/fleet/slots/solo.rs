//! All states of one GPU, up to what mirrors into each other, with the steps between them.
//!
//! The driver's rule lays places out in halves, so two GPUs whose contents are mirror images within some
//! part behave alike from then on. Counting such states once is what makes a table of two GPUs small.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use crate::fleet::geometry::Shape;
use crate::fleet::slots::catalog::Catalog;
use crate::fleet::slots::pattern::{Mixer, Mode};

/// A slice in a state: size and start slot.
type Held = (u8, u8);

/// One state: mode and content. In a GPU of one size the places are all alike: start slots count up from 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    mode: Mode,
    held: Vec<Held>,
}

/// The states of a GPU of kind 0 of a catalogue.
#[derive(Clone, Debug)]
pub(super) struct Solo {
    catalog: Catalog,
    numbers: HashMap<State, u32>,
    states: Vec<State>,
    /// The state of each content.
    contents: HashMap<(Mode, u128), u32, BuildHasherDefault<Mixer>>,
    /// By size: the number of its first place.
    offsets: Vec<usize>,
    /// By state and size: the states that placing one leads to.
    pub(super) place: Vec<Vec<Vec<u32>>>,
    /// By state: size, state without one of it, and how many slices lead there.
    pub(super) leave: Vec<Vec<(u8, u32, u32)>>,
}

impl Solo {
    /// Lists all states; `None` when there are more than `most`.
    pub(super) fn new(catalog: &Catalog, most: usize) -> Option<Self> {
        let mut solo = Self {
            catalog: catalog.clone(),
            numbers: HashMap::new(),
            states: Vec::new(),
            contents: HashMap::default(),
            offsets: offsets(catalog)?,
            place: Vec::new(),
            leave: Vec::new(),
        };
        solo.number(State { mode: Mode::Idle, held: Vec::new() });
        let mut at = 0;
        while at < solo.states.len() {
            if solo.states.len() > most {
                return None;
            }
            solo.expand(at);
            at += 1;
        }
        solo.list_contents();
        Some(solo)
    }

    /// Returns the number of states.
    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    /// Returns how many slices a state holds.
    pub(super) fn slices(&self, state: u32) -> usize {
        self.states[state as usize].held.len()
    }

    /// Returns the number of a state that a GPU is in; `None` when it cannot be reached by these sizes.
    pub(super) fn find(&self, mode: Mode, held: impl Iterator<Item = Held>) -> Option<u32> {
        self.contents.get(&self.content(mode, held)).copied()
    }

    /// Returns a content as a key: a bit for each mixed place, or the count of slices of one size.
    fn content(&self, mode: Mode, held: impl Iterator<Item = Held>) -> (Mode, u128) {
        let bit = |(size, id): Held| match mode {
            Mode::Equal(_) => 1,
            Mode::Idle | Mode::Mixed => {
                let ids = self.catalog.shape(0, size).map_or(&[][..], |shape| &shape.mixed);
                let at = ids.iter().position(|known| *known == id).unwrap_or(0);
                1u128 << (self.offsets[usize::from(size)] + at)
            }
        };
        let bits = held.map(bit).sum();
        if bits == 0 { (Mode::Idle, 0) } else { (mode, bits) }
    }

    /// Notes the state of every content there can be, so that a GPU's is one look-up away.
    fn list_contents(&mut self) {
        let mut open: Vec<(Mode, Vec<Held>)> = vec![(Mode::Idle, Vec::new())];
        while let Some((mode, held)) = open.pop() {
            let key = self.content(mode, held.iter().copied());
            if self.contents.contains_key(&key) {
                continue;
            }
            let state = self.canonical(mode, held.clone());
            let Some(number) = self.numbers.get(&state).copied() else { continue };
            self.contents.insert(key, number);
            let state = State { mode, held };
            for size in (0..).take(self.catalog.sizes.len()) {
                open.extend(self.steps(&state, size));
            }
        }
    }

    fn number(&mut self, state: State) -> u32 {
        let next = u32::try_from(self.states.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(state.clone()).or_insert(next);
        if number == next {
            self.states.push(state);
        }
        number
    }

    fn expand(&mut self, at: usize) {
        let state = self.states[at].clone();
        let sizes = u8::try_from(self.catalog.sizes.len()).unwrap_or(0);
        let place = (0..sizes).map(|size| {
            let next = self.after(&state, size);
            let mut numbers: Vec<u32> = next.into_iter().map(|state| self.number(state)).collect();
            numbers.sort_unstable();
            numbers.dedup();
            numbers
        });
        let place = place.collect();
        self.place.push(place);
        let mut leave: Vec<(u8, u32, u32)> = Vec::new();
        for gone in 0..state.held.len() {
            let mut held = state.held.clone();
            let (size, _) = held.remove(gone);
            let next = self.canonical(state.mode, held);
            let next = self.number(next);
            match leave.iter_mut().find(|(of, to, _)| (*of, *to) == (size, next)) {
                Some((_, _, count)) => *count += 1,
                None => leave.push((size, next, 1)),
            }
        }
        self.leave.push(leave);
    }

    /// Returns the states that placing one slice leads to.
    fn after(&self, state: &State, size: u8) -> Vec<State> {
        self.steps(state, size).into_iter().map(|(mode, held)| self.canonical(mode, held)).collect()
    }

    /// Returns the contents that placing one slice leads to.
    fn steps(&self, state: &State, size: u8) -> Vec<(Mode, Vec<Held>)> {
        let Some(shape) = self.catalog.shape(0, size) else { return Vec::new() };
        let free =
            |id: u8| state.held.iter().all(|(of, at)| at + self.len_of(*of) <= id || id + shape.len <= *at);
        let with = |id: u8| {
            let mut held = state.held.clone();
            held.push((size, id));
            held
        };
        let mut next = Vec::new();
        if matches!(state.mode, Mode::Idle | Mode::Mixed) {
            let ids = shape.mixed.iter().filter(|id| free(**id));
            next.extend(ids.map(|id| (Mode::Mixed, with(*id))));
        }
        // One size only pays where mixing loses places.
        let alone = state.mode == Mode::Equal(size) || state.mode == Mode::Idle;
        if alone && shape.equal.len() > shape.mixed.len() && state.held.len() < shape.equal.len() {
            next.push((Mode::Equal(size), with(u8::MAX)));
        }
        next
    }

    fn canonical(&self, mode: Mode, mut held: Vec<Held>) -> State {
        match mode {
            _ if held.is_empty() => return State { mode: Mode::Idle, held },
            Mode::Equal(size) => held = (0..).take(held.len()).map(|at| (size, at)).collect(),
            Mode::Idle | Mode::Mixed => held = self.least(0, self.catalog.kinds[0].slots, &held),
        }
        State { mode, held }
    }

    fn len_of(&self, size: u8) -> u8 {
        self.catalog.shape(0, size).map_or(0, |shape| shape.len)
    }

    /// Returns the least content that mirroring within a part can make of this one.
    fn least(&self, low: u8, high: u8, held: &[Held]) -> Vec<Held> {
        if held.is_empty() || high - low < 2 {
            return held.to_vec();
        }
        let plain = self.halves_least(low, high, held);
        if !self.mirrors(low, high) {
            return plain;
        }
        let mirror = |(size, id): &Held| (*size, low + (high - self.len_of(*size) - *id));
        let mirrored: Vec<Held> = held.iter().map(mirror).collect();
        plain.min(self.halves_least(low, high, &mirrored))
    }

    fn halves_least(&self, low: u8, high: u8, held: &[Held]) -> Vec<Held> {
        let middle = low + (high - low) / 2;
        let is_left = |(size, id): &Held| id + self.len_of(*size) <= middle;
        let left: Vec<Held> = held.iter().copied().filter(is_left).collect();
        let right: Vec<Held> = held.iter().copied().filter(|(_, id)| *id >= middle).collect();
        let mut all = self.least(low, middle, &left);
        all.extend(self.least(middle, high, &right));
        all.extend(held.iter().filter(|held| !is_left(held) && held.1 < middle));
        all.sort_unstable();
        all
    }

    /// Returns whether a part's places mirror into places.
    fn mirrors(&self, low: u8, high: u8) -> bool {
        self.catalog.kinds[0].shapes.iter().flatten().all(|shape| {
            let inside = |id: &&u8| **id >= low && **id + shape.len <= high;
            shape
                .mixed
                .iter()
                .filter(inside)
                .all(|id| shape.mixed.contains(&(low + (high - shape.len - *id))))
        })
    }
}

/// Numbers the mixed places size by size; `None` when there are too many.
fn offsets(catalog: &Catalog) -> Option<Vec<usize>> {
    let places = |shape: &Option<Shape>| shape.as_ref().map_or(0, |shape| shape.mixed.len());
    let mut next = 0;
    let offsets = catalog.kinds[0].shapes.iter().map(|shape| {
        let first = next;
        next += places(shape);
        first
    });
    let offsets = offsets.collect();
    (next <= 128).then_some(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_states_of_one_gpu_are_as_many_as_counted_by_hand() {
        // Quarter 7, half C(8, 2) + 1 = 29, GPU C(30, 2) = 435, and 8 GB alone: 10 more that are not idle.
        let sizes = [8, 10, 20, 40].map(|size: u32| (size.to_string(), 1));
        let catalog = Catalog::new(&["h100-80"], &sizes).expect("a catalogue");
        assert_eq!(Solo::new(&catalog, 1000).expect("few").len(), 445);
        assert!(Solo::new(&catalog, 100).is_none());
    }
}
