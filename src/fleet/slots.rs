//! Placing slices whose places are aligned: which GPU, which placement id, and in which mode that GPU runs.
//!
//! What a GPU holds is a *pattern* of busy slots. Patterns are kept once and shared: a GPU is a number, a
//! score is worked out once for a pattern and looked up from then on. [`Fleet`] is the state and the one
//! that decides; [`Fleet::choose`] is a function of that state, [`Fleet::explain`] says the same with a
//! reason for every GPU.

mod bits;
mod catalog;
mod draw;
mod explain;
mod fleet;
mod index;
mod moves;
mod pair;
mod pattern;
mod policy;
mod slices;
mod solo;

pub use bits::Bits;
pub use catalog::{Catalog, CatalogError, Kind, Modes, Size};
pub use draw::Draw;
pub use explain::{Candidate, Passed};
pub use fleet::{Choice, Fleet, Request};
pub use moves::{Plan, Shift};
pub use pair::{Demand, Pair};
pub use pattern::{Mode, Pattern};
pub use policy::{ModePlan, POLICIES, Policy, Rule};
pub use slices::{Slice, SliceId};

#[cfg(test)]
mod properties;
