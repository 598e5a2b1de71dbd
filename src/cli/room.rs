//! `vgpuctl make-room` and `vgpuctl defrag`: which domains to restart, and on wish restarting them.

use std::time::Duration;

use clap::Args;

use crate::cli::report::{Format, Report};
use crate::cli::table::Table;
use crate::client::{Client, ClientError};
use crate::model::ProfileName;
use crate::wire::{Change, MakeRoom, Refusal, RoomAct, RoomMade, RoomStep};

/// Plan which domains to restart elsewhere so that one more slice of a profile fits
///
/// The fewest running domains are found whose restart on another GPU makes room. Nothing is done unless --apply
/// is said. Domains with guaranteed slices or VFs are left alone. What a GPU can give when slices go is
/// estimated, so the plan is walked one verified step at a time, and ends at the first that comes out otherwise.
#[derive(Debug, Args)]
pub(super) struct Room {
    /// The profile
    profile: ProfileName,
    #[command(flatten)]
    walk: Walk,
}

/// Plan restarts that make the free framebuffer more useful
///
/// Restarts of running domains on other GPUs are found that lower the fragmentation that `vgpuctl capacity`
/// shows, at each step the one that helps most. Nothing is done unless --apply is said.
#[derive(Debug, Args)]
pub(super) struct Defrag {
    /// Only say what would be done; so it is without --apply too
    #[arg(long, conflicts_with = "apply")]
    plan: bool,
    #[command(flatten)]
    walk: Walk,
}

#[derive(Debug, Args)]
struct Walk {
    /// Walk the plan: shut each domain down, and start it where the plan puts it
    #[arg(long)]
    apply: bool,
    /// Save each guest's memory and resume it, instead of shutting it down; one that cannot be saved runs on
    #[arg(long, requires = "apply")]
    save: bool,
}

/// A plan may shut several guests down, one after the other.
const ANSWER: Duration = Duration::from_secs(3600);

impl Room {
    pub(super) fn run(self, client: &Client, format: Format) -> Result<Report, Refusal> {
        let Walk { apply, save } = self.walk;
        ask(client, &MakeRoom { profile: Some(self.profile), apply, save }, format)
    }
}

impl Defrag {
    pub(super) fn run(self, client: &Client, format: Format) -> Result<Report, Refusal> {
        let Walk { apply, save } = self.walk;
        ask(client, &MakeRoom { profile: None, apply: apply && !self.plan, save }, format)
    }
}

fn ask(client: &Client, request: &MakeRoom, format: Format) -> Result<Report, Refusal> {
    let client = client.clone().deadline(ANSWER);
    let answer: RoomMade = client.post("/v1/room", request).map_err(ClientError::into_refusal)?;
    Ok(Report::new(format, &answer, render)?.notes(format, &answer.notes))
}

fn render(answer: &RoomMade) -> String {
    let mut table = Table::new(0, &[">STEP", "DOMAIN", "WHAT", "FROM", "TO"]);
    for (at, RoomStep { domain, what, from, to }) in answer.steps.iter().enumerate() {
        let names = |parents: &[crate::model::DeviceName]| {
            parents.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let what = match what {
            RoomAct::Restart => "restart",
            RoomAct::Stop => "stop",
        };
        table.row([(at + 1).to_string(), domain.clone(), what.to_owned(), names(from), names(to)]);
    }
    let mut text = table.render();
    if let Some(parent) = answer.to.first() {
        text.push_str(&format!(
            "a slice {} {parent}\n",
            if answer.change == Change::Unchanged { "fits on" } else { "fits then on" }
        ));
    }
    if let Some((before, after)) = answer.fragmented_mib {
        text.push_str(&format!(
            "of no use to the mix of requests: {before} MiB, after the plan {after} MiB\n"
        ));
    }
    text.push_str(match answer.change {
        Change::Done => "done\n",
        Change::Planned => "nothing was changed: this is the plan; --apply walks it\n",
        Change::Unchanged => "nothing to change\n",
    });
    text
}
