//! Rendering and AI kept apart on two GPUs, and let together when the GPUs of one are full.

use super::sim::{FIRST, SECOND};
use crate::guest::Guest;
use crate::host::Lab;

/// The GPU of a guest's slice, by the kernel's link.
#[track_caller]
fn gpu(guest: &Guest<'_>) -> String {
    let uuid = guest.named_mdevs().remove(0);
    guest.assert_holds(&uuid);
    guest.lab.ok(&format!("basename $(dirname $(readlink -f /sys/bus/mdev/devices/{uuid}))"))
}

#[test]
fn rendering_and_ai_share_no_gpu_unless_overflow_is_allowed() {
    let Some(lab) = Lab::with_gpus("t4,t4") else { return };
    lab.ok("mkdir -p /etc/vgpud && printf '[placement]\\nseparate = [[\"render\", \"ai\"]]\\n' >/etc/vgpud/vgpud.toml && sync
            systemctl restart vgpud");
    lab.wait_gpus(2);
    for class in ["render", "ai"] {
        lab.ok(&format!("vgpuctl profile create {class} --type T4-8Q --class {class}"));
    }
    // Two slices of this size fill a GPU.
    let [r1, a1, r2, r3, a2, a3] =
        [("r1", "render"), ("a1", "ai"), ("r2", "render"), ("r3", "render"), ("a2", "ai"), ("a3", "ai")].map(
            |(name, class)| {
                let guest = lab.guest(name);
                guest.attach(class);
                guest
            },
        );
    r1.start();
    a1.start();
    r2.start();
    let (rendering, ai) = (gpu(&r1), gpu(&a1));
    assert_ne!(rendering, ai);
    assert_eq!(gpu(&r2), rendering, "a class stays where it is");
    assert!([FIRST, SECOND].contains(&rendering.as_str()));
    r3.try_start().refused(&["r3", "ai"]);
    assert_eq!(lab.vgpus_of(&ai).len(), 1, "nothing was made beside the other class");

    lab.ok("vgpuctl profile edit render --overflow on");
    r3.start();
    assert_eq!(gpu(&r3), ai, "both on one, when the other is full");
    r3.assert_reads(&[&format!("pf={ai}"), "fb_mib=8192"]);
    a2.try_start().refused(&["a2"]);

    // AI may not, also when there is room beside rendering only.
    r2.destroy();
    lab.wait(
        &format!("test $(grep -c '^vgpu ' /sys/kernel/debug/vgpu_sim/{rendering}/state) = 1"),
        crate::host::SHORT,
    );
    a3.try_start().refused(&["a3", "render"]);
    assert_eq!(lab.vgpus_of(&rendering).len(), 1);
    for guest in [&r1, &a1, &r3] {
        guest.destroy();
    }
    lab.wait_no_mdevs();
    lab.wait_agreement(&[]);
}
