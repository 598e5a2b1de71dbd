//! The scheduler and MIG mode.

use std::mem::MaybeUninit;
use std::os::raw::c_uint;

use nvml_wrapper_sys::bindings as c;

use crate::abi::{Answer, IN_USE, INVALID, NOT_SUPPORTED, Out, nvml, put};
use crate::session::gpu;
use crate::state::{self, Gpu};

/// Policies by NVML's number, from 0 on.
const POLICIES: [&str; 4] = ["unknown", "best-effort", "equal-share", "fixed-share"];
/// Time slices in nanoseconds.
const SHORTEST: c_uint = 1_000_000;
const LONGEST: c_uint = 30_000_000;

fn policy_of(gpu: &Gpu) -> c_uint {
    let found = POLICIES.iter().position(|policy| *policy == gpu.scheduler);
    found.map_or(0, crate::abi::count)
}

/// Schedulers are for time-sliced vGPUs.
fn schedules(gpu: &Gpu) -> Answer {
    if gpu.mig { Err(NOT_SUPPORTED) } else { Ok(()) }
}

nvml! {
    /// Tells what the scheduler can do.
    fn nvmlDeviceGetVgpuSchedulerCapabilities(
        device: c::nvmlDevice_t,
        out: Out<'_, c::nvmlVgpuSchedulerCapabilities_t>,
    ) {
        schedules(&gpu(device)?)?;
        put(out, c::nvmlVgpuSchedulerCapabilities_t {
            supportedSchedulers: [1, 2, 3],
            maxTimeslice: LONGEST,
            minTimeslice: SHORTEST,
            isArrModeSupported: 1,
            maxFrequencyForARR: 960,
            minFrequencyForARR: 63,
            maxAvgFactorForARR: 60,
            minAvgFactorForARR: 1,
        })
    }

    /// Tells the policy and the time slice.
    fn nvmlDeviceGetVgpuSchedulerState(
        device: c::nvmlDevice_t,
        out: Out<'_, c::nvmlVgpuSchedulerGetState_t>,
    ) {
        let gpu = gpu(device)?;
        schedules(&gpu)?;
        let slice = if gpu.time_slice_ns == 0 { 2_000_000 } else { gpu.time_slice_ns };
        put(out, c::nvmlVgpuSchedulerGetState_t {
            schedulerPolicy: policy_of(&gpu),
            arrMode: c::NVML_VGPU_SCHEDULER_ARR_DISABLE,
            // The time slice is the first number of the form without ARR; this form sets the second too.
            schedulerParams: c::nvmlVgpuSchedulerParams_t {
                vgpuSchedDataWithARR: c::nvmlVgpuSchedulerParams_t__bindgen_ty_1 {
                    avgFactor: slice,
                    timeslice: 0,
                },
            },
        })
    }

    /// Chooses the policy and the time slice; refused while a vGPU runs.
    fn nvmlDeviceSetVgpuSchedulerState(
        device: c::nvmlDevice_t,
        wanted: Option<&mut MaybeUninit<c::nvmlVgpuSchedulerSetState_t>>,
    ) {
        let wanted = wanted.ok_or(INVALID)?;
        let gpu = gpu(device)?;
        schedules(&gpu)?;
        if gpu.vgpus.iter().any(|vgpu| vgpu.running) {
            return Err(IN_USE);
        }
        let (policy, arr, slice) = read(wanted);
        let name = POLICIES.get(policy as usize).filter(|_| policy > 0).ok_or(INVALID)?;
        if gpu.mixed && *name == "fixed-share" {
            return Err(NOT_SUPPORTED);
        }
        if slice != 0 && arr != c::NVML_VGPU_SCHEDULER_ARR_ENABLE && !(SHORTEST..=LONGEST).contains(&slice) {
            return Err(INVALID);
        }
        state::control(&gpu.address, &format!("scheduler={name}"))?;
        Ok(state::control(&gpu.address, &format!("time_slice_ns={slice}"))?)
    }

    /// Switches MIG mode; refused while anything is on the GPU.
    fn nvmlDeviceSetMigMode(
        device: c::nvmlDevice_t,
        mode: c_uint,
        activation: Out<'_, c::nvmlReturn_t>,
    ) {
        let gpu = gpu(device)?;
        if gpu.kinds.iter().all(|kind| kind.gi_profile.is_none()) {
            return Err(NOT_SUPPORTED);
        }
        if mode > 1 {
            return Err(INVALID);
        }
        state::control(&gpu.address, &format!("mig={mode}"))?;
        put(activation, c::nvmlReturn_enum_NVML_SUCCESS)
    }
}

/// Reads policy, mode and time slice.
fn read(wanted: &MaybeUninit<c::nvmlVgpuSchedulerSetState_t>) -> (c_uint, c_uint, c_uint) {
    // The union may be half set, so the struct is never taken as a whole: only what both forms of it have.
    let at = wanted.as_ptr();
    // SAFETY: the pointer comes from a reference, and the caller has set the policy.
    let policy = unsafe { (*at).schedulerPolicy };
    // SAFETY: the same, of the mode.
    let arr = unsafe { (*at).enableARRMode };
    // SAFETY: the same, of the union, which may be half set.
    let params = unsafe { &(*at).schedulerParams };
    // SAFETY: its first number is set in both of its forms: time slice or averaging factor.
    let first = unsafe { params.vgpuSchedData.timeslice };
    (policy, arr, first)
}
