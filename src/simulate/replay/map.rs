//! What each GPU held over time, for a drawing.

use std::collections::HashMap;

use crate::fleet::slots::{Fleet, SliceId};
use crate::simulate::slots::percent;

/// Slices of larger fleets are not drawn one by one.
const MOST_GPUS: usize = 16;
/// At most so many slices are kept.
const MOST_SPANS: usize = 6_000;
/// GPUs of a large fleet are put together into this many rows.
const ROWS: usize = 64;

/// A slice for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// On which GPU.
    pub gpu: u32,
    /// Its first slot.
    pub slot: u8,
    /// Its slots.
    pub len: u8,
    /// Seconds from which on it was there.
    pub from: f64,
    /// Seconds when it went, or the end.
    pub to: f64,
    /// The class of its request.
    pub class: u16,
}

/// Use over time: of every slice in a small fleet, of groups of GPUs in a large one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UseMap {
    /// Slots of each GPU.
    pub slots: Vec<u8>,
    /// The slices of a small fleet.
    pub spans: Vec<Span>,
    /// Whether slices were left out, because there were too many.
    pub cut: bool,
    /// In a large fleet: by point of the course, percent in use of each row of GPUs.
    pub heat: Vec<Vec<f64>>,
    open: HashMap<SliceId, Span>,
}

impl UseMap {
    pub(super) fn new(fleet: &Fleet) -> Self {
        let gpus = u32::try_from(fleet.len()).unwrap_or(u32::MAX);
        let slots = |gpu| fleet.catalog().kinds[usize::from(fleet.pattern(gpu).kind)].slots;
        Self { slots: (0..gpus).map(slots).collect(), ..Self::default() }
    }

    fn one_by_one(&self) -> bool {
        self.slots.len() <= MOST_GPUS
    }

    /// A slice came, or was moved to where it is now.
    pub(super) fn came_now(&mut self, fleet: &Fleet, id: SliceId, class: u16, now: f64) {
        let Some(slice) = fleet.slice(id).filter(|_| self.one_by_one()) else { return };
        let class = self.open.get(&id).map_or(class, |span| span.class);
        self.went(id, now);
        if self.spans.len() + self.open.len() >= MOST_SPANS {
            self.cut = true;
            return;
        }
        let span = Span { gpu: slice.gpu, slot: slice.id, len: slice.len, from: now, to: now, class };
        self.open.insert(id, span);
    }

    /// A slice went.
    pub(super) fn went(&mut self, id: SliceId, now: f64) {
        let gone = self.open.remove(&id).filter(|span| now > span.from);
        self.spans.extend(gone.map(|span| Span { to: now, ..span }));
    }

    /// A point in time is noted.
    pub(super) fn note(&mut self, fleet: &Fleet) {
        if self.one_by_one() {
            return;
        }
        let gpus = self.slots.len();
        let rows = gpus.min(ROWS);
        let mut sums = vec![(0_u64, 0_u64); rows];
        for (gpu, slots) in (0_u32..).zip(&self.slots) {
            let row = &mut sums[gpu as usize * rows / gpus];
            row.0 += u64::from(fleet.pattern(gpu).busy.count_ones());
            row.1 += u64::from(*slots);
        }
        self.heat.push(sums.into_iter().map(|(busy, all)| percent(busy, all)).collect());
    }

    /// The end has come.
    pub(super) fn close(&mut self, now: f64) {
        let open: Vec<SliceId> = self.open.keys().copied().collect();
        open.into_iter().for_each(|id| self.went(id, now));
        self.spans.sort_by(|a, b| a.from.total_cmp(&b.from).then((a.gpu, a.slot).cmp(&(b.gpu, b.slot))));
    }
}
