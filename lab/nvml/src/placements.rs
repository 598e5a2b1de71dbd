//! Mixed-size mode and where kinds of vGPU can sit.

use std::os::raw::c_uint;

use nvml_wrapper_sys::bindings as c;

use crate::abi::{Code, IN_USE, INVALID, NOT_SUPPORTED, OTHER_VERSION, is_version, nvml, put_list, version};
use crate::placement;
use crate::session::gpu;
use crate::state::{self, Gpu, Kind};

/// `mode` of a placement list that asks for equal-size mode.
const EQUAL: c_uint = 1;

nvml! {
    /// Tells whether vGPUs of several sizes are allowed.
    fn nvmlDeviceGetVgpuHeterogeneousMode(
        device: c::nvmlDevice_t,
        mode: Option<&mut c::nvmlVgpuHeterogeneousMode_t>,
    ) {
        let mode = mode.ok_or(INVALID)?;
        is_version::<c::nvmlVgpuHeterogeneousMode_t>(mode.version, 1)?;
        let gpu = gpu(device)?;
        if !gpu.can_mix() {
            return Err(NOT_SUPPORTED);
        }
        mode.mode = c_uint::from(gpu.mixed);
        Ok(())
    }

    /// Allows or forbids vGPUs of several sizes; refused while any is created.
    fn nvmlDeviceSetVgpuHeterogeneousMode(
        device: c::nvmlDevice_t,
        mode: Option<&c::nvmlVgpuHeterogeneousMode_t>,
    ) {
        let mode = mode.ok_or(INVALID)?;
        is_version::<c::nvmlVgpuHeterogeneousMode_t>(mode.version, 1)?;
        let word = match mode.mode {
            0 => "equal",
            1 => "mixed",
            _ => return Err(INVALID),
        };
        let gpu = gpu(device)?;
        if !gpu.can_mix() {
            return Err(NOT_SUPPORTED);
        }
        if !gpu.vgpus.is_empty() {
            return Err(IN_USE);
        }
        Ok(state::control(&gpu.address, &format!("mode={word}"))?)
    }

    /// Lists the ids where a kind can sit on an empty GPU.
    fn nvmlDeviceGetVgpuTypeSupportedPlacements(
        device: c::nvmlDevice_t,
        id: c::nvmlVgpuTypeId_t,
        list: Option<&mut c::nvmlVgpuPlacementList_t>,
    ) {
        give(device, id, list, placement::supported)
    }

    /// Lists the ids where one more of a kind can sit now.
    fn nvmlDeviceGetVgpuTypeCreatablePlacements(
        device: c::nvmlDevice_t,
        id: c::nvmlVgpuTypeId_t,
        list: Option<&mut c::nvmlVgpuPlacementList_t>,
    ) {
        give(device, id, list, placement::creatable)
    }
}

/// The second layout of the list ends in `mode`; the first has the size of the list without it, and asks for mixed-size mode.
fn give(
    device: c::nvmlDevice_t,
    id: u32,
    list: Option<&mut c::nvmlVgpuPlacementList_t>,
    rule: fn(&Gpu, &Kind, bool) -> Option<Vec<u32>>,
) -> Result<(), Code> {
    let list = list.ok_or(INVALID)?;
    if list.version != version::<c::nvmlVgpuPlacementList_v2_t>(2) {
        return Err(OTHER_VERSION);
    }
    let gpu = gpu(device)?;
    let kind = gpu.kind(id).ok_or(INVALID)?;
    let mixed = list.mode != EQUAL;
    // Ids of mixed-size mode are known while the GPU is in that mode.
    if mixed && !gpu.mixed {
        return Err(NOT_SUPPORTED);
    }
    let ids = rule(&gpu, kind, mixed).ok_or(NOT_SUPPORTED)?;
    list.placementSize = placement::size(&gpu, kind);
    put_list(list.placementIds, Some(&mut list.count), &ids)
}
