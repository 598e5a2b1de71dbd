//! What a GPU can still give of a vGPU type, where VFs take types by number.
//!
//! The driver says for each free VF whether the type can be made on it now, and not how often. How often follows
//! from the placement ids where NVIDIA's library knows them; elsewhere it is estimated from the sizes in the types'
//! names: the largest type is the whole GPU. At least one is true, for the driver says so; more than that is a
//! preference, never a promise.

mod map;

use crate::model::{Gpu, MdevTypeId, NvmlFacts, SizeMode, Vf, VgpuType};
use crate::placement::Owners;
use crate::placement::offer::vf_is_free;

pub use map::maps;
use map::{fitting, ids, taken};

/// Returns whether the type can be made on this VF now, as its driver says.
pub(super) fn takes(vf: &Vf, vgpu_type: &MdevTypeId) -> bool {
    vf.vgpu.as_ref().is_some_and(|slot| slot.creatable.contains(vgpu_type))
}

/// Returns how many of the type can be made, or why none can.
pub(super) fn room(gpu: &Gpu, vgpu_type: &VgpuType, vfs: &[&Vf], owners: &Owners) -> Result<u32, String> {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let free = vfs.iter().filter(|vf| vf_is_free(vf, owners)).count();
    let taking = vfs.iter().filter(|vf| vf_is_free(vf, owners) && takes(vf, &vgpu_type.id)).count();
    if free == 0 {
        return Err(format!("has 0 of {} VFs free", vfs.len()));
    }
    if taking == 0 {
        return Err(none_left(gpu, vgpu_type));
    }
    let free = left_by_ids(gpu, &vgpu_type.id).unwrap_or_else(|| estimate(gpu, vgpu_type));
    Ok(number(taking).min(free.max(1)))
}

/// How many more of a type find a free placement id; `None` where nobody knows the ids.
fn left_by_ids(gpu: &Gpu, vgpu_type: &MdevTypeId) -> Option<u32> {
    let nvml = gpu.nvml.as_ref()?;
    if nvml.mig == Some(true) {
        return left_by_instances(gpu, nvml, vgpu_type);
    }
    if let Some(ids) = ids(gpu, vgpu_type) {
        let free = fitting(ids, &taken(gpu)?);
        return u32::try_from(free.len()).ok();
    }
    // Without ids one size at a time is made, and as many of it as the library says.
    let most = nvml.placed(vgpu_type).filter(|_| nvml.size_mode == Some(SizeMode::Equal))?.most;
    let vfs = gpu.sriov.iter().flat_map(|sriov| &sriov.vfs);
    let made = vfs.filter(|vf| vf.vgpu_type().is_some()).count();
    Some(most.saturating_sub(u32::try_from(made).unwrap_or(u32::MAX)))
}

/// How many GPU instances of the type's profile carry nothing; `None` where nobody knows the instances. One carries one vGPU:
/// several take time slices of an instance, which few boards have, and then the driver's word is all there is.
fn left_by_instances(gpu: &Gpu, nvml: &NvmlFacts, vgpu_type: &MdevTypeId) -> Option<u32> {
    let profile = nvml.placed(vgpu_type)?.gpu_instance_profile?;
    let vfs = || gpu.sriov.iter().flat_map(|sriov| &sriov.vfs).filter_map(|vf| vf.vgpu.as_ref());
    let carries = |id: u32| vfs().any(|slot| slot.gpu_instance == Some(id));
    let free = nvml.instances.iter().filter(|one| one.profile_id == profile && !carries(one.id));
    u32::try_from(free.count()).ok()
}

/// The types that run on a GPU, with those of unknown name left out.
fn running(gpu: &Gpu) -> impl Iterator<Item = &VgpuType> {
    let vfs = gpu.sriov.iter().flat_map(|sriov| &sriov.vfs);
    vfs.filter_map(|vf| vf.vgpu_type()).filter_map(|id| gpu.vgpu_types.iter().find(|one| one.id == *id))
}

/// Framebuffer of one vGPU in MiB; 0 where the name does not say.
fn size(one: &VgpuType) -> u32 {
    one.framebuffer.map_or(0, |size| size.mib())
}

/// Framebuffer of the largest type of one mode, time-sliced or MIG: the whole GPU's.
fn whole(gpu: &Gpu, mig: bool) -> u32 {
    gpu.vgpu_types.iter().filter(|one| one.mig == mig).map(size).max().unwrap_or(0)
}

/// How many fit into what the running ones leave of the largest type's framebuffer.
fn estimate(gpu: &Gpu, vgpu_type: &VgpuType) -> u32 {
    let used: u32 = running(gpu).map(size).fold(0, u32::saturating_add);
    match size(vgpu_type) {
        0 => u32::MAX,
        one => whole(gpu, vgpu_type.mig).saturating_sub(used) / one,
    }
}

/// How many of the type an empty GPU with so many VFs makes; `None` where the types do not say their sizes.
pub(super) fn if_emptied(gpu: &Gpu, vgpu_type: &VgpuType, vfs: usize) -> Option<u32> {
    let nvml = gpu.nvml.as_ref().filter(|nvml| nvml.mig == Some(true));
    let by_instances = nvml.and_then(|nvml| {
        let profile = nvml.placed(&vgpu_type.id)?.gpu_instance_profile?;
        u32::try_from(nvml.instances.iter().filter(|one| one.profile_id == profile).count()).ok()
    });
    let by_ids = ids(gpu, &vgpu_type.id).and_then(|ids| u32::try_from(fitting(ids, &[]).len()).ok());
    let most = by_instances.or(by_ids).or_else(|| whole(gpu, vgpu_type.mig).checked_div(size(vgpu_type)))?;
    Some(most.min(u32::try_from(vfs).unwrap_or(u32::MAX)))
}

fn is_mixed(gpu: &Gpu) -> bool {
    gpu.nvml.as_ref().is_some_and(|nvml| nvml.size_mode == Some(SizeMode::Mixed))
}

/// Says why a type can be made on no free VF.
fn none_left(gpu: &Gpu, vgpu_type: &VgpuType) -> String {
    let id = &vgpu_type.id;
    let mut sizes: Vec<_> = running(gpu).filter_map(|one| one.framebuffer).collect();
    sizes.sort_unstable();
    sizes.dedup();
    match (sizes.as_slice(), vgpu_type.framebuffer) {
        ([only], Some(wanted)) if *only != wanted && !is_mixed(gpu) => {
            format!(
                "makes only types of {only} now: one framebuffer size at a time in equal-size mode ({id} has {wanted})"
            )
        }
        _ if vgpu_type.mig => format!("has no GPU instance free for {id}"),
        _ => map::no_place(gpu, vgpu_type).unwrap_or_else(|| format!("has 0 of {id} left")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::{pf, type_id, vf, vgpu_gpu, vgpu_type};
    use crate::model::{GpuInstance, NvmlPlaced};

    const IDS: [&str; 3] = ["nvidia-8", "nvidia-24", "nvidia-48"];

    fn gpu(current: [Option<&str>; 4], creatable: &[&str]) -> Gpu {
        vgpu_gpu("a", &[("nvidia-8", 8), ("nvidia-24", 24), ("nvidia-48", 48)], &current, creatable)
    }

    fn room_for(gpu: &Gpu, id: &str) -> Result<u32, String> {
        let kind = gpu.vgpu_types.iter().find(|one| one.id.as_str() == id).expect("a type");
        let vfs: Vec<&Vf> = gpu.sriov.iter().flat_map(|sriov| &sriov.vfs).collect();
        room(gpu, kind, &vfs, &Owners::new())
    }

    #[test]
    fn the_largest_type_is_the_whole_gpu() {
        let empty = gpu([None; 4], &IDS);
        assert_eq!(IDS.map(|id| room_for(&empty, id)), [Ok(4), Ok(2), Ok(1)]);
        let one = gpu([Some("nvidia-24"), None, None, None], &["nvidia-24"]);
        assert_eq!(room_for(&one, "nvidia-24"), Ok(1));
    }

    #[test]
    fn in_mig_mode_free_instances_of_the_profile_count() {
        let mut gpu = gpu([Some("nvidia-8"), None, None, None], &["nvidia-8"]);
        let instance =
            |id, profile_id| GpuInstance { id, profile: String::new(), profile_id, start: id, size: 1 };
        let placed = |id, profile| NvmlPlaced {
            id,
            name: String::new(),
            most: 7,
            gpu_instance_profile: Some(profile),
            placements: Vec::new(),
        };
        gpu.nvml = Some(NvmlFacts {
            mig: Some(true),
            instances: vec![instance(1, 19), instance(2, 9), instance(3, 19), instance(5, 19)],
            types: vec![placed(8, 19), placed(24, 9)],
            ..NvmlFacts::default()
        });
        if let Some(slot) = gpu.sriov.as_mut().and_then(|sriov| sriov.vfs[0].vgpu.as_mut()) {
            slot.gpu_instance = Some(3);
        }
        assert_eq!(room_for(&gpu, "nvidia-8"), Ok(2), "1 and 5 are free");
        assert_eq!(left_by_ids(&gpu, &type_id("nvidia-24")), Some(1));
        assert_eq!(left_by_ids(&gpu, &type_id("nvidia-48")), None, "nobody knows its profile");
    }

    #[test]
    fn what_an_empty_gpu_makes_goes_by_the_largest_type() {
        let one = gpu([Some("nvidia-24"), None, None, None], &["nvidia-24"]);
        let kinds: Vec<_> = one.vgpu_types.iter().map(|kind| if_emptied(&one, kind, 4)).collect();
        assert_eq!(kinds, [Some(4), Some(2), Some(1)]);
    }

    #[test]
    fn what_the_driver_offers_is_at_least_one() {
        let odd = gpu([Some("nvidia-48"), None, None, None], &["nvidia-8"]);
        assert_eq!(room_for(&odd, "nvidia-8"), Ok(1));
    }

    #[test]
    fn the_reason_names_the_size_that_runs() {
        let one = gpu([Some("nvidia-8"), None, None, None], &["nvidia-8"]);
        let why = room_for(&one, "nvidia-24").expect_err("another size");
        assert!(why.contains("8GiB") && why.contains("24GiB") && why.contains("equal-size"), "{why}");
        let full = gpu([Some("nvidia-24"), Some("nvidia-24"), None, None], &[]);
        assert_eq!(room_for(&full, "nvidia-24"), Err("has 0 of nvidia-24 left".to_owned()));
        let taken = gpu([Some("nvidia-8"); 4], &[]);
        assert_eq!(room_for(&taken, "nvidia-8"), Err("has 0 of 4 VFs free".to_owned()));
    }

    #[test]
    fn a_bare_vf_takes_no_type() {
        assert!(!takes(&vf("0000:01:10.0", "8086:10ca"), &type_id("nvidia-8")));
        assert_eq!(estimate(&pf("a", Vec::new()), &vgpu_type("nvidia-8", 8)), 0);
    }
}
