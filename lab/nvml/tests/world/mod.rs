//! A directory of simulated GPUs for one test. The library learns of it by the environment, which is
//! the process's: so each test that calls the library runs in a process of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

/// An L40S with its VFs, on which nothing exists.
pub(crate) const L40S: &str = "\
board=NVIDIA L40S
preset=l40s-vfio
uuid=GPU-11111111-aaaa-bbbb-cccc-000000000001
framebuffer_mib=49152
mode=equal
mig=0
scheduler=best-effort
time_slice_ns=0
vfs=32
type id=1145 fb_mib=1024 max=32 gi_profile=- name=NVIDIA L40S-1B
type id=1150 fb_mib=4096 max=12 gi_profile=- name=NVIDIA L40S-4Q
type id=1155 fb_mib=8192 max=6 gi_profile=- name=NVIDIA L40S-8Q
type id=1157 fb_mib=16384 max=3 gi_profile=- name=NVIDIA L40S-16Q
";

/// Where the L40S is.
pub(crate) const AT: &str = "0000:40:00.0";

/// Writes a GPU.
pub(crate) fn put(base: &Path, address: &str, state: &str) {
    std::fs::create_dir_all(base.join(address)).expect("directory");
    std::fs::write(base.join(address).join("state"), state).expect("state");
    for name in ["control", "session"] {
        let mut file = std::fs::File::options();
        file.create(true).append(true).open(base.join(address).join(name)).expect(name);
    }
}

/// Returns what was written to a GPU's `control`.
pub(crate) fn control(base: &Path, address: &str) -> String {
    std::fs::read_to_string(base.join(address).join("control")).expect("control")
}

/// Returns the directory of the GPUs in the process that runs `test`; runs that process, and returns
/// nothing, in the one that cargo started.
pub(crate) fn alone(test: &str, gpus: &[(&str, &str)]) -> Option<PathBuf> {
    if let Some(base) = std::env::var_os("VGPU_SIM_STATE") {
        return Some(base.into());
    }
    let base = tempfile::tempdir().expect("temporary directory");
    for (address, state) in gpus {
        put(base.path(), address, state);
    }
    let mut again = Command::new(std::env::current_exe().expect("this program"));
    again.args([test, "--exact", "--nocapture"]).env("VGPU_SIM_STATE", base.path());
    assert!(again.status().expect("runs").success(), "{test} fails in its own process");
    None
}

/// Returns the library that was built with the tests.
pub(crate) fn library() -> PathBuf {
    let program = std::env::current_exe().expect("this program");
    program.parent().expect("in a directory").join("libnvidia_ml.so")
}
