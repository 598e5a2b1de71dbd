//! What of ours was changed by hand. Pure: the book, a reading of the host and libvirt's last report in, one
//! sentence each out. It is shown and never corrected by itself; when it is put right it is no longer found.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::Engine;
use super::foreign::undefine;
use super::look::{Seen, Touched};
use crate::inventory::Definitions;
use crate::ledger::Book;
use crate::model::{
    Allocation, AllocationId, BootId, Device, DomainUuid, Gpu, HookDevice, HostSnapshot, PciAddress,
    Realized, Step,
};
use crate::wire::{Drift, DriftKind};

/// What is compared.
pub(super) struct Facts<'a> {
    pub(super) book: &'a Book,
    pub(super) boot_id: &'a BootId,
    pub(super) definitions: &'a Definitions,
}

/// Compares the book with the host. The snapshot must not be older than the last change of ours.
pub(super) fn of_host(facts: &Facts<'_>, snapshot: &HostSnapshot) -> Vec<Drift> {
    let mut found = Vec::new();
    found.extend(facts.book.realized.values().filter_map(|record| slice(facts, snapshot, record)));
    found.extend(handmade(facts, snapshot));
    found.extend(vf_counts(facts, snapshot));
    found.extend(vf_drivers(facts, snapshot));
    found.extend(autostarts(facts));
    found.sort();
    found
}

fn is_changing(book: &Book, device: Device) -> bool {
    book.intents.values().any(|intent| intent.step.device() == Some(device))
}

fn about(
    kind: DriftKind,
    object: impl ToString,
    allocation: Option<&Allocation>,
    text: String,
    fix: String,
) -> Drift {
    Drift {
        kind,
        object: object.to_string(),
        domain: allocation.map(|one| one.domain.name.clone()),
        allocation: allocation.map(|one| one.id.clone()),
        text,
        fix,
    }
}

/// A slice that was made in this boot, and what became of it.
fn slice(facts: &Facts<'_>, snapshot: &HostSnapshot, record: &Realized) -> Option<Drift> {
    let allocation = facts.book.allocations.get(&record.allocation);
    let (Some(one), false) = (allocation, is_changing(facts.book, record.device)) else { return None };
    if record.boot_id != *facts.boot_id {
        return None;
    }
    let uuid = match record.device {
        Device::Mdev(uuid) => uuid,
        Device::Vf(vf) => return vgpu(record, one, snapshot, vf),
    };
    let (id, domain) = (&one.id, &one.domain.name);
    let Some((_, parent, mdev)) = snapshot.mdev(uuid) else {
        let text = format!("mdev {uuid} of domain {domain} was on {} and was removed by hand", record.parent);
        let fix = format!("stop and start domain {domain}: the start makes it again");
        return Some(about(DriftKind::SliceGone, uuid, allocation, text, fix));
    };
    if is_where(record, snapshot) {
        return None;
    }
    let was = record.mdev_type.as_ref().map(ToString::to_string).unwrap_or_default();
    let text = format!(
        "mdev {uuid} of domain {domain} was made as {was} on {}, and is {} on {} now: somebody made it again",
        record.parent, mdev.mdev_type, parent.name
    );
    let fix = format!(
        "take it away as whoever made it does, then start domain {domain} again; or leave it to them: vgpuctl disown {id}"
    );
    Some(about(DriftKind::SliceReplaced, uuid, allocation, text, fix))
}

/// The vGPU of a VF that was made in this boot.
fn vgpu(record: &Realized, one: &Allocation, snapshot: &HostSnapshot, vf: PciAddress) -> Option<Drift> {
    let made = record.mdev_type.as_ref()?;
    let (id, domain) = (&one.id, &one.domain.name);
    let now = snapshot.vf(vf).and_then(|(_, vf)| vf.vgpu_type());
    let Some(now) = now else {
        let text = format!("vGPU {made} of domain {domain} was on VF {vf} and was taken away by hand");
        let fix = format!("stop and start domain {domain}: the start makes it again");
        return Some(about(DriftKind::SliceGone, vf, Some(one), text, fix));
    };
    if now == made {
        return None;
    }
    let text = format!(
        "VF {vf} of domain {domain} was made a vGPU of {made} and is {now} now: somebody made it again"
    );
    let fix = format!(
        "take it away as whoever made it does, then start domain {domain} again; or leave it to them: vgpuctl disown {id}"
    );
    Some(about(DriftKind::SliceReplaced, vf, Some(one), text, fix))
}

/// Returns whether an mdev or vGPU is where and what its record says, as far as it exists.
pub(super) fn is_where(record: &Realized, snapshot: &HostSnapshot) -> bool {
    let uuid = match record.device {
        Device::Mdev(uuid) => uuid,
        Device::Vf(vf) => {
            let found = snapshot.vgpu_type_on(vf);
            return found.is_none() || found == record.mdev_type.as_ref();
        }
    };
    snapshot.mdev(uuid).is_none_or(|(_, parent, mdev)| {
        parent.name == record.parent && record.mdev_type.as_ref().is_none_or(|made| *made == mdev.mdev_type)
    })
}

fn handmade(facts: &Facts<'_>, snapshot: &HostSnapshot) -> Vec<Drift> {
    let here = facts.book.handmade.values().filter(|made| made.boot_id == *facts.boot_id);
    let gone = here.filter(|made| {
        snapshot.mdev(made.uuid).is_none() && !is_changing(facts.book, Device::Mdev(made.uuid))
    });
    gone.map(|made| {
        let text = format!("mdev {} on {}, made with vgpuctl, was removed by hand", made.uuid, made.parent);
        let fix = format!("forget it with: vgpuctl mdev remove {}", made.uuid);
        about(DriftKind::SliceGone, made.uuid, None, text, fix)
    })
    .collect()
}

/// The PFs whose count of VFs was set in this boot and is not being changed.
fn managed<'a>(facts: &Facts<'a>, snapshot: &'a HostSnapshot) -> Vec<(&'a Gpu, u32)> {
    let set = facts.book.wishes.values().filter(|wish| wish.boot_id == *facts.boot_id);
    let changing = |gpu: &Gpu| {
        let mut open = facts.book.intents.values();
        open.any(|intent| intent.gpu == gpu.id && matches!(intent.step, Step::SetVfs { .. }))
    };
    set.filter_map(|wish| {
        let gpu = snapshot.gpus.iter().find(|gpu| gpu.id == wish.gpu)?;
        (!changing(gpu)).then_some((gpu, wish.count))
    })
    .collect()
}

fn vf_counts(facts: &Facts<'_>, snapshot: &HostSnapshot) -> Vec<Drift> {
    let wrong = managed(facts, snapshot).into_iter().filter_map(|(gpu, count)| {
        let enabled = gpu.sriov.as_ref()?.enabled;
        (enabled != count).then_some((gpu, count, enabled))
    });
    wrong
        .map(|(gpu, count, enabled)| {
            let text = format!("{} has {enabled} VFs, {count} were set: changed by hand", gpu.name);
            let fix = format!(
                "vgpuctl vfs set {0} {count} brings them back, vgpuctl vfs set {0} {enabled} takes the new number over",
                gpu.name
            );
            about(DriftKind::VfCount, &gpu.name, None, text, fix)
        })
        .collect()
}

fn vf_drivers(facts: &Facts<'_>, snapshot: &HostSnapshot) -> Vec<Drift> {
    let mut found = Vec::new();
    let given_out = |gpu: &Gpu| gpu.backend.gives_bare_vfs();
    for (gpu, count) in managed(facts, snapshot).into_iter().filter(|(gpu, _)| given_out(gpu)) {
        let vfs = gpu.sriov.iter().filter(|sriov| sriov.enabled == count).flat_map(|sriov| &sriov.vfs);
        for vf in vfs.filter(|vf| !vf.vfio && !is_changing(facts.book, Device::Vf(vf.address))) {
            let device = Device::Vf(vf.address);
            let made = facts.book.realized.values().find(|record| record.device == device);
            let allocation = made.and_then(|record| facts.book.allocations.get(&record.allocation));
            let driver = vf.driver.as_deref().map_or("no driver".to_owned(), |name| format!("driver {name}"));
            let text = format!(
                "VF {} of {} is on {driver}, not on its VFIO driver: changed by hand",
                vf.address, gpu.name
            );
            let fix = format!(
                "the start of a domain that names it binds it; all free ones: vgpuctl vfs set {} {count}",
                gpu.name
            );
            found.push(about(DriftKind::VfDriver, vf.address, allocation, text, fix));
        }
    }
    found
}

/// mdevctl would make these at the next boot, and the start of their domain would find them made.
fn autostarts(facts: &Facts<'_>) -> Vec<Drift> {
    let promised = facts.book.allocations.values().filter_map(|one| match one.device {
        Device::Mdev(uuid) => Some((one, uuid)),
        Device::Vf(_) => None,
    });
    promised
        .filter_map(|(one, uuid)| {
            let auto = facts.definitions.of(uuid).iter().find(|definition| definition.auto)?;
            let text = format!(
                "mdevctl makes mdev {uuid} of domain {} on {} at every boot: its start is refused then",
                one.domain.name, auto.parent
            );
            Some(about(DriftKind::MdevctlAutostart, uuid, Some(one), text, undefine(uuid)))
        })
        .collect()
}

/// Compares the book with the definitions that libvirt showed last.
pub(super) fn of_definitions(book: &Book, touched: &Touched, seen: &Seen) -> Vec<Drift> {
    let old = |id: &AllocationId| touched.get(id).is_some_and(|at| *at >= seen.asked_at);
    let mut found = Vec::new();
    for (uuid, domain) in &seen.domains {
        for shown in domain.inactive.iter().flatten() {
            let Some(id) = shown.allocation.as_ref().filter(|id| !old(id)) else { continue };
            let known = book.allocations.get(id);
            let name = &domain.name;
            match known {
                None => found.push(unknown(name, id, shown)),
                Some(one) if one.domain.uuid != *uuid => found.push(copied(name, one, shown)),
                // Of VFs the definition tells which one it is.
                Some(one) if one.device.vf().and(shown.device.vf()).is_some() => {}
                Some(one) if !one.may_name(shown.device) => found.push(edited(name, one, shown)),
                Some(_) => {}
            }
        }
    }
    found.sort();
    found
}

fn unknown(name: &str, id: &AllocationId, shown: &HookDevice) -> Drift {
    Drift {
        kind: DriftKind::AliasUnknown,
        object: shown.device.to_string(),
        domain: Some(name.to_owned()),
        allocation: Some(id.clone()),
        text: format!(
            "domain {name} names {} as allocation {id}, which is not known: its start is refused",
            shown.device
        ),
        fix: "vgpuctl adopt --rebuild makes it known again, or remove that hostdev with virsh edit"
            .to_owned(),
    }
}

fn copied(name: &str, one: &Allocation, shown: &HookDevice) -> Drift {
    let text = format!(
        "domain {name} names {} of domain {} (allocation {}), as a copy does: its start is refused",
        shown.device, one.domain.name, one.id
    );
    let fix = format!(
        "vgpuctl attach {name} --profile {} gives it its own; remove the copied hostdev with virsh edit",
        one.profile
    );
    Drift {
        domain: Some(name.to_owned()),
        ..about(DriftKind::AliasCopied, shown.device, Some(one), text, fix)
    }
}

fn edited(name: &str, one: &Allocation, shown: &HookDevice) -> Drift {
    let text = format!(
        "the hostdev of allocation {} in domain {name} names {}, but {} was promised: its start is refused",
        one.id, shown.device, one.device
    );
    let fix = format!(
        "write {} back with virsh edit, or take it as it is: vgpuctl disown {}, then vgpuctl adopt {name} --profile {}",
        one.device, one.id, one.profile
    );
    about(DriftKind::HostdevEdited, shown.device, Some(one), text, fix)
}

impl Engine {
    /// Returns the newest reading, unless it began before our last change: it would take that for somebody else's.
    fn newest_since_change(&self) -> Option<Arc<HostSnapshot>> {
        let (snapshot, age) = self.recent().ok()?;
        self.shows_last_change(age).then_some(snapshot)
    }

    /// Returns whether a reading that began `age` ago shows all that we changed.
    pub(super) fn shows_last_change(&self, age: Duration) -> bool {
        let changed = *self.inner.changed.lock().unwrap_or_else(PoisonError::into_inner);
        changed.is_none_or(|at| age < at.elapsed())
    }

    /// As [`Engine::newest_since_change`], reading anew where it must.
    pub(super) fn since_change(&self, deadline: Instant) -> Option<Arc<HostSnapshot>> {
        self.newest_since_change().or_else(|| self.fresh(deadline).ok())
    }

    /// Returns what of ours was changed by hand, as far as the newest reading and libvirt's last report tell.
    pub(super) fn drift(&self) -> Vec<Drift> {
        let definitions = Definitions::read(&self.inner.sysfs);
        let reading = self.recent().ok();
        let asked = Instant::now();
        let touched = self.touched();
        let seen = self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let ledger = self.ledger();
        // A change may have ended while the lock was waited for.
        let reading = reading.filter(|(_, age)| self.shows_last_change(*age + asked.elapsed()));
        let facts = Facts { book: ledger.book(), boot_id: &self.inner.boot_id, definitions: &definitions };
        let mut found = reading.map(|(snapshot, _)| of_host(&facts, &snapshot)).unwrap_or_default();
        found.extend(seen.map(|seen| of_definitions(facts.book, &touched, &seen)).unwrap_or_default());
        found
    }

    /// Returns the domains whose definitions must be looked at again, because something is odd in them.
    #[must_use]
    pub fn odd_domains(&self) -> Vec<DomainUuid> {
        let touched = self.touched();
        let seen = self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(seen) = seen else { return Vec::new() };
        let found = of_definitions(self.ledger().book(), &touched, &seen);
        let odd: BTreeSet<String> = found.into_iter().filter_map(|drift| drift.domain).collect();
        let domains = seen.domains.iter().filter(|(_, domain)| odd.contains(&domain.name));
        domains.map(|(uuid, _)| *uuid).collect()
    }
}

#[cfg(test)]
mod tests;
