//! Calls that nvml-wrapper lacks, or makes without what the library wants: a struct's version, the time
//! slice of the scheduler. Each function makes one call.

#![expect(unsafe_code, reason = "the one place that speaks to the library without the wrapper")]

use std::ptr::null_mut;

use nvml_wrapper::Device;
use nvml_wrapper::error::{NvmlError as Given, nvml_try, nvml_try_count};
use nvml_wrapper_sys::bindings as c;

use crate::model::Busy;

/// `mode` of a placement list: mixed sizes, equal sizes.
pub(super) const MIXED: u32 = 0;
pub(super) const EQUAL: u32 = 1;

/// What the library says where there is no placement id.
const NO_PLACEMENT: u32 = 0xFFFF;

/// Answers that mean "not with this version of the struct", which nvml-wrapper does not tell apart.
const OTHER_VERSION: c::nvmlReturn_t = c::nvmlReturn_enum_NVML_ERROR_ARGUMENT_VERSION_MISMATCH;

/// Most items of a list that are taken from the library.
const MOST: u32 = 4096;

/// Returns the version field of a struct: its size, and the number of its layout.
fn version<T>(layout: u32) -> u32 {
    u32::try_from(size_of::<T>()).unwrap_or(0) | layout << 24
}

fn symbol<T: Copy, E: std::fmt::Display>(symbol: &Result<T, E>) -> Result<T, Given> {
    symbol.as_ref().copied().map_err(|error| Given::FailedToLoadSymbol(error.to_string()))
}

fn handle(device: &Device<'_>) -> c::nvmlDevice_t {
    // SAFETY: the handle is used in the same call, while the library that gave it is borrowed by `device`.
    unsafe { device.handle() }
}

/// Returns whether sizes may be mixed on a GPU.
pub(super) fn is_mixed(nvml: &nvml_wrapper::Nvml, device: &Device<'_>) -> Result<bool, Given> {
    let call = symbol(&nvml.lib().nvmlDeviceGetVgpuHeterogeneousMode)?;
    let mut mode =
        c::nvmlVgpuHeterogeneousMode_t { version: version::<c::nvmlVgpuHeterogeneousMode_t>(1), mode: 0 };
    // SAFETY: the handle is of this library, and `mode` has its version and lives as long as the call.
    nvml_try(unsafe { call(handle(device), &raw mut mode) })?;
    Ok(mode.mode == 1)
}

/// Allows mixed sizes on a GPU or forbids them.
pub(super) fn set_mixed(nvml: &nvml_wrapper::Nvml, device: &Device<'_>, mixed: bool) -> Result<(), Given> {
    let call = symbol(&nvml.lib().nvmlDeviceSetVgpuHeterogeneousMode)?;
    let mode = c::nvmlVgpuHeterogeneousMode_t {
        version: version::<c::nvmlVgpuHeterogeneousMode_t>(1),
        mode: u32::from(mixed),
    };
    // SAFETY: the handle is of this library, and `mode` has its version and lives as long as the call.
    nvml_try(unsafe { call(handle(device), &raw const mode) })
}

/// Which list of placement ids is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which {
    /// On an empty GPU.
    Supported,
    /// As the GPU is now.
    Creatable,
}

/// Lists placement ids of a type, with how many units one takes. `None` where the GPU knows no ids in that mode.
pub(super) fn placements(
    nvml: &nvml_wrapper::Nvml,
    device: &Device<'_>,
    type_id: u32,
    mode: u32,
    which: Which,
) -> Result<Option<(u32, Vec<u32>)>, Given> {
    let lib = nvml.lib();
    let call = match which {
        Which::Supported => symbol(&lib.nvmlDeviceGetVgpuTypeSupportedPlacements)?,
        Which::Creatable => symbol(&lib.nvmlDeviceGetVgpuTypeCreatablePlacements)?,
    };
    let mut list = c::nvmlVgpuPlacementList_t {
        version: version::<c::nvmlVgpuPlacementList_v2_t>(2),
        placementSize: 0,
        count: 0,
        placementIds: null_mut(),
        mode,
    };
    // SAFETY: the handle is of this library; `list` has its version, and says that it has room for none.
    let mut code = unsafe { call(handle(device), type_id, &raw mut list) };
    if code == OTHER_VERSION && mode == MIXED {
        // Drivers before the second layout know mixed mode only; the first layout is the start of the second.
        list.version = version::<c::nvmlVgpuPlacementList_v1_t>(1);
        // SAFETY: as above.
        code = unsafe { call(handle(device), type_id, &raw mut list) };
    }
    if code == OTHER_VERSION || code == c::nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED {
        return Ok(None);
    }
    nvml_try_count(code)?;
    let mut ids = vec![0; list.count.min(MOST) as usize];
    if ids.is_empty() {
        return Ok(Some((list.placementSize, ids)));
    }
    list.count = list.count.min(MOST);
    list.placementIds = ids.as_mut_ptr();
    // SAFETY: the handle is of this library, and `list` points to a buffer of `count` numbers.
    nvml_try(unsafe { call(handle(device), type_id, &raw mut list) })?;
    ids.truncate(list.count as usize);
    Ok(Some((list.placementSize, ids)))
}

/// Returns where a running vGPU sits. The wrapper's own call leaves the version out, which the library refuses.
pub(super) fn placement_of(nvml: &nvml_wrapper::Nvml, instance: u32) -> Result<Option<u32>, Given> {
    let call = symbol(&nvml.lib().nvmlVgpuInstanceGetPlacementId)?;
    let mut placement =
        c::nvmlVgpuPlacementId_t { version: version::<c::nvmlVgpuPlacementId_t>(1), placementId: 0 };
    // SAFETY: `placement` has its version and lives as long as the call.
    nvml_try(unsafe { call(instance, &raw mut placement) })?;
    Ok(Some(placement.placementId).filter(|id| *id != NO_PLACEMENT))
}

/// Lists the vGPUs that run on a GPU, by the library's numbers, which the wrapper keeps to itself.
pub(super) fn active(nvml: &nvml_wrapper::Nvml, device: &Device<'_>) -> Result<Vec<u32>, Given> {
    let call = symbol(&nvml.lib().nvmlDeviceGetActiveVgpus)?;
    let mut room = 0;
    // SAFETY: the handle is of this library, and without a buffer only the number is told.
    nvml_try_count(unsafe { call(handle(device), &raw mut room, null_mut()) })?;
    // Some more: a vGPU may start in between.
    room = room.min(MOST) + 8;
    let mut numbers = vec![0; room as usize];
    // SAFETY: the handle is of this library, and the buffer holds `room` numbers.
    nvml_try(unsafe { call(handle(device), &raw mut room, numbers.as_mut_ptr()) })?;
    numbers.truncate(room as usize);
    Ok(numbers)
}

/// Chooses the scheduler of a GPU. A time slice is for round robin that is not strict; 0 leaves both to the driver.
/// The wrapper's own call leaves half of the parameters unset.
pub(super) fn set_scheduler(
    nvml: &nvml_wrapper::Nvml,
    device: &Device<'_>,
    policy: u32,
    time_slice_ns: u32,
) -> Result<(), Given> {
    let call = symbol(&nvml.lib().nvmlDeviceSetVgpuSchedulerState)?;
    let arr = match time_slice_ns {
        0 => c::NVML_VGPU_SCHEDULER_ARR_DEFAULT,
        _ => c::NVML_VGPU_SCHEDULER_ARR_DISABLE,
    };
    // The time slice is the first number of its form; this form sets the second one too.
    let form = c::nvmlVgpuSchedulerSetParams_t__bindgen_ty_1 { avgFactor: time_slice_ns, frequency: 0 };
    let mut wanted = c::nvmlVgpuSchedulerSetState_t {
        schedulerPolicy: policy,
        enableARRMode: arr,
        schedulerParams: c::nvmlVgpuSchedulerSetParams_t { vgpuSchedDataWithARR: form },
    };
    // SAFETY: the handle is of this library, and `wanted` is set as a whole and lives as long as the call.
    nvml_try(unsafe { call(handle(device), &raw mut wanted) })
}

/// What the scheduler is set to. The wrapper's own call leaves the time slice out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scheduler {
    pub(super) policy: u32,
    pub(super) round_robin: bool,
    pub(super) time_slice_ns: u32,
}

/// Reads the scheduler of a GPU.
pub(super) fn scheduler(nvml: &nvml_wrapper::Nvml, device: &Device<'_>) -> Result<Scheduler, Given> {
    let call = symbol(&nvml.lib().nvmlDeviceGetVgpuSchedulerState)?;
    let params = c::nvmlVgpuSchedulerParams_t {
        vgpuSchedDataWithARR: c::nvmlVgpuSchedulerParams_t__bindgen_ty_1 { avgFactor: 0, timeslice: 0 },
    };
    let mut state =
        c::nvmlVgpuSchedulerGetState_t { schedulerPolicy: 0, arrMode: 0, schedulerParams: params };
    // SAFETY: the handle is of this library, and `state` lives as long as the call.
    nvml_try(unsafe { call(handle(device), &raw mut state) })?;
    let round_robin = state.arrMode == c::NVML_VGPU_SCHEDULER_ARR_ENABLE;
    let time_slice_ns = if round_robin {
        // SAFETY: both numbers of this form were set to 0 before the call: they always say something.
        unsafe { state.schedulerParams.vgpuSchedDataWithARR.timeslice }
    } else {
        // SAFETY: the same, of the form with one number.
        unsafe { state.schedulerParams.vgpuSchedData.timeslice }
    };
    Ok(Scheduler { policy: state.schedulerPolicy, round_robin, time_slice_ns })
}

/// Returns the newest sample of each vGPU that runs on a GPU.
pub(super) fn samples(nvml: &nvml_wrapper::Nvml, device: &Device<'_>) -> Result<Vec<(u32, Busy)>, Given> {
    let call = symbol(&nvml.lib().nvmlDeviceGetVgpuUtilization)?;
    let (mut kind, mut room) = (0, 0);
    // SAFETY: the handle is of this library, and without a buffer only the number is told.
    let code = unsafe { call(handle(device), 0, &raw mut kind, &raw mut room, null_mut()) };
    nvml_try_count(code)?;
    if room == 0 {
        return Ok(Vec::new());
    }
    // Some more: a vGPU may start in between.
    room = room.min(MOST) + 8;
    let nothing = c::nvmlValue_t { ullVal: 0 };
    let empty = c::nvmlVgpuInstanceUtilizationSample_t {
        vgpuInstance: 0,
        timeStamp: 0,
        smUtil: nothing,
        memUtil: nothing,
        encUtil: nothing,
        decUtil: nothing,
    };
    let mut samples = vec![empty; room as usize];
    // SAFETY: the handle is of this library, and the buffer holds `room` samples.
    let code = unsafe { call(handle(device), 0, &raw mut kind, &raw mut room, samples.as_mut_ptr()) };
    nvml_try(code)?;
    samples.truncate(room as usize);
    samples.sort_by_key(|sample| (sample.vgpuInstance, std::cmp::Reverse(sample.timeStamp)));
    samples.dedup_by_key(|sample| sample.vgpuInstance);
    let busy = |sample: &c::nvmlVgpuInstanceUtilizationSample_t| Busy {
        sm: percent(sample.smUtil, kind),
        memory: percent(sample.memUtil, kind),
        encoder: percent(sample.encUtil, kind),
        decoder: percent(sample.decUtil, kind),
    };
    Ok(samples.iter().map(|sample| (sample.vgpuInstance, busy(sample))).collect())
}

/// Reads a value of the kind that the library said.
fn percent(value: c::nvmlValue_t, kind: c::nvmlValueType_t) -> u32 {
    let whole = match kind {
        c::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT => {
            // SAFETY: any bits are a number, and all were set before the call.
            u64::from(unsafe { value.uiVal })
        }
        c::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG
        | c::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG => {
            // SAFETY: the same.
            unsafe { value.ullVal }
        }
        _ => 0,
    };
    u32::try_from(whole.min(100)).unwrap_or(100)
}

/// What the library says of a GPU instance profile.
#[derive(Clone, Debug)]
pub(super) struct InstanceProfile {
    pub(super) id: u32,
    /// `MIG 1g.10gb`; empty where the library is too old to say.
    pub(super) name: String,
    pub(super) most: u32,
}

/// Reads the profile that a number of NVML's stands for (`NVML_GPU_INSTANCE_PROFILE_*`), which is not its id.
pub(super) fn instance_profile(
    nvml: &nvml_wrapper::Nvml,
    device: &Device<'_>,
    number: u32,
) -> Result<InstanceProfile, Given> {
    let call = symbol(&nvml.lib().nvmlDeviceGetGpuInstanceProfileInfoV)?;
    let mut info = c::nvmlGpuInstanceProfileInfo_v2_t {
        version: version::<c::nvmlGpuInstanceProfileInfo_v2_t>(2),
        id: 0,
        isP2pSupported: 0,
        sliceCount: 0,
        instanceCount: 0,
        multiprocessorCount: 0,
        copyEngineCount: 0,
        decoderCount: 0,
        encoderCount: 0,
        jpegCount: 0,
        ofaCount: 0,
        memorySizeMB: 0,
        name: [0; 96],
    };
    // SAFETY: the handle is of this library, and `info` has its version and lives as long as the call.
    nvml_try(unsafe { call(handle(device), number, &raw mut info) })?;
    let name = info.name.iter().map(|byte| byte.to_ne_bytes()[0]).take_while(|byte| *byte != 0);
    let name = String::from_utf8_lossy(&name.collect::<Vec<u8>>()).into_owned();
    Ok(InstanceProfile { id: info.id, name, most: info.instanceCount })
}

/// A GPU instance: its number, and the memory slices that it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instance {
    pub(super) id: u32,
    pub(super) start: u32,
    pub(super) size: u32,
}

/// Lists the GPU instances of a profile, of which there are `most` at most.
pub(super) fn instances(
    nvml: &nvml_wrapper::Nvml,
    device: &Device<'_>,
    profile: u32,
    most: u32,
) -> Result<Vec<Instance>, Given> {
    let call = symbol(&nvml.lib().nvmlDeviceGetGpuInstances)?;
    // The call does not ask how much room there is; more than any GPU has.
    let mut found = vec![null_mut(); most.clamp(64, MOST) as usize];
    let mut count = 0;
    // SAFETY: the handle is of this library, and the buffer holds what the library says there can be at most.
    nvml_try(unsafe { call(handle(device), profile, found.as_mut_ptr(), &raw mut count) })?;
    found.truncate(count as usize);
    found.into_iter().map(|instance| instance_info(nvml, instance)).collect()
}

fn instance_info(nvml: &nvml_wrapper::Nvml, instance: c::nvmlGpuInstance_t) -> Result<Instance, Given> {
    let call = symbol(&nvml.lib().nvmlGpuInstanceGetInfo)?;
    let mut info = c::nvmlGpuInstanceInfo_t {
        device: null_mut(),
        id: 0,
        profileId: 0,
        placement: c::nvmlGpuInstancePlacement_t { start: 0, size: 0 },
    };
    // SAFETY: the handle was given by this library, and `info` lives as long as the call.
    nvml_try(unsafe { call(instance, &raw mut info) })?;
    Ok(Instance { id: info.id, start: info.placement.start, size: info.placement.size })
}

/// Makes a GPU instance of a profile. Returns whether there was room for it.
pub(super) fn create_instance(
    nvml: &nvml_wrapper::Nvml,
    device: &Device<'_>,
    profile: u32,
) -> Result<bool, Given> {
    let call = symbol(&nvml.lib().nvmlDeviceCreateGpuInstance)?;
    let mut made = null_mut();
    // SAFETY: the handle is of this library, and `made` lives as long as the call.
    let code = unsafe { call(handle(device), profile, &raw mut made) };
    // The wrapper does not tell this answer apart.
    if code == c::nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_RESOURCES {
        return Ok(false);
    }
    nvml_try(code).map(|()| true)
}

/// Takes a GPU instance away, by its number.
pub(super) fn destroy_instance(nvml: &nvml_wrapper::Nvml, device: &Device<'_>, id: u32) -> Result<(), Given> {
    let find = symbol(&nvml.lib().nvmlDeviceGetGpuInstanceById)?;
    let destroy = symbol(&nvml.lib().nvmlGpuInstanceDestroy)?;
    let mut instance = null_mut();
    // SAFETY: the handle is of this library, and `instance` lives as long as the call.
    nvml_try(unsafe { find(handle(device), id, &raw mut instance) })?;
    // SAFETY: the handle was given by this library just now.
    nvml_try(unsafe { destroy(instance) })
}
