//! Names of vGPU types that were seen before. A VF's list of types shrinks to its header when the GPU is full or
//! the VF has a type, so what runs could not be named after a restart of the service. Kept in
//! `/run/vgpud/vgpu-types`, a line `10de:26b9 1155 NVIDIA L40S-8Q` a type: a boot begins with full lists.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::nvidia_vfio::named_type;
use crate::model::{HostSnapshot, PciId, VgpuType};
use crate::sysfs::Sysfs;

/// Where it is kept, below the root.
const FILE: &str = "run/vgpud/vgpu-types";

/// Types by the PCI id of their GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownTypes(BTreeMap<PciId, BTreeMap<u32, String>>);

impl KnownTypes {
    /// Reads what earlier readings of this boot left. Odd lines are passed over.
    #[must_use]
    pub fn read(sysfs: &Sysfs) -> Self {
        Self::parse(&sysfs.read_optional(FILE).ok().flatten().unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let mut known = Self::default();
        for line in text.lines() {
            let mut words = line.splitn(3, ' ');
            let (id, number) = (words.next().and_then(|id| id.parse().ok()), words.next());
            if let (Some(id), Some(Ok(number)), Some(name)) = (id, number.map(str::parse), words.next()) {
                known.0.entry(id).or_default().insert(number, name.to_owned());
            }
        }
        known
    }

    /// Returns what a reading shows.
    #[must_use]
    pub fn of(snapshot: &HostSnapshot) -> Self {
        let mut known = Self::default();
        for gpu in &snapshot.gpus {
            let Some(pci) = &gpu.pci else { continue };
            let named = gpu.vgpu_types.iter().filter(|one| one.name != one.id.as_str());
            let numbers = named.filter_map(|one| Some((one.id.vgpu_number()?, one.name.clone())));
            numbers.for_each(|(number, name)| {
                known.0.entry(pci.id).or_default().insert(number, name);
            });
        }
        known
    }

    /// Returns the types of a GPU: those that its VFs offer, those remembered, and those that run without anybody
    /// knowing their name. Sorted by id.
    pub(super) fn types_of(
        &self,
        id: PciId,
        offered: Vec<VgpuType>,
        running: &BTreeSet<u32>,
    ) -> Vec<VgpuType> {
        let mut all: BTreeMap<u32, VgpuType> = BTreeMap::new();
        let unnamed = running.iter().map(|number| (*number, format!("nvidia-{number}")));
        let known = self.0.get(&id).into_iter().flatten().map(|(number, name)| (*number, name.clone()));
        for (number, name) in unnamed.chain(known) {
            all.extend(named_type(number, &name).map(|one| (number, one)));
        }
        all.extend(offered.into_iter().filter_map(|one| Some((one.id.vgpu_number()?, one))));
        let mut types: Vec<VgpuType> = all.into_values().collect();
        types.sort_by(|a, b| a.id.cmp(&b.id));
        types
    }

    /// Returns whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the text to keep.
    #[must_use]
    pub fn to_text(&self) -> String {
        let lines = self.0.iter().flat_map(|(id, types)| types.iter().map(move |one| (id, one)));
        lines.map(|(id, (number, name))| format!("{id} {number} {name}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "10de:26b9 1145 NVIDIA L40S-1B\n10de:26b9 1155 NVIDIA L40S-8Q\n";

    #[test]
    fn what_is_kept_is_read_back_and_odd_lines_are_passed_over() {
        let known = KnownTypes::parse(TEXT);
        assert_eq!(known.to_text(), TEXT);
        assert_eq!(KnownTypes::parse(&format!("hello\n10de:26b9\n10de:26b9 x y\n{TEXT}10de 7 x\n")), known);
    }

    #[test]
    fn a_full_gpu_still_has_names() {
        let known = KnownTypes::parse(TEXT);
        let id = "10de:26b9".parse().expect("id");
        let types = known.types_of(id, Vec::new(), &[1155, 9].into());
        let names: Vec<(&str, &str)> = types.iter().map(|one| (one.id.as_str(), one.name.as_str())).collect();
        let expected =
            [("nvidia-1145", "NVIDIA L40S-1B"), ("nvidia-1155", "NVIDIA L40S-8Q"), ("nvidia-9", "nvidia-9")];
        assert_eq!(names, expected);
        let other = "10de:2342".parse().expect("id");
        assert_eq!(known.types_of(other, Vec::new(), &BTreeSet::new()), []);
    }
}
