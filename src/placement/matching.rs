//! Seating guests at places that hold only so many: greedy by preference, and when a place is full, by
//! moving those who sit there to another place they accept (Kuhn's augmenting paths). So a guest is turned
//! away only when no seating of all of them exists.

use std::collections::BTreeSet;

use crate::model::{DeviceName, Gpu, MdevType, Policy};
use crate::placement::offer::Offer;
use crate::placement::policy::{self, Place, Placed, Ring};

/// One type of one parent.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) parent: &'a DeviceName,
    pub(super) mdev_type: &'a MdevType,
    room: usize,
    /// MiB of one slice, where the driver says.
    each: u64,
}

/// A seat that a guest accepts, and what it is to that guest.
pub(super) type Accepted<'a> = (usize, Place<'a>);

/// By what a guest chooses among the seats that it accepts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choosy {
    pub(super) policy: Policy,
    pub(super) seed: u64,
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
    pub(super) fn add(&mut self, offer: &Offer<'a>) -> Option<Accepted<'a>> {
        let mdev_type = offer.mdev_type()?;
        let parent = offer.matched.parent;
        let known = self.places.iter().position(|p| p.parent == parent && p.mdev_type.id == mdev_type.id);
        let seat = known.unwrap_or_else(|| {
            let room = usize::try_from(offer.possible()).unwrap_or(usize::MAX);
            let each = offer.place.each.unwrap_or(0);
            self.places.push(Seat { gpu: offer.matched.gpu, parent, mdev_type, room, each });
            self.places.len() - 1
        });
        Some((seat, offer.place.clone()))
    }

    /// Seats one more guest, who accepts `places`; false when that cannot be done.
    pub(super) fn take(&mut self, places: &[Accepted<'a>], by: Choosy) -> bool {
        let last = self.guests.last().and_then(|(_, has)| *has);
        let free = places.iter().filter(|(seat, _)| self.taken(*seat) < self.places[*seat].room);
        let best = free.min_by_key(|(_, place)| {
            let mut place = place.clone();
            // The next one of the same request goes on from the one before.
            let gone_to = last.map(|seat| &self.places[seat].gpu.id);
            let before = places.iter().find(|(_, other)| Some(&other.gpu.id) == gone_to);
            place.ring =
                Ring { last: before.map(|(_, other)| other.ring.at).or(place.ring.last), ..place.ring };
            let score = policy::score(by.policy, &place, self.placed(place.gpu), by.seed);
            (score.tier, score.value, score.tie, place.parent, &place.gpu.id)
        });
        let best = best.map(|(seat, _)| *seat);
        self.guests.push((places.iter().map(|(seat, _)| *seat).collect(), best));
        let guest = self.guests.len() - 1;
        best.is_some() || self.augment(guest, &mut BTreeSet::new())
    }

    /// Returns where a guest sits; guests are numbered in the order of [`Seats::take`].
    pub(super) fn of(&self, guest: usize) -> Option<&Seat<'a>> {
        self.guests.get(guest).and_then(|(_, place)| *place).map(|place| &self.places[place])
    }

    fn taken(&self, place: usize) -> usize {
        self.guests.iter().filter(|(_, has)| *has == Some(place)).count()
    }

    /// What the guests on a GPU have, also those of other types and parents: they share the GPU's memory. For
    /// preference only; whether there is room is the place's own count.
    fn placed(&self, gpu: &Gpu) -> Placed {
        let there = self.guests.iter().filter_map(|(_, has)| *has).map(|seat| &self.places[seat]);
        let there = there.filter(|seat| seat.gpu.id == gpu.id);
        there.fold(Placed::default(), |sum, seat| Placed { slices: sum.slices + 1, mib: sum.mib + seat.each })
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
