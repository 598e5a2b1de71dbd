//! Whole journeys on a real kernel, with real libvirt and real guests, in the lab.
//!
//!     cargo build && scripts/lab up && scripts/install-lab
//!     cargo test --test lab -- --test-threads=1
//!
//! They change the host they run on, and that host is the lab: nothing here works without it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "measures and the state of a lab that failed are for people"
)]
#![expect(clippy::expect_used, reason = "a lab that does not answer fails the test")]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what was measured, and what there was when a test failed"
)]

#[path = "lab/access.rs"]
mod access;
#[path = "lab/by_hand.rs"]
mod by_hand;
#[path = "lab/capacity.rs"]
mod capacity;
#[path = "lab/disk.rs"]
mod disk;
#[path = "lab/foreign.rs"]
mod foreign;
#[path = "lab/guest.rs"]
mod guest;
#[path = "lab/hang.rs"]
mod hang;
#[path = "lab/host.rs"]
mod host;
#[path = "lab/journeys.rs"]
mod journeys;
#[path = "lab/killed.rs"]
mod killed;
#[path = "lab/power.rs"]
mod power;
#[path = "lab/vfs.rs"]
mod vfs;
#[path = "lab/xml.rs"]
mod xml;
