//! A database that was lost or damaged is made anew. What was there is set aside, never deleted.

use std::path::{Path, PathBuf};

use super::book::{Book, Change};
use super::store::Store;
use super::{Ledger, LedgerError};
use crate::failpoint;

impl Ledger {
    /// Makes the database anew with what was salvaged and `changes`, and opens it for writing. Returns where the
    /// damaged one was set aside, when there was one.
    ///
    /// The new one is complete before it takes the place of the old one, in one rename: a crash leaves the old
    /// state or the new one.
    ///
    /// # Errors
    /// Nothing has changed in the book; the old file is still in its place.
    pub fn renew(&mut self, changes: Vec<Change>, at: i64) -> Result<Option<PathBuf>, LedgerError> {
        let all: Vec<Change> = content(&self.book).into_iter().chain(changes).collect();
        let beside = self.path.with_extension("db.new");
        for suffix in ["", "-wal", "-shm"] {
            remove(&with_suffix(&beside, suffix))?;
        }
        let mut store = Store::open(beside.clone())?;
        let generation = self.book.generation + all.len() as u64;
        store.write(all.iter(), generation)?;
        store.gather()?;
        failpoint::hit("ledger.before-renew");
        let aside = self.set_aside(at)?;
        failpoint::hit("ledger.set-aside");
        file("put in place", &self.path, std::fs::rename(&beside, &self.path))?;
        sync_directory(&self.path)?;
        failpoint::hit("ledger.after-renew");
        let store = Store::open(self.path.clone())?;
        self.book = store.read()?;
        self.deferred.clear();
        self.store = Some(store);
        self.shut = None;
        self.damaged = false;
        Ok(aside)
    }

    /// Gives the old file a second name; what SQLite keeps beside it gets only that name, or a new file would
    /// inherit it.
    fn set_aside(&self, at: i64) -> Result<Option<PathBuf>, LedgerError> {
        if !self.damaged || !self.path.exists() {
            return Ok(None);
        }
        let aside = (0..)
            .map(|count: u32| match count {
                0 => self.path.with_extension(format!("db.damaged-{at}")),
                more => self.path.with_extension(format!("db.damaged-{at}.{more}")),
            })
            .find(|name| !name.exists());
        let Some(aside) = aside else { return Ok(None) };
        file("set aside", &self.path, std::fs::hard_link(&self.path, &aside))?;
        for suffix in ["-wal", "-shm"] {
            match std::fs::rename(with_suffix(&self.path, suffix), with_suffix(&aside, suffix)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    file("set aside", &with_suffix(&self.path, suffix), Err(error))?;
                }
                _ => {}
            }
        }
        Ok(Some(aside))
    }
}

/// The changes that make an empty book this one.
fn content(book: &Book) -> Vec<Change> {
    let profiles = book.profiles.values().cloned().map(Change::PutProfile);
    let allocations = book.allocations.values().cloned().map(Change::PutAllocation);
    let realized = book.realized.values().cloned().map(Change::PutRealized);
    let intents = book.intents.values().cloned().map(Change::OpenIntent);
    let wishes = book.wishes.values().cloned().map(Change::PutWish);
    let settings = book.settings.values().cloned().map(Change::PutSetting);
    let handmade = book.handmade.values().cloned().map(Change::PutHandmade);
    profiles
        .chain(allocations)
        .chain(realized)
        .chain(intents)
        .chain(wishes)
        .chain(settings)
        .chain(handmade)
        .collect()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn remove(path: &Path) -> Result<(), LedgerError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => file("remove", path, Err(error)),
        _ => Ok(()),
    }
}

fn sync_directory(path: &Path) -> Result<(), LedgerError> {
    let Some(directory) = path.parent() else { return Ok(()) };
    file("sync", directory, std::fs::File::open(directory).and_then(|directory| directory.sync_all()))
}

fn file<T>(act: &'static str, path: &Path, done: std::io::Result<T>) -> Result<T, LedgerError> {
    done.map_err(|source| LedgerError::File { act, path: path.to_owned(), source })
}
