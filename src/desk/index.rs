//! The index of allocations in a domain's metadata, kept to what its hostdevs show. It is for people and other
//! tools: that it cannot be written fails nothing, and the next look tries again.

use std::collections::BTreeMap;

use super::{CALL, Desk, ours, shows};
use crate::domain_xml::{self, Indexed};
use crate::engine::Seen;
use crate::libvirt::{Definition, VirtError};
use crate::model::{Allocation, DomainUuid, HookDevice};

/// What the indexes of the domains that were looked at say.
pub(super) type Indexes = BTreeMap<DomainUuid, Vec<Indexed>>;

impl Desk {
    /// Writes the index of a definition anew where it says something else than its hostdevs show.
    pub(super) fn index(&self, domain: DomainUuid) {
        let own: Vec<Allocation> = self.engine.book().of_domain(domain).cloned().collect();
        let written = self.link.call("write the index of a definition", CALL, move |host| {
            let xml = host.xml(domain, Definition::Inactive)?;
            let Some(shown) = ours(&xml) else { return Ok(()) };
            let right = right(&own, &shown);
            if domain_xml::index(&xml).unwrap_or_default() == right {
                return Ok(());
            }
            host.set_index(domain, &right)
        });
        match written {
            Ok(()) | Err(VirtError::Off | VirtError::NoDomain(_)) => {}
            Err(error) => {
                tracing::debug!(%domain, %error, "the index in its metadata stays as it is for now")
            }
        }
    }

    /// Mends the indexes that a look found wrong: of a domain attached to by hand, edited, cloned, reverted.
    pub(super) fn mend_indexes(&self, seen: &Seen, indexes: &Indexes) {
        let book = self.engine.book();
        for (domain, indexed) in indexes {
            let Some(shown) = seen.domains.get(domain).and_then(|one| one.inactive.as_ref()) else {
                continue;
            };
            let own: Vec<Allocation> = book.of_domain(*domain).cloned().collect();
            if right(&own, shown) != *indexed {
                self.index(*domain);
            }
        }
    }
}

/// Returns what the index of a definition should say, sorted.
fn right(own: &[Allocation], shown: &[HookDevice]) -> Vec<Indexed> {
    let listed = own.iter().filter(|one| shows(shown, one));
    let mut right: Vec<Indexed> =
        listed.map(|one| Indexed { id: one.id.clone(), profile: one.profile.clone() }).collect();
    right.sort();
    right
}
