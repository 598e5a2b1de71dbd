//! Reopening, refusing, a full disk.

use super::*;
use crate::model::{AllocationState, Device, DomainRef, Policy, Wish};

fn profile(name: &str) -> crate::model::Profile {
    crate::model::Profile {
        name: name.parse().expect("name"),
        wish: Wish::Type("mtty-1".to_owned()),
        class: None,
        policy: Policy::MostFree,
        display: false,
        ramfb: false,
    }
}

fn allocation(bits: u32) -> crate::model::Allocation {
    crate::model::Allocation {
        id: crate::model::AllocationId::from_bits(bits),
        domain: DomainRef {
            uuid: "11111111-1111-4111-8111-111111111111".parse().expect("uuid"),
            name: "web1".to_owned(),
        },
        profile: "small".parse().expect("name"),
        device: Device::Mdev("22222222-2222-4222-8222-222222222222".parse().expect("uuid")),
        state: AllocationState::Leased,
        until: Some(1_800_000_000),
    }
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let dir = tempfile::tempdir().expect("directory");
    let mut ledger = Ledger::open(dir.path()).expect("open");
    let changes = vec![Change::PutProfile(profile("small")), Change::PutAllocation(allocation(7))];
    ledger.commit(changes, Need::Promise).expect("commit");
    let before = ledger.book().clone();
    drop(ledger);
    let after = Ledger::open(dir.path()).expect("open again");
    assert_eq!(after.book(), &before);
    assert_eq!(after.book().followers(&"small".parse().expect("name")), 1);
}

#[test]
fn deferred_changes_are_seen_at_once_and_stored_with_the_next_commit() {
    let dir = tempfile::tempdir().expect("directory");
    let mut ledger = Ledger::open(dir.path()).expect("open");
    ledger.defer(vec![Change::PutProfile(profile("a"))]);
    assert_eq!(ledger.book().profiles.len(), 1);
    ledger.commit(vec![Change::PutProfile(profile("b"))], Need::Promise).expect("commit");
    assert!(!ledger.has_deferred());
    ledger.defer(vec![Change::PutProfile(profile("lost"))]);
    drop(ledger);
    let names: Vec<String> =
        Ledger::open(dir.path()).expect("open").book().profiles.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn a_second_service_is_refused_while_the_first_lives() {
    let dir = tempfile::tempdir().expect("directory");
    let first = Ledger::open(dir.path()).expect("open");
    assert!(matches!(Ledger::open(dir.path()), Err(LedgerError::Locked { .. })));
    drop(first);
    Ledger::open(dir.path()).expect("free again");
}

#[test]
fn a_newer_schema_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().expect("directory");
    drop(Ledger::open(dir.path()).expect("open"));
    let db = rusqlite::Connection::open(dir.path().join("vgpud.db")).expect("database");
    db.pragma_update(None, "user_version", 99).expect("bump");
    drop(db);
    let error = Ledger::open(dir.path()).expect_err("newer");
    assert!(matches!(error, LedgerError::Newer { found: 99, known: 1, .. }), "{error:?}");
    let db = rusqlite::Connection::open(dir.path().join("vgpud.db")).expect("database");
    let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("version");
    assert_eq!(version, 99);
}

#[test]
fn a_row_that_is_no_json_is_named() {
    let dir = tempfile::tempdir().expect("directory");
    drop(Ledger::open(dir.path()).expect("open"));
    let db = rusqlite::Connection::open(dir.path().join("vgpud.db")).expect("database");
    db.execute("INSERT INTO profiles VALUES ('bad', '{')", []).expect("insert");
    drop(db);
    let error = Ledger::open(dir.path()).expect_err("bad row");
    assert!(error.to_string().contains("\"bad\" of table profiles"), "{error}");
}

#[test]
fn a_full_disk_frees_the_ballast_for_what_is_given_back_only() {
    let dir = tempfile::tempdir().expect("directory");
    let mut ledger = Ledger::open(dir.path()).expect("open");
    ledger.commit(vec![Change::PutProfile(profile("small"))], Need::Promise).expect("commit");
    ledger.store.forbid_growth();
    let many: Vec<Change> = (0..2000).map(|n| Change::PutAllocation(allocation(n))).collect();
    let refused = ledger.commit(many.clone(), Need::Promise).expect_err("full");
    assert!(matches!(refused, LedgerError::Full { .. }), "{refused:?}");
    assert!(ledger.has_ballast(), "a refused promise does not cost the ballast");
    assert!(ledger.book().allocations.is_empty(), "nothing changed");
    ledger.commit(many, Need::GiveBack).expect_err("this fake disk stays full");
    assert!(!ledger.has_ballast(), "the ballast went first");
}

#[test]
fn history_is_read_newest_first() {
    let dir = tempfile::tempdir().expect("directory");
    let mut ledger = Ledger::open(dir.path()).expect("open");
    for at in 1..=3 {
        let entry = HistoryEntry {
            at,
            uid: Some(0),
            pid: Some(1),
            verb: "attach".to_owned(),
            object: "web1".to_owned(),
            domain: Some("web1".to_owned()),
            allocations: Vec::new(),
            outcome: "done".to_owned(),
        };
        ledger.commit(vec![Change::Record(entry)], Need::Promise).expect("commit");
    }
    let times: Vec<i64> =
        ledger.history(2, |_| true).expect("history").iter().map(|entry| entry.at).collect();
    assert_eq!(times, [3, 2]);
}
