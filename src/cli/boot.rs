//! `vgpuctl boot-report`: what was brought back since the host booted.

use jiff::Timestamp;

use crate::cli::report::{Format, Report};
use crate::cli::table::{self, Table};
use crate::client::{Client, ClientError};
use crate::wire::{BootReport, BootStep, Refusal, Restored};

pub(super) fn run(client: &Client, format: Format) -> Result<Report, Refusal> {
    let report: BootReport = client.get("/v1/boot-report").map_err(ClientError::into_refusal)?;
    Report::new(format, &report, render)
}

fn render(report: &BootReport) -> String {
    let began = Timestamp::from_second(report.began_at)
        .map_or_else(|_| report.began_at.to_string(), |time| time.to_string());
    let mut text = table::facts(&[
        ("boot", report.boot_id.to_string()),
        ("vgpud began", began),
        ("ready after", report.ready_ms.map_or_else(|| "not ready yet".to_owned(), span)),
    ]);
    if !report.gave_up.is_empty() {
        text.push_str("\nlibvirt was started without:\n");
    }
    for missing in &report.gave_up {
        text.push_str(&format!("  {}\n", table::printable(missing)));
    }
    text.push('\n');
    text.push_str(&match report.steps.is_empty() {
        true => "nothing to bring back\n".to_owned(),
        false => steps(0, &report.steps),
    });
    text
}

/// A line for each step.
pub(super) fn steps(indent: usize, steps: &[BootStep]) -> String {
    let mut table = Table::new(indent, &["STEP", "WHERE", "WANTED", "FOUND", ">TOOK", "STATE"]);
    for step in steps {
        table.row([
            kind(&step.what).to_owned(),
            step.place.clone(),
            step.wanted.clone(),
            step.found.clone(),
            span(step.took_ms),
            step.progress.to_string(),
        ]);
    }
    table.render()
}

const fn kind(what: &Restored) -> &'static str {
    match what {
        Restored::Mig { .. } => "mig",
        Restored::Instances { .. } => "instances",
        Restored::Vfs { .. } => "vfs",
        Restored::Binding { .. } => "binding",
        Restored::Mode { .. } => "mode",
        Restored::Scheduler { .. } => "scheduler",
        Restored::Quantum { .. } => "quantum",
        Restored::Slice { .. } => "slice",
        Restored::Start { .. } => "start",
    }
}

/// Writes `0.4 s`, or `3m 20s` from a minute on.
fn span(ms: u64) -> String {
    match ms {
        0..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{}m {}s", ms / 60_000, ms / 1000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short_to_read() {
        assert_eq!(span(0), "0.0 s");
        assert_eq!(span(1_449), "1.4 s");
        assert_eq!(span(200_000), "3m 20s");
    }
}
