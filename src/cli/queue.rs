//! `vgpuctl queue`: starts that wait for room.

use clap::{Args, Subcommand};

use crate::cli::report::{Format, Report};
use crate::cli::table::Table;
use crate::cli::{device, span};
use crate::client::{Client, ClientError};
use crate::clock;
use crate::wire::{CancelWait, Changed, Queue as Answer, Refusal, WaitingStart};

/// Show the starts that wait for room
///
/// Those of `vgpuctl start --wait`, the first in line first: by priority, which grows by one for every ten
/// seconds of waiting. One that has waited for a minute holds the line: nobody behind it may take a GPU that
/// could serve it.
#[derive(Debug, Args)]
pub(super) struct Queue {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// End the waiting of a domain's start
    Cancel {
        /// The domain's name or UUID
        domain: String,
    },
}

impl Queue {
    pub(super) fn run(self, client: &Client, format: Format) -> Result<Report, Refusal> {
        match self.command {
            None => {
                let answer: Answer = client.get("/v1/queue").map_err(ClientError::into_refusal)?;
                Report::new(format, &answer, |answer| match answer.waiting.as_slice() {
                    [] => "no start waits\n".to_owned(),
                    waiting => table(0, waiting),
                })
            }
            Some(Command::Cancel { domain }) => {
                let request = CancelWait { domain };
                let changed: Changed =
                    client.post("/v1/queue/cancel", &request).map_err(ClientError::into_refusal)?;
                Report::new(format, &changed, |changed| device::sentences(changed, "cancelled"))
            }
        }
    }
}

/// Writes the line, one start a row.
pub(super) fn table(indent: usize, waiting: &[WaitingStart]) -> String {
    let now = clock::epoch_seconds();
    let mut table = Table::new(
        indent,
        &[">#", "DOMAIN", ">PRIORITY", ">WITH WAITING", ">WAITED", "ENDS", "HOLDS", "WHY"],
    );
    for (at, one) in waiting.iter().enumerate() {
        table.row([
            (at + 1).to_string(),
            one.domain.clone(),
            one.priority.to_string(),
            one.aged.to_string(),
            format!("{}s", one.waited_s),
            span::until(one.until, now),
            if one.holds { "yes" } else { "no" }.to_owned(),
            one.why.clone(),
        ]);
    }
    table.render()
}
