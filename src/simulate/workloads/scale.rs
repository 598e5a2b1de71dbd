//! W6: fleets of any size.

use crate::fleet::slots::Draw;
use crate::simulate::replay::{Workload, WorkloadError};
use crate::simulate::workloads::{Arrivals, Order, capacity};

const HOUR_S: f64 = 3_600.0;

pub(super) fn draw(order: &Order<'_>) -> Result<Workload, WorkloadError> {
    let (gb, board) = capacity(&order.fleet);
    let stream = Arrivals {
        sizes: vec![(board / 10.0, 30), (board / 8.0, 30), (board / 4.0, 25), (board / 2.0, 15)],
        lives: vec![(HOUR_S, 1)],
        priorities: vec![(0, 1)],
        owners: 100,
        class: "slice",
        wait: None,
    };
    let mut draw = Draw::new(order.seed);
    let wanted = gb * order.load;
    let mean_gb = stream.mean_gb_s() / HOUR_S;
    let mut rows = Vec::new();
    // What is there at the beginning: lives are memoryless, so it looks as after a long time.
    let mut there = 0.0;
    while there < wanted {
        rows.push(stream.at(&mut draw, 0.0));
        there += mean_gb;
    }
    let gap = mean_gb * HOUR_S / wanted.max(1.0);
    let mut now = 1.0;
    for _ in 0..order.requests {
        now += draw.exponential(gap);
        rows.push(stream.at(&mut draw, now));
    }
    let work = Workload::new("W6", rows, &order.fleet)?.counting_from(1.0);
    let requests = order.requests;
    Ok(work.noting([format!(
        "Slices of a tenth, an eighth, a quarter and half a GPU (.3/.3/.25/.15) fill the fleet at once; then {requests} \
         come and go, exponentially distributed about an hour."
    )]))
}
