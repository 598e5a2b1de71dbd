//! `risk-models`: four desks train models on two GPUs that are divided once and for all, or on demand.

use std::ops::Range;

use crate::fleet::slots::Draw;
use crate::simulate::scenarios::flow::{Cell, Division, Done, Host, Task, flow};
use crate::simulate::scenarios::{Findings, Row, change, claim, row};

const HOUR_S: f64 = 3_600.0;
const DAY_S: f64 = 24.0 * HOUR_S;
/// Days that count, after two that fill the GPUs.
const DAYS: f64 = 28.0;
const DESKS: usize = 4;
/// What is asked for against the compute of both GPUs.
const LOADS: [f64; 6] = [0.5, 0.65, 0.8, 0.9, 1.0, 1.2];
/// How much more a desk asks for in its busy six hours than in the other eighteen.
const BUSY: f64 = 4.0;
/// Work of a training: hours of a whole GPU, in the mean.
const WORK_H: f64 = 1.5;
/// The most of a GPU that one training can use.
const MOST: f64 = 0.8;

const STATIC: &str = "static, fixed shares";
const STATIC_BEST: &str = "static, best effort";
const DYNAMIC: &str = "dynamic";

fn tasks(load: f64, seed: u64) -> Vec<Task> {
    let mut draw = Draw::new(seed);
    // Requests in the mean, and at most, for each desk.
    let mean = load * 2.0 / (WORK_H * HOUR_S * f64::from(u32::try_from(DESKS).unwrap_or(1)));
    let quiet = mean / (0.25 * BUSY + 0.75);
    let mut tasks = Vec::new();
    for desk in 0..DESKS {
        let mut now = draw.exponential(1.0 / (quiet * BUSY));
        while now < (DAYS + 2.0) * DAY_S {
            let quarter = ((now % DAY_S) / (DAY_S / 4.0)).floor();
            let busy = (quarter - f64::from(u32::try_from(desk).unwrap_or(0))).abs() < 0.5;
            if busy || draw.unit() < 1.0 / BUSY {
                let gb = [10.0, 20.0, 40.0][draw.weighted(&[40, 40, 20])];
                let work = draw.exponential(WORK_H * HOUR_S);
                tasks.push(Task { arrival: now, work, most: MOST, gb, owner: desk, class: 0 });
            }
            now += draw.exponential(1.0 / (quiet * BUSY));
        }
    }
    tasks.sort_by(|a, b| a.arrival.total_cmp(&b.arrival));
    tasks
}

fn divisions() -> [(&'static str, Division); 3] {
    let cell = |desk: usize| Cell { gpu: desk / 2, gb: 40.0, share: 0.5, owner: Some(desk) };
    let cells: Vec<Cell> = (0..DESKS).map(cell).collect();
    [
        (STATIC, Division::Cells { cells: cells.clone(), fixed: true }),
        (STATIC_BEST, Division::Cells { cells, fixed: false }),
        (DYNAMIC, Division::Demand { allowed: Vec::new() }),
    ]
}

pub(super) fn findings(seeds: Range<u64>, told: &mut dyn FnMut(&str)) -> Findings {
    let host = Host { gpus: 2, gb: 80.0, loss: 0.0, end: (DAYS + 2.0) * DAY_S, from: 2.0 * DAY_S };
    let mut rows: Vec<Row> = Vec::new();
    let mut findings = Vec::new();
    for load in LOADS {
        let case = format!("load {load:.2}");
        told(&case);
        let drawn: Vec<Vec<Task>> = seeds.clone().map(|seed| tasks(load, seed)).collect();
        let from = rows.len();
        for (name, division) in divisions() {
            let runs: Vec<Done> = drawn.iter().map(|tasks| flow(host, &division, tasks)).collect();
            rows.push(row(&case, name, &runs));
        }
        findings.push(sentence(load, &rows[from], &rows[from + 1], &rows[from + 2]));
    }
    findings.push(nearest(&rows));
    Findings {
        scenario: "risk-models",
        claim: claim("risk-models"),
        runs: seeds.end - seeds.start,
        assumptions: assumptions(),
        rows,
        findings,
    }
}

fn sentence(load: f64, fixed: &Row, best: &Row, dynamic: &Row) -> String {
    format!(
        "At a load of {load:.2}: utilisation {:.0} -> {:.0} %, training time {} (with best effort in static cells {:.0} %, {}).",
        fixed.utilisation_percent.mean,
        dynamic.utilisation_percent.mean,
        change(fixed.turnaround_h.mean, dynamic.turnaround_h.mean),
        best.utilisation_percent.mean,
        change(fixed.turnaround_h.mean, best.turnaround_h.mean),
    )
}

/// Says what dynamic division comes to where static division is nearest to the claimed 65 %.
fn nearest(rows: &[Row]) -> String {
    let far = |row: &&Row| (row.utilisation_percent.mean - 65.0).abs();
    let fixed = rows.iter().filter(|row| row.division == STATIC).min_by(|a, b| far(a).total_cmp(&far(b)));
    let dynamic = fixed.and_then(|fixed| {
        rows.iter()
            .find(|row| row.division == DYNAMIC && row.case == fixed.case)
            .map(|dynamic| (fixed, dynamic))
    });
    let Some((fixed, dynamic)) = dynamic else { return String::new() };
    let gained = dynamic.utilisation_percent.mean - fixed.utilisation_percent.mean;
    let verdict = if gained >= 20.0 {
        "The claimed 92 % is near that"
    } else {
        "The claimed 92 % is not reached there"
    };
    format!(
        "Static division is nearest to the claimed 65 % at {}, with {:.1} %; dynamic division has {:.1} % there, and \
         its training time changes by {}. {verdict}: as long as everything gets done, utilisation is what is asked for, however it is \
         divided.",
        fixed.case,
        fixed.utilisation_percent.mean,
        dynamic.utilisation_percent.mean,
        change(fixed.turnaround_h.mean, dynamic.turnaround_h.mean),
    )
}

fn assumptions() -> Vec<String> {
    [
        "Two GPUs of 80 GB, four desks that train models. Each desk asks for four times as much in its six busy hours \
         of the day, which follow one another, as in the other eighteen.",
        "A training needs 10, 20 or 40 GB (.4/.4/.2) and 1.5 h of a whole GPU in the mean, exponentially distributed, \
         and can use four fifths of a GPU at most.",
        "Static: each desk owns 40 GB and half the compute of one GPU; one training at a time, the others wait. Fixed \
         shares leave what a desk does not use idle; best effort gives it to the other desk of the same GPU.",
        "Dynamic: a training takes the memory it needs on the GPU with fewer trainings, and they share its compute \
         evenly. Making a slice takes no time, and sharing within one class costs nothing.",
        "Training time is from the request to the end, with the time in the line. Two days fill the GPUs, 28 count.",
    ]
    .map(str::to_owned)
    .to_vec()
}
