//! Whole journeys on a real kernel, with real libvirt and real guests, in the lab.
//!
//!     cargo build && scripts/lab up && scripts/install-lab
//!     cargo test --test lab -- --test-threads=1
//!
//! They change the host they run on, and that host is the lab: nothing here works without it.

#![expect(clippy::expect_used, reason = "a lab that does not answer fails the test")]

#[path = "lab/guest.rs"]
mod guest;
#[path = "lab/host.rs"]
mod host;

#[path = "lab/capacity.rs"]
mod capacity;
#[path = "lab/journeys.rs"]
mod journeys;
