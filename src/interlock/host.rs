//! Facts of what is known of this host: the newest reading, the promises, the domains' XML.

use crate::domain_xml::{Details, Source};
use crate::interlock::{Domain, Facts, GpuFacts, Scheduler, SizeMode, Slice, TypeName, Vgpu};
use crate::model::{
    self, Allocation, AllocationId, Device, Gpu, HostSnapshot, LibvirtVersion, Mdev, MdevType, MdevTypeId,
    PciAddress, Profile, SchedulerPolicy, Vf, Wish,
};

/// NVIDIA's PCI vendor id.
const NVIDIA: u16 = 0x10de;

/// What is known of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// The newest reading.
    pub snapshot: Option<&'a HostSnapshot>,
    /// Promises; `None` when only the service would know them.
    pub allocations: Option<&'a [Allocation]>,
    /// Profiles.
    pub profiles: &'a [Profile],
    /// libvirt's version.
    pub libvirt: Option<LibvirtVersion>,
}

/// Puts together what is known about domains with these definitions.
#[must_use]
pub fn facts(known: Known<'_>, domains: Vec<Details>) -> Facts {
    let gpus = known.snapshot.map(|snapshot| snapshot.gpus.iter().filter_map(gpu).collect());
    let domain = |xml: Details| {
        let slices =
            xml.hostdevs.iter().map(|one| known.slice(&one.hostdev.source, one.hostdev.alias.as_deref()));
        Domain { slices: slices.collect(), xml }
    };
    Facts {
        libvirt: known.libvirt,
        domains: domains.into_iter().map(domain).collect(),
        profiles: known.profiles.to_vec(),
        gpus: gpus.unwrap_or_default(),
    }
}

/// An NVIDIA GPU with what is made on it.
fn gpu(gpu: &Gpu) -> Option<GpuFacts> {
    let pci = gpu.pci.as_ref().filter(|pci| pci.id.vendor == NVIDIA)?;
    let mut facts = GpuFacts::new(gpu.id.clone(), pci.address.to_string());
    // Without SR-IOV there is no other mode; with it only the driver's library says.
    let only = (gpu.sriov.is_none() && !gpu.parents.is_empty()).then_some(SizeMode::Equal);
    let nvml = gpu.nvml.as_ref();
    facts.mode = nvml.and_then(|nvml| nvml.size_mode).map(mode).or(only);
    facts.scheduler = nvml.and_then(|nvml| nvml.scheduler).map(scheduler);
    (facts.mig, facts.ecc) = (nvml.and_then(|nvml| nvml.mig), nvml.and_then(|nvml| nvml.ecc));
    let mdevs = gpu.parents.iter().flat_map(|parent| parent.mdevs.iter().map(move |mdev| (parent, mdev)));
    let types = mdevs
        .filter_map(|(parent, mdev)| Some((mdev, parent.types.iter().find(|one| one.id == mdev.mdev_type)?)));
    let vfs = gpu.sriov.iter().flat_map(|sriov| &sriov.vfs);
    facts.made = types.filter_map(|(mdev, mdev_type)| made(gpu, mdev, mdev_type)).collect();
    facts.made.extend(vfs.filter_map(|vf| vgpu_on(gpu, vf)));
    Some(facts)
}

const fn mode(mode: model::SizeMode) -> SizeMode {
    match mode {
        model::SizeMode::Equal => SizeMode::Equal,
        model::SizeMode::Mixed => SizeMode::Mixed,
    }
}

const fn scheduler(policy: SchedulerPolicy) -> Scheduler {
    match policy {
        SchedulerPolicy::BestEffort => Scheduler::BestEffort,
        SchedulerPolicy::EqualShare => Scheduler::EqualShare,
        SchedulerPolicy::FixedShare => Scheduler::FixedShare,
    }
}

/// The vGPU that a VF is now.
fn vgpu_on(gpu: &Gpu, vf: &Vf) -> Option<Vgpu> {
    let made = vgpu_of(gpu, vf.vgpu_type()?)?;
    let slot = vf.vgpu.as_ref();
    let gpu_instance = slot.and_then(|slot| slot.gpu_instance);
    let params = slot.and_then(|slot| slot.parameters.clone());
    Some(Vgpu { gpu: Some(gpu.id.clone()), gpu_instance, params, ..made })
}

/// A vGPU of a type that the VFs of a GPU take.
fn vgpu_of(gpu: &Gpu, id: &MdevTypeId) -> Option<Vgpu> {
    let known = gpu.vgpu_types.iter().find(|one| one.id == *id)?;
    let placed = gpu.nvml.as_ref().and_then(|nvml| nvml.placed(id));
    let name = TypeName::parse(&known.name)?;
    Some(Vgpu { framebuffer: known.framebuffer, most: placed.map(|one| one.most), ..Vgpu::new(name) })
}

/// The vGPU that a mediated device is.
fn made(gpu: &Gpu, mdev: &Mdev, mdev_type: &MdevType) -> Option<Vgpu> {
    Some(Vgpu { params: mdev.parameters.clone(), ..vgpu(gpu, mdev_type)? })
}

fn vgpu(gpu: &Gpu, mdev_type: &MdevType) -> Option<Vgpu> {
    let name = TypeName::parse(&mdev_type.name)?;
    let (framebuffer, most) = (mdev_type.framebuffer, mdev_type.max_instances);
    Some(Vgpu { gpu: Some(gpu.id.clone()), framebuffer, most, ..Vgpu::new(name) })
}

impl Known<'_> {
    /// Says what a hostdev stands for.
    fn slice(&self, source: &Source, alias: Option<&str>) -> Slice {
        let Some(device) = source.device() else { return Slice::default() };
        let own = self.own(device, alias.and_then(AllocationId::from_alias).as_ref());
        let marked = alias.is_some_and(|alias| AllocationId::from_alias(alias).is_some());
        // Without the promises, our alias is the only sign.
        let ours = if self.allocations.is_some() { own.is_some() } else { marked };
        let wished = own.and_then(|own| self.wished(own));
        let slice = match device {
            Device::Mdev(uuid) => self.snapshot.map(|snapshot| match snapshot.mdev(uuid) {
                None => Slice { exists: Some(false), ..Slice::default() },
                Some((gpu, parent, mdev)) => {
                    let found = parent.types.iter().find(|one| one.id == mdev.mdev_type);
                    Slice {
                        exists: Some(true),
                        device_api: found.map(|one| one.device_api.clone()),
                        vgpu: found.and_then(|one| made(gpu, mdev, one)),
                        ..Slice::default()
                    }
                }
            }),
            Device::Vf(address) => self.snapshot.map(|snapshot| function(snapshot, address)),
        };
        let slice = slice.unwrap_or_default();
        let mut vgpu = slice.vgpu.clone().or(wished);
        // The next start writes what the profile says.
        if let (Some(vgpu), Some(profile)) = (&mut vgpu, own.and_then(|own| self.profile_of(own))) {
            vgpu.params = Some(profile.parameters.as_ref().map(ToString::to_string).unwrap_or_default());
        }
        Slice { ours, vgpu, ..slice }
    }

    fn own(&self, device: Device, marked: Option<&AllocationId>) -> Option<&Allocation> {
        let own = |one: &&Allocation| one.device == device || marked == Some(&one.id);
        self.allocations?.iter().find(own)
    }

    fn profile_of(&self, own: &Allocation) -> Option<&Profile> {
        self.profiles.iter().find(|profile| profile.name == own.profile)
    }

    /// The type that a promise asks for, when its profile names one of NVIDIA's.
    fn wished(&self, own: &Allocation) -> Option<Vgpu> {
        let profile = self.profile_of(own)?;
        let Wish::Type(wish) = &profile.wish else { return None };
        let types = self.snapshot.into_iter().flat_map(HostSnapshot::parents);
        let mut types = types.flat_map(|(gpu, parent)| parent.types.iter().map(move |one| (gpu, one)));
        let by_number = || {
            let gpus = self.snapshot.into_iter().flat_map(|snapshot| &snapshot.gpus);
            let mut types = gpus.flat_map(|gpu| gpu.vgpu_types.iter().map(move |one| (gpu, one)));
            let (gpu, one) = types.find(|(_, one)| one.id.as_str() == wish || one.name == *wish)?;
            vgpu_of(gpu, &one.id)
        };
        match types.find(|(_, one)| one.id.as_str() == wish || one.name == *wish) {
            // On which GPU it will be is decided when the domain starts.
            Some((gpu, one)) => vgpu(gpu, one).map(|vgpu| Vgpu { gpu: None, ..vgpu }),
            None => by_number().or_else(|| TypeName::parse(wish).map(Vgpu::new)),
        }
    }
}

/// What a PCI hostdev stands for. A function that is no VF of a GPU here is a device that a reading leaves out.
fn function(snapshot: &HostSnapshot, address: PciAddress) -> Slice {
    let Some((gpu, vf)) = snapshot.vf(address) else { return Slice::default() };
    let nvidia = gpu.pci.as_ref().is_some_and(|pci| pci.id.vendor == NVIDIA);
    Slice {
        exists: Some(true),
        driver: vf.driver.clone(),
        vfio: Some(vf.vfio),
        vgpu: vgpu_on(gpu, vf),
        vendor_vf: nvidia && vf.driver.as_deref() == Some("nvidia"),
        ..Slice::default()
    }
}
