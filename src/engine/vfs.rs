//! How many VFs a PF has.

use std::time::{Duration, Instant};

use super::Engine;
use super::work::End;
use crate::clock;
use crate::ledger::{Book, Change, Intent, Need};
use crate::model::{BackendKind, Device, Gpu, HostSnapshot, Kind, PciAddress, Refusal, Sriov, Step};
use crate::wire;

/// Vendors' drivers take seconds for many VFs; the kernel itself sleeps 1 s when it disables them.
const SET_VFS: Duration = Duration::from_secs(60);

impl Engine {
    /// Brings a PF to `count` VFs, each on its VFIO driver, and remembers the count.
    ///
    /// # Errors
    /// When the PF is unknown or makes no VFs, while any of its VFs is used, or when the kernel says no.
    pub fn set_vfs(&self, pf: &str, count: u32) -> Result<wire::Changed, Refusal> {
        self.change_vfs(pf, count, |_| Ok(()))
    }

    /// As [`Engine::set_vfs`], when `admits` takes the PF as it is now.
    pub(super) fn change_vfs(
        &self,
        pf: &str,
        count: u32,
        admits: impl FnOnce(&Sriov) -> Result<(), Refusal>,
    ) -> Result<wire::Changed, Refusal> {
        let deadline = Instant::now() + SET_VFS;
        let lane = self.capacity_turn(deadline)?;
        let snapshot = self.fresh(deadline)?;
        let (gpu, address, sriov) = managed_pf(&snapshot, pf)?;
        if count > sriov.total {
            return Err(Refusal::new(
                Kind::Usage,
                format!("{address} has at most {} VFs, {count} were asked for", sriov.total),
            ));
        }
        let ready = sriov.enabled == count && sriov.vfs.iter().all(|vf| gpu.has_bound(vf));
        let remembered = self.is_remembered(gpu, count);
        if ready && remembered {
            return Ok(wire::Changed { change: wire::Change::Unchanged, notes: Vec::new() });
        }
        admits(sriov)?;
        self.refuse_changing(gpu)?;
        // With the count as it is, VFs are only bound, and those that somebody has are left alone.
        if sriov.enabled != count {
            refuse_used(self.ledger().book(), gpu, sriov)?;
        }
        // With the right count there is nothing for the script to do.
        let script = (gpu.is_on_nvidia() && sriov.enabled != count).then(|| self.sriov_manage()).flatten();
        let step = Step::SetVfs { pf: address, count, before: sriov.enabled, script };
        let intent = self.intent(step, None, gpu.id.clone(), clock::boottime());
        // The script fails while anybody has the GPU open.
        self.close_nvml(&intent)?;
        let announced = self.arm(intent.clone()).and_then(|armed| self.announce(vec![armed], Need::Promise));
        let announced = announced.inspect_err(|_| self.reopen_nvml(intent.id))?;
        // From here on the open intent keeps starts away from this GPU; those on others need not wait.
        drop(lane);
        for (intent, end) in self.let_go(announced, deadline) {
            self.end_set_vfs(&intent, end, &snapshot)?;
        }
        Ok(wire::Changed { change: wire::Change::Done, notes: self.orphaned_names(gpu, count) })
    }

    fn is_remembered(&self, gpu: &Gpu, count: u32) -> bool {
        let ledger = self.ledger();
        let wish = ledger.book().wishes.get(&gpu.id);
        wish.is_some_and(|wish| wish.count == count && wish.boot_id == self.inner.boot_id)
    }

    pub(super) fn refuse_changing(&self, gpu: &Gpu) -> Result<(), Refusal> {
        let ledger = self.ledger();
        let mut open = ledger.book().intents.values();
        match open.find(|intent| intent.gpu == gpu.id && matches!(intent.step, Step::SetVfs { .. })) {
            Some(intent) => {
                Err(Refusal::new(Kind::Busy, format!("{} has not ended: {}", gpu.name, intent.step))
                    .hint("vgpuctl status shows what is under way"))
            }
            None => Ok(()),
        }
    }

    fn end_set_vfs(&self, intent: &Intent, end: End, before: &HostSnapshot) -> Result<(), Refusal> {
        if !matches!(end, End::Overrun) {
            self.reopen_nvml(intent.id);
        }
        match end {
            End::Done => {
                if matches!(intent.step, Step::SetVfs { script: Some(_), .. }) {
                    // What was set at run time went with the driver.
                    self.gpu_renewed(&intent.gpu);
                }
                let Ok(after) = self.fresh(Instant::now() + super::OPERATION) else {
                    // Done, and not seen: the intent is closed as soon as the host can be read.
                    self.overrun(intent, || ());
                    return Ok(());
                };
                // The book remembers autoprobe as it was before we first touched the PF.
                let mut changes = super::settle::outcome(intent, self.ledger().book(), &after);
                let found =
                    before.gpus.iter().find(|gpu| gpu.id == intent.gpu).and_then(|gpu| gpu.sriov.as_ref());
                let known = self.ledger().book().wishes.contains_key(&intent.gpu);
                for change in &mut changes {
                    if let Change::PutWish(wish) = change
                        && !known
                    {
                        wish.autoprobe_before = found.and_then(|sriov| sriov.autoprobe);
                    }
                }
                changes.push(Change::CloseIntent(intent.id));
                self.commit(changes, Need::GiveBack)?;
                if matches!(intent.step, Step::SetVfs { script: Some(_), .. }) {
                    // A look in between saw no VFs that were wanted, and nothing that is due on them.
                    self.gpu_renewed(&intent.gpu);
                    self.look_again();
                }
                Ok(())
            }
            End::Failed(failure) => {
                self.defer(vec![Change::CloseIntent(intent.id)]);
                Err(failure.refusal)
            }
            End::Overrun => Err(Refusal::new(
                Kind::Busy,
                format!("{} has not ended within {} s", intent.step, SET_VFS.as_secs()),
            )
            .hint("it goes on; vgpuctl status shows when it ended")),
        }
    }

    /// Allocations whose VF no longer exists.
    fn orphaned_names(&self, gpu: &Gpu, count: u32) -> Vec<String> {
        let lost = |address: PciAddress| {
            let vfs = gpu.sriov.iter().flat_map(|sriov| &sriov.vfs);
            vfs.filter(|vf| vf.index >= count).any(|vf| vf.address == address)
        };
        let ledger = self.ledger();
        let hit = ledger.book().allocations.values().filter_map(|allocation| match allocation.device {
            Device::Vf(address) if lost(address) => {
                Some(format!("domain {} names VF {address}, which no longer exists", allocation.domain.name))
            }
            Device::Vf(_) | Device::Mdev(_) => None,
        });
        hit.collect()
    }
}

fn managed_pf<'a>(snapshot: &'a HostSnapshot, pf: &str) -> Result<(&'a Gpu, PciAddress, &'a Sriov), Refusal> {
    let Some(gpu) = snapshot.gpu(pf) else {
        return Err(Refusal::new(Kind::NotFound, format!("no device {pf}")).hint(
            "vgpuctl gpus lists the devices; others are added in /etc/vgpud/vgpud.toml, [devices] include",
        ));
    };
    match (&gpu.pci, &gpu.sriov) {
        (Some(pci), Some(sriov))
            if gpu.backend.gives_bare_vfs() || gpu.backend == BackendKind::Mdev || gpu.is_on_nvidia() =>
        {
            Ok((gpu, pci.address, sriov))
        }
        _ => Err(Refusal::new(Kind::Conflict, format!("{} makes no VFs: {}", gpu.name, gpu.backend_reason))),
    }
}

/// A VF is used while a slice was made on it, or while anybody has it or one of its mdevs open.
fn refuse_used(book: &Book, gpu: &Gpu, sriov: &Sriov) -> Result<(), Refusal> {
    for record in book.realized.values().filter(|record| record.gpu == gpu.id) {
        let whole = gpu.whole.as_ref().map(|whole| Device::Vf(whole.function.address));
        if sriov.vfs.is_empty() && whole != Some(record.device)
            || record.parent.as_str() == gpu.name.as_str() && matches!(record.device, Device::Mdev(_))
        {
            continue;
        }
        let domain =
            book.allocations.get(&record.allocation).map_or("?", |allocation| &allocation.domain.name);
        let refusal = Refusal::new(
            Kind::Busy,
            format!("VFs of {} are in use: {} belongs to domain {domain}", gpu.name, record.device),
        );
        return Err(match book.keeps(&record.allocation) {
            true => refusal.hint(format!(
                "it is guaranteed: stop domain {domain}, then vgpuctl allocation set {} --mode on-start",
                record.allocation
            )),
            false => refusal.hint(format!("stop domain {domain} first")),
        });
    }
    let held = sriov.vfs.iter().find_map(|vf| vf.holders.first().map(|holder| (vf.address, holder)));
    if let Some((address, holder)) = held {
        return Err(Refusal::new(Kind::Busy, format!("VF {address} is held by {holder}")));
    }
    match made_on(gpu).next() {
        Some(made) => Err(Refusal::new(Kind::Busy, format!("VFs of {} are in use: {made}", gpu.name)).hint(
            "somebody else made it: vgpuctl adopt makes it vgpud's, or take it away where it came from",
        )),
        None => Ok(()),
    }
}

/// Says what is made on the VFs of a GPU, whoever made it.
pub(super) fn made_on(gpu: &Gpu) -> impl Iterator<Item = String> {
    let vfs = gpu.sriov.iter().flat_map(|sriov| &sriov.vfs);
    let typed = vfs.filter_map(|vf| Some(format!("VF {} is vGPU {}", vf.address, vf.vgpu_type()?)));
    let mdevs = gpu.parents.iter().filter(|parent| parent.name != gpu.name).flat_map(|parent| {
        parent.mdevs.iter().map(move |mdev| format!("mdev {} exists on VF {}", mdev.uuid, parent.name))
    });
    typed.chain(mdevs)
}
