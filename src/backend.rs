//! The ways of making a slice, one module each: `scan` reads, [`execute`] performs one [`Step`].
//!
//! Every kernel change of the service is one of these steps. A step blocks as long as the kernel
//! does; those that can sleep for ever run in a [`helper`] process. Choosing is not done here.

mod error;
pub mod helper;
pub mod mdev;
pub mod nvidia_vfio;
pub mod passthrough;
pub mod plugin;
pub mod sriov;
pub mod sriov_manage;
pub mod xe;

pub use error::{Act, Cause, StepError};

use crate::model::Step;
use crate::sysfs::Sysfs;

/// Performs one step and reads back that it is so. Taking away what is gone, and bringing about what
/// is so already, succeed without a write; a UUID that exists is [`StepError::Exists`].
///
/// Blocks as long as the kernel does: see [`may_block`].
///
/// # Errors
/// See [`StepError`]; after an error the host may be as before or between, and must be read again.
pub fn execute(sysfs: &Sysfs, step: &Step) -> Result<(), StepError> {
    match step {
        Step::CreateMdev { parent, mdev_type, uuid } => mdev::create(sysfs, parent, mdev_type, *uuid),
        Step::RemoveMdev { uuid } => mdev::remove(sysfs, *uuid),
        Step::SetVfs { pf, count, script, .. } => sriov::set_vfs(sysfs, *pf, *count, script.as_deref()),
        Step::SetAutoprobe { pf, on } => sriov::set_autoprobe(sysfs, *pf, *on),
        Step::SetVgpuType { vf, vgpu_type, .. } => nvidia_vfio::set_type(sysfs, *vf, vgpu_type.as_ref()),
        Step::BindVf { vf } => sriov::bind_vf(sysfs, *vf),
        Step::SetQuantum { vf, quantum, .. } => xe::set_quantum(sysfs, *vf, *quantum),
        Step::SetParameters { device, parameters } => plugin::set(sysfs, *device, parameters.as_ref()),
        Step::TakeGpu { gpu, functions } => passthrough::take(sysfs, *gpu, functions),
        Step::ReturnGpu { gpu, functions } => passthrough::give_back(sysfs, *gpu, functions),
    }
}

/// Returns whether the kernel can sleep in this step until a guest lets go of a device; such a step
/// belongs into a [`helper`].
#[must_use]
pub const fn may_block(step: &Step) -> bool {
    match step {
        Step::CreateMdev { .. }
        | Step::SetAutoprobe { .. }
        | Step::SetQuantum { .. }
        | Step::SetParameters { .. } => false,
        // Taking a vGPU from a guest is refused, not waited for; but no source promises that.
        Step::SetVgpuType { vgpu_type, .. } => vgpu_type.is_none(),
        Step::RemoveMdev { .. }
        | Step::SetVfs { .. }
        | Step::BindVf { .. }
        | Step::TakeGpu { .. }
        | Step::ReturnGpu { .. } => true,
    }
}
