//! Hosts that tests start from.

use super::spec::{HostSpec, ParentSpec, PciSpec, PoolSpec, SriovSpec, TypeSpec, VirtualSpec};

const ENOSPC: i32 = 28;
const EUSERS: i32 = 87;

impl HostSpec {
    /// The lab: the kernel's sample mdev drivers (samples/vfio-mdev of Linux 6.12) and two network
    /// functions with SR-IOV (QEMU's igb: VF offset 0x80, stride 2, seven VFs).
    pub(crate) fn lab() -> Self {
        let mut host = Self::samples();
        host.pci = vec![
            igb("0000:01:00.0", "pci0000:00/0000:00:02.0"),
            igb("0000:02:00.0", "pci0000:00/0000:00:03.0"),
        ];
        host.drivers = drivers(&[("igb", false), ("igbvf", false), ("vfio-pci", true), ("pcieport", false)]);
        host.aliases = "alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n".to_owned();
        host
    }

    /// Only the sample drivers.
    pub(crate) fn samples() -> Self {
        let sample = |id: &str, name: &str, description: Option<&str>, cost| TypeSpec {
            id: id.to_owned(),
            name: name.to_owned(),
            description: description.map(str::to_owned),
            cost,
            gi: None,
        };
        let virtual_device = |name: &str, pool, types| VirtualSpec {
            name: name.to_owned(),
            parent: ParentSpec { pool, most: None, types },
        };
        let pool = |total, full| PoolSpec { total, full, equal_size: false };
        Self {
            // mtty: 24 ports. mdpy: 4 devices, counted by the mdev core. mbochs: 256 MB.
            pools: vec![pool(24, ENOSPC), pool(4, EUSERS), pool(256, ENOSPC)],
            virtuals: vec![
                virtual_device(
                    "mtty",
                    0,
                    vec![
                        sample("mtty-1", "Single port serial", None, 1),
                        sample("mtty-2", "Dual port serial", None, 2),
                    ],
                ),
                virtual_device(
                    "mdpy",
                    1,
                    vec![
                        sample("mdpy-hd", "mdpy-hd", Some("virtual display, 1920x1080 framebuffer"), 1),
                        sample("mdpy-vga", "mdpy-vga", Some("virtual display, 640x480 framebuffer"), 1),
                        sample("mdpy-xga", "mdpy-xga", Some("virtual display, 1024x768 framebuffer"), 1),
                    ],
                ),
                virtual_device(
                    "mbochs",
                    2,
                    vec![
                        sample(
                            "mbochs-large",
                            "mbochs-large",
                            Some("virtual display, 64 MB video memory"),
                            64,
                        ),
                        sample(
                            "mbochs-medium",
                            "mbochs-medium",
                            Some("virtual display, 16 MB video memory"),
                            16,
                        ),
                        sample("mbochs-small", "mbochs-small", Some("virtual display, 4 MB video memory"), 4),
                    ],
                ),
            ],
            ..Self::default()
        }
    }

    /// Two GPUs as NVIDIA's SR-IOV generation shows them: 32 VFs each, every VF an mdev parent with
    /// the same 24 types, one mdev to a VF, one framebuffer size to a GPU at a time.
    pub(crate) fn dual_gpu() -> Self {
        let pool = || PoolSpec { total: 49_152, full: ENOSPC, equal_size: true };
        Self {
            drivers: drivers(&[("nvidia", false), ("vfio-pci", true)]),
            pools: vec![pool(), pool()],
            pci: vec![
                gpu("0000:41:00.0", "pci0000:40/0000:40:01.1", 0),
                gpu("0000:c1:00.0", "pci0000:c0/0000:c0:01.1", 1),
            ],
            ..Self::default()
        }
    }

    /// Two GPUs as NVIDIA's driver shows them on newer hosts: 8 VFs each, every VF a vGPU of a type by number, one
    /// framebuffer size to a GPU at a time.
    pub(crate) fn vgpu_vfs() -> Self {
        let mut host = Self::dual_gpu();
        for (pool, gpu) in host.pci.iter_mut().enumerate() {
            gpu.id = (0x10de, 0x26b9);
            let sriov = gpu.sriov.as_mut().expect("a PF");
            (sriov.total, sriov.enabled, sriov.vf_device, sriov.vf_parent) = (8, 8, 0x26b9, None);
            // The driver rejects the count from anybody but its own script.
            sriov.configure = false;
            sriov.vf_vgpu = Some(ParentSpec { pool, most: Some(1), types: l40s_types() });
        }
        host
    }

    /// As [`HostSpec::vgpu_vfs`], the first GPU an H100, which knows MIG.
    pub(crate) fn mig() -> Self {
        let mut host = Self::vgpu_vfs();
        let gpu = &mut host.pci[0];
        gpu.id = (0x10de, 0x2331);
        host.pools[0].total = 80 * 1024;
        let sriov = gpu.sriov.as_mut().expect("a PF");
        sriov.vf_device = 0x2331;
        sriov.vf_vgpu = Some(ParentSpec { pool: 0, most: Some(1), types: h100_types() });
        host
    }

    /// A discrete GPU of Intel's with 24 GiB for VFs, as its xe driver shows it (one VF behind the PF, step 1).
    pub(crate) fn xe() -> Self {
        let mut gpu = igb("0000:03:00.0", "pci0000:00/0000:00:02.0");
        (gpu.class, gpu.id, gpu.driver) = (0x03_0000, (0x8086, 0xe211), Some("xe".to_owned()));
        let sriov = gpu.sriov.as_mut().expect("a PF");
        (sriov.total, sriov.offset, sriov.stride, sriov.vf_device) = (12, 1, 1, 0xe211);
        (sriov.vf_driver, sriov.vf_net, sriov.vram) = (Some("xe".to_owned()), false, Some(24 << 30));
        Self { drivers: drivers(&[("xe", false), ("vfio-pci", true)]), pci: vec![gpu], ..Self::default() }
    }

    /// Two graphics cards without slices, each with an audio function in its IOMMU group.
    pub(crate) fn cards() -> Self {
        let card = |address: &str, bridge: &str| {
            let plain = PciSpec { sriov: None, subsystem: (0x1043, 0x04ad), ..igb(address, bridge) };
            let audio = address.replace(".0", ".1");
            let own = PciSpec {
                class: 0x03_0000,
                id: (0x1002, 0x73bf),
                driver: Some("amdgpu".to_owned()),
                ..plain.clone()
            };
            let audio = PciSpec {
                address: audio,
                class: 0x04_0300,
                id: (0x1002, 0xab28),
                driver: Some("snd_hda_intel".to_owned()),
                group_of: Some(address.to_owned()),
                ..plain
            };
            [own, audio]
        };
        let first = card("0000:05:00.0", "pci0000:00/0000:00:03.0");
        let second = card("0000:06:00.0", "pci0000:00/0000:00:04.0");
        Self {
            drivers: drivers(&[("amdgpu", false), ("snd_hda_intel", false), ("vfio-pci", true)]),
            pci: first.into_iter().chain(second).collect(),
            ..Self::default()
        }
    }

    /// The second GPU of [`HostSpec::vgpu_vfs`] beside one whose VFs are mdev parents.
    pub(crate) fn both_ways() -> Self {
        let mut host = Self::dual_gpu();
        host.pci[1] = Self::vgpu_vfs().pci.remove(1);
        host
    }
}

/// Types in the manner of an L40S with 48 GiB. Only the number of the 8 GiB type was seen; the others are made up.
fn l40s_types() -> Vec<TypeSpec> {
    let sizes = [(1150, 2u32), (1152, 4), (1155, 8), (1158, 24), (1160, 48)];
    let one = |(number, gib): (u32, u32)| TypeSpec {
        id: format!("nvidia-{number}"),
        name: format!("NVIDIA L40S-{gib}Q"),
        description: None,
        cost: gib * 1024,
        gi: None,
    };
    sizes.into_iter().map(one).collect()
}

/// Types in the manner of an H100 with 80 GiB: two time-sliced ones, and those of three GPU instance profiles. The numbers are
/// made up.
fn h100_types() -> Vec<TypeSpec> {
    let all = [
        (1132, "8C", 8, None),
        (1136, "40C", 40, None),
        (1141, "1-10C", 10, Some("1g.10gb")),
        (1143, "2-20C", 20, Some("2g.20gb")),
        (1144, "3-40C", 40, Some("3g.40gb")),
    ];
    let one = |(number, name, gib, gi): (u32, &str, u32, _)| TypeSpec {
        id: format!("nvidia-{number}"),
        name: format!("NVIDIA H100-{name}"),
        description: None,
        cost: gib * 1024,
        gi,
    };
    all.into_iter().map(one).collect()
}

fn drivers(list: &[(&str, bool)]) -> Vec<(String, bool)> {
    list.iter().map(|(name, vfio)| ((*name).to_owned(), *vfio)).collect()
}

fn igb(address: &str, bridge: &str) -> PciSpec {
    PciSpec {
        address: address.to_owned(),
        bridge: bridge.to_owned(),
        class: 0x02_0000,
        id: (0x8086, 0x10c9),
        subsystem: (0x8086, 0xa02b),
        driver: Some("igb".to_owned()),
        numa_node: -1,
        link: Some(("2.5 GT/s PCIe".to_owned(), 1, "2.5 GT/s PCIe".to_owned(), 1)),
        sriov: Some(SriovSpec {
            total: 7,
            enabled: 0,
            offset: 0x80,
            stride: 2,
            vf_device: 0x10ca,
            vf_driver: Some("igbvf".to_owned()),
            vf_net: true,
            configure: true,
            makes: None,
            vf_parent: None,
            vf_vgpu: None,
            vram: None,
        }),
        parent: None,
        attributes: Vec::new(),
        group_of: None,
    }
}

fn gpu(address: &str, bridge: &str, pool: usize) -> PciSpec {
    let parent = ParentSpec { pool, most: Some(1), types: a40_types() };
    PciSpec {
        address: address.to_owned(),
        bridge: bridge.to_owned(),
        class: 0x03_0200,
        id: (0x10de, 0x2235),
        subsystem: (0x10de, 0x145a),
        driver: Some("nvidia".to_owned()),
        numa_node: i32::try_from(pool).expect("few pools"),
        link: Some(("2.5 GT/s PCIe".to_owned(), 16, "16.0 GT/s PCIe".to_owned(), 16)),
        sriov: Some(SriovSpec {
            total: 32,
            enabled: 32,
            offset: 4,
            stride: 1,
            vf_device: 0x2235,
            vf_driver: Some("nvidia".to_owned()),
            vf_net: false,
            configure: true,
            makes: None,
            vf_parent: Some(parent),
            vf_vgpu: None,
            vram: None,
        }),
        parent: None,
        attributes: Vec::new(),
        group_of: None,
    }
}

/// Types in the manner of an A40 with 48 GiB: eight sizes in three series.
fn a40_types() -> Vec<TypeSpec> {
    let sizes = [1u32, 2, 3, 4, 6, 8, 12, 24];
    let series = [('Q', 4), ('B', 4), ('C', 1)];
    let mut types = Vec::new();
    for (place, (letter, heads)) in series.into_iter().enumerate() {
        for (number, size_gib) in sizes.into_iter().enumerate() {
            let mib = size_gib * 1024;
            let most = 49_152 / mib;
            types.push(TypeSpec {
                id: format!("nvidia-{}", 557 + place * sizes.len() + number),
                name: format!("NVIDIA A40-{size_gib}{letter}"),
                description: Some(format!(
                    "num_heads={heads}, frl_config=60, framebuffer={mib}M, max_resolution=7680x4320, max_instance={most}"
                )),
                cost: mib,
                gi: None,
            });
        }
    }
    types
}
