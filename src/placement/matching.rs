//! Seating guests at places that hold only so many: greedy by preference, and when a place is full, by
//! moving those who sit there to another place they accept (Kuhn's augmenting paths). So a guest is turned
//! away only when no seating of all of them exists.

use std::collections::BTreeSet;

use crate::model::{DeviceName, Gpu, MdevType};
use crate::placement::offer::Offer;

/// One type of one parent.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) parent: &'a DeviceName,
    pub(super) mdev_type: &'a MdevType,
    room: usize,
    /// What all parents of its GPU can give of what this seat's profile asks for.
    of_gpu: usize,
}

/// Places and who sits where.
#[derive(Debug, Default)]
pub(super) struct Seats<'a> {
    places: Vec<Seat<'a>>,
    /// For each guest: the places it accepts, and the one it has.
    guests: Vec<(Vec<usize>, Option<usize>)>,
}

impl<'a> Seats<'a> {
    /// Adds a place, once, and returns its number; `None` when the offer has no type.
    pub(super) fn add(&mut self, offer: &Offer<'a>) -> Option<usize> {
        let mdev_type = offer.mdev_type()?;
        let parent = offer.matched.parent;
        let known = self.places.iter().position(|p| p.parent == parent && p.mdev_type.id == mdev_type.id);
        Some(known.unwrap_or_else(|| {
            let number = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
            let (room, of_gpu) = (number(offer.possible()), number(offer.of_gpu));
            self.places.push(Seat { gpu: offer.matched.gpu, parent, mdev_type, room, of_gpu });
            self.places.len() - 1
        }))
    }

    /// Seats one more guest, who accepts `places`; false when that cannot be done.
    pub(super) fn take(&mut self, places: Vec<usize>) -> bool {
        let free = places.iter().copied().filter(|place| self.taken(*place) < self.places[*place].room);
        let best = free.max_by(|a, b| {
            self.left(*a).cmp(&self.left(*b)).then_with(|| self.parent(*b).cmp(self.parent(*a)))
        });
        self.guests.push((places, best));
        let guest = self.guests.len() - 1;
        best.is_some() || self.augment(guest, &mut BTreeSet::new())
    }

    /// Returns where a guest sits; guests are numbered in the order of [`Seats::take`].
    pub(super) fn of(&self, guest: usize) -> Option<&Seat<'a>> {
        self.guests.get(guest).and_then(|(_, place)| *place).map(|place| &self.places[place])
    }

    fn parent(&self, place: usize) -> &DeviceName {
        self.places[place].parent
    }

    fn taken(&self, place: usize) -> usize {
        self.guests.iter().filter(|(_, has)| *has == Some(place)).count()
    }

    /// What a place and its GPU have left when every guest on the GPU counts, also those of other types and
    /// parents: they share the GPU's memory. For preference only; whether there is room is the place's own count.
    fn left(&self, place: usize) -> (usize, usize) {
        let Seat { gpu, room, of_gpu, .. } = &self.places[place];
        let there = self.guests.iter().filter_map(|(_, has)| *has);
        let there = there.filter(|has| self.places[*has].gpu.id == gpu.id).count();
        (room.saturating_sub(there), of_gpu.saturating_sub(there))
    }

    /// Finds a place by moving others; each level visits a place not visited before, so it ends.
    fn augment(&mut self, guest: usize, visited: &mut BTreeSet<usize>) -> bool {
        for place in self.guests[guest].0.clone() {
            if !visited.insert(place) {
                continue;
            }
            let sitting: Vec<usize> =
                (0..self.guests.len()).filter(|other| self.guests[*other].1 == Some(place)).collect();
            let free = sitting.len() < self.places[place].room;
            if free || sitting.into_iter().any(|other| self.augment(other, visited)) {
                self.guests[guest].1 = Some(place);
                return true;
            }
        }
        false
    }
}
