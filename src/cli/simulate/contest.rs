//! Policies against each other on requests with times: what all such commands take and print.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::cli::report::{Format, Report};
use crate::cli::simulate::plots;
use crate::cli::simulate::progress::Progress;
use crate::cli::table::Table;
use crate::fleet::geometry::{BOARDS, MIG_BOARDS};
use crate::simulate::replay::{
    Contender, Discipline, Fleet, LINES, Outcome, Record, Rounding, Run, SizeError, Summary, Workload,
    WorkloadError, replay,
};
use crate::wire::{Kind, Refusal};

/// What is done with a request between two sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Round {
    /// The least size that holds it
    Up,
    /// The nearest size: a guest may get less than it asked for
    Nearest,
}

/// What every contest takes.
#[derive(Debug, Args)]
pub(super) struct Contest {
    /// The board, or several that are taken in turn
    #[arg(long, value_name = "BOARD", value_delimiter = ',')]
    board: Vec<String>,
    /// How many GPUs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    gpus: Option<u32>,
    /// The policies; POLICY/LINE says in which line requests wait
    #[arg(long, value_name = "POLICY[/LINE]", value_delimiter = ',')]
    policy: Vec<String>,
    /// The line of policies that name none: lost, fifo, backfill, service, smallest
    ///
    /// lost: nobody waits; fifo: nobody passes the one that came first; backfill: the first of those that fit;
    /// service: as `vgpuctl start --wait`; smallest: the least GB of those that fit. Without it, `service` where a
    /// request may wait, else `lost`.
    #[arg(long, value_name = "LINE")]
    line: Option<String>,
    /// At most so many slices moved for a request that would not fit
    #[arg(long, value_name = "K", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    moves: u8,
    /// What is done with a request between two sizes of the board
    #[arg(long, value_enum, default_value_t = Round::Up)]
    round: Round,
    /// The first seed
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// Write a page with plots for a browser to this file; one that is there is replaced
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

/// What a contest prints.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    #[serde(flatten)]
    pub(super) summary: Summary,
    pub(super) policies: Vec<Outcome>,
    /// All GB in one piece, requests waiting as with the first policy.
    pub(super) one_pool: Outcome,
}

/// What is kept for the page: the first run of each policy.
pub(super) struct Shown {
    pub(super) runs: Vec<(String, Run)>,
    pub(super) classes: Vec<String>,
}

impl Contest {
    /// Returns the seed.
    pub(super) fn seed(&self, otherwise: u64) -> u64 {
        self.seed.unwrap_or(otherwise)
    }

    /// Returns whether boards or their number were named.
    pub(super) fn names_board(&self) -> bool {
        !self.board.is_empty()
    }

    pub(super) fn fleet(
        &self,
        (board, gpus): (&str, usize),
        (profiles, wait): (&[(String, f64)], f64),
    ) -> Fleet {
        let boards = if self.board.is_empty() { vec![board.to_owned()] } else { self.board.clone() };
        let rounding = match self.round {
            Round::Up => Rounding::Up,
            Round::Nearest => Rounding::Nearest,
        };
        let gpus = self.gpus.and_then(|gpus| usize::try_from(gpus).ok()).unwrap_or(gpus);
        Fleet { boards, gpus, rounding, profiles: profiles.iter().cloned().collect::<BTreeMap<_, _>>(), wait }
    }

    /// Runs all policies on the workloads, one for each seed, and prints what came out. `policies` compete when none
    /// is named.
    pub(super) fn run(self, works: &[Workload], policies: &str, format: Format) -> Result<Report, Refusal> {
        let summary = Summary::of(works);
        let summary = summary.ok_or_else(|| Refusal::new(Kind::Usage, "there is no run to make"))?;
        let line = self.line(works)?;
        let named: Vec<String> = if self.policy.is_empty() {
            policies.split(',').map(str::to_owned).collect()
        } else {
            self.policy.clone()
        };
        let contenders = named.iter().map(|name| contender(name)).collect::<Result<Vec<_>, _>>()?;
        let progress = Progress::new();
        let mut shown = Shown { runs: Vec::new(), classes: works[0].classes.clone() };
        let mut outcomes = Vec::new();
        for contender in &contenders {
            let (outcome, first) = self.compete(contender, works, line, &progress);
            outcomes.push(outcome);
            shown.runs.extend(first.map(|run| (contender.name.clone(), run)));
        }
        let pool = Contender::pool(contenders.first().map_or(line, |contender| contender.line_or(line)));
        let one_pool = self.compete(&pool, works, line, &progress).0;
        drop(progress);
        let answer = Answer { summary, policies: outcomes, one_pool };
        if let Some(path) = &self.report {
            plots::contest(&answer, &shown).write(path)?;
        }
        Report::new(format, &answer, render)
    }

    fn line(&self, works: &[Workload]) -> Result<Discipline, Refusal> {
        let may_wait = works.iter().flat_map(|work| &work.jobs).any(|job| job.wait > 0.0);
        let Some(name) = &self.line else {
            return Ok(if may_wait { Discipline::Service } else { Discipline::Lost });
        };
        Discipline::named(name).ok_or_else(|| {
            let names: Vec<&str> = LINES.iter().map(|(name, _, _)| *name).collect();
            Refusal::new(Kind::Usage, format!("no line is called {name:?}"))
                .hint(format!("lines: {}", names.join(", ")))
        })
    }

    /// Runs one contender on all workloads; the first run is kept for the page when there is to be one.
    fn compete(
        &self,
        contender: &Contender,
        works: &[Workload],
        line: Discipline,
        progress: &Progress,
    ) -> (Outcome, Option<Run>) {
        let seeds = self.seed(1)..;
        let mut runs = Vec::new();
        for ((number, work), seed) in works.iter().enumerate().zip(seeds) {
            progress.say(|| format!("{}: run {} of {}", contender.name, number + 1, works.len()));
            let prepared = contender.prepare(work, line, usize::from(self.moves), seed);
            let wanted = self.report.is_some() && number == 0;
            let record = Record { course: wanted, map: wanted };
            let told = &mut |done: usize| {
                let all = work.jobs.len();
                progress.say(|| {
                    let run = format!("{}: run {} of {}", contender.name, number + 1, works.len());
                    format!("{run}, request {done} of {all}")
                });
            };
            runs.push(replay(work, &prepared, record, told));
        }
        let line = contender.line_or(line).name();
        let outcome = Outcome::of(&contender.name, line, &works[0].classes, &runs);
        (outcome, runs.into_iter().next().filter(|run| run.course.is_some()))
    }
}

fn contender(name: &str) -> Result<Contender, Refusal> {
    name.parse::<Contender>().map_err(|error| {
        let hint = error.hint();
        Refusal::from_error(Kind::Usage, &error).hint(hint)
    })
}

/// Says why requests and fleet do not fit together; `file` is where the requests are from.
pub(super) fn unfit(error: &WorkloadError, file: Option<&std::path::Path>) -> Refusal {
    let place = file.map_or_else(String::new, |file| format!("{}: ", file.display()));
    let refusal = Refusal::new(Kind::Usage, format!("{place}{error}"));
    match error {
        WorkloadError::Size { source: SizeError::Board(_), .. } => {
            let names =
                BOARDS.iter().map(|board| board.name).chain(MIG_BOARDS.iter().map(|board| board.name));
            refusal.hint(format!("boards: {}", names.collect::<Vec<_>>().join(", ")))
        }
        WorkloadError::Size { source: SizeError::Profile(name), .. } => {
            refusal.hint(format!("say how large it is: --profile {name}=GB"))
        }
        WorkloadError::Size { source: SizeError::Large { .. }, .. } => {
            refusal.hint("name a larger board by --board, or take these requests out")
        }
        _ => refusal,
    }
}

/// Reads `NAME=GB`.
pub(super) fn profile_gb(text: &str) -> Result<(String, f64), String> {
    let (name, gb) = text.split_once('=').ok_or("must be NAME=GB")?;
    let gb = gb.parse::<f64>().ok().filter(|gb| *gb > 0.0 && *gb <= 1024.0);
    gb.map(|gb| (name.to_owned(), gb)).ok_or_else(|| "must be NAME=GB, GB a number up to 1024".to_owned())
}

/// Seconds as people read them.
pub(super) fn span(seconds: f64) -> String {
    match seconds {
        s if s < 0.0005 => "0".to_owned(),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3_600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}

fn render(answer: &Answer) -> String {
    let summary = &answer.summary;
    let load = summary.load.map_or_else(String::new, |load| format!(", load {load:.2}"));
    let runs = if summary.runs == 1 { String::new() } else { format!(", {} runs", summary.runs) };
    let mut text = format!(
        "{}: {} requests in {} on {} x {}, {} GB{load}{runs}\n",
        summary.workload,
        summary.requests,
        span(summary.seconds),
        summary.gpus,
        summary.boards.join(", "),
        summary.capacity_gb
    );
    summary.notes.iter().for_each(|note| text.push_str(&format!("  {note}\n")));
    let header =
        ["POLICY", "LINE", ">GB REFUSED %", ">+-", ">REQUESTS %", ">IN USE %", ">FAIRNESS", ">MOVES"];
    let delays = [">WAIT MEAN", ">P95", ">MOST", ">NS P50", ">NS P99"];
    let mut table = Table::new(0, &[&header[..], &delays[..]].concat());
    for row in answer.policies.iter().chain([&answer.one_pool]) {
        let waited = |seconds: f64| if row.delay.requests > 0 { span(seconds) } else { String::new() };
        table.row([
            row.policy.clone(),
            row.line.to_owned(),
            format!("{:.2}", row.gb_refused_percent.mean),
            if summary.runs > 1 { format!("{:.2}", row.gb_refused_percent.deviation) } else { String::new() },
            format!("{:.2}", row.refused.requests_percent),
            format!("{:.2}", row.used_percent.mean),
            format!("{:.3}", row.fairness.mean),
            format!("{:.3}", row.moves_per_served),
            waited(row.delay.mean_s),
            waited(row.delay.p95_s),
            waited(row.delay.most_s),
            row.ns_p50.to_string(),
            row.ns_p99.to_string(),
        ]);
    }
    text.push('\n');
    text.push_str(&table.render());
    text.push('\n');
    text.push_str(&classes(answer));
    text
}

/// What came of each class, a row for each policy.
fn classes(answer: &Answer) -> String {
    let header =
        ["CLASS", "POLICY", ">ASKED", ">REFUSED", ">GB REFUSED %", ">STILL WAIT", ">WAIT P95", ">TURNAROUND"];
    let mut table = Table::new(0, &header);
    let count = answer.one_pool.classes.len();
    for at in 0..count {
        for row in answer.policies.iter().chain([&answer.one_pool]) {
            let Some(class) = row.classes.get(at) else { continue };
            let waited = class.delay.requests > 0;
            table.row([
                class.class.clone(),
                row.policy.clone(),
                class.asked.to_string(),
                class.refused.to_string(),
                format!("{:.2}", class.gb_refused_percent),
                class.waiting.to_string(),
                if waited { span(class.delay.p95_s) } else { String::new() },
                span(class.turnaround_s),
            ]);
        }
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_profiles_read_as_people_write_them() {
        let texts: Vec<String> = [0.0, 90.0, 3_600.0, 7_200.0, 900_000.0].map(span).to_vec();
        assert_eq!(texts, ["0", "90 s", "60 min", "2.0 h", "10.4 d"]);
        assert_eq!(profile_gb("desk=3.5"), Ok(("desk".to_owned(), 3.5)));
        for text in ["desk", "desk=", "desk=-1", "desk=9999"] {
            assert!(profile_gb(text).is_err(), "{text}");
        }
    }
}
