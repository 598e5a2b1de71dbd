//! Reopening, refusing, a full disk.

use super::*;
use crate::model::{AllocationState, Device, DomainRef, Pointing, Terms, Wish};

fn profile(name: &str) -> crate::model::Profile {
    crate::model::Profile::new(name.parse().expect("name"), Wish::Type("mtty-1".to_owned()))
}

fn allocation(bits: u32) -> crate::model::Allocation {
    crate::model::Allocation {
        companions: Vec::new(),
        id: crate::model::AllocationId::from_bits(bits),
        domain: DomainRef {
            uuid: "11111111-1111-4111-8111-111111111111".parse().expect("uuid"),
            name: "web1".to_owned(),
        },
        profile: "small".parse().expect("name"),
        device: Device::Mdev("22222222-2222-4222-8222-222222222222".parse().expect("uuid")),
        state: AllocationState::Leased,
        until: Some(1_800_000_000),
        saved: false,
        terms: Terms::default(),
        settled: None,
        owner: None,
        pointing: Pointing::default(),
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
    assert!(matches!(error, LedgerError::Newer { found: 99, known: 2, .. }), "{error:?}");
    let db = rusqlite::Connection::open(dir.path().join("vgpud.db")).expect("database");
    let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("version");
    assert_eq!(version, 99);
}

fn files(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("directory").map(|entry| entry.expect("entry").file_name());
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names.retain(|name| name.starts_with("vgpud.db"));
    names
}

#[test]
fn a_row_that_is_no_json_is_named_and_the_others_are_there_and_nothing_is_written() {
    let dir = tempfile::tempdir().expect("directory");
    let mut ledger = Ledger::open(dir.path()).expect("open");
    ledger.commit(vec![Change::PutProfile(profile("small"))], Need::Promise).expect("commit");
    drop(ledger);
    let db = rusqlite::Connection::open(dir.path().join("vgpud.db")).expect("database");
    db.execute("INSERT INTO profiles VALUES ('bad', '{')", []).expect("insert");
    db.execute("INSERT INTO profiles VALUES ('z', '{}')", []).expect("insert");
    drop(db);
    let mut ledger = Ledger::open(dir.path()).expect("it is read all the same");
    let reason = ledger.shut_because().expect("shut").to_owned();
    assert!(reason.contains("\"bad\" of table profiles"), "{reason}");
    assert_eq!(ledger.book().profiles.len(), 1);
    let refused = ledger.commit(vec![Change::PutProfile(profile("other"))], Need::GiveBack);
    assert!(matches!(refused, Err(LedgerError::Shut(_))), "{refused:?}");
    ledger.defer(vec![Change::PutProfile(profile("other"))]);
    assert!(!ledger.has_deferred());
    assert_eq!(ledger.book().profiles.len(), 1);
    assert!(ledger.history().is_err());
}

#[test]
fn a_damaged_database_is_made_anew_and_set_aside() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("vgpud.db");
    let garbage = vec![0x11_u8; 40_000];
    #[expect(clippy::disallowed_methods, reason = "test fixture")]
    std::fs::write(&path, &garbage).expect("garbage");
    let mut ledger = Ledger::open(dir.path()).expect("it starts read-only");
    assert!(ledger.shut_because().is_some_and(|why| why.contains("vgpud.db")), "{:?}", ledger.shut_because());
    assert!(!ledger.is_blank());
    let aside = ledger.renew(vec![Change::PutProfile(profile("small"))], 77).expect("anew").expect("aside");
    assert_eq!(aside, dir.path().join("vgpud.db.damaged-77"));
    #[expect(clippy::disallowed_methods, reason = "test fixture")]
    let kept = std::fs::read(&aside).expect("kept");
    assert_eq!(kept, garbage, "to the byte");
    ledger.commit(vec![Change::PutProfile(profile("more"))], Need::Promise).expect("it is open again");
    drop(ledger);
    let again = Ledger::open(dir.path()).expect("open");
    assert_eq!(again.shut_because(), None);
    assert_eq!(again.book().profiles.len(), 2);
    assert!(!files(dir.path()).iter().any(|name| name.contains("db.new")), "{:?}", files(dir.path()));
}

#[test]
fn what_could_be_read_is_part_of_the_new_database_and_a_second_damage_has_its_own_file() {
    let dir = tempfile::tempdir().expect("directory");
    for round in 0..2 {
        let mut ledger = Ledger::open(dir.path()).expect("open");
        ledger.commit(vec![Change::PutAllocation(allocation(round))], Need::Promise).expect("commit");
        drop(ledger);
        let db = rusqlite::Connection::open(dir.path().join("vgpud.db")).expect("database");
        db.execute("INSERT INTO wishes VALUES ('bad', '{')", []).expect("insert");
        drop(db);
        let mut ledger = Ledger::open(dir.path()).expect("read-only");
        ledger.renew(Vec::new(), 5).expect("anew");
        assert_eq!(ledger.book().allocations.len(), 1 + round as usize);
    }
    let aside = files(dir.path()).into_iter().filter(|name| name.contains("damaged-5"));
    assert!(aside.clone().count() >= 2, "{:?}", aside.collect::<Vec<_>>());
}

#[test]
fn a_lost_database_is_blank_until_something_is_written() {
    let dir = tempfile::tempdir().expect("directory");
    let mut ledger = Ledger::open(dir.path()).expect("open");
    assert!(ledger.is_blank());
    ledger.shut("lost".to_owned());
    assert!(ledger.commit(vec![Change::PutProfile(profile("a"))], Need::Promise).is_err());
    drop(ledger);
    let mut ledger = Ledger::open(dir.path()).expect("open");
    assert!(ledger.is_blank(), "a start that wrote nothing leaves it blank");
    ledger.shut("lost".to_owned());
    assert_eq!(
        ledger.renew(vec![Change::PutProfile(profile("a"))], 5).expect("anew"),
        None,
        "nothing to set aside"
    );
    assert!(!ledger.is_blank());
}

#[test]
fn a_full_disk_frees_the_ballast_for_what_is_given_back_only() {
    let dir = tempfile::tempdir().expect("directory");
    let mut ledger = Ledger::open(dir.path()).expect("open");
    ledger.commit(vec![Change::PutProfile(profile("small"))], Need::Promise).expect("commit");
    ledger.store.as_ref().expect("open").forbid_growth();
    let many: Vec<Change> = (0..2000).map(|n| Change::PutAllocation(allocation(n))).collect();
    let refused = ledger.commit(many.clone(), Need::Promise).expect_err("full");
    assert!(matches!(refused, LedgerError::Full { .. }), "{refused:?}");
    assert!(ledger.has_ballast(), "a refused promise does not cost the ballast");
    assert!(ledger.book().allocations.is_empty(), "nothing changed");
    ledger.commit(many, Need::GiveBack).expect_err("this fake disk stays full");
    assert!(!ledger.has_ballast(), "the ballast went first");
}

fn entry(at: i64) -> Change {
    Change::Record(HistoryEntry {
        number: 0,
        decisions: Vec::new(),
        at,
        uid: Some(0),
        pid: Some(1),
        verb: "attach".to_owned(),
        object: "web1".to_owned(),
        domain: Some("web1".to_owned()),
        allocations: Vec::new(),
        outcome: "done".to_owned(),
    })
}

/// When the entries that are kept were, oldest first.
fn kept(ledger: &Ledger) -> Vec<i64> {
    let newest = ledger.history().and_then(|history| history.newest(usize::MAX, |_| true)).expect("history");
    newest.iter().rev().map(|entry| entry.at).collect()
}

#[test]
fn history_keeps_its_newest_entries_and_a_promise_is_never_what_goes() {
    let dir = tempfile::tempdir().expect("directory");
    let mut ledger = Ledger::open(dir.path()).expect("open");
    ledger.commit(vec![Change::PutAllocation(allocation(7))], Need::Promise).expect("commit");
    let entries = store::Bounds { entries: 50, ..store::Bounds::default() };
    ledger.store.as_mut().expect("a store").bound(entries);
    for at in 0..120 {
        ledger.commit(vec![entry(at)], Need::Promise).expect("commit");
        assert_eq!(kept(&ledger), ((at - 49).max(0)..=at).collect::<Vec<i64>>());
    }
    // A start of many guests at once records many entries in one transaction.
    ledger.commit((120..300).map(entry).collect(), Need::Promise).expect("commit");
    assert_eq!(kept(&ledger), (250..300).collect::<Vec<i64>>());
    assert_eq!(ledger.book().allocations.len(), 1);
}

#[test]
fn history_that_has_too_many_bytes_loses_its_oldest_and_the_file_stops_growing() {
    let dir = tempfile::tempdir().expect("directory");
    let mut ledger = Ledger::open(dir.path()).expect("open");
    let file = dir.path().join("vgpud.db");
    let bounds = store::Bounds { entries: 1_000_000, bytes: 512 << 10, batch: 100 };
    ledger.store.as_mut().expect("a store").bound(bounds);
    let long = |at| match entry(at) {
        Change::Record(entry) => Change::Record(HistoryEntry { outcome: "x".repeat(1_000), ..entry }),
        other => other,
    };
    let mut most = 0;
    for at in 0..2_000 {
        ledger.commit(vec![long(at)], Need::Promise).expect("commit");
        most = most.max(std::fs::metadata(&file).expect("the database").len());
    }
    assert!(most < 600 << 10, "the file grew to {most} B");
    let kept = kept(&ledger);
    assert!(kept.len() > 200 && kept.last() == Some(&1_999), "{} are kept", kept.len());
    assert!(kept.windows(2).all(|pair| pair[0] + 1 == pair[1]), "the oldest went, in order");
    // One entry that is larger than all there may be is kept all the same, and numbers go on.
    let Change::Record(huge) = entry(2_000) else { panic!("an entry") };
    let huge = HistoryEntry { outcome: "x".repeat(1 << 20), ..huge };
    ledger.commit(vec![Change::Record(huge)], Need::Promise).expect("commit");
    for at in 2_001..2_010 {
        ledger.commit(vec![entry(at)], Need::Promise).expect("commit");
    }
    let newest = ledger.history().and_then(|history| history.newest(1, |_| true)).expect("history");
    assert_eq!((newest[0].at, newest[0].number), (2_009, 2_010));
}

#[test]
fn history_is_read_newest_first() {
    let dir = tempfile::tempdir().expect("directory");
    let mut ledger = Ledger::open(dir.path()).expect("open");
    for at in 1..=3 {
        ledger.commit(vec![entry(at)], Need::Promise).expect("commit");
    }
    ledger.defer(vec![entry(4)]);
    let history = ledger.history().expect("history");
    // What comes after it was taken is not in it.
    ledger.commit(vec![entry(5)], Need::Promise).expect("commit");
    let newest = history.newest(3, |entry| entry.at != 2).expect("history");
    assert_eq!(newest.iter().map(|entry| entry.at).collect::<Vec<i64>>(), [4, 3, 1]);
}
