//! How busy vGPUs are. One sample of each that runs, taken when asked.

use std::os::raw::{c_uint, c_ulonglong};
use std::time::{SystemTime, UNIX_EPOCH};

use nvml_wrapper_sys::bindings as c;

use crate::abi::{Code, INVALID, Out, is_version, nvml, put, put_list};
use crate::session;
use crate::state::Vgpu;

nvml! {
    /// Lists the samples after a moment.
    fn nvmlDeviceGetVgpuUtilization(
        device: c::nvmlDevice_t,
        since: c_ulonglong,
        kind: Out<'_, c::nvmlValueType_t>,
        room: Option<&mut c_uint>,
        samples: *mut c::nvmlVgpuInstanceUtilizationSample_t,
    ) {
        let now = microseconds();
        let running = running(device)?;
        put(kind, c::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT)?;
        let list: Vec<_> = running.iter().map(|(number, vgpu)| {
            let [sm, mem, enc, dec] = vgpu.busy.map(percent);
            c::nvmlVgpuInstanceUtilizationSample_t {
                vgpuInstance: *number,
                timeStamp: now,
                smUtil: sm,
                memUtil: mem,
                encUtil: enc,
                decUtil: dec,
            }
        }).collect();
        put_list(samples, room, if since < now { &list } else { &[] })
    }

    /// Lists the samples after a moment, with two more engines.
    fn nvmlDeviceGetVgpuInstancesUtilizationInfo(
        device: c::nvmlDevice_t,
        info: Option<&mut c::nvmlVgpuInstancesUtilizationInfo_t>,
    ) {
        let info = info.ok_or(INVALID)?;
        is_version::<c::nvmlVgpuInstancesUtilizationInfo_t>(info.version, 1)?;
        let now = microseconds();
        let list: Vec<_> = running(device)?.iter().map(|(number, vgpu)| {
            let [sm, mem, enc, dec] = vgpu.busy.map(percent);
            c::nvmlVgpuInstanceUtilizationInfo_v1_t {
                timeStamp: now,
                vgpuInstance: *number,
                smUtil: sm,
                memUtil: mem,
                encUtil: enc,
                decUtil: dec,
                jpgUtil: percent(0),
                ofaUtil: percent(0),
            }
        }).collect();
        info.sampleValType = c::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT;
        let list = if info.lastSeenTimeStamp < now { &list[..] } else { &[] };
        put_list(info.vgpuUtilArray, Some(&mut info.vgpuInstanceCount), list)
    }
}

fn running(device: c::nvmlDevice_t) -> Result<Vec<(u32, Vgpu)>, Code> {
    let index = session::index(device)?;
    let vgpus = session::gpu(device)?.vgpus.into_iter().filter(|vgpu| vgpu.running);
    Ok(vgpus.map(|vgpu| (session::instance_number(index, &vgpu), vgpu)).collect())
}

fn percent(value: u32) -> c::nvmlValue_t {
    // The whole union is set, so that no reader meets bytes that say nothing.
    c::nvmlValue_t { ullVal: u64::from(value.min(100)) }
}

fn microseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
