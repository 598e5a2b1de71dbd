//! Reading the host without the service.

use crate::config::{Config, Paths};
use crate::inventory::{ScanOptions, scan};
use crate::model::{BackendKind, Device, Gpu};
use crate::sysfs::Sysfs;
use crate::wire::{Gpus, Kind, Owner, Refusal, Slice};

/// Scans the host below the root of `paths`. Owners are unknown: only the service opens the ledger.
pub(super) fn read(paths: &Paths) -> Result<Gpus, Refusal> {
    let config = Config::load(paths).map_err(|error| Refusal::from_error(Kind::Usage, &error))?;
    let options = ScanOptions { include: config.devices.include };
    let snapshot = scan(&Sysfs::new(paths.root()), &options);
    let slices = snapshot.gpus.iter().flat_map(slices).collect();
    Ok(Gpus { slices, gpus: snapshot.gpus, problems: snapshot.problems, age_ms: 0 })
}

/// Returns a GPU's mdevs by UUID, and its VFs where VFs are the slices, in their own order.
fn slices(gpu: &Gpu) -> Vec<Slice> {
    let mdevs = gpu.parents.iter().flat_map(|parent| {
        parent.mdevs.iter().map(|mdev| Slice {
            device: Device::Mdev(mdev.uuid),
            gpu: gpu.id.clone(),
            parent: parent.name.clone(),
            mdev_type: Some(mdev.mdev_type.clone()),
            owner: Owner::Unknown,
            holders: mdev.holders.clone(),
        })
    });
    let sriov = gpu.sriov.iter().filter(|_| gpu.backend == BackendKind::Sriov);
    let vfs = sriov.flat_map(|sriov| &sriov.vfs).map(|vf| Slice {
        device: Device::Vf(vf.address),
        gpu: gpu.id.clone(),
        parent: gpu.name.clone(),
        mdev_type: None,
        owner: Owner::Unknown,
        holders: vf.holders.clone(),
    });
    let mut slices: Vec<Slice> = mdevs.chain(vfs).collect();
    slices.sort_by_key(|slice| slice.device);
    slices
}
