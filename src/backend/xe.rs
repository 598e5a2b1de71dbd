//! What Intel's xe driver says of its VFs in `sriov_admin/` of the PF: their shares of the memory, and their turns on
//! the engines, which can be set.
//!
//! Without quotas written by hand the driver divides the memory when VFs are made, and so the road is that of
//! [`super::sriov`]: a number of VFs, each bound to its VFIO driver. One quota by hand turns all of that off, contexts
//! and doorbells included, and those have no attribute here: so no quota is ever written. Interface: the kernel's
//! Documentation/ABI/testing/sysfs-driver-intel-xe-sriov and drivers/gpu/drm/xe/xe_sriov_pf_provision.c.

use nix::errno::Errno;

use crate::backend::error::{Act, StepError};
use crate::model::{Framebuffer, PciAddress, Quantum};
use crate::sysfs::{Sysfs, SysfsError};

/// The directory below the PF that tells the road.
pub const ADMIN: &str = "sriov_admin";

const EXEC: &str = "exec_quantum_ms";
const PREEMPT: &str = "preempt_timeout_us";

/// Returns the directory of VF number `index` of the PF in `dir`. The driver counts its VFs from 1.
fn profile_of(dir: &str, index: u32) -> Option<String> {
    let vf = index.checked_add(1)?;
    Some(format!("{dir}/{ADMIN}/vf{vf}/profile"))
}

/// Reads the share of memory of VF number `index` of the PF in `dir`. `None` without the attribute (an
/// integrated GPU has no memory of its own), while nothing is provisioned, and where the driver finds that tiles
/// differ (EUCLEAN).
pub(super) fn vram_of(sysfs: &Sysfs, dir: &str, index: u32) -> Option<Framebuffer> {
    let profile = profile_of(dir, index)?;
    let text = sysfs.read_optional(&format!("{profile}/vram_quota")).ok()??;
    let mib = text.trim().parse::<u64>().ok()? >> 20;
    u32::try_from(mib).ok().filter(|mib| *mib > 0).map(Framebuffer::from_mib)
}

/// Returns the numbers, from 1, of the VFs that have a quota while none is enabled: somebody wrote it by hand.
pub(super) fn by_hand(sysfs: &Sysfs, dir: &str, total: u32) -> Vec<u32> {
    let names = sysfs.list_optional(&format!("{dir}/{ADMIN}")).unwrap_or_default();
    let vfs = names.iter().filter_map(|name| name.strip_prefix("vf")?.parse::<u32>().ok());
    let given = |vf: &u32| (1..=total).contains(vf) && vram_of(sysfs, dir, vf - 1).is_some();
    let mut by_hand: Vec<u32> = vfs.filter(given).collect();
    by_hand.sort_unstable();
    by_hand
}

/// Returns the first of `count` VFs, from 1, that would have no memory because others were given theirs by hand.
#[must_use]
pub fn undivided(by_hand: &[u32], count: u32) -> Option<u32> {
    if by_hand.is_empty() { None } else { (1..=count).find(|vf| !by_hand.contains(vf)) }
}

/// Reads the turns of VF number `index` of the PF in `dir`; `None` without the attributes, and where they cannot be
/// read (EUCLEAN: tiles differ).
pub(super) fn quantum_of(sysfs: &Sysfs, dir: &str, index: u32) -> Option<Quantum> {
    let profile = profile_of(dir, index)?;
    read(sysfs, &profile).ok().flatten()
}

fn read(sysfs: &Sysfs, profile: &str) -> Result<Option<Quantum>, SysfsError> {
    let number = |name: &str| {
        let text = sysfs.read_optional(&format!("{profile}/{name}"))?;
        Ok(text.and_then(|text| text.trim().parse().ok()))
    };
    let (exec_ms, preempt_us) = (number(EXEC)?, number(PREEMPT)?);
    Ok(exec_ms.zip(preempt_us).map(|(exec_ms, preempt_us)| Quantum { exec_ms, preempt_us }))
}

/// Sets the turns of a VF and reads back that it is so, as near as the firmware rounds. What is so already is success
/// without a write.
///
/// # Errors
/// [`StepError::Gone`], [`StepError::NoDriver`] without the attributes, [`StepError::NotSo`], [`StepError::Kernel`].
pub fn set_quantum(sysfs: &Sysfs, vf: PciAddress, quantum: Quantum) -> Result<(), StepError> {
    let act = Act::SetQuantum { vf, quantum };
    let kernel = |error: SysfsError| StepError::Kernel { act: act.clone(), source: error.into() };
    let profile = find(sysfs, vf, &act)?;
    let no_turns = || StepError::NoDriver {
        act: act.clone(),
        reason: format!("its PF has no {EXEC} and {PREEMPT} of single VFs"),
    };
    // Where tiles differ the driver says no number; writing makes them alike.
    match read(sysfs, &profile) {
        Ok(None) => return Err(no_turns()),
        Ok(Some(found)) if found == quantum => return Ok(()),
        Ok(Some(_)) => {}
        Err(error) if error.errno() == Some(Errno::EUCLEAN) => {}
        Err(error) => return Err(kernel(error)),
    }
    sysfs.write(&format!("{profile}/{EXEC}"), &quantum.exec_ms.to_string()).map_err(kernel)?;
    sysfs.write(&format!("{profile}/{PREEMPT}"), &quantum.preempt_us.to_string()).map_err(kernel)?;
    match read(sysfs, &profile).map_err(kernel)? {
        Some(found) if quantum.is_as_written(found) => Ok(()),
        Some(found) => Err(StepError::NotSo { act, found: found.to_string() }),
        None => Err(no_turns()),
    }
}

/// Finds the directory of a VF below its PF, by the PF's link to it.
fn find(sysfs: &Sysfs, vf: PciAddress, act: &Act) -> Result<String, StepError> {
    let gone = || StepError::Gone { act: act.clone(), what: format!("VF {vf}") };
    let dir = sysfs.link_path(&format!("sys/bus/pci/devices/{vf}/physfn")).ok_or_else(gone)?;
    let name = vf.to_string();
    let names = sysfs.list_optional(&dir).unwrap_or_default();
    let mut indexes = names.iter().filter_map(|name| name.strip_prefix("virtfn")?.parse::<u32>().ok());
    let own =
        |index: &u32| sysfs.link_name(&format!("{dir}/virtfn{index}")).as_deref() == Some(name.as_str());
    indexes.find(own).and_then(|index| profile_of(&dir, index)).ok_or_else(gone)
}
