//! What a kind of vGPU is.

use std::os::raw::{c_char, c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings as c;

use crate::abi::{INVALID, Out, is_version, nvml, put, put_text, put_text_sized};
use crate::session::{gpu, kind};
use crate::state::Kind;

/// What NVML says where no GPU instance carries the kind.
const NO_PROFILE: c_uint = 0xFFFF_FFFF;
const MIB: u64 = 1 << 20;

/// What the last letter of a name stands for.
struct Series {
    class: &'static str,
    license: &'static str,
    heads: c_uint,
    limit: c_uint,
    resolution: (c_uint, c_uint),
}

fn series(kind: &Kind) -> Series {
    let letter = kind.name.rsplit('-').next().and_then(|last| last.chars().find(char::is_ascii_alphabetic));
    let made = |class, license, heads, limit, resolution| Series { class, license, heads, limit, resolution };
    match letter {
        Some('B') => made("NVS", "GRID-Virtual-PC,2.0;Quadro-Virtual-DWS,5.0", 4, 45, (5120, 2880)),
        Some('C') => made("Compute", "NVIDIA-vComputeServer,9.0;Quadro-Virtual-DWS,5.0", 1, 60, (4096, 2160)),
        Some('A') => made("NVS", "GRID-Virtual-Apps,3.0", 1, 60, (1280, 1024)),
        _ => made("Quadro", "Quadro-Virtual-DWS,5.0", 4, 60, (7680, 4320)),
    }
}

nvml! {
    /// Tells what it is for.
    fn nvmlVgpuTypeGetClass(id: c::nvmlVgpuTypeId_t, class: *mut c_char, size: Option<&mut c_uint>) {
        put_text_sized(class, size, series(&kind(id)?.1).class)
    }

    /// Tells its name: `NVIDIA L40S-1B`.
    fn nvmlVgpuTypeGetName(id: c::nvmlVgpuTypeId_t, name: *mut c_char, size: Option<&mut c_uint>) {
        put_text_sized(name, size, &kind(id)?.1.name)
    }

    /// Tells the licences that it runs under.
    fn nvmlVgpuTypeGetLicense(id: c::nvmlVgpuTypeId_t, license: *mut c_char, size: c_uint) {
        put_text(license, size, series(&kind(id)?.1).license)
    }

    /// Tells the PCI ids that the guest sees.
    fn nvmlVgpuTypeGetDeviceID(
        id: c::nvmlVgpuTypeId_t,
        device: Out<'_, c_ulonglong>,
        subsystem: Out<'_, c_ulonglong>,
    ) {
        kind(id)?;
        put(device, 0x10de)?;
        put(subsystem, u64::from(id) << 16 | 0x10de)
    }

    /// Tells the framebuffer in bytes.
    fn nvmlVgpuTypeGetFramebufferSize(id: c::nvmlVgpuTypeId_t, size: Out<'_, c_ulonglong>) {
        put(size, kind(id)?.1.fb_mib * MIB)
    }

    /// Tells the display heads.
    fn nvmlVgpuTypeGetNumDisplayHeads(id: c::nvmlVgpuTypeId_t, heads: Out<'_, c_uint>) {
        put(heads, series(&kind(id)?.1).heads)
    }

    /// Tells the largest resolution of a head.
    fn nvmlVgpuTypeGetResolution(
        id: c::nvmlVgpuTypeId_t,
        head: c_uint,
        x: Out<'_, c_uint>,
        y: Out<'_, c_uint>,
    ) {
        let series = series(&kind(id)?.1);
        if head >= series.heads {
            return Err(INVALID);
        }
        put(x, series.resolution.0)?;
        put(y, series.resolution.1)
    }

    /// Tells the frame rate limit.
    fn nvmlVgpuTypeGetFrameRateLimit(id: c::nvmlVgpuTypeId_t, limit: Out<'_, c_uint>) {
        put(limit, series(&kind(id)?.1).limit)
    }

    /// Tells how many fit on a GPU in equal-size mode.
    fn nvmlVgpuTypeGetMaxInstances(
        device: c::nvmlDevice_t,
        id: c::nvmlVgpuTypeId_t,
        most: Out<'_, c_uint>,
    ) {
        put(most, gpu(device)?.kind(id).ok_or(INVALID)?.max)
    }

    /// Tells how many one VM may have.
    fn nvmlVgpuTypeGetMaxInstancesPerVm(id: c::nvmlVgpuTypeId_t, most: Out<'_, c_uint>) {
        kind(id)?;
        put(most, 16)
    }

    /// Tells how many fit into one GPU instance.
    fn nvmlVgpuTypeGetMaxInstancesPerGpuInstance(asked: Option<&mut c::nvmlVgpuTypeMaxInstance_t>) {
        let asked = asked.ok_or(INVALID)?;
        is_version::<c::nvmlVgpuTypeMaxInstance_t>(asked.version, 1)?;
        let (_, kind) = kind(asked.vgpuTypeId)?;
        asked.maxInstancePerGI = c_uint::from(kind.gi_profile.is_some());
        Ok(())
    }

    /// Tells the GPU instance profile that carries it.
    fn nvmlVgpuTypeGetGpuInstanceProfileId(id: c::nvmlVgpuTypeId_t, profile: Out<'_, c_uint>) {
        put(profile, kind(id)?.1.gi_profile.unwrap_or(NO_PROFILE))
    }

    /// Tells one of its capabilities: peer access, GPUDirect, what it excludes. None here.
    fn nvmlVgpuTypeGetCapabilities(
        id: c::nvmlVgpuTypeId_t,
        capability: c::nvmlVgpuCapability_t,
        result: Out<'_, c_uint>,
    ) {
        kind(id)?;
        if capability >= c::nvmlVgpuCapability_enum_NVML_VGPU_CAP_COUNT {
            return Err(INVALID);
        }
        put(result, 0)
    }

    /// Tells the framebuffer that is kept back for itself, in bytes.
    fn nvmlVgpuTypeGetFbReservation(id: c::nvmlVgpuTypeId_t, bytes: Out<'_, c_ulonglong>) {
        put(bytes, kind(id)?.1.fb_mib * MIB / 16)
    }

    /// Tells the heap of the GPU's own processor, in bytes.
    fn nvmlVgpuTypeGetGspHeapSize(id: c::nvmlVgpuTypeId_t, bytes: Out<'_, c_ulonglong>) {
        kind(id)?;
        put(bytes, 64 * MIB)
    }

    /// Tells the size of BAR 1 in bytes.
    fn nvmlVgpuTypeGetBAR1Info(id: c::nvmlVgpuTypeId_t, info: Option<&mut c::nvmlVgpuTypeBar1Info_t>) {
        let info = info.ok_or(INVALID)?;
        is_version::<c::nvmlVgpuTypeBar1Info_t>(info.version, 1)?;
        info.bar1Size = kind(id)?.1.fb_mib.next_power_of_two() * MIB;
        Ok(())
    }
}
