//! What NVIDIA's library says, kept for everybody who must not wait for it: the choice of a GPU, the interlocks, the
//! policies that go by load.
//!
//! One thread of the service asks; it alone waits for the library. What it says counts until it says otherwise, and
//! modes are asked again at once when they were set here. Sessions end with each look, so that `sriov-manage` by
//! hand meets one seldom.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Engine;
use crate::backend::nvidia_vfio::named_type;
use crate::model::{GpuState, HostSnapshot, NvmlFacts, NvmlPlaced, PciAddress};
use crate::nvml::Nvml;

/// How long a look may take.
const LOOK: Duration = Duration::from_secs(5);

/// What is known; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Survey(Arc<Mutex<BTreeMap<PciAddress, Known>>>);

#[derive(Clone, Debug)]
struct Known {
    /// The library's own id of the GPU: another card at the same address is another GPU.
    uuid: String,
    facts: NvmlFacts,
}

impl Survey {
    fn known(&self) -> MutexGuard<'_, BTreeMap<PciAddress, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the library says of all GPUs. `types` are those of the GPUs that are new.
    fn take(&self, states: &[GpuState], mut types: BTreeMap<PciAddress, Vec<NvmlPlaced>>) {
        let mut known = self.known();
        known.retain(|address, _| states.iter().any(|state| state.address == *address));
        for state in states {
            let before = known.get(&state.address).map(|known| known.facts.types.clone());
            let facts = NvmlFacts {
                size_mode: state.size_mode,
                scheduler: state.scheduler.as_ref().and_then(|scheduler| scheduler.policy),
                mig: state.mig.map(|mig| mig.on),
                instances: state.instances.clone(),
                ecc: state.ecc,
                types: types.remove(&state.address).or(before).unwrap_or_default(),
            };
            known.insert(state.address, Known { uuid: state.uuid.clone(), facts });
        }
    }

    /// Returns the GPUs whose types are not known.
    fn unknown(&self, states: &[GpuState]) -> Vec<PciAddress> {
        let known = self.known();
        let is_known = |state: &&GpuState| {
            let here = known.get(&state.address);
            here.is_some_and(|here| here.uuid == state.uuid && !here.facts.types.is_empty())
        };
        states.iter().filter(|state| !is_known(state)).map(|state| state.address).collect()
    }

    /// Adds to a reading what the library said: modes, places, and the names that the kernel does not tell now.
    pub(super) fn dress(&self, snapshot: &mut HostSnapshot) {
        let known = self.known();
        for gpu in snapshot.gpus.iter_mut().filter(|gpu| gpu.is_on_nvidia()) {
            let Some(here) = gpu.pci.as_ref().and_then(|pci| known.get(&pci.address)) else { continue };
            for one in gpu.vgpu_types.iter_mut().filter(|one| one.name == one.id.as_str()) {
                let placed = here.facts.placed(&one.id);
                if let Some(named) = placed.and_then(|placed| named_type(placed.id, &placed.name)) {
                    *one = named;
                }
            }
            gpu.nvml = Some(here.facts.clone());
        }
    }
}

/// Reads where the types of a GPU can sit.
fn places(nvml: &Nvml, gpu: PciAddress) -> Option<Vec<NvmlPlaced>> {
    let types = nvml.types(gpu).ok()?;
    let placements = nvml.placements(gpu).ok()?;
    let all = types.into_iter().map(|one| {
        let here = placements.iter().find(|placed| placed.type_id == one.id);
        let placements = here.map(|placed| placed.placements.clone()).unwrap_or_default();
        let (id, most, profile) = (one.id, one.max_instances, one.gpu_instance_profile);
        NvmlPlaced { id, name: one.name, most, gpu_instance_profile: profile, placements }
    });
    Some(all.collect())
}

/// Returns how busy a GPU is in thousandths: what its vGPUs had of the multiprocessors together. `None` while one of
/// them has no sample.
fn load(state: &GpuState) -> Option<u32> {
    let all: Option<Vec<u32>> = state.vgpus.iter().map(|vgpu| vgpu.busy.map(|busy| busy.sm)).collect();
    Some(all?.iter().sum::<u32>().min(100) * 10)
}

impl Engine {
    /// Asks NVIDIA's library once about all its GPUs, when there are any. Blocks for seconds at worst.
    pub fn survey(&self) {
        let Some(newest) = self.inner.scanner.last() else { return };
        let here: BTreeSet<PciAddress> = newest
            .gpus
            .iter()
            .filter(|gpu| gpu.is_on_nvidia())
            .filter_map(|gpu| Some(gpu.pci.as_ref()?.address))
            .collect();
        if here.is_empty() {
            return;
        }
        let nvml = &self.inner.nvml;
        let states = match nvml.glance(LOOK) {
            Ok(states) => states,
            Err(error) => {
                tracing::debug!(%error, "NVML says nothing of the GPUs");
                return;
            }
        };
        let new = self.inner.survey.unknown(&states);
        let types = new.iter().filter_map(|gpu| Some((*gpu, places(nvml, *gpu)?)));
        self.inner.survey.take(&states, types.collect());
        if !new.is_empty() {
            self.rest_nvml();
            self.host_changed();
        }
        for state in &states {
            let gpu = newest.gpu(&state.address.to_string());
            if let (Some(gpu), Some(load)) = (gpu, load(state)) {
                self.note_busy(gpu.id.clone(), load);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::{host, pci_id, vgpu_gpu};
    use crate::model::{Busy, PciFacts, Placements, SizeMode, VgpuUse};

    fn state(uuid: &str, busy: &[Option<u32>]) -> GpuState {
        let vgpu = |(instance, sm): (usize, &Option<u32>)| VgpuUse {
            instance: u32::try_from(instance).expect("few"),
            mdev: None,
            type_id: 8,
            type_name: String::new(),
            vm: None,
            placement: None,
            framebuffer_mib: 0,
            used_mib: 0,
            busy: sm.map(|sm| Busy { sm, ..Busy::default() }),
        };
        GpuState {
            address: "0000:41:00.0".parse().expect("an address"),
            name: "NVIDIA L40S".to_owned(),
            uuid: uuid.to_owned(),
            framebuffer_mib: 49152,
            used_mib: 0,
            size_mode: Some(SizeMode::Mixed),
            can_mix: true,
            scheduler: None,
            mig: None,
            instances: Vec::new(),
            profiles: Vec::new(),
            computing: Vec::new(),
            ecc: Some(true),
            vgpus: busy.iter().enumerate().map(vgpu).collect(),
        }
    }

    #[test]
    fn load_is_the_sum_and_unknown_while_a_sample_is_missing() {
        assert_eq!(load(&state("a", &[])), Some(0));
        assert_eq!(load(&state("a", &[Some(40), Some(25)])), Some(650));
        assert_eq!(load(&state("a", &[Some(80), Some(80)])), Some(1000));
        assert_eq!(load(&state("a", &[Some(80), None])), None);
    }

    #[test]
    fn a_reading_gets_modes_places_and_names() {
        let survey = Survey::default();
        let now = state("a", &[]);
        assert_eq!(survey.unknown(std::slice::from_ref(&now)), [now.address]);
        let mixed =
            Placements { mode: SizeMode::Mixed, size: 8, supported: vec![0, 16], creatable: vec![16] };
        let placed = NvmlPlaced {
            id: 8,
            name: "NVIDIA L40S-8Q".to_owned(),
            most: 6,
            gpu_instance_profile: None,
            placements: vec![mixed],
        };
        survey.take(std::slice::from_ref(&now), [(now.address, vec![placed.clone()])].into());
        assert_eq!(survey.unknown(std::slice::from_ref(&now)), []);
        assert_eq!(survey.unknown(&[state("b", &[])]), [now.address], "another card sits there");
        let mut gpu = vgpu_gpu("a", &[("nvidia-8", 8)], &[None], &[]);
        gpu.driver = Some("nvidia".to_owned());
        gpu.vgpu_types[0].name = "nvidia-8".to_owned();
        let (id, subsystem) = (pci_id("10de:26b9"), pci_id("10de:1851"));
        let (vendor_name, device_name) = (String::new(), String::new());
        let class = 0x03_0200;
        gpu.pci = Some(PciFacts {
            address: now.address,
            id,
            subsystem,
            class,
            vendor_name,
            device_name,
            link: None,
        });
        let mut snapshot = host(vec![gpu]);
        survey.dress(&mut snapshot);
        let gpu = &snapshot.gpus[0];
        assert_eq!(gpu.vgpu_types[0].name, "NVIDIA L40S-8Q");
        let facts = gpu.nvml.as_ref().expect("is known");
        assert_eq!((facts.size_mode, facts.ecc), (Some(SizeMode::Mixed), Some(true)));
        assert_eq!(facts.placed(&gpu.vgpu_types[0].id), Some(&placed));
        survey.take(&[], BTreeMap::new());
        let mut snapshot = host(vec![gpu.clone()]);
        snapshot.gpus[0].nvml = None;
        survey.dress(&mut snapshot);
        assert_eq!(snapshot.gpus[0].nvml, None, "it is gone");
    }
}
