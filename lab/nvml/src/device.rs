//! What a GPU is: handles, names, memory, modes, capabilities, ways to other GPUs.

use std::os::raw::{c_char, c_uint};

use nvml_wrapper_sys::bindings as c;

use crate::abi::{
    INVALID, NOT_FOUND, NOT_SUPPORTED, Out, array, count, is_version, nvml, put, put_list, put_text, text,
};
use crate::placement::{Family, fits};
use crate::session::{self, gpu};
use crate::state::{self, Gpu};

const MIB: u64 = 1 << 20;

nvml! {
    /// Counts the GPUs.
    fn nvmlDeviceGetCount_v2(devices: Out<'_, c_uint>) {
        put(devices, count(session::addresses()?.len()))
    }

    /// Finds a GPU by its place in the list.
    fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: Out<'_, c::nvmlDevice_t>) {
        let known = session::addresses()?.len();
        let index = usize::try_from(index).ok().filter(|index| *index < known).ok_or(INVALID)?;
        put(device, session::handle(index))
    }

    /// Finds a GPU by its UUID.
    fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, device: Out<'_, c::nvmlDevice_t>) {
        let uuid = text(uuid)?;
        find(device, |gpu| gpu.uuid == uuid)
    }

    /// Finds a GPU by its PCI address, with four or eight digits of segment.
    fn nvmlDeviceGetHandleByPciBusId_v2(address: *const c_char, device: Out<'_, c::nvmlDevice_t>) {
        let wanted = numbers(text(address)?).ok_or(INVALID)?;
        find(device, |gpu| numbers(&gpu.address) == Some(wanted))
    }

    /// Tells a GPU's place in the list.
    fn nvmlDeviceGetIndex(device: c::nvmlDevice_t, index: Out<'_, c_uint>) {
        put(index, count(session::index(device)?))
    }

    /// Tells the board's name.
    fn nvmlDeviceGetName(device: c::nvmlDevice_t, name: *mut c_char, length: c_uint) {
        put_text(name, length, &gpu(device)?.board)
    }

    /// Tells the UUID.
    fn nvmlDeviceGetUUID(device: c::nvmlDevice_t, uuid: *mut c_char, length: c_uint) {
        put_text(uuid, length, &gpu(device)?.uuid)
    }

    /// Tells where it is.
    fn nvmlDeviceGetPciInfo_v3(device: c::nvmlDevice_t, pci: Out<'_, c::nvmlPciInfo_t>) {
        let gpu = gpu(device)?;
        let (domain, bus, slot, function) = numbers(&gpu.address).ok_or(INVALID)?;
        put(pci, c::nvmlPciInfo_t {
            busIdLegacy: array(&format!("{domain:04X}:{bus:02X}:{slot:02X}.{function:x}")),
            domain,
            bus,
            device: slot,
            pciDeviceId: 0x10de,
            pciSubSystemId: 0x10de,
            busId: array(&format!("{domain:08X}:{bus:02X}:{slot:02X}.{function:x}")),
        })
    }

    /// Tells the framebuffer.
    fn nvmlDeviceGetMemoryInfo(device: c::nvmlDevice_t, memory: Out<'_, c::nvmlMemory_t>) {
        let (total, used) = memory_of(&gpu(device)?);
        put(memory, c::nvmlMemory_t { total, free: total.saturating_sub(used), used })
    }

    /// Tells the framebuffer.
    fn nvmlDeviceGetMemoryInfo_v2(device: c::nvmlDevice_t, memory: Option<&mut c::nvmlMemory_v2_t>) {
        let memory = memory.ok_or(INVALID)?;
        is_version::<c::nvmlMemory_v2_t>(memory.version, 2)?;
        let (total, used) = memory_of(&gpu(device)?);
        (memory.total, memory.reserved) = (total, 0);
        (memory.used, memory.free) = (used, total.saturating_sub(used));
        Ok(())
    }

    /// Tells that the GPU is a host of vGPUs.
    fn nvmlDeviceGetVirtualizationMode(
        device: c::nvmlDevice_t,
        mode: Out<'_, c::nvmlGpuVirtualizationMode_t>,
    ) {
        gpu(device)?;
        put(mode, c::nvmlGpuVirtualizationMode_NVML_GPU_VIRTUALIZATION_MODE_HOST_VGPU)
    }

    /// Tells whether VFs carry the vGPUs.
    fn nvmlDeviceGetHostVgpuMode(device: c::nvmlDevice_t, mode: Out<'_, c::nvmlHostVgpuMode_t>) {
        put(mode, c_uint::from(gpu(device)?.has_vfs()))
    }

    /// Tells one of a GPU's capabilities.
    fn nvmlDeviceGetVgpuCapabilities(
        device: c::nvmlDevice_t,
        capability: c::nvmlDeviceVgpuCapability_t,
        result: Out<'_, c_uint>,
    ) {
        put(result, capability_of(&gpu(device)?, capability).ok_or(INVALID)?)
    }

    /// Lists all kinds of vGPU; does not shrink as the GPU fills.
    fn nvmlDeviceGetSupportedVgpus(
        device: c::nvmlDevice_t,
        room: Option<&mut c_uint>,
        kinds: *mut c::nvmlVgpuTypeId_t,
    ) {
        let ids: Vec<u32> = gpu(device)?.kinds.iter().map(|kind| kind.id).collect();
        put_list(kinds, room, &ids)
    }

    /// Lists the kinds of which one more can be made now.
    fn nvmlDeviceGetCreatableVgpus(
        device: c::nvmlDevice_t,
        room: Option<&mut c_uint>,
        kinds: *mut c::nvmlVgpuTypeId_t,
    ) {
        let gpu = gpu(device)?;
        let ids: Vec<u32> = gpu.kinds.iter().filter(|kind| fits(&gpu, kind)).map(|kind| kind.id).collect();
        put_list(kinds, room, &ids)
    }

    /// Lists the vGPUs that run; those that were created and not started are absent.
    fn nvmlDeviceGetActiveVgpus(
        device: c::nvmlDevice_t,
        room: Option<&mut c_uint>,
        instances: *mut c::nvmlVgpuInstance_t,
    ) {
        let index = session::index(device)?;
        let gpu = gpu(device)?;
        let running = gpu.vgpus.iter().filter(|vgpu| vgpu.running);
        let numbers: Vec<u32> = running.map(|vgpu| session::instance_number(index, vgpu)).collect();
        put_list(instances, room, &numbers)
    }

    /// Tells MIG mode; a change is in force at once here, so that nothing is ever pending.
    fn nvmlDeviceGetMigMode(device: c::nvmlDevice_t, current: Out<'_, c_uint>, pending: Out<'_, c_uint>) {
        let gpu = gpu(device)?;
        if !gpu.mig && gpu.kinds.iter().all(|kind| kind.gi_profile.is_none()) {
            return Err(NOT_SUPPORTED);
        }
        put(current, c_uint::from(gpu.mig))?;
        put(pending, c_uint::from(gpu.mig))
    }

    /// Tells whether ECC is on; a change is in force at once here.
    fn nvmlDeviceGetEccMode(
        device: c::nvmlDevice_t,
        current: Out<'_, c::nvmlEnableState_t>,
        pending: Out<'_, c::nvmlEnableState_t>,
    ) {
        let ecc = gpu(device)?.ecc.ok_or(NOT_SUPPORTED)?;
        put(current, c_uint::from(ecc))?;
        put(pending, c_uint::from(ecc))
    }

    /// Tells how far two GPUs are apart: below one bus they share a switch, otherwise a host bridge.
    fn nvmlDeviceGetTopologyCommonAncestor(
        one: c::nvmlDevice_t,
        other: c::nvmlDevice_t,
        level: Out<'_, c::nvmlGpuTopologyLevel_t>,
    ) {
        let bus = |device| -> Result<_, _> { numbers(&gpu(device)?.address).ok_or(INVALID) };
        let (one, other) = (bus(one)?, bus(other)?);
        put(level, match () {
            () if (one.0, one.1, one.2) == (other.0, other.1, other.2) => 0,
            () if (one.0, one.1) == (other.0, other.1) => 10,
            () if one.0 == other.0 => 30,
            () => 50,
        })
    }

    /// Tells that vGPU hosts have no peer access: over PCIe never, and there is no NVLink here.
    fn nvmlDeviceGetP2PStatus(
        one: c::nvmlDevice_t,
        other: c::nvmlDevice_t,
        index: c::nvmlGpuP2PCapsIndex_t,
        status: Out<'_, c::nvmlGpuP2PStatus_t>,
    ) {
        gpu(one)?;
        gpu(other)?;
        if index >= c::nvmlGpuP2PCapsIndex_enum_NVML_P2P_CAPS_INDEX_UNKNOWN {
            return Err(INVALID);
        }
        put(status, c::nvmlGpuP2PStatus_enum_NVML_P2P_STATUS_NOT_SUPPORTED)
    }
}

fn find(device: Out<'_, c::nvmlDevice_t>, wanted: impl Fn(&Gpu) -> bool) -> crate::abi::Answer {
    let addresses = session::addresses()?;
    let found = addresses.iter().position(|address| state::load(address).is_some_and(|gpu| wanted(&gpu)));
    put(device, session::handle(found.ok_or(NOT_FOUND)?))
}

/// Returns segment, bus, device and function.
fn numbers(address: &str) -> Option<(u32, u32, u32, u32)> {
    let hex = |text: &str| u32::from_str_radix(text, 16).ok();
    let (rest, function) = address.split_once('.')?;
    let mut parts = rest.rsplit(':');
    let (slot, bus) = (hex(parts.next()?)?, hex(parts.next()?)?);
    Some((parts.next().map_or(Some(0), hex)?, bus, slot, hex(function)?))
}

/// Returns all and used bytes: a running vGPU has its whole framebuffer.
fn memory_of(gpu: &Gpu) -> (u64, u64) {
    let running = gpu.vgpus.iter().filter(|vgpu| vgpu.running).filter_map(|vgpu| gpu.kind(vgpu.kind));
    (gpu.framebuffer_mib * MIB, running.map(|kind| kind.fb_mib * MIB).sum())
}

/// The numbers are those of `nvmlDeviceVgpuCapability_t`.
fn capability_of(gpu: &Gpu, capability: c_uint) -> Option<c_uint> {
    Some(match capability {
        // Fractional types in a VM with several; types of one size together.
        0 | 1 => c_uint::from(gpu.has_vfs()),
        // Types of several sizes together.
        2 => c_uint::from(gpu.can_mix()),
        // Bandwidth of the device buffer in MB/s.
        3 | 4 => 12_000,
        5..=8 | 10 | 11 => 0,
        9 => c_uint::from(Family::of(gpu) != Family::Ampere),
        _ => return None,
    })
}
