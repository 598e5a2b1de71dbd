//! `vgpuctl simulate trace`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::report::{Format, Report};
use crate::cli::simulate::contest::{Contest, profile_gb, unfit};
use crate::cli::simulate::input;
use crate::simulate::replay::{Trace as Requests, Workload};
use crate::wire::{Kind, Refusal};

/// Replay a trace of requests against policies
///
/// The file is CSV, plain or gzipped, with a header and one request a line. Columns: arrival, and size (GB, or with
/// GiB or MiB) or profile; if known departure, owner, class, priority, wait. Times are seconds, or such as
/// 2026-01-31T08:00:00Z. A request without a departure stays. `wait` says for how many seconds a request waits for
/// room, or ever; one without is refused at once unless --wait says otherwise.
///
///   vgpuctl simulate trace --file requests.csv --board l40s-48 --gpus 2
///   vgpuctl simulate trace --file requests.csv.gz --policy first-fit/fifo,vgpud/service --report out.html
#[derive(Debug, Args)]
pub(in crate::cli) struct Trace {
    /// The requests
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// How many GB a profile has that the boards do not know; may be given several times
    #[arg(long, value_name = "NAME=GB", value_parser = profile_gb)]
    profile: Vec<(String, f64)>,
    /// Seconds that requests wait which do not say so themselves
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    wait: f64,
    #[command(flatten)]
    contest: Contest,
}

/// What competes unless it is said.
pub(super) const POLICIES: &str = "random,spread,first-fit,pack,best-fit,fgd,same-size,vgpud";

impl Trace {
    pub(super) fn run(self, format: Format) -> Result<Report, Refusal> {
        let text = input::text(&self.file)?;
        let trace = Requests::parse(&text).map_err(|error| {
            Refusal::new(Kind::Usage, format!("{}: {error}", self.file.display()))
                .hint("`vgpuctl simulate trace --help` describes the columns")
        })?;
        let fleet = self.contest.fleet(("h100-80", 2), (&self.profile, self.wait.max(0.0)));
        let name = self.file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let work =
            Workload::new(&name, trace.rows, &fleet).map_err(|error| unfit(&error, Some(&self.file)))?;
        self.contest.run(&[work], POLICIES, format)
    }
}
