//! Aligned slots: filling a fleet, and keeping it busy while slices come and go.

mod bounds;
mod churn;
mod experiment;
mod fill;
mod mix;
mod outcome;
mod tune;

pub use bounds::one_pool;
pub use churn::{Churn, Drive, churn};
pub use experiment::{Busy, Filled, Frame, busy, filled, frame};
pub use fill::{Fill, fill};
pub use mix::{MIXES, Mix, MixError};
pub use outcome::{BySize, Refused, Spread};
pub use tune::tune;

pub(super) use experiment::add_up;
pub(super) use fill::f_per_gpu;
pub(super) use outcome::percent;

use crate::fleet::slots::{Catalog, CatalogError};

/// The fleet of an experiment: its sizes with weights, and its GPUs.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Sizes and kinds.
    pub catalog: Catalog,
    /// The kind of each GPU.
    pub gpus: Vec<u16>,
}

impl Setup {
    /// Creates a fleet of `gpus` GPUs, the boards taken in turn.
    ///
    /// # Errors
    /// When a board is unknown, or a size fits on none.
    pub fn new(boards: &[&str], gpus: usize, mix: &Mix) -> Result<Self, CatalogError> {
        let catalog = Catalog::new(boards, &mix.sizes)?;
        let kinds = u16::try_from(catalog.kinds.len()).unwrap_or(u16::MAX);
        let gpus = (0..kinds).cycle().take(gpus).collect();
        Ok(Self { catalog, gpus })
    }

    /// Returns the GB of all GPUs.
    #[must_use]
    pub fn gb(&self) -> u64 {
        let gb = |kind: &u16| u64::from(self.catalog.kinds[usize::from(*kind)].gb());
        self.gpus.iter().map(gb).sum()
    }
}
