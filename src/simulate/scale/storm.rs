//! The boot storm: ten thousand desktops asked for within a minute.

use std::time::Instant;

use serde::Serialize;

use crate::fleet::slots::{CatalogError, Draw, Fleet};
use crate::simulate::clock::Nanoseconds;
use crate::simulate::scale::Times;
use crate::simulate::scale::slots::prepared;
use crate::simulate::slots::{Mix, MixError, Setup};

/// GPUs: 320 hosts of two.
const GPUS: usize = 640;
/// Desktops of 1, 2, 4 and 8 GB at 3 : 4 : 2 : 1.
const DESKTOPS: usize = 10_000;

/// What the storm came to.
#[derive(Clone, Debug, Serialize)]
pub struct Storm {
    /// The policy's name.
    pub policy: String,
    /// GPUs in the fleet.
    pub gpus: usize,
    /// Desktops asked for.
    pub desktops: usize,
    /// Desktops that found no place.
    pub refused: usize,
    /// A decision and its reservation.
    pub ns: Nanoseconds,
    /// All decisions together, in milliseconds.
    pub ms: f64,
}

/// Why there is no storm.
#[derive(Debug, thiserror::Error)]
pub enum StormError {
    /// The mix of desktops.
    #[error(transparent)]
    Mix(#[from] MixError),
    /// The board.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Places 10,000 desktops on 640 L40S one after another; `None` when there is no such policy.
///
/// # Errors
/// Never with the boards and mixes that ship.
pub fn storm(name: &str) -> Result<Option<Storm>, StormError> {
    let mix: Mix = "desktops".parse()?;
    let setup = Setup::new(&["l40s-48"], GPUS, &mix)?;
    let Some(policy) = prepared(&setup, name) else { return Ok(None) };
    let mut draw = Draw::new(3);
    let weights = setup.catalog.weights();
    let sizes: Vec<u8> = (0..DESKTOPS).map(|_| u8::try_from(draw.weighted(&weights)).unwrap_or(0)).collect();
    let mut fleet = Fleet::new(&setup.catalog, policy, &setup.gpus);
    let mut times = Times::default();
    let start = Instant::now();
    let refused = sizes.iter().filter(|size| times.of(|| fleet.place(**size)).is_none()).count();
    let ms = start.elapsed().as_secs_f64() * 1000.0;
    let ns = Nanoseconds::of(times.each);
    Ok(Some(Storm { policy: name.to_owned(), gpus: GPUS, desktops: DESKTOPS, refused, ns, ms }))
}
