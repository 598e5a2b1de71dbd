//! The room `nvml` against a library: that of the lab, over files of simulated GPUs. Each test runs in a
//! process of its own, for the library learns of its files by the environment.

#![cfg(feature = "nvml")]
#![expect(clippy::expect_used, reason = "a test that cannot be set up fails")]

#[path = "../lab/nvml/tests/world/mod.rs"]
#[expect(clippy::disallowed_methods, reason = "files of the test itself, and the test once more")]
#[expect(dead_code, reason = "the library's own tests use the rest")]
mod world;

use std::path::PathBuf;

use nix::fcntl::{Flock, FlockArg};
use vgpud::model::{Busy, Framebuffer, Kind, PciAddress, Refusal, SchedulerPolicy, SizeMode};
use vgpud::nvml::{Fault, Nvml, NvmlError};
use world::{AT, L40S, alone, control, put};

const VM: &str = "11111111-2222-3333-4444-555555555555";

/// Builds the lab's library, or finds it built.
#[expect(clippy::disallowed_methods, reason = "cargo is what makes it")]
fn library() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let target = root.join("target/lab-nvml");
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--lib", "--manifest-path"]).arg(root.join("lab/nvml/Cargo.toml"));
    let built = cargo.arg("--target-dir").arg(&target).status().expect("cargo runs");
    assert!(built.success(), "the lab's library does not compile");
    target.join("debug/libnvidia_ml.so")
}

fn open() -> Nvml {
    Nvml::new(Some(library()))
}

fn at() -> PciAddress {
    AT.parse().expect("valid")
}

fn running(kind: u32, placement: u32) -> String {
    let id = placement + 1;
    format!(
        "vgpu id={id} vf=0000:40:00.4 type={kind} placement={placement} vm_uuid={VM} running=1 fb_used_mib=700 sm=40 mem=12 enc=7\n"
    )
}

#[test]
fn a_gpu_is_read_with_the_vgpus_that_run_on_it() {
    let state = format!("{}{}", L40S.replace("mode=equal", "mode=mixed"), running(1155, 16));
    let name = "a_gpu_is_read_with_the_vgpus_that_run_on_it";
    let Some(_) = alone(name, &[(AT, &state)]) else { return };
    let nvml = open();
    assert_eq!(nvml.summary().expect("is there").devices, 1);
    let gpus = nvml.gpus().expect("are read");
    assert_eq!(gpus, [nvml.gpu(at()).expect("is read")]);
    let gpu = &gpus[0];
    assert_eq!((gpu.address, gpu.name.as_str()), (at(), "NVIDIA L40S"));
    assert_eq!((gpu.framebuffer_mib, gpu.used_mib), (49152, 8192));
    assert_eq!((gpu.size_mode, gpu.can_mix, gpu.mig), (Some(SizeMode::Mixed), true, None));
    let scheduler = gpu.scheduler.as_ref().expect("is read");
    assert_eq!(scheduler.policy, Some(SchedulerPolicy::BestEffort));
    assert_eq!(scheduler.supported, SchedulerPolicy::ALL);
    assert_eq!((scheduler.time_slice_ns, scheduler.shortest_ns), (2_000_000, 1_000_000));
    let [vgpu] = &gpu.vgpus[..] else { panic!("one runs") };
    assert_eq!((vgpu.type_id, vgpu.type_name.as_str()), (1155, "NVIDIA L40S-8Q"));
    assert_eq!((vgpu.vm, vgpu.placement), (VM.parse().ok(), Some(16)));
    assert_eq!((vgpu.framebuffer_mib, vgpu.used_mib, vgpu.mdev), (8192, 700, None));
    assert_eq!(vgpu.busy, Some(Busy { sm: 40, memory: 12, encoder: 7, decoder: 0 }));
    assert_eq!(
        nvml.gpu("0000:99:00.0".parse().expect("valid")),
        Err(NvmlError::NoGpu("0000:99:00.0".parse().expect("valid")))
    );
}

#[test]
fn types_and_their_placements_are_read() {
    let state = format!("{}{}", L40S.replace("mode=equal", "mode=mixed"), running(1157, 32));
    let Some(_) = alone("types_and_their_placements_are_read", &[(AT, &state)]) else { return };
    let nvml = open();
    let types = nvml.types(at()).expect("are read");
    assert_eq!(types.iter().map(|one| one.id).collect::<Vec<_>>(), [1145, 1150, 1155, 1157]);
    let four = &types[1];
    assert_eq!((four.name.as_str(), four.class.as_str()), ("NVIDIA L40S-4Q", "Quadro"));
    assert_eq!((four.framebuffer, four.heads, four.max_instances), (Framebuffer::from_mib(4096), 4, 12));
    assert_eq!((four.max_per_vm, four.gpu_instance_profile, four.creatable), (Some(16), None, true));
    let placements = nvml.placements(at()).expect("are read");
    let eight = placements.iter().find(|one| one.type_id == 1155).expect("is listed");
    let [equal, mixed] = &eight.placements[..] else { panic!("ids in both modes") };
    assert_eq!((equal.mode, equal.size, equal.supported.len()), (SizeMode::Equal, 8, 6));
    assert_eq!((mixed.mode, &mixed.supported[..]), (SizeMode::Mixed, &[0, 16, 24, 40][..]));
    assert_eq!(mixed.creatable, [0, 16, 24], "40 to 47 is taken by the vGPU at 32");
}

#[test]
fn modes_are_set_and_a_refusal_says_what_is_in_the_way() {
    let name = "modes_are_set_and_a_refusal_says_what_is_in_the_way";
    let Some(base) = alone(name, &[(AT, L40S)]) else { return };
    let nvml = open();
    nvml.set_size_mode(at(), SizeMode::Equal).expect("is so already");
    nvml.set_size_mode(at(), SizeMode::Mixed).expect("is set");
    nvml.set_scheduler(at(), SchedulerPolicy::EqualShare, 3_000_000).expect("is set");
    assert_eq!(control(&base, AT), "mode=mixed\nscheduler=equal-share\ntime_slice_ns=3000000\n");
    let long = nvml.set_scheduler(at(), SchedulerPolicy::EqualShare, 90_000_000).expect_err("is too long");
    assert_eq!(long.fault(), Some(&Fault::Invalid));
    put(&base, AT, &format!("{L40S}{}", running(1150, 0)));
    let refusal = Refusal::from(nvml.set_size_mode(at(), SizeMode::Mixed).expect_err("one exists"));
    assert_eq!(refusal.kind, Kind::Busy);
    assert_eq!(refusal.message, "cannot set the size mode to mixed of 0000:40:00.0: the GPU is in use");
    let busy = nvml.set_scheduler(at(), SchedulerPolicy::EqualShare, 0).expect_err("one runs");
    assert_eq!(busy.fault(), Some(&Fault::InUse));
    put(&base, AT, &L40S.replace("vfs=32", "vfs=0"));
    let without = nvml.set_size_mode(at(), SizeMode::Mixed).expect_err("there are no VFs");
    assert_eq!(without.fault(), Some(&Fault::NotSupported));
    assert!(!nvml.gpu(at()).expect("is read").can_mix);
}

#[test]
fn a_closed_session_lets_the_driver_go() {
    let Some(base) = alone("a_closed_session_lets_the_driver_go", &[(AT, L40S)]) else { return };
    let nvml = open();
    let lock = || {
        let file = std::fs::File::open(base.join(AT).join("session")).expect("is there");
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)
    };
    nvml.gpus().expect("are read");
    assert!(nvml.is_open());
    assert!(lock().is_err(), "a session holds the driver");
    let closed = nvml.close().expect("closes");
    let driver = lock().expect("nobody holds the driver");
    assert!(matches!(nvml.gpus(), Err(NvmlError::Closed(_))), "nobody opens it meanwhile");
    drop(driver);
    drop(closed);
    assert_eq!(nvml.gpus().expect("are read again").len(), 1);
}

#[test]
fn an_absent_library_is_an_answer_with_a_reason() {
    let nvml = Nvml::new(Some("/nowhere/libnvidia-ml.so.1".into()));
    let Err(NvmlError::Absent(why)) = nvml.gpus() else { panic!("there is none") };
    assert_eq!(why, "libnvidia-ml.so.1 cannot be loaded");
    assert!(!nvml.is_open());
    let refusal = Refusal::from(NvmlError::Absent(why));
    assert!(refusal.hints[0].contains("host driver"));
}
