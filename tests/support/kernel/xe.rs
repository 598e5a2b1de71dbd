//! Intel's xe as a PF: what `sriov_admin/` does (k:Documentation/ABI/testing/sysfs-driver-intel-xe-sriov,
//! drivers/gpu/drm/xe/xe_sriov_pf_sysfs.c, xe_sriov_pf_provision.c).

use nix::errno::Errno;

use super::{Answer, Kernel, number};

/// What one VF has, and all of them have in bulk.
const TURNS: [&str; 2] = ["exec_quantum_ms", "preempt_timeout_us"];
const QUOTA: &str = "vram_quota";

impl Kernel {
    /// Directories of all VFs that could be, from 1.
    pub(super) fn add_admin(&mut self, dir: &str, total: u32) {
        for name in TURNS.into_iter().chain([QUOTA]) {
            self.tree.file(&format!("{dir}/sriov_admin/.bulk_profile/{name}"), 0o200, "");
            for vf in 1..=total {
                self.tree.file(&format!("{dir}/sriov_admin/vf{vf}/profile/{name}"), 0o644, "0\n");
            }
        }
        for name in TURNS {
            self.tree.file(&format!("{dir}/sriov_admin/pf/profile/{name}"), 0o644, "0\n");
        }
    }

    /// Writes an attribute of `sriov_admin/`.
    pub(super) fn set_provision(&mut self, path: &str, value: &str) -> Answer {
        let (admin, rest) = path.split_once("/sriov_admin/").ok_or(Errno::EACCES)?;
        let (who, name) = rest.split_once("/").ok_or(Errno::EACCES)?;
        let name = name.trim_start_matches("profile/");
        let amount = number::parse(value)?;
        if TURNS.contains(&name) && u32::try_from(amount).is_err() {
            return Err(Errno::ERANGE);
        }
        let pf = admin.rsplit('/').next().unwrap_or_default().to_owned();
        let sriov = self.pci_spec(&pf).and_then(|spec| spec.sriov.clone()).ok_or(Errno::ENODEV)?;
        // Changed while VFs are there only where the device has the translation table for it.
        if name == QUOTA && !self.vfs_of(&pf).is_empty() {
            return Err(Errno::EBUSY);
        }
        let all = (1..=sriov.total).map(|vf| format!("vf{vf}"));
        let whose: Vec<String> = match who {
            ".bulk_profile" if TURNS.contains(&name) => all.chain(["pf".to_owned()]).collect(),
            ".bulk_profile" => all.collect(),
            one => vec![one.to_owned()],
        };
        for one in whose {
            let path = format!("{admin}/sriov_admin/{one}/profile/{name}");
            if !self.tree.exists(&path) {
                return Err(Errno::ENOENT);
            }
            self.tree.set(&path, format!("{amount}\n"));
        }
        Ok(())
    }

    /// The memory is divided fairly when VFs are made, unless any quota was written by hand; all of it is free again
    /// when they go.
    pub(super) fn divide_vram(&mut self, pf: &str) {
        let Some(sriov) = self.pci_spec(pf).and_then(|spec| spec.sriov.clone()) else { return };
        let Some(bytes) = sriov.vram else { return };
        let dir = self.dir_of(pf);
        let count = u32::try_from(self.vfs_of(pf).len()).expect("few");
        let path = |vf: u32| format!("{dir}/sriov_admin/vf{vf}/profile/{QUOTA}");
        let by_hand = (1..=sriov.total).any(|vf| self.tree.content(&path(vf)) != Some("0\n"));
        if count > 0 && by_hand {
            return;
        }
        for vf in 1..=sriov.total {
            let share = if vf <= count { bytes / u64::from(count) } else { 0 };
            self.tree.set(&path(vf), format!("{share}\n"));
        }
    }
}
