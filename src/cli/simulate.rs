//! `vgpuctl simulate`: placement measured by experiments, without the service and without a GPU.

mod bench;
mod openb;
mod slots;

use clap::Subcommand;

use crate::cli::report::{Format, Report};
use crate::wire::Refusal;

/// Measure placement by experiments, without a GPU
///
/// Needs no service and touches nothing: fleets, workloads and random numbers come from the arguments.
/// The same command prints the same figures on every machine.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Openb(openb::Openb),
    Train(openb::Train),
    Slots(slots::Slots),
    Bench(bench::Bench),
}

impl Command {
    pub(super) fn run(self, format: Format) -> Result<Report, Refusal> {
        match self {
            Self::Openb(command) => command.run(format),
            Self::Train(command) => command.run(format),
            Self::Slots(command) => command.run(format),
            Self::Bench(command) => command.run(format),
        }
    }
}
