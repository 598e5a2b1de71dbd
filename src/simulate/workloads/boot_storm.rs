//! W3: all desktops of a site are switched on within a minute.

use crate::fleet::slots::Draw;
use crate::simulate::replay::{Workload, WorkloadError};
use crate::simulate::workloads::{Arrivals, Order, capacity};

/// Seconds of the storm, and seconds over which the desktops leave after it.
const STORM_S: f64 = 60.0;
const LEAVING_S: f64 = 36_000.0;

pub(super) fn draw(order: &Order<'_>) -> Result<Workload, WorkloadError> {
    let mut draw = Draw::new(order.seed);
    let desktops = Arrivals {
        sizes: vec![(1.0, 30), (2.0, 40), (4.0, 20), (8.0, 10)],
        lives: vec![(1.0, 1)],
        priorities: vec![(0, 1)],
        owners: 40,
        class: "desktop",
        wait: None,
    };
    let gb = capacity(&order.fleet).0 * order.load;
    let mut rows = Vec::new();
    let mut asked = 0.0;
    while asked < gb {
        let arrival = draw.unit() * STORM_S;
        let mut row = desktops.at(&mut draw, arrival);
        row.life = STORM_S - arrival + draw.unit() * LEAVING_S;
        asked += if let crate::simulate::replay::Asked::Gb(gb) = row.asked { gb } else { 0.0 };
        rows.push(row);
    }
    let count = rows.len();
    let work = Workload::new("W3", rows, &order.fleet)?.going_on_until(STORM_S + LEAVING_S);
    Ok(work.noting([
        format!("{count} desktops of 1, 2, 4 and 8 GB (.3/.4/.2/.1) are asked for within 60 s, evenly."),
        "They leave over 10 h, evenly. Hosts have CPU and memory enough; only GPUs decide.".to_owned(),
    ]))
}
