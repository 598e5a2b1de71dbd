//! `vgpuctl simulate`: placement measured by experiments, without a GPU and, but for `history`, without the service.

mod bench;
mod contest;
mod history;
mod input;
mod openb;
mod plots;
mod progress;
mod scenario;
mod slots;
mod trace;
mod workload;

use clap::Subcommand;

use crate::cli::report::{Format, Report};
use crate::client::Client;
use crate::wire::Refusal;

/// Measure placement by experiments, without a GPU
///
/// Needs no service and touches nothing: fleets, workloads and random numbers come from the arguments; only
/// `history` asks the service, unless it reads a file. The same command prints the same figures on every machine,
/// but for the times that decisions took.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Openb(openb::Openb),
    Train(openb::Train),
    Slots(slots::Slots),
    Bench(bench::Bench),
    Trace(trace::Trace),
    History(history::History),
    Workload(workload::Named),
    Scenario(scenario::Claim),
}

impl Command {
    pub(super) fn run(self, client: &Client, format: Format) -> Result<Report, Refusal> {
        match self {
            Self::Openb(command) => command.run(format),
            Self::Train(command) => command.run(format),
            Self::Slots(command) => command.run(format),
            Self::Bench(command) => command.run(format),
            Self::Trace(command) => command.run(format),
            Self::History(command) => command.run(client, format),
            Self::Workload(command) => command.run(format),
            Self::Scenario(command) => command.run(format),
        }
    }
}
