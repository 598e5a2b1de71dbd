//! How full a GPU is: slices of everybody, and memory where the driver tells the sizes of its types.

use std::collections::BTreeMap;

use crate::model::{Gpu, MdevType, MdevTypeId};
use crate::placement::Owners;
use crate::placement::offer::vf_is_free;

/// Framebuffer of one GPU, in MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// What slices have.
    pub used: u64,
    /// What all slices together can have.
    pub total: u64,
}

impl Memory {
    /// Returns what no slice has.
    #[must_use]
    pub const fn free(self) -> u64 {
        self.total.saturating_sub(self.used)
    }
}

/// How full a GPU is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Mediated devices and VFs that somebody has.
    pub slices: u32,
    /// `None` where the driver does not tell the size of a type that is in use, or of none.
    pub memory: Option<Memory>,
}

/// Reads how full a GPU is.
#[must_use]
pub fn usage(gpu: &Gpu, owners: &Owners) -> Usage {
    let mdevs = gpu.parents.iter().map(|parent| parent.mdevs.len()).sum::<usize>();
    let vfs = gpu.sriov.iter().flat_map(|sriov| &sriov.vfs);
    // A VF that is itself a parent counts by its mdevs.
    let plain =
        vfs.filter(|vf| gpu.parents.iter().all(|parent| parent.name.as_str().parse() != Ok(vf.address)));
    let taken = plain.filter(|vf| !vf_is_free(vf, owners)).count();
    Usage { slices: u32::try_from(mdevs + taken).unwrap_or(u32::MAX), memory: memory(gpu) }
}

fn memory(gpu: &Gpu) -> Option<Memory> {
    let types: BTreeMap<&MdevTypeId, &MdevType> =
        gpu.parents.iter().flat_map(|parent| &parent.types).map(|one| (&one.id, one)).collect();
    let whole = |one: &&MdevType| Some(u64::from(one.framebuffer?.mib()) * u64::from(one.max_instances?));
    let total = types.values().filter_map(whole).max()?;
    let size = |id: &MdevTypeId| types.get(id)?.framebuffer.map(|size| u64::from(size.mib()));
    let mut mdevs = gpu.parents.iter().flat_map(|parent| &parent.mdevs);
    let used = mdevs.try_fold(0u64, |sum, mdev| Some(sum + size(&mdev.mdev_type)?))?;
    Some(Memory { used, total })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MdevParent;
    use crate::model::fixture::{gpu, holder, mdev, mdev_type, parent, pf, vf};

    fn sized(id: &str, mib: u32, most: u32) -> MdevType {
        MdevType { max_instances: Some(most), ..mdev_type(id, mib, 1) }
    }

    #[test]
    fn memory_is_what_the_driver_says_of_its_types() {
        let types = vec![sized("t-1", 1000, 8), sized("t-3", 3000, 2)];
        let one = MdevParent { mdevs: vec![mdev(1, "t-3"), mdev(2, "t-1")], ..parent("a", types) };
        let full = usage(&gpu("a", vec![one.clone()]), &Owners::new());
        assert_eq!(full, Usage { slices: 2, memory: Some(Memory { used: 4000, total: 8000 }) });
        let odd = MdevParent { mdevs: vec![mdev(1, "gone")], ..one };
        assert_eq!(usage(&gpu("a", vec![odd]), &Owners::new()), Usage { slices: 1, memory: None });
    }

    #[test]
    fn vfs_that_somebody_has_count() {
        let mut held = vf("0000:01:10.0", "8086:10ca");
        held.holders = vec![holder(None)];
        let one = pf("a", vec![held, vf("0000:01:10.2", "8086:10ca")]);
        assert_eq!(usage(&one, &Owners::new()), Usage { slices: 1, memory: None });
    }
}
