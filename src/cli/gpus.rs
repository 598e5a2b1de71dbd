//! `vgpuctl gpus`: what is on the host, and what can be made on it.

mod direct;

use std::collections::BTreeMap;

use clap::Args;
use serde_json::value::RawValue;

use crate::cli::report::{Format, Report};
use crate::cli::table::{Table, printable};
use crate::client::{Client, ClientError};
use crate::config::Paths;
use crate::model::{
    BackendKind, Device, Gpu, Link, MdevTypeId, NvmlFacts, PciAddress, VgpuSlot, instances_text,
};
use crate::wire::{Gpus as Answer, Owner, Refusal, Slice};

/// Show the GPUs, what can be made on them, and whose slices exist
///
/// Each GPU with its stable identity, how slices are made on it and why so, its types with what
/// can be made now, and the slices that exist: whose they are and who holds them. A device on
/// which nothing can be made is listed with the reason.
///
/// AVAILABLE adds up the parents of a GPU, of which an SR-IOV GPU has one a VF. The types of one
/// GPU share its memory: making one lowers the others. Where VFs take vGPU types by number, ON VFS
/// counts the VFs on which a type can be made now, not how often all of them can have it.
///
/// Slices are owned by an allocation, foreign (made by somebody else, in parentheses who where it can
/// be told: counted, never touched), free, or unknown (--direct).
#[derive(Debug, Args)]
pub(super) struct Gpus {
    /// Read the host itself, without the service; owners are then unknown
    #[arg(long)]
    direct: bool,
    /// List each parent and each free VF by itself
    #[arg(long)]
    all: bool,
}

impl Gpus {
    pub(super) fn run(self, client: &Client, paths: &Paths, format: Format) -> Result<Report, Refusal> {
        if self.direct {
            return Report::new(format, &direct::read(paths)?, |answer| render(answer, self.all));
        }
        // The one long answer: megabytes on a large host.
        if format == Format::Json {
            let answer: Box<RawValue> = client.get("/v1/gpus").map_err(ClientError::into_refusal)?;
            return Ok(Report::as_given(&answer));
        }
        let answer: Answer = client.get("/v1/gpus").map_err(ClientError::into_refusal)?;
        Report::new(format, &answer, |answer| render(answer, self.all))
    }
}

fn render(answer: &Answer, all: bool) -> String {
    let mut blocks: Vec<String> = answer
        .gpus
        .iter()
        .map(|gpu| {
            let slices: Vec<&Slice> = answer.slices.iter().filter(|slice| slice.gpu == gpu.id).collect();
            [head(gpu), types(gpu, &slices, all), vgpu_types(gpu), slice_table(gpu, &slices, all)].concat()
        })
        .collect();
    if blocks.is_empty() {
        blocks.push("no GPU, mdev parent or listed PF on this host\n".to_owned());
    }
    if !answer.problems.is_empty() {
        let line = |problem: &crate::model::ScanProblem| match &problem.device {
            Some(device) => format!("  {device}: {}\n", printable(&problem.text)),
            None => format!("  {}\n", printable(&problem.text)),
        };
        blocks.push(answer.problems.iter().map(line).fold("could not read:\n".to_owned(), |a, b| a + &b));
    }
    blocks.join("\n")
}

/// Writes what a GPU is: name, identity, place, backend and why.
fn head(gpu: &Gpu) -> String {
    let what = match &gpu.pci {
        Some(pci) => format!("{} {}", pci.vendor_name, pci.device_name),
        None => "virtual device".to_owned(),
    };
    let mut facts = Vec::new();
    facts.push(gpu.driver.as_ref().map_or("no driver".to_owned(), |driver| format!("driver {driver}")));
    facts.extend(gpu.numa_node.map(|node| format!("NUMA node {node}")));
    facts.extend(gpu.iommu_group.map(|group| format!("IOMMU group {group}")));
    facts.extend(gpu.pci.as_ref().and_then(|pci| pci.link.as_ref()).map(link));
    facts.extend(gpu.sriov.as_ref().map(|sriov| format!("{} of {} VFs enabled", sriov.enabled, sriov.total)));
    let nvml = gpu.nvml.as_ref();
    facts.extend(nvml.and_then(|nvml| nvml.size_mode).map(|mode| format!("{mode}-size mode")));
    facts.extend(nvml.and_then(|nvml| nvml.scheduler).map(|policy| format!("scheduler {policy}")));
    facts.extend(nvml.filter(|nvml| nvml.mig == Some(true)).map(mig));
    let backend = match gpu.backend {
        BackendKind::None => "no slices",
        BackendKind::Mdev => "slices by mdev",
        BackendKind::NvidiaVfio => "slices by vGPU types of VFs",
        BackendKind::Xe => "slices by SR-IOV with shares of memory",
        BackendKind::Sriov => "slices by SR-IOV",
        BackendKind::Passthrough => "no slices, whole only",
    };
    format!(
        "{}  {}\n  {}\n  {}\n  {backend}: {}\n",
        gpu.name,
        printable(&what),
        gpu.id,
        printable(&facts.join(", ")),
        printable(&gpu.backend_reason)
    )
}

fn mig(nvml: &NvmlFacts) -> String {
    let profiles: Vec<&str> = nvml.instances.iter().map(|one| one.profile.as_str()).collect();
    match instances_text(&profiles) {
        text if text.is_empty() => "MIG mode, no GPU instance".to_owned(),
        text => format!("MIG mode, GPU instances {text}"),
    }
}

fn link(link: &Link) -> String {
    let now = format!("{} x{}", link.speed, link.width);
    let most = format!("{} x{}", link.max_speed, link.max_width);
    if now == most { format!("link {now}") } else { format!("link {now} (can {most})") }
}

/// One type over all parents of a GPU.
#[derive(Default)]
struct Sum {
    parents: u32,
    available: u32,
}

/// Writes the types a GPU offers: one line a type, or one a type and parent.
fn types(gpu: &Gpu, slices: &[&Slice], all: bool) -> String {
    let mut sums: BTreeMap<&MdevTypeId, Sum> = BTreeMap::new();
    for offered in gpu.parents.iter().flat_map(|parent| &parent.types) {
        let sum = sums.entry(&offered.id).or_default();
        sum.parents += 1;
        sum.available = sum.available.saturating_add(offered.available);
    }
    let last = if all { "PARENT" } else { ">PARENTS" };
    let header = ["TYPE", "NAME", ">FRAMEBUFFER", ">HEADS", ">MAX", ">AVAILABLE", last];
    let mut table = Table::new(2, &header);
    for parent in &gpu.parents {
        for offered in &parent.types {
            // The first parent stands for all.
            let sum = if all { None } else { sums.remove(&offered.id) };
            let (available, parents) = match sum {
                _ if all => (offered.available, parent.name.to_string()),
                None => continue,
                Some(sum) => {
                    let made =
                        slices.iter().filter(|slice| slice.mdev_type.as_ref() == Some(&offered.id)).count();
                    let left = offered
                        .max_instances
                        .map(|most| most.saturating_sub(u32::try_from(made).unwrap_or(u32::MAX)));
                    (sum.available.min(left.unwrap_or(u32::MAX)), sum.parents.to_string())
                }
            };
            table.row([
                offered.id.to_string(),
                offered.name.clone(),
                number(offered.framebuffer),
                number(offered.heads),
                number(offered.max_instances),
                available.to_string(),
                parents,
            ]);
        }
    }
    spaced(&table)
}

/// Writes the types that a GPU's VFs take: on how many of them each can be made now.
fn vgpu_types(gpu: &Gpu) -> String {
    let mut table = Table::new(2, &["TYPE", "NAME", ">FRAMEBUFFER", ">ON VFS", ">RUNNING"]);
    let vfs = || gpu.sriov.iter().flat_map(|sriov| &sriov.vfs);
    for one in &gpu.vgpu_types {
        let takes = |slot: &VgpuSlot| slot.creatable.contains(&one.id);
        let offered = vfs().filter(|vf| vf.vgpu.as_ref().is_some_and(takes)).count();
        let running = vfs().filter(|vf| vf.vgpu_type() == Some(&one.id)).count();
        let (id, name) = (one.id.to_string(), one.name.clone());
        table.row([id, name, number(one.framebuffer), offered.to_string(), running.to_string()]);
    }
    spaced(&table)
}

/// Writes the slices on a GPU; free VFs are only counted unless `all`.
fn slice_table(gpu: &Gpu, slices: &[&Slice], all: bool) -> String {
    let own = gpu.whole.as_ref().map(|whole| Device::Vf(whole.function.address));
    let idle = |slice: &Slice| {
        let free = matches!(slice.owner, Owner::Free | Owner::Unknown);
        free && slice.holders.is_empty() && matches!(slice.device, Device::Vf(_)) && Some(slice.device) != own
    };
    let (counted, listed): (Vec<&Slice>, Vec<&Slice>) =
        slices.iter().copied().partition(|slice| !all && idle(slice));
    let mut table = Table::new(2, &["SLICE", "PARENT", "TYPE", "OWNER", "HELD BY"]);
    for slice in listed {
        let kind = match (&slice.mdev_type, slice.device) {
            (Some(mdev_type), _) => mdev_type.to_string(),
            (None, Device::Vf(address)) => vf_kind(gpu, address),
            (None, Device::Mdev(_)) => String::new(),
        };
        let owner = match &slice.owner {
            Owner::Allocation { allocation, domain, guaranteed: true } => {
                format!("{allocation}, guaranteed to {domain}")
            }
            Owner::Allocation { allocation, domain, .. } => format!("{allocation} of {domain}"),
            Owner::Foreign { maker: None } => "foreign".to_owned(),
            Owner::Foreign { maker: Some(maker) } => format!("foreign ({maker})"),
            Owner::Handmade => "made by hand with vgpuctl".to_owned(),
            Owner::Free => "free".to_owned(),
            Owner::Unknown => "unknown".to_owned(),
        };
        let holders: Vec<String> = slice.holders.iter().map(ToString::to_string).collect();
        table.row([slice.device.to_string(), slice.parent.to_string(), kind, owner, holders.join(", ")]);
    }
    let mut text = spaced(&table);
    if !counted.is_empty() {
        let count = counted.len();
        let plural = if count == 1 { "" } else { "s" };
        text.push_str(&format!("\n  {count} VF{plural} that nobody holds; --all lists them\n"));
    }
    text
}

/// Returns the id and driver of a VF, or of the whole GPU.
fn vf_kind(gpu: &Gpu, address: PciAddress) -> String {
    if let Some(whole) = gpu.whole.as_ref().filter(|whole| whole.function.address == address) {
        let own = &whole.function;
        return format!("whole GPU {} ({})", own.id, own.driver.as_deref().unwrap_or("no driver"));
    }
    let vf = gpu.sriov.iter().flat_map(|sriov| &sriov.vfs).find(|vf| vf.address == address);
    vf.map(|vf| {
        let share = vf.framebuffer.map(|size| format!(", {size}")).unwrap_or_default();
        format!("{} ({}{share})", vf.id, vf.driver.as_deref().unwrap_or("no driver"))
    })
    .unwrap_or_default()
}

fn spaced(table: &Table) -> String {
    if table.is_empty() { String::new() } else { format!("\n{}", table.render()) }
}

fn number(value: Option<impl std::fmt::Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
