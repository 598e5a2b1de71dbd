//! `vgpuctl simulate bench`: how quick and how small the engine is on this machine.

use clap::Args;
use serde::Serialize;

use crate::cli::report::{Format, Report};
use crate::cli::table::Table;
use crate::fleet::shares::Policy;
use crate::simulate::scale::{FLEETS, Pace, Storm, clock_ns, growth, nodes, slots, storm};
use crate::simulate::slots::Mix;
use crate::wire::{Kind, Refusal};

/// Policies of the aligned slots that are measured.
const SLOTS: [&str; 3] = ["first-fit", "fgd", "vgpud"];
/// Policies of the shares that are measured.
const SHARES: [Policy; 3] = [Policy::FirstFit, Policy::FgdExact, Policy::Formula];

/// Measure the engine itself: time of a decision and memory, with 2 to 1,000,000 GPUs
///
/// Fleets are half full, and slices come and go. Reading the clock is in every figure; what that takes is
/// printed. Other programs on the machine make the figures worse, above all the longest.
#[derive(Debug, Args)]
pub(in crate::cli) struct Bench {
    /// Numbers of GPUs
    #[arg(long, value_name = "N[,N…]", value_delimiter = ',', default_values_t = FLEETS)]
    gpus: Vec<usize>,
    /// Decisions on the clock for each fleet
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    decisions: usize,
    /// The board of the aligned slots
    #[arg(long, default_value = "h100-80")]
    board: String,
    /// What is asked for there: a name or SIZE:WEIGHT,...
    #[arg(long, default_value = "d4")]
    mix: String,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Answer {
    /// What reading the clock takes.
    clock_ns: u64,
    fleets: Vec<Pace>,
    growth: Vec<Growth>,
    storms: Vec<Storm>,
}

/// How the median grows with the number of GPUs.
#[derive(Debug, Serialize)]
struct Growth {
    engine: &'static str,
    policy: String,
    /// 0: not at all; 1: in proportion.
    exponent: f64,
}

impl Bench {
    pub(in crate::cli) fn run(self, format: Format) -> Result<Report, Refusal> {
        let usage = |error: &dyn std::error::Error| Refusal::from_error(Kind::Usage, error);
        if let Some(gpus) = self.gpus.iter().find(|gpus| !(1..=4_000_000).contains(*gpus)) {
            return Err(Refusal::new(Kind::Usage, format!("--gpus {gpus}: 1 to 4000000 can be measured")));
        }
        let mix: Mix = self.mix.parse().map_err(|error| usage(&error))?;
        let decisions = self.decisions.clamp(1, 10_000_000);
        let mut answer =
            Answer { clock_ns: clock_ns(), fleets: Vec::new(), growth: Vec::new(), storms: Vec::new() };
        for name in SLOTS {
            let of = |gpus: &usize| slots((&self.board, &mix), name, *gpus, decisions);
            let paces: Result<Vec<_>, _> = self.gpus.iter().map(of).collect();
            answer.add(paces.map_err(|error| usage(&error))?.into_iter().flatten().collect());
        }
        for policy in SHARES {
            answer.add(self.gpus.iter().map(|gpus| nodes(policy, *gpus, decisions)).collect());
        }
        for name in SLOTS {
            let found = storm(name).map_err(|error| Refusal::from_error(Kind::Internal, &error))?;
            answer.storms.extend(found);
        }
        Report::new(format, &answer, render)
    }
}

impl Answer {
    fn add(&mut self, paces: Vec<Pace>) {
        if let (Some(first), Some(exponent)) = (paces.first(), growth(&paces)) {
            let (engine, policy) = (first.engine, first.policy.clone());
            self.growth.push(Growth { engine, policy, exponent: (1000.0 * exponent).round() / 1000.0 });
        }
        self.fleets.extend(paces);
    }
}

fn render(answer: &Answer) -> String {
    let header =
        ["ENGINE", "POLICY", ">GPUS", ">HELD", ">NS P50", ">P99", ">MAX", ">BACK P50", ">PER SECOND"];
    let mut table = Table::new(0, &[&header[..], &[">B/GPU", ">B/HELD", ">TABLE KIB"]].concat());
    for pace in &answer.fleets {
        table.row([
            pace.engine.to_owned(),
            pace.policy.clone(),
            pace.gpus.to_string(),
            pace.held.to_string(),
            pace.ns.p50.to_string(),
            pace.ns.p99.to_string(),
            pace.ns.max.to_string(),
            pace.release_ns.p50.to_string(),
            format!("{:.0}", pace.per_second),
            format!("{:.1}", pace.bytes_per_gpu),
            format!("{:.1}", pace.bytes_per_held),
            (pace.table_bytes / 1024).to_string(),
        ]);
    }
    let mut text =
        format!("reading the clock: {} ns, in every figure\n\n{}", answer.clock_ns, table.render());
    for growth in &answer.growth {
        let Growth { engine, policy, exponent } = growth;
        text.push_str(&format!("{engine}, {policy}: the median grows with the GPUs to the {exponent:.2}\n"));
    }
    for storm in &answer.storms {
        text.push_str(&format!(
            "boot storm, {}: {} desktops on {} GPUs in {:.1} ms, p50 {} ns, p99 {} ns, {} refused\n",
            storm.policy, storm.desktops, storm.gpus, storm.ms, storm.ns.p50, storm.ns.p99, storm.refused
        ));
    }
    text
}
