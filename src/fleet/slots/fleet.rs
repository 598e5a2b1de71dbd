//! The state of a fleet, and the choice of a place in it.

use crate::fleet::slots::bits::Bits;
use crate::fleet::slots::catalog::{Catalog, Modes};
use crate::fleet::slots::draw::Draw;
use crate::fleet::slots::index::{Entry, Index};
use crate::fleet::slots::pattern::{Best, Mode, Pattern, Patterns, Way, slots};
use crate::fleet::slots::policy::{ModePlan, Policy, Rule};
use crate::fleet::slots::slices::{FOREIGN, NONE, Slice, SliceId, Slices};

/// Up to this many GPUs are looked at one by one, which is quicker than an index.
const FEW: usize = 64;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The size, by the catalogue.
    pub size: u8,
    /// Whether the policy's rule for urgent requests counts.
    pub urgent: bool,
}

impl From<u8> for Request {
    fn from(size: u8) -> Self {
        Self { size, urgent: false }
    }
}

/// Where a slice would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// On which GPU.
    pub gpu: u32,
    /// Its size.
    pub size: u8,
    /// Its placement id.
    pub id: u8,
    /// The mode that the GPU must be in.
    pub mode: Mode,
    /// What the place cost under the policy's rule: the least of all.
    pub score: i64,
}

#[derive(Clone, Copy, Debug)]
struct Gpu {
    pattern: u32,
    first: SliceId,
}

/// GPUs with their slices, a policy, and what was worked out for them.
#[derive(Clone, Debug)]
pub struct Fleet {
    catalog: Catalog,
    policy: Policy,
    patterns: Patterns,
    gpus: Vec<Gpu>,
    slices: Slices,
    /// The numbers of the idle patterns, by kind: the first ones.
    idle: Vec<u32>,
    /// None in a small fleet.
    index: Option<Index>,
    rules: Vec<Rule>,
    cursor: u32,
    draw: Draw,
    /// Fragmentation over all GPUs.
    f: i64,
}

impl Fleet {
    /// Creates an idle fleet; `gpus` names the kind of each.
    #[must_use]
    pub fn new(catalog: &Catalog, policy: Policy, gpus: &[u16]) -> Self {
        let mut rules = vec![policy.rule];
        rules.extend(policy.urgent.filter(|urgent| *urgent != policy.rule));
        let patterns = Patterns::new(catalog, &rules, gpus.len());
        let idle: Vec<u32> = (0..).take(catalog.kinds.len()).collect();
        let sizes = catalog.sizes.len();
        let in_order = rules.iter().any(|rule| !rule.by_pattern());
        let bits = if in_order { vec![Bits::new(gpus.len()); sizes] } else { Vec::new() };
        let index = (gpus.len() > FEW).then(|| Index::new(rules.len() * sizes, bits));
        let draw = Draw::new(policy.seed);
        let gpu = |kind: &u16| Gpu { pattern: idle[usize::from(*kind)], first: NONE };
        let all: Vec<Gpu> = gpus.iter().map(gpu).collect();
        let mut fleet = Self {
            catalog: catalog.clone(),
            policy,
            patterns,
            gpus: all,
            slices: Slices::default(),
            idle,
            index,
            rules,
            cursor: 0,
            draw,
            f: 0,
        };
        (0..).zip(gpus).for_each(|(gpu, kind)| fleet.enter(gpu, fleet.idle[usize::from(*kind)]));
        fleet
    }

    /// Returns the sizes and kinds.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Returns the policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Changes how idle GPUs are taken into use from now on.
    pub fn set_modes(&mut self, modes: ModePlan) {
        self.policy.modes = modes;
    }

    /// Changes where random numbers begin after [`Fleet::clear`].
    pub fn reseed(&mut self, seed: u64) {
        self.policy.seed = seed;
    }

    /// Gives all slices back. What was worked out for patterns stays.
    pub fn clear(&mut self) {
        for gpu in 0..self.gpus.len() {
            let pattern = self.patterns.rows[self.gpus[gpu].pattern as usize].pattern;
            self.gpus[gpu].first = NONE;
            if let (Ok(number), false) = (u32::try_from(gpu), pattern.mode == Mode::Idle) {
                self.turn(number, Pattern::idle(pattern.kind));
            }
        }
        self.slices = Slices::default();
        self.cursor = 0;
        self.draw = Draw::new(self.policy.seed);
    }

    /// Returns the number of GPUs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.gpus.len()
    }

    /// Returns whether there is no GPU.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gpus.is_empty()
    }

    /// Returns what a GPU holds.
    ///
    /// # Panics
    /// When there is no such GPU.
    #[must_use]
    pub fn pattern(&self, gpu: u32) -> Pattern {
        self.patterns.rows[self.gpus[gpu as usize].pattern as usize].pattern
    }

    /// Returns the slices of a GPU, the newest first; none when there is no such GPU.
    pub fn slices(&self, gpu: u32) -> impl Iterator<Item = (SliceId, Slice)> {
        let first = self.gpus.get(gpu as usize).map_or(NONE, |gpu| gpu.first);
        self.slices.chain(first)
    }

    /// Returns a slice.
    #[must_use]
    pub fn slice(&self, id: SliceId) -> Option<Slice> {
        self.slices.get(id)
    }

    /// Returns the number of GPUs that hold nothing.
    #[must_use]
    pub fn idle_gpus(&self) -> u32 {
        self.idle.iter().map(|number| self.patterns.rows[*number as usize].count).sum()
    }

    /// Returns F over all GPUs.
    #[must_use]
    pub fn fragmentation(&self) -> i64 {
        self.f
    }

    /// Returns how many different patterns were met.
    #[must_use]
    pub fn patterns_met(&self) -> usize {
        self.patterns.rows.len()
    }

    /// Returns the bytes held: for the GPUs and their index, for the slices, and for the table of what was
    /// worked out for patterns, which all GPUs share.
    #[must_use]
    pub fn bytes(&self) -> [usize; 3] {
        let index = self.index.as_ref().map_or(0, Index::bytes);
        let gpus = self.gpus.capacity() * size_of::<Gpu>() + index;
        [gpus, self.slices.bytes(), self.patterns.bytes()]
    }

    /// Chooses a place; `None` when no GPU has one. The state stays as it is, except for where
    /// `round-robin` and `random` go on.
    pub fn choose(&mut self, request: impl Into<Request>) -> Option<Choice> {
        let request = request.into();
        let rule = self.policy.rule_for(request.urgent);
        if !rule.by_pattern() {
            return self.in_order(rule, request.size);
        }
        let ask = (rule, request.size);
        let used = self.best_used(ask);
        let lock = match &self.policy.modes {
            ModePlan::Mixed => return self.best(used, ask, &[Way::Mixed, Way::Equal]),
            ModePlan::Equal => return self.best(used, ask, &[Way::Equal, Way::Mixed]),
            ModePlan::PerGpu(above) => above.get(usize::from(request.size)).copied().unwrap_or(u32::MAX),
        };
        if used.is_some_and(|(entry, _)| entry.tier == 0) {
            return used.and_then(|used| self.choice(used, ask, Way::Mixed));
        }
        let alone = (self.idle_gpus() > lock).then(|| self.best_idle(ask, Way::Equal)).flatten();
        match alone {
            Some(alone) => self.choice(alone, ask, Way::Equal),
            None => self.best(used, ask, &[Way::Mixed, Way::Equal]),
        }
    }

    /// Takes the place of a choice that was made in this state, and returns the slice's number.
    pub fn take(&mut self, choice: Choice) -> SliceId {
        let before = self.pattern(choice.gpu);
        let after = self.patterns.with(&self.catalog, before, choice.size, (choice.id, choice.mode));
        let len = self.catalog.shape(before.kind, choice.size).map_or(0, |shape| shape.len);
        self.add(choice.gpu, after, (choice.size, choice.id, len))
    }

    /// Chooses a place and takes it.
    pub fn place(&mut self, request: impl Into<Request>) -> Option<SliceId> {
        let choice = self.choose(request)?;
        Some(self.take(choice))
    }

    /// Counts a slice that somebody else made: its slots are busy, and it is never moved. `mode` is the mode
    /// the GPU was found in.
    pub fn hold(&mut self, gpu: u32, mode: Mode, id: u8, len: u8) -> SliceId {
        let before = self.pattern(gpu);
        let after = Pattern { mode, busy: before.busy | slots(id, len), ..before };
        self.add(gpu, after, (FOREIGN, id, len))
    }

    fn add(&mut self, gpu: u32, after: Pattern, (size, id, len): (u8, u8, u8)) -> SliceId {
        let slice = Slice { gpu, next: NONE, before: NONE, size, id, len, live: true };
        let number = self.slices.add(slice, &mut self.gpus[gpu as usize].first);
        self.turn(gpu, after);
        number
    }

    /// Gives a slice back; `None` when there is no such slice.
    pub fn release(&mut self, id: SliceId) -> Option<Slice> {
        let gpu = self.slices.get(id)?.gpu;
        let slice = self.slices.remove(id, &mut self.gpus[gpu as usize].first)?;
        let before = self.pattern(gpu);
        let units = self.catalog.shape(before.kind, slice.size).map_or(0, |shape| shape.units);
        let after = self.patterns.without(before, slots(slice.id, slice.len), units);
        self.turn(gpu, after);
        Some(slice)
    }

    /// Changes the pattern of a GPU.
    fn turn(&mut self, gpu: u32, to: Pattern) {
        let from = self.gpus[gpu as usize].pattern;
        let number = self.patterns.number(&self.catalog, to);
        let row = &mut self.patterns.rows[from as usize];
        row.count -= 1;
        self.f -= row.f;
        if row.count == 0 && self.index.is_some() {
            self.list(from, false);
        }
        self.enter(gpu, number);
    }

    fn enter(&mut self, gpu: u32, number: u32) {
        self.gpus[gpu as usize].pattern = number;
        let row = &mut self.patterns.rows[number as usize];
        row.count += 1;
        self.f += row.f;
        let count = row.count;
        let Some(index) = &mut self.index else { return };
        let gpus = &self.gpus;
        index.enter(gpu, number, count, |gpu| gpus[gpu as usize].pattern == number);
        if count == 1 {
            self.list(number, true);
        }
        self.mark(gpu, number);
    }

    /// Notes for which sizes a GPU has a place.
    fn mark(&mut self, gpu: u32, number: u32) {
        if self.index.as_ref().is_none_or(|index| index.fits.is_empty()) {
            return;
        }
        for size in (0..).take(self.catalog.sizes.len()) {
            let fits = self.any_way(number, (Rule::FirstFit, size)).is_some();
            if let Some(index) = &mut self.index {
                index.fits[usize::from(size)].set(gpu as usize, fits);
            }
        }
    }

    /// Puts a pattern into the ordered sets, or takes it out. Idle ones are not in them.
    fn list(&mut self, number: u32, member: bool) {
        if self.idle.contains(&number) {
            return;
        }
        let sizes = self.catalog.sizes.len();
        for at in 0..self.rules.len() * sizes {
            let rule = self.rules[at / sizes];
            let Ok(size) = u8::try_from(at % sizes) else { continue };
            if !rule.by_pattern() {
                continue;
            }
            let Some(entry) = self.entry(number, (rule, size), Way::Mixed) else { continue };
            let Some(index) = &mut self.index else { return };
            if member {
                index.order[at].insert(entry)
            } else {
                index.order[at].remove(&entry)
            };
        }
    }

    fn entry(&mut self, number: u32, (rule, size): (Rule, u8), way: Way) -> Option<Entry> {
        let best = self.patterns.best(&self.catalog, number, (rule, size, way))?;
        let row = &self.patterns.rows[number as usize];
        let tier = Entry::tier(best.mode);
        Some(Entry { tier, score: best.score, free: row.free, busy: row.pattern.busy, pattern: number })
    }

    /// Returns the better of the best GPU that holds something and the best idle one, which is used in the first
    /// of `ways` that it has.
    fn best(&mut self, used: Option<(Entry, u32)>, ask: (Rule, u8), ways: &[Way]) -> Option<Choice> {
        let used = used.map(|used| (used, Way::Mixed));
        let idle = ways.iter().find_map(|way| self.best_idle(ask, *way).map(|idle| (idle, *way)));
        let (best, way) = used.into_iter().chain(idle).min_by_key(|(best, _)| *best)?;
        self.choice(best, ask, way)
    }

    fn choice(&mut self, (entry, gpu): (Entry, u32), (rule, size): (Rule, u8), way: Way) -> Option<Choice> {
        let best = self.patterns.best(&self.catalog, entry.pattern, (rule, size, way))?;
        Some(Choice { gpu, size, id: best.id, mode: best.mode, score: best.score })
    }

    /// Returns the best GPU that holds something.
    fn best_used(&mut self, ask: (Rule, u8)) -> Option<(Entry, u32)> {
        if let Some(index) = &mut self.index {
            let rule = self.rules.iter().position(|rule| *rule == ask.0)?;
            let entry = *index.order[rule * self.catalog.sizes.len() + usize::from(ask.1)].first()?;
            let gpus = &self.gpus;
            let gpu = index.first(entry.pattern, |gpu| gpus[gpu as usize].pattern == entry.pattern)?;
            return Some((entry, gpu));
        }
        let mut best: Option<(Entry, u32)> = None;
        for gpu in (0..).take(self.gpus.len()) {
            let number = self.gpus[gpu as usize].pattern;
            if self.patterns.rows[number as usize].pattern.mode == Mode::Idle {
                continue;
            }
            let Some(entry) = self.entry(number, ask, Way::Mixed) else { continue };
            if best.is_none_or(|(best, _)| entry < best) {
                best = Some((entry, gpu));
            }
        }
        best
    }

    /// Returns the best idle GPU for a size, taken into use in this way.
    fn best_idle(&mut self, ask: (Rule, u8), way: Way) -> Option<(Entry, u32)> {
        let mut best: Option<(Entry, u32)> = None;
        for kind in 0..self.idle.len() {
            let number = self.idle[kind];
            if self.patterns.rows[number as usize].count == 0 {
                continue;
            }
            let Some(entry) = self.entry(number, ask, way) else { continue };
            if best.is_some_and(|(best, _)| best <= entry) {
                continue;
            }
            best = self.first_of(number).map(|gpu| (entry, gpu)).or(best);
        }
        best
    }

    fn first_of(&mut self, number: u32) -> Option<u32> {
        let gpus = &self.gpus;
        match &mut self.index {
            Some(index) => index.first(number, |gpu| gpus[gpu as usize].pattern == number),
            None => (0..).zip(gpus).find(|(_, gpu)| gpu.pattern == number).map(|(gpu, _)| gpu),
        }
    }

    /// Chooses by the order of GPUs, or at random.
    fn in_order(&mut self, rule: Rule, size: u8) -> Option<Choice> {
        let gpu = match rule {
            Rule::Random => return self.any_place(size),
            Rule::RoundRobin => self.next_fit(self.cursor, size).or_else(|| self.next_fit(0, size)),
            _ => self.next_fit(0, size),
        }?;
        if rule == Rule::RoundRobin {
            self.cursor = gpu + 1;
        }
        let number = self.gpus[gpu as usize].pattern;
        let (best, _) = self.any_way(number, (rule, size))?;
        Some(Choice { gpu, size, id: best.id, mode: best.mode, score: best.score })
    }

    /// Returns the best place in a pattern in whichever way the policy allows.
    fn any_way(&mut self, number: u32, (rule, size): (Rule, u8)) -> Option<(Best, Way)> {
        let ways = match self.policy.modes {
            ModePlan::Equal => [Way::Equal, Way::Mixed],
            ModePlan::Mixed | ModePlan::PerGpu(_) => [Way::Mixed, Way::Equal],
        };
        ways.into_iter().find_map(|way| {
            self.patterns.best(&self.catalog, number, (rule, size, way)).map(|best| (best, way))
        })
    }

    /// Returns the first GPU from a number on that has a place.
    fn next_fit(&mut self, from: u32, size: u8) -> Option<u32> {
        if let Some(index) = &self.index {
            let next = index.fits[usize::from(size)].next(from as usize)?;
            return u32::try_from(next).ok();
        }
        let end = u32::try_from(self.gpus.len()).ok()?;
        (from..end).find(|gpu| self.best_on(*gpu, (Rule::FirstFit, size)).is_some())
    }

    /// Returns the best place on one GPU under a rule.
    pub(super) fn best_on(&mut self, gpu: u32, ask: (Rule, u8)) -> Option<(Best, Way)> {
        let number = self.gpus.get(gpu as usize)?.pattern;
        self.any_way(number, ask)
    }

    /// Draws one of all free places, each as likely as the other.
    fn any_place(&mut self, size: u8) -> Option<Choice> {
        let shapes = self.catalog.kinds.iter().filter_map(|kind| kind.shapes[usize::from(size)].as_ref());
        let most = shapes.map(|shape| shape.mixed.len().max(shape.equal.len())).max()?;
        let gpus = u32::try_from(self.gpus.len()).ok()?;
        for _ in 0..256 {
            let gpu = u32::try_from(self.draw.below(self.gpus.len())).ok().filter(|_| gpus > 0)?;
            let at = self.draw.below(most);
            if let Some(choice) = self.places(gpu, size).get(at) {
                return Some(*choice);
            }
        }
        let all: Vec<Choice> = (0..gpus).flat_map(|gpu| self.places(gpu, size)).collect();
        let at = self.draw.below(all.len());
        all.get(at).copied()
    }

    /// Returns the free places of a size on a GPU, in the mode that the policy would use.
    fn places(&mut self, gpu: u32, size: u8) -> Vec<Choice> {
        let Some((best, way)) = self.best_on(gpu, (Rule::FirstFit, size)) else { return Vec::new() };
        let ids = self.pattern(gpu).free_ids(&self.catalog, size, way);
        ids.map(|id| Choice { gpu, size, id, mode: best.mode, score: best.score }).collect()
    }

    /// Returns whether an idle GPU of a kind may be put into either mode.
    #[must_use]
    pub fn can_choose_mode(&self, kind: u16) -> bool {
        self.catalog.kinds.get(usize::from(kind)).is_some_and(|kind| kind.modes == Modes::Both)
    }
}
