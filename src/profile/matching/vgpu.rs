//! Which vGPU type of a GPU serves a wish, where VFs take types by number.

use super::{Fit, Match};
use crate::model::{Framebuffer, Gpu, MdevTypeId, Profile, Vf, VgpuType, Wish};

/// Matches a wish against a GPU whose VFs take vGPU types.
pub(super) fn vgpu_match<'a>(gpu: &'a Gpu, profile: &Profile) -> Match<'a> {
    let fit = match &profile.wish {
        _ if profile.display => {
            Err("gives VFs, and display is for the hostdev of a mediated device".to_owned())
        }
        Wish::Type(name) => named_type(gpu, name),
        Wish::Framebuffer(least) => smallest_type(gpu, *least),
        Wish::Vf(_) | Wish::Gpu(_) => Err("gives vGPU types on its VFs, not bare VFs".to_owned()),
    };
    let fit = fit.map(|vgpu_type| Fit::Vgpu { vgpu_type, vfs: vfs_of(gpu) });
    Match { gpu, parent: &gpu.name, mdev_parent: None, fit }
}

fn vfs_of(gpu: &Gpu) -> Vec<&Vf> {
    let vfs = gpu.sriov.iter().flat_map(|sriov| &sriov.vfs);
    let mut vfs: Vec<&Vf> = vfs.filter(|vf| vf.vgpu.is_some()).collect();
    vfs.sort_by_key(|vf| vf.address);
    vfs
}

fn named_type<'a>(gpu: &'a Gpu, name: &str) -> Result<&'a VgpuType, String> {
    let by_id = || gpu.vgpu_types.iter().find(|one| one.id.as_str() == name);
    let by_name = || gpu.vgpu_types.iter().find(|one| is_called(&one.id, &one.name, name));
    by_id().or_else(by_name).ok_or_else(|| format!("does not make it, only {}", offered(gpu)))
}

/// Returns whether a type has this name, or this number, or this as the last word of its name: the words before
/// it differ between the driver's versions (GRID, NVIDIA).
pub(super) fn is_called(id: &MdevTypeId, name: &str, wanted: &str) -> bool {
    let number = || wanted.parse().is_ok_and(|number: u32| id.vgpu_number() == Some(number));
    name == wanted || number() || name.rsplit(' ').next() == Some(wanted)
}

/// The smallest type with at least this much. Where anything tells whether the GPU is in MIG mode, only types of
/// that mode count: the others were seen in another mode.
fn smallest_type(gpu: &Gpu, least: Framebuffer) -> Result<&VgpuType, String> {
    let mode = mig_mode(gpu);
    let fitting = gpu.vgpu_types.iter().filter(|one| mode.is_none_or(|mig| one.mig == mig));
    let sized = || fitting.clone().filter_map(|one| Some((one.framebuffer?, one)));
    let enough = sized().filter(|(size, _)| *size >= least);
    if let Some((_, found)) = enough.min_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.id.cmp(&b.1.id))) {
        return Ok(found);
    }
    Err(match sized().max_by_key(|(size, _)| *size) {
        Some((size, found)) => format!("its largest type, {}, has {size}", found.id),
        None => format!("the names of its types do not say their framebuffer ({})", offered(gpu)),
    })
}

/// Whether the types that can be made or run now are MIG-backed; `None` when nothing can and nothing does.
fn mig_mode(gpu: &Gpu) -> Option<bool> {
    let slots = gpu.sriov.iter().flat_map(|sriov| &sriov.vfs).filter_map(|vf| vf.vgpu.as_ref());
    let mut ids = slots.flat_map(|slot| slot.creatable.first().into_iter().chain(&slot.current));
    let id = ids.next()?;
    gpu.vgpu_types.iter().find(|one| one.id == *id).map(|one| one.mig)
}

fn offered(gpu: &Gpu) -> String {
    super::some_of(gpu.vgpu_types.iter().map(|one| one.id.as_str()).collect())
}
