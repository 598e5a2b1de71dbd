//! The host as it would be with slices gone or come: what its GPUs could give then is estimated.
//!
//! Where the driver tells sizes, a type can be made as often as the free framebuffer holds it; where each parent of a
//! GPU has one slice (VFs), once on each that has none. A GPU on which all slices have one size, and of which nothing
//! shows otherwise, is taken to give that size only, as NVIDIA's equal-size mode does. Where no sizes are told, a slice that
//! goes gives one of its own type back, and one that comes takes one of every type of its parent. A GPU on
//! which nothing changes gives what its driver says.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Device, Gpu, GpuId, HostSnapshot, Mdev, MdevParent, MdevType, MdevTypeId, MdevUuid};
use crate::placement::usage::{Usage, usage};
use crate::placement::{Choice, Owner, Owners};

/// An imagined host.
#[derive(Clone, Debug)]
pub(super) struct Sim {
    pub(super) snapshot: HostSnapshot,
    pub(super) owners: Owners,
    /// GPUs that give one size at a time.
    one_size: BTreeSet<GpuId>,
}

impl Sim {
    pub(super) fn new(snapshot: &HostSnapshot, owners: &Owners) -> Self {
        let one_size = snapshot.gpus.iter().filter(|gpu| is_one_size(gpu, owners)).map(|gpu| gpu.id.clone());
        Self { one_size: one_size.collect(), snapshot: snapshot.clone(), owners: owners.clone() }
    }

    /// Returns the host without these slices.
    pub(super) fn without(&self, gone: &BTreeSet<Device>) -> Self {
        let mut next = self.clone();
        next.owners.retain(|device, _| !gone.contains(device));
        for gpu in &mut next.snapshot.gpus {
            let mut freed: Vec<(usize, MdevTypeId)> = Vec::new();
            for (at, parent) in gpu.parents.iter_mut().enumerate() {
                let goes = |mdev: &Mdev| gone.contains(&Device::Mdev(mdev.uuid));
                freed.extend(
                    parent.mdevs.iter().filter(|mdev| goes(mdev)).map(|mdev| (at, mdev.mdev_type.clone())),
                );
                parent.mdevs.retain(|mdev| !goes(mdev));
            }
            let whole = gpu.whole.iter_mut().map(|whole| &mut whole.function);
            for vf in gpu.sriov.iter_mut().flat_map(|sriov| &mut sriov.vfs).chain(whole) {
                if gone.contains(&Device::Vf(vf.address)) {
                    vf.holders.clear();
                }
            }
            if freed.is_empty() {
                continue;
            }
            if !self.recount(gpu) {
                for (at, id) in freed {
                    let of_type = gpu.parents[at].types.iter_mut().filter(|offered| offered.id == id);
                    of_type.for_each(|offered| offered.available = offered.available.saturating_add(1));
                }
            }
        }
        next
    }

    /// Returns the host with these slices.
    pub(super) fn with(&self, choices: &[Choice]) -> Self {
        let mut next = self.clone();
        for choice in choices {
            let owner = Owner::Allocation {
                allocation: choice.allocation.clone(),
                domain: String::new(),
                guaranteed: false,
            };
            let device = imagined(choice, &next.owners);
            next.owners.insert(device, owner);
            let (Some(id), Device::Mdev(uuid)) = (&choice.mdev_type, device) else { continue };
            let Some(gpu) = next.snapshot.gpus.iter_mut().find(|gpu| gpu.id == choice.gpu) else { continue };
            let Some(parent) = gpu.parents.iter_mut().find(|parent| parent.name == choice.parent) else {
                continue;
            };
            let mdev = Mdev {
                uuid,
                mdev_type: id.clone(),
                iommu_group: None,
                holders: Vec::new(),
                parameters: None,
            };
            parent.mdevs.push(mdev);
            let name = parent.name.clone();
            if !self.recount(gpu) {
                let parents = gpu.parents.iter_mut().filter(|parent| parent.name == name);
                let types = parents.flat_map(|parent| &mut parent.types);
                types.for_each(|offered| offered.available = offered.available.saturating_sub(1));
            }
        }
        next
    }

    /// Counts anew what a GPU could give; false when its driver does not tell sizes.
    fn recount(&self, gpu: &mut Gpu) -> bool {
        let Usage { memory: Some(memory), .. } = usage(gpu, &self.owners) else { return false };
        let sizes = sizes(gpu);
        if gpu.parents.iter().flat_map(|parent| &parent.types).any(|offered| mib(offered).is_none()) {
            return false;
        }
        let single = gpu.parents.len() == 1;
        let locked = sizes.first().filter(|_| self.one_size.contains(&gpu.id)).copied();
        for parent in &mut gpu.parents {
            let taken = !single && !parent.mdevs.is_empty();
            for offered in &mut parent.types {
                let size = mib(offered).unwrap_or(u64::MAX);
                let most = offered.max_instances.map_or(u64::MAX, u64::from);
                let fits = (memory.free() / size).min(most);
                let fits = if taken || locked.is_some_and(|locked| locked != size) { 0 } else { fits };
                let fits = if single { fits } else { fits.min(1) };
                offered.available = u32::try_from(fits).unwrap_or(u32::MAX);
            }
        }
        true
    }
}

fn mib(offered: &MdevType) -> Option<u64> {
    offered.framebuffer.map(|size| u64::from(size.mib())).filter(|mib| *mib > 0)
}

/// The sizes of the slices on a GPU.
fn sizes(gpu: &Gpu) -> BTreeSet<u64> {
    let types: BTreeMap<&MdevTypeId, &MdevType> =
        gpu.parents.iter().flat_map(|parent| &parent.types).map(|one| (&one.id, one)).collect();
    let mdevs = gpu.parents.iter().flat_map(|parent| &parent.mdevs);
    mdevs.filter_map(|mdev| types.get(&mdev.mdev_type).and_then(|one| mib(one))).collect()
}

/// Returns whether a GPU seems to give one size at a time.
fn is_one_size(gpu: &Gpu, owners: &Owners) -> bool {
    let sizes = sizes(gpu);
    let free = usage(gpu, owners).memory.map_or(0, |memory| memory.free());
    let open = |parent: &&MdevParent| gpu.parents.len() == 1 || parent.mdevs.is_empty();
    let offers = || gpu.parents.iter().filter(open).flat_map(|parent| &parent.types);
    let other = |offered: &&MdevType| mib(offered).is_some_and(|mib| !sizes.contains(&mib) && mib <= free);
    match sizes.len() {
        // Of an empty one nothing is known; where VFs are parents, one size is the rule.
        0 => gpu.parents.len() > 1,
        1 => {
            !offers().filter(other).any(|offered| offered.available > 0)
                && (gpu.parents.len() > 1 || offers().any(|offered| other(&offered)))
        }
        _ => false,
    }
}

/// A device for a slice that is imagined: its own, or when that exists already (two plans of one profile), another.
fn imagined(choice: &Choice, owners: &Owners) -> Device {
    match choice.device {
        Device::Mdev(uuid) if uuid.0.is_nil() || owners.contains_key(&choice.device) => {
            Device::Mdev(MdevUuid(uuid::Uuid::from_u128(u128::MAX - owners.len() as u128)))
        }
        device => device,
    }
}
