//! Boots of a host with GPUs of every road: what comes back, what is late, what is missing.

use super::sim::{FIRST, SECOND};
use crate::guest::Guest;
use crate::host::Lab;

/// Every preset; the addresses follow two buses apart. The last has no slices.
const PRESETS: &str = "t4,a40-mdev,l40s-vfio,h100-vfio,arc-b,panther-lake,mi,gpu";

/// Domain and profile, how the profile is asked for, and the GPU.
const PROMISES: [(&str, &str, &str); 7] = [
    ("t4", "--type T4-4Q", FIRST),
    ("a40", "--type A40-4Q", SECOND),
    ("l40s", "--type L40S-4Q", "0000:44:00.0"),
    ("h100", "--type H100-4C", "0000:46:00.0"),
    ("arc", "--vf 8086:e211", "0000:48:00.0"),
    ("lake", "--vf 8086:b080", "0000:4a:00.0"),
    ("mi", "--vf 1002:74b5", "0000:4c:00.0"),
];

/// NVIDIA's VFs come by a unit of the host's admin, before the service.
const ENABLE_VFS: &str =
    "for bus in 42 44 46; do echo numvfs=2 >/sys/kernel/debug/vgpu_sim/0000:$bus:00.0/control || exit; done";

impl Lab {
    /// Has the next boots load the module with every preset, with `first` run before NVIDIA's VFs are made.
    fn boots_with_gpus(&self, parameters: &str, first: &str) {
        self.ok(&format!(
            "echo vgpu-sim >/etc/modules-load.d/vgpu-sim.conf
             echo 'options vgpu-sim gpus={PRESETS} vf_num=2 {parameters}' >/etc/modprobe.d/vgpu-sim-gpus.conf
             cat >/usr/local/sbin/enable-vfs <<'END'\n#!/bin/sh\n{first}\n{ENABLE_VFS}\nEND
             chmod 755 /usr/local/sbin/enable-vfs
             printf '%s\\n' '[Unit]' DefaultDependencies=no Before=vgpud.service \
                 'After=systemd-modules-load.service sys-kernel-debug.mount' \
                 '[Service]' Type=oneshot ExecStart=/usr/local/sbin/enable-vfs \
                 '[Install]' WantedBy=sysinit.target >/etc/systemd/system/nvidia-vfs.service
             systemctl enable nvidia-vfs.service && sync"
        ));
    }

    /// Requires that every promised slice is on its GPU, but for those of the GPU `without`, by the kernel's word and the drivers'.
    #[track_caller]
    fn assert_slices(&self, guests: &[Guest<'_>], without: &str) {
        let promised = guests.iter().zip(&PROMISES).filter(|(_, (_, _, gpu))| *gpu != without);
        for (guest, (name, _, gpu)) in promised {
            let vgpus = self.vgpus_of(gpu);
            match *name {
                "t4" | "a40" => {
                    let uuid = guest.named_mdevs().remove(0);
                    assert!(
                        vgpus.len() == 1 && vgpus[0].ends_with(&format!("mdev={uuid}")),
                        "{name}: {vgpus:?}"
                    );
                }
                "l40s" | "h100" => {
                    let vf = guest.named_vfs().remove(0);
                    assert!(
                        vgpus.len() == 1 && vgpus[0].contains(&format!(" vf={vf} ")),
                        "{name}: {vgpus:?}"
                    );
                }
                _ => {
                    let vf = guest.named_vfs().remove(0);
                    assert_eq!(self.gpu_of(&vf), *gpu);
                    let driver = self.ok(&format!("basename $(readlink /sys/bus/pci/devices/{vf}/driver)"));
                    assert_eq!(driver, "vfio-pci", "{name}");
                }
            }
        }
    }
}

#[test]
fn slices_of_every_road_come_back_after_a_boot_also_without_a_gpu_and_with_a_late_one() {
    let Some(lab) = Lab::with_gpus(&format!("{PRESETS} vf_num=2")) else { return };
    lab.ok(&format!("bash -c '{ENABLE_VFS}'"));
    for gpu in ["48", "4a", "4c"] {
        lab.ok(&format!("vgpuctl vfs set {gpu}:00.0 2"));
    }
    let guests = PROMISES.map(|(name, wish, _)| {
        lab.ok(&format!("vgpuctl profile create {name} {wish}"));
        let guest = lab.guest(name);
        lab.ok(&format!("vgpuctl attach {name} --profile {name} --mode guaranteed"));
        guest
    });
    lab.assert_slices(&guests, "");

    lab.boots_with_gpus("", "");
    lab.reboot();
    lab.wait_booted();
    lab.wait_report_done();
    lab.assert_slices(&guests, "");

    // The T4 is gone, and the A40 shows its types 20 s after its VFs.
    lab.boots_with_gpus(
        "types_delay_ms=20000",
        &format!("echo vanish=1 >/sys/kernel/debug/vgpu_sim/{FIRST}/faults"),
    );
    lab.reboot();
    lab.wait_booted();
    lab.wait_step("slice", SECOND, "done");
    lab.wait_step("slice", FIRST, "waiting");
    lab.assert_slices(&guests, FIRST);
    let gave_up = lab.ok("vgpuctl boot-report -o json | jq -r '.gave_up[]'");
    assert!(gave_up.contains(&format!("domain t4 on pci:{FIRST}")), "{gave_up}");
}
