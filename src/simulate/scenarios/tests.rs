use super::flow::{Cell, Division, Host, Task, flow};
use super::*;

const HOST: Host = Host { gpus: 1, gb: 80.0, loss: 0.25, end: 100.0, from: 0.0 };

fn task(arrival: f64, work: f64, most: f64, class: usize) -> Task {
    Task { arrival, work, most, gb: 40.0, owner: class, class }
}

fn demand() -> Division {
    Division::Demand { allowed: Vec::new() }
}

#[test]
fn what_runs_shares_a_gpu_and_leaves_what_it_cannot_use() {
    // The first uses 0.25 at most, so the second has 0.75: 30 takes 40 s; 10 takes 40 s.
    let done = flow(HOST, &demand(), &[task(0.0, 10.0, 0.25, 0), task(0.0, 30.0, 1.0, 0)]);
    assert!((done.turnaround_s - 40.0).abs() < 1e-6, "{done:?}");
    assert!((done.utilisation_percent - 40.0).abs() < 1e-6 && (done.done_percent - 100.0).abs() < 1e-6);
    assert!((done.memory_percent - 40.0).abs() < 1e-6);
}

#[test]
fn several_classes_on_a_gpu_cost_a_part_of_it() {
    // Three quarters are left: 15 each at 0.375 take 40 s.
    let done = flow(HOST, &demand(), &[task(0.0, 15.0, 1.0, 0), task(0.0, 15.0, 1.0, 1)]);
    assert!((done.turnaround_s - 40.0).abs() < 1e-6, "{done:?}");
}

#[test]
fn a_cell_serves_its_owner_one_at_a_time() {
    let cell = |owner| Cell { gpu: 0, gb: 40.0, share: 0.5, owner: Some(owner) };
    let tasks = [task(0.0, 10.0, 1.0, 0), task(0.0, 10.0, 1.0, 0)];
    let fixed = flow(HOST, &Division::Cells { cells: vec![cell(0), cell(1)], fixed: true }, &tasks);
    // Half the GPU each in turn: 20 s and 40 s.
    assert!((fixed.turnaround_s - 30.0).abs() < 1e-6 && (fixed.waiting_s - 10.0).abs() < 1e-6, "{fixed:?}");
    let best = flow(HOST, &Division::Cells { cells: vec![cell(0), cell(1)], fixed: false }, &tasks);
    assert!((best.turnaround_s - 15.0).abs() < 1e-6, "{best:?}");
}

#[test]
fn no_task_is_lost_and_no_gpu_does_more_than_it_can() {
    for (name, _) in SCENARIOS {
        let found = scenario(name, (1, 1), &mut |_| {}).expect("a scenario");
        assert!(!found.assumptions.is_empty() && !found.findings.is_empty());
        for row in &found.rows {
            let used = row.utilisation_percent.mean;
            assert!((1.0..=100.0 + 1e-6).contains(&used), "{name} {row:?}");
            assert!(row.waiting_h.mean <= row.turnaround_h.mean && row.memory_percent.mean <= 100.0 + 1e-6);
        }
        assert_eq!(scenario(name, (1, 1), &mut |_| {}), Some(found), "the same seed gives the same figures");
    }
    assert!(scenario("trading", (1, 1), &mut |_| {}).is_none());
}

#[test]
fn dynamic_division_is_never_slower_than_fixed_cells() {
    let found = scenario("risk-models", (1, 1), &mut |_| {}).expect("a scenario");
    for rows in found.rows.chunks(3) {
        assert!(rows[2].turnaround_h.mean < rows[0].turnaround_h.mean, "{:?}", rows[0].case);
        assert!(
            rows[2].utilisation_percent.mean > rows[0].utilisation_percent.mean - 0.5,
            "{:?}",
            rows[0].case
        );
    }
}
