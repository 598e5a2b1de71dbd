//! One program for two kernels: it performs a random sequence of operations below a root and writes down
//! every result and every change of the tree. On the fake kernel and on a real one the texts must be equal.
//!
//! What is done follows from the seed alone, never from an answer.

mod listing;
mod ops;
mod perform;

pub(crate) use ops::sequence;
pub(crate) use perform::{Host, node, perform};
