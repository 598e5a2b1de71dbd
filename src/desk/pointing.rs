//! Standing re-pointing: stopped domains whose named VF cannot be served are pointed at one that can.
//!
//! A thread of its own waits for changes of capacity, gathers them, and plans. Only when the plan names a
//! domain is libvirt asked, and only what it says then decides. A refused start is not gathered: its admin
//! was told another VF and may type `virsh start` again at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{CALL, Desk, ours};
use crate::domain_xml::{self, Exchange};
use crate::engine::{
    DomainState, DomainStates, Engine, Occasions, Repointing, Writing, Written, not_written,
};
use crate::libvirt::{Definition, Hypervisor, Listed, VirtError};
use crate::model::{Allocation, AllocationId, DomainUuid, Refusal};
use crate::wire::Hook;

/// How long nothing may change before a plan is made.
const QUIET: Duration = Duration::from_secs(2);

/// The longest that a stream of changes puts a plan off.
const MOST_QUIET: Duration = Duration::from_secs(10);

/// Some facts have no event, such as a process that opens a VF.
const NOW_AND_THEN: Duration = Duration::from_secs(60);

/// Between two tries while libvirt has not let go of a refused start.
const AGAIN: Duration = Duration::from_millis(500);

impl Desk {
    /// Serves `prepare begin`. A refusal says which VF the domain is about to name when that could be served.
    ///
    /// # Errors
    /// The refusal of the start.
    pub fn prepare(&self, hook: &Hook, deadline: Instant, hung_up: &dyn Fn() -> bool) -> Result<(), Refusal> {
        self.engine.prepare(hook, deadline, hung_up).map_err(|refusal| self.with_way_out(hook, refusal))
    }

    fn with_way_out(&self, hook: &Hook, refusal: Refusal) -> Refusal {
        if self.link.is_off() || self.engine.read_only().is_some() {
            return refusal;
        }
        let moves = self.engine.after_refusal(hook);
        if moves.is_empty() {
            return refusal;
        }
        let vfs: Vec<String> = moves.iter().map(|one| format!("VF {} of {}", one.to, one.pf)).collect();
        let hint = format!("domain {} now names {}; start it again", hook.domain, vfs.join(" and "));
        Refusal { hints: vec![hint], ..refusal }
    }

    /// Keeps stopped domains pointed at VFs that can be served. Does not return.
    pub fn keep_pointing(&self) {
        let mut heard = 0;
        loop {
            let mends = !self.engine.refused_starts().is_empty();
            let rung = self.engine.wait_capacity(heard, if mends { AGAIN } else { NOW_AND_THEN });
            self.mend_refused();
            if rung == heard && mends {
                continue;
            }
            heard = self.gather(rung);
            if let Err(refusal) = self.point_standing() {
                tracing::debug!(error = %refusal, "stopped domains are not re-pointed now, trying again later");
            }
        }
    }

    /// Waits until nothing has changed for a while. Returns how often the bell was rung then.
    fn gather(&self, rung: u64) -> u64 {
        let (mut heard, end) = (rung, Instant::now() + MOST_QUIET);
        loop {
            let mends = !self.engine.refused_starts().is_empty();
            let quiet = if mends { AGAIN } else { QUIET };
            let now =
                self.engine.wait_capacity(heard, quiet.min(end.saturating_duration_since(Instant::now())));
            self.mend_refused();
            if (now == heard && !mends) || Instant::now() >= end {
                return now;
            }
            heard = now;
        }
    }

    /// Points the domains whose admins were told so.
    fn mend_refused(&self) {
        let occasions = self.engine.refused_starts();
        let wanted: Vec<DomainUuid> = occasions.keys().copied().collect();
        let states = match self.states(&wanted) {
            Ok(states) => states,
            Err(error) => {
                tracing::debug!(%error, "libvirt does not tell of refused starts now");
                return;
            }
        };
        for domain in wanted {
            match states.get(&domain) {
                // libvirt has not let go of it, or it was started in another way.
                Some(state) if state.active => {}
                Some(_) => {
                    if let Err(refusal) = self.point_one(domain, &states, &occasions) {
                        tracing::warn!(%domain, error = %refusal, "a refused start could not be mended");
                    }
                    self.engine.forget_refused(domain);
                }
                None => self.engine.forget_refused(domain),
            }
        }
    }

    fn point_standing(&self) -> Result<(), Refusal> {
        if self.link.is_off() {
            return Ok(());
        }
        let wanted = self.engine.needs_pointing()?;
        let states = self.states(&wanted).map_err(|error| Refusal::from(&error))?;
        let mut due: Vec<DomainUuid> = Vec::new();
        for one in self.engine.plan_pointing(&states, &Occasions::new())? {
            if !due.contains(&one.domain.uuid) {
                due.push(one.domain.uuid);
            }
        }
        for domain in due {
            if let Err(refusal) = self.point_one(domain, &states, &Occasions::new()) {
                tracing::warn!(%domain, error = %refusal, "a stopped domain could not be re-pointed");
            }
        }
        Ok(())
    }

    /// Exchanges what is due in one domain's definition. Returns what was exchanged.
    pub(super) fn point_one(
        &self,
        domain: DomainUuid,
        states: &DomainStates,
        occasions: &Occasions,
    ) -> Result<Vec<Repointing>, Refusal> {
        let Some(writing) = self.engine.begin_pointing(domain, states, occasions)? else {
            return Ok(Vec::new());
        };
        let done = self.write(domain, &writing);
        let written = match &done {
            Ok(()) => Written::Yes,
            Err(VirtError::Deadline { .. }) => Written::Unknown,
            Err(_) => Written::No,
        };
        self.engine.end_pointing(&writing, written);
        let name = writing.moves().first().map_or("", |one| one.domain.name.as_str());
        match done {
            Ok(()) => Ok(writing.moves().to_vec()),
            Err(VirtError::Refused { message, .. }) => Err(not_written(name, &message)),
            Err(error) => Err(Refusal::from(&error)),
        }
    }

    fn write(&self, domain: DomainUuid, writing: &Writing) -> Result<(), VirtError> {
        let (engine, moves) = (self.engine.clone(), writing.moves().to_vec());
        self.link.call("define a domain", CALL, move |host| write(host, &engine, domain, &moves))
    }

    /// Asks libvirt for what decides about re-pointing.
    pub(super) fn states(&self, wanted: &[DomainUuid]) -> Result<DomainStates, VirtError> {
        if wanted.is_empty() {
            return Ok(DomainStates::new());
        }
        let book = self.engine.book();
        let promised: BTreeMap<DomainUuid, Vec<Allocation>> =
            wanted.iter().map(|domain| (*domain, book.of_domain(*domain).cloned().collect())).collect();
        self.link.call("list domains", CALL, move |host| states(host, &promised))
    }
}

fn states(
    host: &mut dyn Hypervisor,
    promised: &BTreeMap<DomainUuid, Vec<Allocation>>,
) -> Result<DomainStates, VirtError> {
    let mut states = DomainStates::new();
    for Listed { domain, active, .. } in host.list()? {
        let Some(allocations) = promised.get(&domain.uuid) else { continue };
        let read = host.images(domain.uuid).and_then(|images| {
            let xml = host.xml(domain.uuid, Definition::Inactive)?;
            Ok((images.managed_save && !active, xml))
        });
        let (saved, xml) = match read {
            // Undefined since it was listed.
            Err(VirtError::NoDomain(_)) => continue,
            read => read?,
        };
        states.insert(domain.uuid, DomainState { active, saved, names: names(&xml, allocations) });
    }
    Ok(states)
}

/// Returns the VF that the definition names for each of the domain's allocations.
fn names(xml: &str, allocations: &[Allocation]) -> BTreeMap<AllocationId, crate::model::PciAddress> {
    let shown = ours(xml).unwrap_or_default();
    let of = |one: &Allocation| {
        let marked = shown.iter().find(|device| device.allocation.as_ref() == Some(&one.id));
        let unmarked =
            || shown.iter().find(|device| device.allocation.is_none() && one.may_name(device.device));
        Some((one.id.clone(), marked.or_else(unmarked)?.device.vf()?))
    };
    allocations.iter().filter_map(of).collect()
}

/// Writes one definition anew with only the addresses exchanged, if it is still what was read.
fn write(
    host: &mut dyn Hypervisor,
    engine: &Engine,
    domain: DomainUuid,
    moves: &[Repointing],
) -> Result<(), VirtError> {
    const ACT: &str = "point at another VF in the definition of";
    let refused = |message: String| VirtError::Refused { act: ACT, domain: domain.to_string(), message };
    let before = host.secure_xml(domain)?;
    let exchanges: Vec<Exchange> = moves
        .iter()
        .map(|one| Exchange { allocation: one.allocation.clone(), from: one.from, to: one.to })
        .collect();
    let after = domain_xml::exchange(&before, &exchanges).map_err(|error| refused(error.to_string()))?;
    if host.images(domain)?.managed_save {
        return Err(refused("it has a managed save image".to_owned()));
    }
    if host.list()?.iter().any(|listed| listed.domain.uuid == domain && listed.active) {
        return Err(refused("it runs".to_owned()));
    }
    if host.secure_xml(domain)? != before {
        return Err(refused("somebody else changed it meanwhile".to_owned()));
    }
    if !engine.may_define(domain, moves) {
        return Err(refused("it is being started or stopped".to_owned()));
    }
    host.define(domain, &after)?;
    match host.secure_xml(domain) {
        Ok(now) if now == after => {}
        // libvirt writes what it understood in its own way; the next look tells what the definition names.
        Ok(_) => {
            tracing::warn!(%domain, "libvirt's definition differs from what was written in more than VF addresses")
        }
        Err(error) => tracing::debug!(%domain, %error, "the definition cannot be read back now"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::{pci, vf_allocation};

    #[test]
    fn a_definition_names_by_alias_or_else_by_address() {
        let hostdev = |alias: &str, bus: u32| {
            format!(
                "<hostdev mode='subsystem' type='pci'><source><address bus='{bus}'/></source>{alias}</hostdev>"
            )
        };
        let own = format!("<alias name='{}'/>", AllocationId::from_bits(1).alias());
        let xml = |devices: String| {
            let uuid = "11111111-1111-4111-8111-111111111111";
            format!("<domain><name>a</name><uuid>{uuid}</uuid><devices>{devices}</devices></domain>")
        };
        let one = [vf_allocation(1, 7, "0000:05:00.0")];
        let names = |devices: String| names(&xml(devices), &one).into_values().collect::<Vec<_>>();
        assert_eq!(names(hostdev(&own, 6)), [pci("0000:06:00.0")]);
        assert_eq!(names(hostdev("", 5)), [pci("0000:05:00.0")]);
        assert_eq!(names(hostdev("", 6)), []);
        assert_eq!(names("<hostdev/>".to_owned()), []);
    }
}
