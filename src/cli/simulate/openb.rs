//! `vgpuctl simulate openb` and `vgpuctl simulate train`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::cli::report::{Format, Report};
use crate::cli::simulate::progress::Progress;
use crate::cli::simulate::{input, plots};
use crate::cli::table::Table;
use crate::fleet::shares::learn::{Effort, learn};
use crate::fleet::shares::{Demand, Policy, Values};
use crate::simulate::bound::linear_bound;
use crate::simulate::openb::{Experiment, PolicyResult, Popularity, Trace};
use crate::wire::{Kind, Refusal};

/// The policy that names a file with a learned table.
const LEARNED: &str = "vgpud-learned=";

/// The lists of an experiment.
#[derive(Debug, Args)]
struct Lists {
    /// Nodes: CSV with cpu_milli, memory_mib, gpu, model; plain or gzipped
    #[arg(long, value_name = "FILE")]
    nodes: PathBuf,
    /// Tasks: CSV with cpu_milli, memory_mib, num_gpu, gpu_milli and perhaps gpu_spec
    #[arg(long, value_name = "FILE")]
    pods: PathBuf,
}

/// Where the policies' knowledge of the mix comes from.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Source {
    /// From the list of tasks, as FGD has it
    Trace,
    /// From what has arrived so far
    Arrivals,
}

/// Run the published arrival experiment on openb traces
///
/// Tasks arrive in random order and never leave; what fits nowhere is dropped. Printed is the part of
/// all GPUs that is given away when so much has been asked for, beside what no placement can exceed.
#[derive(Debug, Args)]
pub(in crate::cli) struct Openb {
    #[command(flatten)]
    lists: Lists,
    /// Policies by name, separated by commas; vgpud-learned=FILE uses what `simulate train` wrote
    #[arg(long, value_name = "P[,P…]", value_delimiter = ',', default_value = "first-fit,fgd,vgpud")]
    policy: Vec<String>,
    /// Number of runs
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: u64,
    /// Percent of the GPUs that are asked for in the end
    #[arg(long, default_value_t = 130, value_parser = clap::value_parser!(u32).range(1..=1000))]
    arrived: u32,
    /// Where the popularity of kinds of tasks comes from
    #[arg(long, value_enum, default_value_t = Source::Trace)]
    popularity: Source,
    /// Tasks that the policies know instead of those that arrive: a list as for --pods
    #[arg(long, value_name = "FILE", conflicts_with_all = ["popularity", "held_out"])]
    learn_from: Option<PathBuf>,
    /// Split the tasks by lot: the policies know one half, and the other half arrives
    #[arg(long, value_name = "SEED", conflicts_with = "popularity")]
    held_out: Option<u64>,
    /// Percent of the tasks arrived so far that may have been moved to make refused ones fit
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    moves: f64,
    /// Write a page with plots for a browser to this file; one that is there is replaced
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

/// Learn a placement table from a trace and write it to a file
#[derive(Debug, Args)]
pub(in crate::cli) struct Train {
    #[command(flatten)]
    lists: Lists,
    /// Where to write the table; an existing file is not replaced
    #[arg(long, value_name = "FILE")]
    write: PathBuf,
    /// The seed of the runs it learns from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What the experiment prints.
#[derive(Debug, Serialize)]
struct Answer {
    /// Percent of the GPUs that no placement can exceed, by percent arrived.
    bound_percent: std::collections::BTreeMap<u32, f64>,
    policies: Vec<PolicyResult>,
}

/// What training prints.
#[derive(Debug, Serialize)]
struct Trained {
    file: PathBuf,
    first_fit_percent: f64,
    formula_percent: f64,
    table_percent: f64,
}

impl Openb {
    pub(in crate::cli) fn run(self, format: Format) -> Result<Report, Refusal> {
        let (trace, popularity) = self.trace()?;
        let mut policies = Vec::new();
        let progress = Progress::new();
        for name in &self.policy {
            let (policy, values) = named(name)?;
            let experiment = Experiment {
                seeds: self.seeds,
                arrived: self.arrived,
                popularity: popularity.clone(),
                values,
                moves: self.moves,
            };
            let told = |seed| progress.say(|| format!("{name}: run {} of {} done", seed + 1, self.seeds));
            let mut result = experiment.run(&trace, policy, &told);
            result.policy.clone_from(name);
            policies.push(result);
        }
        let points = policies.iter().flat_map(|result| result.allocated_percent.keys().copied());
        let points: std::collections::BTreeSet<u32> = points.collect();
        let mut bound_percent = std::collections::BTreeMap::new();
        for point in points {
            let bound = linear_bound(&trace.mix(), trace.capacity(), point);
            bound_percent.insert(point, bound.map_err(|error| Refusal::from_error(Kind::Internal, &error))?);
        }
        drop(progress);
        let answer = Answer { bound_percent, policies };
        if let Some(path) = &self.report {
            plots::openb(&answer.bound_percent, &answer.policies).write(path)?;
        }
        Report::new(format, &answer, table)
    }
}

impl Openb {
    /// Reads what arrives, and what the policies know.
    fn trace(&self) -> Result<(Trace, Popularity), Refusal> {
        let trace = self.lists.read()?;
        if let Some(pods) = &self.learn_from {
            let known = Lists { nodes: self.lists.nodes.clone(), pods: pods.clone() }.read()?;
            return Ok((trace, Popularity::Tasks(known.tasks)));
        }
        if let Some(seed) = self.held_out {
            let (known, trace) = trace.halves(seed);
            return Ok((trace, Popularity::Tasks(known)));
        }
        Ok(match self.popularity {
            Source::Trace => (trace, Popularity::Trace),
            Source::Arrivals => (trace, Popularity::Arrivals),
        })
    }
}

impl Train {
    pub(in crate::cli) fn run(self, format: Format) -> Result<Report, Refusal> {
        let trace = self.lists.read()?;
        let demand = Demand::new(trace.mix());
        let lesson = learn(&trace.nodes, &demand, self.seed, Effort::default());
        let Some(values) = lesson.values else {
            let message = "no table learned from these tasks did better than first-fit and kept the limits";
            return Err(Refusal::new(Kind::Conflict, message));
        };
        let text = serde_json::to_string(&values);
        let text = text.map_err(|error| Refusal::from_error(Kind::Internal, &error))?;
        input::write(&self.write, &text, false)?;
        let [first_fit_percent, formula_percent, table_percent] = lesson.trials;
        let answer = Trained { file: self.write, first_fit_percent, formula_percent, table_percent };
        Report::new(format, &answer, |answer| {
            format!(
                "wrote {}\nGPU share given away in trials: first-fit {:.2} %, formula {:.2} %, table {:.2} %\n",
                answer.file.display(),
                answer.first_fit_percent,
                answer.formula_percent,
                answer.table_percent
            )
        })
    }
}

impl Lists {
    fn read(&self) -> Result<Trace, Refusal> {
        let (nodes, pods) = (input::text(&self.nodes)?, input::text(&self.pods)?);
        Trace::parse(&nodes, &pods).map_err(|error| {
            let files = format!("{} and {}", self.nodes.display(), self.pods.display());
            Refusal::new(Kind::Usage, format!("cannot use the lists {files}: {error}"))
        })
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (0.0..=100.0).contains(number));
    number.ok_or_else(|| "is not a number from 0 to 100".to_owned())
}

fn named(name: &str) -> Result<(Policy, Option<Values>), Refusal> {
    if let Some(file) = name.strip_prefix(LEARNED) {
        let values = Values::parse(&input::text(Path::new(file))?);
        let values = values.map_err(|error| {
            Refusal::new(Kind::Usage, format!("cannot use the table {file}: {error}"))
                .hint("`vgpuctl simulate train` writes such a file")
        })?;
        return Ok((Policy::Vgpud, Some(values)));
    }
    let policy = name.parse::<Policy>().map_err(|error| Refusal::from_error(Kind::Usage, &error));
    let names = || Policy::names().collect::<Vec<_>>().join(", ");
    Ok((policy.map_err(|refusal| refusal.hint(format!("known are {}, {LEARNED}FILE", names())))?, None))
}

fn table(answer: &Answer) -> String {
    let header = ["POLICY", ">AT 80", ">AT 95", ">AT 100", ">AT 110", ">AT 130", ">F 100", ">REFUSED"];
    let classes = [">CPU", ">SHARE", ">1 GPU", ">SEVERAL", ">MOVES", ">NS P50", ">NS P99"];
    let mut table = Table::new(0, &[&header[..], &classes[..]].concat());
    for result in &answer.policies {
        let at = |point: u32| {
            let found = result.allocated_percent.get(&point);
            found.map_or_else(String::new, |found| format!("{:.2}±{:.2}", found.mean, found.spread))
        };
        let fragments = result.fragmentation_percent.get(&100);
        let class =
            |name| result.refused_percent.get(name).map_or_else(String::new, |rate| format!("{rate:.1}"));
        table.row([
            result.policy.clone(),
            at(80),
            at(95),
            at(100),
            at(110),
            at(130),
            fragments.map_or_else(String::new, |found| format!("{:.1}", found.mean)),
            format!("{:.0}", result.refused_tasks),
            class("cpu_only"),
            class("share"),
            class("one_gpu"),
            class("several_gpus"),
            format!("{:.0}", result.moves),
            result.ns_per_decision.p50.to_string(),
            result.ns_per_decision.p99.to_string(),
        ]);
    }
    let bound = answer.bound_percent.iter().map(|(point, bound)| format!("{bound:.2} at {point}"));
    let bound: Vec<String> = bound.collect();
    format!("{}bound: {} percent arrived\n", table.render(), bound.join(", "))
}
