//! Files of ours in `/run/vgpud`: `owned`, our UUIDs and VF addresses, so that the hook can tell ours without
//! asking; and `vgpu-types`, names that the kernel tells only while there is room.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::Engine;
use crate::config::Paths;
use crate::domain_xml::OwnedSet;
use crate::failpoint;
use crate::inventory::KnownTypes;
use crate::model::{Allocation, HostSnapshot, Kind, Refusal};

/// Returns how many devices the last service of this boot published.
pub(super) fn published(paths: &Paths) -> usize {
    let mut text = String::new();
    let file = std::fs::File::open(paths.owned());
    // Unreadable is as absent: the file is a copy of what the ledger holds.
    let read = file.and_then(|file| file.take(MOST_OWNED).read_to_string(&mut text));
    read.map_or(0, |_| OwnedSet::parse(&text).len())
}

/// The most that is read of the list: room for a hundred thousand.
const MOST_OWNED: u64 = 4 << 20;

/// The names of vGPU types, kept for the next service of this boot.
#[derive(Debug)]
pub(super) struct Types {
    dir: PathBuf,
    kept: KnownTypes,
}

impl Types {
    pub(super) fn new(paths: &Paths) -> Self {
        Self { dir: paths.run_dir(), kept: KnownTypes::default() }
    }

    /// Writes the file when a reading shows other names than it has. Names are a help to people and to the
    /// choice of a type: one that cannot be kept costs no more than that.
    pub(super) fn keep(&mut self, snapshot: &HostSnapshot) {
        let seen = KnownTypes::of(snapshot);
        if seen.is_empty() || seen == self.kept {
            return;
        }
        match replace(&self.dir, &self.dir.join("vgpu-types"), &seen.to_text()) {
            Ok(()) => self.kept = seen,
            Err(error) => tracing::debug!(%error, "cannot keep the names of vGPU types"),
        }
    }
}

/// Writes a file beside the old one, and puts it in its place.
fn replace(dir: &Path, path: &Path, text: &str) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::File::create(&beside))
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&beside, path))
}

impl Engine {
    /// Writes the file anew, as a whole.
    ///
    /// # Errors
    /// When the directory cannot be written; the old file is still there.
    pub(super) fn publish_owned(&self) -> Result<(), Refusal> {
        // Held until the file is in place: two changes at once must not end with the older list.
        let ledger = self.ledger();
        // While an address is being exchanged, either is ours.
        let both = ledger.book().allocations.values().flat_map(Allocation::may_be_named);
        let devices = both.collect::<OwnedSet>();
        let path = self.inner.paths.owned();
        let beside = path.with_extension("new");
        let written = std::fs::create_dir_all(self.inner.paths.run_dir())
            .and_then(|()| std::fs::File::create(&beside))
            .and_then(|mut file| file.write_all(devices.to_text().as_bytes()))
            .and_then(|()| {
                failpoint::hit("owned.before-rename");
                std::fs::rename(&beside, &path)
            });
        failpoint::hit("owned.after-rename");
        written.map_err(|error| {
            Refusal::new(Kind::HostFault, format!("cannot write {}: {error}", path.display()))
        })
    }
}
