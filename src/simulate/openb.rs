//! The arrival experiment on the openb traces, as published (Weng, Yang et al., USENIX ATC 2023).
//!
//! Tasks arrive in random order and never leave; one that fits nowhere is dropped. The trace is topped up
//! with repeats drawn from it until the wanted part of the GPUs has been asked for. The nodes stand in
//! one random order per run, and the first of equal nodes is taken. A figure at x percent is the mean
//! over the arrivals at which what was asked for rounds to x percent.

mod run;
mod trace;

pub use run::{Experiment, PolicyResult, Popularity, Statistic};
pub use trace::{Trace, TraceError};
