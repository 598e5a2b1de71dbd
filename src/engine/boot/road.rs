//! The order in which a GPU comes to its slices, as data: for each road its steps, the facts that must hold before
//! each, and how long those may take. A step of an earlier line comes first. Adding a road is adding a table.
//!
//! Sources: NVIDIA's vGPU guides (MIG mode before SR-IOV, that before GPU instances and mixed-size mode, those before vGPUs); the kernel's drivers/pci/iov.c.

use std::time::Duration;

use crate::backend::xe;
use crate::model::{BackendKind, Gpu, GpuState, Sriov, Vf};

/// What a step of a road brings about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Stage {
    /// MIG mode.
    Mig,
    /// The remembered number of VFs.
    Vfs,
    /// Each VF on the driver that guests get it from.
    Binding,
    /// GPU instances, in MIG mode.
    Instances,
    /// Mixed or equal sizes.
    Mode,
    /// The scheduler and its time slice.
    Scheduler,
    /// The turns of VFs, of the slices that are guaranteed to a profile with a weight.
    Quanta,
    /// The slices of guaranteed allocations.
    Slices,
}

/// Something that is so or not. Told as what is waited for when it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Fact {
    /// A driver has the PF.
    Driver,
    /// The PF can have VFs.
    Capable,
    /// There are VFs, where the PF can have any.
    Vfs,
    /// There are no VFs.
    NoVfs,
    /// All VFs are on their driver.
    Bound,
    /// MIG mode is on.
    Divided,
    /// No process computes on the GPU itself.
    Idle,
    /// NVIDIA's library knows the GPU.
    Library,
    /// No vGPU is made on the GPU.
    Empty,
    /// The VF has the directory of its vendor's driver.
    Files,
    /// The driver divides the memory by itself, or each VF that is wanted was given its own.
    Shares,
    /// The driver of the PF says the VF's turns.
    Turns,
}

/// One step.
#[derive(Debug)]
pub(in crate::engine) struct Leg {
    pub(in crate::engine) stage: Stage,
    /// What must hold before; in this order, the first that does not is told.
    pub(in crate::engine) needs: &'static [Fact],
    /// How long they may take before the report calls that a failure. The step goes on when they come.
    pub(in crate::engine) within: Duration,
}

const fn leg(stage: Stage, needs: &'static [Fact], within_s: u64) -> Leg {
    Leg { stage, needs, within: Duration::from_secs(within_s) }
}

/// NVIDIA's driver: its script makes VFs; what is set at run time goes with each change of VFs, and is set while no
/// vGPU exists. MIG mode is persistent, and changes only without VFs; GPU instances go with each change of VFs. vGPUs need no
/// compute instances: the driver in the guest makes them.
pub(in crate::engine) static NVIDIA: [Leg; 7] = [
    leg(Stage::Mig, &[Fact::Driver, Fact::Library, Fact::NoVfs, Fact::Idle], 60),
    leg(Stage::Vfs, &[Fact::Driver, Fact::Capable], 120),
    leg(Stage::Binding, &[Fact::Driver, Fact::Capable], 120),
    leg(
        Stage::Instances,
        &[Fact::Driver, Fact::Vfs, Fact::Bound, Fact::Library, Fact::Divided, Fact::Empty, Fact::Idle],
        60,
    ),
    leg(Stage::Mode, &[Fact::Driver, Fact::Vfs, Fact::Bound, Fact::Library, Fact::Empty], 60),
    leg(Stage::Scheduler, &[Fact::Driver, Fact::Vfs, Fact::Bound, Fact::Library, Fact::Empty], 60),
    leg(Stage::Slices, &[Fact::Files], 120),
];

/// Intel's xe: it divides its memory when VFs are made, unless quotas were written by hand before (which no VF may be
/// without then). Turns may be set as soon as the VF is there, before a guest has it.
pub(in crate::engine) static XE: [Leg; 4] = [
    leg(Stage::Vfs, &[Fact::Driver, Fact::Capable, Fact::Shares], 120),
    leg(Stage::Binding, &[Fact::Driver, Fact::Capable], 120),
    leg(Stage::Quanta, &[Fact::Driver, Fact::Turns], 60),
    leg(Stage::Slices, &[], 120),
];

/// Every other PF: VFs, then their driver.
pub(in crate::engine) static BARE: [Leg; 3] = [
    leg(Stage::Vfs, &[Fact::Driver, Fact::Capable], 120),
    leg(Stage::Binding, &[Fact::Driver, Fact::Capable], 120),
    leg(Stage::Slices, &[], 120),
];

/// Returns the road of a GPU.
pub(in crate::engine) fn of(gpu: Option<&Gpu>) -> &'static [Leg] {
    match gpu {
        Some(gpu) if gpu.is_on_nvidia() => &NVIDIA,
        Some(gpu) if gpu.backend == BackendKind::Xe => &XE,
        Some(_) | None => &BARE,
    }
}

/// Returns the step of a road that brings a stage about.
pub(in crate::engine) fn leg_of(gpu: Option<&Gpu>, stage: Stage) -> Option<&'static Leg> {
    of(gpu).iter().find(|leg| leg.stage == stage)
}

/// What facts are judged by.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Ground<'a> {
    pub(in crate::engine) gpu: &'a Gpu,
    /// How many VFs are wanted, where that is the question.
    pub(in crate::engine) count: Option<u32>,
    /// The VF that a slice is of.
    pub(in crate::engine) vf: Option<&'a Vf>,
    /// What NVIDIA's library says of the GPU, or why it says nothing. `None`: it was not asked.
    pub(in crate::engine) nvml: Option<&'a Result<GpuState, String>>,
}

impl Leg {
    /// Returns the first fact that does not hold, as a clause.
    pub(in crate::engine) fn missing(&self, ground: &Ground<'_>) -> Option<String> {
        self.needs.iter().find_map(|fact| fact.missing(ground))
    }
}

impl Fact {
    fn missing(self, Ground { gpu, count, vf, nvml }: &Ground<'_>) -> Option<String> {
        let name = &gpu.name;
        let vfs = || gpu.sriov.iter().flat_map(|sriov| &sriov.vfs);
        let capable = |sriov: &Sriov| sriov.total > 0;
        let state = nvml.and_then(|said| said.as_ref().ok());
        match self {
            Self::Driver => gpu.driver.is_none().then(|| format!("a driver on {name}")),
            Self::Capable => (!gpu.sriov.as_ref().is_some_and(capable))
                .then(|| format!("sriov_totalvfs on {name}: {}", gpu.backend_reason)),
            Self::Vfs => (gpu.sriov.as_ref().is_some_and(capable) && vfs().next().is_none())
                .then(|| format!("VFs of {name}")),
            Self::NoVfs => vfs().next().map(|_| {
                format!("{name} to have no VFs: beside them MIG mode does not change (vgpuctl gpu set {name} --vfs 0)")
            }),
            Self::Divided => (!state.and_then(|state| state.mig).is_some_and(|mig| mig.on))
                .then(|| format!("MIG mode of {name}")),
            Self::Idle => {
                let pid = state.and_then(|state| state.computing.first())?;
                Some(format!("process {pid} to end, which computes on {name}"))
            }
            Self::Bound => {
                let unbound = vfs().find(|vf| !gpu.has_bound(vf))?;
                Some(format!("the driver of VF {}", unbound.address))
            }
            Self::Library => match nvml {
                Some(Ok(_)) => None,
                Some(Err(why)) => Some(format!("NVIDIA's library to know {name}: {why}")),
                None => Some(format!("NVIDIA's library to know {name}")),
            },
            Self::Empty => {
                crate::engine::vfs::made_on(gpu).next().map(|made| format!("{name} to have no vGPU: {made}"))
            }
            Self::Shares => {
                let by_hand = gpu.sriov.as_ref().map(|sriov| sriov.by_hand.as_slice()).unwrap_or_default();
                let vf = xe::undivided(by_hand, count.unwrap_or(0))?;
                Some(format!(
                    "memory for VF {vf} of {name}: others were given theirs by hand, and then its driver divides nothing (sriov_admin/.bulk_profile/vram_quota 0 lets it)"
                ))
            }
            Self::Turns => match vf {
                Some(vf) if vf.quantum.is_none() => Some(format!("the turns of VF {}", vf.address)),
                _ => None,
            },
            Self::Files => match vf {
                Some(vf) if vf.vgpu.is_none() => {
                    Some(format!("vGPU types on VF {}: {}", vf.address, gpu.backend_reason))
                }
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::{pf, vf, vgpu_gpu};

    fn position(road: &[Leg], stage: Stage) -> usize {
        road.iter().position(|leg| leg.stage == stage).expect("is on the road")
    }

    #[test]
    fn slices_are_last_and_vfs_first_on_every_road() {
        for road in [&NVIDIA[..], &XE[..], &BARE[..]] {
            let first = road.iter().position(|leg| leg.stage != Stage::Mig);
            assert_eq!(first, Some(position(road, Stage::Vfs)), "only MIG mode comes before VFs");
            assert_eq!(position(road, Stage::Slices), road.len() - 1);
            assert!(road.iter().all(|leg| !leg.within.is_zero()), "each step has its time-out");
        }
        let order =
            [Stage::Vfs, Stage::Mode, Stage::Scheduler, Stage::Slices].map(|one| position(&NVIDIA, one));
        assert!(order.is_sorted(), "VFs, sizes, scheduler, vGPUs");
        let order = [Stage::Mig, Stage::Vfs, Stage::Binding, Stage::Instances, Stage::Slices];
        assert!(order.map(|one| position(&NVIDIA, one)).is_sorted(), "MIG mode, VFs, GPU instances, vGPUs");
    }

    #[test]
    fn the_first_fact_that_does_not_hold_is_told() {
        let mut gpu = vgpu_gpu("a", &[("nvidia-8", 8)], &[None, None], &["nvidia-8"]);
        gpu.driver = None;
        let mode = leg_of(Some(&gpu), Stage::Mode);
        assert!(mode.is_none(), "without NVIDIA's driver it is no GPU of that road");
        let mode = &NVIDIA[position(&NVIDIA, Stage::Mode)];
        let missing = |gpu: &Gpu, nvml: Option<&Result<GpuState, String>>| {
            mode.missing(&Ground { gpu, count: None, vf: None, nvml }).unwrap_or_default()
        };
        assert_eq!(missing(&gpu, None), "a driver on a");
        gpu.driver = Some("nvidia".to_owned());
        let absent = Err("NVML is absent".to_owned());
        assert_eq!(missing(&gpu, Some(&absent)), "NVIDIA's library to know a: NVML is absent");
        if let Some(sriov) = &mut gpu.sriov {
            sriov.vfs[0].vgpu.as_mut().expect("takes types").current = "nvidia-8".parse().ok();
        }
        let first = gpu.sriov.as_ref().expect("a PF").vfs[0].address;
        assert!(missing(&gpu, Some(&absent)).starts_with("NVIDIA's library"), "the order of the table");
        let empty = NVIDIA[position(&NVIDIA, Stage::Mode)].needs.iter().find(|fact| **fact == Fact::Empty);
        let told =
            empty.and_then(|fact| fact.missing(&Ground { gpu: &gpu, count: None, vf: None, nvml: None }));
        assert_eq!(told, Some(format!("a to have no vGPU: VF {first} is vGPU nvidia-8")));
        let mut intel = Gpu { backend: BackendKind::Xe, ..pf("c", Vec::new()) };
        let shares = |gpu: &Gpu, count| Fact::Shares.missing(&Ground { gpu, count, vf: None, nvml: None });
        assert_eq!(shares(&intel, Some(4)), None, "the driver divides");
        intel.sriov.as_mut().expect("a PF").by_hand = vec![1, 2];
        assert_eq!(shares(&intel, Some(2)), None, "each has its own");
        let missing = shares(&intel, Some(4)).expect("VF 3 has none");
        assert!(missing.starts_with("memory for VF 3 of c"), "{missing}");
        let order = [Stage::Vfs, Stage::Binding, Stage::Quanta, Stage::Slices].map(|one| position(&XE, one));
        assert!(order.is_sorted() && of(Some(&intel)).len() == XE.len(), "VFs, binding, quanta, slices");
        let bare = pf("b", vec![vf("0000:01:10.0", "8086:10ca")]);
        assert_eq!(of(Some(&bare)).len(), BARE.len());
    }
}
