//! Requests with times, replayed against policies: what is served, what is refused, who waits how long, how
//! full the GPUs are, and how evenly owners fare.
//!
//! A [`Workload`] is a fleet and its requests, from a [`Trace`] or drawn from a seed. A [`Contender`] is a
//! policy with the line in which requests wait. [`replay`] is a function of the two: same input, same answer,
//! but for the times that decisions took.

mod contender;
mod course;
mod line;
mod map;
mod outcome;
mod run;
mod sizes;
mod tally;
mod trace;
mod workload;

pub use contender::{Contender, ContenderError, Prepared};
pub use course::{Course, Point};
pub use line::{Discipline, LINES};
pub use map::{Span, UseMap};
pub use outcome::{ByClass, Delay, Outcome, Summary};
pub use run::{Record, Run, replay};
pub use sizes::{Rounding, SizeError};
pub use trace::{Trace, TraceError};
pub use workload::{Asked, Fleet, Job, Row, Workload, WorkloadError};

#[cfg(test)]
mod tests;
