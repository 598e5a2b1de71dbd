//! What GPUs, types and running vGPUs are.

use std::collections::BTreeSet;

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::VgpuCapability;
use nvml_wrapper::enum_wrappers::vgpu::VmId;
use nvml_wrapper::error::NvmlError as Given;
use nvml_wrapper::vgpu::{VgpuInstance, VgpuType as GivenType};

use super::partition;
use super::raw::{self, Which};
use super::session::{Session, device, failed};
use super::{NvmlError, TypePlacements};
use crate::model::{
    Busy, Framebuffer, GpuState, MigMode, NvmlType, PciAddress, Placements, SchedulerPolicy, SchedulerState,
    SizeMode, VgpuUse, one_line,
};

const MIB: u64 = 1 << 20;

/// What the library says where no GPU instance carries a type.
const NO_PROFILE: u32 = 0xFFFF_FFFF;

/// Most characters of a name that comes from the library.
const MOST_NAME: usize = 96;

impl Session {
    pub(super) fn gpus(&mut self) -> Result<Vec<GpuState>, NvmlError> {
        let nvml = self.nvml()?;
        let count = nvml.device_count().map_err(|error| failed("count the GPUs", None, &error))?;
        let mut gpus = Vec::new();
        for index in 0..count {
            let read = nvml.device_by_index(index).map_err(|error| failed("find a GPU", None, &error));
            match read.and_then(|device| {
                let address = address_of(&device)?;
                state(nvml, &device, address)
            }) {
                Ok(gpu) => gpus.push(gpu),
                Err(error) => {
                    tracing::debug!(index, %error, "a GPU cannot be read through NVML, skipping it")
                }
            }
        }
        Ok(gpus)
    }

    pub(super) fn gpu(&mut self, gpu: PciAddress) -> Result<GpuState, NvmlError> {
        let nvml = self.nvml()?;
        state(nvml, &device(nvml, gpu)?, gpu)
    }

    pub(super) fn types(&mut self, gpu: PciAddress) -> Result<Vec<NvmlType>, NvmlError> {
        let nvml = self.nvml()?;
        let device = device(nvml, gpu)?;
        let fail = |error: Given| failed("read the vGPU types", Some(gpu), &error);
        let creatable = device.vgpu_creatable_types().map_err(fail)?;
        let creatable: BTreeSet<u32> = creatable.iter().map(GivenType::id).collect();
        let supported = device.vgpu_supported_types().map_err(fail)?;
        let types = supported.iter().map(|one| vgpu_type(one, creatable.contains(&one.id())));
        let mut types = types.collect::<Result<Vec<_>, Given>>().map_err(fail)?;
        types.sort_by_key(|one| one.id);
        Ok(types)
    }

    pub(super) fn placements(&mut self, gpu: PciAddress) -> Result<Vec<TypePlacements>, NvmlError> {
        let nvml = self.nvml()?;
        let device = device(nvml, gpu)?;
        let fail = |error: Given| failed("read the placement ids", Some(gpu), &error);
        let mut all = Vec::new();
        for one in device.vgpu_supported_types().map_err(fail)? {
            let mut placements = Vec::new();
            for mode in [SizeMode::Equal, SizeMode::Mixed] {
                placements.extend(placements_in(nvml, &device, one.id(), mode).map_err(fail)?);
            }
            all.push(TypePlacements { type_id: one.id(), placements });
        }
        all.sort_by_key(|one| one.type_id);
        Ok(all)
    }
}

fn placements_in(
    nvml: &nvml_wrapper::Nvml,
    device: &Device<'_>,
    type_id: u32,
    mode: SizeMode,
) -> Result<Option<Placements>, Given> {
    let number = match mode {
        SizeMode::Mixed => raw::MIXED,
        SizeMode::Equal => raw::EQUAL,
    };
    let Some((size, supported)) = raw::placements(nvml, device, type_id, number, Which::Supported)? else {
        return Ok(None);
    };
    let creatable = raw::placements(nvml, device, type_id, number, Which::Creatable)?;
    let creatable = creatable.map(|(_, ids)| ids).unwrap_or_default();
    Ok(Some(Placements { mode, size, supported, creatable }))
}

pub(super) fn address_of(device: &Device<'_>) -> Result<PciAddress, NvmlError> {
    let pci = device.pci_info().map_err(|error| failed("read the address of a GPU", None, &error))?;
    let address = pci.bus_id.parse::<PciAddress>();
    address.map_err(|_| failed("read the address of a GPU", None, &Given::Unknown))
}

/// Returns nothing where the library cannot say; another fault stays one.
pub(super) fn known<T>(answer: Result<T, Given>) -> Result<Option<T>, Given> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(Given::NotSupported | Given::FailedToLoadSymbol(_) | Given::NoData) => Ok(None),
        Err(error) => Err(error),
    }
}

fn state(nvml: &nvml_wrapper::Nvml, device: &Device<'_>, address: PciAddress) -> Result<GpuState, NvmlError> {
    read(nvml, device, address).map_err(|error| failed("read the state", Some(address), &error))
}

fn read(nvml: &nvml_wrapper::Nvml, device: &Device<'_>, address: PciAddress) -> Result<GpuState, Given> {
    let memory = device.memory_info()?;
    let mixed = known(raw::is_mixed(nvml, device))?;
    let can_mix = known(device.vgpu_capabilities(VgpuCapability::HeterogeneousTimesliceSizes))?;
    let mig = known(device.mig_mode())?;
    let divided = mig.as_ref().is_some_and(|mig| mig.current == 1);
    let (profiles, instances) = if divided { partition::read(nvml, device)? } else { Default::default() };
    Ok(GpuState {
        address,
        name: one_line(&device.name()?, MOST_NAME),
        uuid: one_line(&device.uuid()?, MOST_NAME),
        framebuffer_mib: memory.total / MIB,
        used_mib: memory.used / MIB,
        size_mode: mixed.map(|mixed| if mixed { SizeMode::Mixed } else { SizeMode::Equal }),
        can_mix: can_mix.is_some_and(|can| can != 0),
        scheduler: known(scheduler(nvml, device))?,
        instances,
        profiles,
        computing: known(device.running_compute_processes())?
            .into_iter()
            .flatten()
            .map(|one| one.pid)
            .collect(),
        ecc: known(device.is_ecc_enabled())?.map(|ecc| ecc.currently_enabled),
        mig: mig.as_ref().map(|mig| MigMode { on: mig.current == 1, pending: mig.pending == 1 }),
        vgpus: vgpus(nvml, device)?,
    })
}

fn scheduler(nvml: &nvml_wrapper::Nvml, device: &Device<'_>) -> Result<SchedulerState, Given> {
    let now = raw::scheduler(nvml, device)?;
    let can = known(device.vgpu_scheduler_capabilities())?;
    let policy = |number: u32| {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        SchedulerPolicy::ALL.get(at).copied()
    };
    let supported = can.iter().flat_map(|can| &can.supported_schedulers);
    Ok(SchedulerState {
        policy: policy(now.policy),
        round_robin: now.round_robin,
        time_slice_ns: now.time_slice_ns,
        supported: supported.filter_map(|number| policy(*number)).collect(),
        shortest_ns: can.as_ref().map_or(0, |can| can.min_time_slice),
        longest_ns: can.as_ref().map_or(0, |can| can.max_time_slice),
    })
}

fn vgpus(nvml: &nvml_wrapper::Nvml, device: &Device<'_>) -> Result<Vec<VgpuUse>, Given> {
    let Some(active) = known(raw::active(nvml, device))? else { return Ok(Vec::new()) };
    // Without a sample there is no use to show, which is no reason to show nothing.
    let samples = raw::samples(nvml, device).unwrap_or_default();
    let mut vgpus = Vec::new();
    for number in active {
        let busy = samples.iter().find(|(sampled, _)| *sampled == number).map(|(_, busy)| *busy);
        match vgpu_use(nvml, number, &VgpuInstance::new(number, device), busy) {
            Ok(vgpu) => vgpus.push(vgpu),
            // Its VM stopped between the list and the question.
            Err(Given::NotFound | Given::InvalidArg) => {}
            Err(error) => return Err(error),
        }
    }
    vgpus.sort_by_key(|vgpu| vgpu.instance);
    Ok(vgpus)
}

fn vgpu_use(
    nvml: &nvml_wrapper::Nvml,
    instance: u32,
    vgpu: &VgpuInstance<'_>,
    busy: Option<Busy>,
) -> Result<VgpuUse, Given> {
    let kind = vgpu.instance_type()?;
    let vm = match vgpu.vm_id()? {
        VmId::Uuid(uuid) | VmId::Domain(uuid) => uuid.parse().ok(),
    };
    let mdev = known(vgpu.mdev_uuid()).ok().flatten();
    Ok(VgpuUse {
        instance,
        mdev: mdev.and_then(|uuid| uuid.parse().ok()),
        type_id: kind.id(),
        type_name: one_line(&kind.name()?, MOST_NAME),
        vm,
        placement: known(raw::placement_of(nvml, instance))?.flatten(),
        framebuffer_mib: kind.framebuffer_size()? / MIB,
        used_mib: vgpu.fb_usage()? / MIB,
        busy,
    })
}

fn vgpu_type(one: &GivenType<'_>, creatable: bool) -> Result<NvmlType, Given> {
    let profile = known(one.instance_profile_id())?;
    Ok(NvmlType {
        id: one.id(),
        name: one_line(&one.name()?, MOST_NAME),
        class: one_line(&one.class_name()?, MOST_NAME),
        framebuffer: Framebuffer::from_mib(u32::try_from(one.framebuffer_size()? / MIB).unwrap_or(u32::MAX)),
        heads: one.num_display_heads()?,
        max_instances: one.max_instances()?,
        max_per_vm: known(one.max_instances_per_vm())?,
        gpu_instance_profile: profile.filter(|profile| *profile != NO_PROFILE),
        creatable,
    })
}
