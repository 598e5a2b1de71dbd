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
        (Device::Vf(vf), Some(vgpu_type)) => {
            Some(Step::SetVgpuType { vf, vgpu_type: Some(vgpu_type.clone()), before: None })
        }
        (Device::Vf(gpu), None) if choice.bind && !choice.functions.is_empty() => {
            Some(Step::TakeGpu { gpu, functions: choice.functions.clone() })
        }
        (Device::Vf(vf), None) if choice.bind => Some(Step::BindVf { vf }),
        (Device::Mdev(_) | Device::Vf(_), None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AllocationId;
    use crate::model::fixture::{name_of, pci, pci_id, type_id, uuid};

    fn mdev(number: u32) -> Choice {
        Choice {
            functions: Vec::new(),
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
        let choices = [mdev(1), vf("0000:01:10.0", false), vf("0000:01:10.2", true)];
        let steps: Vec<Step> = choices.iter().filter_map(step).collect();
        let create = Step::CreateMdev { parent: name_of("a"), mdev_type: type_id("t"), uuid: uuid(1) };
        assert_eq!(steps, [create, Step::BindVf { vf: pci("0000:01:10.2") }]);
    }
}
