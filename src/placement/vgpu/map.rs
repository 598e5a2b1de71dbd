//! Where vGPUs sit on a GPU: placement ids and the units that each takes, as far as NVIDIA's library knows them.

use std::ops::Range;

use crate::model::{Decision, Gpu, HostSnapshot, MdevTypeId, Placements, SizeMode, Vf, VgpuType};
use crate::placement::Owners;
use crate::placement::offer::vf_owner;

/// Returns the placement ids of a type in the GPU's mode.
pub(super) fn ids<'a>(gpu: &'a Gpu, vgpu_type: &MdevTypeId) -> Option<&'a Placements> {
    let nvml = gpu.nvml.as_ref()?;
    let mode = nvml.size_mode?;
    let all = &nvml.placed(vgpu_type)?.placements;
    all.iter().find(|one| one.mode == mode && !one.supported.is_empty() && one.size > 0)
}

fn made(gpu: &Gpu) -> impl Iterator<Item = (&Vf, &MdevTypeId)> {
    let vfs = gpu.sriov.iter().flat_map(|sriov| &sriov.vfs);
    vfs.filter_map(|vf| Some((vf, vf.vgpu_type()?)))
}

/// Returns the units that a VF's vGPU takes.
fn span(gpu: &Gpu, vf: &Vf, vgpu_type: &MdevTypeId) -> Option<Range<u32>> {
    let start = vf.vgpu.as_ref()?.placement?;
    Some(start..start + ids(gpu, vgpu_type)?.size)
}

/// Returns the units that are taken; `None` when that is not known of one of the vGPUs.
pub(super) fn taken(gpu: &Gpu) -> Option<Vec<Range<u32>>> {
    made(gpu).map(|(vf, vgpu_type)| span(gpu, vf, vgpu_type)).collect()
}

/// Returns the ids that could be given one after another, lowest first, beside what is taken. All of one size, so
/// that lowest first is also the most.
pub(super) fn fitting(ids: &Placements, taken: &[Range<u32>]) -> Vec<u32> {
    let mut supported = ids.supported.clone();
    supported.sort_unstable();
    let (mut given, mut free_from) = (Vec::new(), 0);
    for id in supported {
        let end = id + ids.size;
        let is_free = taken.iter().all(|taken| end <= taken.start || taken.end <= id);
        if id >= free_from && is_free {
            given.push(id);
            free_from = end;
        }
    }
    given
}

/// Returns the name of a type without its maker's.
fn short(gpu: &Gpu, vgpu_type: &MdevTypeId) -> String {
    let known = gpu.vgpu_types.iter().find(|one| one.id == *vgpu_type);
    let name = known.map_or(vgpu_type.as_str(), |one| one.name.as_str());
    name.trim_start_matches("NVIDIA ").trim_start_matches("GRID ").to_owned()
}

fn units(span: &Range<u32>) -> String {
    format!("{}-{}", span.start, span.end.saturating_sub(1))
}

/// Says what takes which units, lowest first.
fn spans(gpu: &Gpu) -> Option<Vec<(Range<u32>, &Vf, &MdevTypeId)>> {
    let all: Option<Vec<_>> =
        made(gpu).map(|(vf, vgpu_type)| Some((span(gpu, vf, vgpu_type)?, vf, vgpu_type))).collect();
    let mut all = all?;
    all.sort_by_key(|(span, ..)| span.start);
    Some(all)
}

/// Says why a type finds no place in mixed-size mode; `None` where the places are not known.
pub(super) fn no_place(gpu: &Gpu, vgpu_type: &VgpuType) -> Option<String> {
    let ids = ids(gpu, &vgpu_type.id).filter(|ids| ids.mode == SizeMode::Mixed)?;
    let all = spans(gpu)?;
    let starts = ids.supported.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (taken, name) = (
        all.iter().map(|(span, _, made)| format!("{} {}", units(span), short(gpu, made))),
        short(gpu, &vgpu_type.id),
    );
    let taken = taken.collect::<Vec<_>>().join(", ");
    Some(format!(
        "has no place left for {name} ({}): in mixed-size mode it takes {} units from {starts}, and taken are {taken}",
        vgpu_type.id, ids.size
    ))
}

/// Shows the GPUs of a decision whose vGPUs have places: what sits where, and whose it is. One line each.
#[must_use]
pub fn maps(decision: &Decision, snapshot: &HostSnapshot, owners: &Owners) -> Vec<String> {
    let asked = |gpu: &&Gpu| decision.candidates.iter().any(|one| one.parent == gpu.name);
    snapshot.gpus.iter().filter(asked).filter_map(|gpu| map(gpu, owners)).collect()
}

fn map(gpu: &Gpu, owners: &Owners) -> Option<String> {
    let mode = gpu.nvml.as_ref()?.size_mode?;
    let all = spans(gpu)?;
    if all.is_empty() {
        return None;
    }
    let one = |(span, vf, vgpu_type): &(Range<u32>, &Vf, &MdevTypeId)| {
        format!("{} {} of {}", units(span), short(gpu, vgpu_type), vf_owner(vf, owners))
    };
    let text = all.iter().map(one).collect::<Vec<_>>().join(", ");
    Some(format!("{} in {mode}-size mode: {text}", gpu.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NvmlFacts;
    use crate::model::NvmlPlaced;
    use crate::model::fixture::vgpu_gpu;
    use crate::placement::vgpu::{if_emptied, room};

    const IDS: [&str; 3] = ["nvidia-8", "nvidia-16", "nvidia-24"];

    /// An L40S in mixed-size mode: the ids of NVIDIA's tables for 48 GB.
    fn mixed(current: &[(Option<&str>, u32)], creatable: &[&str]) -> Gpu {
        let types: Vec<Option<&str>> = current.iter().map(|(id, _)| *id).collect();
        let mut gpu =
            vgpu_gpu("a", &[("nvidia-8", 8), ("nvidia-16", 16), ("nvidia-24", 24)], &types, creatable);
        let placed = |(id, supported): (u32, &[u32])| NvmlPlaced {
            id,
            name: format!("NVIDIA L40S-{id}Q"),
            most: 48 / id,
            gpu_instance_profile: None,
            placements: vec![Placements {
                mode: SizeMode::Mixed,
                size: id,
                supported: supported.to_vec(),
                creatable: Vec::new(),
            }],
        };
        let tables: [(u32, &[u32]); 3] = [(8, &[0, 16, 24, 40]), (16, &[0, 32]), (24, &[0, 24])];
        gpu.nvml = Some(NvmlFacts {
            size_mode: Some(SizeMode::Mixed),
            types: tables.into_iter().map(placed).collect(),
            ..NvmlFacts::default()
        });
        for one in &mut gpu.vgpu_types {
            one.name = format!("NVIDIA L40S-{}Q", one.id.vgpu_number().expect("a number"));
        }
        if let Some(sriov) = &mut gpu.sriov {
            for (vf, (has, at)) in sriov.vfs.iter_mut().zip(current) {
                if let Some(slot) = &mut vf.vgpu {
                    slot.placement = has.map(|_| *at);
                }
            }
        }
        gpu
    }

    fn left(gpu: &Gpu, id: &str) -> Result<u32, String> {
        let kind = gpu.vgpu_types.iter().find(|one| one.id.as_str() == id).expect("a type");
        let vfs: Vec<&Vf> = gpu.sriov.iter().flat_map(|sriov| &sriov.vfs).collect();
        room(gpu, kind, &vfs, &Owners::new())
    }

    #[test]
    fn room_follows_the_placement_ids() {
        let empty = mixed(&[(None, 0); 8], &IDS);
        assert_eq!(IDS.map(|id| left(&empty, id)), [Ok(4), Ok(2), Ok(2)], "fewer than in equal-size mode");
        let kinds: Vec<_> = empty.vgpu_types.iter().map(|one| if_emptied(&empty, one, 8)).collect();
        assert_eq!(kinds, [Some(4), Some(2), Some(2)]);
        let one = mixed(&[(Some("nvidia-24"), 0), (None, 0), (None, 0), (None, 0)], &IDS);
        assert_eq!(IDS.map(|id| left(&one, id)), [Ok(2), Ok(1), Ok(1)]);
    }

    #[test]
    fn the_next_one_is_refused_with_the_places() {
        let full =
            mixed(&[(Some("nvidia-24"), 0), (Some("nvidia-16"), 32), (Some("nvidia-8"), 24), (None, 0)], &[]);
        let expected = "has no place left for L40S-8Q (nvidia-8): in mixed-size mode it takes 8 units from \
                        0, 16, 24, 40, and taken are 0-23 L40S-24Q, 24-31 L40S-8Q, 32-47 L40S-16Q";
        assert_eq!(left(&full, "nvidia-8"), Err(expected.to_owned()));
        let shown = map(&full, &Owners::new()).expect("a map");
        assert!(shown.starts_with("a in mixed-size mode: 0-23 L40S-24Q of foreign, 24-31 "), "{shown}");
    }

    #[test]
    fn a_vgpu_of_unknown_place_leaves_the_estimate() {
        let mut gpu = mixed(&[(Some("nvidia-24"), 0), (None, 0), (None, 0), (None, 0)], &IDS);
        if let Some(slot) = gpu.sriov.as_mut().and_then(|sriov| sriov.vfs[0].vgpu.as_mut()) {
            slot.placement = None;
        }
        assert_eq!(taken(&gpu), None);
        assert_eq!(left(&gpu, "nvidia-8"), Ok(1), "the largest known type is the whole GPU");
        assert_eq!(map(&gpu, &Owners::new()), None);
    }
}
