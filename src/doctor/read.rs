//! The reader. Looks at files only, so that a recorded tree is as good as a host.

use std::os::unix::fs::MetadataExt as _;

use super::{Cpu, Daemon, Function, Hook, Observations, VfioIds};
use crate::domain_xml::OwnedSet;
use crate::inventory::Definitions;
use crate::model::{Device, Gpu, HostSnapshot, LibvirtVersion, PciId};
use crate::sysfs::Sysfs;

/// Modules whose presence decides something.
const MODULES: &[&str] = &["vfio", "vfio_pci", "nvidia", "nouveau", "amdgpu", "gim", "xe", "i915"];

/// Directories of modprobe's configuration.
const MODPROBE: &[&str] = &["etc/modprobe.d", "run/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d"];

/// Where udev finds rules.
const UDEV: &[&str] = &["etc/udev/rules.d", "run/udev/rules.d", "usr/lib/udev/rules.d", "lib/udev/rules.d"];

/// Bit of CAP_SYS_RESOURCE in a set of capabilities.
const SYS_RESOURCE: u64 = 1 << 24;

/// Looks at the host below the root of `sysfs`, of which `snapshot` is a reading.
#[must_use]
pub fn read(sysfs: &Sysfs, snapshot: &HostSnapshot) -> Observations {
    let text = |at: &str| sysfs.read(at).unwrap_or_default();
    let cmdline = text("proc/cmdline");
    let options = Modprobe::read(sysfs, &cmdline);
    let modules: Vec<String> = MODULES
        .iter()
        .filter(|name| sysfs.exists(&format!("sys/module/{name}")))
        .map(ToString::to_string)
        .collect();
    let running = |unit: &&&str| sysfs.exists(&format!("sys/fs/cgroup/system.slice/{unit}.service"));
    let lockdown = text("sys/kernel/security/lockdown");
    Observations {
        cpu: cpu(&text("proc/cpuinfo")),
        iommu_units: sysfs.list_optional("sys/class/iommu").unwrap_or_default().len(),
        iommu_table: ["DMAR", "IVRS"]
            .iter()
            .any(|table| sysfs.exists(&format!("sys/firmware/acpi/tables/{table}"))),
        gpus: snapshot.gpus.iter().filter_map(|gpu| function(sysfs, gpu)).collect(),
        vfio_pci: modules.iter().any(|module| module == "vfio_pci") || vfio_pci_file(sysfs),
        modules,
        unsafe_interrupts: text("sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts") == "Y",
        vfio_ids: options.vfio_ids,
        after_vfio: options.after_vfio,
        gim_limited: options.gim_limited || text("etc/gim_config").contains("enabled_devices"),
        nvidia_manager: ["usr/bin/nvidia-vgpu-mgr", "usr/lib/nvidia/sriov-manage"]
            .iter()
            .any(|at| sysfs.exists(at)),
        nvidia_services: ["nvidia-vgpud", "nvidia-vgpu-mgr"]
            .iter()
            .filter(running)
            .map(ToString::to_string)
            .collect(),
        libvirt: libvirt_version(sysfs),
        daemons: ["libvirtd", "virtqemud"].iter().filter_map(|name| daemon(sysfs, name)).collect(),
        hook: hook(sysfs),
        udev_rule: UDEV.iter().any(|dir| sysfs.exists(&format!("{dir}/90-vgpud.rules"))),
        service: sysfs.exists("run/vgpud/vgpud.sock"),
        lockdown: chosen(&lockdown).filter(|mode| *mode != "none").map(str::to_owned),
        made_by_others: made_by_others(sysfs),
        cmdline,
    }
}

fn cpu(text: &str) -> Cpu {
    let vendor = text.lines().find_map(|line| line.strip_prefix("vendor_id")?.split(':').nth(1));
    match vendor.map(str::trim) {
        Some("GenuineIntel") => Cpu::Intel,
        Some("AuthenticAMD") => Cpu::Amd,
        _ => Cpu::Other,
    }
}

/// Returns what is in brackets: `none [integrity] confidentiality`.
fn chosen(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(mode, _)| mode)
}

fn function(sysfs: &Sysfs, gpu: &Gpu) -> Option<Function> {
    let pci = gpu.pci.as_ref()?;
    let vfs = gpu.sriov.iter().flat_map(|sriov| &sriov.vfs);
    let mut drivers = vfs.filter(|vf| vf.vfio).filter_map(|vf| vf.driver.clone());
    Some(Function {
        address: pci.address,
        id: pci.id,
        driver: gpu.driver.clone(),
        backend: gpu.backend,
        vfs_total: gpu.sriov.as_ref().map_or(0, |sriov| sriov.total),
        variant_driver: drivers.find(|driver| driver != "vfio-pci"),
        vf_room: sysfs.read(&format!("{}/resource", gpu.path)).ok().and_then(|text| vf_room(&text)),
        grouped: gpu.iommu_group.is_some(),
        strangers: gpu.iommu_group.map(|_| strangers(sysfs, gpu)).unwrap_or_default(),
    })
}

/// Lines 7 to 12 of a PF's `resource` are the BARs of its VFs (drivers/pci/pci.h, `PCI_IOV_RESOURCES`); the kernel
/// leaves them at zero when the firmware left no room. `None` when the attribute has fewer lines.
fn vf_room(text: &str) -> Option<bool> {
    let lines: Vec<&str> = text.lines().skip(7).take(6).collect();
    let start = |line: &str| {
        let first = line.split_whitespace().next().and_then(|word| word.strip_prefix("0x"));
        first.and_then(|digits| u64::from_str_radix(digits, 16).ok())
    };
    (lines.len() == 6).then(|| lines.iter().any(|line| start(line).is_some_and(|start| start > 0)))
}

/// What else is in a GPU's group. Bridges and the card's own functions are no obstacle; nor are its VFs a surprise,
/// but they are named, because they cannot go to several guests.
fn strangers(sysfs: &Sysfs, gpu: &Gpu) -> Vec<String> {
    let dir = format!("{}/iommu_group/devices", gpu.path);
    let dir = match gpu.iommu_group {
        Some(group) if !sysfs.exists(&dir) => format!("sys/kernel/iommu_groups/{group}/devices"),
        _ => dir,
    };
    let slot = |name: &str| name.rsplit_once('.').map(|(slot, _)| slot.to_owned());
    let own = gpu.pci.as_ref().and_then(|pci| slot(&pci.address.to_string()));
    let bridge = |name: &str| {
        sysfs.read(&format!("sys/bus/pci/devices/{name}/class")).is_ok_and(|class| class.starts_with("0x06"))
    };
    let names = sysfs.list_optional(&dir).unwrap_or_default();
    names.into_iter().filter(|name| slot(name) != own && !bridge(name)).collect()
}

fn vfio_pci_file(sysfs: &Sysfs) -> bool {
    let Ok(release) = sysfs.read("proc/sys/kernel/osrelease") else { return false };
    let file = |end: &str| format!("lib/modules/{release}/kernel/drivers/vfio/pci/vfio-pci.ko{end}");
    ["", ".xz", ".zst", ".gz"].iter().any(|end| sysfs.exists(&file(end)))
}

/// The library's file name carries the version: `libvirt.so.0.11003.0` is 11.3.0.
fn libvirt_version(sysfs: &Sysfs) -> Option<LibvirtVersion> {
    let mut dirs = vec!["usr/lib64".to_owned(), "usr/lib".to_owned()];
    let below = sysfs.list_optional("usr/lib").unwrap_or_default();
    dirs.extend(
        below.into_iter().filter(|name| name.contains("-linux-gnu")).map(|name| format!("usr/lib/{name}")),
    );
    let number = dirs.iter().find_map(|dir| {
        let name = sysfs.link_name(&format!("{dir}/libvirt.so.0"))?;
        name.strip_prefix("libvirt.so.0.")?.split('.').next()?.parse::<u32>().ok()
    })?;
    number.checked_mul(1000).map(LibvirtVersion::new)
}

fn daemon(sysfs: &Sysfs, name: &str) -> Option<Daemon> {
    let pid: u32 = sysfs.read(&format!("run/{name}.pid")).ok()?.parse().ok()?;
    let comm = sysfs.read(&format!("proc/{pid}/comm")).ok()?;
    if comm != *name {
        return None;
    }
    let limits = sysfs.read(&format!("proc/{pid}/limits")).unwrap_or_default();
    let locked = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
    let status = sysfs.read(&format!("proc/{pid}/status")).unwrap_or_default();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:")).map(str::trim);
    let capabilities = capabilities.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    Some(Daemon {
        name: (*name).to_owned(),
        looked: started(sysfs, pid),
        locked_limit: locked.and_then(|rest| rest.split_whitespace().next()?.parse().ok()),
        may_raise: capabilities.is_none_or(|set| set & SYS_RESOURCE != 0),
    })
}

/// Returns when a process started, in seconds since the epoch: field 22 of its `stat` counts hundredths of a second
/// since the boot (proc_pid_stat(5); USER_HZ is 100 on all Linux).
fn started(sysfs: &Sysfs, pid: u32) -> Option<i64> {
    let stat = sysfs.read(&format!("proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks: i64 = rest.split_whitespace().nth(19)?.parse().ok()?;
    let boot = sysfs.read("proc/stat").ok()?;
    let boot: i64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + ticks / 100)
}

fn hook(sysfs: &Sysfs) -> Option<Hook> {
    const OURS: &str = "etc/libvirt/hooks/qemu.d/vgpud";
    std::fs::symlink_metadata(sysfs.path(OURS)).ok()?;
    let names = sysfs.list_optional("etc/libvirt/hooks/qemu.d").unwrap_or_default();
    let mut hooks: Vec<String> =
        names.into_iter().map(|name| format!("etc/libvirt/hooks/qemu.d/{name}")).collect();
    hooks.push("etc/libvirt/hooks/qemu".to_owned());
    let since = |at: &String| std::fs::symlink_metadata(sysfs.path(at)).ok().map(|data| data.ctime());
    // The link's target is a path of the host, which below another root leads elsewhere.
    let runs = match sysfs.link(OURS).ok().flatten() {
        Some(target) if target.starts_with('/') => sysfs.exists(&target),
        _ => sysfs.exists(OURS),
    };
    Some(Hook { runs, since: hooks.iter().filter_map(since).min() })
}

fn made_by_others(sysfs: &Sysfs) -> Vec<(crate::model::MdevUuid, String)> {
    let owned = OwnedSet::parse(&sysfs.read("run/vgpud/owned").unwrap_or_default());
    let definitions = Definitions::read(sysfs);
    let mut found = Vec::new();
    for device in owned.iter() {
        if let Device::Mdev(uuid) = device {
            found.extend(definitions.of(uuid).iter().map(|one| (uuid, one.parent.to_string())));
        }
    }
    found
}

/// What modprobe is told.
#[derive(Default)]
struct Modprobe {
    vfio_ids: Vec<VfioIds>,
    after_vfio: Vec<String>,
    gim_limited: bool,
}

impl Modprobe {
    fn read(sysfs: &Sysfs, cmdline: &str) -> Self {
        let mut found = Self::default();
        let on_line = cmdline.split_whitespace().find_map(|word| word.strip_prefix("vfio-pci.ids="));
        found.ids("the kernel's command line", on_line.unwrap_or_default());
        for dir in MODPROBE {
            for name in
                sysfs.list_optional(dir).unwrap_or_default().iter().filter(|name| name.ends_with(".conf"))
            {
                let file = format!("{dir}/{name}");
                for line in sysfs.read(&file).unwrap_or_default().lines() {
                    found.line(&format!("/{file}"), &line.split_whitespace().collect::<Vec<_>>());
                }
            }
        }
        found
    }

    fn line(&mut self, file: &str, words: &[&str]) {
        match words {
            ["options", "vfio-pci" | "vfio_pci", options @ ..] => {
                let ids = options.iter().find_map(|option| option.strip_prefix("ids="));
                self.ids(file, ids.unwrap_or_default());
            }
            ["options", "gim", options @ ..] => {
                self.gim_limited |= options.iter().any(|option| option.starts_with("enabled_devices="));
            }
            ["softdep", driver, "pre:", rest @ ..]
                if rest.contains(&"vfio-pci") || rest.contains(&"vfio_pci") =>
            {
                self.after_vfio.push((*driver).to_owned());
            }
            _ => {}
        }
    }

    fn ids(&mut self, file: &str, text: &str) {
        // vvvv:dddd, then perhaps subsystem ids, which narrow it down further.
        let id = |text: &str| text.splitn(3, ':').take(2).collect::<Vec<_>>().join(":").parse::<PciId>().ok();
        let ids: Vec<PciId> = text.trim_matches('"').split(',').filter_map(id).collect();
        if !ids.is_empty() {
            self.vfio_ids.push(VfioIds { file: file.to_owned(), ids });
        }
    }
}
