//! The slices of a fleet: a record each, chained by GPU, found by number.

/// The number of a slice, as long as it lives; then it may be given to another one.
pub type SliceId = u32;

/// No slice.
pub(super) const NONE: SliceId = SliceId::MAX;

/// The size of a slice that is not ours: it holds its slots and is never moved.
pub(super) const FOREIGN: u8 = u8::MAX;

/// One slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// On which GPU.
    pub gpu: u32,
    pub(super) next: SliceId,
    pub(super) before: SliceId,
    /// Its size by the catalogue; 255 when it is foreign.
    pub size: u8,
    /// Its placement id: its first slot.
    pub id: u8,
    /// Its slots.
    pub len: u8,
    pub(super) live: bool,
}

/// All slices.
#[derive(Clone, Debug, Default)]
pub(super) struct Slices {
    all: Vec<Slice>,
    free: Vec<SliceId>,
}

impl Slices {
    /// Adds a slice in front of the chain that begins with `first`, which becomes its number.
    pub(super) fn add(&mut self, mut slice: Slice, first: &mut SliceId) -> SliceId {
        slice.next = *first;
        slice.before = NONE;
        let id = self.free.pop().unwrap_or_else(|| {
            self.all.push(slice);
            SliceId::try_from(self.all.len() - 1).unwrap_or(NONE)
        });
        if let Some(old) = self.get_mut(*first) {
            old.before = id;
        }
        self.all[id as usize] = slice;
        *first = id;
        id
    }

    /// Takes a slice out of its chain.
    pub(super) fn remove(&mut self, id: SliceId, first: &mut SliceId) -> Option<Slice> {
        let slice = self.get(id)?;
        self.all[id as usize].live = false;
        if let Some(next) = self.get_mut(slice.next) {
            next.before = slice.before;
        }
        match self.get_mut(slice.before) {
            Some(before) => before.next = slice.next,
            None => *first = slice.next,
        }
        self.free.push(id);
        Some(slice)
    }

    /// Returns the bytes it holds.
    pub(super) fn bytes(&self) -> usize {
        self.all.capacity() * size_of::<Slice>() + self.free.capacity() * size_of::<SliceId>()
    }

    /// Returns a live slice.
    pub(super) fn get(&self, id: SliceId) -> Option<Slice> {
        self.all.get(id as usize).copied().filter(|slice| slice.live)
    }

    fn get_mut(&mut self, id: SliceId) -> Option<&mut Slice> {
        self.all.get_mut(id as usize).filter(|slice| slice.live)
    }

    /// Returns the slices of a chain.
    pub(super) fn chain(&self, first: SliceId) -> impl Iterator<Item = (SliceId, Slice)> {
        let with = |id: SliceId| self.get(id).map(|slice| (id, slice));
        std::iter::successors(with(first), move |(_, slice)| with(slice.next))
    }
}
