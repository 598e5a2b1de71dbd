//! `GET /metrics`: what the other answers show, as numbers.

use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::routes::run;
use super::{No, Shared};
use crate::metrics::{NvmlSeen, Sample, Seen};
use crate::model::{Busy, GpuCapacity, GpuState, Kind, ProfileCapacity, Progress, Refusal};
use crate::wire::{SliceStatus, VgpuOwner};

/// How long a scrape waits for NVIDIA's library.
const GLANCE: Duration = Duration::from_secs(1);

/// The content type of the text form.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn metrics(State(shared): State<Shared>) -> Result<impl IntoResponse, No> {
    let text = run(&shared, |shared| {
        let text = shared.metrics.scrape(&shared.seen()?);
        text.map_err(|_| Refusal::new(Kind::Internal, "cannot write the metrics"))
    });
    Ok(([(CONTENT_TYPE, OPEN_METRICS)], text.await?))
}

/// Returns the word of a kind, as the answers have it.
pub(super) const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Usage => "usage",
        Kind::Forbidden => "forbidden",
        Kind::NotFound => "not_found",
        Kind::Conflict => "conflict",
        Kind::NoCapacity => "no_capacity",
        Kind::Busy => "busy",
        Kind::HostFault => "host_fault",
        Kind::Internal => "internal",
    }
}

impl Shared {
    fn seen(&self) -> Result<Seen, Refusal> {
        let engine = self.desk.engine();
        let gpus = engine.gpus()?.gpus;
        let slices = engine.allocations()?.allocations;
        let capacity = engine.capacity()?;
        let by_profile = |one: &ProfileCapacity| {
            Sample::new(vec![("profile", one.profile.to_string())], u64::from(one.possible))
        };
        let by_gpu = |value: fn(&GpuCapacity) -> Option<u64>| {
            let on = |gpu: &GpuCapacity| Some(Sample::new(vec![("gpu", gpu.name.to_string())], value(gpu)?));
            capacity.gpus.iter().filter_map(on).collect()
        };
        let steps = engine.boot_report().steps;
        let nvml = self.nvml.glance(GLANCE).ok();
        Ok(Seen {
            gpus: gpus.iter().map(|gpu| one(vec![("backend", gpu.backend.to_string())])).collect(),
            slices: slices
                .iter()
                .map(|view| {
                    let profile = ("profile", view.allocation.profile.to_string());
                    one(vec![profile, ("state", state(&view.slice).to_owned())])
                })
                .collect(),
            capacity_left: capacity.profiles.iter().map(by_profile).collect(),
            free_mib: by_gpu(|gpu| Some(gpu.total_mib?.saturating_sub(gpu.used_mib?))),
            stranded_mib: by_gpu(|gpu| gpu.stranded_mib),
            fragmented_mib: by_gpu(|gpu| gpu.fragmented_mib),
            largest_mib: capacity
                .largest
                .iter()
                .map(|one| Sample::new(vec![("gpu", one.gpu.to_string())], one.mib))
                .collect(),
            open_intents: u64::try_from(engine.book().intents.len()).unwrap_or(u64::MAX),
            restores: steps
                .iter()
                .map(|step| one(vec![("state", progress(&step.progress).to_owned())]))
                .collect(),
            nvml: nvml.map(|gpus| nvml_seen(&gpus, &self.owners(&gpus))),
        })
    }
}

const fn one(labels: Vec<(&'static str, String)>) -> Sample {
    Sample::new(labels, 1)
}

const fn state(slice: &SliceStatus) -> &'static str {
    match slice {
        SliceStatus::Reserved => "reserved",
        SliceStatus::Ready { .. } => "ready",
        SliceStatus::InUse { .. } => "in_use",
        SliceStatus::Missing => "missing",
        SliceStatus::Unfinished { .. } => "unfinished",
    }
}

const fn progress(progress: &Progress) -> &'static str {
    match progress {
        Progress::Done => "done",
        Progress::Working => "working",
        Progress::Waiting { .. } => "waiting",
        Progress::Failed { .. } => "failed",
        Progress::Left { .. } => "left",
    }
}

fn nvml_seen(gpus: &[GpuState], owners: &[VgpuOwner]) -> NvmlSeen {
    let mut seen = NvmlSeen::default();
    for gpu in gpus {
        let at = ("gpu", gpu.address.to_string());
        seen.framebuffer_mib.push(Sample::new(vec![at.clone()], gpu.framebuffer_mib));
        seen.used_mib.push(Sample::new(vec![at.clone()], gpu.used_mib));
        for vgpu in &gpu.vgpus {
            seen.running.push(one(vec![at.clone(), ("type", vgpu.type_name.clone())]));
            let owner = owners.iter().find(|one| one.gpu == gpu.address && one.instance == vgpu.instance);
            // Guests of others have no name here, and a UUID is no label.
            let Some(owner) = owner else { continue };
            let labels = vec![at.clone(), ("domain", owner.domain.clone())];
            seen.guest_used_mib.push(Sample::new(labels.clone(), vgpu.used_mib));
            for (engine, percent) in vgpu.busy.map(engines).into_iter().flatten() {
                let mut labels = labels.clone();
                labels.push(("engine", engine.to_owned()));
                seen.guest_busy_percent.push(Sample::new(labels, u64::from(percent)));
            }
        }
    }
    seen
}

const fn engines(busy: Busy) -> [(&'static str, u32); 4] {
    [("sm", busy.sm), ("memory", busy.memory), ("encoder", busy.encoder), ("decoder", busy.decoder)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_have_the_words_of_the_answers() {
        use Kind::{Busy, Conflict, Forbidden, HostFault, Internal, NoCapacity, NotFound, Usage};
        for kind in [Usage, Forbidden, NotFound, Conflict, NoCapacity, Busy, HostFault, Internal] {
            assert_eq!(serde_json::to_value(kind).expect("plain"), word(kind));
        }
    }
}
