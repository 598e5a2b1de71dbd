//! Start slices of GPU instances under MIG.

use crate::fleet::geometry::Shape;

/// One profile: its name, compute slices, memory slices and starts.
type Row = (&'static str, u8, u8, &'static [u8]);

/// A board that is divided by MIG.
#[derive(Clone, Copy, Debug)]
pub struct MigBoard {
    /// Its name on the command line.
    pub name: &'static str,
    /// Memory slices, which are its slots.
    pub memory_slices: u8,
    /// Compute slices, of which all instances together take at most this many.
    pub compute_slices: u8,
    /// GB of one memory slice.
    pub slice_gb: u8,
    rows: &'static [Row],
}

/// NVIDIA's MIG user guide, A100 and H100; `1g.2m` is one compute slice with two memory slices.
const SEVEN: &[Row] = &[
    ("1g", 1, 1, &[0, 1, 2, 3, 4, 5, 6]),
    ("1g.2m", 1, 2, &[0, 2, 4, 6]),
    ("2g", 2, 2, &[0, 2, 4]),
    ("3g", 3, 4, &[0, 4]),
    ("4g", 4, 4, &[0]),
    ("7g", 7, 8, &[0]),
];

/// The boards known by name.
pub const MIG_BOARDS: &[MigBoard] = &[
    MigBoard { name: "mig-40", memory_slices: 8, compute_slices: 7, slice_gb: 5, rows: SEVEN },
    MigBoard { name: "mig-80", memory_slices: 8, compute_slices: 7, slice_gb: 10, rows: SEVEN },
];

impl MigBoard {
    /// Finds a board by name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        MIG_BOARDS.iter().copied().find(|board| board.name == name)
    }

    /// Returns the names of the profiles, smallest first.
    pub fn profiles(&self) -> impl Iterator<Item = &'static str> {
        self.rows.iter().map(|row| row.0)
    }

    /// Returns how a profile lies on this board.
    #[must_use]
    pub fn shape(&self, profile: &str) -> Option<Shape> {
        let (_, units, len, starts) = self.rows.iter().find(|row| row.0 == profile)?;
        Some(Shape { len: *len, units: *units, mixed: starts.to_vec(), equal: Vec::new() })
    }
}
