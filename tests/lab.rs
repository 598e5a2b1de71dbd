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

#[path = "lab/access.rs"]
mod access;
#[path = "lab/boot.rs"]
mod boot;
#[path = "lab/by_hand.rs"]
mod by_hand;
#[path = "lab/capacity.rs"]
mod capacity;
#[path = "lab/compare.rs"]
mod compare;
#[path = "lab/disk.rs"]
mod disk;
#[path = "lab/foreign.rs"]
mod foreign;
#[path = "lab/gpu_set.rs"]
mod gpu_set;
#[path = "lab/guest.rs"]
mod guest;
#[path = "lab/hang.rs"]
mod hang;
#[path = "lab/host.rs"]
mod host;
#[path = "lab/install.rs"]
mod install;
#[path = "lab/journeys.rs"]
mod journeys;
#[path = "lab/killed.rs"]
mod killed;
#[path = "lab/passthrough.rs"]
mod passthrough;
#[path = "lab/power.rs"]
mod power;
#[path = "lab/repoint.rs"]
mod repoint;
#[path = "lab/saved.rs"]
mod saved;
#[path = "lab/terms.rs"]
mod terms;
#[path = "lab/torture.rs"]
mod torture;
#[path = "lab/vendors.rs"]
mod vendors;
#[path = "lab/vfs.rs"]
mod vfs;
#[path = "lab/xml.rs"]
mod xml;

// The fake kernel, and the program that performs the same operations on it and in the lab.
#[path = "compare/fake.rs"]
mod on_fake;
#[path = "compare/mod.rs"]
mod program;
mod support;
