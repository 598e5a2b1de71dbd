//! Fleets of nodes with CPU, memory and up to eight GPUs that are given away in thousandths.
//!
//! A [`Node`] is 32 bytes. A [`Kind`] is what a task asks for; tasks that ask alike share one. A
//! [`Placer`] holds the nodes in one order, decides by a [`Policy`], and keeps for each kind an index of
//! the nodes' scores that is brought up to date with those nodes that changed since it last asked.

mod baseline;
mod formula;
mod fragments;
mod index;
mod kind;
pub mod learn;
mod node;
mod outlook;
mod placer;
mod policy;
mod random;
#[cfg(test)]
mod tests;
mod values;

pub use fragments::Fragments;
pub use kind::{Class, Kind};
pub use node::{MOST_GPUS, Node, Place, WHOLE};
pub use outlook::{Demand, Outlook};
pub use placer::{Placer, Rescue, Tenants};
pub use policy::{Policy, UnknownPolicy};
pub use random::Random;
pub use values::{TableError, Values};
