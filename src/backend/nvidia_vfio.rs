//! vGPUs of NVIDIA's driver without mediated devices: the number of a type, written into a VF's own file.
//!
//! The VF stays on driver `nvidia`: taken from it, it is no vGPU again before all VFs are made anew. Interface:
//! NVIDIA's vGPU guides, its kubevirt-gpu-device-plugin and vgpu-device-manager, Proxmox' pve-common.
//!
//! ```text
//!   VF without type ──write N──> vGPU of type N ──write 0──> VF without type
//!                    EPERM: it has a type          EPERM: it has none
//!                    EIO: the driver refused       EBUSY, EPERM or EIO: a guest has it
//! ```

mod text;

use nix::errno::Errno;

use crate::backend::error::{Act, StepError};
use crate::backend::mdev::{hold_free, iommu_group};
use crate::backend::plugin;
use crate::model::{MdevTypeId, PciAddress, VgpuSlot, VgpuType};
use crate::sysfs::{Sysfs, SysfsError};
use crate::vfio::Holders;

pub use text::named_type;

const PCI_DEVICES: &str = "sys/bus/pci/devices";

/// The driver that makes vGPUs of VFs.
const DRIVER: &str = "nvidia";

/// Reads what a VF is and can be, with the names of what it can be; `None` for a VF whose driver has no types.
#[must_use]
pub fn scan_vf(sysfs: &Sysfs, vf: PciAddress) -> Option<(VgpuSlot, Vec<VgpuType>)> {
    let dir = format!("{PCI_DEVICES}/{vf}/nvidia");
    let list = sysfs.read_optional(&format!("{dir}/creatable_vgpu_types")).ok().flatten()?;
    let types = text::parse_list(&list);
    let creatable = types.iter().map(|one| one.id.clone()).collect();
    let current = read_current(sysfs, vf).ok().flatten();
    // Both answer ENXIO without a vGPU, and "Not Applicable" where there is no such thing.
    let number = |name: &str| sysfs.read(&format!("{dir}/{name}")).ok()?.trim().parse().ok();
    let (placement, gpu_instance, parameters) = match current {
        Some(_) => {
            let dir = format!("{PCI_DEVICES}/{vf}");
            (number("placement_id"), number("gpu_instance_id"), plugin::read(sysfs, &dir))
        }
        None => (None, None, None),
    };
    Some((VgpuSlot { current, creatable, placement, gpu_instance, parameters }, types))
}

/// Reads the type that a VF has.
fn read_current(sysfs: &Sysfs, vf: PciAddress) -> Result<Option<MdevTypeId>, SysfsError> {
    let text = sysfs.read(&format!("{PCI_DEVICES}/{vf}/nvidia/current_vgpu_type"))?;
    let number: u32 = text.trim().parse().unwrap_or(0);
    Ok(if number == 0 { None } else { MdevTypeId::from_vgpu_number(number) })
}

/// Makes the VF a vGPU of this type, or takes its vGPU away, and reads back that it is so. What is so already
/// is success without a write; a vGPU of another type is not replaced.
///
/// # Errors
/// [`StepError::HasType`], [`StepError::NoRoom`], [`StepError::OtherSize`], [`StepError::Held`],
/// [`StepError::NoDriver`], [`StepError::Gone`], [`StepError::NotSo`], or [`StepError::Kernel`].
pub fn set_type(sysfs: &Sysfs, vf: PciAddress, wanted: Option<&MdevTypeId>) -> Result<(), StepError> {
    let act = Act::SetVgpuType { vf, vgpu_type: wanted.cloned() };
    let number = match wanted {
        None => 0,
        Some(id) => id.vgpu_number().ok_or_else(|| StepError::NoDriver {
            act: act.clone(),
            reason: format!("{id} is no type of NVIDIA's driver"),
        })?,
    };
    check_driver(sysfs, vf, &act)?;
    let kernel = |error: SysfsError| StepError::Kernel { act: act.clone(), source: error.into() };
    match (read_current(sysfs, vf).map_err(kernel)?, wanted) {
        (found, wanted) if found.as_ref() == wanted => return Ok(()),
        (Some(found), Some(_)) => return Err(StepError::HasType { vf, found }),
        (_, Some(wanted)) => create(sysfs, vf, wanted, number, &act)?,
        (_, None) => remove(sysfs, vf, &act)?,
    }
    match read_current(sysfs, vf).map_err(kernel)? {
        found if found.as_ref() == wanted => Ok(()),
        Some(found) => Err(StepError::NotSo { act, found: format!("type {found}") }),
        None => Err(StepError::NotSo { act, found: "no type".to_owned() }),
    }
}

/// Refuses a VF that is gone, or has another driver.
fn check_driver(sysfs: &Sysfs, vf: PciAddress, act: &Act) -> Result<(), StepError> {
    let act = || act.clone();
    let dir = format!("{PCI_DEVICES}/{vf}");
    if !sysfs.exists(&dir) {
        return Err(StepError::Gone { act: act(), what: format!("VF {vf}") });
    }
    let reason = match sysfs.link_name(&format!("{dir}/driver")) {
        None => format!("VF {vf} has no driver"),
        Some(driver) if driver != DRIVER => format!("driver {driver} has VF {vf}, not {DRIVER}"),
        Some(_) if sysfs.exists(&format!("{dir}/nvidia/current_vgpu_type")) => return Ok(()),
        Some(_) => format!("driver {DRIVER} has not registered VF {vf} for vGPUs"),
    };
    Err(StepError::NoDriver { act: act(), reason })
}

fn write_number(sysfs: &Sysfs, vf: PciAddress, number: u32) -> Result<(), SysfsError> {
    sysfs.write(&format!("{PCI_DEVICES}/{vf}/nvidia/current_vgpu_type"), &number.to_string())
}

fn create(
    sysfs: &Sysfs,
    vf: PciAddress,
    wanted: &MdevTypeId,
    number: u32,
    act: &Act,
) -> Result<(), StepError> {
    let Err(error) = write_number(sysfs, vf, number) else { return Ok(()) };
    // The state around tells more than the number: the driver has few numbers for many reasons.
    match read_current(sysfs, vf) {
        Ok(Some(found)) => return Err(StepError::HasType { vf, found }),
        Ok(None) => {}
        Err(_) => check_driver(sysfs, vf, act)?,
    }
    let holders = Holders::scan(sysfs);
    let dir = format!("{PCI_DEVICES}/{vf}");
    let held = holders.of_device(sysfs, &dir, iommu_group(sysfs, &dir));
    if !held.is_empty() {
        return Err(StepError::Held { device: format!("VF {vf}"), holders: held });
    }
    let offered = scan_vf(sysfs, vf).map(|(_, types)| types).unwrap_or_default();
    match error.errno() {
        Some(Errno::EIO | Errno::ENOSPC | Errno::EPERM) if offered.iter().all(|one| one.id != *wanted) => {
            Err(no_room(sysfs, vf, wanted, &offered, error))
        }
        Some(Errno::ENODEV) => Err(StepError::NoDriver {
            act: act.clone(),
            reason: format!("driver {DRIVER} is letting VF {vf} go"),
        }),
        _ => Err(StepError::Kernel { act: act.clone(), source: error.into() }),
    }
}

/// The type is not offered now: the GPU is full, or the driver makes only what it makes already.
fn no_room(
    sysfs: &Sysfs,
    vf: PciAddress,
    wanted: &MdevTypeId,
    offered: &[VgpuType],
    error: SysfsError,
) -> StepError {
    let source = error.into();
    match offered.first() {
        Some(first) => {
            let running = format!("it makes only types like {} ({})", first.id, first.name);
            StepError::OtherSize { vf, vgpu_type: wanted.clone(), running, source }
        }
        None => {
            let pf = sysfs.link_name(&format!("{PCI_DEVICES}/{vf}/physfn"));
            let parent = pf.and_then(|pf| pf.parse().ok()).or_else(|| vf.to_string().parse().ok());
            match parent {
                Some(parent) => StepError::NoRoom { parent, mdev_type: wanted.clone(), source },
                None => StepError::Kernel {
                    act: Act::SetVgpuType { vf, vgpu_type: Some(wanted.clone()) },
                    source,
                },
            }
        }
    }
}

/// The group's node is held open meanwhile, so that no guest can take the VF between the question and the write.
fn remove(sysfs: &Sysfs, vf: PciAddress, act: &Act) -> Result<(), StepError> {
    let dir = format!("{PCI_DEVICES}/{vf}");
    let guard = hold_free(sysfs, &dir, &format!("VF {vf}"), act)?;
    let written = write_number(sysfs, vf, 0);
    drop(guard);
    let Err(error) = written else { return Ok(()) };
    // Somebody else took it away: EPERM says that there is none.
    if matches!(read_current(sysfs, vf), Ok(None)) {
        return Ok(());
    }
    if error.errno() == Some(Errno::EBUSY) {
        return Err(StepError::Held { device: format!("VF {vf}"), holders: Vec::new() });
    }
    Err(StepError::Kernel { act: act.clone(), source: error.into() })
}
