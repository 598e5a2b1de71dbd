//! What a running vGPU is.

use std::os::raw::{c_char, c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings as c;

use crate::abi::{INVALID, NOT_SUPPORTED, Out, is_version, nvml, put, put_text, put_text_sized};
use crate::session::instance;
use crate::system::DRIVER;

/// What stands for no placement id, and no GPU instance.
const NO_PLACEMENT: c_uint = 0xFFFF;
const NO_GPU_INSTANCE: c_uint = 0xFFFF_FFFF;

nvml! {
    /// Tells the VM: on KVM by its UUID.
    fn nvmlVgpuInstanceGetVmID(
        number: c::nvmlVgpuInstance_t,
        id: *mut c_char,
        size: c_uint,
        kind: Out<'_, c::nvmlVgpuVmIdType_t>,
    ) {
        let (_, vgpu) = instance(number)?;
        put_text(id, size, &vgpu.vm().unwrap_or_default())?;
        put(kind, c::nvmlVgpuVmIdType_NVML_VGPU_VM_ID_UUID)
    }

    /// Tells the vGPU's own UUID.
    fn nvmlVgpuInstanceGetUUID(number: c::nvmlVgpuInstance_t, uuid: *mut c_char, size: c_uint) {
        instance(number)?;
        put_text(uuid, size, &format!("{number:08x}-0000-4000-8000-000000000000"))
    }

    /// Tells the mdev that carries it, where one does.
    fn nvmlVgpuInstanceGetMdevUUID(number: c::nvmlVgpuInstance_t, uuid: *mut c_char, size: c_uint) {
        let (_, vgpu) = instance(number)?;
        if vgpu.vf.len() == 36 { put_text(uuid, size, &vgpu.vf) } else { Err(NOT_SUPPORTED) }
    }

    /// Tells its kind.
    fn nvmlVgpuInstanceGetType(number: c::nvmlVgpuInstance_t, kind: Out<'_, c::nvmlVgpuTypeId_t>) {
        put(kind, instance(number)?.1.kind)
    }

    /// Tells the framebuffer that the guest uses, in bytes.
    fn nvmlVgpuInstanceGetFbUsage(number: c::nvmlVgpuInstance_t, bytes: Out<'_, c_ulonglong>) {
        put(bytes, instance(number)?.1.fb_used_mib << 20)
    }

    /// Tells where it sits.
    fn nvmlVgpuInstanceGetPlacementId(
        number: c::nvmlVgpuInstance_t,
        placement: Option<&mut c::nvmlVgpuPlacementId_t>,
    ) {
        let placement = placement.ok_or(INVALID)?;
        is_version::<c::nvmlVgpuPlacementId_t>(placement.version, 1)?;
        placement.placementId = instance(number)?.1.placement.unwrap_or(NO_PLACEMENT);
        Ok(())
    }

    /// Tells that the guest has no licence.
    fn nvmlVgpuInstanceGetLicenseStatus(number: c::nvmlVgpuInstance_t, licensed: Out<'_, c_uint>) {
        instance(number)?;
        put(licensed, 0)
    }

    /// Tells that the guest has no licence.
    fn nvmlVgpuInstanceGetLicenseInfo_v2(
        number: c::nvmlVgpuInstance_t,
        info: Out<'_, c::nvmlVgpuLicenseInfo_t>,
    ) {
        instance(number)?;
        let expiry = c::nvmlVgpuLicenseExpiry_t {
            year: 0,
            month: 0,
            day: 0,
            hour: 0,
            min: 0,
            sec: 0,
            status: 0,
        };
        put(info, c::nvmlVgpuLicenseInfo_t { isLicensed: 0, licenseExpiry: expiry, currentState: 1 })
    }

    /// Tells the guest driver's version.
    fn nvmlVgpuInstanceGetVmDriverVersion(
        number: c::nvmlVgpuInstance_t,
        version: *mut c_char,
        size: c_uint,
    ) {
        instance(number)?;
        put_text(version, size, DRIVER)
    }

    /// Tells the PCI address inside the guest.
    fn nvmlVgpuInstanceGetGpuPciId(
        number: c::nvmlVgpuInstance_t,
        address: *mut c_char,
        size: Option<&mut c_uint>,
    ) {
        instance(number)?;
        put_text_sized(address, size, "00000000:00:00.0")
    }

    /// Tells the GPU instance that carries it: none, as long as the GPU is not in MIG mode.
    fn nvmlVgpuInstanceGetGpuInstanceId(number: c::nvmlVgpuInstance_t, id: Out<'_, c_uint>) {
        put(id, instance(number)?.1.gi.unwrap_or(NO_GPU_INSTANCE))
    }
}
