//! Starting again: after a crash, a kill, a power cut or an ordinary restart.
//!
//! The host is read, every open intent is closed by what the host says, and nothing of a running guest
//! is touched: slices without a run are left to the first report of libvirt.

use std::collections::BTreeSet;
use std::time::Instant;

use super::boot::others;
use super::guaranteed::is_guaranteed;
use super::settle::outcome;
use super::settled::settled_by;
use super::{Engine, OPERATION};
use crate::backend::helper;
use crate::ledger::{Book, Change, Intent, Need};
use crate::model::{
    Allocation, BootId, Device, Gpu, HostSnapshot, Kind, MdevTypeId, PciAddress, Realized, Refusal, Sriov,
    Step,
};

impl Engine {
    /// Brings the ledger and the host to agreement.
    ///
    /// # Errors
    /// When the host cannot be read or the result cannot be stored.
    pub fn recover(&self) -> Result<(), Refusal> {
        let snapshot = self.fresh(Instant::now() + OPERATION)?;
        if let Some(why) = self.read_only() {
            tracing::error!(reason = %why, "nothing is changed until the database is made anew: vgpuctl adopt --rebuild");
            return Ok(());
        }
        let book = self.book();
        let (running, ended): (Vec<Intent>, Vec<Intent>) =
            book.intents.values().cloned().partition(|intent| self.is_running(intent));
        let mut changes = void_other_boots(&book, &self.inner.boot_id);
        let mut redo = Vec::new();
        for intent in &ended {
            changes.push(Change::CloseIntent(intent.id));
            if intent.boot_id != self.inner.boot_id {
                continue;
            }
            if let Some(count) = cut_short(intent, &book, &self.inner.boot_id, &snapshot) {
                redo.extend(count);
                continue;
            }
            changes.extend(outcome(intent, &book, &snapshot));
        }
        changes.extend(forget_vanished(&book, &self.inner.boot_id, &snapshot, &running));
        let count = changes.len();
        self.commit(changes, Need::GiveBack)?;
        self.publish_owned()?;
        tracing::info!(changes = count, unfinished = running.len(), "ledger and host agree");
        for intent in running {
            self.wait_aside(&intent);
        }
        for Cut { pf, count, through_none } in redo {
            let admits = |sriov: &Sriov| match through_none || sriov.enabled == 0 || sriov.enabled == count {
                true => Ok(()),
                false => Err(Refusal::new(Kind::Conflict, others(sriov.enabled))),
            };
            if let Err(refusal) = self.change_vfs(&pf.to_string(), count, admits) {
                tracing::error!(%pf, count, error = %refusal, "a change of VFs was cut short and cannot be completed; set the count again");
            }
        }
        Ok(())
    }

    fn is_running(&self, intent: &Intent) -> bool {
        intent.boot_id == self.inner.boot_id && intent.helper.is_some_and(|id| id.is_alive())
    }

    /// A helper of an earlier service is not our child: its end is noticed by looking.
    fn wait_aside(&self, intent: &Intent) {
        let Some(id) = intent.helper else { return };
        if let Err(refusal) = self.close_nvml(intent) {
            tracing::warn!(error = %refusal, "a change of VFs goes on beside a session of NVML");
        }
        self.overrun(intent, move || helper::wait_end(id));
    }
}

/// A change of VFs that did not come to its end.
struct Cut {
    pf: PciAddress,
    count: u32,
    /// Whether the PF had other VFs before, so that the way to the new count leads through 0.
    through_none: bool,
}

/// Returns whether an intent is a change of VFs that was cut short, before the count or before the last VF was
/// on its driver; and what is to be done again now. One that restores the count of an earlier boot is left to
/// the restore, which goes on with it.
fn cut_short(intent: &Intent, book: &Book, boot_id: &BootId, snapshot: &HostSnapshot) -> Option<Option<Cut>> {
    let Step::SetVfs { pf, count, before, .. } = intent.step else { return None };
    let is_whole = |gpu: &Gpu| {
        let sriov = gpu.sriov.as_ref();
        sriov.is_some_and(|sriov| sriov.enabled == count && sriov.vfs.iter().all(|vf| gpu.has_bound(vf)))
    };
    if snapshot.gpu(&pf.to_string()).is_some_and(is_whole) {
        return None;
    }
    let wish = book.wishes.get(&intent.gpu);
    let restores = wish.is_some_and(|wish| wish.count == count && wish.boot_id != *boot_id);
    Some((!restores).then_some(Cut { pf, count, through_none: before != 0 }))
}

/// Slices do not outlive a boot.
fn void_other_boots(book: &Book, boot_id: &BootId) -> Vec<Change> {
    let realized = book.realized.values().filter(|record| record.boot_id != *boot_id);
    let handmade = book.handmade.values().filter(|made| made.boot_id != *boot_id);
    realized
        .flat_map(|record| forget(book, record))
        .chain(handmade.map(|made| Change::DeleteHandmade(made.uuid)))
        .collect()
}

/// Forgets a slice that went. A guaranteed one is made again where it was, so that is kept.
fn forget(book: &Book, record: &Realized) -> Vec<Change> {
    let guaranteed = book.allocations.get(&record.allocation).filter(|one| is_guaranteed(one));
    let place = guaranteed.and_then(|one| {
        let settled = settled_by(one, record)?;
        Some(Change::PutAllocation(Allocation { settled: Some(settled), ..one.clone() }))
    });
    place.into_iter().chain([Change::DeleteRealized(record.allocation.clone())]).collect()
}

/// Forgets records whose slice is no longer there, unless its removal is still under way or it is guaranteed.
fn forget_vanished(
    book: &Book,
    boot_id: &BootId,
    snapshot: &HostSnapshot,
    running: &[Intent],
) -> Vec<Change> {
    let busy: BTreeSet<Device> = running.iter().filter_map(|intent| intent.step.device()).collect();
    let vanished = |device: Device, of_type: Option<&MdevTypeId>| {
        !busy.contains(&device)
            && match device {
                Device::Mdev(uuid) => snapshot.mdev(uuid).is_none(),
                Device::Vf(address) => match snapshot.function(address) {
                    None => true,
                    Some((_, vf)) => of_type.is_some() && vf.vgpu_type() != of_type,
                },
            }
    };
    // The record of a guaranteed slice stays: it tells that somebody took the slice away in this boot.
    let realized = book.realized.values().filter(|record| {
        record.boot_id == *boot_id
            && vanished(record.device, record.mdev_type.as_ref())
            && !book.keeps(&record.allocation)
    });
    let handmade = book
        .handmade
        .values()
        .filter(|made| made.boot_id == *boot_id && vanished(Device::Mdev(made.uuid), None));
    realized
        .flat_map(|record| forget(book, record))
        .chain(handmade.map(|made| Change::DeleteHandmade(made.uuid)))
        .collect()
}
