//! `/run/vgpud/owned`: our UUIDs and VF addresses, so that the hook can tell ours without asking.

use std::io::{Read as _, Write as _};

use super::Engine;
use crate::config::Paths;
use crate::domain_xml::OwnedSet;
use crate::failpoint;
use crate::model::{Allocation, Kind, Refusal};

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
