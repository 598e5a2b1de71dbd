//! `vgpuctl topology`: how the GPUs are connected.

use clap::Args;

use crate::cli::report::{Format, Report};
use crate::cli::table::{Table, printable};
use crate::client::{Client, ClientError};
use crate::config::{Config, Paths};
use crate::inventory::{ScanOptions, scan};
use crate::model::{DeviceName, Link, PairState};
use crate::sysfs::Sysfs;
use crate::topology::{self, GpuPlace, Hints, Level, Pair, Possibility, Topology as Answer};
use crate::wire::{AllocationView, Allocations, Kind, Refusal, SliceStatus};

/// Show how the GPUs are connected, and what a VM could make of it
///
/// How near each GPU is to each, in the words of `nvidia-smi topo`; the PCIe link as it is and as it could be;
/// NUMA nodes and their distances; IOMMU groups; NVLink and peer access as NVIDIA's library has them; and for each
/// pair which ways from GPU to GPU a VM could have, with the reason.
#[derive(Debug, Args)]
pub(super) struct Topology {
    /// Read the host itself, without the service; what NVIDIA's library knows is then unknown
    #[arg(long)]
    direct: bool,
    /// What this domain's definition can say so that its memory is near its GPUs: printed, to be put in by hand
    #[arg(long, value_name = "DOMAIN", conflicts_with = "direct")]
    hints: Option<String>,
}

impl Topology {
    pub(super) fn run(self, client: &Client, paths: &Paths, format: Format) -> Result<Report, Refusal> {
        if let Some(domain) = self.hints {
            let found = domain_hints(client, &domain)?;
            return Report::new(format, &found, |found| hints(&domain, found));
        }
        let answer: Answer = if self.direct {
            direct(paths)?
        } else {
            client.get("/v1/topology").map_err(ClientError::into_refusal)?
        };
        Report::new(format, &answer, render)
    }
}

/// The GPUs of a domain are those that it has whole, and those on which its slices are now.
fn domain_hints(client: &Client, domain: &str) -> Result<Hints, Refusal> {
    let answer: Answer = client.get("/v1/topology").map_err(ClientError::into_refusal)?;
    let all: Allocations = client.get("/v1/allocations").map_err(ClientError::into_refusal)?;
    let own = |view: &&AllocationView| {
        view.allocation.domain.name == domain || view.allocation.domain.uuid.to_string() == domain
    };
    let mut own = all.allocations.iter().filter(own).peekable();
    if own.peek().is_none() {
        return Err(Refusal::new(
            Kind::NotFound,
            format!("domain {domain} has no slice and no GPU of vgpud's"),
        )
        .hint("vgpuctl allocations lists who has"));
    }
    let names: Vec<DeviceName> = own
        .filter_map(|view| match &view.slice {
            SliceStatus::Ready { parent } | SliceStatus::InUse { parent, .. } => Some(parent.clone()),
            SliceStatus::Reserved | SliceStatus::Missing | SliceStatus::Unfinished { .. } => {
                view.allocation.device.to_string().parse().ok()
            }
        })
        .collect();
    Ok(topology::hints(&answer, &names))
}

fn hints(domain: &str, found: &Hints) -> String {
    if found.nodes.is_empty() {
        return format!(
            "on which NUMA node the GPUs of {domain} are is not known: the host does not say, or its slices are not made now\n"
        );
    }
    let mut text = String::new();
    for (node, gpus) in &found.nodes {
        let gpus: Vec<String> = gpus.iter().map(ToString::to_string).collect();
        text.push_str(&format!("NUMA node {node}: {}\n", gpus.join(", ")));
    }
    text.push_str(&format!("\nmemory from there, below <domain>:\n\n{}", found.numatune));
    if !found.controllers.is_empty() {
        text.push_str(&format!(
            "\nthe guest has a NUMA cell for each node in this order (<cpu><numa>), and a PCI bus near each, below <devices>:\n\n{}",
            found.controllers.concat()
        ));
    }
    text + &format!("\nput in with: virsh edit {domain}\n")
}

fn direct(paths: &Paths) -> Result<Answer, Refusal> {
    let config = Config::load(paths).map_err(|error| Refusal::from_error(Kind::Usage, &error))?;
    let sysfs = Sysfs::new(paths.root());
    let snapshot = scan(&sysfs, &ScanOptions { include: config.devices.include });
    Ok(topology::describe(&topology::read(&sysfs, &snapshot), Err("not asked (--direct)")))
}

fn render(answer: &Answer) -> String {
    if answer.gpus.is_empty() {
        return "no GPU on this host\n".to_owned();
    }
    let mut text: String = answer.gpus.iter().enumerate().map(|(at, gpu)| place(at, gpu)).collect();
    if answer.gpus.len() > 1 {
        text.push_str(&format!("\n{}\n{}", matrix(answer), legend(answer)));
        text.extend(answer.pairs.iter().map(|one| pair(answer, one)));
    }
    if let Some(why) = &answer.nvml {
        text.push_str(&format!("\nNVLink and peer access: unknown: {}\n", printable(why)));
    }
    text
}

fn place(at: usize, gpu: &GpuPlace) -> String {
    let mut facts = vec![gpu.path.join(" > ")];
    facts.push(match (gpu.numa_node, gpu.numa_distances.as_slice()) {
        (None, _) => "no NUMA node".to_owned(),
        (Some(node), []) => format!("NUMA node {node}"),
        (Some(node), distances) => {
            let distances: Vec<String> = distances.iter().map(ToString::to_string).collect();
            format!("NUMA node {node} (distances {})", distances.join(" "))
        }
    });
    facts.push(gpu.iommu_group.map_or("no IOMMU group".to_owned(), |group| format!("IOMMU group {group}")));
    let link = gpu.link.as_ref().map_or("link unknown".to_owned(), link);
    let note = gpu.link_note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
    format!("GPU{at}  {}  {}\n  {}\n  {}\n", gpu.name, printable(&gpu.model), facts.join(", "), link + &note)
}

fn link(link: &Link) -> String {
    format!("link {} x{}, can {} x{}", link.speed, link.width, link.max_speed, link.max_width)
}

/// The most GPUs whose matrix fits on a screen.
const MOST: usize = 16;

fn matrix(answer: &Answer) -> String {
    const NAMES: [&str; MOST + 1] = [
        "", "GPU0", "GPU1", "GPU2", "GPU3", "GPU4", "GPU5", "GPU6", "GPU7", "GPU8", "GPU9", "GPU10", "GPU11",
        "GPU12", "GPU13", "GPU14", "GPU15",
    ];
    let shown = answer.gpus.len().min(MOST);
    let mut table = Table::new(0, &NAMES[..=shown]);
    for (row, a) in answer.gpus.iter().enumerate() {
        let cell = |b: &GpuPlace| {
            let of = |pair: &&Pair| {
                (&pair.a, &pair.b) == (&a.name, &b.name) || (&pair.b, &pair.a) == (&a.name, &b.name)
            };
            let level = answer.pairs.iter().find(of).map_or(Level::Same, |pair| pair.level);
            level.to_string()
        };
        let cells = answer.gpus.iter().take(shown).map(cell);
        table.row_of(std::iter::once(format!("GPU{row}")).chain(cells).collect());
    }
    table.render()
}

fn legend(answer: &Answer) -> String {
    let used = |level: &Level| answer.pairs.iter().any(|pair| pair.level == *level);
    let lines = Level::LEGEND.iter().filter(|(level, _)| used(level));
    lines.map(|(level, what)| format!("{level:<4}  {what}\n")).collect()
}

fn pair(answer: &Answer, pair: &Pair) -> String {
    let number = |name: &DeviceName| answer.gpus.iter().position(|gpu| gpu.name == *name).unwrap_or_default();
    let mut facts = vec![pair.level.to_string()];
    facts.extend(pair.numa_distance.map(|distance| format!("NUMA distance {distance}")));
    facts.extend(pair.nvml.as_ref().map(peer));
    let head = format!("\nGPU{} and GPU{}: {}\n", number(&pair.a), number(&pair.b), facts.join(", "));
    let ways = pair.vm.iter().map(|Possibility { way, possible, reason }| {
        let word = match possible {
            Some(true) => "yes",
            Some(false) => "no",
            None => "not known",
        };
        format!("  in a VM, {way}: {word}: {}\n", printable(reason))
    });
    std::iter::once(head).chain(ways).collect()
}

fn peer(state: &PairState) -> String {
    let word = |access: &Option<String>| {
        access.as_deref().map_or("unknown".to_owned(), |text| printable(text).into_owned())
    };
    let links = state.nvlinks.map_or("NVLink unknown".to_owned(), |links| format!("{links} NVLinks"));
    format!("read {}, write {}, {links}", word(&state.read), word(&state.write))
}
