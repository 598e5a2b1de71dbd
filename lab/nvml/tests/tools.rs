//! The stand-ins of NVIDIA's two tools, as scripts call them.

#![expect(clippy::expect_used, reason = "a test that cannot be set up fails")]

#[expect(dead_code, reason = "the library's tests use the rest")]
mod world;

use std::path::Path;
use std::process::Command;

use world::{AT, L40S, control, put};

const SMI: &str = env!("CARGO_BIN_EXE_nvidia-smi");
const SRIOV: &str = env!("CARGO_BIN_EXE_sriov-manage");

fn host(state: &str) -> tempfile::TempDir {
    let base = tempfile::tempdir().expect("temporary directory");
    put(base.path(), AT, state);
    base
}

/// Returns exit code, stdout and stderr.
fn run(base: &Path, program: &str, words: &str) -> (i32, String, String) {
    let mut command = Command::new(program);
    let output = command.args(words.split_whitespace()).env("VGPU_SIM_STATE", base).output().expect("runs");
    let text = |bytes| String::from_utf8(bytes).expect("is text");
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

#[test]
fn vfs_are_enabled_once_and_all_of_them() {
    let base = host(&L40S.replace("vfs=32", "vfs=0"));
    assert_eq!(run(base.path(), SRIOV, "-e ALL").0, 0);
    assert_eq!(control(base.path(), AT), "numvfs=32\n");
    put(base.path(), AT, L40S);
    assert_eq!(run(base.path(), SRIOV, "-e 0000:40:00.0").0, 0, "twice is harmless");
    assert_eq!(control(base.path(), AT), "numvfs=32\n", "and changes nothing");
    assert_eq!(run(base.path(), SRIOV, "-e 0000:99:00.0").0, 1);
    assert_eq!(run(base.path(), SRIOV, "-x ALL").0, 1);
}

#[test]
fn disabling_loses_what_was_set_at_run_time() {
    let state = L40S.replace("mode=equal", "mode=mixed").replace("best-effort", "equal-share");
    let base = host(&state);
    assert_eq!(run(base.path(), SRIOV, "-d ALL").0, 0);
    assert_eq!(control(base.path(), AT), "numvfs=0\nmode=equal\nscheduler=best-effort\n");
}

#[test]
fn a_client_of_the_driver_keeps_its_functions_as_they_are() {
    let base = host(&L40S.replace("vfs=32", "vfs=0"));
    let client = std::fs::File::create(base.path().join(".clients")).expect("lock file");
    client.lock_shared().expect("a session");
    let (code, _, said) = run(base.path(), SRIOV, "-e ALL");
    assert_eq!((code, said.as_str()), (1, "Cannot obtain unbindLock for 0000:40:00.0\n"));
    assert_eq!(control(base.path(), AT), "");
}

#[test]
fn mixed_mode_has_the_documented_exit_codes() {
    let base = host(L40S);
    assert_eq!(run(base.path(), SMI, "vgpu -i 0 -shm 1").0, 0);
    assert_eq!(control(base.path(), AT), "mode=mixed\n");
    assert_eq!(run(base.path(), SMI, "vgpu -i 7 -shm 1").0, 6);
    assert_eq!(run(base.path(), SMI, "vgpu -i 0 -shm 2").0, 2);
    put(
        base.path(),
        AT,
        &format!("{L40S}vgpu id=1 vf=0000:40:00.4 type=1150 placement=0 vm_uuid=- running=0\n"),
    );
    let (code, said, _) = run(base.path(), SMI, "vgpu -i 0 -shm 0");
    assert_eq!(code, 19);
    assert!(said.contains("GPU 00000000:40:00.0: In use"), "{said}");
    assert_eq!(run(base.path(), SMI, "-i 0 -mig 1").0, 3, "an L40S has no MIG");
}

#[test]
fn types_are_listed_with_their_placements() {
    let running = "vgpu id=3 vf=0000:40:00.4 type=1157 placement=32 vm_uuid=11111111-2222-3333-4444-555555555555 \
                   running=1 fb_used_mib=512\n";
    let base = host(&format!("{}{running}", L40S.replace("mode=equal", "mode=mixed")));
    let (_, supported, _) = run(base.path(), SMI, "vgpu -s -v");
    assert!(supported.contains("Supported Placement IDs       : 0 16 24 40\n"), "{supported}");
    let (_, creatable, _) = run(base.path(), SMI, "vgpu -c -v");
    assert!(creatable.contains("Creatable Placement IDs       : 0 16 24\n"), "{creatable}");
    let (_, query, _) = run(base.path(), SMI, "vgpu -q");
    for line in ["VM UUID                       : 11111111", "Placement ID                  : 32\n"] {
        assert!(query.contains(line), "{query}");
    }
    let (_, scheduler, _) = run(base.path(), SMI, "vgpu -ss");
    assert!(scheduler.contains("best-effort"), "{scheduler}");
}
