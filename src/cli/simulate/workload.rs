//! `vgpuctl simulate workload`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::report::{Format, Report};
use crate::cli::simulate::contest::{Contest, unfit};
use crate::cli::simulate::input;
use crate::simulate::workloads::{CARDS, Card, NamedError, Order};
use crate::wire::{Kind, Refusal};

/// Draw a named workload from seeds and run it against policies
///
/// W2 (openb): openb tasks as vGPUs, needs --pods. W3 (boot-storm): 10,000 desktops within a minute on 640 GPUs.
/// W4 (render-train): desktops by day beside jobs that wait. W5 (adversary): fill with small ones, free every second,
/// ask for large ones. W6 (scale): a fleet of any size, half full, under churn.
///
///   vgpuctl simulate workload W3 --seeds 3
///   vgpuctl simulate workload W4 --gpus 16 --policy first-fit/fifo,vgpud/backfill --report out.html
#[derive(Debug, Args)]
pub(in crate::cli) struct Named {
    /// W2, W3, W4, W5, W6, or openb, boot-storm, render-train, adversary, scale
    #[arg(value_name = "WORKLOAD")]
    name: String,
    /// How many runs, each with the next seed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: u64,
    /// Demand against the capacity; each workload has its own
    #[arg(long, value_name = "L")]
    load: Option<f64>,
    /// Requests after the beginning, for W6
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    requests: usize,
    /// openb's list of tasks with their times, for W2; plain or gzipped
    #[arg(long, value_name = "FILE")]
    pods: Option<PathBuf>,
    #[command(flatten)]
    contest: Contest,
}

impl Named {
    pub(super) fn run(self, format: Format) -> Result<Report, Refusal> {
        let card = Card::named(&self.name).ok_or_else(|| {
            let names: Vec<String> =
                CARDS.iter().map(|card| format!("{} ({})", card.name, card.word)).collect();
            Refusal::new(Kind::Usage, format!("no workload is called {:?}", self.name))
                .hint(format!("workloads: {}", names.join(", ")))
        })?;
        let load = self.load.unwrap_or(card.load);
        if !(0.01..=100.0).contains(&load) {
            return Err(Refusal::new(Kind::Usage, "--load must be between 0.01 and 100"));
        }
        let tasks = self.pods.as_deref().map(input::text).transpose()?;
        let fleet = self.contest.fleet((card.board, card.gpus), (&[], 0.0));
        // The first run of a list is the list as it is.
        let first = self.contest.seed(u64::from(tasks.is_none()));
        let mut works = Vec::new();
        for seed in first..first.saturating_add(self.seeds) {
            let order =
                Order { fleet: fleet.clone(), load, seed, requests: self.requests, tasks: tasks.as_deref() };
            works.push(card.draw(&order).map_err(|error| self.undrawn(&error))?);
        }
        self.contest.run(&works, card.policies, format)
    }

    fn undrawn(&self, error: &NamedError) -> Refusal {
        match error {
            NamedError::Work(error) => unfit(error, None),
            NamedError::NoTasks => Refusal::from_error(Kind::Usage, error)
                .hint("name the list by --pods: openb_pod_list_default.csv, plain or gzipped"),
            NamedError::Tasks(_) => {
                let file = self.pods.as_ref().map_or_else(String::new, |pods| pods.display().to_string());
                Refusal::new(Kind::Usage, format!("{file}: {error}"))
            }
        }
    }
}
