//! From choices to kernel changes.

use crate::model::{Device, Step};
use crate::placement::Choice;

/// Returns the kernel change that makes the slice of a choice; `None` for a VF that is on its VFIO driver already.
#[must_use]
pub fn step(choice: &Choice) -> Option<Step> {
    match (choice.device, &choice.mdev_type) {
        (Device::Mdev(uuid), Some(mdev_type)) => {
            Some(Step::CreateMdev { parent: choice.parent.clone(), mdev_type: mdev_type.clone(), uuid })
        }
        (Device::Vf(vf), _) if choice.bind => Some(Step::BindVf { vf }),
        (Device::Mdev(_), None) | (Device::Vf(_), _) => None,
    }
}
