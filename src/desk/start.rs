//! `vgpuctl start`: points one domain at VFs that can be served, then lets libvirt start it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Desk;
use crate::engine::{DomainStates, Occasion, Occasions, Repointing};
use crate::libvirt::Listed;
use crate::model::{Allocation, AllocationId, Kind, PciAddress, Refusal};
use crate::wire::{self, Change, Repointed, Start};

/// libvirt pins all of a guest's memory while it starts one with VFIO devices.
const START: Duration = Duration::from_secs(300);

/// Others start domains too and may take the VF in between.
const TRIES: u32 = 3;

/// The VF that each allocation's hostdev names.
type Names = BTreeMap<AllocationId, PciAddress>;

impl Desk {
    /// Starts a domain through libvirt, after pointing it at VFs that can be served where that is needed.
    ///
    /// # Errors
    /// When there is no such domain, nothing has room, or libvirt refuses.
    pub fn start(&self, request: &Start) -> Result<wire::Started, Refusal> {
        let listed = self.find(&request.domain)?;
        if listed.active {
            let notes = vec![format!("domain {} runs already", listed.domain.name)];
            return Ok(self.started(&listed, Change::Unchanged, Vec::new(), notes));
        }
        let mut repointed = Vec::new();
        for tries in 1.. {
            let (moves, tried) = self.point_for_start(&listed, request.dry_run)?;
            repointed.extend(moves);
            if request.dry_run {
                return Ok(self.started(&listed, Change::Planned, repointed, Vec::new()));
            }
            let uuid = listed.domain.uuid;
            let done = self.link.call("start a domain", START, move |host| host.start(uuid));
            let Err(error) = done else { break };
            let refusal = Refusal::from(&error);
            // A start that lost a race: where the domain can go instead is planned, or written already.
            let names = |states: DomainStates| states.get(&uuid).map(|state| state.names.clone());
            let moved =
                self.states(&[uuid]).is_ok_and(|states| names(states).is_some_and(|now| now != tried));
            let lost = moved || self.engine.refused_starts().contains_key(&uuid);
            if !lost || tries >= TRIES {
                return Err(refusal);
            }
            tracing::info!(domain = %listed.domain.name, error = %refusal, "a start lost its VF to another, trying again");
        }
        self.engine.guests_changed();
        Ok(self.started(&listed, Change::Done, repointed, Vec::new()))
    }

    /// Points the domain where it is needed; a dry run only says where to. Returns also what it names then.
    fn point_for_start(&self, listed: &Listed, dry_run: bool) -> Result<(Vec<Repointing>, Names), Refusal> {
        let uuid = listed.domain.uuid;
        let states: DomainStates = self.states(&[uuid]).map_err(|error| Refusal::from(&error))?;
        let occasions: Occasions = [(uuid, Occasion::Asked)].into();
        let planned = self.engine.plan_pointing(&states, &occasions)?;
        let mut names = states.get(&uuid).map(|state| state.names.clone()).unwrap_or_default();
        names.extend(planned.iter().map(|one| (one.allocation.clone(), one.to)));
        let saved = states.get(&uuid).is_some_and(|state| state.saved);
        // What a saved guest names is in its image, not in the definition.
        if !saved {
            self.engine.rehearse_start(uuid, &names).map_err(|refusal| {
                match self.engine.fixed_terms(uuid) {
                    Some(why) if refusal.kind == Kind::NoCapacity => refusal.hint(why),
                    _ => refusal,
                }
            })?;
        }
        if dry_run || planned.is_empty() {
            return Ok((planned, names));
        }
        let moves = self.point_one(uuid, &states, &occasions)?;
        names.extend(moves.iter().map(|one| (one.allocation.clone(), one.to)));
        Ok((moves, names))
    }

    pub(super) fn started(
        &self,
        listed: &Listed,
        change: Change,
        moves: Vec<Repointing>,
        notes: Vec<String>,
    ) -> wire::Started {
        let own: Vec<Allocation> = self.engine.book().of_domain(listed.domain.uuid).cloned().collect();
        let repointed = moves
            .into_iter()
            .map(|one| Repointed { allocation: one.allocation, from: one.from, to: one.to, why: one.why })
            .collect();
        wire::Started {
            change,
            domain: listed.domain.name.clone(),
            repointed,
            allocations: self.engine.views(&own),
            notes,
        }
    }

    /// Returns the ids that a start was about, for the history.
    #[must_use]
    pub fn started_ids(started: &wire::Started) -> Vec<AllocationId> {
        started.allocations.iter().map(|view| view.allocation.id.clone()).collect()
    }
}
