//! `vgpuctl start`: a domain on whatever VF can be served, at once.

use std::time::Duration;

use clap::Args;

use crate::cli::report::{Format, Report};
use crate::cli::table::printable;
use crate::cli::{allocation, span};
use crate::client::{Client, ClientError};
use crate::wire::{Change, Refusal, Start as Request, Started};

/// Start a domain, pointing it at a free VF first where needed
///
/// As `virsh start`, but when a VF that the domain's definition names cannot be had, the definition is
/// pointed at one that can before. Where its slices are is printed. For domains with mdevs it is the same as
/// virsh start: their place is chosen at the start anyway.
#[derive(Debug, Args)]
pub(super) struct Start {
    /// The domain's name or UUID
    domain: String,
    /// Say what would happen, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Wait for room when nothing has any: in line by priority, see `vgpuctl queue`
    ///
    /// Interrupting the command ends the waiting.
    #[arg(long)]
    wait: bool,
    /// How long to wait at most, such as 90s, 10m or 1h
    #[arg(long, value_name = "TIME", value_parser = span::seconds, default_value = "10m", requires = "wait")]
    timeout: u32,
    /// Stop running domains for it when nothing has room: the fewest whose profiles are preemptible and of
    /// lesser priority; say --dry-run first to see which
    #[arg(long, conflicts_with = "wait")]
    preempt: bool,
    /// With --preempt: save those that can be saved, and shut down only the others
    #[arg(long, requires = "preempt")]
    save: bool,
}

/// libvirt pins all of a guest's memory while it starts one with VFIO devices; longer than the service waits.
const ANSWER: Duration = Duration::from_secs(330);

/// Others may have to shut down first.
const PREEMPTING: Duration = Duration::from_secs(1800);

impl Start {
    pub(super) fn run(self, client: &Client, format: Format) -> Result<Report, Refusal> {
        let wait_s = self.wait.then_some(self.timeout);
        let request = Request {
            domain: self.domain,
            dry_run: self.dry_run,
            wait_s,
            preempt: self.preempt,
            save: self.save,
        };
        let waiting = Duration::from_secs(wait_s.unwrap_or_default().into());
        let client = client.clone().deadline(if self.preempt { PREEMPTING } else { ANSWER + waiting });
        let answer: Started = client.post("/v1/start", &request).map_err(ClientError::into_refusal)?;
        Ok(Report::new(format, &answer, render)?.notes(format, &answer.notes))
    }
}

fn render(answer: &Started) -> String {
    let planned = answer.change == Change::Planned;
    let verb = if planned { "would name" } else { "now names" };
    let mut text = String::new();
    for one in &answer.repointed {
        text.push_str(&format!(
            "domain {} {verb} VF {} instead of {}, which {}\n",
            printable(&answer.domain),
            one.to,
            one.from,
            printable(&one.why)
        ));
    }
    if planned {
        return text
            + &format!(
                "domain {} would be started\nnothing was changed: dry run\n",
                printable(&answer.domain)
            );
    }
    text.push_str(&allocation::places(&answer.allocations));
    text.push_str(match answer.change {
        Change::Done => "started\n",
        Change::Unchanged | Change::Planned => "nothing to change\n",
    });
    text
}
