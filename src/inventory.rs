//! One reading of the host: the backends' scans merged into a [`HostSnapshot`].
//!
//! Never fails and never changes anything. What cannot be read becomes a problem of its own device.
//! Attributes that take the device lock (`sriov_numvfs`, `driver_override`) are not read, so a change
//! that is stuck in the kernel cannot stop a reading.

mod device;
mod known;
mod mdevctl;
mod names;

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::mdev::{MdevsByParent, TypeFacts, scan_devices, scan_parent};
use crate::backend::{nvidia_vfio, passthrough, sriov};
use crate::model::{
    BackendKind, DeviceName, Gpu, GpuId, HostSnapshot, Kind, MdevParent, PciAddress, PciFacts, PciId,
    Refusal, ScanProblem, Sriov, VgpuType,
};
use crate::sysfs::Sysfs;
use crate::vfio::Holders;

pub use known::KnownTypes;
pub use mdevctl::{Definitions, MdevDefinition};

const PCI_DEVICES: &str = "sys/bus/pci/devices";
const MDEV_PARENTS: &str = "sys/class/mdev_bus";

/// What a reading includes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanOptions {
    /// PCI ids that are shown besides display-class, accelerator-class and mdev-capable devices.
    pub include: BTreeSet<PciId>,
}

/// Reads the host.
#[must_use]
pub fn scan(sysfs: &Sysfs, options: &ScanOptions) -> HostSnapshot {
    let mut scan = Scan::new(sysfs, options);
    let mut gpus = scan.pci_gpus();
    gpus.extend(scan.virtual_gpus());
    gpus.sort_by(|a, b| a.name.cmp(&b.name));
    let boot_id = sysfs.read("proc/sys/kernel/random/boot_id").ok().and_then(|text| text.parse().ok());
    HostSnapshot { boot_id, gpus, problems: scan.problems }
}

/// Reads some GPUs of a reading again and leaves the others as they were. `None` when one of them is not in that reading or no
/// longer where it was: then the whole host is to be read.
#[must_use]
pub fn scan_again(
    sysfs: &Sysfs,
    options: &ScanOptions,
    last: &HostSnapshot,
    ids: &BTreeSet<GpuId>,
) -> Option<HostSnapshot> {
    let (old, kept): (Vec<&Gpu>, Vec<&Gpu>) = last.gpus.iter().partition(|gpu| ids.contains(&gpu.id));
    if old.len() < ids.len() {
        return None;
    }
    let mut scan = Scan::of(sysfs, options, &old);
    let mut gpus: Vec<Gpu> = kept.into_iter().cloned().collect();
    for before in &old {
        gpus.push(scan.again(before)?);
    }
    gpus.sort_by(|a, b| a.name.cmp(&b.name));
    let theirs = |problem: &&ScanProblem| {
        let device = problem.device.as_ref();
        device.is_some_and(|device| old.iter().any(|gpu| gpu.has_function(device)))
    };
    let mut problems: Vec<ScanProblem> =
        last.problems.iter().filter(|problem| !theirs(problem)).cloned().collect();
    problems.extend(scan.problems);
    problems.dedup();
    Some(HostSnapshot { boot_id: last.boot_id.clone(), gpus, problems })
}

/// Returns the identity of what is in a slot now, shown by a reading or not; `None` when it is empty.
#[must_use]
pub fn identity_at(sysfs: &Sysfs, address: PciAddress) -> Option<GpuId> {
    let dir = sysfs.link_path(&format!("{PCI_DEVICES}/{address}"))?;
    let pci = device::pci_facts(sysfs, &dir, &address.to_string(), 0)?;
    device::pci_identity(&pci).parse().ok()
}

/// A reading under way.
struct Scan<'a> {
    sysfs: &'a Sysfs,
    options: &'a ScanOptions,
    holders: Holders,
    mdevs: MdevsByParent,
    /// Directories of mdev parents that no device has claimed yet.
    unclaimed: BTreeSet<String>,
    problems: Vec<ScanProblem>,
    /// Names of vGPU types seen before; read when a GPU has such types.
    known: Option<KnownTypes>,
}

impl<'a> Scan<'a> {
    fn new(sysfs: &'a Sysfs, options: &'a ScanOptions) -> Self {
        let holders = Holders::scan(sysfs);
        let mut texts = Vec::new();
        let mdevs = scan_devices(sysfs, &holders, |_| true, &mut texts);
        let problems = texts.into_iter().map(|text| ScanProblem { device: None, text }).collect();
        let unclaimed = find_parents(sysfs, &mdevs);
        Self { sysfs, options, holders, mdevs, unclaimed, problems, known: None }
    }

    /// As [`Scan::new`], for these GPUs alone.
    fn of(sysfs: &'a Sysfs, options: &'a ScanOptions, gpus: &[&Gpu]) -> Self {
        let holders = Holders::scan(sysfs);
        let mut texts = Vec::new();
        let theirs = |parent: &str| gpus.iter().any(|gpu| gpu.has_path(parent));
        let mdevs = scan_devices(sysfs, &holders, theirs, &mut texts);
        let problems = texts.into_iter().map(|text| ScanProblem { device: None, text }).collect();
        let parents = gpus.iter().flat_map(|gpu| &gpu.parents).map(|parent| parent.path.clone());
        let unclaimed = parents.filter(|dir| sysfs.exists(&format!("{dir}/mdev_supported_types"))).collect();
        Self { sysfs, options, holders, mdevs, unclaimed, problems, known: None }
    }

    /// Reads a GPU once more; `None` when it is no longer there, or another.
    fn again(&mut self, before: &Gpu) -> Option<Gpu> {
        let now = match &before.pci {
            Some(pci) => self.pci_gpu(&pci.address.to_string()),
            None => self.virtual_gpu(&before.path),
        };
        now.filter(|now| now.id == before.id && now.path == before.path)
    }

    /// Reads the PCI functions that are shown. VFs belong to their PF.
    fn pci_gpus(&mut self) -> Vec<Gpu> {
        let names = match self.sysfs.list_optional(PCI_DEVICES) {
            Ok(names) => names,
            Err(error) => {
                self.problem(None, &error);
                Vec::new()
            }
        };
        names.iter().filter_map(|name| self.pci_gpu(name)).collect()
    }

    fn pci_gpu(&mut self, name: &str) -> Option<Gpu> {
        let dir = self.sysfs.link_path(&format!("{PCI_DEVICES}/{name}"))?;
        let class = match self.sysfs.read(&format!("{dir}/class")) {
            Ok(text) => device::parse_class(&text),
            Err(error) => {
                self.problem(name.parse().ok(), &error);
                return None;
            }
        };
        let display = class.is_some_and(|class| matches!(class >> 16, 0x03 | 0x12));
        if !display && !self.offers_mdevs(&dir) && !self.is_included(&dir) {
            return None;
        }
        if self.sysfs.exists(&format!("{dir}/physfn")) {
            return None;
        }
        let pci = device::pci_facts(self.sysfs, &dir, name, class.unwrap_or(0));
        let Some(pci) = pci else {
            let text = format!("PCI function {name} has no readable vendor and device id, skipping it");
            self.problems.push(ScanProblem { device: name.parse().ok(), text });
            return None;
        };
        let mut sriov = sriov::scan(self.sysfs, &dir, pci.id.vendor, &self.holders);
        let parents = self.parents_of(&dir, sriov.as_ref());
        let vgpu_types = sriov.as_mut().map(|sriov| self.vgpu_types(pci.id, sriov)).unwrap_or_default();
        let mut gpu = self.gpu(&dir, device::pci_identity(&pci), Some(pci), sriov, parents)?;
        gpu.vgpu_types = vgpu_types;
        Some(gpu)
    }

    /// Reads the vGPU types of a PF's VFs. A driver makes them of all its VFs or of none, so the first VF tells.
    fn vgpu_types(&mut self, id: PciId, sriov: &mut Sriov) -> Vec<VgpuType> {
        let first = sriov.vfs.first().map(|vf| vf.address);
        if first.is_none_or(|vf| nvidia_vfio::scan_vf(self.sysfs, vf).is_none()) {
            return Vec::new();
        }
        let mut offered: Vec<VgpuType> = Vec::new();
        for vf in &mut sriov.vfs {
            let Some((slot, types)) = nvidia_vfio::scan_vf(self.sysfs, vf.address) else { continue };
            vf.vgpu = Some(slot);
            if offered.len() < types.len() {
                offered = types;
            }
        }
        let running = sriov.vfs.iter().filter_map(|vf| vf.vgpu_type()?.vgpu_number()).collect();
        let known = self.known.get_or_insert_with(|| KnownTypes::read(self.sysfs));
        known.types_of(id, offered, &running)
    }

    /// A function that offers types itself, or whose VFs do.
    fn offers_mdevs(&self, dir: &str) -> bool {
        self.unclaimed.contains(dir)
            || (!self.unclaimed.is_empty() && self.vf_dirs(dir).any(|vf| self.unclaimed.contains(&vf)))
    }

    fn vf_dirs(&self, dir: &str) -> impl Iterator<Item = String> {
        let dir = dir.to_owned();
        (0..).map_while(move |index: u32| self.sysfs.link_path(&format!("{dir}/virtfn{index}")))
    }

    fn is_included(&self, dir: &str) -> bool {
        !self.options.include.is_empty()
            && device::pci_id(self.sysfs, dir, "vendor", "device")
                .is_some_and(|id| self.options.include.contains(&id))
    }

    /// Reads the mdev parents on a function: itself, then its VFs.
    fn parents_of(&mut self, dir: &str, sriov: Option<&Sriov>) -> Vec<MdevParent> {
        let mut dirs = vec![dir.to_owned()];
        if sriov.is_some_and(|sriov| sriov.enabled > 0) {
            dirs.extend(self.vf_dirs(dir));
        }
        let mut known = TypeFacts::new();
        let mut parents: Vec<MdevParent> =
            dirs.iter().filter_map(|dir| self.parent(dir, &mut known)).collect();
        parents.sort_by(|a, b| a.name.cmp(&b.name));
        parents
    }

    fn parent(&mut self, dir: &str, known: &mut TypeFacts) -> Option<MdevParent> {
        if !self.unclaimed.remove(dir) && !self.sysfs.exists(&format!("{dir}/mdev_supported_types")) {
            return None;
        }
        let device: Option<DeviceName> = dir.rsplit('/').next().and_then(|name| name.parse().ok());
        let mdevs = self.mdevs.remove(dir).unwrap_or_default();
        let mut texts = Vec::new();
        let parent = scan_parent(self.sysfs, dir, known, mdevs, &mut texts);
        self.problems.extend(texts.into_iter().map(|text| ScanProblem { device: device.clone(), text }));
        parent.unwrap_or_else(|error| {
            self.problem(device, &error);
            None
        })
    }

    /// Reads the mdev parents that are no PCI functions.
    fn virtual_gpus(&mut self) -> Vec<Gpu> {
        let dirs: Vec<String> = self.unclaimed.iter().cloned().collect();
        dirs.iter().filter_map(|dir| self.virtual_gpu(dir)).collect()
    }

    fn virtual_gpu(&mut self, dir: &str) -> Option<Gpu> {
        let parent = self.parent(dir, &mut TypeFacts::new())?;
        let identity = format!("virtual:{}", parent.name);
        self.gpu(dir, identity, None, None, vec![parent])
    }

    fn gpu(
        &mut self,
        dir: &str,
        identity: String,
        pci: Option<PciFacts>,
        sriov: Option<Sriov>,
        parents: Vec<MdevParent>,
    ) -> Option<Gpu> {
        let name = dir.rsplit('/').next()?;
        let (Ok(id), Ok(name)) = (identity.parse::<GpuId>(), name.parse::<DeviceName>()) else {
            let text = format!("device /{dir} has an unusual name, skipping it");
            self.problems.push(ScanProblem { device: None, text });
            return None;
        };
        let driver = self.sysfs.link_name(&format!("{dir}/driver"));
        let included = pci.as_ref().is_some_and(|pci| self.options.include.contains(&pci.id));
        let facts = device::Facts {
            dir,
            driver: driver.as_deref(),
            sriov: sriov.as_ref(),
            parents: &parents,
            included,
        };
        let (backend, backend_reason) = device::choose_backend(self.sysfs, &facts);
        let mut gpu = Gpu {
            id,
            name,
            path: dir.to_owned(),
            pci,
            driver: driver.clone(),
            numa_node: sriov::numa_node(self.sysfs, dir),
            iommu_group: crate::backend::mdev::iommu_group(self.sysfs, dir),
            backend,
            backend_reason,
            sriov,
            parents,
            vgpu_types: Vec::new(),
            nvml: None,
            whole: None,
        };
        gpu.whole = passthrough::scan(self.sysfs, &gpu, &self.holders);
        if gpu.whole.is_some() && gpu.backend == BackendKind::None && gpu.sriov.is_none() {
            (gpu.backend, gpu.backend_reason) = device::only_whole(driver.as_deref());
        }
        Some(gpu)
    }

    fn problem(&mut self, device: Option<DeviceName>, error: &crate::sysfs::SysfsError) {
        let text = Refusal::from_error(Kind::HostFault, error).message;
        self.problems.push(ScanProblem { device, text });
    }
}

/// Finds the directories of all mdev parents: by the class, by the mdevs that exist, and, where there
/// is no class (a recorded host has none), by looking at the virtual devices. PCI functions without
/// the class are found by their own `mdev_supported_types`.
fn find_parents(sysfs: &Sysfs, mdevs: &MdevsByParent) -> BTreeSet<String> {
    let mut dirs: BTreeSet<String> = mdevs.keys().cloned().collect();
    if sysfs.exists(MDEV_PARENTS) {
        let names = sysfs.list_optional(MDEV_PARENTS).unwrap_or_default();
        dirs.extend(names.iter().filter_map(|name| sysfs.link_path(&format!("{MDEV_PARENTS}/{name}"))));
        return dirs;
    }
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for class in sysfs.list_optional("sys/devices/virtual").unwrap_or_default() {
        let place = format!("sys/devices/virtual/{class}");
        places.insert(place.clone(), sysfs.list_optional(&place).unwrap_or_default());
    }
    places.insert(PCI_DEVICES.to_owned(), sysfs.list_optional(PCI_DEVICES).unwrap_or_default());
    for (place, names) in places {
        for name in names {
            let at = format!("{place}/{name}");
            if sysfs.exists(&format!("{at}/mdev_supported_types")) {
                dirs.insert(sysfs.link_path(&at).unwrap_or(at));
            }
        }
    }
    dirs
}
