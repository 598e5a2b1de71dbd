//! What libvirt shows, and what follows from it.

use super::*;
use crate::model::{BootId, CapacityMode, Device, Pointing, Settled, Terms};

const DOMAIN: &str = "11111111-1111-4111-8111-111111111111";
const SLICE: &str = "22222222-2222-4222-8222-222222222222";
const NOW: i64 = 1000;

fn allocation(state: AllocationState, until: Option<i64>) -> Allocation {
    Allocation {
        companions: Vec::new(),
        id: AllocationId::from_bits(1),
        domain: DomainRef { uuid: DOMAIN.parse().expect("uuid"), name: "web1".to_owned() },
        profile: "small".parse().expect("name"),
        device: Device::Mdev(SLICE.parse().expect("uuid")),
        state,
        until,
        saved: false,
        terms: Terms::default(),
        settled: None,
        owner: None,
        pointing: Pointing::default(),
    }
}

fn book(allocation: Allocation, run: Option<u64>) -> Book {
    let mut book = Book::default();
    if let Some(run) = run {
        let record = Realized {
            before: Vec::new(),
            quantum_before: None,
            allocation: allocation.id.clone(),
            device: allocation.device,
            gpu: "virtual:mtty".parse().expect("id"),
            parent: "mtty".parse().expect("name"),
            mdev_type: Some("mtty-1".parse().expect("type")),
            vf_id: None,
            boot_id: "b".parse::<BootId>().expect("boot id"),
            run: RunId(run),
        };
        book.realized.insert(record.allocation.clone(), record);
    }
    book.allocations.insert(allocation.id.clone(), allocation);
    book
}

fn shown() -> Option<Vec<HookDevice>> {
    let device = allocation(AllocationState::Attached, None).device;
    Some(vec![HookDevice { allocation: Some(AllocationId::from_bits(1)), device }])
}

type Shown = Option<Vec<HookDevice>>;

fn seen(domain: Option<(bool, Shown, Shown)>) -> Seen {
    let entry = domain.map(|(active, inactive, live)| {
        let uuid = DOMAIN.parse().expect("uuid");
        (
            uuid,
            SeenDomain {
                name: "web1".to_owned(),
                active,
                inactive,
                live,
                images: Some(SavedImages::default()),
            },
        )
    });
    Seen { asked_at: RunId(50), domains: entry.into_iter().collect() }
}

fn decided(book: &Book, seen: &Seen, now: i64) -> Vec<Act> {
    decide(book, &Touched::new(), seen, now)
}

/// What a run on the record of [`book`] settles.
fn settled() -> Settled {
    Settled {
        gpu: "virtual:mtty".parse().expect("id"),
        mdev_type: Some("mtty-1".parse().expect("type")),
        vf_id: None,
    }
}

fn guaranteed(state: AllocationState, until: Option<i64>) -> Allocation {
    let terms = Terms { mode: CapacityMode::Guaranteed, ..Terms::default() };
    Allocation { terms, ..allocation(state, until) }
}

fn id() -> AllocationId {
    AllocationId::from_bits(1)
}

#[test]
fn a_lease_that_xml_shows_is_tied() {
    let acts = decided(
        &book(allocation(AllocationState::Leased, Some(NOW - 1)), None),
        &seen(Some((false, shown(), None))),
        NOW,
    );
    assert_eq!(acts, [Act::Put(allocation(AllocationState::Attached, None))]);
}

#[test]
fn a_lease_ends_only_when_its_time_is_over_and_no_xml_shows_it() {
    let none = || Some(Vec::new());
    let waiting = book(allocation(AllocationState::Leased, Some(NOW + 1)), None);
    assert_eq!(decided(&waiting, &seen(Some((false, none(), None))), NOW), []);
    let ended = book(allocation(AllocationState::Leased, Some(NOW)), None);
    assert_eq!(decided(&ended, &seen(Some((false, none(), None))), NOW), [Act::Free(id())]);
    assert_eq!(decided(&ended, &seen(None), NOW), [Act::Free(id())]);
    assert_eq!(decided(&ended, &seen(Some((false, None, None))), NOW), [], "unread XML proves nothing");
    assert_eq!(decided(&ended, &seen(Some((true, none(), None))), NOW), [], "unread live XML proves nothing");
}

#[test]
fn a_hostdev_removed_by_hand_frees_the_promise_at_the_next_look() {
    let attached = book(allocation(AllocationState::Attached, None), None);
    assert_eq!(decided(&attached, &seen(Some((false, Some(Vec::new()), None))), NOW), [Act::Free(id())]);
    assert_eq!(
        decided(&attached, &seen(Some((true, Some(Vec::new()), shown()))), NOW),
        [],
        "the guest still has it"
    );
}

#[test]
fn an_undefined_domain_keeps_its_promise_for_a_grace_period() {
    let attached = book(allocation(AllocationState::Attached, None), None);
    let orphan = allocation(AllocationState::Orphaned, Some(NOW + GRACE_S));
    assert_eq!(decided(&attached, &seen(None), NOW), [Act::Put(orphan.clone())]);
    let orphaned = book(orphan, None);
    assert_eq!(decided(&orphaned, &seen(None), NOW), []);
    assert_eq!(decided(&orphaned, &seen(None), NOW + GRACE_S), [Act::Free(id())]);
    let back = decided(&orphaned, &seen(Some((false, shown(), None))), NOW);
    assert_eq!(back, [Act::Put(allocation(AllocationState::Attached, None))]);
}

#[test]
fn a_run_that_is_over_is_swept_and_one_that_began_after_the_question_is_not() {
    let attached = |run| book(allocation(AllocationState::Attached, None), Some(run));
    let off = seen(Some((false, shown(), None)));
    assert_eq!(decided(&attached(49), &off, NOW), [Act::GiveBack(id())]);
    assert_eq!(decided(&attached(50), &off, NOW), []);
    let mut running = attached(49);
    running.allocations.values_mut().for_each(|one| one.settled = Some(settled()));
    assert_eq!(decided(&running, &seen(Some((true, shown(), shown()))), NOW), [], "it runs");
    let gone = decided(&attached(49), &seen(None), NOW);
    assert_eq!(gone[0], Act::GiveBack(id()), "its domain is gone");
}

#[test]
fn a_slice_unplugged_from_a_running_guest_is_given_back_but_a_leased_one_waits_to_be_plugged() {
    let unplugged = seen(Some((true, shown(), Some(Vec::new()))));
    let attached = book(allocation(AllocationState::Attached, None), Some(10));
    assert_eq!(decided(&attached, &unplugged, NOW), [Act::GiveBack(id())]);
    let none = seen(Some((true, Some(Vec::new()), Some(Vec::new()))));
    let leased = book(allocation(AllocationState::Leased, Some(NOW + 5)), Some(10));
    assert_eq!(decided(&leased, &none, NOW), []);
}

#[test]
fn a_renamed_domain_is_known_under_its_new_name() {
    let mut report = seen(Some((false, shown(), None)));
    report.domains.values_mut().for_each(|domain| domain.name = "web2".to_owned());
    let acts = decided(&book(allocation(AllocationState::Attached, None), None), &report, NOW);
    match acts.as_slice() {
        [Act::Put(allocation)] => assert_eq!(allocation.domain.name, "web2"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_report_from_before_a_request_concludes_nothing_about_its_allocation() {
    let attached = book(allocation(AllocationState::Attached, None), Some(10));
    let hidden = seen(Some((false, Some(Vec::new()), None)));
    let touched = |at| Touched::from([(id(), RunId(at))]);
    assert_eq!(decide(&attached, &touched(50), &hidden, NOW), [], "asked at 50, changed at 50");
    assert!(decide(&attached, &touched(49), &hidden, NOW).contains(&Act::Free(id())));
}

#[test]
fn a_slice_that_no_allocation_explains_is_given_back() {
    let mut orphan = book(allocation(AllocationState::Attached, None), Some(10));
    orphan.allocations.clear();
    assert_eq!(decided(&orphan, &seen(None), NOW), [Act::GiveBack(id())]);
}

fn with_images(images: Option<SavedImages>, inactive: Shown) -> Seen {
    let mut seen = seen(Some((false, inactive, None)));
    seen.domains.values_mut().for_each(|domain| domain.images = images);
    seen
}

#[test]
fn that_a_memory_is_kept_is_remembered_and_forgotten_with_it() {
    let attached = allocation(AllocationState::Attached, None);
    let saved = Allocation { saved: true, ..attached.clone() };
    let [managed_save, memory_snapshot] = [(true, false), (false, true)]
        .map(|(managed_save, memory_snapshot)| Some(SavedImages { managed_save, memory_snapshot }));
    for images in [managed_save, memory_snapshot] {
        let acts = decided(&book(attached.clone(), None), &with_images(images, shown()), NOW);
        assert_eq!(acts, [Act::Put(saved.clone())], "{images:?}");
        assert_eq!(decided(&book(saved.clone(), None), &with_images(images, shown()), NOW), []);
    }
    let gone = with_images(Some(SavedImages::default()), shown());
    assert_eq!(decided(&book(saved.clone(), None), &gone, NOW), [Act::Put(attached)]);
    let unread = with_images(None, shown());
    assert_eq!(decided(&book(saved, None), &unread, NOW), [], "nothing follows from what could not be asked");
}

#[test]
fn a_promise_that_only_the_image_of_a_managed_save_may_show_is_not_freed() {
    let attached = allocation(AllocationState::Attached, None);
    let hidden = |managed_save| {
        with_images(Some(SavedImages { managed_save, memory_snapshot: false }), Some(Vec::new()))
    };
    let acts = decided(&book(attached.clone(), None), &hidden(true), NOW);
    assert_eq!(acts, [Act::Put(Allocation { saved: true, ..attached.clone() })]);
    assert_eq!(decided(&book(attached, None), &hidden(false), NOW), [Act::Free(id())]);
}

#[test]
fn a_guest_that_runs_settles_what_it_runs_on_once() {
    let attached = book(allocation(AllocationState::Attached, None), Some(49));
    let runs = seen(Some((true, shown(), shown())));
    let after = Allocation { settled: Some(settled()), ..allocation(AllocationState::Attached, None) };
    assert_eq!(decided(&attached, &runs, NOW), [Act::Put(after.clone())]);
    assert_eq!(decided(&book(after, Some(49)), &runs, NOW), []);
    let later = book(allocation(AllocationState::Attached, None), Some(50));
    assert_eq!(decided(&later, &runs, NOW), [], "prepared after the question: it may still fail");
    let off = seen(Some((false, shown(), None)));
    assert_eq!(decided(&attached, &off, NOW), [Act::GiveBack(id())], "nothing runs");
}

#[test]
fn a_pinned_promise_keeps_its_gpu_and_any_other_follows_its_guest() {
    let elsewhere = Settled { gpu: "virtual:other".parse().expect("id"), ..settled() };
    let before =
        Allocation { settled: Some(elsewhere.clone()), ..allocation(AllocationState::Attached, None) };
    let record = book(before.clone(), Some(49)).realized.remove(&id()).expect("a record");
    assert_eq!(settled_by(&before, &record), Some(settled()));
    let pinned = Allocation { terms: Terms { pin: true, ..Terms::default() }, ..before };
    assert_eq!(settled_by(&pinned, &record), None, "same type, and the GPU stays");
}

#[test]
fn a_guaranteed_slice_is_never_given_back_because_its_run_is_over() {
    let attached = book(guaranteed(AllocationState::Attached, None), Some(10));
    assert_eq!(decided(&attached, &seen(Some((false, shown(), None))), NOW), []);
    let unplugged = seen(Some((true, shown(), Some(Vec::new()))));
    assert_eq!(decided(&attached, &unplugged, NOW), [], "unplugged, and kept");
    let orphan = guaranteed(AllocationState::Orphaned, Some(NOW + GRACE_S));
    assert_eq!(decided(&attached, &seen(None), NOW), [Act::Put(orphan.clone())], "kept through the grace");
    let over = decided(&book(orphan, Some(10)), &seen(None), NOW + GRACE_S);
    assert_eq!(over, [Act::Free(id())], "it goes with its promise");
    let leased = book(guaranteed(AllocationState::Leased, Some(NOW)), Some(10));
    assert_eq!(decided(&leased, &seen(Some((false, Some(Vec::new()), None))), NOW), [Act::Free(id())]);
}
