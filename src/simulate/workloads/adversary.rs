//! W5: the worst that can come one after another.

use crate::fleet::slots::Draw;
use crate::simulate::replay::{Asked, Row, Workload, WorkloadError};
use crate::simulate::workloads::{Order, capacity};

/// How often it is done.
const ROUNDS: u32 = 20;
/// Seconds of a round.
const ROUND_S: f64 = 1_000.0;

fn row(arrival: f64, end: f64, gb: f64, class: &str) -> Row {
    let (asked, class, owner) = (Asked::Gb(gb), class.to_owned(), class.to_owned());
    Row { line: 0, arrival, life: end - arrival, owner, asked, class, priority: 0, wait: None }
}

pub(super) fn draw(order: &Order<'_>) -> Result<Workload, WorkloadError> {
    let (gb, board) = capacity(&order.fleet);
    let mut draw = Draw::new(order.seed);
    let mut rows = Vec::new();
    for round in 0..ROUNDS {
        let begin = f64::from(round) * ROUND_S;
        // Small ones until the fleet is full; every second one leaves at 300 s, the rest at the end.
        let small = [board / 20.0, board / 10.0][draw.below(2)];
        let odd = draw.below(2);
        let mut asked = 0.0;
        for number in 0.. {
            if asked >= gb * order.load {
                break;
            }
            let goes = if number % 2 == odd { 300.0 } else { ROUND_S - 1.0 };
            let arrival = begin + 100.0 * asked / gb.max(1.0);
            rows.push(row(arrival, begin + goes, small, "small"));
            asked += small;
        }
        // Then large ones for what was freed.
        let mut asked = 0.0;
        while asked < gb * order.load / 2.0 {
            let large = [board / 4.0, board / 2.0, board][draw.below(3)];
            rows.push(row(
                begin + 400.0 + 100.0 * asked / gb.max(1.0),
                begin + ROUND_S - 1.0,
                large,
                "large",
            ));
            asked += large;
        }
    }
    let work = Workload::new("W5", rows, &order.fleet)?.going_on_until(f64::from(ROUNDS) * ROUND_S);
    Ok(work.noting([
        "Twenty rounds: small slices until the fleet is full; every second of them leaves; then a quarter, a half or \
         a whole GPU is asked for until as much has been asked as was freed; then everything leaves.",
    ]))
}
