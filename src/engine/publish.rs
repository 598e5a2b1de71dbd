//! `/run/vgpud/owned`: our UUIDs and VF addresses, so that the hook can tell ours without asking.

use std::io::Write;

use super::Engine;
use crate::domain_xml::OwnedSet;
use crate::failpoint;
use crate::model::{Kind, Refusal};

impl Engine {
    /// Writes the file anew, as a whole.
    ///
    /// # Errors
    /// When the directory cannot be written; the old file is still there.
    pub(super) fn publish_owned(&self) -> Result<(), Refusal> {
        // Held until the file is in place: two changes at once must not end with the older list.
        let ledger = self.ledger();
        let devices =
            ledger.book().allocations.values().map(|allocation| allocation.device).collect::<OwnedSet>();
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
