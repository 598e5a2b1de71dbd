//! From choices to kernel changes, each with its reverse, and a check of the list.

use std::collections::BTreeSet;

use crate::model::{Device, MdevUuid, PciAddress, Step};
use crate::placement::Choice;

/// A list of steps that must not be done. Always a defect of ours, never of the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// One UUID is made or removed twice, or both.
    #[error("the plan touches mdev {0} more than once")]
    MdevTwice(MdevUuid),
    /// One VF is bound twice.
    #[error("the plan binds VF {0} more than once")]
    VfTwice(PciAddress),
    /// One PF is changed twice.
    #[error("the plan changes the VFs of {0} more than once")]
    PfTwice(PciAddress),
}

/// Returns the kernel changes that make the slices of `choices`, in their order. A VF that is on its VFIO
/// driver already needs none.
#[must_use]
pub fn prepare(choices: &[Choice]) -> Vec<Step> {
    let step = |choice: &Choice| match (choice.device, &choice.mdev_type) {
        (Device::Mdev(uuid), Some(mdev_type)) => {
            Some(Step::CreateMdev { parent: choice.parent.clone(), mdev_type: mdev_type.clone(), uuid })
        }
        (Device::Vf(vf), _) if choice.bind => Some(Step::BindVf { vf }),
        (Device::Mdev(_), None) | (Device::Vf(_), _) => None,
    };
    choices.iter().filter_map(step).collect()
}

/// Returns the change that takes a step back; `None` when nothing is to be done: a VF of a managed PF
/// stays on its VFIO driver, and what was removed is not made again.
#[must_use]
pub fn undo(step: &Step) -> Option<Step> {
    match step {
        Step::CreateMdev { uuid, .. } => Some(Step::RemoveMdev { uuid: *uuid }),
        Step::SetVfs { pf, count, before } => Some(Step::SetVfs { pf: *pf, count: *before, before: *count }),
        Step::RemoveMdev { .. } | Step::BindVf { .. } => None,
    }
}

/// Checks that no two steps of a plan are about the same thing.
///
/// # Errors
/// With the first thing that is touched twice.
pub fn lint(steps: &[Step]) -> Result<(), PlanError> {
    let (mut mdevs, mut vfs, mut pfs) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for step in steps {
        match step {
            Step::CreateMdev { uuid, .. } | Step::RemoveMdev { uuid } => {
                if !mdevs.insert(*uuid) {
                    return Err(PlanError::MdevTwice(*uuid));
                }
            }
            Step::BindVf { vf } => {
                if !vfs.insert(*vf) {
                    return Err(PlanError::VfTwice(*vf));
                }
            }
            Step::SetVfs { pf, .. } => {
                if !pfs.insert(*pf) {
                    return Err(PlanError::PfTwice(*pf));
                }
            }
        }
    }
    Ok(())
}
