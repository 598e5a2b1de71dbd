//! Dividing a GPU by MIG: its mode, and its GPU instances.

use crate::engine::Engine;
use crate::ledger::SettingWish;
use crate::model::{Gpu, GpuSetting, GpuState, Kind, MigProfile, MigWish, PciAddress, Refusal};
use crate::nvml::{Fault, NvmlError};

/// Says why the library did not answer, and what to type where it is not there at all.
pub(super) fn by_hand(asked: &GpuSetting, error: NvmlError) -> Refusal {
    let is_absent = matches!(error, NvmlError::Absent(_));
    let refusal = Refusal::from(error);
    match &asked.mig {
        Some(MigWish::Off) if is_absent => {
            refusal.hint("by hand: sriov-manage -d GPU; nvidia-smi -i GPU -mig 0")
        }
        Some(wish) if is_absent => refusal.hint(format!(
            "by hand: nvidia-smi -i GPU -mig 1; sriov-manage -e GPU; nvidia-smi mig -i GPU -cgi {wish}; the last two after each boot"
        )),
        _ => refusal,
    }
}

impl Engine {
    /// Switches MIG mode. GPU instances that are there without VFs go first: whether the mode changes beside them is not
    /// documented.
    pub(super) fn switch_mig(
        &self,
        setting: &GpuSetting,
        gpu: &Gpu,
        address: PciAddress,
        found: &GpuState,
    ) -> Result<(), Refusal> {
        for instance in &found.instances {
            self.take_away(gpu, address, instance.id)?;
        }
        let set = self.inner.nvml.set_mig(address, setting.is_divided());
        match set.map_err(|error| in_use(gpu, error))? {
            true => Ok(()),
            false => Err(Refusal::new(
                Kind::Busy,
                format!("MIG mode of {} changes only with the next reset of the GPU", gpu.name),
            )
            .hint(format!(
                "somebody has the GPU open (nvidia-persistenced, DCGM, an exporter): end that, then nvidia-smi --gpu-reset -i {address}, or reboot; then say the same again"
            ))),
        }
    }

    /// Makes the GPU instances that are wished and missing, the largest first. What else is there goes before: a request
    /// says how the whole GPU is divided. After a boot nothing is taken away.
    pub(super) fn divide(
        &self,
        wish: &SettingWish,
        gpu: &Gpu,
        address: PciAddress,
        found: &GpuState,
    ) -> Result<(), Refusal> {
        let Some(mig) = &wish.setting.mig else { return Ok(()) };
        let (missing, surplus) = mig.compare(&found.instances);
        let missing: Vec<MigProfile> = match surplus.first() {
            None => missing,
            Some(one) if wish.boot_id.is_some() => {
                let (id, profile) = (one.id, &one.profile);
                let text = format!("GPU instance {id} ({profile}) on {} was made by somebody else", gpu.name);
                return Err(Refusal::new(Kind::Conflict, text)
                    .hint(format!("vgpuctl gpu set {} --mig {mig} takes it away", gpu.name)));
            }
            // Where the others sit may leave no room for what is missing.
            Some(_) => {
                for instance in &found.instances {
                    self.take_away(gpu, address, instance.id)?;
                }
                mig.profiles().to_vec()
            }
        };
        for profile in missing {
            let text = profile.to_string();
            self.inner.nvml.create_instance(address, profile).map_err(|error| match error.fault() {
                Some(Fault::NoRoom) => Refusal::from(error).hint(format!(
                    "they do not all fit beside each other: nvidia-smi mig -i {address} -lgipp shows where each may sit"
                )),
                _ => Refusal::from(error),
            })?;
            tracing::info!(gpu = %gpu.name, profile = text, "GPU instance made");
        }
        Ok(())
    }

    fn take_away(&self, gpu: &Gpu, address: PciAddress, id: u32) -> Result<(), Refusal> {
        self.inner.nvml.destroy_instance(address, id).map_err(|error| in_use(gpu, error))?;
        tracing::info!(gpu = %gpu.name, instance = id, "GPU instance taken away");
        Ok(())
    }
}

/// Says what may be in the way, which the library does not.
fn in_use(gpu: &Gpu, error: NvmlError) -> Refusal {
    match error.fault() {
        Some(Fault::InUse) => Refusal::new(Kind::Busy, format!("{error}: {} is in use", gpu.name)).hint(
            "processes and compute instances keep it: nvidia-smi lists the ones, nvidia-smi mig -dci takes the others away",
        ),
        _ => Refusal::from(error),
    }
}
