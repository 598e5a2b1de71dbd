//! Simulated GPUs of the lab, and what a guest reads of its slices.

use std::time::Duration;

use crate::guest::Guest;
use crate::host::{Lab, SHORT, is_debian_12};

/// Where the simulated GPUs are, in their order; the others follow two buses apart.
pub(super) const FIRST: &str = "0000:40:00.0";
pub(super) const SECOND: &str = "0000:42:00.0";

/// A guest under emulation lists its devices in its own time.
const LISTED: Duration = Duration::from_secs(400);

impl Lab {
    /// The lab with these GPUs (parameters of the module may follow), once the service lists them; `None` where the kernel is too old for the module.
    pub(super) fn with_gpus(presets: &str) -> Option<Self> {
        if is_debian_12() {
            return None;
        }
        let lab = Self::reset();
        lab.ok(&format!("modprobe vgpu-sim gpus={presets}"));
        lab.wait_gpus(presets.split(',').count());
        Some(lab)
    }

    /// Waits until the service lists so many simulated GPUs.
    #[track_caller]
    pub(super) fn wait_gpus(&self, count: usize) {
        let fact = format!(
            "test $(vgpuctl gpus -o json | jq -r '.gpus[].name' | grep -cE '^0000:[4-9a-f][0-9a-f]:00.0$') = {count}"
        );
        self.wait(&fact, SHORT);
    }

    /// What the vendor's script does: VFs on a GPU.
    #[track_caller]
    pub(super) fn enable_vfs(&self, gpu: &str, count: u32) {
        self.ok(&format!("echo numvfs={count} >/sys/kernel/debug/vgpu_sim/{gpu}/control"));
        assert_eq!(self.vfs_of(gpu), count as usize);
    }

    /// The number of the vGPU type that a VF has.
    #[track_caller]
    pub(super) fn vgpu_type_of(&self, vf: &str) -> String {
        self.ok(&format!("cat /sys/bus/pci/devices/{vf}/nvidia/current_vgpu_type"))
    }

    /// The GPU of a VF, by the kernel's link.
    #[track_caller]
    pub(super) fn gpu_of(&self, vf: &str) -> String {
        self.ok(&format!("basename $(readlink /sys/bus/pci/devices/{vf}/physfn)"))
    }

    /// The vGPUs of a GPU, by the driver's own state: one line each.
    #[track_caller]
    pub(super) fn vgpus_of(&self, gpu: &str) -> Vec<String> {
        let state = self.ok(&format!("grep '^vgpu ' /sys/kernel/debug/vgpu_sim/{gpu}/state || true"));
        state.lines().map(str::to_owned).collect()
    }

    /// Waits until a GPU has no vGPU.
    #[track_caller]
    pub(super) fn wait_no_vgpus(&self, gpu: &str) {
        self.wait(&format!("! grep '^vgpu ' /sys/kernel/debug/vgpu_sim/{gpu}/state"), SHORT);
    }
}

impl Guest<'_> {
    /// Requires that a slice in the guest says all of `words` of itself.
    #[track_caller]
    pub(super) fn assert_reads(&self, words: &[&str]) {
        let slices = self.lab.ok(&format!("lab-guest slices {} --timeout {}", self.name, LISTED.as_secs()));
        let says = |line: &str| words.iter().all(|word| line.split(' ').any(|part| part == *word));
        assert!(slices.lines().any(says), "no slice says {words:?}:\n{slices}");
    }
}
