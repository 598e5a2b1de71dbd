//! `imaging`: rendering and AI on two GPUs, kept apart or mixed.

use std::ops::Range;

use crate::fleet::slots::Draw;
use crate::simulate::scenarios::flow::{Division, Done, Host, Task, flow};
use crate::simulate::scenarios::{Findings, Row, change, claim, row};

const HOUR_S: f64 = 3_600.0;
/// Hours that count, after ten that fill the GPUs.
const HOURS: f64 = 150.0;
/// The part of the work that is rendering.
const RENDER: [f64; 3] = [0.3, 0.5, 0.7];
/// The part of a GPU that is lost while both run on it. 0.24 is what NVIDIA measured for time slicing against hard
/// partitions in a voice pipeline (1.00 against 0.76 requests/s for each GPU, A100, 2026).
const LOSSES: [f64; 4] = [0.0, 0.1, 0.24, 0.35];
/// More than the GPUs can do, so that what gets done is what they can do.
const LOAD: f64 = 1.5;

const MIXED: &str = "mixed";
const APART: &str = "kept apart";

fn tasks(render: f64, seed: u64) -> Vec<Task> {
    let mut draw = Draw::new(seed);
    let end = (HOURS + 10.0) * HOUR_S;
    // Class 0: a rendering of a study; class 1: an AI job.
    let classes = [(render, 600.0, 0.5, 4.0), (1.0 - render, 900.0, 1.0, 12.0)];
    let mut tasks = Vec::new();
    for (class, (part, work, most, gb)) in classes.into_iter().enumerate() {
        let gap = work / (LOAD * 2.0 * part);
        let mut arrival = draw.exponential(gap);
        while arrival < end {
            let work = draw.exponential(work);
            tasks.push(Task { arrival, work, most, gb, owner: class, class });
            arrival += draw.exponential(gap);
        }
    }
    tasks.sort_by(|a, b| a.arrival.total_cmp(&b.arrival));
    tasks
}

pub(super) fn findings(seeds: Range<u64>, told: &mut dyn FnMut(&str)) -> Findings {
    let divisions = [
        (MIXED, Division::Demand { allowed: Vec::new() }),
        (APART, Division::Demand { allowed: vec![vec![0], vec![1]] }),
    ];
    let mut rows: Vec<Row> = Vec::new();
    let mut findings = Vec::new();
    for render in RENDER {
        let drawn: Vec<Vec<Task>> = seeds.clone().map(|seed| tasks(render, seed)).collect();
        let mut said = Vec::new();
        for loss in LOSSES {
            let case = format!("{:.0} % rendering, {:.0} % lost when mixed", 100.0 * render, 100.0 * loss);
            told(&case);
            let host = Host { gpus: 2, gb: 48.0, loss, end: (HOURS + 10.0) * HOUR_S, from: 10.0 * HOUR_S };
            let from = rows.len();
            for (name, division) in &divisions {
                let runs: Vec<Done> = drawn.iter().map(|tasks| flow(host, division, tasks)).collect();
                rows.push(row(&case, name, &runs));
            }
            let [mixed, apart] = [&rows[from], &rows[from + 1]];
            let gain = change(mixed.utilisation_percent.mean, apart.utilisation_percent.mean);
            said.push(format!("{gain} where mixing loses {:.0} %", 100.0 * loss));
        }
        findings.push(format!(
            "With {:.0} % rendering, keeping apart changes the throughput by {}.",
            100.0 * render,
            said.join(", ")
        ));
    }
    findings.push(
        "What isolation gains is what mixing loses, x/(1-x) at most; +40 % needs a loss of 29 % and work that is evenly \
         divided between the GPUs. The scenario does not say how large the loss is on real hardware."
            .to_owned(),
    );
    Findings {
        scenario: "imaging",
        claim: claim("imaging"),
        runs: seeds.end - seeds.start,
        assumptions: assumptions(),
        rows,
        findings,
    }
}

fn assumptions() -> Vec<String> {
    [
        "Two GPUs of 48 GB. Renderings need 4 GB and 10 min of a whole GPU, and can use half of it; AI jobs need 12 GB \
         and 15 min, and can use all of it; both exponentially distributed.",
        "One and a half times as much is asked for as the GPUs can do, so that throughput is what they can do.",
        "Mixed: each goes to the GPU with fewer tasks that has room; while both classes run on a GPU, it loses the part \
         that is stated. Kept apart: GPU 0 renders, GPU 1 does AI, and helps out with nothing else.",
        "Ten hours fill the GPUs, 150 count.",
    ]
    .map(str::to_owned)
    .to_vec()
}
