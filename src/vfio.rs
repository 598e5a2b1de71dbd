//! VFIO: who has a device open, a guard that keeps it closed, and binding a function to its VFIO driver.
//!
//! Decides nothing. `/dev/vfio/<group>` admits one opener, so [`GroupGuard`] is both the question
//! "is it held?" and the answer "it stays free while you work"; [`Holders`] says who it is.

mod driver;
mod guard;
mod holders;

pub use driver::{BindError, bind, choose_driver, unbind};
pub use guard::{GroupGuard, GuardError};
pub use holders::{Holders, Node};
