//! Starting again: after a crash, a kill, a power cut or an ordinary restart.
//!
//! The host is read, every open intent is closed by what the host says, and nothing of a running guest
//! is touched: slices without a run are left to the first report of libvirt.

use std::collections::BTreeSet;
use std::time::Instant;

use super::settle::outcome;
use super::{Engine, OPERATION};
use crate::backend::helper;
use crate::ledger::{Book, Change, Intent, Need};
use crate::model::{BootId, Device, HostSnapshot, Refusal, Step};

impl Engine {
    /// Brings the ledger and the host to agreement.
    ///
    /// # Errors
    /// When the host cannot be read or the result cannot be stored.
    pub fn recover(&self) -> Result<(), Refusal> {
        let snapshot = self.fresh(Instant::now() + OPERATION)?;
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
            let learned = outcome(intent, &book, &snapshot);
            if learned.is_empty()
                && let Step::SetVfs { pf, count, .. } = &intent.step
            {
                redo.push((*pf, *count));
            }
            changes.extend(learned);
        }
        changes.extend(forget_vanished(&book, &self.inner.boot_id, &snapshot, &running));
        let count = changes.len();
        self.commit(changes, Need::GiveBack)?;
        self.publish_owned()?;
        tracing::info!(changes = count, unfinished = running.len(), "ledger and host agree");
        for intent in running {
            self.wait_aside(&intent);
        }
        for (pf, count) in redo {
            if let Err(refusal) = self.set_vfs(&pf.to_string(), count) {
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
        self.overrun(intent, move || helper::wait_end(id));
    }
}

/// Slices do not outlive a boot.
fn void_other_boots(book: &Book, boot_id: &BootId) -> Vec<Change> {
    let realized = book.realized.values().filter(|record| record.boot_id != *boot_id);
    let handmade = book.handmade.values().filter(|made| made.boot_id != *boot_id);
    realized
        .map(|record| Change::DeleteRealized(record.allocation.clone()))
        .chain(handmade.map(|made| Change::DeleteHandmade(made.uuid)))
        .collect()
}

/// Forgets records whose slice is no longer there, unless its removal is still under way.
fn forget_vanished(
    book: &Book,
    boot_id: &BootId,
    snapshot: &HostSnapshot,
    running: &[Intent],
) -> Vec<Change> {
    let busy: BTreeSet<Device> = running.iter().filter_map(|intent| intent.step.device()).collect();
    let vanished = |device: Device| {
        !busy.contains(&device)
            && match device {
                Device::Mdev(uuid) => snapshot.mdev(uuid).is_none(),
                Device::Vf(address) => snapshot.vf(address).is_none(),
            }
    };
    let realized =
        book.realized.values().filter(|record| record.boot_id == *boot_id && vanished(record.device));
    let handmade =
        book.handmade.values().filter(|made| made.boot_id == *boot_id && vanished(Device::Mdev(made.uuid)));
    realized
        .map(|record| Change::DeleteRealized(record.allocation.clone()))
        .chain(handmade.map(|made| Change::DeleteHandmade(made.uuid)))
        .collect()
}
