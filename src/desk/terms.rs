//! Other terms for promises, and changed profiles: the engine must know which domains run.

use super::{CALL, Desk};
use crate::clock;
use crate::engine::{Activity, DomainNow};
use crate::libvirt::VirtError;
use crate::model::{Allocation, AllocationId, Kind, Refusal};
use crate::wire::{Changed, EditProfile, Edited, SetTerms};

impl Desk {
    /// Changes the terms of one allocation, or of all of a domain. Returns of which, too.
    ///
    /// # Errors
    /// When there is no such allocation or domain, libvirt cannot say whether the domain runs, or the engine refuses.
    pub fn set_terms(&self, request: &SetTerms) -> Result<(Changed, Vec<Allocation>), Refusal> {
        let chosen = self.named(&request.which)?;
        let ids: Vec<AllocationId> = chosen.iter().map(|one| one.id.clone()).collect();
        let asked_at = clock::boottime();
        let listed = self.link.call("list domains", CALL, |host| host.list());
        let listed = listed.map_err(|error| Refusal::from(&error))?;
        let runs = |one: &Allocation| {
            listed.iter().any(|listed| listed.active && listed.domain.uuid == one.domain.uuid)
        };
        let now = DomainNow { asked_at, active: chosen.iter().any(runs) };
        let changed = self.engine.set_terms(&ids, request, now)?;
        self.link.poke();
        Ok((changed, chosen))
    }

    /// Finds allocations of one domain by an allocation's id, or by their domain's name or UUID.
    fn named(&self, which: &str) -> Result<Vec<Allocation>, Refusal> {
        let book = self.engine.book();
        if let Some(one) = which.parse().ok().and_then(|id: AllocationId| book.allocations.get(&id)) {
            return Ok(vec![one.clone()]);
        }
        let lower = which.to_ascii_lowercase();
        let of = |one: &&Allocation| one.domain.name == which || one.domain.uuid.to_string() == lower;
        let found: Vec<Allocation> = book.allocations.values().filter(of).cloned().collect();
        let several = found.iter().any(|one| found.iter().any(|other| other.domain.uuid != one.domain.uuid));
        match (found.is_empty(), several) {
            (false, false) => Ok(found),
            (true, _) => {
                let which = crate::model::one_line(which, 80);
                Err(Refusal::new(
                    Kind::NotFound,
                    format!("no allocation, and no domain with one, is {which}"),
                )
                .hint("vgpuctl allocations lists them"))
            }
            (false, true) => {
                let text = format!("several domains are known as {}", crate::model::one_line(which, 80));
                Err(Refusal::new(Kind::Conflict, text).hint("name the allocation or the domain's UUID"))
            }
        }
    }

    /// Changes a profile and says who is affected.
    ///
    /// # Errors
    /// See [`crate::engine::Engine::edit_profile`].
    pub fn edit_profile(&self, edit: &EditProfile) -> Result<Edited, Refusal> {
        self.engine.edit_profile(edit, self.activity().as_ref())
    }

    fn activity(&self) -> Option<Activity> {
        let asked_at = clock::boottime();
        match self.link.call("list domains", CALL, |host| host.list()) {
            Ok(listed) => {
                let active = listed.into_iter().map(|one| (one.domain.uuid, one.active)).collect();
                Some(Activity { asked_at, active })
            }
            Err(VirtError::Off) => None,
            Err(error) => {
                tracing::warn!(%error, "libvirt cannot say which domains run, a changed profile takes effect when they stop");
                None
            }
        }
    }
}
