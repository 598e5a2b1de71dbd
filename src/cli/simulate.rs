//! `vgpuctl simulate …`: experiments on the placement policies; they need no service.

mod openb;

use clap::Subcommand;

use crate::cli::report::{Format, Report};
use crate::wire::Refusal;

/// Try placement policies on a workload, without touching the host
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Openb(openb::Openb),
    Train(openb::Train),
}

impl Command {
    pub(super) fn run(self, format: Format) -> Result<Report, Refusal> {
        match self {
            Self::Openb(command) => command.run(format),
            Self::Train(command) => command.run(format),
        }
    }
}
