//! `vgpuctl simulate history`: what this host was asked for, replayed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;

use crate::cli::report::{Format, Report};
use crate::cli::simulate::contest::{Contest, profile_gb, unfit};
use crate::cli::simulate::{input, trace};
use crate::client::{Client, ClientError};
use crate::fleet::geometry::BOARDS;
use crate::model::{Decision, Framebuffer, GpuId, HistoryEntry};
use crate::simulate::replay::{Asked, Row, Workload, WorkloadError};
use crate::wire::{History as Entries, Kind, Refusal};

/// Replay this host's own history against policies
///
/// Starts of domains are the requests, from when a slice was made until it was given back; a start that was refused
/// counts once, however often it was tried again, with the usual life of its profile. The newest 10,000 entries are
/// read from the service, or from what `vgpuctl history -o json -n 10000` printed. The number of GPUs and their
/// memory are those of the decisions in the history; --board and --gpus say otherwise.
#[derive(Debug, Args)]
pub(in crate::cli) struct History {
    /// Read the history from this file instead of the service
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How many GB a profile has whose wish does not say; may be given several times
    #[arg(long, value_name = "NAME=GB", value_parser = profile_gb)]
    profile: Vec<(String, f64)>,
    #[command(flatten)]
    contest: Contest,
}

/// What is wished for in the history's words.
const FRAMEBUFFER: &str = "framebuffer ";

impl History {
    pub(super) fn run(self, client: &Client, format: Format) -> Result<Report, Refusal> {
        let entries = match &self.file {
            Some(file) => serde_json::from_str::<Entries>(&input::text(file)?).map_err(|error| {
                let text = format!("{} is no history: {error}", file.display());
                Refusal::new(Kind::Usage, text).hint("`vgpuctl history -o json -n 10000 > FILE` writes one")
            })?,
            None => client.get("/v1/history?limit=10000").map_err(ClientError::into_refusal)?,
        };
        let host = Host::of(&entries.entries);
        let board = host.board();
        if board.is_none() && !self.contest.names_board() {
            return Err(Refusal::new(Kind::Usage, "the history does not tell how much memory the GPUs have")
                .hint("name their board by --board; `vgpuctl simulate trace --board x` lists them"));
        }
        let profiles: BTreeMap<&str, f64> =
            self.profile.iter().map(|(name, gb)| (name.as_str(), *gb)).collect();
        let replayed = requests(&entries.entries, &profiles);
        let named = board.unwrap_or("h100-80");
        let fleet = self.contest.fleet((named, host.gpus.len().max(1)), (&self.profile, 0.0));
        let work = Workload::new("history", replayed.rows, &fleet).map_err(|error| match error {
            WorkloadError::Empty => {
                Refusal::new(Kind::NotFound, "the history has no start of a domain with slices")
            }
            error => unfit(&error, None),
        })?;
        let mut notes = replayed.notes;
        if !self.contest.names_board() {
            notes.push(format!("The GPUs are taken as {named}, by their memory; --board names another."));
        }
        self.contest.run(&[work.noting(notes)], trace::POLICIES, format)
    }
}

/// What the history tells about the host.
struct Host {
    gpus: BTreeSet<GpuId>,
    /// The most MiB that one of them has.
    mib: u64,
}

impl Host {
    fn of(entries: &[HistoryEntry]) -> Self {
        let weighed = || entries.iter().flat_map(|entry| &entry.decisions).flat_map(|one| &one.candidates);
        let mib = weighed().filter_map(|one| one.memory_mib).map(|(_, all)| all).max().unwrap_or(0);
        Self { gpus: weighed().map(|one| one.gpu.clone()).collect(), mib }
    }

    /// Returns the board whose framebuffer is nearest, when it is near.
    fn board(&self) -> Option<&'static str> {
        let far = |region: u8| (u64::from(region) * 1024).abs_diff(self.mib);
        let nearest = BOARDS.iter().rev().min_by_key(|board| far(board.region))?;
        (self.mib > 0 && far(nearest.region) * 10 <= self.mib).then_some(nearest.name)
    }
}

/// The requests of a history.
struct Replayed {
    rows: Vec<Row>,
    notes: Vec<String>,
}

/// A start: who, when, what.
struct Start<'a> {
    at: i64,
    end: Option<i64>,
    refused: bool,
    domain: &'a str,
    decisions: &'a [Decision],
}

/// Pairs starts with what ended them, oldest first. Pure.
fn starts(entries: &[HistoryEntry]) -> Vec<Start<'_>> {
    let mut starts: Vec<Start<'_>> = Vec::new();
    // By domain: its start that runs, or was refused last.
    let mut latest: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in entries.iter().rev() {
        let Some(domain) = entry.domain.as_deref() else { continue };
        let before = latest.get(domain).copied();
        let running = before.filter(|at| !starts[*at].refused && starts[*at].end.is_none());
        match entry.verb.as_str() {
            "release" => {
                if let Some(at) = running {
                    starts[at].end = Some(entry.at);
                }
            }
            "prepare" if !entry.decisions.is_empty() => {
                let refused = entry.outcome != "done";
                let again = refused && before.is_some_and(|at| starts[at].refused);
                if again || (refused && running.is_some()) {
                    continue;
                }
                if let Some(at) = running {
                    starts[at].end = Some(entry.at);
                }
                latest.insert(domain, starts.len());
                let decisions = &entry.decisions;
                starts.push(Start { at: entry.at, end: None, refused, domain, decisions });
            }
            _ => {}
        }
    }
    starts
}

fn requests(entries: &[HistoryEntry], profiles: &BTreeMap<&str, f64>) -> Replayed {
    let starts = starts(entries);
    let mut lives: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for start in &starts {
        if let Some(end) = start.end {
            let each = start.decisions.iter().map(|decision| decision.profile.as_str());
            each.for_each(|profile| lives.entry(profile).or_default().push(end - start.at));
        }
    }
    lives.values_mut().for_each(|lives| lives.sort_unstable());
    let usual = |profile: &str| {
        let lives = lives.get(profile)?;
        lives.get(lives.len() / 2).copied()
    };
    let mut rows = Vec::new();
    let (mut refused, mut running) = (0, 0);
    for start in &starts {
        refused += usize::from(start.refused);
        running += usize::from(!start.refused && start.end.is_none());
        for decision in start.decisions {
            let profile = decision.profile.as_str();
            let life = match (start.end, start.refused) {
                (Some(end), _) => Some(end - start.at),
                (None, true) => usual(profile),
                (None, false) => None,
            };
            rows.push(Row {
                line: 0,
                arrival: seconds(start.at),
                life: life.map_or(f64::INFINITY, seconds),
                owner: start.domain.to_owned(),
                asked: asked(decision, profiles),
                class: profile.to_owned(),
                priority: 0,
                wait: None,
            });
        }
    }
    let notes = vec![format!(
        "{} starts of domains, of which {refused} were refused then and {running} have not ended; refused ones live as \
         long as half of their profile's did, at most.",
        starts.len()
    )];
    Replayed { rows, notes }
}

fn asked(decision: &Decision, profiles: &BTreeMap<&str, f64>) -> Asked {
    let profile = decision.profile.as_str();
    if let Some(gb) = profiles.get(profile) {
        return Asked::Gb(*gb);
    }
    let size = decision.wish.strip_prefix(FRAMEBUFFER);
    let framebuffer = size.and_then(|size| size.parse::<Framebuffer>().ok());
    match framebuffer {
        Some(size) => Asked::Gb(f64::from(size.mib()) / 1024.0),
        None => Asked::Profile(match decision.wish.strip_prefix("type ") {
            Some(name) if name.contains('-') => name.to_owned(),
            _ => profile.to_owned(),
        }),
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds of this century are exact")]
fn seconds(seconds: i64) -> f64 {
    seconds as f64
}
