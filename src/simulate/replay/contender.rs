//! A policy with the line that it lets requests wait in.

use std::str::FromStr;

use thiserror::Error;

use crate::fleet::slots::{Demand, ModePlan, POLICIES, Pair, Policy};
use crate::simulate::replay::line::{Discipline, LINES};
use crate::simulate::replay::workload::Workload;
use crate::simulate::slots::{Setup, tune};

/// The name of all GB in one piece, without slots and without borders between GPUs: no policy, a measure.
const POOL: &str = "one-pool";

/// What competes: `POLICY` or `POLICY/LINE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contender {
    /// As it was named.
    pub name: String,
    /// None for one pool.
    policy: Option<Policy>,
    discipline: Option<Discipline>,
}

/// A name of none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ContenderError {
    /// No such policy.
    #[error("no policy for slots is called {0:?}")]
    Policy(String),
    /// No such line.
    #[error("no line is called {0:?}")]
    Line(String),
}

/// A contender made ready for a workload.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub(super) setup: Setup,
    pub(super) policy: Option<Policy>,
    pub(super) table: Option<Pair>,
    pub(super) moves: usize,
    pub(super) discipline: Discipline,
}

impl FromStr for Contender {
    type Err = ContenderError;

    fn from_str(name: &str) -> Result<Self, ContenderError> {
        let (policy, line) = name.split_once('/').map_or((name, None), |(policy, line)| (policy, Some(line)));
        let discipline = match line {
            Some(line) => Some(Discipline::named(line).ok_or_else(|| ContenderError::Line(line.to_owned()))?),
            None => None,
        };
        let found = Policy::named(policy, 0);
        if found.is_none() && policy != POOL {
            return Err(ContenderError::Policy(policy.to_owned()));
        }
        Ok(Self { name: name.to_owned(), policy: found, discipline })
    }
}

impl ContenderError {
    /// Returns what there is.
    #[must_use]
    pub fn hint(&self) -> String {
        let list = |names: &mut dyn Iterator<Item = &'static str>| names.collect::<Vec<_>>().join(", ");
        match self {
            Self::Policy(_) => {
                format!("policies: {}", list(&mut POLICIES.iter().map(|(name, _)| *name).chain([POOL])))
            }
            Self::Line(_) => format!("lines: {}", list(&mut LINES.iter().map(|(name, _, _)| *name))),
        }
    }
}

impl Contender {
    /// Creates the measure of one pool, in which requests wait as in `line`.
    #[must_use]
    pub fn pool(line: Discipline) -> Self {
        Self { name: POOL.to_owned(), policy: None, discipline: Some(line) }
    }

    /// Returns the line it names, or else `line`.
    #[must_use]
    pub fn line_or(&self, line: Discipline) -> Discipline {
        self.discipline.unwrap_or(line)
    }

    fn is_ours(&self) -> bool {
        self.name == "vgpud" || self.name.starts_with("vgpud/")
    }

    /// Makes it ready: `line` is the line of a contender that names none, `moves` the most slices moved for a
    /// request that would not fit.
    ///
    /// `vgpud` takes the exact table on two GPUs where nobody waits, all slices end, and the table can be
    /// worked out. On a fleet that fills up before it empties it tries out which GPUs should hold one size.
    #[must_use]
    pub fn prepare(&self, work: &Workload, line: Discipline, moves: usize, seed: u64) -> Prepared {
        let discipline = self.line_or(line);
        let setup = work.setup.clone();
        let mut policy = self.policy.clone().map(|policy| Policy { seed, ..policy });
        let mut table = None;
        let filling = work.jobs.iter().map(|job| job.arrival).fold(0.0, f64::max);
        let stay = work.jobs.iter().filter(|job| job.arrival + job.life > filling).count();
        let two = setup.gpus.len() == 2 && discipline == Discipline::Lost;
        match (&mut policy, work.load()) {
            (Some(_), Some(load)) if self.is_ours() && two => {
                let demand = Demand { load, moves, charge: 0.5, tolerance: 1e-4 };
                table = Pair::new(&setup.catalog, demand);
            }
            (Some(policy), _) if self.is_ours() && stay * 2 > work.jobs.len() => {
                let runs = if setup.gpus.len() > 32 { 20 } else { 200 };
                policy.modes = ModePlan::PerGpu(tune(&setup, runs));
            }
            _ => {}
        }
        Prepared { setup, policy, table, moves, discipline }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contender_is_a_policy_and_perhaps_a_line() {
        let named = |name: &str| name.parse::<Contender>();
        assert_eq!(named("first-fit/fifo").expect("known").discipline, Some(Discipline::Fifo));
        assert_eq!(named("vgpud").expect("known").discipline, None);
        assert!(named("one-pool").expect("known").policy.is_none());
        for (_, line, _) in LINES {
            assert_eq!(Discipline::named(line.name()), Some(*line));
        }
        let fault = named("first-best").expect_err("unknown");
        assert!(fault.hint().contains("first-fit") && fault.to_string().contains("first-best"));
        assert!(named("fgd/lifo").expect_err("unknown").hint().contains("backfill"));
    }
}
