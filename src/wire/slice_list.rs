//! From a snapshot to the slices that travel.

use super::{Owner, Slice};
use crate::model::{BackendKind, Device, Gpu, HostSnapshot};

/// Lists the slices of a snapshot: every mdev, and every VF of a device whose slices are VFs.
#[must_use]
pub fn slices(snapshot: &HostSnapshot, owner: impl Fn(Device) -> Owner) -> Vec<Slice> {
    let mut slices = Vec::new();
    for gpu in &snapshot.gpus {
        for parent in &gpu.parents {
            slices.extend(parent.mdevs.iter().map(|mdev| Slice {
                device: Device::Mdev(mdev.uuid),
                gpu: gpu.id.clone(),
                parent: parent.name.clone(),
                mdev_type: Some(mdev.mdev_type.clone()),
                owner: owner(Device::Mdev(mdev.uuid)),
                holders: mdev.holders.clone(),
            }));
        }
        slices.extend(vf_slices(gpu, &owner));
        slices.extend(whole_slice(gpu, &owner));
    }
    slices
}

/// A whole GPU counts as a slice while it is somebody's, or on its VFIO driver for the next one.
fn whole_slice(gpu: &Gpu, owner: &impl Fn(Device) -> Owner) -> Option<Slice> {
    let own = gpu.whole.as_ref().map(|whole| &whole.function)?;
    let device = Device::Vf(own.address);
    let owner = owner(device);
    let ours = matches!(owner, Owner::Allocation { .. });
    (own.vfio || ours).then(|| Slice {
        device,
        gpu: gpu.id.clone(),
        parent: gpu.name.clone(),
        mdev_type: None,
        owner,
        holders: own.holders.clone(),
    })
}

fn gives_vfs(gpu: &Gpu) -> bool {
    gpu.backend.gives_bare_vfs() || gpu.backend == BackendKind::NvidiaVfio
}

fn vf_slices(gpu: &Gpu, owner: &impl Fn(Device) -> Owner) -> Vec<Slice> {
    let vfs = gpu.sriov.iter().filter(|_| gives_vfs(gpu)).flat_map(|sriov| &sriov.vfs);
    vfs.map(|vf| Slice {
        device: Device::Vf(vf.address),
        gpu: gpu.id.clone(),
        parent: gpu.name.clone(),
        mdev_type: vf.vgpu_type().cloned(),
        owner: owner(Device::Vf(vf.address)),
        holders: vf.holders.clone(),
    })
    .collect()
}
