//! Small hosts for tests.

use crate::model::{
    Allocation, AllocationId, AllocationState, BackendKind, Device, DeviceName, DomainRef, Framebuffer, Gpu,
    Holder, HostSnapshot, Mdev, MdevParent, MdevType, MdevTypeId, MdevUuid, PciAddress, PciId, Pointing,
    Profile, Sriov, Terms, Vf, VgpuSlot, VgpuType, Wish,
};

pub(crate) fn host(gpus: Vec<Gpu>) -> HostSnapshot {
    HostSnapshot { boot_id: None, gpus, problems: Vec::new() }
}

/// A GPU whose slices are mdevs on `parents`.
pub(crate) fn gpu(name: &str, parents: Vec<MdevParent>) -> Gpu {
    Gpu {
        id: format!("virtual:{name}").parse().expect("valid identity"),
        name: name_of(name),
        path: format!("sys/devices/{name}"),
        pci: None,
        driver: None,
        numa_node: None,
        iommu_group: None,
        backend: if parents.is_empty() { BackendKind::None } else { BackendKind::Mdev },
        backend_reason: "there is no mdev_supported_types".to_owned(),
        sriov: None,
        parents,
        vgpu_types: Vec::new(),
        nvml: None,
        whole: None,
    }
}

/// A PF whose slices are VFs.
pub(crate) fn pf(name: &str, vfs: Vec<Vf>) -> Gpu {
    let sriov = Sriov {
        total: 7,
        enabled: u32::try_from(vfs.len()).expect("few"),
        vf_id: Some(pci_id("8086:10ca")),
        autoprobe: Some(false),
        vfs,
        by_hand: Vec::new(),
    };
    Gpu { backend: BackendKind::Sriov, sriov: Some(sriov), ..gpu(name, Vec::new()) }
}

pub(crate) fn parent(name: &str, types: Vec<MdevType>) -> MdevParent {
    MdevParent { name: name_of(name), path: format!("sys/devices/{name}"), types, mdevs: Vec::new() }
}

pub(crate) fn mdev_type(id: &str, framebuffer_mib: u32, available: u32) -> MdevType {
    MdevType {
        id: type_id(id),
        name: format!("Driver's {id}"),
        device_api: "vfio-pci".to_owned(),
        description: None,
        framebuffer: (framebuffer_mib > 0).then(|| Framebuffer::from_mib(framebuffer_mib)),
        heads: None,
        max_instances: None,
        available,
    }
}

pub(crate) fn mdev(number: u32, mdev_type: &str) -> Mdev {
    Mdev {
        uuid: uuid(number),
        mdev_type: type_id(mdev_type),
        iommu_group: None,
        holders: Vec::new(),
        parameters: None,
    }
}

pub(crate) fn vf(address: &str, id: &str) -> Vf {
    Vf {
        index: 0,
        address: pci(address),
        id: pci_id(id),
        driver: Some("vfio-pci".to_owned()),
        vfio: true,
        iommu_group: None,
        numa_node: None,
        holders: Vec::new(),
        framebuffer: None,
        quantum: None,
        vgpu: None,
    }
}

pub(crate) fn holder(domain: Option<&str>) -> Holder {
    Holder { pid: 7, domain: domain.map(str::to_owned), name: "qemu-system-x86".to_owned() }
}

pub(crate) fn profile(name: &str, wish: Wish) -> Profile {
    Profile::new(name.parse().expect("valid name"), wish)
}

pub(crate) fn uuid(number: u32) -> MdevUuid {
    format!("c0ffee00-0000-4000-8000-{number:012}").parse().expect("valid UUID")
}

pub(crate) fn pci(address: &str) -> PciAddress {
    address.parse().expect("valid address")
}

pub(crate) fn pci_id(id: &str) -> PciId {
    id.parse().expect("valid id")
}

pub(crate) fn type_id(id: &str) -> MdevTypeId {
    id.parse().expect("valid type")
}

pub(crate) fn name_of(name: &str) -> DeviceName {
    name.parse().expect("valid name")
}

/// An attached slice of profile `nic` whose domain, number `domain`, names a VF.
pub(crate) fn vf_allocation(bits: u32, domain: u32, address: &str) -> Allocation {
    Allocation {
        companions: Vec::new(),
        id: AllocationId::from_bits(bits),
        domain: DomainRef {
            uuid: format!("00000000-0000-4000-8000-{domain:012}").parse().expect("valid UUID"),
            name: format!("web{domain}"),
        },
        profile: "nic".parse().expect("valid name"),
        device: Device::Vf(pci(address)),
        state: AllocationState::Attached,
        until: None,
        terms: Terms::default(),
        settled: None,
        owner: None,
        pointing: Pointing::default(),
        saved: false,
    }
}

/// A vGPU type of so many GiB.
pub(crate) fn vgpu_type(id: &str, gib: u32) -> VgpuType {
    let framebuffer = Some(Framebuffer::from_mib(gib * 1024));
    VgpuType { id: type_id(id), name: format!("NVIDIA X-{gib}Q"), framebuffer, mig: false }
}

/// A GPU whose VFs take vGPU types; VF N has the Nth of `current`, and those without offer `creatable`.
pub(crate) fn vgpu_gpu(
    name: &str,
    types: &[(&str, u32)],
    current: &[Option<&str>],
    creatable: &[&str],
) -> Gpu {
    let slot = |has: &Option<&str>| VgpuSlot {
        current: has.map(type_id),
        creatable: if has.is_some() { Vec::new() } else { creatable.iter().map(|id| type_id(id)).collect() },
        ..VgpuSlot::default()
    };
    let bus: u32 = name.bytes().map(u32::from).sum::<u32>() % 200;
    let one = |(index, has): (usize, &Option<&str>)| {
        let address = format!("0000:{bus:02x}:01.{index}");
        let driver = Some("nvidia".to_owned());
        Vf { vgpu: Some(slot(has)), driver, ..vf(&address, "10de:26b9") }
    };
    let vgpu_types = types.iter().map(|(id, gib)| vgpu_type(id, *gib)).collect();
    let gpu = pf(name, current.iter().enumerate().map(one).collect());
    Gpu { backend: BackendKind::NvidiaVfio, vgpu_types, ..gpu }
}
