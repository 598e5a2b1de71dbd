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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AllocationId;
    use crate::model::fixture::{name_of, pci, pci_id, type_id, uuid};

    fn mdev(number: u32) -> Choice {
        Choice {
            allocation: AllocationId::from_bits(number),
            device: Device::Mdev(uuid(number)),
            gpu: "virtual:a".parse().expect("valid"),
            parent: name_of("a"),
            mdev_type: Some(type_id("t")),
            vf_id: None,
            bind: false,
        }
    }

    fn vf(address: &str, bind: bool) -> Choice {
        let vf_id = Some(pci_id("8086:10ca"));
        Choice { device: Device::Vf(pci(address)), mdev_type: None, vf_id, bind, ..mdev(0) }
    }

    #[test]
    fn mdevs_are_made_and_unbound_vfs_bound() {
        let steps = prepare(&[mdev(1), vf("0000:01:10.0", false), vf("0000:01:10.2", true)]);
        let create = Step::CreateMdev { parent: name_of("a"), mdev_type: type_id("t"), uuid: uuid(1) };
        assert_eq!(steps, [create, Step::BindVf { vf: pci("0000:01:10.2") }]);
        assert_eq!(lint(&steps), Ok(()));
    }

    #[test]
    fn undoing_takes_back_what_the_step_did_and_no_more() {
        let steps = prepare(&[mdev(1), vf("0000:01:10.2", true)]);
        let undone: Vec<_> = steps.iter().map(undo).collect();
        assert_eq!(undone, [Some(Step::RemoveMdev { uuid: uuid(1) }), None]);
        let set = Step::SetVfs { pf: pci("0000:01:00.0"), count: 4, before: 2 };
        assert_eq!(undo(&set).as_ref().and_then(undo), Some(set));
        assert_eq!(undo(&Step::RemoveMdev { uuid: uuid(1) }), None);
    }

    #[test]
    fn nothing_is_touched_twice() {
        let twice = prepare(&[mdev(1), mdev(2), mdev(1)]);
        assert_eq!(lint(&twice), Err(PlanError::MdevTwice(uuid(1))));
        let there_and_back = [prepare(&[mdev(1)]), vec![Step::RemoveMdev { uuid: uuid(1) }]].concat();
        assert_eq!(lint(&there_and_back), Err(PlanError::MdevTwice(uuid(1))));
        let bound = prepare(&[vf("0000:01:10.2", true), vf("0000:01:10.2", true)]);
        assert_eq!(lint(&bound), Err(PlanError::VfTwice(pci("0000:01:10.2"))));
        let pf = pci("0000:01:00.0");
        let set = Step::SetVfs { pf, count: 4, before: 2 };
        assert_eq!(lint(&[set.clone(), set]), Err(PlanError::PfTwice(pf)));
    }
}
