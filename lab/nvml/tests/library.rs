//! The library as programs meet it: loaded by the crate that vgpud uses.

#![expect(clippy::expect_used, reason = "a test that cannot be set up fails")]

mod world;

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::{TopologyLevel, VgpuCapability};
use nvml_wrapper::enum_wrappers::vgpu::VmId;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::{VgpuSchedulerSetParams, VgpuSchedulerSetState};
use nvml_wrapper_sys::bindings as c;
use world::{AT, L40S, alone, control, library, put};

fn open() -> Nvml {
    Nvml::builder().lib_path(library().as_os_str()).init().expect("the library opens")
}

/// Returns the list of one call, and what the call says to a buffer of `room`.
fn placements(nvml: &Nvml, creatable: bool, kind: u32, mode: u32, room: usize) -> (u32, u32, Vec<u32>) {
    let device = nvml.device_by_pci_bus_id(AT).expect("is there");
    let lib = nvml.lib();
    let call = if creatable {
        lib.nvmlDeviceGetVgpuTypeCreatablePlacements.as_ref()
    } else {
        lib.nvmlDeviceGetVgpuTypeSupportedPlacements.as_ref()
    };
    let mut ids = vec![0; room];
    let size = u32::try_from(size_of::<c::nvmlVgpuPlacementList_t>()).expect("small");
    let mut list = c::nvmlVgpuPlacementList_t {
        version: size | 2 << 24,
        placementSize: 0,
        count: u32::try_from(room).expect("small"),
        placementIds: if room == 0 { std::ptr::null_mut() } else { ids.as_mut_ptr() },
        mode,
    };
    let call = call.expect("exported");
    // SAFETY: it is used while `device` lives.
    let handle = unsafe { device.handle() };
    // SAFETY: `handle` is of this library, and `list` points to a buffer of `count` numbers.
    let code = unsafe { call(handle, kind, &raw mut list) };
    ids.truncate(list.count as usize);
    (code, list.count, ids)
}

#[test]
fn a_gpu_tells_what_it_is() {
    let other = L40S.replace("000000000001", "000000000002");
    let Some(_) = alone("a_gpu_tells_what_it_is", &[(AT, L40S), ("0000:41:00.0", &other)]) else { return };
    let nvml = open();
    assert_eq!(nvml.device_count().expect("counts"), 2);
    assert_eq!(nvml.sys_driver_version().expect("has one"), "550.54.16");
    let gpu = nvml.device_by_pci_bus_id("00000000:40:00.0").expect("is there");
    assert_eq!(gpu.name().expect("has one"), "NVIDIA L40S");
    assert_eq!(gpu.uuid().expect("has one"), "GPU-11111111-aaaa-bbbb-cccc-000000000001");
    assert_eq!(gpu.pci_info().expect("has one").bus_id, "00000000:40:00.0");
    assert_eq!(gpu.memory_info().expect("has it").total, 48 << 30);
    assert_eq!(gpu.vgpu_capabilities(VgpuCapability::HeterogeneousTimesliceSizes).expect("known"), 1);
    let other = nvml.device_by_uuid("GPU-11111111-aaaa-bbbb-cccc-000000000002").expect("is there");
    assert_eq!(other.index().expect("has one"), 1);
    assert_eq!(gpu.topology_common_ancestor(other).expect("known"), TopologyLevel::HostBridge);
    assert!(matches!(nvml.device_by_pci_bus_id("0000:99:00.0"), Err(NvmlError::NotFound)));
    assert!(matches!(nvml.device_by_index(2), Err(NvmlError::InvalidArg)));
    assert!(matches!(gpu.mig_mode(), Err(NvmlError::NotSupported)));
}

#[test]
fn types_tell_what_they_are() {
    let Some(_) = alone("types_tell_what_they_are", &[(AT, L40S)]) else { return };
    let nvml = open();
    let gpu = nvml.device_by_index(0).expect("is there");
    let types = gpu.vgpu_supported_types().expect("has some");
    assert_eq!(types.iter().map(|one| one.id()).collect::<Vec<_>>(), [1145, 1150, 1155, 1157]);
    let first = &types[0];
    assert_eq!(first.name().expect("has one"), "NVIDIA L40S-1B");
    assert_eq!(first.class_name().expect("has one"), "NVS");
    assert_eq!(first.framebuffer_size().expect("has one"), 1 << 30);
    assert_eq!(first.max_instances().expect("has one"), 32);
    assert_eq!(first.max_instances_per_vm().expect("has one"), 16);
    assert_eq!(first.instance_profile_id().expect("has one"), 0xFFFF_FFFF);
    assert_eq!(first.num_display_heads().expect("has one"), 4);
    assert_eq!(first.resolution(0).expect("has one"), (5120, 2880));
    assert!(first.resolution(4).is_err());
    assert_eq!(gpu.vgpu_creatable_types().expect("has some").len(), 4);
}

#[test]
fn a_first_vgpu_settles_the_size_and_only_running_ones_are_active() {
    let vgpus = "vgpu id=1 vf=0000:40:00.4 type=1150 placement=0 vm_uuid=- running=0 fb_used_mib=0\n\
                 vgpu id=2 vf=0000:40:00.5 type=1150 placement=4 \
                 vm_uuid=11111111-2222-3333-4444-555555555555 running=1 fb_used_mib=700 sm=40 enc=7\n";
    let state = format!("{L40S}{vgpus}");
    let name = "a_first_vgpu_settles_the_size_and_only_running_ones_are_active";
    let Some(_) = alone(name, &[(AT, &state)]) else { return };
    let nvml = open();
    let gpu = nvml.device_by_index(0).expect("is there");
    let creatable = gpu.vgpu_creatable_types().expect("has some");
    assert_eq!(creatable.iter().map(|one| one.id()).collect::<Vec<_>>(), [1150]);
    let active = gpu.active_vgpus().expect("has some");
    assert_eq!(active.len(), 1);
    let VmId::Uuid(vm) = active[0].vm_id().expect("has one") else { panic!("by UUID on KVM") };
    assert_eq!(vm, "11111111-2222-3333-4444-555555555555");
    assert_eq!(active[0].fb_usage().expect("has one"), 700 << 20);
    assert_eq!(active[0].instance_type().expect("has one").id(), 1150);
    assert_eq!(gpu.memory_info().expect("has it").used, 4 << 30);
    let (code, count, ids) = placements(&nvml, true, 1150, 1, 16);
    assert_eq!((code, count, ids[0]), (0, 10, 8), "equal-size mode: two of twelve are taken");
}

#[test]
fn placements_of_mixed_mode_follow_the_protocol_of_sizes() {
    let state = L40S.replace("mode=equal", "mode=mixed");
    let name = "placements_of_mixed_mode_follow_the_protocol_of_sizes";
    let Some(base) = alone(name, &[(AT, &state)]) else { return };
    let nvml = open();
    assert_eq!(placements(&nvml, false, 1155, 0, 0), (7, 4, vec![]), "without a buffer: the number");
    assert_eq!(placements(&nvml, false, 1155, 0, 3).0, 7, "with too small a buffer: too small");
    assert_eq!(placements(&nvml, false, 1155, 0, 8), (0, 4, vec![0, 16, 24, 40]));
    let taken = "vgpu id=1 vf=0000:40:00.4 type=1157 placement=32 vm_uuid=- running=0 fb_used_mib=0\n";
    put(&base, AT, &format!("{state}{taken}"));
    assert_eq!(placements(&nvml, true, 1155, 0, 8), (0, 3, vec![0, 16, 24]));
    assert_eq!(placements(&nvml, true, 9, 0, 8).0, 2, "no such type");
}

#[test]
fn the_scheduler_is_set_while_nothing_runs() {
    let Some(base) = alone("the_scheduler_is_set_while_nothing_runs", &[(AT, L40S)]) else { return };
    let nvml = open();
    let gpu = nvml.device_by_index(0).expect("is there");
    assert_eq!(gpu.vgpu_scheduler_capabilities().expect("has some").supported_schedulers, [1, 2, 3]);
    assert_eq!(gpu.vgpu_scheduler_state().expect("has one").scheduler_policy, 1);
    let wanted = |slice| VgpuSchedulerSetState {
        scheduler_policy: 3,
        enable_arr_mode: 1,
        scheduler_params: VgpuSchedulerSetParams { avg_factor: None, frequency_or_timeslice: slice },
    };
    gpu.set_vgpu_scheduler_state(wanted(3_000_000)).expect("is set");
    assert_eq!(control(&base, AT), "scheduler=fixed-share\ntime_slice_ns=3000000\n");
    assert!(matches!(gpu.set_vgpu_scheduler_state(wanted(31_000_000)), Err(NvmlError::InvalidArg)));
    assert_eq!(gpu.vgpu_scheduler_state().expect("has one").scheduler_policy, 3, "what is set is so");
    put(&base, AT, &L40S.replace("mode=equal", "mode=mixed"));
    let refused = gpu.set_vgpu_scheduler_state(wanted(0));
    assert!(matches!(refused, Err(NvmlError::NotSupported)), "no fixed share with mixed sizes");
    put(&base, AT, &format!("{L40S}vgpu id=1 vf=0000:40:00.4 type=1150 placement=0 vm_uuid=- running=1\n"));
    assert!(matches!(gpu.set_vgpu_scheduler_state(wanted(0)), Err(NvmlError::InUse)));
}

#[test]
fn mixed_mode_is_refused_while_vgpus_exist() {
    let Some(base) = alone("mixed_mode_is_refused_while_vgpus_exist", &[(AT, L40S)]) else { return };
    let nvml = open();
    let gpu = nvml.device_by_index(0).expect("is there");
    let call = nvml.lib().nvmlDeviceSetVgpuHeterogeneousMode.as_ref().expect("exported");
    let size = u32::try_from(size_of::<c::nvmlVgpuHeterogeneousMode_t>()).expect("small");
    let set = |version, mode| {
        let wanted = c::nvmlVgpuHeterogeneousMode_t { version, mode };
        // SAFETY: it is used while `gpu` lives.
        let handle = unsafe { gpu.handle() };
        // SAFETY: `handle` is of this library, and `wanted` lives as long as the call.
        unsafe { call(handle, &raw const wanted) }
    };
    assert_eq!(set(0, 1), 25, "the version must be said");
    assert_eq!(set(size | 1 << 24, 1), 0);
    assert_eq!(control(&base, AT), "mode=mixed\n");
    put(&base, AT, &format!("{L40S}vgpu id=1 vf=0000:40:00.4 type=1150 placement=0 vm_uuid=- running=0\n"));
    assert_eq!(set(size | 1 << 24, 1), 19, "in use, also by one that does not run");
    put(&base, AT, &L40S.replace("vfs=32", "vfs=0"));
    assert_eq!(set(size | 1 << 24, 1), 3, "on KVM with SR-IOV only");
}

#[test]
fn a_session_shows_that_the_driver_is_in_use_until_it_ends() {
    let name = "a_session_shows_that_the_driver_is_in_use_until_it_ends";
    let Some(base) = alone(name, &[(AT, L40S)]) else { return };
    let clients = std::fs::File::open(base.join(AT).join("session")).expect("is there");
    let nvml = open();
    assert!(clients.try_lock().is_err());
    nvml.shutdown().expect("ends");
    clients.try_lock().expect("nobody uses the driver");
    let refused = Nvml::builder().lib_path(library().as_os_str()).init();
    assert!(matches!(refused, Err(NvmlError::DriverNotLoaded)), "the driver is off its GPUs");
}

const H100: &str = "\
board=NVIDIA H100 PCIe
preset=h100-vfio
uuid=GPU-11111111-aaaa-bbbb-cccc-000000000003
framebuffer_mib=81920
mode=equal
mig=0
vfs=0
type id=1141 fb_mib=10240 max=7 gi_profile=19 gis=7 gi=1g.10gb name=NVIDIA H100-1-10C
type id=1142 fb_mib=20480 max=4 gi_profile=15 gis=4 gi=1g.20gb name=NVIDIA H100-1-20C
type id=1144 fb_mib=40960 max=2 gi_profile=9 gis=2 gi=3g.40gb name=NVIDIA H100-3-40C
";

/// What the library says of a profile, asked for by its number: code, id, name.
fn profile(nvml: &Nvml, number: u32) -> (u32, u32, String) {
    let device = nvml.device_by_pci_bus_id(AT).expect("is there");
    let call = nvml.lib().nvmlDeviceGetGpuInstanceProfileInfoV.as_ref().expect("exported");
    // SAFETY: plain numbers and characters, for which zeros are a value.
    let mut info: c::nvmlGpuInstanceProfileInfo_v2_t = unsafe { std::mem::zeroed() };
    let size = u32::try_from(size_of::<c::nvmlGpuInstanceProfileInfo_v2_t>()).expect("small");
    info.version = size | 2 << 24;
    // SAFETY: it is used while `device` lives.
    let handle = unsafe { device.handle() };
    // SAFETY: `handle` is of this library, and `info` has its version.
    let code = unsafe { call(handle, number, &raw mut info) };
    let name = info.name.iter().take_while(|byte| **byte != 0).map(|byte| char::from(byte.to_ne_bytes()[0]));
    (code, info.id, name.collect())
}

/// Makes an instance of a profile.
fn make(nvml: &Nvml, id: u32) -> (u32, c::nvmlGpuInstance_t) {
    let device = nvml.device_by_pci_bus_id(AT).expect("is there");
    let call = nvml.lib().nvmlDeviceCreateGpuInstance.as_ref().expect("exported");
    let mut made = std::ptr::null_mut();
    // SAFETY: it is used while `device` lives.
    let handle = unsafe { device.handle() };
    // SAFETY: `handle` is of this library, and `made` lives as long as the call.
    (unsafe { call(handle, id, &raw mut made) }, made)
}

/// Lists the instances of a profile: number and place of each.
fn made(nvml: &Nvml, id: u32) -> Vec<(c::nvmlGpuInstance_t, u32, (u32, u32))> {
    let device = nvml.device_by_pci_bus_id(AT).expect("is there");
    let (list, tell) = (&nvml.lib().nvmlDeviceGetGpuInstances, &nvml.lib().nvmlGpuInstanceGetInfo);
    let (list, tell) = (list.as_ref().expect("exported"), tell.as_ref().expect("exported"));
    let (mut all, mut count) = (vec![std::ptr::null_mut(); 8], 0);
    // SAFETY: it is used while `device` lives.
    let handle = unsafe { device.handle() };
    // SAFETY: `handle` is of this library, and the buffer holds more than there can be.
    assert_eq!(unsafe { list(handle, id, all.as_mut_ptr(), &raw mut count) }, 0);
    all.truncate(count as usize);
    let told = all.into_iter().map(|instance| {
        // SAFETY: plain numbers and a pointer that is never followed, for which zeros are a value.
        let mut info: c::nvmlGpuInstanceInfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `instance` is of this library, and `info` lives as long as the call.
        assert_eq!(unsafe { tell(instance, &raw mut info) }, 0);
        assert_eq!(info.profileId, id);
        (instance, info.id, (info.placement.start, info.placement.size))
    });
    told.collect()
}

#[test]
fn gpu_instances_are_made_listed_and_taken_away_in_mig_mode() {
    let Some(base) = alone("gpu_instances_are_made_listed_and_taken_away_in_mig_mode", &[(AT, H100)]) else {
        return;
    };
    let nvml = open();
    let gpu = nvml.device_by_pci_bus_id(AT).expect("is there");
    assert_eq!(profile(&nvml, 0).0, c::nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED, "MIG is off");
    assert_eq!(gpu.set_mig_mode(true).expect("nothing is on it"), 0, "in force at once");
    assert_eq!(profile(&nvml, 0), (0, 19, "MIG 1g.10gb".to_owned()));
    assert_eq!(profile(&nvml, 9), (0, 15, "MIG 1g.20gb".to_owned()));
    assert_eq!(profile(&nvml, 2), (0, 9, "MIG 3g.40gb".to_owned()));
    assert_eq!(profile(&nvml, 4).0, c::nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED, "not on this one");
    assert_eq!(profile(&nvml, 17).0, c::nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT);

    assert_eq!((make(&nvml, 9).0, make(&nvml, 19).0), (0, 0));
    assert_eq!(make(&nvml, 9).0, c::nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_RESOURCES, "no half is left");
    assert_eq!(make(&nvml, 8).0, c::nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT, "no such profile");
    let [(half, 1, (0, 4))] = made(&nvml, 9)[..] else { panic!("one half: {:?}", made(&nvml, 9)) };
    assert_eq!(made(&nvml, 19)[0].2, (4, 1));
    assert!(matches!(gpu.set_mig_mode(false), Err(NvmlError::InUse)), "beside instances");

    let destroy = nvml.lib().nvmlGpuInstanceDestroy.as_ref().expect("exported");
    // SAFETY: the handle is of this library.
    let destroy = |instance| unsafe { destroy(instance) };
    let state = |process: &str| {
        put(
            &base,
            AT,
            &format!("{H100}{process}gi id=1 profile=9 start=0 size=4 name=3g.40gb\n")
                .replace("mig=0", "mig=1"),
        )
    };
    state("process=4711\n");
    assert_eq!(gpu.running_compute_processes().expect("are told")[0].pid, 4711);
    assert_eq!(destroy(half), c::nvmlReturn_enum_NVML_ERROR_IN_USE, "somebody computes");
    state("");
    assert_eq!(gpu.running_compute_processes().expect("are told").len(), 0);
    assert_eq!(destroy(half), 0);
    assert_eq!(destroy(half), c::nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT, "it is gone");
    gpu.set_mig_mode(false).expect("nothing is on it");
}
