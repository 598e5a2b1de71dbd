//! The judgement: observations in, ailments out. Pure.

use super::{Ailment, Cpu, Daemon, Function, Observations};
use crate::model::LibvirtVersion;
use crate::model::Severity::{self, Error, Note, Warning};

const NVIDIA: u16 = 0x10de;
const AMD: u16 = 0x1002;

/// Says what is wrong; the worst first.
#[must_use]
pub fn judge(seen: &Observations) -> Vec<Ailment> {
    let checks =
        [iommu, groups, vfio, vf_room, nvidia, claims, libvirt, hook, limits, service, kernel, mdevctl];
    let mut found: Vec<Ailment> = checks.iter().flat_map(|check| check(seen)).collect();
    found.sort_by_key(|ailment| std::cmp::Reverse(ailment.severity));
    found
}

fn ailment(severity: Severity, check: &str, seen: String, breaks: &str, cure: String) -> Ailment {
    Ailment { severity, check: check.to_owned(), seen, breaks: breaks.to_owned(), cure }
}

fn has(seen: &Observations, module: &str) -> bool {
    seen.modules.iter().any(|one| one == module)
}

fn iommu(seen: &Observations) -> Vec<Ailment> {
    const BREAKS: &str = "virtual functions and whole GPUs cannot be given to guests; mediated devices can";
    if seen.iommu_units > 0 {
        let bare: Vec<String> =
            seen.gpus.iter().filter(|gpu| !gpu.grouped).map(|gpu| gpu.address.to_string()).collect();
        let text = format!("the IOMMU is on, but {} has no group", bare.join(", "));
        let cure = "look for the device in: dmesg | grep -i -e DMAR -e AMD-Vi".to_owned();
        let some = (!bare.is_empty()).then(|| ailment(Warning, "iommu-group", text, BREAKS, cure));
        return some.into_iter().collect();
    }
    let needs = seen.gpus.iter().any(|gpu| gpu.vfs_total > 0);
    let severity = if needs { Error } else { Warning };
    let off = seen
        .cmdline
        .split_whitespace()
        .find(|word| matches!(*word, "intel_iommu=off" | "amd_iommu=off" | "iommu=off"));
    let (text, cure) = match (off, seen.iommu_table, seen.cpu) {
        (Some(word), ..) => (
            format!("no IOMMU: the kernel was started with {word}"),
            format!("take {word} from the kernel's command line, then reboot"),
        ),
        (None, false, Cpu::Amd) => (
            "no IOMMU: the firmware describes none (no ACPI table IVRS)".to_owned(),
            "switch IOMMU (AMD-Vi) and SVM on in the firmware's set-up".to_owned(),
        ),
        (None, false, _) => (
            "no IOMMU: the firmware describes none (no ACPI table DMAR)".to_owned(),
            "switch VT-d on in the firmware's set-up".to_owned(),
        ),
        (None, true, Cpu::Intel) => (
            "no IOMMU: the firmware has one, the kernel does not use it".to_owned(),
            "add intel_iommu=on to the kernel's command line, then reboot".to_owned(),
        ),
        (None, true, _) => (
            "no IOMMU: the firmware has one, the kernel does not use it".to_owned(),
            "see why: dmesg | grep -i -e AMD-Vi -e iommu".to_owned(),
        ),
    };
    vec![ailment(severity, "iommu", text, BREAKS, cure)]
}

fn groups(seen: &Observations) -> Vec<Ailment> {
    let wide = seen.gpus.iter().filter(|gpu| !gpu.strangers.is_empty());
    wide.map(|gpu| {
        ailment(
            Warning,
            "group-width",
            format!("{} shares its IOMMU group with {}", gpu.address, gpu.strangers.join(", ")),
            "the whole GPU goes to a guest only together with all of them: a bridge on the way has no ACS",
            "use another slot, or switch ACS on in the firmware's set-up; VFs with groups of their own are not concerned".to_owned(),
        )
    })
    .collect()
}

fn vfio(seen: &Observations) -> Vec<Ailment> {
    let mut found = Vec::new();
    if !seen.vfio_pci {
        let text = "the module vfio-pci is not loaded and not there to be loaded".to_owned();
        let cure =
            "install the kernel's extra modules (linux-modules-extra on Ubuntu), then: modprobe vfio-pci";
        found.push(ailment(Error, "vfio", text, "no device can be given to a guest", cure.to_owned()));
    }
    if seen.unsafe_interrupts {
        let text = "vfio_iommu_type1 has allow_unsafe_interrupts=Y".to_owned();
        let cure =
            "switch interrupt remapping on in the firmware's set-up (x2APIC), and take the option away";
        let breaks = "a guest with a device can send any interrupt to the host";
        found.push(ailment(Note, "interrupt-remapping", text, breaks, cure.to_owned()));
    }
    found
}

fn vf_room(seen: &Observations) -> Vec<Ailment> {
    let without = seen.gpus.iter().filter(|gpu| gpu.vfs_total > 0 && gpu.vf_room == Some(false));
    without
        .map(|gpu| {
            ailment(
                Error,
                "vf-bars",
                format!("{} has no memory assigned for its {} VFs (resource: all zero)", gpu.address, gpu.vfs_total),
                "enabling VFs fails with \"not enough MMIO resources for SR-IOV\"",
                "switch \"Above 4G decoding\" and SR-IOV on in the firmware's set-up; else try the kernel option pci=realloc".to_owned(),
            )
        })
        .collect()
}

fn nvidia(seen: &Observations) -> Vec<Ailment> {
    let mut found = Vec::new();
    let cards: Vec<&Function> = seen.gpus.iter().filter(|gpu| gpu.id.vendor == NVIDIA).collect();
    for gpu in cards.iter().filter(|gpu| gpu.driver.as_deref() == Some("nouveau")) {
        found.push(ailment(
            Error,
            "nouveau",
            format!("{} is on nouveau", gpu.address),
            "NVIDIA's host driver cannot take it, and nouveau makes no slices",
            "echo 'blacklist nouveau' >/etc/modprobe.d/no-nouveau.conf, then update-initramfs -u (or dracut -f) and reboot".to_owned(),
        ));
    }
    let driven = cards.iter().any(|gpu| gpu.driver.as_deref() == Some("nvidia"));
    if !driven {
        return found;
    }
    let breaks = "the driver offers no vGPU types";
    if !seen.nvidia_manager {
        let text = "driver nvidia is loaded, but NVIDIA's vGPU manager is not installed".to_owned();
        let cure =
            "install the vGPU host driver (the -vgpu-kvm package), not the one for desktops".to_owned();
        found.push(ailment(Error, "nvidia-manager", text, breaks, cure));
        return found;
    }
    for service in ["nvidia-vgpud", "nvidia-vgpu-mgr"] {
        // vgpud ends by itself when it has announced the types.
        let needed = service == "nvidia-vgpu-mgr";
        if needed && !seen.nvidia_services.iter().any(|one| one == service) {
            let text = format!("{service}.service does not run");
            let cure = format!("systemctl enable --now nvidia-vgpud {service}; journalctl -u {service}");
            found.push(ailment(Error, "nvidia-services", text, "guests with vGPUs do not start", cure));
        }
    }
    found
}

fn claims(seen: &Observations) -> Vec<Ailment> {
    let mut found = Vec::new();
    let amd = || seen.gpus.iter().filter(|gpu| gpu.id.vendor == AMD);
    if has(seen, "gim") && has(seen, "amdgpu") && amd().count() > 1 && !seen.gim_limited {
        found.push(ailment(
            Warning,
            "amdgpu-gim",
            "gim and amdgpu are both loaded, and gim's enabled_devices is empty".to_owned(),
            "which of the two has which AMD GPU is decided by the order of loading",
            "options gim enabled_devices=\"ssss:bb:dd.f\" in /etc/modprobe.d/gim.conf, with the cards that gim shall have".to_owned(),
        ));
    } else if has(seen, "gim")
        && amd().any(|gpu| gpu.driver.as_deref() == Some("amdgpu"))
        && amd().count() == 1
    {
        found.push(ailment(
            Error,
            "amdgpu-gim",
            "gim is loaded, and amdgpu has the AMD GPU".to_owned(),
            "gim makes no VFs on it",
            "echo 'blacklist amdgpu' >/etc/modprobe.d/no-amdgpu.conf, then rebuild the initramfs and reboot"
                .to_owned(),
        ));
    }
    for gpu in &seen.gpus {
        let listed = seen.vfio_ids.iter().find(|one| one.ids.contains(&gpu.id));
        let (Some(listed), Some(driver)) = (listed, vendor_driver(gpu)) else { continue };
        let twins = seen.gpus.iter().filter(|other| other.id == gpu.id).count();
        if gpu.driver.as_deref() == Some(driver)
            || (has(seen, driver) && !is_after(seen, driver))
            || twins > 1
        {
            found.push(claimed(gpu, driver, &listed.file, twins));
        }
    }
    found
}

fn is_after(seen: &Observations, driver: &str) -> bool {
    seen.after_vfio.iter().any(|one| one == driver)
}

fn vendor_driver(gpu: &Function) -> Option<&'static str> {
    match gpu.id.vendor {
        NVIDIA => Some("nvidia"),
        AMD => Some("amdgpu"),
        0x8086 => Some("xe"),
        _ => None,
    }
}

fn claimed(gpu: &Function, driver: &str, file: &str, twins: usize) -> Ailment {
    let cure = if twins > 1 {
        format!(
            "take the id from {file}; keep one card by its address: echo vfio-pci >/sys/bus/pci/devices/{}/driver_override before {driver} loads",
            gpu.address
        )
    } else {
        format!(
            "softdep {driver} pre: vfio-pci in /etc/modprobe.d/vfio.conf keeps them apart; or take the id from {file}"
        )
    };
    ailment(
        Warning,
        "two-drivers",
        format!("vfio-pci takes {} by id ({file}), and {driver} drives it as well: {}", gpu.id, gpu.address),
        "which of the two has it is decided by the order of loading, and all cards with this id are meant",
        cure,
    )
}

fn libvirt(seen: &Observations) -> Vec<Ailment> {
    let Some(here) = seen.libvirt else {
        let cure =
            "apt install libvirt-daemon-system (Debian), dnf install libvirt-daemon-kvm (Fedora)".to_owned();
        return vec![ailment(
            Warning,
            "libvirt",
            "no libvirt is installed".to_owned(),
            "there are no domains",
            cure,
        )];
    };
    let mut found = Vec::new();
    let cure = "install a newer libvirt: Debian 13 and the backports of Debian 12 have one".to_owned();
    if here < LibvirtVersion::HOOK_DIRECTORY {
        let text = format!(
            "libvirt {here} does not look into hooks/qemu.d; {} does",
            LibvirtVersion::HOOK_DIRECTORY
        );
        found.push(ailment(Error, "libvirt", text, "no slice is made when a domain starts", cure.clone()));
    }
    let variant = seen.gpus.iter().find_map(|gpu| Some((gpu, gpu.variant_driver.as_ref()?)));
    if let Some((gpu, driver)) = variant.filter(|(_, driver)| !here.takes_vf_on(driver)) {
        let text = format!(
            "libvirt {here} takes VFs on vfio-pci only, and those of {} are on {driver}; {} takes them",
            gpu.address,
            LibvirtVersion::VARIANT_DRIVERS
        );
        found.push(ailment(Error, "libvirt", text, "these VFs cannot be given to guests", cure));
    }
    found
}

fn hook(seen: &Observations) -> Vec<Ailment> {
    const BREAKS: &str = "domains with slices of vgpud's do not start: nobody makes the slice";
    let hint = "scripts/install puts it there";
    let Some(hook) = seen.hook else {
        let text = "there is no hook in /etc/libvirt/hooks/qemu.d/vgpud".to_owned();
        return vec![ailment(Error, "hook", text, BREAKS, hint.to_owned())];
    };
    if !hook.runs {
        let text = "/etc/libvirt/hooks/qemu.d/vgpud leads to no program".to_owned();
        return vec![ailment(Error, "hook", text, BREAKS, hint.to_owned())];
    }
    let unseen = seen
        .daemons
        .iter()
        .filter(|daemon| hook.since.zip(daemon.looked).is_some_and(|(hook, looked)| looked < hook));
    unseen
        .map(|daemon| {
            let text = format!(
                "{} started before the first hook was put there; whether it was reloaded since cannot be seen from outside",
                daemon.name
            );
            let breaks = format!("unless it was: {BREAKS}");
            let cure = format!("systemctl restart {}, to be sure; running guests go on", daemon.name);
            ailment(Warning, "hook-unseen", text, &breaks, cure)
        })
        .collect()
}

fn limits(seen: &Observations) -> Vec<Ailment> {
    /// Less than any guest has.
    const LITTLE: u64 = 1 << 30;
    let tight =
        |daemon: &&Daemon| !daemon.may_raise && daemon.locked_limit.is_some_and(|limit| limit < LITTLE);
    let found = seen.daemons.iter().filter(tight).map(|daemon| {
        let limit = daemon.locked_limit.unwrap_or_default() / 1024;
        ailment(
            Error,
            "locked-memory",
            format!("{} may lock {limit} KiB and not raise that (no CAP_SYS_RESOURCE)", daemon.name),
            "VFIO pins a guest's memory, and mapping it fails",
            format!(
                "LimitMEMLOCK=infinity below [Service] with: systemctl edit {0}; then systemctl restart {0}",
                daemon.name
            ),
        )
    });
    found.collect()
}

fn service(seen: &Observations) -> Vec<Ailment> {
    let mut found = Vec::new();
    if !seen.service {
        let text = "vgpud does not listen on its socket".to_owned();
        let breaks = "domains with slices of vgpud's do not start; others do";
        found.push(ailment(
            Error,
            "service",
            text,
            breaks,
            "systemctl enable --now vgpud; journalctl -u vgpud".to_owned(),
        ));
    }
    if !seen.udev_rule {
        let text = "90-vgpud.rules is in no directory of udev's rules".to_owned();
        let breaks = "GPUs that appear late after a boot are waited for in vain";
        found.push(ailment(Warning, "udev-rule", text, breaks, "scripts/install puts it there".to_owned()));
    }
    if seen.gpus.is_empty() {
        let text = "no GPU was found".to_owned();
        let cure = "lspci -nn -d ::0300; other PFs are listed in devices.include of vgpud.toml".to_owned();
        found.push(ailment(Warning, "no-gpu", text, "there is nothing to make slices on", cure));
    }
    found
}

fn kernel(seen: &Observations) -> Vec<Ailment> {
    let Some(lockdown) = &seen.lockdown else { return Vec::new() };
    let text = format!("the kernel is locked down ({lockdown})");
    let breaks =
        "debugfs is closed: older xe drivers take quotas of VFs nowhere else; unsigned modules do not load";
    let cure = "sign the vendor's modules (mokutil --import), or switch Secure Boot off".to_owned();
    vec![ailment(Note, "lockdown", text, breaks, cure)]
}

fn mdevctl(seen: &Observations) -> Vec<Ailment> {
    let found = seen.made_by_others.iter().map(|(uuid, parent)| {
        ailment(
            Warning,
            "mdevctl",
            format!("mdevctl has a definition of {uuid} on {parent}, and that mdev is promised by vgpud"),
            "whoever is first makes it; when that is mdevctl, the domain's start is refused",
            format!("mdevctl undefine --uuid {uuid}"),
        )
    });
    found.collect()
}
