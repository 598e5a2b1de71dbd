//! What a request that was refused half way has changed: it stays, and the refusal says so.

use std::time::Instant;

use super::check::{Ask, find};
use crate::engine::{Engine, OPERATION};
use crate::model::{GpuState, Refusal, instances_text};

/// Says what of a GPU is otherwise than before, by its VFs and what the library says of it.
fn changed(before: (u32, &GpuState), after: (u32, &GpuState)) -> Option<String> {
    let ((vfs_before, was), (vfs, is)) = (before, after);
    let mut parts = Vec::new();
    let is_on = |state: &GpuState| state.mig.is_some_and(|mig| mig.on);
    if is_on(was) != is_on(is) {
        parts.push(format!("MIG mode {}", if is_on(is) { "on" } else { "off" }));
    }
    if vfs_before != vfs {
        parts.push(format!("{vfs} VFs instead of {vfs_before}"));
    }
    let profiles = |state: &GpuState| -> Vec<String> {
        state.instances.iter().map(|instance| instance.profile.clone()).collect()
    };
    if profiles(was) != profiles(is) {
        parts.push(match profiles(is).as_slice() {
            [] => "no GPU instances any more".to_owned(),
            some => format!("GPU instances {}", instances_text(some)),
        });
    }
    if let Some(mode) = is.size_mode.filter(|mode| was.size_mode.is_some_and(|before| before != *mode)) {
        parts.push(format!("{mode}-size mode"));
    }
    let policy = |state: &GpuState| state.scheduler.as_ref().and_then(|scheduler| scheduler.policy);
    if let Some(now) = policy(is).filter(|now| policy(was).is_some_and(|before| before != *now)) {
        parts.push(format!("scheduler {now}"));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

impl Engine {
    /// Adds to a refusal what was done before it. Where the host or the library cannot be asked, nothing is added.
    pub(super) fn with_what_is_left(&self, refusal: Refusal, ask: &Ask<'_>) -> Refusal {
        let Some(snapshot) = self.fresh(Instant::now() + OPERATION).ok() else { return refusal };
        let (Ok(gpu), Ok(state)) =
            (find(&snapshot, ask.gpu.id.as_str()), self.inner.nvml.gpu(ask.state.address))
        else {
            return refusal;
        };
        let vfs = gpu.sriov.as_ref().map_or(0, |sriov| sriov.enabled);
        match changed((ask.vfs_now(), ask.state), (vfs, &state)) {
            Some(text) => refusal.hint(format!("what was done before that stays: {text}")),
            None => refusal,
        }
    }
}
