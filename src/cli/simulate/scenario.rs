//! `vgpuctl simulate scenario`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::report::{Format, Report};
use crate::cli::simulate::plots;
use crate::cli::simulate::progress::Progress;
use crate::cli::table::Table;
use crate::simulate::scenarios::{Findings, SCENARIOS, scenario};
use crate::wire::{Kind, Refusal};

/// Put a claim about dividing GPUs to the test
///
/// risk-models: dynamic instead of static division of two GPUs, claimed to raise utilisation from 65 to 92 % and to
/// shorten training by 35 %. imaging: rendering and AI kept apart, claimed to raise throughput by 40 %. What is
/// assumed is printed with what comes out: these are models, not measurements of hardware.
#[derive(Debug, Args)]
pub(in crate::cli) struct Claim {
    /// risk-models or imaging
    #[arg(value_name = "SCENARIO")]
    name: String,
    /// How many runs of each case, each with the next seed
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    seeds: u64,
    /// The first seed
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Write a page with plots for a browser to this file; one that is there is replaced
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

impl Claim {
    pub(super) fn run(self, format: Format) -> Result<Report, Refusal> {
        let progress = Progress::new();
        let told = &mut |what: &str| progress.say(|| format!("{}: {what}", self.name));
        let found = scenario(&self.name, (self.seed, self.seeds), told);
        let found = found.ok_or_else(|| {
            let names: Vec<&str> = SCENARIOS.iter().map(|(name, _)| *name).collect();
            Refusal::new(Kind::Usage, format!("no scenario is called {:?}", self.name))
                .hint(format!("scenarios: {}", names.join(", ")))
        })?;
        drop(progress);
        if let Some(path) = &self.report {
            plots::scenario(&found).write(path)?;
        }
        Report::new(format, &found, render)
    }
}

fn render(found: &Findings) -> String {
    let mut text = format!("{}: {}\n", found.scenario, found.claim);
    found.assumptions.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
    let header = [
        "CASE",
        "DIVISION",
        ">UTILISATION %",
        ">+-",
        ">MEMORY %",
        ">DONE %",
        ">TURNAROUND H",
        ">P95 H",
        ">WAIT H",
    ];
    let mut table = Table::new(0, &header);
    for row in &found.rows {
        table.row([
            row.case.clone(),
            row.division.to_owned(),
            format!("{:.1}", row.utilisation_percent.mean),
            format!("{:.1}", row.utilisation_percent.deviation),
            format!("{:.1}", row.memory_percent.mean),
            format!("{:.1}", row.done_percent.mean),
            format!("{:.2}", row.turnaround_h.mean),
            format!("{:.2}", row.turnaround_p95_h.mean),
            format!("{:.2}", row.waiting_h.mean),
        ]);
    }
    text.push('\n');
    text.push_str(&table.render());
    text.push('\n');
    found.findings.iter().for_each(|line| text.push_str(&format!("{line}\n")));
    text
}
