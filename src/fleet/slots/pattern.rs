//! What a GPU holds, as a pattern, and what follows from it; each pattern is kept once.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::fleet::slots::catalog::{Catalog, Modes};
use crate::fleet::slots::policy::Rule;

/// In which mode a GPU runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// It holds nothing, so its mode can be chosen.
    Idle,
    /// It holds sizes mixed.
    Mixed,
    /// It holds this size only.
    Equal(u8),
}

/// What a GPU holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern {
    /// Its kind.
    pub kind: u16,
    /// Its mode.
    pub mode: Mode,
    /// Its units in use; 0 where the slots bind first.
    pub units: u8,
    /// Its busy slots.
    pub busy: u128,
}

/// How an idle GPU would be taken into use; for all others there is one way only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Mixed,
    Equal,
}

/// The best place of one size in one pattern under one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Best {
    pub(super) score: i64,
    pub(super) id: u8,
    pub(super) mode: Mode,
}

/// A pattern with what was worked out for it.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) pattern: Pattern,
    /// Fragmentation.
    pub(super) f: i64,
    /// How many GPUs are in it.
    pub(super) count: u32,
    /// Idle slots.
    pub(super) free: u8,
}

/// The best place as it is kept: score and id, or that there is none.
#[derive(Clone, Copy, Debug)]
enum Cell {
    Unknown,
    NoPlace,
    At(u8, i64),
}

/// Patterns that nothing is in are kept up to this number beside twice as many as there are GPUs.
const SPARE: usize = 4_096;

/// The patterns met so far, the idle ones first. Beyond a limit those that no GPU is in are forgotten.
#[derive(Clone, Debug)]
pub(super) struct Patterns {
    pub(super) rows: Vec<Row>,
    /// By row, rule and size.
    cells: Vec<Cell>,
    /// The same for idle GPUs that are taken into use for one size.
    alone: Vec<Cell>,
    numbers: HashMap<Pattern, u32, BuildHasherDefault<Mixer>>,
    counts: Vec<bool>,
    rules: Vec<Rule>,
    /// Cells of a row.
    width: usize,
    /// The number of rows at which some are forgotten, and where the search for them goes on.
    limit: usize,
    hand: usize,
}

/// A hash of a few words: multiply and rotate (as rustc's own tables do).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }
    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }
    fn write_u16(&mut self, word: u16) {
        self.write_u64(u64::from(word));
    }
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
    fn write_u128(&mut self, word: u128) {
        let halves = [word, word >> 64].map(|half| u64::try_from(half & u128::from(u64::MAX)).unwrap_or(0));
        halves.into_iter().for_each(|half| self.write_u64(half));
    }
    fn write_isize(&mut self, word: isize) {
        self.write_u64(word.unsigned_abs() as u64);
    }
}

/// Returns the slots of a place.
pub(super) fn slots(id: u8, len: u8) -> u128 {
    let ones = 1u128.checked_shl(u32::from(len)).map_or(u128::MAX, |end| end - 1);
    ones.checked_shl(u32::from(id)).unwrap_or(0)
}

impl Pattern {
    /// Returns a GPU of this kind that holds nothing.
    #[must_use]
    pub fn idle(kind: u16) -> Self {
        Self { kind, mode: Mode::Idle, units: 0, busy: 0 }
    }

    /// Returns the start slots of a size that this GPU could take, idle or not: the ids of its mode.
    pub(super) fn ids(self, catalog: &Catalog, size: u8, way: Way) -> &[u8] {
        let Some(shape) = catalog.shape(self.kind, size) else { return &[] };
        let modes = catalog.kinds[usize::from(self.kind)].modes;
        match (self.mode, way) {
            (Mode::Idle, Way::Mixed) if modes != Modes::Equal => &shape.mixed,
            (Mode::Idle, Way::Equal) if modes != Modes::Mixed => &shape.equal,
            (Mode::Mixed, _) => &shape.mixed,
            (Mode::Equal(of), _) if of == size => &shape.equal,
            (Mode::Idle | Mode::Equal(_), _) => &[],
        }
    }

    /// Returns the free ids of a size, in the driver's order.
    pub(super) fn free_ids(self, catalog: &Catalog, size: u8, way: Way) -> impl Iterator<Item = u8> {
        let (len, units) = catalog.shape(self.kind, size).map_or((0, 0), |shape| (shape.len, shape.units));
        let limit = catalog.kinds[usize::from(self.kind)].limit;
        let room = self.units + units <= limit;
        let ids = self.ids(catalog, size, way).iter().copied().filter(move |_| room);
        ids.filter(move |id| self.busy & slots(*id, len) == 0)
    }

    /// Returns the mode in which a size is placed this way.
    pub(super) fn mode_for(self, size: u8, way: Way) -> Mode {
        match (self.mode, way) {
            (Mode::Idle, Way::Mixed) => Mode::Mixed,
            (Mode::Idle, Way::Equal) => Mode::Equal(size),
            (mode, _) => mode,
        }
    }

    /// Returns F: for each size, weighted, the idle slots that are in none of its free ids.
    #[must_use]
    pub fn fragmentation(self, catalog: &Catalog) -> i64 {
        let kind = &catalog.kinds[usize::from(self.kind)];
        let free = i64::from(kind.slots) - i64::from(self.busy.count_ones());
        let lost = |(size, of): (u8, &crate::fleet::slots::Size)| {
            let len = catalog.shape(self.kind, size).map_or(0, |shape| shape.len);
            let ids = self.free_ids(catalog, size, Way::Mixed).count();
            let usable = i64::from(len) * i64::try_from(ids).unwrap_or(0);
            i64::from(of.weight) * (free - usable)
        };
        (0..).zip(&catalog.sizes).map(lost).sum()
    }
}

impl Patterns {
    /// Creates the patterns of a fleet of so many GPUs; places are kept for these rules.
    pub(super) fn new(catalog: &Catalog, rules: &[Rule], gpus: usize) -> Self {
        let idle = catalog.kinds.len();
        let width = rules.len() * catalog.sizes.len();
        let mut patterns = Self {
            rows: Vec::new(),
            cells: Vec::new(),
            alone: vec![Cell::Unknown; idle * width],
            numbers: HashMap::default(),
            counts: catalog.kinds.iter().map(|kind| kind.counts()).collect(),
            rules: rules.to_vec(),
            width,
            limit: 2 * gpus + SPARE,
            hand: idle,
        };
        for kind in (0..).take(idle) {
            patterns.number(catalog, Pattern::idle(kind));
        }
        patterns
    }

    /// Returns the bytes it holds.
    pub(super) fn bytes(&self) -> usize {
        // A table of the standard library is at most 7/8 full and has a byte beside each entry.
        let numbers = self.numbers.capacity() * 8 / 7 * (size_of::<(Pattern, u32)>() + 1);
        let cells = (self.cells.capacity() + self.alone.capacity()) * size_of::<Cell>();
        cells + numbers + self.rows.capacity() * size_of::<Row>()
    }

    /// Returns the number of a pattern, which stays its own as long as a GPU is in it.
    pub(super) fn number(&mut self, catalog: &Catalog, pattern: Pattern) -> u32 {
        if let Some(number) = self.numbers.get(&pattern) {
            return *number;
        }
        let kind = &catalog.kinds[usize::from(pattern.kind)];
        let busy = u8::try_from(pattern.busy.count_ones()).unwrap_or(kind.slots);
        let f = pattern.fragmentation(catalog);
        let row = Row { pattern, f, count: 0, free: kind.slots - busy };
        let at = self.room();
        if at == self.rows.len() {
            self.rows.push(row);
            self.cells.resize(self.cells.len() + self.width, Cell::Unknown);
        } else {
            self.numbers.remove(&self.rows[at].pattern);
            self.rows[at] = row;
            self.cells[at * self.width..(at + 1) * self.width].fill(Cell::Unknown);
        }
        let number = u32::try_from(at).unwrap_or(u32::MAX);
        self.numbers.insert(pattern, number);
        number
    }

    /// Returns where a new row goes: to the end, or in place of one that nothing is in.
    fn room(&mut self) -> usize {
        let end = self.rows.len();
        if end < self.limit {
            return end;
        }
        let idle = self.counts.len();
        // At most one row for each GPU is in use, which leaves more than half of them.
        for _ in 0..end {
            self.hand = if self.hand + 1 < end { self.hand + 1 } else { idle };
            if self.rows[self.hand].count == 0 {
                return self.hand;
            }
        }
        end
    }

    /// Returns the pattern with a place taken.
    pub(super) fn with(&self, catalog: &Catalog, from: Pattern, size: u8, place: (u8, Mode)) -> Pattern {
        let Some(shape) = catalog.shape(from.kind, size) else { return from };
        let units = if self.counts[usize::from(from.kind)] { shape.units } else { 0 };
        let busy = from.busy | slots(place.0, shape.len);
        Pattern { mode: place.1, units: from.units + units, busy, ..from }
    }

    /// Returns the pattern with slots given back.
    pub(super) fn without(&self, from: Pattern, taken: u128, units: u8) -> Pattern {
        let busy = from.busy & !taken;
        let units = if self.counts[usize::from(from.kind)] { from.units.saturating_sub(units) } else { 0 };
        if busy == 0 { Pattern::idle(from.kind) } else { Pattern { busy, units, ..from } }
    }

    /// Returns the best place of a size in a pattern under a rule; for the fleet's rules worked out once.
    pub(super) fn best(&mut self, catalog: &Catalog, number: u32, ask: (Rule, u8, Way)) -> Option<Best> {
        let (rule, size, way) = ask;
        let mode = self.rows[number as usize].pattern.mode;
        let Some(of_rule) = self.rules.iter().position(|known| *known == rule) else {
            return self.work_out(catalog, number, ask);
        };
        let at = number as usize * self.width + of_rule * catalog.sizes.len() + usize::from(size);
        let cells = if mode == Mode::Idle && way == Way::Equal { &self.alone } else { &self.cells };
        match cells[at] {
            Cell::At(id, score) => {
                let mode = self.rows[number as usize].pattern.mode_for(size, way);
                Some(Best { score, id, mode })
            }
            Cell::NoPlace => None,
            Cell::Unknown => {
                let best = self.work_out(catalog, number, ask);
                let cells =
                    if mode == Mode::Idle && way == Way::Equal { &mut self.alone } else { &mut self.cells };
                cells[at] = best.map_or(Cell::NoPlace, |best| Cell::At(best.id, best.score));
                best
            }
        }
    }

    fn work_out(&self, catalog: &Catalog, number: u32, (rule, size, way): (Rule, u8, Way)) -> Option<Best> {
        let row = &self.rows[number as usize];
        let mode = row.pattern.mode_for(size, way);
        let mut best: Option<Best> = None;
        for id in row.pattern.free_ids(catalog, size, way) {
            let after = self.with(catalog, row.pattern, size, (id, mode));
            let score = score(catalog, rule, row, &after, id);
            if best.is_none_or(|best| score < best.score) {
                best = Some(Best { score, id, mode });
            }
        }
        best
    }
}

/// Returns what a place costs under a rule: the least is best.
fn score(catalog: &Catalog, rule: Rule, row: &Row, after: &Pattern, id: u8) -> i64 {
    let slots = i64::from(catalog.kinds[usize::from(after.kind)].slots);
    let busy = slots - i64::from(row.free);
    match rule {
        Rule::FirstFit | Rule::RoundRobin | Rule::Random => 0,
        Rule::Pack => -busy,
        Rule::Spread => -i64::from(row.free),
        Rule::LeastLoaded => busy * 1_000_000 / slots.max(1),
        Rule::BestFit => run(row.pattern.busy, id, slots),
        Rule::Fgd => after.fragmentation(catalog) - row.f,
    }
}

/// Returns the length of the run of idle slots around a slot.
fn run(busy: u128, at: u8, slots: i64) -> i64 {
    let below = (busy & ((1u128 << at) - 1)).leading_zeros();
    let below = i64::from(at) - (128 - i64::from(below));
    let above = (busy >> at).trailing_zeros();
    below + i64::from(above).min(slots - i64::from(at))
}
