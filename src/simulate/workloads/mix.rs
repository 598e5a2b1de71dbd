//! Requests of a mix of sizes, for a look at single runs: filling a fleet, or keeping it busy.

use crate::fleet::slots::Draw;
use crate::simulate::replay::{Asked, Fleet, Row, Workload, WorkloadError};
use crate::simulate::slots::Mix;
use crate::simulate::workloads::capacity;

/// Percent of the capacity that is asked for when a fleet is filled.
const FILL: f64 = 130.0;

/// Draws requests of a mix; `gb` says the GB of each of its sizes. With a load they come and live about a second,
/// `requests` of them after as many as fill the fleet; without one they stay, and the time is the percent of the
/// capacity that was asked for.
///
/// # Errors
/// When a size fits on no board.
pub fn of_mix(
    (mix, gb): (&Mix, &[u32]),
    fleet: &Fleet,
    (load, requests): (Option<f64>, usize),
    seed: u64,
) -> Result<Workload, WorkloadError> {
    let mut draw = Draw::new(seed);
    let weights: Vec<u32> = mix.sizes.iter().map(|(_, weight)| *weight).collect();
    let all = capacity(fleet).0.max(1.0);
    let mut rows = Vec::new();
    let mut one = |draw: &mut Draw, arrival: f64, life: f64| {
        let at = draw.weighted(&weights);
        let name = mix.sizes.get(at).map_or("", |(name, _)| name).to_owned();
        let (class, owner) = (format!("{name} GB"), "-".to_owned());
        let row = Row {
            line: 0,
            arrival,
            life,
            owner,
            asked: Asked::Profile(name),
            class,
            priority: 0,
            wait: None,
        };
        rows.push(row);
        f64::from(gb.get(at).copied().unwrap_or(1))
    };
    let Some(load) = load else {
        let mut asked = 0.0;
        while asked < FILL {
            asked += 100.0 * one(&mut draw, asked, f64::INFINITY) / all;
        }
        return Ok(Workload::new(&mix.name, rows, fleet)?.going_on_until(FILL));
    };
    let weighted =
        weights.iter().zip(gb).map(|(weight, gb)| f64::from(*weight) * f64::from(*gb)).sum::<f64>();
    let mean = weighted / weights.iter().map(|weight| f64::from(*weight)).sum::<f64>().max(1.0);
    let gap = mean / (load * all);
    // After five lives the fleet is as busy as it will be.
    let begin = 5.0;
    let mut now = 0.0;
    let mut counted = 0;
    while counted < requests {
        now += draw.exponential(gap);
        let life = draw.exponential(1.0);
        one(&mut draw, now, life);
        counted += usize::from(now > begin);
    }
    Ok(Workload::new(&mix.name, rows, fleet)?.counting_from(begin))
}
