//! GPU instances of a GPU in MIG mode, and the processes that keep them.

use std::os::raw::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings as c;

use crate::abi::{
    Answer, Code, INVALID, NOT_FOUND, NOT_SUPPORTED, Out, array, count, is_version, nvml, put, put_all,
    put_list,
};
use crate::partition;
use crate::session::{self, gpu, part};
use crate::state::{self, Gpu, Instance, Kind};

/// GPU instances are for GPUs in MIG mode.
fn divided(gpu: &Gpu) -> Answer {
    if gpu.mig { Ok(()) } else { Err(NOT_SUPPORTED) }
}

/// Finds a profile by its id.
fn profile(gpu: &Gpu, id: c_uint) -> Result<&Kind, Code> {
    gpu.kinds.iter().find(|kind| kind.gi_profile == Some(id)).ok_or(INVALID)
}

/// Finds a profile by the number that the library's calls ask by.
fn numbered(gpu: &Gpu, number: c_uint) -> Result<&Kind, Code> {
    if number >= c::NVML_GPU_INSTANCE_PROFILE_COUNT {
        return Err(INVALID);
    }
    let asked = |kind: &&Kind| partition::number(gpu, kind) == Some(number);
    gpu.kinds.iter().find(asked).ok_or(NOT_SUPPORTED)
}

/// Returns slices and memory in MB.
fn size_of_profile(kind: &Kind) -> (c_uint, c_ulonglong) {
    (partition::slices(&kind.gi_name).map_or(0, |(compute, _)| compute), kind.fb_mib)
}

nvml! {
    /// Tells what a profile is.
    fn nvmlDeviceGetGpuInstanceProfileInfo(
        device: c::nvmlDevice_t,
        number: c_uint,
        info: Out<'_, c::nvmlGpuInstanceProfileInfo_t>,
    ) {
        let gpu = gpu(device)?;
        divided(&gpu)?;
        let kind = numbered(&gpu, number)?;
        let (slices, memory) = size_of_profile(kind);
        put(info, c::nvmlGpuInstanceProfileInfo_t {
            id: kind.gi_profile.unwrap_or_default(),
            isP2pSupported: 0,
            sliceCount: slices,
            instanceCount: kind.gis,
            multiprocessorCount: 16 * slices,
            copyEngineCount: slices,
            decoderCount: slices,
            encoderCount: 0,
            jpegCount: 0,
            ofaCount: 0,
            memorySizeMB: memory,
        })
    }

    /// Tells what a profile is, with its name.
    fn nvmlDeviceGetGpuInstanceProfileInfoV(
        device: c::nvmlDevice_t,
        number: c_uint,
        info: Option<&mut c::nvmlGpuInstanceProfileInfo_v2_t>,
    ) {
        let info = info.ok_or(INVALID)?;
        is_version::<c::nvmlGpuInstanceProfileInfo_v2_t>(info.version, 2)?;
        let gpu = gpu(device)?;
        divided(&gpu)?;
        let kind = numbered(&gpu, number)?;
        (info.id, info.instanceCount) = (kind.gi_profile.unwrap_or_default(), kind.gis);
        (info.sliceCount, info.memorySizeMB) = size_of_profile(kind);
        info.name = array(&format!("MIG {}", kind.gi_name));
        Ok(())
    }

    /// Tells how many more instances of a profile fit.
    fn nvmlDeviceGetGpuInstanceRemainingCapacity(
        device: c::nvmlDevice_t,
        id: c_uint,
        left: Out<'_, c_uint>,
    ) {
        let gpu = gpu(device)?;
        divided(&gpu)?;
        put(left, partition::free(&gpu, profile(&gpu, id)?))
    }

    /// Makes an instance where it fits first.
    fn nvmlDeviceCreateGpuInstance(
        device: c::nvmlDevice_t,
        id: c_uint,
        made: Out<'_, c::nvmlGpuInstance_t>,
    ) {
        let before = gpu(device)?;
        divided(&before)?;
        let name = &profile(&before, id)?.gi_name;
        state::control(&before.address, &format!("gi_create={name}"))?;
        let is_new = |one: &&Instance| before.instances.iter().all(|known| known.id != one.id);
        let after = gpu(device)?;
        let new = after.instances.iter().find(is_new).ok_or(NOT_FOUND)?;
        put(made, session::part_handle(session::index(device)?, new.id))
    }

    /// Lists the instances of a profile into a buffer for all that there can be.
    fn nvmlDeviceGetGpuInstances(
        device: c::nvmlDevice_t,
        id: c_uint,
        instances: *mut c::nvmlGpuInstance_t,
        number: Out<'_, c_uint>,
    ) {
        let gpu = gpu(device)?;
        divided(&gpu)?;
        profile(&gpu, id)?;
        let index = session::index(device)?;
        let here = gpu.instances.iter().filter(|one| one.profile == id);
        let handles: Vec<_> = here.map(|one| session::part_handle(index, one.id)).collect();
        put_all(instances, number, &handles)
    }

    /// Finds an instance by its number.
    fn nvmlDeviceGetGpuInstanceById(
        device: c::nvmlDevice_t,
        id: c_uint,
        instance: Out<'_, c::nvmlGpuInstance_t>,
    ) {
        let gpu = gpu(device)?;
        divided(&gpu)?;
        let known = gpu.instances.iter().any(|one| one.id == id);
        if !known {
            return Err(NOT_FOUND);
        }
        put(instance, session::part_handle(session::index(device)?, id))
    }

    /// Tells number, profile and place of an instance.
    fn nvmlGpuInstanceGetInfo(instance: c::nvmlGpuInstance_t, info: Out<'_, c::nvmlGpuInstanceInfo_t>) {
        let (index, _, Instance { id, profile, start, size, .. }) = part(instance)?;
        put(info, c::nvmlGpuInstanceInfo_t {
            device: session::handle(index),
            id,
            profileId: profile,
            placement: c::nvmlGpuInstancePlacement_t { start, size },
        })
    }

    /// Takes an instance away; refused while anything is on it.
    fn nvmlGpuInstanceDestroy(instance: c::nvmlGpuInstance_t) {
        let (_, gpu, one) = part(instance)?;
        Ok(state::control(&gpu.address, &format!("gi_destroy={}", one.id))?)
    }

    /// Lists the processes that compute on the GPU itself.
    fn nvmlDeviceGetComputeRunningProcesses_v3(
        device: c::nvmlDevice_t,
        room: Option<&mut c_uint>,
        processes: *mut c::nvmlProcessInfo_t,
    ) {
        let gpu = gpu(device)?;
        let none = c_uint::MAX;
        let all: Vec<c::nvmlProcessInfo_t> = gpu
            .process
            .iter()
            .map(|pid| c::nvmlProcessInfo_t {
                pid: *pid,
                usedGpuMemory: 1 << 30,
                gpuInstanceId: none,
                computeInstanceId: none,
            })
            .collect();
        debug_assert!(count(all.len()) < 2, "the simulation knows one");
        put_list(processes, room, &all)
    }
}
