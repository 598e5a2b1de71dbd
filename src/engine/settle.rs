//! What became of an announced change: the host's word, turned into ledger changes. Pure but for the last step.

use std::time::Instant;

use super::round::merged;
use super::{Engine, OPERATION};
use crate::ledger::{Book, Change, Handmade, Intent, IntentId, VfWish};
use crate::model::{
    AllocationId, Device, HostDriver, HostSnapshot, MdevTypeId, PciAddress, Realized, RunId, Step,
};

/// What an ended intent means for the ledger. Does not include closing it.
pub(super) fn outcome(intent: &Intent, book: &Book, snapshot: &HostSnapshot) -> Vec<Change> {
    match &intent.step {
        Step::CreateMdev { parent, mdev_type, uuid } => {
            let made = snapshot
                .mdev(*uuid)
                .is_some_and(|(_, at, mdev)| at.name == *parent && mdev.mdev_type == *mdev_type);
            if !made {
                return Vec::new();
            }
            match &intent.allocation {
                Some(allocation) => vec![Change::PutRealized(Realized {
                    allocation: allocation.clone(),
                    device: Device::Mdev(*uuid),
                    gpu: intent.gpu.clone(),
                    parent: parent.clone(),
                    mdev_type: Some(mdev_type.clone()),
                    vf_id: None,
                    boot_id: intent.boot_id.clone(),
                    run: intent.run,
                    before: Vec::new(),
                    quantum_before: None,
                })],
                None => vec![Change::PutHandmade(Handmade {
                    uuid: *uuid,
                    parent: parent.clone(),
                    mdev_type: mdev_type.clone(),
                    boot_id: intent.boot_id.clone(),
                })],
            }
        }
        Step::RemoveMdev { uuid } if snapshot.mdev(*uuid).is_none() => gone(book, Device::Mdev(*uuid)),
        Step::SetVgpuType { vf, vgpu_type, .. } => {
            vgpu_outcome(intent, book, snapshot, *vf, vgpu_type.as_ref())
        }
        Step::RemoveMdev { .. } | Step::BindVf { .. } | Step::SetParameters { .. } => Vec::new(),
        Step::SetQuantum { vf, quantum, before } => {
            super::weigh::outcome(intent, book, snapshot, (*vf, *quantum, *before))
        }
        Step::TakeGpu { gpu, functions } => taken_gpu(intent, book, snapshot, *gpu, functions),
        Step::ReturnGpu { gpu, functions } => match snapshot.whole(*gpu) {
            Some((_, whole)) if !whole.is_on(functions) => Vec::new(),
            Some(_) | None => gone(book, Device::Vf(*gpu)),
        },
        Step::SetAutoprobe { pf, on } => {
            let found = snapshot.gpu(&pf.to_string()).and_then(|gpu| gpu.sriov.as_ref()?.autoprobe);
            if found == Some(*on) { vec![Change::DeleteWish(intent.gpu.clone())] } else { Vec::new() }
        }
        Step::SetVfs { pf, count, .. } => {
            let found = snapshot.gpu(&pf.to_string()).and_then(|gpu| gpu.sriov.as_ref());
            match found {
                Some(sriov) if sriov.enabled == *count => vec![Change::PutWish(VfWish {
                    gpu: intent.gpu.clone(),
                    count: *count,
                    boot_id: intent.boot_id.clone(),
                    autoprobe_before: book
                        .wishes
                        .get(&intent.gpu)
                        .map_or(sriov.autoprobe, |wish| wish.autoprobe_before),
                })],
                _ => Vec::new(),
            }
        }
    }
}

/// A GPU may be on its way only: what was begun is recorded, so that giving it back puts all of it right.
fn taken_gpu(
    intent: &Intent,
    book: &Book,
    snapshot: &HostSnapshot,
    address: PciAddress,
    functions: &[HostDriver],
) -> Vec<Change> {
    let Some((gpu, whole)) = snapshot.whole(address) else { return gone(book, Device::Vf(address)) };
    let Some(allocation) = &intent.allocation else { return Vec::new() };
    let known = book.realized.get(allocation).filter(|record| record.device == Device::Vf(address));
    vec![Change::PutRealized(Realized {
        allocation: allocation.clone(),
        device: Device::Vf(address),
        gpu: intent.gpu.clone(),
        parent: gpu.name.clone(),
        mdev_type: None,
        vf_id: Some(whole.function.id),
        boot_id: intent.boot_id.clone(),
        run: intent.run,
        before: merged(known.map(|record| record.before.clone()).unwrap_or_default(), functions),
        quantum_before: None,
    })]
}

/// A vGPU carries no mark of whose it is: the open intent tells, for it was announced when the VF had none.
fn vgpu_outcome(
    intent: &Intent,
    book: &Book,
    snapshot: &HostSnapshot,
    vf: PciAddress,
    wanted: Option<&MdevTypeId>,
) -> Vec<Change> {
    let Some((gpu, found)) = snapshot.vf(vf) else { return gone(book, Device::Vf(vf)) };
    match (wanted, found.vgpu_type(), &intent.allocation) {
        (None, None, _) => gone(book, Device::Vf(vf)),
        (Some(wanted), Some(now), Some(allocation)) if wanted == now => vec![Change::PutRealized(Realized {
            allocation: allocation.clone(),
            device: Device::Vf(vf),
            gpu: intent.gpu.clone(),
            parent: gpu.name.clone(),
            mdev_type: Some(wanted.clone()),
            vf_id: Some(found.id),
            boot_id: intent.boot_id.clone(),
            run: intent.run,
            before: Vec::new(),
            quantum_before: None,
        })],
        (None, Some(_), _) | (Some(_), _, _) => Vec::new(),
    }
}

/// The changes that forget a device which is no longer there.
pub(super) fn gone(book: &Book, device: Device) -> Vec<Change> {
    let mut changes: Vec<Change> = book
        .realized
        .values()
        .filter(|record| record.device == device)
        .map(|record| Change::DeleteRealized(record.allocation.clone()))
        .collect();
    if let Device::Mdev(uuid) = device
        && book.handmade.contains_key(&uuid)
    {
        changes.push(Change::DeleteHandmade(uuid));
    }
    changes
}

impl Engine {
    /// Closes the intent of a change that ended after its deadline, by what the host says now.
    pub(super) fn settle(&self, id: IntentId) {
        self.reopen_nvml(id);
        self.host_was_changed();
        let Ok(snapshot) = self.fresh(Instant::now() + OPERATION) else {
            tracing::error!(
                intent = id.0,
                "cannot read the host to settle an overrun change; it stays open until the next start"
            );
            return;
        };
        let mut ledger = self.ledger();
        let Some(intent) = ledger.book().intents.get(&id).cloned() else { return };
        let mut changes = outcome(&intent, ledger.book(), &snapshot);
        changes.push(Change::CloseIntent(id));
        ledger.defer(changes);
        drop(ledger);
        tracing::info!(step = %intent.step, "overrun kernel change ended");
        self.nudge();
        if let (
            Step::CreateMdev { .. }
            | Step::RemoveMdev { .. }
            | Step::SetVgpuType { .. }
            | Step::SetQuantum { .. }
            | Step::SetParameters { .. }
            | Step::TakeGpu { .. }
            | Step::ReturnGpu { .. },
            Some(allocation),
        ) = (&intent.step, &intent.allocation)
        {
            self.take_back_late(allocation, intent.run);
        }
    }

    /// What is still there goes: the slice of a start that was refused at its deadline, or one whose removal
    /// ended without removing it (its helper was never told to go, or somebody held it then). Unless a later
    /// run has taken it, or it is guaranteed: then it is what was promised.
    fn take_back_late(&self, allocation: &AllocationId, run: RunId) {
        let deadline = Instant::now() + OPERATION;
        let owner = self.ledger().book().allocations.get(allocation).map(|one| one.domain.uuid);
        let turn = owner.map(|domain| self.domain_turn(domain, deadline)).transpose();
        let Ok(_turn) = turn else {
            tracing::warn!(%allocation, "its domain is busy, leaving a slice that came too late to the next sweep");
            return;
        };
        let record = self.ledger().book().realized.get(allocation).cloned();
        let late: Vec<Realized> = record.into_iter().filter(|record| record.run == run).collect();
        self.give_back(self.not_kept(late), deadline);
    }
}
