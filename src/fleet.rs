//! Placement over fleets of any size, as a function: state and request in, choice or reasons out.
//!
//! No I/O, no clock; randomness only from a seed that is passed in. The simulator measures what this room
//! decides, so that what was measured is what a host would do.

pub mod geometry;
pub mod shares;
pub mod slots;
