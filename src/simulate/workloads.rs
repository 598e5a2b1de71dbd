//! Workloads with a name, drawn from a seed: the same seed gives the same requests on every machine.

mod adversary;
mod arrivals;
mod boot_storm;
mod mix;
mod openb;
mod render_train;
mod scale;

pub use arrivals::Arrivals;
pub use mix::of_mix;
pub use openb::OpenbError;

use thiserror::Error;

use crate::fleet::geometry::{Board, MigBoard};
use crate::simulate::replay::{Fleet, Workload, WorkloadError};

/// The workloads by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// openb tasks with one GPU at most, as vGPUs.
    W2,
    /// A boot storm of desktops.
    W3,
    /// Desktops with a daily rhythm beside jobs that wait.
    W4,
    /// Fill with small ones, free every second, ask for large ones.
    W5,
    /// A fleet of any size, half full, under churn.
    W6,
}

/// What is known of a workload before it is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Card {
    /// Which.
    pub named: Named,
    /// Its name.
    pub name: &'static str,
    /// Its other name.
    pub word: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Its board.
    pub board: &'static str,
    /// Its number of GPUs.
    pub gpus: usize,
    /// Its demand against the capacity.
    pub load: f64,
    /// What competes.
    pub policies: &'static str,
}

/// All workloads.
pub const CARDS: &[Card] = &[
    Card {
        named: Named::W2,
        name: "W2",
        word: "openb",
        about: "openb tasks with a share of a GPU or one GPU, as vGPUs (needs --pods)",
        board: "h100-80",
        gpus: 16,
        load: 0.9,
        policies: "first-fit,spread,pack,best-fit,fgd,same-size,vgpud",
    },
    Card {
        named: Named::W3,
        name: "W3",
        word: "boot-storm",
        about: "10,000 desktops asked for within 60 s on 640 GPUs, which then leave over 10 h",
        board: "l40s-48",
        gpus: 640,
        load: 0.88,
        policies: "first-fit,spread,pack,fgd,same-size,vgpud",
    },
    Card {
        named: Named::W4,
        name: "W4",
        word: "render-train",
        about: "desktops with a rhythm of day and night beside jobs that wait in a line, for two weeks",
        board: "l40s-48",
        gpus: 8,
        load: 0.85,
        policies: "first-fit/fifo,first-fit/service,first-fit/backfill,fgd/service,vgpud/backfill,vgpud/smallest",
    },
    Card {
        named: Named::W5,
        name: "W5",
        word: "adversary",
        about: "fill with the least size, free every second slice, ask for large ones; twenty times",
        board: "h100-80",
        gpus: 8,
        load: 1.0,
        policies: "first-fit,spread,pack,best-fit,fgd,same-size,vgpud",
    },
    Card {
        named: Named::W6,
        name: "W6",
        word: "scale",
        about: "a fleet of any size, half full, under churn",
        board: "h100-80",
        gpus: 1_000,
        load: 0.5,
        policies: "first-fit,fgd,vgpud",
    },
];

/// How a workload is drawn.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// The fleet.
    pub fleet: Fleet,
    /// Demand against the capacity.
    pub load: f64,
    /// Where random numbers begin.
    pub seed: u64,
    /// Requests, where the workload does not say how many.
    pub requests: usize,
    /// The list of openb tasks.
    pub tasks: Option<&'a str>,
}

/// Why a workload cannot be drawn.
#[derive(Debug, Error)]
pub enum NamedError {
    /// It needs a list of tasks.
    #[error("W2 is made from a list of openb tasks")]
    NoTasks,
    /// The list cannot be used.
    #[error(transparent)]
    Tasks(#[from] OpenbError),
    /// Requests and fleet do not fit together.
    #[error(transparent)]
    Work(#[from] WorkloadError),
}

impl Card {
    /// Finds a workload by either name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        CARDS.iter().copied().find(|card| card.name.eq_ignore_ascii_case(name) || card.word == name)
    }

    /// Draws the workload.
    ///
    /// # Errors
    /// When the fleet cannot hold its requests, or a list is missing or wrong.
    pub fn draw(&self, order: &Order<'_>) -> Result<Workload, NamedError> {
        let work = match self.named {
            Named::W2 => openb::draw(order, order.tasks.ok_or(NamedError::NoTasks)?)?,
            Named::W3 => boot_storm::draw(order)?,
            Named::W4 => render_train::draw(order)?,
            Named::W5 => adversary::draw(order)?,
            Named::W6 => scale::draw(order)?,
        };
        Ok(Workload { name: self.name.to_owned(), ..work })
    }
}

/// GB of all GPUs of a fleet, and of its largest board; 0 for boards that are not known.
fn capacity(fleet: &Fleet) -> (f64, f64) {
    let gb = |name: &String| {
        let board = Board::named(name).map(|board| u32::from(board.region));
        let mig =
            || MigBoard::named(name).map(|board| u32::from(board.memory_slices) * u32::from(board.slice_gb));
        f64::from(board.or_else(mig).unwrap_or(0))
    };
    let boards: Vec<f64> = fleet.boards.iter().map(gb).collect();
    let all = boards.iter().cycle().take(fleet.gpus).sum();
    (all, boards.iter().copied().fold(0.0, f64::max))
}

#[cfg(test)]
mod tests;
