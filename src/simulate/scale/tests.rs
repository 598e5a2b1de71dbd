use super::*;
use crate::fleet::shares::Policy;
use crate::simulate::slots::Mix;

#[test]
fn small_fleets_are_measured_and_stay_small() {
    let mix: Mix = "d4".parse().expect("a mix");
    let mut paces = Vec::new();
    for gpus in [2, 64, 1000] {
        let pace = slots(("h100-80", &mix), "vgpud", gpus, 400).expect("a board").expect("a policy");
        assert_eq!((pace.gpus, pace.decisions), (gpus, 400));
        assert!(pace.held > 0 && pace.ns.p50 > 0 && pace.ns.p50 <= pace.ns.p99 && pace.ns.p99 <= pace.ns.max);
        assert!(pace.bytes_per_gpu <= 64.0, "{} bytes a GPU", pace.bytes_per_gpu);
        assert!(pace.held < 100 || pace.bytes_per_held <= 64.0, "{} bytes a slice", pace.bytes_per_held);
        paces.push(pace);
    }
    assert!(growth(&paces).is_some_and(f64::is_finite));
    assert_eq!(growth(&paces[..1]), None);
}

#[test]
fn shares_are_measured_under_every_kind_of_rule() {
    for policy in [Policy::FirstFit, Policy::FgdExact, Policy::Formula] {
        let pace = nodes(policy, 300, 300);
        assert!(pace.held > 50, "{policy}: half full");
        assert!(pace.ns.p50 > 0 && pace.per_second > 0.0);
    }
}

#[test]
fn the_storm_refuses_only_what_has_no_place() {
    let storm = storm("first-fit").expect("ships").expect("known");
    assert_eq!(storm.desktops, 10_000);
    assert!(storm.refused < 2_000 && storm.ns.p50 > 0);
    assert!(super::storm("no-such").expect("ships").is_none());
}

#[test]
fn growth_is_the_exponent_of_a_power() {
    let pace = |gpus: usize, p50| Pace {
        engine: "slots",
        policy: String::new(),
        gpus,
        held: 0,
        decisions: 0,
        per_second: 0.0,
        ns: Nanoseconds { p50, p99: 0, max: 0 },
        release_ns: Nanoseconds::default(),
        bytes_per_gpu: 0.0,
        bytes_per_held: 0.0,
        table_bytes: 0,
    };
    let found = growth(&[pace(10, 100), pace(1000, 1000)]).expect("two fleets");
    assert!((found - 0.5).abs() < 1e-9, "{found}");
}
