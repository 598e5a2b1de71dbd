//! Claims that are made for dividing GPUs, put to the test: named scenarios with stated assumptions.
//!
//! What is measured here is time: how fast work gets done when GPUs are divided in one way or another. So a GPU
//! is a flow of compute that is shared out at every moment, beside its memory; [`flow`] describes how. The
//! scenarios are models with assumptions and no measurements of hardware.

pub mod flow;
mod imaging;
mod risk_models;

use serde::Serialize;

use crate::simulate::slots::Spread;

/// The scenarios by name, each with what is claimed.
pub const SCENARIOS: &[(&str, &str)] = &[
    (
        "risk-models",
        "dynamic instead of static division of two GPUs: utilisation 65 -> 92 %, training time -35 %",
    ),
    ("imaging", "rendering and AI kept apart on two GPUs: throughput +40 %"),
];

/// One way of dividing in one case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The case, such as a load.
    pub case: String,
    /// How the GPUs are divided.
    pub division: &'static str,
    /// Percent of the GPUs' compute that does work.
    pub utilisation_percent: Spread,
    /// Percent of the GPUs' memory that is given to somebody, in the mean over time.
    pub memory_percent: Spread,
    /// Percent of the work that arrived that was done by the end.
    pub done_percent: Spread,
    /// Hours from arrival to the end, in the mean.
    pub turnaround_h: Spread,
    /// 95 of 100 take no longer, in hours.
    pub turnaround_p95_h: Spread,
    /// Hours in the line, in the mean.
    pub waiting_h: Spread,
}

/// What came of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Findings {
    /// Its name.
    pub scenario: &'static str,
    /// What is claimed.
    pub claim: &'static str,
    /// Runs of each case.
    pub runs: u64,
    /// What is assumed, one sentence each.
    pub assumptions: Vec<String>,
    /// By case and division.
    pub rows: Vec<Row>,
    /// What that says of the claim, one sentence each.
    pub findings: Vec<String>,
}

/// Works a scenario out with `runs` seeds from `seed` on; `None` when there is none of this name. `told` hears what
/// is being worked out.
pub fn scenario(name: &str, (seed, runs): (u64, u64), told: &mut dyn FnMut(&str)) -> Option<Findings> {
    let seeds = seed..seed.saturating_add(runs.max(1));
    match name {
        "risk-models" => Some(risk_models::findings(seeds, told)),
        "imaging" => Some(imaging::findings(seeds, told)),
        _ => None,
    }
}

fn claim(name: &str) -> &'static str {
    SCENARIOS.iter().find(|(known, _)| *known == name).map_or("", |(_, claim)| claim)
}

/// Puts the runs of one case and division together.
fn row(case: &str, division: &'static str, runs: &[flow::Done]) -> Row {
    let spread = |value: fn(&flow::Done) -> f64| Spread::of(&runs.iter().map(value).collect::<Vec<_>>());
    Row {
        case: case.to_owned(),
        division,
        utilisation_percent: spread(|done| done.utilisation_percent),
        memory_percent: spread(|done| done.memory_percent),
        done_percent: spread(|done| done.done_percent),
        turnaround_h: spread(|done| done.turnaround_s / 3600.0),
        turnaround_p95_h: spread(|done| done.turnaround_p95_s / 3600.0),
        waiting_h: spread(|done| done.waiting_s / 3600.0),
    }
}

/// Returns by how many percent `to` is above `from`, with its sign.
fn change(from: f64, to: f64) -> String {
    // A change that rounds to nothing has no sign of a loss.
    let percent = (100.0 * (to - from) / from.max(1e-9)).round() + 0.0;
    format!("{percent:+.0} %")
}

#[cfg(test)]
mod tests;
