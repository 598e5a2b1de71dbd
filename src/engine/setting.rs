//! How a GPU is set: its VFs; of one of NVIDIA's, MIG or mixed and equal sizes and the scheduler too. Remembered, and brought
//! back by the road of [`boot`](super::boot).
//!
//! The wish is stored first, then brought about, then marked as met: a service that ends between the two finds it
//! unmet and goes on. A wish that is refused is taken back.
//!
//! `check` refuses what cannot be, `mig` divides a GPU, `left` says what a refusal half way leaves.

mod check;
mod left;
mod mig;

use std::collections::BTreeMap;
use std::time::Instant;

use check::{Ask, find, is_scheduled, settable};

use super::boot::road::{self, Ground, Leg, Stage};
use super::vfs::made_on;
use super::{Engine, OPERATION};
use crate::ledger::{Change, Need, SettingWish};
use crate::model::{Gpu, GpuId, GpuSetting, GpuState, HostSnapshot, Kind, PciAddress, Refusal};
use crate::sysfs::wait_until;
use crate::wire;

impl Engine {
    /// Sets a GPU, and remembers it. What is not named stays as it is.
    ///
    /// # Errors
    /// While slices hold the GPU, for what it cannot be, or when driver, script or library say no.
    pub fn set_gpu(&self, name: &str, wanted: &wire::SetGpu) -> Result<wire::Changed, Refusal> {
        let asked = GpuSetting {
            mig: wanted.mig.clone(),
            mode: wanted.mode,
            scheduler: wanted.scheduler,
            time_slice_ms: wanted.time_slice_ms,
        };
        if asked.is_empty() && wanted.vfs.is_none() {
            return Err(Refusal::new(Kind::Usage, "nothing to set was named"));
        }
        let snapshot = self.fresh(Instant::now() + OPERATION)?;
        let gpu = find(&snapshot, name)?;
        if asked.is_empty() {
            return self.set_only_vfs(gpu, wanted);
        }
        let address = settable(gpu)?;
        let before = self.ledger().book().settings.get(&gpu.id).cloned();
        let setting = before.as_ref().map_or_else(|| asked.clone(), |wish| wish.setting.with(&asked));
        check::together(gpu, &setting)?;
        let state = self.inner.nvml.gpu(address).map_err(|error| mig::by_hand(&asked, error))?;
        let ask = Ask { gpu, setting: &setting, state: &state, vfs: wanted.vfs };
        let known = before.as_ref().is_some_and(|wish| wish.setting == setting && wish.boot_id.is_some());
        if ask.is_met() && ask.keeps_vfs() && known {
            return Ok(wire::Changed { change: wire::Change::Unchanged, notes: Vec::new() });
        }
        ask.check()?;
        if !ask.is_met() || !ask.keeps_vfs() {
            self.refuse_made(gpu)?;
        }
        if wanted.dry_run {
            return Ok(wire::Changed { change: wire::Change::Planned, notes: ask.steps() });
        }
        let notes = self.carry_out(&ask, before).map_err(|refusal| self.with_what_is_left(refusal, &ask))?;
        Ok(wire::Changed { change: wire::Change::Done, notes })
    }

    /// Does what was asked for, in the order of the road. Returns what the admin should know.
    fn carry_out(&self, ask: &Ask<'_>, before: Option<SettingWish>) -> Result<Vec<String>, Refusal> {
        let Ask { gpu, setting, .. } = ask;
        let wish = SettingWish { gpu: gpu.id.clone(), setting: (*setting).clone(), boot_id: None };
        let name = gpu.id.as_str();
        let mut notes = Vec::new();
        if ask.switches_mig() {
            if ask.vfs_now() > 0 {
                notes.extend(self.set_vfs(name, 0)?.notes);
            }
            self.wish(wish, before, || {
                self.restore_mig(&gpu.id)?;
                if ask.vfs() > 0 {
                    self.set_vfs(name, ask.vfs())?;
                }
                self.restore_setting(&gpu.id)
            })?;
        } else {
            if !ask.keeps_vfs() {
                notes.extend(self.set_vfs(name, ask.vfs())?.notes);
            }
            self.wish(wish, before, || self.restore_setting(&gpu.id))?;
        }
        notes.push(format!("{}: {setting}", gpu.name));
        Ok(notes)
    }

    /// Forgets how a GPU was to be set: where VFs are all that can be, as [`Engine::forget_vfs`]. Nothing else is
    /// changed on it. Also of one that is not here, by its identity.
    ///
    /// # Errors
    /// When there is neither such a GPU nor a memory of it.
    pub fn forget_gpu(&self, name: &str) -> Result<wire::Changed, Refusal> {
        let snapshot = self.fresh(Instant::now() + OPERATION)?;
        let known = self.ledger().book().settings.keys().find(|id| id.as_str() == name).cloned();
        let id = match known {
            Some(id) => id,
            None => match find(&snapshot, name)? {
                // The number of VFs is all that can be set of it.
                gpu if !gpu.is_on_nvidia() && !self.ledger().book().settings.contains_key(&gpu.id) => {
                    return self.forget_vfs(gpu.id.as_str());
                }
                gpu => gpu.id.clone(),
            },
        };
        let change = match self.ledger().book().settings.contains_key(&id) {
            false => wire::Change::Unchanged,
            true => wire::Change::Done,
        };
        if change == wire::Change::Done {
            self.commit(vec![Change::DeleteSetting(id)], Need::GiveBack)?;
        }
        Ok(wire::Changed { change, notes: Vec::new() })
    }

    fn set_only_vfs(&self, gpu: &Gpu, wanted: &wire::SetGpu) -> Result<wire::Changed, Refusal> {
        let count = wanted.vfs.unwrap_or(0);
        match wanted.dry_run {
            false => self.set_vfs(gpu.id.as_str(), count),
            true => {
                let notes = vec![format!("{}: {count} VFs", gpu.name)];
                Ok(wire::Changed { change: wire::Change::Planned, notes })
            }
        }
    }

    /// Remembers a wish, has it brought about, and takes it back when that is refused.
    fn wish(
        &self,
        wish: SettingWish,
        before: Option<SettingWish>,
        bring_about: impl FnOnce() -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let gpu = wish.gpu.clone();
        self.commit(vec![Change::PutSetting(wish)], Need::Promise)?;
        bring_about().inspect_err(|_| {
            let back = before.map_or_else(|| Change::DeleteSetting(gpu.clone()), Change::PutSetting);
            if let Err(refusal) = self.commit(vec![back], Need::GiveBack) {
                tracing::warn!(%gpu, error = %refusal, "a setting that was refused stays remembered");
            }
        })
    }

    /// Brings about what is remembered of a GPU, step by step in the order of its road. What is so already is left
    /// alone.
    ///
    /// # Errors
    /// When a fact that a step needs does not come in time, or the library says no.
    pub(super) fn restore_setting(&self, id: &GpuId) -> Result<(), Refusal> {
        self.restore_legs(id, |_| true, true)
    }

    /// Switches MIG mode as it is remembered, and nothing else: VFs come between that and the other steps.
    ///
    /// # Errors
    /// As [`Engine::restore_setting`].
    pub(super) fn restore_mig(&self, id: &GpuId) -> Result<(), Refusal> {
        self.restore_legs(id, |stage| stage == Stage::Mig, false)
    }

    fn restore_legs(&self, id: &GpuId, takes: impl Fn(Stage) -> bool, all: bool) -> Result<(), Refusal> {
        let deadline = Instant::now() + OPERATION;
        let _turn = self.inner.settings.take(id, deadline).ok_or_else(|| {
            Refusal::new(Kind::Busy, format!("{id} is being set already, and that has not ended"))
        })?;
        let Some(wish) = self.ledger().book().settings.get(id).cloned() else { return Ok(()) };
        let snapshot = self.fresh(deadline)?;
        let gpu = find(&snapshot, id.as_str())?;
        for leg in road::of(Some(gpu)).iter().filter(|leg| takes(leg.stage)) {
            self.bring_about(leg, &wish, gpu, settable(gpu)?)?;
        }
        if all {
            let met = SettingWish { boot_id: Some(self.inner.boot_id.clone()), ..wish };
            // Unless somebody wished otherwise meanwhile.
            self.commit_with(Need::GiveBack, |book| match book.settings.get(id) {
                Some(now) if now.setting == met.setting => vec![Change::PutSetting(met)],
                _ => Vec::new(),
            })?;
        }
        // The choice of a GPU goes by the new mode from here on.
        self.survey();
        self.rest_nvml();
        self.host_was_changed();
        self.look_again();
        Ok(())
    }

    fn bring_about(
        &self,
        leg: &Leg,
        wish: &SettingWish,
        gpu: &Gpu,
        address: PciAddress,
    ) -> Result<(), Refusal> {
        let setting = &wish.setting;
        let is_so = |state: &GpuState| match leg.stage {
            Stage::Mig => check::is_mig_mode(setting, state),
            Stage::Instances => check::is_divided_so(setting, state),
            Stage::Mode => setting.mode.is_none() || setting.mode == state.size_mode,
            Stage::Scheduler => is_scheduled(setting, state),
            // VFs have a wish of their own, and slices a promise.
            Stage::Vfs | Stage::Binding | Stage::Quanta | Stage::Slices => true,
        };
        if !matches!(leg.stage, Stage::Mig | Stage::Instances | Stage::Mode | Stage::Scheduler) {
            return Ok(());
        }
        let nvml = &self.inner.nvml;
        // Just after its VFs were made the library may not know the GPU yet.
        let mut said = Err("it was not asked".to_owned());
        let missing = |said: &Result<GpuState, String>| {
            leg.missing(&Ground { gpu, count: None, vf: None, nvml: Some(said) })
        };
        let there = wait_until(leg.within.min(PATIENCE), || {
            said = nvml.gpu(address).map_err(|error| Refusal::from(error).message);
            said.as_ref().is_ok_and(is_so) || missing(&said).is_none()
        });
        let found = match said {
            Ok(state) if is_so(&state) => return Ok(()),
            Ok(state) if there => state,
            _ => {
                let text = missing(&said).unwrap_or_default();
                return Err(Refusal::new(
                    Kind::Busy,
                    format!("cannot set {}: it waits for {text}", gpu.name),
                ));
            }
        };
        match (leg.stage, setting.mode, setting.scheduler) {
            (Stage::Mig, ..) => self.switch_mig(setting, gpu, address, &found)?,
            (Stage::Instances, ..) => self.divide(wish, gpu, address, &found)?,
            (Stage::Mode, Some(mode), _) => nvml.set_size_mode(address, mode)?,
            (Stage::Scheduler, _, Some(policy)) => {
                nvml.set_scheduler(address, policy, setting.time_slice_ns())?;
            }
            _ => return Ok(()),
        }
        let after = nvml.gpu(address)?;
        match is_so(&after) {
            true => {
                tracing::info!(gpu = %gpu.name, %setting, stage = ?leg.stage, "GPU set");
                Ok(())
            }
            false => Err(Refusal::new(
                Kind::HostFault,
                format!("could not set {} to {setting}: reading back shows otherwise", gpu.name),
            )
            .hint("the kernel log says why: dmesg | grep NVRM")),
        }
    }

    /// Refuses while anything is made on the GPU: how it is set changes under nobody.
    fn refuse_made(&self, gpu: &Gpu) -> Result<(), Refusal> {
        self.refuse_changing(gpu)?;
        let Some(made) = made_on(gpu).next() else { return Ok(()) };
        let ledger = self.ledger();
        let book = ledger.book();
        let of = book.realized.values().find(|record| record.gpu == gpu.id);
        let owner = of.and_then(|record| book.allocations.get(&record.allocation));
        let refusal = |text: String| {
            Refusal::new(Kind::Busy, format!("{} cannot be set otherwise now: {text}", gpu.name))
        };
        Err(match owner {
            Some(owner) if book.keeps(&owner.id) => {
                refusal(format!("{made}, of domain {}", owner.domain.name)).hint(format!(
                    "it is guaranteed: stop domain {}, then vgpuctl allocation set {} --mode on-start",
                    owner.domain.name, owner.id
                ))
            }
            Some(owner) => refusal(format!("{made}, of domain {}", owner.domain.name))
                .hint(format!("stop domain {} first", owner.domain.name)),
            None => refusal(made).hint(
                "somebody else made it: vgpuctl adopt makes it vgpud's, or take it away where it came from",
            ),
        })
    }

    /// Asks NVIDIA's library about the GPUs that have a setting.
    pub(super) fn ask_of_settings(
        &self,
        snapshot: &HostSnapshot,
    ) -> BTreeMap<GpuId, Result<GpuState, String>> {
        let ids: Vec<GpuId> = self.ledger().book().settings.keys().cloned().collect();
        let here = ids.into_iter().filter_map(|id| {
            let gpu = snapshot.gpus.iter().find(|gpu| gpu.id == id)?;
            Some((id, settable(gpu).ok()?))
        });
        let said: BTreeMap<GpuId, Result<GpuState, String>> = here
            .map(|(id, address)| {
                let said = self.inner.nvml.gpu(address);
                (id, said.map_err(|error| Refusal::from(error).message))
            })
            .collect();
        if !said.is_empty() {
            // Looks come in bursts while somebody runs the script by hand: no session may be left for that to meet.
            self.rest_nvml();
        }
        said
    }
}

/// How long a request waits for a fact that comes with the driver.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(15);
