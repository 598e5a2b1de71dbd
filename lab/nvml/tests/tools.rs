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
fn vfs_are_disabled_and_as_many_enabled_as_the_gpu_has() {
    let base = host(&L40S.replace("vfs=32", "vfs=0\ntotal_vfs=20"));
    assert_eq!(run(base.path(), SRIOV, "-e ALL").0, 0);
    assert_eq!(control(base.path(), AT), "numvfs=20\n");
    let base = host(L40S);
    assert_eq!(run(base.path(), SRIOV, "-d ALL").0, 0);
    assert_eq!(control(base.path(), AT), "numvfs=0\n");
}

#[test]
fn a_client_of_the_driver_keeps_its_functions_as_they_are() {
    let base = host(&L40S.replace("vfs=32", "vfs=0"));
    let client = std::fs::File::create(base.path().join(AT).join("session")).expect("lock file");
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

const H100: &str = "\
board=NVIDIA H100 80GB HBM3
preset=h100-vfio
uuid=GPU-11111111-aaaa-bbbb-cccc-000000000002
framebuffer_mib=81920
mode=equal
mig=1
vfs=20
type id=1141 fb_mib=10240 max=7 gi_profile=19 gis=7 gi=1g.10gb name=NVIDIA H100-1-10C
type id=1144 fb_mib=40960 max=2 gi_profile=9 gis=2 gi=3g.40gb name=NVIDIA H100-3-40C
gi id=1 profile=9 start=0 size=4 name=3g.40gb
";

#[test]
fn gpu_instances_are_made_by_name_or_number_and_listed() {
    let base = host(H100);
    let (_, said, _) = run(base.path(), SMI, "mig -lgip");
    assert!(said.contains("MIG 3g.40gb          9     1/2"), "{said}");
    assert!(said.contains("MIG 1g.10gb         19     3/7"), "{said}");
    let (code, said, _) = run(base.path(), SMI, "mig -i 0 -cgi 19,1g.10gb -C");
    assert_eq!(code, 0, "{said}");
    assert_eq!(control(base.path(), AT), "gi_create=1g.10gb\ngi_create=1g.10gb\n");
    assert_eq!(run(base.path(), SMI, "mig -cgi 3g.40gb").0, 23, "no room is left for half of it");
    let (code, said, _) = run(base.path(), SMI, "mig -lgi");
    assert_eq!(code, 0);
    assert!(said.contains("|   0  MIG 3g.40gb           9        1          0:4     |"), "{said}");
    assert!(said.contains("|   0  MIG 1g.10gb          19        3          5:1     |"), "{said}");
    assert_eq!(run(base.path(), SMI, "mig -dgi -gi 1 -i 0").0, 0);
    assert!(control(base.path(), AT).ends_with("gi_destroy=1\n"));
    assert_eq!(run(base.path(), SMI, "mig -cgi 4g.99gb").0, 2, "no such profile");
    assert_eq!(run(base.path(), SMI, "mig -dgi -gi 7").0, 6, "no such instance");
    assert_eq!(run(base.path(), SMI, "mig -i 3 -lgi").0, 6, "no such GPU");
    put(base.path(), AT, &H100.replace("mig=1", "mig=0"));
    let (code, said, _) = run(base.path(), SMI, "mig -lgi");
    assert_eq!((code, said.as_str()), (6, "No MIG-enabled devices found.\n"));
}

#[test]
fn a_mig_backed_type_is_creatable_while_an_instance_is_free() {
    let base = host(H100);
    assert!(run(base.path(), SMI, "vgpu -c").1.contains("H100-3-40C"));
    let taken = "vgpu id=1 vf=0000:40:00.4 type=1144 placement=0 vm_uuid=- running=0 fb_used_mib=0 gi=1\n";
    put(base.path(), AT, &format!("{H100}{taken}"));
    assert!(!run(base.path(), SMI, "vgpu -c").1.contains("H100-"));
    let (code, said, _) = run(base.path(), SMI, "mig -dgi");
    assert_eq!((code, said.contains("In use by another client")), (19, true), "{said}");
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
