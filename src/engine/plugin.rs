//! A profile's plugin parameters are in a vGPU before its guest starts, and those of an earlier start are not.
//!
//! They go with the vGPU and are read with it, so the ledger keeps none: a start that was cut off writes them again.

use std::collections::BTreeSet;
use std::time::Instant;

use super::Engine;
use super::admit::Wanted;
use super::round::{CREATE, Made};
use super::weigh::is_nvidia;
use super::work::End;
use crate::ledger::{Change, Intent, Need};
use crate::model::{
    BackendKind, Device, Gpu, GpuId, HostSnapshot, Kind, PluginParameters, Profile, Realized, Refusal, Step,
    Wish,
};

/// What has to be written into a vGPU: `None` is nothing, `Some(None)` takes parameters away. `now` is what was read of one
/// that was there before.
fn missing(
    wanted: Option<&PluginParameters>,
    is_new: bool,
    now: Option<&str>,
) -> Option<Option<PluginParameters>> {
    let now = if is_new { "" } else { now.unwrap_or_default() };
    (wanted.map_or("", PluginParameters::as_str) != now).then(|| wanted.cloned())
}

/// What was read of a vGPU's parameters.
fn read_of<'a>(record: &Realized, snapshot: &'a HostSnapshot) -> Option<&'a str> {
    match record.device {
        Device::Mdev(uuid) => snapshot.mdev(uuid)?.2.parameters.as_deref(),
        Device::Vf(vf) => snapshot.vf(vf)?.1.vgpu.as_ref()?.parameters.as_deref(),
    }
}

fn is_nvidias(record: &Realized) -> bool {
    record.mdev_type.as_ref().is_some_and(|id| id.vgpu_number().is_some())
}

impl Engine {
    /// Gives the vGPUs of a start the plugin parameters of their profiles. Slices of others have none, and are left.
    ///
    /// # Errors
    /// When the driver says no, or does not end in time.
    pub(super) fn set_parameters(
        &self,
        wanted: &[Wanted],
        made: &[Made],
        snapshot: &HostSnapshot,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let mut steps = Vec::new();
        for one in made {
            let record = &one.record;
            let Some(want) = wanted.iter().find(|want| want.allocation.id == record.allocation) else {
                continue;
            };
            let wished = want.profile.parameters.as_ref();
            if !is_nvidias(record) {
                if wished.is_some() {
                    tracing::info!(device = %record.device, profile = %want.profile.name, "no vGPU of NVIDIA's, its plugin parameters mean nothing");
                }
                continue;
            }
            let Some(parameters) = missing(wished, one.is_new, read_of(record, snapshot)) else { continue };
            let step = Step::SetParameters { device: record.device, parameters };
            let id = Some(record.allocation.clone());
            steps.push((self.intent(step, id, record.gpu.clone(), record.run), want));
        }
        if steps.is_empty() {
            return Ok(());
        }
        let open = steps.iter().map(|(intent, _)| Change::OpenIntent(intent.clone())).collect();
        self.commit(open, Need::Promise)?;
        let mut failed = None;
        for (intent, want) in steps {
            if failed.is_some() {
                self.defer(vec![Change::CloseIntent(intent.id)]);
            } else if let Err(refusal) = self.write_parameters(&intent, deadline) {
                let (profile, domain) = (&want.profile.name, &want.allocation.domain.name);
                let message = format!("profile {profile} for domain {domain}: {}", refusal.message);
                failed = Some(Refusal { message, ..refusal });
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn write_parameters(&self, intent: &Intent, deadline: Instant) -> Result<(), Refusal> {
        match self.in_thread(intent, deadline.min(Instant::now() + CREATE)) {
            End::Done => {
                self.defer(vec![Change::CloseIntent(intent.id)]);
                Ok(())
            }
            End::Failed(failure) => {
                self.defer(vec![Change::CloseIntent(intent.id)]);
                Err(failure.refusal)
            }
            End::Overrun => Err(Refusal::new(Kind::Busy, format!("{} did not end in time", intent.step))),
        }
    }
}

/// Says of each of `gpus` what it makes of a profile's plugin parameters, one sentence each.
pub(super) fn told<'a>(
    profile: &Profile,
    gpus: impl Iterator<Item = &'a GpuId>,
    snapshot: &HostSnapshot,
) -> Vec<String> {
    let Some(parameters) = &profile.parameters else { return Vec::new() };
    let gpus: BTreeSet<&GpuId> = gpus.collect();
    let tell = |gpu: &Gpu| {
        let takes = matches!(gpu.backend, BackendKind::Mdev | BackendKind::NvidiaVfio)
            && is_nvidia(gpu)
            && !matches!(profile.wish, Wish::Gpu(_));
        let clause = if takes { "gives them to the vGPU before its guest starts" } else { "has none" };
        format!("plugin parameters {parameters}: {} {clause}", gpu.name)
    };
    snapshot.gpus.iter().filter(|gpu| gpus.contains(&gpu.id)).map(tell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_written_where_they_differ() {
        let uvm: PluginParameters = "enable_uvm=1".parse().expect("parameters");
        assert_eq!(missing(Some(&uvm), true, None), Some(Some(uvm.clone())));
        assert_eq!(missing(Some(&uvm), false, Some("enable_uvm=1")), None, "they are there");
        assert_eq!(missing(Some(&uvm), false, Some("disable_vnc=1")), Some(Some(uvm.clone())));
        assert_eq!(missing(Some(&uvm), false, None), Some(Some(uvm.clone())), "the step says what is wrong");
        assert_eq!(missing(None, false, Some("enable_uvm=1")), Some(None), "of an earlier start");
        assert_eq!(missing(None, false, Some("")), None);
        assert_eq!(missing(None, true, None), None);
    }
}
