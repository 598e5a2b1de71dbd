//! The published arrival experiment on the recorded traces, beside references that were computed independently.
//!
//! The traces are others' data and not part of the project. `VGPUD_TRACES` names a folder that holds
//! `openb_node_list_gpu_node.csv.gz` and `openb_pod_list_TRACE.csv.gz`; without it these tests say that they
//! are skipped.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a trace that cannot be read fails the test")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use vgpud::fleet::shares::Policy;
use vgpud::simulate::openb::{Experiment, PolicyResult, Popularity, Trace};

/// Percent allocated at 100 % arrived, means of ten seeds of another simulator.
const REFERENCES: &[(&str, &[(&str, f64)])] = &[
    (
        "default",
        &[
            ("worst-fit", 82.47),
            ("random", 86.48),
            ("dot-product", 90.75),
            ("clustering", 91.93),
            ("packing", 91.94),
            ("best-fit", 92.85),
            ("first-fit", 94.35),
            ("fgd", 95.26),
            ("fgd-exact", 92.84),
            ("fgd-random-ties", 89.94),
            ("best-fit-random-ties", 92.86),
            ("packing-random-ties", 88.64),
        ],
    ),
    ("gpushare100", &[("best-fit", 84.49), ("first-fit", 85.98), ("fgd", 86.59)]),
    ("gpuspec33", &[("best-fit", 80.56), ("first-fit", 93.64), ("fgd", 88.01)]),
];

/// Points by which two means of few seeds may differ.
const NEAR: f64 = 0.5;

/// Every trace, for a build that is quick enough to learn from each.
const TRACES: &[&str] = &[
    "cpu050",
    "cpu100",
    "cpu250",
    "default",
    "gpushare40",
    "gpushare60",
    "gpushare100",
    "gpuspec10",
    "gpuspec20",
    "gpuspec33",
    "multigpu20",
    "multigpu30",
    "multigpu50",
];

/// Returns the folder of the traces, or says that the test is skipped.
fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("VGPUD_TRACES").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: VGPUD_TRACES names no folder of traces");
    }
    folder
}

fn text(path: &Path) -> String {
    let mut text = String::new();
    let file = File::open(path).expect("a trace");
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("gzipped text");
    text
}

fn trace(folder: &Path, name: &str) -> Trace {
    let nodes = text(&folder.join("openb_node_list_gpu_node.csv.gz"));
    Trace::parse(&nodes, &text(&folder.join(format!("openb_pod_list_{name}.csv.gz")))).expect("a trace")
}

fn run(trace: &Trace, policy: &str, (seeds, moves): (u64, f64)) -> PolicyResult {
    let policy: Policy = policy.parse().expect("a policy");
    let experiment = Experiment { seeds, arrived: 101, popularity: Popularity::Trace, values: None, moves };
    experiment.run(trace, policy, &|_| ())
}

fn at_full(result: &PolicyResult) -> f64 {
    result.allocated_percent[&100].mean
}

/// Asserts that no class is refused by more than its limit above first-fit.
fn keeps_the_limits(name: &str, result: &PolicyResult, first: &BTreeMap<&'static str, f64>) {
    for (class, refused) in &result.refused_percent {
        let limit = if *class == "cpu_only" { 3.0 } else { 2.0 };
        let over = refused - first[class];
        assert!(over <= limit, "{name}, {}: {class} is refused {over:.2} points more", result.policy);
    }
}

#[test]
fn every_policy_agrees_with_the_references() {
    let Some(folder) = folder() else { return };
    for (name, references) in REFERENCES {
        let trace = trace(&folder, name);
        for (policy, reference) in *references {
            let found = at_full(&run(&trace, policy, (2, 0.0)));
            assert!((found - reference).abs() <= NEAR, "{name}, {policy}: {found:.2}, not {reference:.2}");
        }
    }
}

#[test]
fn our_policies_are_not_below_first_fit_and_keep_the_limits_of_the_classes() {
    let Some(folder) = folder() else { return };
    // Learning takes a minute a trace without optimisation, so there the closed formula stands for both.
    let (policy, traces) = if cfg!(debug_assertions) {
        println!("only the formula and three traces: the build is not optimised");
        ("vgpud-formula", &["default", "gpushare60", "multigpu30"][..])
    } else {
        ("vgpud", TRACES)
    };
    for name in traces {
        let trace = trace(&folder, name);
        let first = run(&trace, "first-fit", (2, 0.0));
        let ours = run(&trace, policy, (2, 0.0));
        assert!(at_full(&ours) >= at_full(&first), "{name}: {:.2}", at_full(&ours));
        keeps_the_limits(name, &ours, &first.refused_percent);
    }
}

#[test]
fn moves_stay_within_their_part_and_gain() {
    let Some(folder) = folder() else { return };
    let trace = trace(&folder, "gpuspec33");
    let (without, with) = (run(&trace, "vgpud-formula", (1, 0.0)), run(&trace, "vgpud-formula", (1, 1.0)));
    assert!(without.moves.abs() < f64::EPSILON, "none unless asked for");
    let tasks = u32::try_from(trace.tasks.len()).map_or(f64::MAX, f64::from);
    assert!(with.moves > 0.0 && with.moves <= tasks * 0.0105, "{} of {tasks}", with.moves);
    assert!(at_full(&with) > at_full(&without) + 0.3, "{} {}", at_full(&with), at_full(&without));
}
