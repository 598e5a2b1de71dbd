//! Who is next.

use super::*;
use proptest::prelude::*;

fn waiting(number: u32, priority: i32, since: i64) -> Waiting {
    let uuid = format!("00000000-0000-4000-8000-{number:012}").parse().expect("uuid");
    let domain = DomainRef { uuid, name: format!("web{number}") };
    Waiting { ticket: 0, domain, priority, since, until: since + 600, why: String::new() }
}

fn names(queue: &Queue, now: i64) -> Vec<String> {
    queue.line(now).into_iter().map(|one| one.domain.name).collect()
}

fn gpu(name: &str) -> GpuId {
    format!("virtual:{name}").parse().expect("id")
}

fn standing(ticket: u64, fits: bool, gpus: &[&str], waited: i64) -> Standing {
    Standing { ticket, fits, gpus: gpus.iter().map(|name| gpu(name)).collect(), waited }
}

#[test]
fn priority_decides_then_who_came_first_and_waiting_counts() {
    let mut queue = Queue::default();
    for one in [waiting(1, 0, 100), waiting(2, 5, 110), waiting(3, 5, 105)] {
        queue.join(one).expect("a ticket");
    }
    assert_eq!(names(&queue, 110), ["web3", "web2", "web1"]);
    queue.join(waiting(4, 5, 200)).expect("a ticket");
    assert_eq!(names(&queue, 200), ["web3", "web2", "web1", "web4"], "web1 waited for 100 s: 10 of priority");
}

#[test]
fn a_domain_waits_once_and_can_be_cancelled() {
    let mut queue = Queue::default();
    let ticket = queue.join(waiting(1, 0, 0)).expect("a ticket");
    let refusal = queue.join(waiting(1, 9, 1)).expect_err("twice");
    assert_eq!(refusal.kind, Kind::Conflict);
    queue.note(ticket, "both GPUs are full");
    assert_eq!(queue.line(0)[0].why, "both GPUs are full");
    assert!(queue.cancel(waiting(1, 0, 0).domain.uuid) && !queue.holds(ticket));
    assert!(!queue.leave(ticket), "gone already");
    let again = queue.join(waiting(1, 0, 2)).expect("a ticket");
    assert!(again > ticket && queue.leave(again));
}

#[test]
fn the_line_is_bounded() {
    let mut queue = Queue::default();
    for number in 0..64 {
        queue.join(waiting(number, 0, 0)).expect("a ticket");
    }
    assert_eq!(queue.join(waiting(64, 0, 0)).expect_err("one too many").kind, Kind::Busy);
}

#[test]
fn who_does_not_fit_is_passed_until_it_holds_the_line() {
    let (big, small, other) =
        (standing(1, false, &["a", "b"], 59), standing(2, true, &["a"], 5), standing(3, true, &["c"], 1));
    assert_eq!(next(&[big.clone(), small.clone(), other.clone()]), Some(2));
    let holds = Standing { waited: HOLDS_S, ..big };
    assert_eq!(
        next(&[holds.clone(), small.clone(), other]),
        Some(3),
        "one that takes nothing of it may pass"
    );
    assert_eq!(next(&[holds.clone(), small]), None);
    assert_eq!(next(&[Standing { fits: true, ..holds }]), Some(1));
    assert_eq!(next(&[]), None);
}

fn any_line() -> impl Strategy<Value = Vec<Standing>> {
    let gpus = proptest::collection::btree_set(proptest::sample::select(vec!["a", "b", "c"]), 0..3);
    let one = (any::<bool>(), gpus, 0i64..200);
    proptest::collection::vec(one, 0..8).prop_map(|line| {
        (1..)
            .zip(line)
            .map(|(ticket, (fits, gpus, waited))| standing(ticket, fits, &Vec::from_iter(gpus), waited))
            .collect()
    })
}

proptest! {
    /// Whoever goes fits and takes nothing of one that holds the line ahead of it; and nobody ahead of it could go.
    #[test]
    fn nobody_takes_the_room_of_one_that_holds_the_line(line in any_line()) {
        let allowed = |at: usize| {
            line[at].fits && line[..at].iter().all(|ahead| {
                ahead.waited < HOLDS_S || ahead.gpus.is_disjoint(&line[at].gpus)
            })
        };
        let expected = (0..line.len()).find(|at| allowed(*at)).map(|at| line[at].ticket);
        prop_assert_eq!(next(&line), expected);
    }

    /// No start starves: one that came more than the greatest difference of priorities later never stands ahead.
    #[test]
    fn waiting_beats_every_priority_in_the_end(
        early in -1000i32..=1000, late in -1000i32..=1000, gap in 0i64..40_000, after in 0i64..40_000,
    ) {
        let mut queue = Queue::default();
        queue.join(waiting(1, early, 0)).expect("a ticket");
        queue.join(waiting(2, late, gap)).expect("a ticket");
        let first = names(&queue, gap + after)[0].clone();
        if gap > (i64::from(late) - i64::from(early) + 1) * AGE_S {
            prop_assert_eq!(first.as_str(), "web1");
        }
        // Both age alike: nearly, as whole points are counted, who is ahead at first stays so.
        if i64::from(late) > i64::from(early) + gap / AGE_S + 1 {
            prop_assert_eq!(first.as_str(), "web2");
        }
    }
}
