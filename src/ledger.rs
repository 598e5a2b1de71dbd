//! What was promised: profiles, allocations, realized records, open intents, wished VF counts, history.
//!
//! One SQLite database (WAL, `synchronous=FULL`) with one writer, under an exclusive lock held for the
//! life of the service. Readers inside the service look at the [`Book`], the same content in memory.
//! A change is durable when [`Ledger::commit`] returns. [`Ledger::defer`] is for what the host itself
//! proves after a crash (an intent that ended): it reaches the disk with the next commit.
//!
//! A full disk must not keep a slice from being given back: a ballast file is freed for that.

mod book;
mod renew;
mod store;

use std::fs::File;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

pub use book::{Book, Change, Handmade, Intent, IntentId, SettingWish, VfWish};
use store::Store;

use crate::model::HistoryEntry;

/// Why the ledger cannot be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another service runs on this database.
    #[error("another vgpud holds {path}")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A newer vgpud wrote it.
    #[error("database {path} has schema {found}, this vgpud knows {known}")]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema of this build.
        known: i64,
    },
    /// SQLite's check failed.
    #[error("database {path} is damaged: {text}")]
    Damaged {
        /// The database.
        path: PathBuf,
        /// SQLite's words.
        text: String,
    },
    /// A row cannot be read.
    #[error("row {key:?} of table {table} in {path} cannot be read")]
    Row {
        /// The database.
        path: PathBuf,
        /// Table.
        table: &'static str,
        /// Key of the row.
        key: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The disk is full.
    #[error("no space left under {path}")]
    Full {
        /// The database.
        path: PathBuf,
    },
    /// Read-only until it is made anew.
    #[error("{0}")]
    Shut(String),
    /// SQLite said no.
    #[error("cannot {act} database {path}")]
    Sql {
        /// What was tried.
        act: &'static str,
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The directory, lock or ballast cannot be used.
    #[error("cannot {act} {path}")]
    File {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl LedgerError {
    /// Returns whether the file is there and its content cannot be trusted.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::Row { .. } => true,
            Self::Sql { act, source, .. } => {
                let code = source.sqlite_error_code();
                *act == "read"
                    || matches!(
                        code,
                        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
                    )
            }
            Self::Locked { .. }
            | Self::Newer { .. }
            | Self::Full { .. }
            | Self::Shut(_)
            | Self::File { .. } => false,
        }
    }
}

/// How much a commit matters when the disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A promise: refused when the disk is full.
    Promise,
    /// Giving something back: the ballast is freed for it.
    GiveBack,
}

/// The database and its content in memory.
#[derive(Debug)]
pub struct Ledger {
    /// `None` while it is shut.
    store: Option<Store>,
    /// Why nothing is written.
    shut: Option<String>,
    /// Whether there is a damaged file to set aside.
    damaged: bool,
    book: Book,
    deferred: Vec<Change>,
    path: PathBuf,
    ballast: PathBuf,
    /// Held, never read: the lock ends with the process.
    _lock: Flock<File>,
}

const BALLAST_BYTES: usize = 1 << 20;

impl Ledger {
    /// Opens or creates the database below `dir`, takes the lock and reads everything.
    ///
    /// # Errors
    /// [`LedgerError::Locked`] when another service runs, [`LedgerError::Newer`] when a newer one
    /// wrote the database; otherwise what the disk or SQLite said.
    pub fn open(dir: &Path) -> Result<Self, LedgerError> {
        std::fs::create_dir_all(dir).map_err(|source| LedgerError::File {
            act: "create directory",
            path: dir.to_owned(),
            source,
        })?;
        let lock = take_lock(&dir.join("lock"))?;
        let path = dir.join("vgpud.db");
        let opened = Store::open(path.clone()).and_then(|store| Ok((store.read()?, store)));
        let (book, store, shut) = match opened {
            Ok((book, store)) => (book, Some(store), None),
            Err(error) if error.is_damage() => (Store::salvage(&path), None, Some(one_line(&error))),
            Err(error) => return Err(error),
        };
        let ballast = dir.join("ballast");
        let damaged = shut.is_some();
        let ledger = Self { store, shut, damaged, book, deferred: Vec::new(), path, ballast, _lock: lock };
        ledger.ensure_ballast();
        Ok(ledger)
    }

    /// Returns why nothing is written, until it is made anew.
    #[must_use]
    pub fn shut_because(&self) -> Option<&str> {
        self.shut.as_deref()
    }

    /// Returns whether nothing was ever written: the database is of this start, or no request came since.
    #[must_use]
    pub const fn is_blank(&self) -> bool {
        self.shut.is_none() && self.book.generation == 0
    }

    /// Writes nothing from here on, until it is made anew.
    pub fn shut(&mut self, reason: String) {
        self.store = None;
        self.shut = Some(reason);
    }

    /// Returns the content, with everything committed and deferred.
    #[must_use]
    pub const fn book(&self) -> &Book {
        &self.book
    }

    /// Returns whether the ballast is in place; without it the disk was full and no promise is taken.
    #[must_use]
    pub fn has_ballast(&self) -> bool {
        std::fs::metadata(&self.ballast).is_ok_and(|meta| meta.len() >= BALLAST_BYTES as u64)
    }

    /// Stores `changes`, and everything deferred, durably: one transaction, one sync.
    ///
    /// # Errors
    /// Nothing has changed, neither on disk nor in the book.
    pub fn commit(&mut self, changes: Vec<Change>, need: Need) -> Result<(), LedgerError> {
        if need == Need::Promise && self.shut.is_none() && !self.has_ballast() && !self.ensure_ballast() {
            return Err(LedgerError::Full { path: self.path.clone() });
        }
        match self.try_commit(&changes) {
            Err(LedgerError::Full { .. }) if need == Need::GiveBack && self.drop_ballast() => {
                self.try_commit(&changes)?;
            }
            other => other?,
        }
        for change in changes {
            self.book.apply(change);
        }
        Ok(())
    }

    fn try_commit(&mut self, changes: &[Change]) -> Result<(), LedgerError> {
        crate::failpoint::hit("ledger.before-commit");
        let generation = self.book.generation + changes.len() as u64;
        let store =
            self.store.as_mut().ok_or_else(|| LedgerError::Shut(self.shut.clone().unwrap_or_default()))?;
        store.write(self.deferred.iter().chain(changes), generation)?;
        crate::failpoint::hit("ledger.after-commit");
        self.deferred.clear();
        Ok(())
    }

    /// Takes `changes` into the book now and onto the disk with the next commit or flush. Shut, it takes nothing.
    pub fn defer(&mut self, changes: Vec<Change>) {
        if self.shut.is_some() {
            return;
        }
        for change in changes {
            self.book.apply(change.clone());
            self.deferred.push(change);
        }
    }

    /// Returns whether something waits for the next commit.
    #[must_use]
    pub const fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// Stores what was deferred.
    ///
    /// # Errors
    /// It stays deferred.
    pub fn flush(&mut self) -> Result<(), LedgerError> {
        if self.deferred.is_empty() { Ok(()) } else { self.commit(Vec::new(), Need::GiveBack) }
    }

    /// Takes the history as it is now, with what is deferred, for reading without this ledger.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn history(&self) -> Result<History, LedgerError> {
        let waiting = self.deferred.iter().rev().filter_map(|change| match change {
            Change::Record(entry) => Some(entry.clone()),
            _ => None,
        });
        let store = self.store.as_ref();
        let store = store.ok_or_else(|| LedgerError::Shut(self.shut.clone().unwrap_or_default()))?;
        Ok(History { waiting: waiting.collect(), stored: store.history()? })
    }

    fn ensure_ballast(&self) -> bool {
        if self.has_ballast() {
            return true;
        }
        #[expect(clippy::disallowed_methods, reason = "the ballast is no state: its size is all that counts")]
        let written = std::fs::write(&self.ballast, vec![0x5a; BALLAST_BYTES]);
        if written.is_err() {
            self.drop_ballast();
        }
        written.is_ok()
    }

    fn drop_ballast(&self) -> bool {
        std::fs::remove_file(&self.ballast).is_ok()
    }
}

/// Writes an error and its causes on one line.
fn one_line(error: &LedgerError) -> String {
    crate::model::Refusal::from_error(crate::model::Kind::HostFault, error).message
}

/// The history as it was at one time. It can be read while the ledger is written.
#[derive(Debug)]
pub struct History {
    waiting: Vec<HistoryEntry>,
    stored: store::StoredHistory,
}

impl History {
    /// Reads the newest `most` entries that `wanted` takes, newest first.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn newest(
        self,
        most: usize,
        wanted: impl Fn(&HistoryEntry) -> bool,
    ) -> Result<Vec<HistoryEntry>, LedgerError> {
        let waiting = self.waiting.into_iter().filter(|entry| wanted(entry));
        let mut entries: Vec<HistoryEntry> = waiting.take(most).collect();
        entries.extend(self.stored.newest(most - entries.len(), wanted)?);
        Ok(entries)
    }
}

fn take_lock(path: &Path) -> Result<Flock<File>, LedgerError> {
    let fail = |act, source| LedgerError::File { act, path: path.to_owned(), source };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|source| fail("open lock", source))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => LedgerError::Locked { path: path.to_owned() },
        other => fail("lock", other.into()),
    })
}

#[cfg(test)]
mod tests;
