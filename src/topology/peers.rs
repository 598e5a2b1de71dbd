//! From what was read to what it means. Pure.

use super::{Bridge, GpuPlace, Level, Observations, Pair, Possibility, Seen, Topology, Way};
use crate::model::{Link, PairState, PciAddress};

const NVIDIA: u16 = 0x10de;

/// What NVIDIA's library says of pairs, or why it says nothing.
type Known<'a> = Result<&'a [PairState], &'a str>;

/// Says how the GPUs are connected. `nvml` is what NVIDIA's library says of pairs, or why it does not.
#[must_use]
pub fn describe(seen: &Observations, nvml: Known<'_>) -> Topology {
    let mut pairs = Vec::new();
    for (at, a) in seen.gpus.iter().enumerate() {
        for b in &seen.gpus[at + 1..] {
            let known = nvml.ok().and_then(|all| all.iter().find(|one| one.is_of(a.address, b.address)));
            pairs.push(pair(seen, a, b, known));
        }
    }
    let gpus = seen.gpus.iter().map(|gpu| place(seen, gpu)).collect();
    let asked = seen.gpus.iter().any(|gpu| gpu.pci.vendor == NVIDIA);
    Topology { gpus, pairs, nvml: nvml.err().filter(|_| asked).map(str::to_owned) }
}

fn place(seen: &Observations, gpu: &Seen) -> GpuPlace {
    let bridges = gpu.bridges.iter().map(|bridge| bridge.address.to_string());
    GpuPlace {
        id: gpu.id.clone(),
        name: gpu.name.clone(),
        model: gpu.model.clone(),
        path: std::iter::once(gpu.root.clone()).chain(bridges).collect(),
        numa_node: gpu.numa_node,
        numa_distances: gpu.numa_node.and_then(|node| row(seen, node)).unwrap_or_default(),
        iommu_group: gpu.iommu_group,
        link: gpu.link.clone(),
        link_note: gpu.link.as_ref().and_then(link_note),
    }
}

/// Lanes do not come back by themselves, speed does as soon as the GPU works.
fn link_note(link: &Link) -> Option<String> {
    if link.width < link.max_width {
        return Some(format!(
            "{} of {} lanes: another slot, or a card that is seated again, has more",
            link.width, link.max_width
        ));
    }
    (link.speed != link.max_speed)
        .then(|| "below its highest speed, as idle GPUs are: look again while it works".to_owned())
}

fn row(seen: &Observations, node: u32) -> Option<Vec<u32>> {
    seen.distances.iter().find(|(number, _)| *number == node).map(|(_, row)| row.clone())
}

fn distance(seen: &Observations, a: u32, b: u32) -> Option<u32> {
    let column = seen.distances.iter().position(|(number, _)| *number == b)?;
    row(seen, a)?.get(column).copied()
}

fn pair(seen: &Observations, a: &Seen, b: &Seen, known: Option<&PairState>) -> Pair {
    let level = level(a, b);
    Pair {
        a: a.name.clone(),
        b: b.name.clone(),
        level,
        numa_distance: a.numa_node.zip(b.numa_node).and_then(|(a, b)| distance(seen, a, b)),
        nvml: known.cloned(),
        vm: possibilities(seen, (a, b), level, known),
    }
}

/// How many bridges two GPUs have in common, from the root port down.
fn common(a: &Seen, b: &Seen) -> usize {
    if a.root != b.root {
        return 0;
    }
    let same = |(a, b): &(&Bridge, &Bridge)| a.address == b.address;
    a.bridges.iter().zip(&b.bridges).take_while(same).count()
}

/// A switch is one upstream port with downstream ports below it: of the way down from the last common bridge,
/// one port belongs to the same switch, and more to further ones.
fn level(a: &Seen, b: &Seen) -> Level {
    let common = common(a, b);
    if common > 0 {
        let below = |gpu: &Seen| gpu.bridges.len() - common;
        return if below(a) <= 1 && below(b) <= 1 { Level::Switch } else { Level::Switches };
    }
    match (a.root == b.root, a.numa_node, b.numa_node) {
        (true, ..) => Level::HostBridge,
        (false, Some(a), Some(b)) if a == b => Level::Node,
        // One node, or a firmware that says nothing.
        (false, None, None) => Level::Node,
        (false, ..) => Level::System,
    }
}

// What a VM could have ----------------------------------------------------------------------------

fn possibilities(
    seen: &Observations,
    (a, b): (&Seen, &Seen),
    level: Level,
    known: Option<&PairState>,
) -> Vec<Possibility> {
    let (possible, reason) = pcie(seen, a, b, level);
    let mut ways = vec![Possibility { way: Way::PciePassthrough, possible, reason }];
    if a.pci.vendor == NVIDIA && b.pci.vendor == NVIDIA {
        ways.extend(nvlink(known));
    }
    ways
}

/// PCIe between vGPUs is not in the list: NVIDIA's guides exclude it.
fn nvlink(known: Option<&PairState>) -> [Possibility; 2] {
    let (through, vgpu) = (Way::NvlinkPassthrough, Way::NvlinkVgpu);
    let all = |possible, reason: &str| {
        [through, vgpu].map(|way| Possibility { way, possible, reason: reason.to_owned() })
    };
    match known.and_then(|state| state.nvlinks) {
        None => all(None, "whether they have NVLink is known to NVIDIA's driver only"),
        Some(0) => all(Some(false), "no NVLink between them"),
        Some(links) => [
            Possibility {
                way: through,
                possible: Some(true),
                reason: format!(
                    "{links} NVLinks, of which the guest's own driver makes use when it has both GPUs"
                ),
            },
            Possibility {
                way: vgpu,
                possible: Some(true),
                reason: format!(
                    "{links} NVLinks; only for time-sliced vGPUs that have the whole framebuffer each, in Linux guests"
                ),
            },
        ],
    }
}

/// A guest's requests carry its own addresses, so that with an IOMMU they must pass the root complex, unless nothing on
/// the way keeps the two apart.
fn pcie(seen: &Observations, a: &Seen, b: &Seen, level: Level) -> (Option<bool>, String) {
    if let Some(group) = a.iommu_group.filter(|group| Some(*group) == b.iommu_group) {
        let text = format!(
            "both are in IOMMU group {group}: nothing keeps them apart, so only one VM can have both, and it reaches one from the other"
        );
        return (Some(true), text);
    }
    if a.iommu_group.is_none() || b.iommu_group.is_none() {
        return (Some(false), "without an IOMMU no VM can have a GPU whole".to_owned());
    }
    let at = common(a, b).saturating_sub(1);
    let ports: Vec<&Bridge> = a.bridges.iter().skip(at).chain(b.bridges.iter().skip(at)).collect();
    let redirecting = ports.iter().find(|port| port.redirects == Some(true));
    let unread = ports.iter().any(|port| port.redirects.is_none());
    let forwards = seen.host_bridge_forwards;
    match (level, redirecting, forwards) {
        (Level::HostBridge, _, Some(true)) => {
            (Some(true), "through the root complex, which passes requests on (AMD Zen and later)".to_owned())
        }
        (Level::HostBridge, _, _) => {
            (None, "only through the root complex, of which it is not known whether it passes requests on".to_owned())
        }
        (Level::Node | Level::System, _, Some(true)) => (
            Some(true),
            "through several host bridges, which pass requests on (AMD Zen and later), but slowly".to_owned(),
        ),
        (Level::Node | Level::System, _, _) => (
            None,
            "only through several host bridges, of which it is not known whether they pass requests on".to_owned(),
        ),
        (_, Some(_), Some(true)) => (
            Some(true),
            "below one switch, by way of the root complex: ACS sends requests up, and it passes them on (AMD Zen and later)"
                .to_owned(),
        ),
        (_, Some(port), _) => (
            None,
            format!(
                "below one switch, but port {} sends requests up to the root complex (ACS), of which it is not known whether it \
                 passes them on; pci=disable_acs_redir={} on the kernel's command line ends that, and puts both into one IOMMU group",
                port.address, port.address
            ),
        ),
        (_, None, _) if unread => {
            (None, "below one switch; whether its ports redirect requests (ACS) is read by root only".to_owned())
        }
        (_, None, _) => (Some(true), "below one switch, and no port redirects requests (ACS)".to_owned()),
    }
}

/// Whether two GPUs that one VM has may be told to the guest's driver as peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clique {
    /// They may.
    Peers,
    /// They may not: the reason, as a clause that follows their names.
    No(String),
}

impl Clique {
    /// Judges a pair by the rules of QEMU's `x-nv-gpudirect-clique` (hw/vfio/pci-quirks.c): NVIDIA's display controllers, and,
    /// since QEMU verifies nothing, only below one switch and where the way is known to be open.
    #[must_use]
    pub fn of(seen: &Observations, a: PciAddress, b: PciAddress) -> Self {
        let find = |address| seen.gpus.iter().find(|gpu| gpu.address == address);
        let (Some(a), Some(b)) = (find(a), find(b)) else {
            return Self::No("are not both on this host now".to_owned());
        };
        let display = |gpu: &Seen| gpu.pci.vendor == NVIDIA && gpu.class >> 16 == 0x03;
        if !display(a) || !display(b) {
            return Self::No("are not both NVIDIA's: QEMU has no such mark for others".to_owned());
        }
        let level = level(a, b);
        if !matches!(level, Level::Switch | Level::Switches) {
            return Self::No(format!("are not below one PCIe switch ({level})"));
        }
        match pcie(seen, a, b, level) {
            (Some(true), _) => Self::Peers,
            (_, reason) => Self::No(format!("are not known to reach each other: {reason}")),
        }
    }
}

#[cfg(test)]
mod tests;
