//! W2: tasks of the openb trace as vGPUs, with their own times.

use thiserror::Error;

use crate::fleet::slots::Draw;
use crate::simulate::replay::{Asked, Row, Workload, WorkloadError};
use crate::simulate::workloads::{Order, capacity};

/// Why a list of tasks cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenbError {
    /// A column is not there.
    #[error("the list of tasks has no column {0}; lists without times cannot be replayed")]
    Column(&'static str),
    /// A field cannot be read.
    #[error("line {line}, column {column}: {value:?} is no number")]
    Value {
        /// Counted from 1, the header included.
        line: usize,
        /// The column.
        column: &'static str,
        /// What stands there.
        value: String,
    },
}

/// A task that asks for a GPU or a share of one.
struct Task {
    line: usize,
    arrival: f64,
    life: f64,
    /// Of a GPU.
    share: f64,
    class: String,
}

const COLUMNS: [&str; 6] =
    ["num_gpu", "gpu_milli", "qos", "creation_time", "deletion_time", "scheduled_time"];

fn read(text: &str) -> Result<Vec<Task>, OpenbError> {
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let header: Vec<&str> = lines.next().map_or("", |(_, line)| line).split(',').map(str::trim).collect();
    let mut at = [0; COLUMNS.len()];
    for (at, column) in at.iter_mut().zip(COLUMNS) {
        *at = header.iter().position(|name| *name == column).ok_or(OpenbError::Column(column))?;
    }
    let mut tasks = Vec::new();
    for (line, text) in lines {
        let fields: Vec<&str> = text.split(',').map(str::trim).collect();
        let field = |column: usize| fields.get(at[column]).copied().unwrap_or("");
        let number = |column: usize| -> Result<Option<f64>, OpenbError> {
            let value = field(column);
            let fault = || OpenbError::Value { line, column: COLUMNS[column], value: value.to_owned() };
            let parsed = value.parse::<f64>().ok().filter(|value| value.is_finite());
            if value.is_empty() { Ok(None) } else { parsed.map(Some).ok_or_else(fault) }
        };
        // Tasks without a GPU need no vGPU, those with several no slice; some were never scheduled.
        let one = number(0)? == Some(1.0);
        let (share, created, deleted) = (number(1)?.unwrap_or(1000.0), number(3)?, number(4)?);
        let begun = number(5)?;
        if let (true, Some(arrival), Some(end), Some(begun)) = (one, created, deleted, begun) {
            let class = field(2).to_owned();
            let life = (end - begun).max(0.0);
            tasks.push(Task { line, arrival, life, share: share / 1000.0, class });
        }
    }
    Ok(tasks)
}

pub(super) fn draw(order: &Order<'_>, text: &str) -> Result<Workload, super::NamedError> {
    let mut tasks = read(text)?;
    tasks.sort_by(|a, b| a.arrival.total_cmp(&b.arrival));
    if order.seed > 0 {
        shuffle(&mut tasks, &mut Draw::new(order.seed));
    }
    let (gb, board) = capacity(&order.fleet);
    let stretch = stretch(&tasks, board, gb * order.load);
    let row = |task: &Task| Row {
        line: task.line,
        arrival: task.arrival * stretch,
        life: task.life,
        owner: task.class.clone(),
        asked: Asked::Gb((task.share * board).max(0.1)),
        class: class(task.share).to_owned(),
        priority: 0,
        wait: None,
    };
    let work =
        Workload::new("W2", tasks.iter().map(row).collect(), &order.fleet).map_err(|error| match error {
            WorkloadError::Empty => super::NamedError::NoTasks,
            other => other.into(),
        })?;
    let rounded = work.rounded_percent;
    Ok(work.noting([
        format!(
            "{} tasks of the list that ask for a share of a GPU or one GPU and were scheduled; a slice is share times \
             {board} GB, rounded to a size of the board, which makes it {rounded:.1} % larger in the sum.",
            tasks.len()
        ),
        format!(
            "Lives are those of the list; times between arrivals are multiplied by {stretch:.4}, so that the demand \
             before rounding is {} of the capacity. Runs after the first draw the order of the tasks.",
            order.load
        ),
    ]))
}

fn class(share: f64) -> &'static str {
    match share {
        share if share >= 1.0 => "whole GPU",
        share if share > 0.5 => "over half",
        _ => "up to half",
    }
}

/// Keeps the times of arrival and deals the tasks out to them anew.
fn shuffle(tasks: &mut [Task], draw: &mut Draw) {
    for end in (1..tasks.len()).rev() {
        let other = draw.below(end + 1);
        let times = (tasks[end].arrival, tasks[other].arrival);
        tasks.swap(end, other);
        (tasks[end].arrival, tasks[other].arrival) = times;
    }
}

/// Returns by what the times between arrivals are multiplied to have `wanted` GB in use in the mean, were everything
/// served: found by halving, for a life counts up to the last arrival only.
fn stretch(tasks: &[Task], board: f64, wanted: f64) -> f64 {
    let first = tasks.first().map_or(0.0, |task| task.arrival);
    let last = tasks.last().map_or(0.0, |task| task.arrival) - first;
    let used = |stretch: f64| {
        let within = |task: &Task| task.life.min((last - task.arrival + first) * stretch);
        tasks.iter().map(|task| task.share * board * within(task)).sum::<f64>() / (last * stretch).max(1e-9)
    };
    let (mut low, mut high) = (1e-6_f64, 1e6_f64);
    for _ in 0..80 {
        let middle = (low * high).sqrt();
        if used(middle) > wanted { low = middle } else { high = middle }
    }
    high
}
