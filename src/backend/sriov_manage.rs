//! VFs of a PF on driver `nvidia`: made and unmade by NVIDIA's own script only. A raw write of `sriov_numvfs` is
//! refused by that driver.
//!
//! The script takes the GPU's unbind lock, which no process may hold off by having the GPU open: the service's own
//! session of NVML is ended before. It gives the PF to its driver anew, so that mixed-size mode, GPU instances and the
//! scheduler's settings are lost; it makes all VFs or none. Source: NVIDIA's vGPU guides, "Preparing the Virtual
//! Function for a GPU that supports SR-IOV"; what it loses was measured by users of it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::backend::error::{Act, StepError};
use crate::backend::nvidia_vfio;
use crate::model::{Holder, PciAddress, one_line};
use crate::sysfs::Sysfs;

/// Where NVIDIA's packages put it: that of its own installer, and that of distributions.
pub const PLACES: [&str; 2] = ["usr/lib/nvidia/sriov-manage", "usr/bin/sriov-manage"];

/// The search path of the script: it calls the tools of every system.
const SEARCH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Most characters of what the script said that go into a message.
const MOST_SAID: usize = 300;

/// Finds the script below `root`.
#[must_use]
pub fn find(root: &Path) -> Option<PathBuf> {
    PLACES.iter().map(|place| root.join(place)).find(|path| path.is_file())
}

/// Has the script make all VFs of `pf`, or take them away.
///
/// # Errors
/// [`StepError::AllOrNone`] and [`StepError::Held`] before anything changes; [`StepError::NoDriver`] without a
/// script; [`StepError::Script`] with what it said.
pub(super) fn change(
    sysfs: &Sysfs,
    act: &Act,
    vfs: &[PciAddress],
    total: u32,
    script: Option<&Path>,
) -> Result<(), StepError> {
    let Act::SetVfs { pf, count } = act else { return Ok(()) };
    if *count != 0 && *count != total {
        return Err(StepError::AllOrNone { pf: *pf, count: *count, total });
    }
    for vf in vfs {
        let current = nvidia_vfio::scan_vf(sysfs, *vf).and_then(|(slot, _)| slot.current);
        if let Some(vgpu_type) = current {
            let name = format!("vGPU {vgpu_type}, which exists on it");
            let holders = vec![Holder { pid: 0, domain: None, name }];
            return Err(StepError::Held { device: format!("VF {vf}"), holders });
        }
    }
    let script = script.ok_or_else(|| StepError::NoDriver {
        act: act.clone(),
        reason: "driver nvidia makes VFs only through its own script, sriov-manage, and that was not found"
            .to_owned(),
    })?;
    run(script, *pf, *count)
}

fn run(script: &Path, pf: PciAddress, count: u32) -> Result<(), StepError> {
    let flag = if count == 0 { "-d" } else { "-e" };
    #[expect(clippy::disallowed_methods, reason = "the vendor gives no other way; this runs in a helper")]
    let mut command = std::process::Command::new(script);
    command.arg(flag).arg(pf.to_string()).env_clear().env("PATH", SEARCH).stdin(Stdio::null());
    let failed = |how: String, said: &str| StepError::Script {
        pf,
        count,
        how: format!("{} {how}", script.display()),
        said: one_line(said.trim(), MOST_SAID),
    };
    match command.output() {
        Err(error) => Err(failed(format!("could not be run: {error}"), "")),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = if output.stderr.trim_ascii().is_empty() { output.stdout } else { output.stderr };
            Err(failed(format!("ended with {}", output.status), &String::from_utf8_lossy(&said)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::model::Kind;

    fn act(count: u32) -> Act {
        Act::SetVfs { pf: "0000:41:00.0".parse().expect("an address"), count }
    }

    fn script(root: &Path, text: &str) -> PathBuf {
        let path = root.join(PLACES[0]);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("directory");
        #[expect(clippy::disallowed_methods, reason = "test fixture")]
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("script");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode");
        path
    }

    #[test]
    fn the_script_is_found_where_packages_put_it() {
        let root = tempfile::tempdir().expect("directory");
        assert_eq!(find(root.path()), None);
        let path = script(root.path(), "true");
        assert_eq!(find(root.path()), Some(path));
    }

    #[test]
    fn it_is_called_with_the_direction_and_the_address() {
        let root = tempfile::tempdir().expect("directory");
        let sysfs = Sysfs::new(root.path());
        let path = script(root.path(), "echo \"$1 $2\" >\"$0.said\"");
        change(&sysfs, &act(8), &[], 8, Some(&path)).expect("enables");
        let said = || sysfs.read(&format!("{}.said", PLACES[0])).expect("was called");
        assert_eq!(said(), "-e 0000:41:00.0");
        change(&sysfs, &act(0), &[], 8, Some(&path)).expect("disables");
        assert_eq!(said(), "-d 0000:41:00.0");
    }

    #[test]
    fn what_it_says_is_told_and_a_taken_lock_is_a_matter_of_time() {
        let root = tempfile::tempdir().expect("directory");
        let sysfs = Sysfs::new(root.path());
        let path = script(root.path(), "echo 'Cannot obtain unbindLock for it' >&2; exit 1");
        let error = change(&sysfs, &act(8), &[], 8, Some(&path)).expect_err("refuses");
        assert_eq!(error.kind(), Kind::Busy);
        let refusal = error.refusal();
        assert!(refusal.message.contains("Cannot obtain unbindLock"), "{refusal}");
        assert!(refusal.hints[0].contains("nvidia-persistenced"), "{refusal:?}");
        let path = script(root.path(), "echo no such GPU; exit 3");
        let error = change(&sysfs, &act(8), &[], 8, Some(&path)).expect_err("fails");
        assert_eq!(error.kind(), Kind::HostFault);
        assert!(error.refusal().message.ends_with("exit status: 3: no such GPU"), "{}", error.refusal());
    }

    #[test]
    fn a_missing_script_and_a_partial_count_are_explained() {
        let sysfs = Sysfs::new("/nowhere");
        let error = change(&sysfs, &act(8), &[], 8, None).expect_err("there is none");
        let refusal = error.refusal();
        assert!(refusal.message.contains("sriov-manage, and that was not found"), "{refusal}");
        assert!(refusal.hints[0].contains("[nvidia] sriov_manage"), "{refusal:?}");
        let error = change(&sysfs, &act(3), &[], 8, None).expect_err("all or none");
        assert_eq!(
            (error.kind(), error.to_string()),
            (Kind::Usage, "driver nvidia makes all 8 VFs of 0000:41:00.0 or none, not 3".to_owned())
        );
    }
}
