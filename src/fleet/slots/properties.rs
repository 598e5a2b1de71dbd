//! What must hold for every sequence of requests, judged by a second, dumber checker: lists of slices, and a
//! look at every place of every GPU.

use proptest::prelude::*;

use crate::fleet::geometry::Board;
use crate::fleet::slots::{Catalog, Choice, Fleet, Mode, POLICIES, Plan, Policy, Slice, SliceId};

const MIXES: &[(&str, &[u32])] = &[
    ("h100-80", &[8, 10, 20, 40]),
    ("l40s-48", &[2, 3, 4, 6, 8, 12, 16]),
    ("a40-48", &[1, 2, 24]),
    ("rtxpro6000-96", &[2, 12, 32]),
];

fn catalog((board, sizes): (&str, &[u32])) -> Catalog {
    let sizes: Vec<(String, u32)> = sizes.iter().map(|gb| (gb.to_string(), 1)).collect();
    Catalog::new(&[board], &sizes).expect("a catalogue")
}

/// The slices of one GPU: number, size, first slot.
type Held = Vec<(SliceId, u8, u8)>;

/// The checker's own account: board, sizes, and for each GPU its mode and its slices.
struct Account {
    board: Board,
    sizes: Vec<u8>,
    gpus: Vec<(Mode, Held)>,
}

impl Account {
    fn new((board, sizes): (&str, &[u32]), gpus: usize) -> Self {
        let sizes = sizes.iter().map(|gb| u8::try_from(*gb).expect("small")).collect();
        Self { board: Board::named(board).expect("known"), sizes, gpus: vec![(Mode::Idle, Vec::new()); gpus] }
    }

    fn len(&self, size: u8) -> u8 {
        self.board.shape(self.sizes[usize::from(size)]).expect("offered").len
    }

    /// Returns whether a place could be taken, by looking at each slice.
    fn fits(&self, gpu: usize, size: u8, id: u8, mode: Mode) -> bool {
        let (now, slices) = &self.gpus[gpu];
        let shape = self.board.shape(self.sizes[usize::from(size)]).expect("offered");
        let ids = match mode {
            Mode::Mixed => &shape.mixed,
            Mode::Equal(of) if of == size => &shape.equal,
            _ => return false,
        };
        let clear = |&(_, other, at): &(SliceId, u8, u8)| at + self.len(other) <= id || id + shape.len <= at;
        let in_mode = slices.is_empty() || *now == mode;
        let room = slices.len() < usize::from(self.board.limit());
        in_mode && room && ids.contains(&id) && slices.iter().all(clear)
    }

    fn fits_anywhere(&self, size: u8, modes: &[Mode]) -> bool {
        let tries = |gpu| modes.iter().any(|mode| (0..96).any(|id| self.fits(gpu, size, id, *mode)));
        (0..self.gpus.len()).any(tries)
    }

    fn take(&mut self, slice: SliceId, choice: Choice) {
        let gpu = usize::try_from(choice.gpu).expect("small");
        assert!(self.fits(gpu, choice.size, choice.id, choice.mode), "{choice:?} is taken or no place");
        self.gpus[gpu].0 = choice.mode;
        self.gpus[gpu].1.push((slice, choice.size, choice.id));
    }

    fn release(&mut self, slice: SliceId) {
        self.gpus.iter_mut().for_each(|(_, slices)| slices.retain(|(id, _, _)| *id != slice));
    }

    fn walk(&mut self, plan: &Plan) {
        for shift in &plan.shifts {
            self.release(shift.slice);
            self.take(shift.slice, shift.to);
        }
    }
}

/// Returns what can be compared of a fleet.
fn content(fleet: &Fleet) -> Vec<(Mode, Vec<Slice>)> {
    let gpus = 0..u32::try_from(fleet.len()).expect("few");
    let slices = |gpu| {
        let mut all: Vec<Slice> = fleet.slices(gpu).map(|(_, slice)| slice).collect();
        all.sort_by_key(|slice| slice.id);
        all.iter_mut().for_each(|slice| (slice.next, slice.before) = (0, 0));
        all
    };
    gpus.map(|gpu| (fleet.pattern(gpu).mode, slices(gpu))).collect()
}

fn walk_through(mix: (&str, &[u32]), name: &str, gpus: usize, steps: &[(u8, u16)]) {
    let catalog = catalog(mix);
    let sizes = u8::try_from(catalog.sizes.len()).expect("few");
    let mut fleet = Fleet::new(&catalog, Policy::named(name, 1).expect("known"), &vec![0; gpus]);
    let mut account = Account::new(mix, gpus);
    let mut live: Vec<SliceId> = Vec::new();
    for &(what, number) in steps {
        let size = what % sizes;
        if number % 3 == 0 && !live.is_empty() {
            let gone = live.swap_remove(usize::from(number) % live.len());
            account.release(gone);
            assert!(fleet.release(gone).is_some() && fleet.release(gone).is_none());
            continue;
        }
        if let Some(choice) = fleet.choose(size) {
            let before = content(&fleet);
            let trial = fleet.take(choice);
            fleet.release(trial);
            assert_eq!(content(&fleet), before, "reserve and release restore the state");
            let slice = fleet.take(choice);
            account.take(slice, choice);
            live.push(slice);
            continue;
        }
        let modes = if name.starts_with("same") {
            vec![Mode::Equal(size)]
        } else {
            vec![Mode::Mixed, Mode::Equal(size)]
        };
        let modes = if name.starts_with("same") { modes } else { modes[..1].to_vec() };
        assert!(!account.fits_anywhere(size, &modes), "refused {size} although it fits");
        let before = content(&fleet);
        let plan = fleet.rescue(size, 2);
        assert_eq!(content(&fleet), before, "searching for moves changes nothing");
        if let Some(plan) = plan {
            account.walk(&plan);
            let slice = fleet.walk(&plan);
            account.take(slice, plan.choice);
            live.push(slice);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nothing_is_promised_twice_and_a_refusal_is_true(
        mix in 0..MIXES.len(), policy in 0..POLICIES.len(), gpus in 1usize..5,
        steps in proptest::collection::vec((any::<u8>(), any::<u16>()), 1..80),
    ) {
        walk_through(MIXES[mix], POLICIES[policy].0, gpus, &steps);
    }

    #[test]
    fn a_large_fleet_is_decided_as_if_it_were_small(
        policy in 0..POLICIES.len(), steps in proptest::collection::vec((any::<u8>(), any::<u16>()), 1..200),
    ) {
        // 70 GPUs go through the index; the checker looks at every place of each.
        walk_through(MIXES[0], POLICIES[policy].0, 70, &steps);
    }

    #[test]
    fn aligned_powers_of_two_stay_whole_without_departures(
        sizes in proptest::collection::vec(0u8..3, 1..40), gpus in 1usize..4,
    ) {
        let catalog = catalog(("h100-80", &[10, 20, 40]));
        for name in ["pack", "best-fit", "fgd"] {
            let mut fleet = Fleet::new(&catalog, Policy::named(name, 1).expect("known"), &vec![0; gpus]);
            for &size in &sizes {
                let gpus = 0..u32::try_from(gpus).expect("few");
                let free = gpus.map(|gpu| 80 - fleet.pattern(gpu).busy.count_ones()).max().expect("a GPU");
                let gb = catalog.sizes[usize::from(size)].gb;
                prop_assert_eq!(fleet.place(size).is_some(), free >= gb, "{} with {} free", gb, free);
            }
        }
    }

    #[test]
    fn no_plan_of_two_moves_is_missed_on_two_gpus(
        steps in proptest::collection::vec((0u8..4, any::<u16>()), 10..60),
    ) {
        let catalog = catalog(MIXES[0]);
        let mut fleet = Fleet::new(&catalog, Policy::named("first-fit", 1).expect("known"), &[0, 0]);
        let mut live = Vec::new();
        for (size, number) in steps {
            if number % 2 == 0 && !live.is_empty() {
                fleet.release(live.swap_remove(usize::from(number) % live.len()));
            } else if let Some(slice) = fleet.place(size) {
                live.push(slice);
            } else {
                let least = (1..=2).find(|most| by_brute_force(&mut fleet, size, *most));
                prop_assert_eq!(fleet.rescue(size, 2).map(|plan| plan.shifts.len()), least);
            }
        }
    }
}

/// Tries every move of every slice to every place, then every other.
fn by_brute_force(fleet: &mut Fleet, size: u8, most: usize) -> bool {
    if fleet.choose(size).is_some() {
        return true;
    }
    let all: Vec<(SliceId, Slice)> = (0..2).flat_map(|gpu| fleet.slices(gpu).collect::<Vec<_>>()).collect();
    for (id, slice) in all.into_iter().filter(|_| most > 0) {
        let mode = fleet.pattern(slice.gpu).mode;
        fleet.release(id);
        let places: Vec<_> =
            (0..2).flat_map(|gpu| fleet.open(gpu, slice.size).into_iter().map(move |at| (gpu, at))).collect();
        let mut found = false;
        for (gpu, (at, mode)) in places {
            let there = fleet.take(Choice { gpu, size: slice.size, id: at, mode, score: 0 });
            found = found || by_brute_force(fleet, size, most - 1);
            fleet.release(there);
        }
        fleet.take(Choice { gpu: slice.gpu, size: slice.size, id: slice.id, mode, score: 0 });
        if found {
            return true;
        }
    }
    false
}

#[test]
fn the_answer_does_not_depend_on_the_order_in_which_slices_were_made() {
    let catalog = catalog(MIXES[1]);
    let places = [(0, 1, 3), (0, 3, 12), (1, 5, 24), (1, 0, 0), (2, 6, 32)];
    let built = |order: &[usize]| {
        let mut fleet = Fleet::new(&catalog, Policy::named("fgd", 1).expect("known"), &[0; 3]);
        for &at in order {
            let (gpu, size, id) = places[at];
            fleet.take(Choice { gpu, size, id, mode: Mode::Mixed, score: 0 });
        }
        (0..7).map(|size| fleet.choose(size)).collect::<Vec<_>>()
    };
    assert_eq!(built(&[0, 1, 2, 3, 4]), built(&[4, 2, 0, 3, 1]));
}

#[test]
fn a_foreign_slice_holds_its_slots_and_is_never_moved() {
    let catalog = catalog(MIXES[0]);
    let mut fleet = Fleet::new(&catalog, Policy::named("fgd", 1).expect("known"), &[0, 0]);
    fleet.hold(0, Mode::Mixed, 0, 40);
    fleet.hold(0, Mode::Mixed, 40, 20);
    fleet.hold(1, Mode::Mixed, 12, 8);
    assert_eq!(fleet.choose(3).map(|choice| (choice.gpu, choice.id)), Some((1, 40)));
    assert!(fleet.place(3).is_some());
    assert_eq!(fleet.rescue(3, 2), None, "only foreign slices are in the way");
}
