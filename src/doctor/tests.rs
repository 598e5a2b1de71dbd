use std::os::unix::fs::symlink;

use super::*;
use crate::inventory::{ScanOptions, scan};
use crate::model::BackendKind;
use crate::sysfs::Sysfs;

/// A host with one GPU and nothing wrong.
fn healthy() -> Observations {
    let gpu = Function {
        address: "0000:41:00.0".parse().expect("address"),
        id: "10de:26b9".parse().expect("id"),
        driver: Some("nvidia".to_owned()),
        backend: BackendKind::Sriov,
        vfs_total: 32,
        variant_driver: Some("nvidia".to_owned()),
        vf_room: Some(true),
        grouped: true,
        strangers: Vec::new(),
    };
    let daemon =
        Daemon { name: "libvirtd".to_owned(), looked: Some(200), locked_limit: Some(65536), may_raise: true };
    Observations {
        cpu: Cpu::Intel,
        iommu_units: 2,
        iommu_table: true,
        gpus: vec![gpu],
        modules: vec!["nvidia".to_owned()],
        vfio_pci: true,
        nvidia_manager: true,
        nvidia_services: vec!["nvidia-vgpu-mgr".to_owned()],
        libvirt: "11.3.0".parse().ok(),
        daemons: vec![daemon],
        hook: Some(Hook { runs: true, since: Some(100) }),
        udev_rule: true,
        service: true,
        ..Observations::default()
    }
}

fn checks(change: impl FnOnce(&mut Observations)) -> Vec<String> {
    let mut seen = healthy();
    change(&mut seen);
    let found = judge(&seen);
    for one in &found {
        assert!(!one.seen.is_empty() && !one.breaks.is_empty() && !one.cure.is_empty(), "{one:?}");
        assert!(!one.seen.ends_with('.') && !one.cure.ends_with('.'), "{one:?}");
    }
    found.into_iter().map(|one| one.check).collect()
}

fn amd(seen: &mut Observations, count: usize) {
    let mut card = seen.gpus.remove(0);
    (card.id, card.driver, card.variant_driver) =
        ("1002:74a1".parse().expect("id"), Some("amdgpu".to_owned()), None);
    seen.gpus = vec![card; count];
    seen.modules = vec!["gim".to_owned(), "amdgpu".to_owned()];
}

#[test]
fn a_healthy_host_has_nothing() {
    assert_eq!(checks(|_| ()), Vec::<String>::new());
    assert_eq!(checks(|seen| seen.cpu = Cpu::Amd), Vec::<String>::new());
}

#[test]
fn each_ailment_is_found() {
    assert_eq!(checks(|seen| seen.iommu_units = 0), ["iommu"]);
    assert_eq!(checks(|seen| seen.gpus[0].grouped = false), ["iommu-group"]);
    assert_eq!(checks(|seen| seen.gpus[0].strangers = vec!["0000:42:00.0".to_owned()]), ["group-width"]);
    assert_eq!(checks(|seen| seen.vfio_pci = false), ["vfio"]);
    assert_eq!(checks(|seen| seen.unsafe_interrupts = true), ["interrupt-remapping"]);
    assert_eq!(checks(|seen| seen.gpus[0].vf_room = Some(false)), ["vf-bars"]);
    assert_eq!(checks(|seen| seen.gpus[0].driver = Some("nouveau".to_owned())), ["nouveau"]);
    assert_eq!(checks(|seen| seen.nvidia_manager = false), ["nvidia-manager"]);
    assert_eq!(checks(|seen| seen.nvidia_services.clear()), ["nvidia-services"]);
    assert_eq!(checks(|seen| seen.libvirt = None), ["libvirt"]);
    assert_eq!(checks(|seen| seen.libvirt = "9.0.0".parse().ok()), ["libvirt"]);
    assert_eq!(checks(|seen| seen.libvirt = "6.0.0".parse().ok()), ["libvirt", "libvirt"]);
    assert_eq!(checks(|seen| seen.hook = None), ["hook"]);
    assert_eq!(checks(|seen| seen.hook = Some(Hook { runs: false, since: None })), ["hook"]);
    assert_eq!(checks(|seen| seen.daemons[0].looked = Some(99)), ["hook-unseen"]);
    assert_eq!(checks(|seen| seen.daemons[0].looked = None), Vec::<String>::new());
    assert_eq!(checks(|seen| seen.daemons[0].may_raise = false), ["locked-memory"]);
    assert_eq!(checks(|seen| seen.service = false), ["service"]);
    assert_eq!(checks(|seen| seen.udev_rule = false), ["udev-rule"]);
    assert_eq!(checks(|seen| seen.gpus.clear()), ["no-gpu"]);
    assert_eq!(checks(|seen| seen.lockdown = Some("integrity".to_owned())), ["lockdown"]);
    let uuid = "c0ffee00-0000-4000-8000-000000000001".parse().expect("uuid");
    assert_eq!(checks(|seen| seen.made_by_others = vec![(uuid, "mtty".to_owned())]), ["mdevctl"]);
}

#[test]
fn two_drivers_of_one_card_are_found() {
    let ids = || {
        vec![VfioIds {
            file: "/etc/modprobe.d/vfio.conf".to_owned(),
            ids: vec!["10de:26b9".parse().expect("id")],
        }]
    };
    assert_eq!(checks(|seen| seen.vfio_ids = ids()), ["two-drivers"]);
    let kept_apart = |seen: &mut Observations| {
        seen.vfio_ids = ids();
        seen.gpus[0].driver = Some("vfio-pci".to_owned());
        seen.after_vfio = vec!["nvidia".to_owned()];
    };
    assert_eq!(checks(kept_apart), Vec::<String>::new());
    assert_eq!(checks(|seen| amd(seen, 1)), ["amdgpu-gim"]);
    assert_eq!(checks(|seen| amd(seen, 2)), ["amdgpu-gim"]);
    assert_eq!(
        checks(|seen| {
            amd(seen, 2);
            seen.gim_limited = true;
        }),
        Vec::<String>::new()
    );
}

#[test]
fn the_way_to_an_iommu_depends_on_the_processor() {
    let cure = |cpu, table, cmdline: &str| {
        let seen = Observations {
            cpu,
            iommu_units: 0,
            iommu_table: table,
            cmdline: cmdline.to_owned(),
            ..healthy()
        };
        judge(&seen).remove(0).cure
    };
    assert!(cure(Cpu::Intel, true, "quiet").contains("intel_iommu=on"));
    assert!(cure(Cpu::Intel, false, "").contains("VT-d"));
    assert!(cure(Cpu::Amd, false, "").contains("AMD-Vi"));
    assert!(cure(Cpu::Amd, true, "amd_iommu=off").contains("take amd_iommu=off"));
}

fn put(root: &std::path::Path, at: &str, text: &str) {
    let path = root.join(at);
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("directory");
    #[expect(clippy::disallowed_methods, reason = "test fixture")]
    std::fs::write(path, text).expect("fixture");
}

#[test]
fn a_tree_is_read() {
    let dir = tempfile::tempdir().expect("directory");
    let root = dir.path();
    put(root, "proc/cpuinfo", "processor\t: 0\nvendor_id\t: AuthenticAMD\n");
    put(root, "proc/cmdline", "quiet vfio-pci.ids=10de:26b9,10de:22ba\n");
    put(root, "proc/stat", "cpu 1 2 3\nbtime 1000000\n");
    put(root, "proc/77/stat", "77 (lib virt) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4200 20");
    put(root, "proc/77/comm", "libvirtd\n");
    put(
        root,
        "proc/77/limits",
        "Limit Soft Limit\nMax locked memory         65536                65536                bytes\n",
    );
    put(root, "proc/77/status", "Name:\tlibvirtd\nCapEff:\t0000000000000000\n");
    put(root, "run/libvirtd.pid", "77\n");
    put(
        root,
        "etc/modprobe.d/a.conf",
        "# hello\nsoftdep nvidia pre: vfio-pci\noptions gim enabled_devices=\"x\"\n",
    );
    put(root, "sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
    put(root, "sys/class/iommu/ivhd0/x", "");
    put(root, "sys/module/nvidia/x", "");
    put(root, "usr/bin/vgpu-hook", "");
    put(root, "run/vgpud/owned", "c0ffee00-0000-4000-8000-000000000001\n");
    put(root, "etc/mdevctl.d/mtty/c0ffee00-0000-4000-8000-000000000001", "{\"start\":\"auto\"}");
    put(root, "usr/lib/x86_64-linux-gnu/libvirt.so.0.11003.0", "");
    symlink("libvirt.so.0.11003.0", root.join("usr/lib/x86_64-linux-gnu/libvirt.so.0")).expect("link");
    std::fs::create_dir_all(root.join("etc/libvirt/hooks/qemu.d")).expect("directory");
    symlink("/usr/bin/vgpu-hook", root.join("etc/libvirt/hooks/qemu.d/vgpud")).expect("link");
    let sysfs = Sysfs::new(root);
    let seen = read(&sysfs, &scan(&sysfs, &ScanOptions::default()));
    assert_eq!((seen.cpu, seen.iommu_units, seen.libvirt), (Cpu::Amd, 1, "11.3.0".parse().ok()));
    assert_eq!(seen.vfio_ids[0].ids.len(), 2);
    assert_eq!((seen.after_vfio, seen.gim_limited), (vec!["nvidia".to_owned()], true));
    assert_eq!(seen.lockdown.as_deref(), Some("integrity"));
    assert_eq!((seen.modules, seen.vfio_pci), (vec!["nvidia".to_owned()], false));
    let daemon = &seen.daemons[0];
    assert_eq!((daemon.looked, daemon.locked_limit, daemon.may_raise), (Some(1_000_042), Some(65536), false));
    assert!(seen.hook.is_some_and(|hook| hook.runs && hook.since > Some(1_000_042)), "put there now");
    assert_eq!(seen.made_by_others.len(), 1);
}

#[test]
fn an_empty_tree_is_read_without_a_panic() {
    let dir = tempfile::tempdir().expect("directory");
    let sysfs = Sysfs::new(dir.path());
    let seen = read(&sysfs, &scan(&sysfs, &ScanOptions::default()));
    assert!(judge(&seen).iter().any(|one| one.check == "iommu"));
}

#[test]
fn a_gpus_group_and_the_room_of_its_vfs_are_read() {
    let dir = tempfile::tempdir().expect("directory");
    let root = dir.path();
    let zero = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
    let pci = |name: &str, class: &str| {
        let at = format!("sys/devices/pci0000:00/{name}");
        put(root, &format!("{at}/class"), class);
        put(root, &format!("{at}/vendor"), "0x10de\n");
        put(root, &format!("{at}/device"), "0x26b9\n");
        put(root, &format!("{at}/resource"), &zero.repeat(13));
        std::fs::create_dir_all(root.join("sys/bus/pci/devices")).expect("directory");
        symlink(
            format!("../../../devices/pci0000:00/{name}"),
            root.join(format!("sys/bus/pci/devices/{name}")),
        )
        .expect("link");
        put(root, &format!("sys/kernel/iommu_groups/3/devices/{name}"), "");
        symlink("../../../kernel/iommu_groups/3", root.join(format!("{at}/iommu_group"))).expect("link");
    };
    pci("0000:00:03.0", "0x030200\n");
    pci("0000:00:03.1", "0x040300\n");
    pci("0000:00:01.0", "0x060400\n");
    pci("0000:00:04.0", "0x020000\n");
    put(root, "sys/devices/pci0000:00/0000:00:03.0/sriov_totalvfs", "16\n");
    let sysfs = Sysfs::new(root);
    let seen = read(&sysfs, &scan(&sysfs, &ScanOptions::default()));
    let gpu = &seen.gpus[0];
    assert_eq!((gpu.grouped, gpu.vfs_total, gpu.vf_room), (true, 16, Some(false)));
    assert_eq!(gpu.strangers, ["0000:00:04.0"], "neither a bridge nor the card's own sound");
}
