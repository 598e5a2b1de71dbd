//! Slices of vGPUs on one board.

use crate::fleet::slots::{CatalogError, Draw, Fleet, ModePlan, Policy, SliceId};
use crate::simulate::clock::Nanoseconds;
use crate::simulate::scale::{Pace, Times, each, rate, warm_up};
use crate::simulate::slots::{Mix, Setup, tune};

/// Fills with which `vgpud` looks for its modes.
const TUNING: u64 = 20;

/// Returns the policy of a name, `vgpud` with its modes for this fleet and mix.
pub(super) fn prepared(setup: &Setup, name: &str) -> Option<Policy> {
    let policy = Policy::named(name, 1)?;
    let modes = if name == "vgpud" { ModePlan::PerGpu(tune(setup, TUNING)) } else { policy.modes };
    Some(Policy { modes, ..policy })
}

/// A fleet that is kept half full.
struct Half {
    setup: Setup,
    fleet: Fleet,
    live: Vec<SliceId>,
    used_gb: u64,
    half_gb: u64,
}

impl Half {
    fn gb(&self, size: u8) -> u64 {
        u64::from(self.setup.catalog.sizes[usize::from(size)].gb)
    }

    /// Gives slices back until less than half is in use.
    fn leave(&mut self, draw: &mut Draw, times: &mut Times) {
        while self.used_gb >= self.half_gb {
            let gone = self.live.swap_remove(draw.below(self.live.len()));
            let slice = times.of(|| self.fleet.release(gone));
            self.used_gb -= slice.map_or(0, |slice| self.gb(slice.size));
        }
    }

    fn come(&mut self, size: u8, times: &mut Times) {
        let placed = times.of(|| self.fleet.place(size));
        if let Some(slice) = placed {
            self.live.push(slice);
            self.used_gb += self.gb(size);
        }
    }
}

/// Measures a fleet of `gpus` GPUs of a board under a mix; `None` when there is no such policy.
///
/// # Errors
/// When the board is unknown, or does not offer a size of the mix.
pub fn slots(
    (board, mix): (&str, &Mix),
    name: &str,
    gpus: usize,
    decisions: usize,
) -> Result<Option<Pace>, CatalogError> {
    let setup = Setup::new(&[board], gpus, mix)?;
    let Some(policy) = prepared(&setup, name) else { return Ok(None) };
    let fleet = Fleet::new(&setup.catalog, policy, &setup.gpus);
    let half_gb = setup.gb() / 2;
    let mut half = Half { setup, fleet, live: Vec::new(), used_gb: 0, half_gb };
    let mut draw = Draw::new(7);
    let weights = half.setup.catalog.weights();
    let sizes: Vec<u8> = (0..decisions).map(|_| u8::try_from(draw.weighted(&weights)).unwrap_or(0)).collect();
    let mut unheard = Times::default();
    while half.used_gb < half.half_gb {
        half.come(u8::try_from(draw.weighted(&weights)).unwrap_or(0), &mut unheard);
    }
    for &size in sizes.iter().cycle().take(warm_up(gpus, decisions)) {
        half.leave(&mut draw, &mut unheard);
        half.come(size, &mut unheard);
    }
    let (mut decide, mut release) = (Times::default(), Times::default());
    for &size in &sizes {
        half.leave(&mut draw, &mut release);
        half.come(size, &mut decide);
    }
    let [of_gpus, of_slices, table_bytes] = half.fleet.bytes();
    let held = half.live.len();
    Ok(Some(Pace {
        engine: "slots",
        policy: name.to_owned(),
        gpus,
        held,
        decisions,
        per_second: rate(decisions, decide.sum),
        ns: Nanoseconds::of(decide.each),
        release_ns: Nanoseconds::of(release.each),
        bytes_per_gpu: each(of_gpus, gpus),
        bytes_per_held: each(of_slices, held),
        table_bytes,
    }))
}
