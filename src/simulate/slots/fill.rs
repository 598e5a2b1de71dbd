//! Filling a fleet: requests arrive until more than its capacity was asked for, and nothing leaves.

use crate::fleet::slots::{Draw, Fleet, Policy};
use crate::simulate::slots::Setup;
use crate::simulate::slots::outcome::{BySize, count, percent};

/// What one run came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fill {
    /// Percent allocated when 100, 110 and 130 % of the capacity were asked for.
    pub allocated: [f64; 3],
    /// Percent allocated when the first request was refused.
    pub at_first_refusal: f64,
    /// By size, over all 130 %.
    pub sizes: Vec<BySize>,
    /// After each request: percent asked for, percent allocated, and F per GPU; only when wanted.
    pub course: Vec<[f64; 3]>,
}

/// The marks of [`Fill::allocated`].
pub(super) const MARKS: [u64; 3] = [100, 110, 130];

/// Runs one fill. `course` keeps what is needed for plots.
#[must_use]
pub fn fill(setup: &Setup, policy: &Policy, seed: u64, course: bool) -> Fill {
    let policy = Policy { seed, ..policy.clone() };
    refill(setup, &mut Fleet::new(&setup.catalog, policy, &setup.gpus), seed, course)
}

/// Empties a fleet and fills it; what it worked out for its patterns stays.
pub(super) fn refill(setup: &Setup, fleet: &mut Fleet, seed: u64, course: bool) -> Fill {
    fleet.clear();
    let mut draw = Draw::new(seed);
    let weights = setup.catalog.weights();
    let (capacity, mut asked, mut given) = (setup.gb(), 0, 0);
    let mut run = Fill { sizes: sizes(setup), at_first_refusal: -1.0, ..Fill::default() };
    while asked * 100 < capacity * MARKS[2] {
        let size = u8::try_from(draw.weighted(&weights)).unwrap_or(0);
        let gb = u64::from(setup.catalog.sizes[usize::from(size)].gb);
        asked += gb;
        let placed = fleet.place(size).is_some();
        given += if placed { gb } else { 0 };
        if !placed && run.at_first_refusal < 0.0 {
            run.at_first_refusal = percent(given, capacity);
        }
        count(&mut run.sizes, size, !placed);
        for (mark, allocated) in MARKS.into_iter().zip(&mut run.allocated) {
            if (asked - gb) * 100 < capacity * mark {
                *allocated = percent(given, capacity);
            }
        }
        if course {
            run.course.push([percent(asked, capacity), percent(given, capacity), f_per_gpu(fleet)]);
        }
    }
    run
}

/// Returns F as a share of a GPU, in percent: the idle slots that are of no use, mean over the mix.
pub(crate) fn f_per_gpu(fleet: &Fleet) -> f64 {
    let weights: u32 = fleet.catalog().weights().iter().sum();
    let slots: u32 = (0..u32::try_from(fleet.len()).unwrap_or(0))
        .map(|gpu| u32::from(fleet.catalog().kinds[usize::from(fleet.pattern(gpu).kind)].slots))
        .sum();
    let whole = u64::from(weights) * u64::from(slots);
    percent(u64::try_from(fleet.fragmentation()).unwrap_or(0), whole)
}

/// Returns an empty count for each size.
pub(super) fn sizes(setup: &Setup) -> Vec<BySize> {
    let size = |size: &crate::fleet::slots::Size| BySize {
        size: size.name.clone(),
        gb: size.gb,
        ..BySize::default()
    };
    setup.catalog.sizes.iter().map(size).collect()
}
