//! The SQLite file: a table for each noun, a JSON body for each row.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::book::{Book, Change};
use super::{BALLAST_BYTES, LedgerError};
use crate::model::{GpuId, HistoryEntry, ProfileName};

/// The newest schema of this build, kept in SQLite's `user_version`.
pub(super) const SCHEMA: i64 = 2;

/// Each entry brings the schema from its index to the next.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE meta       (key TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE profiles   (key TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE allocations(key TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE realized   (key TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE intents    (key TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE wishes     (key TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE handmade   (key TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE history    (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, body TEXT NOT NULL);
",
    "
    CREATE TABLE settings   (key TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
",
];

/// The key of the report in `meta`.
const BOOT_REPORT: &str = "boot-report";

/// What the keys of the rota in `meta` begin with; the profile's name follows.
const ROTA: &str = "rota:";

/// How much history is kept; older entries go as new ones come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Entries.
    pub(super) entries: i64,
    /// Bytes of the whole database, of which the history is nearly all. Pages that are freed are used again, so the
    /// file stays below this and a little.
    pub(super) bytes: i64,
    /// Entries that go at once when it has too many bytes.
    pub(super) batch: i64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { entries: 50_000, bytes: 64 << 20, batch: 1_000 }
    }
}

#[derive(Debug)]
pub(super) struct Store {
    db: Connection,
    path: PathBuf,
    bounds: Bounds,
}

impl Store {
    pub(super) fn open(path: PathBuf) -> Result<Self, LedgerError> {
        let db = Connection::open(&path).map_err(|source| LedgerError::Sql {
            act: "open",
            path: path.clone(),
            source,
        })?;
        let store = Self { db, path, bounds: Bounds::default() };
        // Looked at before anything is set: a file that is not for us stays as it is.
        let found = store.schema()?;
        if found > SCHEMA {
            return Err(LedgerError::Newer { path: store.path, found, known: SCHEMA });
        }
        store.check()?;
        store.set_up().map_err(|source| store.error("set up", source))?;
        store.migrate(found).map_err(|source| store.error("migrate", source))?;
        Ok(store)
    }

    /// Brings everything into the one file, so that it can be renamed.
    pub(super) fn gather(self) -> Result<(), LedgerError> {
        let done = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        done.map_err(|source| self.error("write", source))?;
        let path = self.path.clone();
        self.db.close().map_err(|(_, source)| LedgerError::Sql { act: "close", path, source })
    }

    /// Reads what can be read of a database that is damaged. Never fails: what cannot be read is not there.
    pub(super) fn salvage(path: &Path) -> Book {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let Ok(db) = Connection::open_with_flags(path, flags) else { return Book::default() };
        let rows = |table: &str| rows_one_by_one(&db, table);
        Book {
            boot_report: None,
            generation: 0,
            profiles: parsed(rows("profiles"), |p: &crate::model::Profile| p.name.clone()),
            allocations: parsed(rows("allocations"), |a: &crate::model::Allocation| a.id.clone()),
            realized: parsed(rows("realized"), |r: &crate::model::Realized| r.allocation.clone()),
            intents: parsed(rows("intents"), |i: &super::Intent| i.id),
            wishes: parsed(rows("wishes"), |w: &super::VfWish| w.gpu.clone()),
            settings: parsed(rows("settings"), |s: &super::SettingWish| s.gpu.clone()),
            handmade: parsed(rows("handmade"), |h: &super::Handmade| h.uuid),
            // It decides preferences only.
            rota: std::collections::BTreeMap::new(),
        }
    }

    /// Page cache and memory map are kept small: the database is a few hundred rows.
    fn set_up(&self) -> Result<(), rusqlite::Error> {
        self.db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        self.db.pragma_update(None, "synchronous", "FULL")?;
        self.db.pragma_update(None, "cache_size", -256)?;
        self.db.pragma_update(None, "journal_size_limit", BALLAST_BYTES as i64)
    }

    /// Makes every write that needs a new page fail as on a full disk.
    #[cfg(test)]
    pub(super) fn forbid_growth(&self) {
        let pages: i64 = self.db.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("page count");
        self.db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).expect("limit");
    }

    #[cfg(test)]
    pub(super) const fn bound(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    fn schema(&self) -> Result<i64, LedgerError> {
        let read = self.db.query_row("PRAGMA user_version", [], |row| row.get(0));
        read.map_err(|source| self.error("read schema of", source))
    }

    /// Refuses a damaged file at the start instead of at the first write that meets the damage.
    fn check(&self) -> Result<(), LedgerError> {
        let verdict: Result<String, _> = self.db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
        let text = verdict.map_err(|source| self.error("check", source))?;
        if text == "ok" { Ok(()) } else { Err(LedgerError::Damaged { path: self.path.clone(), text }) }
    }

    fn migrate(&self, found: i64) -> Result<(), rusqlite::Error> {
        for (version, sql) in (1i64..).zip(MIGRATIONS) {
            if version > found {
                self.db.execute_batch(&format!("BEGIN; {sql} PRAGMA user_version = {version}; COMMIT;"))?;
            }
        }
        Ok(())
    }

    fn error(&self, act: &'static str, source: rusqlite::Error) -> LedgerError {
        let path = self.path.clone();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => LedgerError::Full { path },
            _ => LedgerError::Sql { act, path, source },
        }
    }

    pub(super) fn read(&self) -> Result<Book, LedgerError> {
        let generation: Option<String> = self
            .db
            .query_row("SELECT body FROM meta WHERE key = 'generation'", [], |row| row.get(0))
            .optional()
            .map_err(|source| self.error("read", source))?;
        let report: Option<String> = self
            .db
            .query_row("SELECT body FROM meta WHERE key = ?1", [BOOT_REPORT], |row| row.get(0))
            .optional()
            .map_err(|source| self.error("read", source))?;
        Ok(Book {
            // A report of another version is made anew: it decides nothing.
            boot_report: report.and_then(|text| serde_json::from_str(&text).ok()),
            generation: generation.and_then(|text| text.parse().ok()).unwrap_or(0),
            profiles: self.table("profiles", |p: &crate::model::Profile| p.name.clone())?,
            allocations: self.table("allocations", |a: &crate::model::Allocation| a.id.clone())?,
            realized: self.table("realized", |r: &crate::model::Realized| r.allocation.clone())?,
            intents: self.table("intents", |i: &super::Intent| i.id)?,
            wishes: self.table("wishes", |w: &super::VfWish| w.gpu.clone())?,
            settings: self.table("settings", |s: &super::SettingWish| s.gpu.clone())?,
            handmade: self.table("handmade", |h: &super::Handmade| h.uuid)?,
            rota: self.rota()?,
        })
    }

    /// A row that makes no sense is left out: the rota decides preferences only.
    fn rota(&self) -> Result<std::collections::BTreeMap<ProfileName, GpuId>, LedgerError> {
        let sql = format!("SELECT key, body FROM meta WHERE key LIKE '{ROTA}%'");
        let rows: Result<Vec<(String, String)>, rusqlite::Error> = self
            .db
            .prepare(&sql)
            .and_then(|mut query| query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect());
        let rows = rows.map_err(|source| self.error("read", source))?;
        let one = |(key, body): (String, String)| {
            let profile = key.strip_prefix(ROTA)?.parse().ok()?;
            Some((profile, serde_json::from_str(&body).ok()?))
        };
        Ok(rows.into_iter().filter_map(one).collect())
    }

    fn table<K: Ord, V: DeserializeOwned>(
        &self,
        table: &'static str,
        key_of: impl Fn(&V) -> K,
    ) -> Result<std::collections::BTreeMap<K, V>, LedgerError> {
        let rows: Result<Vec<(String, String)>, rusqlite::Error> = self
            .db
            .prepare(&format!("SELECT key, body FROM {table}"))
            .and_then(|mut query| query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect());
        let mut map = std::collections::BTreeMap::new();
        for (key, body) in rows.map_err(|source| self.error("read", source))? {
            let value: V = serde_json::from_str(&body).map_err(|source| LedgerError::Row {
                path: self.path.clone(),
                table,
                key,
                source,
            })?;
            map.insert(key_of(&value), value);
        }
        Ok(map)
    }

    pub(super) fn write<'a>(
        &mut self,
        changes: impl Iterator<Item = &'a Change>,
        generation: u64,
    ) -> Result<(), LedgerError> {
        let bounds = self.bounds;
        let done = self.db.transaction().and_then(|tx| {
            let mut recorded = false;
            for change in changes {
                recorded |= matches!(change, Change::Record(_));
                write_one(&tx, change)?;
            }
            if recorded {
                forget_oldest(&tx, bounds)?;
            }
            put(&tx, "meta", "generation", &generation)?;
            tx.commit()
        });
        done.map_err(|source| self.error("write", source))
    }

    /// Opens the history as it is now on a connection of its own.
    pub(super) fn history(&self) -> Result<StoredHistory, LedgerError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(&self.path, flags).and_then(|db| {
            // The first reading of a transaction settles what it sees.
            db.execute_batch("BEGIN")?;
            db.query_row("SELECT max(id) FROM history", [], |_| Ok(()))?;
            Ok(db)
        });
        let db = opened.map_err(|source| self.error("read", source))?;
        Ok(StoredHistory { db, path: self.path.clone() })
    }
}

/// A reading transaction: what is written later is not in it.
#[derive(Debug)]
pub(super) struct StoredHistory {
    db: Connection,
    path: PathBuf,
}

impl StoredHistory {
    /// Reads the newest `most` entries that `wanted` takes, newest first.
    pub(super) fn newest(
        &self,
        most: usize,
        wanted: impl Fn(&HistoryEntry) -> bool,
    ) -> Result<Vec<HistoryEntry>, LedgerError> {
        let mut entries = Vec::new();
        let read = self.db.prepare("SELECT body, id FROM history ORDER BY id DESC").and_then(|mut query| {
            let mut rows = query.query([])?;
            while entries.len() < most {
                let Some(row) = rows.next()? else { break };
                let body: String = row.get(0)?;
                // A row of another version is left out: the history decides nothing.
                let Ok(entry) = serde_json::from_str::<HistoryEntry>(&body) else { continue };
                let entry = HistoryEntry { number: row.get(1)?, ..entry };
                entries.extend(Some(entry).filter(|entry| wanted(entry)));
            }
            Ok(())
        });
        read.map_err(|source| LedgerError::Sql { act: "read", path: self.path.clone(), source })?;
        Ok(entries)
    }
}

/// Reads the bodies of a table up to the first that cannot be read.
fn rows_one_by_one(db: &Connection, table: &str) -> Vec<String> {
    let mut bodies = Vec::new();
    let Ok(mut query) = db.prepare(&format!("SELECT body FROM {table}")) else { return bodies };
    let Ok(mut rows) = query.query([]) else { return bodies };
    while let Ok(Some(row)) = rows.next() {
        bodies.extend(row.get::<_, String>(0).ok());
    }
    bodies
}

/// Keeps the bodies that make sense.
fn parsed<K: Ord, V: DeserializeOwned>(
    bodies: Vec<String>,
    key_of: impl Fn(&V) -> K,
) -> std::collections::BTreeMap<K, V> {
    let values = bodies.iter().filter_map(|body| serde_json::from_str::<V>(body).ok());
    values.map(|value| (key_of(&value), value)).collect()
}

fn write_one(tx: &Transaction<'_>, change: &Change) -> Result<(), rusqlite::Error> {
    match change {
        Change::PutProfile(profile) => put(tx, "profiles", profile.name.as_str(), profile),
        Change::DeleteProfile(name) => delete(tx, "profiles", name.as_str()),
        Change::PutAllocation(allocation) => put(tx, "allocations", allocation.id.as_str(), allocation),
        Change::DeleteAllocation(id) => delete(tx, "allocations", id.as_str()),
        Change::PutRealized(record) => put(tx, "realized", record.allocation.as_str(), record),
        Change::DeleteRealized(id) => delete(tx, "realized", id.as_str()),
        Change::OpenIntent(intent) => put(tx, "intents", &intent.id.0.to_string(), intent),
        Change::CloseIntent(id) => delete(tx, "intents", &id.0.to_string()),
        Change::PutWish(wish) => put(tx, "wishes", wish.gpu.as_str(), wish),
        Change::DeleteWish(gpu) => delete(tx, "wishes", gpu.as_str()),
        Change::PutSetting(wish) => put(tx, "settings", wish.gpu.as_str(), wish),
        Change::DeleteSetting(gpu) => delete(tx, "settings", gpu.as_str()),
        Change::PutHandmade(made) => put(tx, "handmade", &made.uuid.to_string(), made),
        Change::DeleteHandmade(uuid) => delete(tx, "handmade", &uuid.to_string()),
        Change::PutBootReport(report) => put(tx, "meta", BOOT_REPORT, report),
        Change::PutRota(profile, gpu) => put(tx, "meta", &format!("{ROTA}{profile}"), gpu),
        Change::Record(entry) => record(tx, entry),
    }
}

fn put<T: Serialize>(tx: &Transaction<'_>, table: &str, key: &str, value: &T) -> Result<(), rusqlite::Error> {
    let body = serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let sql =
        format!("INSERT INTO {table} (key, body) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET body = ?2");
    tx.prepare_cached(&sql)?.execute(params![key, body]).map(drop)
}

fn delete(tx: &Transaction<'_>, table: &str, key: &str) -> Result<(), rusqlite::Error> {
    tx.prepare_cached(&format!("DELETE FROM {table} WHERE key = ?1"))?.execute([key]).map(drop)
}

fn record(tx: &Transaction<'_>, entry: &HistoryEntry) -> Result<(), rusqlite::Error> {
    let body = serde_json::to_string(entry)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    tx.prepare_cached("INSERT INTO history (at, body) VALUES (?1, ?2)")?
        .execute(params![entry.at, body])
        .map(drop)
}

/// Keeps the history to its bounds.
fn forget_oldest(tx: &Transaction<'_>, bounds: Bounds) -> Result<(), rusqlite::Error> {
    tx.prepare_cached("DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - ?1")?
        .execute([bounds.entries])?;
    let pragma = |name: &str| tx.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let used = (pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?;
    if used > bounds.bytes {
        // The newest stays, whatever it has: numbers go on from it.
        let sql = "DELETE FROM history WHERE id < (SELECT min(max(id), min(id) + ?1) FROM history)";
        tx.prepare_cached(sql)?.execute([bounds.batch])?;
    }
    Ok(())
}
