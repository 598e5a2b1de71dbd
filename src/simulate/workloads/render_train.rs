//! W4: desktops by day, jobs that wait by day and night.

use crate::fleet::slots::Draw;
use crate::simulate::replay::{Workload, WorkloadError};
use crate::simulate::workloads::{Arrivals, Order, capacity};

const HOUR_S: f64 = 3_600.0;
const DAY_S: f64 = 24.0 * HOUR_S;
/// Days that fill the fleet, and days that count.
const DAYS: (f64, f64) = (2.0, 14.0);
/// The part of the demand that the desktops are.
const DESKTOPS: f64 = 0.4;

/// Returns how much of the most desktops are switched on at a time: little at night, most at 10 and 15 o'clock.
fn rhythm(at: f64) -> f64 {
    let hour = at % DAY_S / HOUR_S;
    let about = |middle: f64| (-((hour - middle) / 2.5).powi(2)).exp();
    (0.05 + about(10.0) + 0.9 * about(15.0)).min(1.0)
}

pub(super) fn draw(order: &Order<'_>) -> Result<Workload, WorkloadError> {
    let (gb, board) = capacity(&order.fleet);
    let desktops = Arrivals {
        sizes: vec![(2.0, 40), (4.0, 40), (8.0, 20)],
        lives: vec![(4.0 * HOUR_S, 1)],
        priorities: vec![(0, 1)],
        owners: 12,
        class: "desktop",
        wait: Some(0.0),
    };
    let jobs = Arrivals {
        sizes: vec![(board / 2.0, 60), (board, 40)],
        lives: vec![(HOUR_S, 60), (4.0 * HOUR_S, 30), (16.0 * HOUR_S, 10)],
        priorities: vec![(0, 60), (5, 30), (10, 10)],
        owners: 6,
        class: "job",
        wait: Some(f64::INFINITY),
    };
    let end = (DAYS.0 + DAYS.1) * DAY_S;
    let mut draw = Draw::new(order.seed);
    let minutes = (0..24 * 60).map(f64::from);
    let mean_rhythm = minutes.map(|minute| rhythm(minute * 60.0)).sum::<f64>() / (24.0 * 60.0);
    let wanted = gb * order.load;
    let gap = desktops.mean_gb_s() * mean_rhythm / (wanted * DESKTOPS);
    let mut rows = desktops.stream(&mut draw, (gap, end), rhythm);
    let gap = jobs.mean_gb_s() / (wanted * (1.0 - DESKTOPS));
    rows.extend(jobs.stream(&mut draw, (gap, end), |_| 1.0));
    let work = Workload::new("W4", rows, &order.fleet)?.counting_from(DAYS.0 * DAY_S).going_on_until(end);
    Ok(work.noting([
        "Desktops of 2, 4 and 8 GB (.4/.4/.2) run for 4 h in the mean and are refused when nothing fits; most are \
         switched on at 10 and 15 o'clock, a twentieth of that at night.",
        "Jobs of half a GPU and a whole one (.6/.4) run for 1, 4 or 16 h in the mean (.6/.3/.1), have priority 0, 5 \
         or 10 (.6/.3/.1) and wait for ever.",
        "Desktops are two fifths of the demand. Two days fill the fleet, fourteen are counted.",
    ]))
}
