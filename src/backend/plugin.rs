//! Plugin parameters of an NVIDIA vGPU, mediated device or VF: attribute `nvidia/vgpu_params`.
//!
//! Interface: NVIDIA's vGPU guides ("Setting vGPU plugin parameters"). They are taken while nobody uses the vGPU, a
//! single space takes them away, and they go with the vGPU. What is read is what was written, not what is in force.

use nix::errno::Errno;

use crate::backend::error::{Act, StepError};
use crate::backend::mdev::iommu_group;
use crate::model::{Device, PluginParameters};
use crate::sysfs::{Sysfs, SysfsError};
use crate::vfio::Holders;

/// Reads the parameters of the vGPU whose directory is `dir`; `None` where there is no such attribute. Empty: it has none.
pub(super) fn read(sysfs: &Sysfs, dir: &str) -> Option<String> {
    let text = sysfs.read_optional(&attribute(dir)).ok()??;
    Some(text.trim().to_owned())
}

fn attribute(dir: &str) -> String {
    format!("{dir}/nvidia/vgpu_params")
}

/// Gives a vGPU these parameters, or takes those away that it has, and reads back that it is so. What is so already is
/// success without a write.
///
/// # Errors
/// [`StepError::Gone`], [`StepError::NoDriver`] without the attribute, [`StepError::Held`], [`StepError::NotSo`],
/// [`StepError::Kernel`].
pub fn set(sysfs: &Sysfs, device: Device, parameters: Option<&PluginParameters>) -> Result<(), StepError> {
    let act = Act::SetParameters { device, parameters: parameters.cloned() };
    let dir = match device {
        Device::Mdev(uuid) => format!("sys/bus/mdev/devices/{uuid}"),
        Device::Vf(vf) => format!("sys/bus/pci/devices/{vf}"),
    };
    if !sysfs.exists(&dir) {
        return Err(StepError::Gone { act, what: device.to_string() });
    }
    let wanted = parameters.map_or("", PluginParameters::as_str);
    match read(sysfs, &dir) {
        None => {
            return Err(StepError::NoDriver {
                act,
                reason: format!("{device} has no attribute nvidia/vgpu_params"),
            });
        }
        Some(found) if found == wanted => return Ok(()),
        Some(_) => {}
    }
    let text = if wanted.is_empty() { " " } else { wanted };
    if let Err(error) = sysfs.write(&attribute(&dir), text) {
        return Err(refused(sysfs, device, &dir, act, error));
    }
    match read(sysfs, &dir) {
        Some(found) if found == wanted => Ok(()),
        found => Err(StepError::NotSo { act, found: found.unwrap_or_else(|| "nothing".to_owned()) }),
    }
}

/// The driver's numbers say little: who has the vGPU is looked for.
fn refused(sysfs: &Sysfs, device: Device, dir: &str, act: Act, error: SysfsError) -> StepError {
    if matches!(error.errno(), Some(Errno::EPERM | Errno::EBUSY | Errno::EIO)) {
        let holders = Holders::scan(sysfs).of_device(sysfs, dir, iommu_group(sysfs, dir));
        if !holders.is_empty() {
            return StepError::Held { device: device.to_string(), holders };
        }
    }
    StepError::Kernel { act, source: error.into() }
}
