use super::*;

fn fleet(board: &str, gpus: usize, wait: f64) -> Fleet {
    let (boards, profiles) = (vec![board.to_owned()], std::collections::BTreeMap::new());
    Fleet { boards, gpus, rounding: Rounding::Up, profiles, wait }
}

fn work(csv: &str, board: &str, gpus: usize, wait: f64) -> Workload {
    let trace = Trace::parse(csv).expect("a trace");
    Workload::new("test", trace.rows, &fleet(board, gpus, wait)).expect("a workload")
}

fn outcome(work: &Workload, contender: &str) -> Outcome {
    let (outcome, _) = with_run(work, contender);
    outcome
}

fn with_run(work: &Workload, contender: &str) -> (Outcome, Run) {
    let contender: Contender = contender.parse().expect("a contender");
    let prepared = contender.prepare(work, Discipline::Lost, 0, 1);
    let run = replay(work, &prepared, Record { course: true, map: true }, &mut |_| {});
    (Outcome::of(&contender.name, "lost", &work.classes, std::slice::from_ref(&run)), run)
}

/// One 80 GB GPU. 40 + 40 fill it from 0 to 100; two more come meanwhile.
const FULL: &str = "arrival,departure,owner,size,class,priority,wait\n0,100,a,40,ai,0,\n0,100,a,40,ai,0,\n\
                    10,110,b,40,ai,0,ever\n20,120,c,40,ai,9,ever\n30,40,d,40,render,0,\n200,200,d,4,render,0,\n";

#[test]
fn what_does_not_fit_is_refused_or_waits_and_runs_its_whole_life_later() {
    let work = work(FULL, "h100-80", 1, 0.0);
    let (outcome, run) = with_run(&work, "first-fit/fifo");
    let ai = &outcome.classes[0];
    assert_eq!((ai.class.as_str(), ai.asked, ai.refused, ai.waiting), ("ai", 4, 0, 0));
    // They came at 10 and 20 and began at 100.
    assert_eq!((ai.delay.requests, ai.delay.mean_s, ai.delay.most_s), (2, 85.0, 90.0));
    assert_eq!(ai.turnaround_s, (100.0 + 100.0 + 190.0 + 180.0) / 4.0);
    let render = &outcome.classes[1];
    assert_eq!((render.asked, render.refused), (2, 1));
    // Full from 0 to 200.
    assert!((outcome.used_percent.mean - 100.0).abs() < 1e-9);
    assert_eq!(outcome.longest_line, 2);
    let map = run.map.expect("a map");
    assert_eq!(
        map.spans.iter().map(|span| (span.slot, span.from, span.to)).collect::<Vec<_>>(),
        [(0, 0.0, 100.0), (40, 0.0, 100.0), (0, 100.0, 200.0), (40, 100.0, 200.0)]
    );
}

#[test]
fn without_a_line_nobody_waits() {
    let outcome = outcome(&work(FULL, "h100-80", 1, 0.0), "first-fit");
    assert_eq!((outcome.classes[0].refused, outcome.delay.requests), (2, 0));
    assert_eq!(outcome.refused.requests_percent, 50.0);
    assert!((outcome.used_percent.mean - 50.0).abs() < 1e-9);
    // a got all, b and c nothing, d 0 of 400 GB s: its second slice has no time.
    assert!((outcome.fairness.mean - 0.25).abs() < 1e-9);
}

#[test]
fn a_wait_ends_in_a_refusal() {
    let csv = "arrival,departure,size,wait\n0,100,80,\n10,20,80,50\n200,201,4,\n";
    let outcome = outcome(&work(csv, "h100-80", 1, 0.0), "first-fit/backfill");
    assert_eq!((outcome.classes[0].refused, outcome.classes[0].waiting), (1, 0));
}

#[test]
fn the_line_decides_who_goes_first() {
    // At 100 one place of 40 becomes free; b waits since 10, c with priority since 20; a wants all since 5.
    let csv = "arrival,departure,owner,size,priority,wait\n0,100,x,40,0,\n0,9000,x,40,0,\n5,10,a,80,0,ever\n\
               10,1000,b,40,0,ever\n20,1000,c,40,9,ever\n500,500,x,4,0,\n";
    let work = work(csv, "h100-80", 1, 0.0);
    let of = |name: &str| {
        let (outcome, run) = with_run(&work, name);
        let begun = run.map.expect("a map").spans.iter().filter(|span| span.from >= 100.0).count();
        (outcome.classes[0].waiting, begun)
    };
    assert_eq!(of("first-fit/fifo"), (3, 0), "a wants the whole GPU and lets nobody pass");
    assert_eq!(of("first-fit/backfill"), (2, 1), "b passes a");
    assert_eq!(of("first-fit/smallest"), (2, 1));
    // c stands first by its priority and goes; then a has waited for more than 60 s.
    let (outcome, run) = with_run(&work, "first-fit/service");
    assert_eq!(outcome.classes[0].waiting, 2);
    let c = run.map.expect("a map").spans.iter().find(|span| span.from >= 100.0).copied().expect("a span");
    assert_eq!(c.from, 100.0);
    let served = outcome.delay;
    assert_eq!(served.p50_s.min(served.most_s), 490.0, "c waited 80 s, a and b wait since 5 and 10");
}

#[test]
fn no_policy_serves_more_than_a_pool_that_nobody_borders() {
    let mut csv = "arrival,departure,size\n".to_owned();
    for at in 0..400_u32 {
        let size = [8, 10, 20, 40][(at * 7 % 11 % 4) as usize];
        csv.push_str(&format!("{at},{},{size}\n", at + 3 + at * 13 % 17));
    }
    let work = work(&csv, "h100-80", 3, 0.0);
    let pool = outcome(&work, "one-pool").used_percent.mean;
    for name in ["first-fit", "fgd", "vgpud", "same-size", "random", "spread"] {
        let found = outcome(&work, name);
        assert!(found.used_percent.mean <= pool + 2.0, "{name}: {} of {pool}", found.used_percent.mean);
        assert_eq!(found.classes[0].asked, 400);
    }
}

#[test]
fn nothing_lies_upon_another_and_the_course_ends_with_the_run() {
    let mut csv = "arrival,departure,size,wait\n".to_owned();
    for at in 0..300_u32 {
        csv.push_str(&format!("{at},{},{},{}\n", at + 5 + at * 29 % 41, 1 + at * 17 % 30, at % 3 * 20));
    }
    let work = work(&csv, "l40s-48", 2, 0.0);
    for name in ["fgd/backfill", "random/fifo", "pack/service"] {
        let (_, run) = with_run(&work, name);
        let map = run.map.expect("a map");
        for (at, a) in map.spans.iter().enumerate() {
            for b in &map.spans[at + 1..] {
                let apart = a.gpu != b.gpu || a.slot + a.len <= b.slot || b.slot + b.len <= a.slot;
                assert!(apart || a.to <= b.from || b.to <= a.from, "{name}: {a:?} {b:?}");
            }
        }
        let points = run.course.expect("a course").points;
        assert_eq!(points.len(), 241);
        assert!(
            (points[240].at_s - 299.0).abs() < 1e-6 && points.iter().any(|point| point.used_percent > 50.0)
        );
    }
}

#[test]
fn a_request_that_fits_on_no_board_is_named_with_its_line() {
    let trace = Trace::parse("arrival,size\n0,4\n1,96\n").expect("a trace");
    let fault = Workload::new("test", trace.rows, &fleet("h100-80", 1, 0.0)).expect_err("too large");
    assert_eq!(fault.to_string(), "line 3: 96 GB is more than the 80 GB of the largest board");
}
