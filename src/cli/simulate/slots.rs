//! `vgpuctl simulate slots`: aligned slots of vGPUs and MIG instances.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{ArgGroup, Args};
use serde::Serialize;

use crate::cli::report::{Format, Report};
use crate::cli::simulate::contest::{Shown, unfit};
use crate::cli::simulate::plots;
use crate::cli::simulate::progress::Progress;
use crate::cli::table::Table;
use crate::fleet::geometry::{BOARDS, MIG_BOARDS};
use crate::fleet::slots::{Demand, ModePlan, POLICIES, Pair, Policy};
use crate::simulate::replay::{Contender, Discipline, Fleet, Record, Rounding, replay};
use crate::simulate::slots::{Busy, Drive, Filled, Frame, MIXES, Mix, Setup, busy, filled, frame, tune};
use crate::simulate::workloads::of_mix;
use crate::wire::{Kind, Refusal};

/// Fill GPUs with slices, or keep them busy, under one or more policies
///
/// --fill: requests arrive until 130 % of the capacity was asked for, nothing leaves; the figure is the
/// share of GB allocated. --load L: requests arrive at random, live for exponentially distributed times
/// and are lost when they do not fit; the figure is the share of GB refused, beside what one pool without
/// slots and borders would refuse. All policies see the same requests.
///
///   vgpuctl simulate slots --board h100-80 --gpus 2 --mix d4 --fill
///   vgpuctl simulate slots --board l40s-48 --gpus 16 --mix odd --load 0.9 --moves 2 --policy fgd,vgpud
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("experiment").required(true).args(["fill", "load"])))]
pub(in crate::cli) struct Slots {
    /// The board, or several that are taken in turn
    #[arg(long, value_name = "BOARD", value_delimiter = ',', default_value = "h100-80")]
    board: Vec<String>,
    /// How many GPUs
    #[arg(long, default_value_t = 2, value_name = "N")]
    gpus: usize,
    /// What is asked for: a name (aligned, d3, d4, odd, train, desktops, mig) or SIZE:WEIGHT,...
    #[arg(long, default_value = "d4")]
    mix: String,
    /// Fill the GPUs
    #[arg(long)]
    fill: bool,
    /// Keep them busy at this demand against the capacity, such as 0.9
    #[arg(long, value_name = "L")]
    load: Option<f64>,
    /// The policies
    #[arg(long, value_name = "POLICY", value_delimiter = ',', default_value = DEFAULT_POLICIES)]
    policy: Vec<String>,
    /// How many runs; 300 fills or 10 times --requests where it is not said
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// The first seed
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    first_seed: u64,
    /// At most so many slices moved for a request that would be refused, with --load
    #[arg(long, value_name = "K", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    moves: u8,
    /// Requests measured in a run, with --load
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    requests: u64,
    /// Write a page with plots for a browser to this file; one that is there is replaced
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

/// Requests of the runs that are drawn, at most.
const SHOWN_REQUESTS: usize = 3_000;

const DEFAULT_POLICIES: &str = "random,spread,pack,first-fit,best-fit,fgd,same-size,vgpud";

/// What is printed.
#[derive(Debug, Serialize)]
struct Answer {
    #[serde(flatten)]
    frame: Frame,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fill: Vec<Filled>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    churn: Vec<Busy>,
}

impl Slots {
    pub(super) fn run(self, format: Format) -> Result<Report, Refusal> {
        let mix: Mix = self.mix.parse().map_err(|error| {
            let names: Vec<&str> = MIXES.iter().map(|(name, _)| *name).collect();
            Refusal::from_error(Kind::Usage, &error).hint(format!("mixes with a name: {}", names.join(", ")))
        })?;
        let setup = self.setup(&mix)?;
        if self.load.is_some_and(|load| !(0.01..=100.0).contains(&load)) {
            return Err(Refusal::new(Kind::Usage, "--load must be between 0.01 and 100"));
        }
        let frame = frame(&setup, &mix.name, self.load, self.first_seed);
        let mut answer = Answer { frame, fill: Vec::new(), churn: Vec::new() };
        let progress = Progress::new();
        for name in &self.policy {
            progress.say(|| format!("{name} ..."));
            self.add(&mut answer, &setup, name)?;
        }
        drop(progress);
        if let Some(path) = &self.report {
            let (shown, end) = self.shown(&setup, &mix)?;
            plots::slots(&answer.frame, (&answer.fill, &answer.churn), (&shown, end)).write(path)?;
        }
        Report::new(format, &answer, render)
    }

    /// Makes one run of each policy for the page's plots; returns when it ends.
    fn shown(&self, setup: &Setup, mix: &Mix) -> Result<(Shown, f64), Refusal> {
        let (boards, gpus) = (self.board.clone(), self.gpus);
        let fleet = Fleet { boards, gpus, rounding: Rounding::Up, profiles: BTreeMap::new(), wait: 0.0 };
        let gb: Vec<u32> = setup.catalog.sizes.iter().map(|size| size.gb).collect();
        let requests = usize::try_from(self.requests).unwrap_or(usize::MAX).min(SHOWN_REQUESTS);
        let work = of_mix((mix, &gb), &fleet, (self.load, requests), self.first_seed);
        let work = work.map_err(|error| unfit(&error, None))?;
        let mut runs = Vec::new();
        for name in &self.policy {
            let contender: Contender =
                name.parse().map_err(|error| Refusal::from_error(Kind::Usage, &error))?;
            let prepared =
                contender.prepare(&work, Discipline::Lost, usize::from(self.moves), self.first_seed);
            let record = Record { course: true, map: true };
            runs.push((name.clone(), replay(&work, &prepared, record, &mut |_| {})));
        }
        Ok((Shown { runs, classes: work.classes.clone() }, work.end()))
    }

    /// Runs one policy and adds its row. `vgpud` is prepared for the experiment: filling, it tries out which
    /// GPUs should hold one size; keeping two GPUs busy, it works out their exact table where it can.
    fn add(&self, answer: &mut Answer, setup: &Setup, name: &str) -> Result<(), Refusal> {
        let mut policy = policy(name, self.first_seed)?;
        let ours = name == "vgpud";
        let Some(load) = self.load else {
            if ours {
                policy.modes = ModePlan::PerGpu(tune(setup, if setup.gpus.len() > 32 { 20 } else { 200 }));
            }
            let seeds = self.seeds.unwrap_or(300);
            answer.fill.push(filled(setup, (name, &policy), self.first_seed, seeds));
            return Ok(());
        };
        let moves = usize::from(self.moves);
        let demand = Demand { load, moves, charge: 0.5, tolerance: 1e-4 };
        let alone = ours && setup.gpus.len() == 2;
        let table = if alone { Pair::new(&setup.catalog, demand) } else { None };
        let seeds = self.seeds.unwrap_or(10);
        answer.churn.push(busy(setup, (name, &policy, table.as_ref()), &self.drive(load), seeds));
        Ok(())
    }

    fn setup(&self, mix: &Mix) -> Result<Setup, Refusal> {
        if self.gpus == 0 || self.gpus > 1_000_000 {
            return Err(Refusal::new(
                Kind::Usage,
                format!("--gpus {}: 1 to 1000000 can be simulated", self.gpus),
            ));
        }
        let boards: Vec<&str> = self.board.iter().map(String::as_str).collect();
        Setup::new(&boards, self.gpus, mix).map_err(|error| {
            let names =
                BOARDS.iter().map(|board| board.name).chain(MIG_BOARDS.iter().map(|board| board.name));
            let names: Vec<&str> = names.collect();
            Refusal::from_error(Kind::Usage, &error).hint(format!("boards: {}", names.join(", ")))
        })
    }

    fn drive(&self, load: f64) -> Drive {
        Drive {
            load,
            moves: usize::from(self.moves),
            requests: self.requests.max(1),
            seed: self.first_seed,
            course: false,
        }
    }
}

fn policy(name: &str, seed: u64) -> Result<Policy, Refusal> {
    Policy::named(name, seed).ok_or_else(|| {
        let names: Vec<&str> = POLICIES.iter().map(|(name, _)| *name).collect();
        Refusal::new(Kind::Usage, format!("no policy for slots is called {name:?}"))
            .hint(format!("policies: {}", names.join(", ")))
    })
}

fn render(answer: &Answer) -> String {
    let frame = &answer.frame;
    let boards = frame.boards.join(", ");
    let mut text = format!("{} x {boards}, mix {}", frame.gpus, frame.mix);
    if let (Some(load), Some(pool)) = (frame.load, frame.one_pool_gb_refused_percent) {
        text.push_str(&format!(", load {load}\none pool would refuse {pool:.2} % of the GB\n\n"));
        text.push_str(&churn_table(&answer.churn));
    } else {
        text.push_str(", filled until 130 % was asked for\n\n");
        text.push_str(&fill_table(&answer.fill));
    }
    text
}

fn fill_table(rows: &[Filled]) -> String {
    let mut table = Table::new(
        0,
        &["POLICY", ">GB % AT 100", ">AT 110", ">AT 130", ">+-", ">WORST", ">1ST REFUSAL", ">RUNS"],
    );
    for row in rows {
        let last = &row.allocated_percent_130;
        table.row([
            row.policy.clone(),
            format!("{:.2}", row.allocated_percent_100.mean),
            format!("{:.2}", row.allocated_percent_110.mean),
            format!("{:.2}", last.mean),
            format!("{:.2}", last.deviation),
            format!("{:.1}", last.least),
            format!("{:.2}", row.first_refusal_percent.mean),
            row.seeds.to_string(),
        ]);
    }
    table.render()
}

fn churn_table(rows: &[Busy]) -> String {
    let mut table = Table::new(
        0,
        &["POLICY", ">GB REFUSED %", ">+-", ">REQUESTS %", ">IN USE %", ">MOVES/VM", ">NS/REQUEST", ">RUNS"],
    );
    for row in rows {
        table.row([
            row.policy.clone(),
            format!("{:.2}", row.gb_refused_percent.mean),
            format!("{:.2}", row.gb_refused_percent.deviation),
            format!("{:.2}", row.refused.requests_percent),
            format!("{:.2}", row.used_percent.mean),
            format!("{:.3}", row.moves_per_placed),
            format!("{:.0}", row.ns_per_request),
            row.seeds.to_string(),
        ]);
    }
    table.render()
}
