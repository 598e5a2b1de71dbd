//! `GET /v1/usage`: what NVIDIA's library says, joined to the promises by the VM's UUID.

use axum::Json;
use axum::extract::State;

use super::routes::run;
use super::{No, Shared};
use crate::model::{Allocation, Device, GpuState, HostSnapshot, PciAddress, Refusal, VgpuUse};
use crate::wire::{Usage, VgpuOwner};

pub(super) async fn usage(State(shared): State<Shared>) -> Result<Json<Usage>, No> {
    let answer = run(&shared, |shared| {
        Ok(match shared.nvml.gpus() {
            Ok(gpus) => {
                let owners = shared.owners(&gpus);
                Usage { absent: None, gpus, owners }
            }
            Err(error) => Usage { absent: Some(Refusal::from(error).message), ..Usage::default() },
        })
    });
    answer.await.map(Json)
}

impl Shared {
    /// Says whose the running vGPUs are.
    pub(super) fn owners(&self, gpus: &[GpuState]) -> Vec<VgpuOwner> {
        let engine = self.desk.engine();
        let allocations: Vec<Allocation> = engine.book().allocations.into_values().collect();
        let newest = engine.newest();
        join(gpus, &allocations, |device| newest.as_deref().and_then(|host| gpu_of(host, device)))
    }
}

fn gpu_of(host: &HostSnapshot, device: Device) -> Option<PciAddress> {
    let gpu = match device {
        Device::Mdev(uuid) => host.mdev(uuid)?.0,
        Device::Vf(address) => host.function(address)?.0,
    };
    gpu.pci.as_ref().map(|pci| pci.address)
}

fn join(
    gpus: &[GpuState],
    allocations: &[Allocation],
    gpu_of: impl Fn(Device) -> Option<PciAddress>,
) -> Vec<VgpuOwner> {
    let on = |gpu: &GpuState, vgpu: &VgpuUse, one: &Allocation| match vgpu.mdev {
        Some(mdev) => one.device == Device::Mdev(mdev),
        None => vgpu.vm == Some(one.domain.uuid) && gpu_of(one.device).is_none_or(|at| at == gpu.address),
    };
    let owner = |gpu: &GpuState, vgpu: &VgpuUse| {
        let theirs: Vec<&Allocation> = allocations.iter().filter(|one| on(gpu, vgpu, one)).collect();
        let first = theirs.first()?;
        Some(VgpuOwner {
            gpu: gpu.address,
            instance: vgpu.instance,
            domain: first.domain.name.clone(),
            allocations: theirs.iter().map(|one| one.id.clone()).collect(),
        })
    };
    gpus.iter().flat_map(|gpu| gpu.vgpus.iter().filter_map(move |vgpu| owner(gpu, vgpu))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture;

    const GPU: &str = "0000:41:00.0";

    fn gpu(vgpus: Vec<VgpuUse>) -> GpuState {
        GpuState {
            address: GPU.parse().expect("valid"),
            name: "NVIDIA L40S".to_owned(),
            uuid: "GPU-1".to_owned(),
            framebuffer_mib: 49152,
            used_mib: 0,
            size_mode: None,
            can_mix: false,
            scheduler: None,
            mig: None,
            instances: Vec::new(),
            profiles: Vec::new(),
            computing: Vec::new(),
            ecc: None,
            vgpus,
        }
    }

    fn vgpu(instance: u32, of: &Allocation) -> VgpuUse {
        VgpuUse {
            instance,
            mdev: None,
            type_id: 1150,
            type_name: "NVIDIA L40S-4Q".to_owned(),
            vm: Some(of.domain.uuid),
            placement: None,
            framebuffer_mib: 4096,
            used_mib: 1,
            busy: None,
        }
    }

    #[test]
    fn a_vgpu_is_joined_by_its_vm_on_its_gpu() {
        let here = fixture::vf_allocation(1, 1, "0000:41:00.4");
        let elsewhere = fixture::vf_allocation(2, 1, "0000:42:00.4");
        let gpus = [gpu(vec![vgpu(1, &here), VgpuUse { vm: None, ..vgpu(2, &here) }])];
        let at = |device: Device| {
            let on = if device == here.device { GPU } else { "0000:42:00.0" };
            on.parse().ok()
        };
        let owners = join(&gpus, &[elsewhere, here.clone()], at);
        let [owner] = &owners[..] else { panic!("one of the two is ours") };
        assert_eq!((owner.instance, &owner.domain), (1, &here.domain.name));
        assert_eq!(owner.allocations, std::slice::from_ref(&here.id));
    }

    #[test]
    fn an_mdev_is_joined_by_its_own_uuid() {
        let device = Device::Mdev(fixture::uuid(7));
        let one = Allocation { device, ..fixture::vf_allocation(1, 1, "0000:41:00.4") };
        let other = fixture::vf_allocation(2, 2, "0000:41:00.5");
        let gpus = [gpu(vec![VgpuUse { mdev: Some(fixture::uuid(7)), ..vgpu(1, &other) }])];
        assert_eq!(join(&gpus, &[other, one.clone()], |_| None)[0].allocations, [one.id]);
    }
}
