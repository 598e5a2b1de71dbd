//! What can be asked for, and how it lies on each kind of GPU.

use thiserror::Error;

use crate::fleet::geometry::{Board, MigBoard, Shape};

/// One size on offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size {
    /// How it is asked for: GB, or a MIG profile.
    pub name: String,
    /// GB that one slice counts.
    pub gb: u32,
    /// How often it is asked for, against the other sizes.
    pub weight: u32,
}

/// Which modes a kind of GPU can be set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modes {
    /// Either, while it is idle.
    Both,
    /// It is in mixed-size mode and stays there.
    Mixed,
    /// It holds one size at a time.
    Equal,
}

/// GPUs that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The board.
    pub name: String,
    /// Its slots.
    pub slots: u8,
    /// GB of a slot.
    pub slot_gb: u8,
    /// The most units (vGPUs, or compute slices) that one GPU holds.
    pub limit: u8,
    /// Its modes.
    pub modes: Modes,
    /// How each size of the catalogue lies on it; `None` where it is not offered.
    pub shapes: Vec<Option<Shape>>,
}

/// The sizes and the kinds of a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    /// The sizes; a request names one by its index.
    pub sizes: Vec<Size>,
    /// The kinds; a GPU names one by its index.
    pub kinds: Vec<Kind>,
}

/// A catalogue that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CatalogError {
    /// No such board.
    #[error("no board is called {0:?}")]
    Board(String),
    /// No board offers a size.
    #[error("size {size} fits on none of the boards {boards}")]
    Size {
        /// What was asked for.
        size: String,
        /// The boards.
        boards: String,
    },
    /// Too many sizes for one catalogue.
    #[error("{0} sizes are too many: at most 32 can be told apart")]
    Sizes(usize),
}

impl Catalog {
    /// Creates a catalogue of `sizes` (name and weight) on boards named so.
    ///
    /// # Errors
    /// When a board is unknown, or none of them takes one of the sizes.
    pub fn new(boards: &[&str], sizes: &[(String, u32)]) -> Result<Self, CatalogError> {
        if sizes.len() > 32 {
            return Err(CatalogError::Sizes(sizes.len()));
        }
        let kinds: Vec<Kind> = boards.iter().map(|name| kind(name, sizes)).collect::<Result<_, _>>()?;
        let size = |(at, (name, weight)): (usize, &(String, u32))| {
            let gb = kinds.iter().find_map(|kind| gb(kind, at, name));
            let gb =
                gb.ok_or_else(|| CatalogError::Size { size: name.clone(), boards: boards.join(", ") })?;
            Ok(Size { name: name.clone(), gb, weight: *weight })
        };
        let sizes = sizes.iter().enumerate().map(size).collect::<Result<_, _>>()?;
        Ok(Self { sizes, kinds })
    }

    /// Returns the weights of the sizes.
    #[must_use]
    pub fn weights(&self) -> Vec<u32> {
        self.sizes.iter().map(|size| size.weight).collect()
    }

    /// Returns how a size lies on a kind.
    #[must_use]
    pub fn shape(&self, kind: u16, size: u8) -> Option<&Shape> {
        self.kinds.get(usize::from(kind))?.shapes.get(usize::from(size))?.as_ref()
    }

    /// Returns the mean GB of a request.
    #[must_use]
    pub fn mean_gb(&self) -> f64 {
        let total: f64 = self.sizes.iter().map(|size| f64::from(size.weight)).sum();
        let gb: f64 = self.sizes.iter().map(|size| f64::from(size.weight) * f64::from(size.gb)).sum();
        gb / total.max(1.0)
    }
}

impl Kind {
    /// Returns its GB.
    #[must_use]
    pub fn gb(&self) -> u32 {
        u32::from(self.slots) * u32::from(self.slot_gb)
    }

    /// Returns whether the count of units can bind before the slots do.
    pub(super) fn counts(&self) -> bool {
        let tightest = |shape: &Shape| u16::from(self.slots / shape.len.max(1)) * u16::from(shape.units);
        self.shapes.iter().flatten().any(|shape| tightest(shape) > u16::from(self.limit))
    }
}

/// GB of a size: its number, or the memory slices of a MIG profile.
fn gb(kind: &Kind, at: usize, name: &str) -> Option<u32> {
    let shape = kind.shapes.get(at)?.as_ref()?;
    let slices = u32::from(shape.len) * u32::from(kind.slot_gb);
    Some(name.parse().unwrap_or(slices))
}

fn kind(name: &str, sizes: &[(String, u32)]) -> Result<Kind, CatalogError> {
    if let Some(board) = Board::named(name) {
        let shape = |(size, _): &(String, u32)| size.parse().ok().and_then(|gb| board.shape(gb));
        return Ok(Kind {
            name: name.to_owned(),
            slots: board.region,
            slot_gb: 1,
            limit: board.limit(),
            modes: Modes::Both,
            shapes: sizes.iter().map(shape).collect(),
        });
    }
    let board = MigBoard::named(name).ok_or_else(|| CatalogError::Board(name.to_owned()))?;
    Ok(Kind {
        name: name.to_owned(),
        slots: board.memory_slices,
        slot_gb: board.slice_gb,
        limit: board.compute_slices,
        modes: Modes::Mixed,
        shapes: sizes.iter().map(|(size, _)| board.shape(size)).collect(),
    })
}
