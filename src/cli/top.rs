//! `vgpuctl top`: what running vGPUs use.

use clap::Args;

use crate::cli::report::{Format, Report};
use crate::cli::table::{Table, printable};
use crate::client::{Client, ClientError};
use crate::model::{Busy, GpuState, VgpuUse};
use crate::wire::{Refusal, Usage, VgpuOwner};

/// Show what running vGPUs use
///
/// Asks NVIDIA's management library once: framebuffer of each GPU and of each vGPU that runs, how busy it was in
/// the last sampling period, its placement id, and the GPU's modes. The domain is named where the vGPU is of
/// one of vgpud's allocations; otherwise the VM's UUID is shown. A vGPU that was made and not started yet is not
/// listed. Without the library there is nothing to show, which is no error. For a display that renews itself:
/// watch vgpuctl top
#[derive(Debug, Args)]
pub(super) struct Top {}

impl Top {
    pub(super) fn run(&self, client: &Client, format: Format) -> Result<Report, Refusal> {
        let usage: Usage = client.get("/v1/usage").map_err(ClientError::into_refusal)?;
        Report::new(format, &usage, render)
    }
}

fn render(usage: &Usage) -> String {
    if let Some(why) = &usage.absent {
        return format!("no use to show: {}\n", printable(why));
    }
    if usage.gpus.is_empty() {
        return "NVIDIA's library knows no GPU\n".to_owned();
    }
    let blocks: Vec<String> =
        usage.gpus.iter().map(|gpu| format!("{}{}", head(gpu), vgpus(gpu, &usage.owners))).collect();
    blocks.join("\n")
}

fn head(gpu: &GpuState) -> String {
    let mut facts = vec![format!("{} of {} MiB in use", gpu.used_mib, gpu.framebuffer_mib)];
    facts.extend(gpu.size_mode.map(|mode| format!("{mode} sizes")));
    if let Some(scheduler) = &gpu.scheduler {
        let policy = scheduler.policy.map_or("unknown", crate::model::SchedulerPolicy::name);
        let slice = match scheduler.time_slice_ns {
            0 => String::new(),
            ns => format!(" ({:.1} ms)", f64::from(ns) / 1e6),
        };
        facts.push(format!("{policy}{slice}"));
    }
    facts.extend(gpu.mig.map(|mig| if mig.on { "MIG on" } else { "MIG off" }.to_owned()));
    format!("{}  {}\n  {}\n", gpu.address, printable(&gpu.name), facts.join(", "))
}

fn vgpus(gpu: &GpuState, owners: &[VgpuOwner]) -> String {
    if gpu.vgpus.is_empty() {
        return "  no vGPU runs\n".to_owned();
    }
    let header = ["TYPE", "DOMAIN", "ALLOCATION", ">AT", ">MIB", ">OF", ">SM%", ">MEM%", ">ENC%", ">DEC%"];
    let mut table = Table::new(2, &header);
    for vgpu in &gpu.vgpus {
        let owner = owners.iter().find(|one| one.gpu == gpu.address && one.instance == vgpu.instance);
        let vm = || vgpu.vm.map(|vm| vm.to_string()).unwrap_or_default();
        let busy = |part: fn(Busy) -> u32| vgpu.busy.map(|busy| part(busy).to_string()).unwrap_or_default();
        table.row([
            short(vgpu),
            owner.map_or_else(vm, |owner| owner.domain.clone()),
            owner.map(ids).unwrap_or_default(),
            vgpu.placement.map(|at| at.to_string()).unwrap_or_default(),
            vgpu.used_mib.to_string(),
            vgpu.framebuffer_mib.to_string(),
            busy(|busy| busy.sm),
            busy(|busy| busy.memory),
            busy(|busy| busy.encoder),
            busy(|busy| busy.decoder),
        ]);
    }
    format!("\n{}", table.render())
}

fn short(vgpu: &VgpuUse) -> String {
    vgpu.type_name.trim_start_matches("NVIDIA ").trim_start_matches("GRID ").to_owned()
}

fn ids(owner: &VgpuOwner) -> String {
    owner.allocations.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
