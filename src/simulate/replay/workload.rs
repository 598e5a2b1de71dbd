//! A fleet and what is asked of it, over time.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::fleet::slots::CatalogError;
use crate::simulate::replay::sizes::{Ladder, Rounding, SizeError};
use crate::simulate::slots::{Mix, Setup};

/// What one request names.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// So many GB.
    Gb(f64),
    /// A profile.
    Profile(String),
}

/// One request, as a trace has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The line it stands in, from 1; 0 when it was not read.
    pub line: usize,
    /// Seconds.
    pub arrival: f64,
    /// Seconds it runs once it is served; infinite when it stays.
    pub life: f64,
    /// Whose it is.
    pub owner: String,
    /// What it asks for.
    pub asked: Asked,
    /// Its class, such as `render`.
    pub class: String,
    /// The more the sooner, in a line that looks at it.
    pub priority: i32,
    /// Seconds it waits for room; `None` leaves that to the fleet's rule.
    pub wait: Option<f64>,
}

/// The GPUs and the rules by which requests become slices.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// The boards, taken in turn.
    pub boards: Vec<String>,
    /// How many GPUs.
    pub gpus: usize,
    /// What is done with a request between two sizes.
    pub rounding: Rounding,
    /// GB of profiles that no board knows.
    pub profiles: BTreeMap<String, f64>,
    /// Seconds that a request waits which does not say so itself; 0: it is refused at once.
    pub wait: f64,
}

/// One request, ready to be replayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Job {
    /// Seconds since the first arrival.
    pub arrival: f64,
    /// Seconds it runs; infinite when it stays.
    pub life: f64,
    /// Its size, by the catalogue.
    pub size: u8,
    /// Whose it is.
    pub owner: u32,
    /// Its class.
    pub class: u16,
    /// The more the sooner.
    pub priority: i32,
    /// Seconds it waits.
    pub wait: f64,
}

/// A fleet and its requests.
#[derive(Clone, Debug)]
pub struct Workload {
    /// What it is called.
    pub name: String,
    /// What it assumes, one sentence each.
    pub notes: Vec<String>,
    /// Sizes with the frequency of each, and the GPUs.
    pub setup: Setup,
    /// By arrival.
    pub jobs: Vec<Job>,
    /// Names of the classes, sorted.
    pub classes: Vec<String>,
    /// Names of the owners, sorted.
    pub owners: Vec<String>,
    /// Seconds from which on requests count; those before fill the fleet.
    pub counted_from: f64,
    /// Seconds until which the run goes on, at least to the last arrival.
    pub until: f64,
    /// GB that the slices have above what was asked for, in percent of that.
    pub rounded_percent: f64,
}

/// Why requests and fleet do not fit together.
#[derive(Debug, Error)]
pub enum WorkloadError {
    /// There is no request.
    #[error("there is no request")]
    Empty,
    /// One of them asks for what no board offers.
    #[error("{}{source}", place(*line))]
    Size {
        /// Its line; 0 when it was not read from one.
        line: usize,
        /// Why.
        source: SizeError,
    },
    /// The fleet cannot be.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Too many classes.
    #[error("there are {0} classes; at most 1000 can be told apart")]
    Classes(usize),
}

fn place(line: usize) -> String {
    if line == 0 { String::new() } else { format!("line {line}: ") }
}

/// Names in order, each once.
fn names<'a>(all: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut names: Vec<String> = all.cloned().collect();
    names.sort_by(|a, b| order(a).cmp(&order(b)));
    names.dedup();
    names
}

/// Names in order: those that begin with a number by it, so that "8 GB" stands before "10 GB".
fn order(name: &str) -> (Option<u64>, &str) {
    let end = name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len());
    (name[..end].parse().ok(), name)
}

fn position(names: &[String], name: &str) -> Option<usize> {
    names.binary_search_by(|other| order(other).cmp(&order(name))).ok()
}

impl Workload {
    /// Turns requests into slices of a fleet.
    ///
    /// # Errors
    /// When there is none, or one of them has no size on these boards.
    pub fn new(name: &str, mut rows: Vec<Row>, fleet: &Fleet) -> Result<Self, WorkloadError> {
        let ladder = Ladder::new(&fleet.boards, fleet.rounding, fleet.profiles.clone());
        let ladder = ladder.map_err(|source| WorkloadError::Size { line: 0, source })?;
        rows.sort_by(|a, b| a.arrival.total_cmp(&b.arrival));
        let begin = rows.first().ok_or(WorkloadError::Empty)?.arrival;
        let mut counts: Vec<(String, u32)> = Vec::new();
        let mut sized = Vec::with_capacity(rows.len());
        for row in &rows {
            let step = ladder.step(&row.asked);
            let (step, gb) = step.map_err(|source| WorkloadError::Size { line: row.line, source })?;
            let at = counts.iter().position(|(name, _)| name == step).unwrap_or_else(|| {
                counts.push((step.to_owned(), 0));
                counts.len() - 1
            });
            counts[at].1 += 1;
            sized.push((at, gb));
        }
        let boards: Vec<&str> = fleet.boards.iter().map(String::as_str).collect();
        let setup = Setup::new(&boards, fleet.gpus, &Mix { name: name.to_owned(), sizes: counts })?;
        let classes = names(rows.iter().map(|row| &row.class));
        if classes.len() > 1000 {
            return Err(WorkloadError::Classes(classes.len()));
        }
        let owners = names(rows.iter().map(|row| &row.owner));
        let job = |(row, (size, _)): (&Row, &(usize, f64))| Job {
            arrival: row.arrival - begin,
            life: row.life,
            size: u8::try_from(*size).unwrap_or(0),
            owner: position(&owners, &row.owner).and_then(|at| u32::try_from(at).ok()).unwrap_or(0),
            class: position(&classes, &row.class).and_then(|at| u16::try_from(at).ok()).unwrap_or(0),
            priority: row.priority,
            wait: row.wait.unwrap_or(fleet.wait),
        };
        let jobs = rows.iter().zip(&sized).map(job).collect();
        let asked: f64 = sized.iter().map(|(_, gb)| gb).sum();
        let given: f64 = sized.iter().map(|(size, _)| f64::from(setup.catalog.sizes[*size].gb)).sum();
        let rounded_percent = 100.0 * (given - asked) / asked.max(1e-9);
        let (name, notes) = (name.to_owned(), Vec::new());
        Ok(Self { name, notes, setup, jobs, classes, owners, counted_from: 0.0, until: 0.0, rounded_percent })
    }

    /// Adds what is assumed, one sentence each.
    #[must_use]
    pub fn noting<S: Into<String>>(mut self, notes: impl IntoIterator<Item = S>) -> Self {
        self.notes.extend(notes.into_iter().map(Into::into));
        self
    }

    /// Lets requests before `seconds` fill the fleet without being counted.
    #[must_use]
    pub fn counting_from(self, seconds: f64) -> Self {
        Self { counted_from: seconds, ..self }
    }

    /// Lets the run go on after the last arrival.
    #[must_use]
    pub fn going_on_until(self, seconds: f64) -> Self {
        Self { until: seconds, ..self }
    }

    /// Returns the GB of a job's slice.
    #[must_use]
    pub fn gb(&self, job: &Job) -> u32 {
        self.setup.catalog.sizes[usize::from(job.size)].gb
    }

    /// Returns the second at which the run ends.
    #[must_use]
    pub fn end(&self) -> f64 {
        self.jobs.last().map_or(0.0, |job| job.arrival).max(self.until)
    }

    /// Returns the demand against the capacity: GB times seconds that would be in use until the end, were
    /// everything served on arrival. `None` when a request stays for ever, or no time passes.
    #[must_use]
    pub fn load(&self) -> Option<f64> {
        if self.jobs.iter().any(|job| job.life.is_infinite()) {
            return None;
        }
        let within = |job: &Job| job.life.min(self.end() - job.arrival);
        let asked: f64 = self.jobs.iter().map(|job| f64::from(self.gb(job)) * within(job)).sum();
        let gb: f64 = self.setup.gpus.iter().map(|kind| self.kind_gb(*kind)).sum();
        Some(asked / (gb * self.end())).filter(|load| load.is_finite() && *load > 0.0)
    }

    fn kind_gb(&self, kind: u16) -> f64 {
        f64::from(self.setup.catalog.kinds[usize::from(kind)].gb())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_by_their_number_and_are_found_again() {
        let all = ["40 GB", "8 GB", "job", "10 GB", "8 GB", "desk", ""].map(str::to_owned);
        let names = names(all.iter());
        assert_eq!(names, ["", "desk", "job", "8 GB", "10 GB", "40 GB"]);
        assert!(names.iter().enumerate().all(|(at, name)| position(&names, name) == Some(at)));
        assert_eq!(position(&names, "9 GB"), None);
    }
}
