//! Choosing how idle GPUs are taken into use, by trying it out on the fleet and the mix at hand.
//!
//! A GPU that holds one size loses no slots, yet what is left of it serves that size only; mixed GPUs lose
//! slots and serve all. Which is better depends on the number of GPUs, of sizes, and on which sizes lose
//! slots when mixed. So the plan is found by filling the fleet many times under candidate plans, all with
//! the same requests: first one threshold for all sizes, or for those that lose slots, then each by itself.

use crate::fleet::slots::{Catalog, Fleet, ModePlan, Policy};
use crate::simulate::slots::Setup;
use crate::simulate::slots::fill::refill;

/// Thresholds that are tried; the last one is "always mixed".
const TRIED: &[u32] = &[0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, u32::MAX];

/// More GPUs than this are tuned as this many.
const MOST: usize = 64;

/// Seeds of the tuning runs, far from those of experiments.
const SEEDS: u64 = 1 << 40;

/// Finds thresholds for [`ModePlan::PerGpu`] by `runs` fills for each candidate.
#[must_use]
pub fn tune(setup: &Setup, runs: u64) -> Vec<u32> {
    let small =
        Setup { catalog: setup.catalog.clone(), gpus: setup.gpus.iter().copied().take(MOST).collect() };
    let policy = Policy::named("vgpud", 0).unwrap_or_else(|| Policy::mixed(crate::fleet::slots::Rule::Fgd));
    let mut fleet = Fleet::new(&small.catalog, policy, &small.gpus);
    let mut value = |plan: &[u32]| {
        fleet.set_modes(ModePlan::PerGpu(plan.to_vec()));
        (SEEDS..SEEDS + runs).map(|seed| refill(&small, &mut fleet, seed, false).allocated[2]).sum::<f64>()
    };
    let mut best = vec![u32::MAX; setup.catalog.sizes.len()];
    let mut top = value(&best);
    let mut attempt = |plan: Vec<u32>, best: &mut Vec<u32>| {
        let found = value(&plan);
        if found > top + 1e-9 {
            (top, *best) = (found, plan);
        }
    };
    let useful =
        |above: &u32| *above == u32::MAX || usize::try_from(*above).is_ok_and(|k| k < small.gpus.len());
    let tried: Vec<u32> = TRIED.iter().copied().filter(useful).collect();
    for &above in &tried {
        let lossy = |size: usize| if loses(&small.catalog, size) { above } else { u32::MAX };
        attempt(vec![above; best.len()], &mut best);
        attempt((0..best.len()).map(lossy).collect(), &mut best);
    }
    for size in 0..best.len() {
        for &above in tried.iter().filter(|above| **above != best[size]).copied().collect::<Vec<_>>().iter() {
            let mut plan = best.clone();
            plan[size] = above;
            attempt(plan, &mut best);
        }
    }
    best
}

/// Returns whether a size has fewer places when sizes are mixed.
fn loses(catalog: &Catalog, size: usize) -> bool {
    let shapes = catalog.kinds.iter().filter_map(|kind| kind.shapes.get(size)?.as_ref());
    shapes.into_iter().any(|shape| shape.mixed.len() < shape.equal.len())
}
