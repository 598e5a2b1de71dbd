//! Leaving a PF to others: its remembered count goes, and the probing of its new VFs is what it was before us.
//!
//! VFs that exist are not touched, whoever uses them.

use std::time::Instant;

use super::settle::outcome;
use super::work::End;
use super::{Engine, OPERATION};
use crate::clock;
use crate::ledger::{Change, Need, VfWish};
use crate::model::{BootId, Device, Gpu, HostSnapshot, Kind, Refusal, Step};
use crate::wire;

impl Engine {
    /// Forgets the remembered count of one PF.
    ///
    /// # Errors
    /// When there is no such PF, while its VFs are being changed, or when the kernel says no.
    pub fn forget_vfs(&self, pf: &str) -> Result<wire::Changed, Refusal> {
        let deadline = Instant::now() + OPERATION;
        let _lane = self.capacity_turn(deadline)?;
        let snapshot = self.fresh(deadline)?;
        let gpu = snapshot.gpu(pf);
        let id = gpu.map_or(pf, |gpu| gpu.id.as_str());
        let wish = self.ledger().book().wishes.values().find(|wish| wish.gpu.as_str() == id).cloned();
        match (wish, gpu) {
            (Some(wish), _) => {
                let notes = self.forget_wish(&wish, &snapshot, deadline)?;
                Ok(wire::Changed { change: wire::Change::Done, notes })
            }
            (None, Some(_)) => Ok(wire::Changed { change: wire::Change::Unchanged, notes: Vec::new() }),
            (None, None) => Err(Refusal::new(Kind::NotFound, format!("no device {pf}"))
                .hint("vgpuctl gpus lists the devices")),
        }
    }

    /// Forgets the remembered counts of all PFs, also of those that are not here now.
    ///
    /// # Errors
    /// As [`Engine::forget_vfs`], at the first PF that cannot be left; those before it are forgotten.
    pub fn forget_all_vfs(&self) -> Result<wire::Changed, Refusal> {
        let deadline = Instant::now() + OPERATION;
        let _lane = self.capacity_turn(deadline)?;
        let wishes: Vec<VfWish> = self.ledger().book().wishes.values().cloned().collect();
        let mut notes = Vec::new();
        for wish in &wishes {
            let snapshot = self.fresh(deadline)?;
            notes.extend(self.forget_wish(wish, &snapshot, deadline)?);
        }
        let change = if wishes.is_empty() { wire::Change::Unchanged } else { wire::Change::Done };
        Ok(wire::Changed { change, notes })
    }

    /// Returns what an admin should know about it.
    fn forget_wish(
        &self,
        wish: &VfWish,
        snapshot: &HostSnapshot,
        deadline: Instant,
    ) -> Result<Vec<String>, Refusal> {
        let gpu = snapshot.gpus.iter().find(|gpu| gpu.id == wish.gpu);
        if let Some(gpu) = gpu {
            self.refuse_changing(gpu)?;
        }
        let Some(step) = gpu.and_then(|gpu| undoing(wish, gpu, &self.inner.boot_id)) else {
            self.commit(vec![Change::DeleteWish(wish.gpu.clone())], Need::GiveBack)?;
            return Ok(self.left_behind(wish, gpu));
        };
        let intent = self.intent(step, None, wish.gpu.clone(), clock::boottime());
        self.commit(vec![Change::OpenIntent(intent.clone())], Need::GiveBack)?;
        match self.in_thread(&intent, deadline) {
            End::Done => {
                let Ok(after) = self.fresh(Instant::now() + OPERATION) else {
                    self.overrun(&intent, || ());
                    return Ok(self.left_behind(wish, gpu));
                };
                let mut changes = outcome(&intent, self.ledger().book(), &after);
                changes.push(Change::CloseIntent(intent.id));
                self.commit(changes, Need::GiveBack)?;
                Ok(self.left_behind(wish, gpu))
            }
            End::Failed(failure) => {
                self.defer(vec![Change::CloseIntent(intent.id)]);
                Err(failure.refusal)
            }
            End::Overrun => Err(Refusal::new(Kind::Busy, format!("{} has not ended in time", intent.step))
                .hint("vgpuctl status shows when it ended")),
        }
    }

    fn left_behind(&self, wish: &VfWish, gpu: Option<&Gpu>) -> Vec<String> {
        let Some(gpu) = gpu else {
            return vec![format!(
                "{}: {} VFs are no longer wanted; it is not here now",
                wish.gpu, wish.count
            )];
        };
        let vfs = gpu.sriov.as_ref().map(|sriov| sriov.vfs.as_slice()).unwrap_or_default();
        let mut notes = vec![format!("{}: {} VFs no longer come back after a boot", gpu.name, wish.count)];
        let ledger = self.ledger();
        let named = ledger.book().allocations.values().filter(
            |one| matches!(one.device, Device::Vf(address) if vfs.iter().any(|vf| vf.address == address)),
        );
        notes.extend(named.map(|one| format!("domain {} names {}", one.domain.name, one.device)));
        notes
    }
}

/// The change that makes probing what it was; `None` when it is so, or was not changed by us since the boot.
fn undoing(wish: &VfWish, gpu: &Gpu, boot_id: &BootId) -> Option<Step> {
    let pf = gpu.pci.as_ref()?.address;
    let now = gpu.sriov.as_ref()?.autoprobe?;
    let before = wish.autoprobe_before?;
    (wish.boot_id == *boot_id && now != before).then_some(Step::SetAutoprobe { pf, on: before })
}
