use std::collections::BTreeMap;

use super::*;
use crate::simulate::replay::{Contender, Discipline, Outcome, Record, Rounding, replay};

fn order(card: &Card, gpus: usize) -> Order<'static> {
    let (boards, profiles) = (vec![card.board.to_owned()], BTreeMap::new());
    let fleet = Fleet { boards, gpus, rounding: Rounding::Up, profiles, wait: 0.0 };
    Order { fleet, load: card.load, seed: 1, requests: 2_000, tasks: None }
}

fn outcome(work: &Workload, contender: &str) -> Outcome {
    let contender: Contender = contender.parse().expect("a contender");
    let prepared = contender.prepare(work, Discipline::Lost, 0, 1);
    let run = replay(work, &prepared, Record::default(), &mut |_| {});
    Outcome::of(&contender.name, "lost", &work.classes, &[run])
}

#[test]
fn every_workload_is_the_same_for_the_same_seed_and_another_for_another() {
    for card in CARDS.iter().filter(|card| card.named != Named::W2) {
        let order = order(card, 8);
        let first = card.draw(&order).expect(card.name);
        assert_eq!(first.jobs, card.draw(&order).expect(card.name).jobs, "{}", card.name);
        let other = card.draw(&Order { seed: 2, ..order }).expect(card.name);
        assert_ne!(first.jobs, other.jobs, "{}", card.name);
        assert!(!first.notes.is_empty());
        for contender in card.policies.split(',') {
            assert!(contender.parse::<Contender>().is_ok(), "{contender}");
        }
    }
    assert_eq!(Card::named("w3").map(|card| card.word), Some("boot-storm"));
    assert!(Card::named("W1").is_none());
}

#[test]
fn the_storm_asks_for_its_part_of_the_fleet_within_a_minute() {
    let card = Card::named("W3").expect("W3");
    let work = card.draw(&order(&card, 640)).expect("a workload");
    assert!((9_700..10_300).contains(&work.jobs.len()), "{}", work.jobs.len());
    assert!(work.jobs.iter().all(|job| job.arrival < 60.0 && job.life <= 36_060.0));
}

#[test]
fn in_a_storm_gpus_of_one_size_take_what_mixed_ones_refuse() {
    let card = Card::named("W3").expect("W3");
    let work = card.draw(&order(&card, 32)).expect("a workload");
    let refused = |contender: &str| outcome(&work, contender).gb_refused_percent.mean;
    assert!(refused("first-fit") > 8.0, "{}", refused("first-fit"));
    assert!(refused("vgpud") < 0.5, "{}", refused("vgpud"));
}

#[test]
fn streams_ask_for_the_load_they_name() {
    for (name, gpus) in [("W4", 16), ("W6", 64)] {
        let card = Card::named(name).expect("known");
        let work = card.draw(&Order { requests: 20_000, ..order(&card, gpus) }).expect("a workload");
        let load = work.load().expect("a load");
        assert!((load - card.load).abs() < 0.08 * card.load, "{name}: {load}");
    }
}

#[test]
fn the_adversary_hurts_and_a_pool_takes_all() {
    let card = Card::named("W5").expect("W5");
    let work = card.draw(&order(&card, 8)).expect("a workload");
    let pool = outcome(&work, "one-pool");
    assert!(pool.gb_refused_percent.mean < 5.0, "{:?}", pool.gb_refused_percent);
    let first = outcome(&work, "first-fit");
    assert!(first.gb_refused_percent.mean > pool.gb_refused_percent.mean + 5.0, "{:?}", first.refused);
}

#[test]
fn openb_tasks_become_slices_and_their_times_are_stretched() {
    let mut list = "name,num_gpu,gpu_milli,qos,creation_time,deletion_time,scheduled_time\n".to_owned();
    for at in 0..400_u32 {
        let share = [250, 460, 1000, 500][(at % 4) as usize];
        list.push_str(&format!(
            "t{at},1,{share},LS,{},{},{}\n",
            at * 10,
            at * 10 + 500 + at % 7 * 100,
            at * 10 + 5
        ));
    }
    list.push_str("cpu,0,,LS,1,2,1\npair,2,1000,LS,1,2,1\nnever,1,500,LS,7,,\n");
    let card = Card::named("W2").expect("W2");
    let order = Order { tasks: Some(&list), seed: 0, load: 0.7, ..order(&card, 4) };
    let work = card.draw(&order).expect("a workload");
    assert_eq!(work.jobs.len(), 400);
    let sizes: Vec<&str> = work.setup.catalog.sizes.iter().map(|size| size.name.as_str()).collect();
    assert_eq!(sizes, ["20", "40", "80"]);
    // 460/1000 of 80 GB are 36.8, which 40 holds: the load grows by what rounding adds.
    assert!(work.rounded_percent > 1.0);
    let load = work.load().expect("a load") / (1.0 + work.rounded_percent / 100.0);
    assert!((load - 0.7).abs() < 0.02, "{load}");
    let other = card.draw(&Order { seed: 3, ..order.clone() }).expect("a workload");
    assert!(other.jobs != work.jobs && other.jobs.len() == work.jobs.len());
    assert!(matches!(card.draw(&Order { tasks: None, ..order.clone() }), Err(NamedError::NoTasks)));
    let fault = card.draw(&Order { tasks: Some("name,num_gpu\n"), ..order }).expect_err("no times");
    assert!(fault.to_string().contains("gpu_milli"), "{fault}");
}
