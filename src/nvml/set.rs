//! What can be changed: mixed sizes and the scheduler.

use nvml_wrapper::error::NvmlError as Given;

use super::NvmlError;
use super::raw;
use super::session::{Session, device, failed};
use crate::model::{PciAddress, SchedulerPolicy, SizeMode};

impl Session {
    pub(super) fn set_mode(&mut self, gpu: PciAddress, mode: SizeMode) -> Result<(), NvmlError> {
        let nvml = self.nvml()?;
        let device = device(nvml, gpu)?;
        let fail = |error: Given| failed(format!("set the size mode to {mode}"), Some(gpu), &error);
        let wanted = mode == SizeMode::Mixed;
        if raw::is_mixed(nvml, &device).is_ok_and(|mixed| mixed == wanted) {
            return Ok(());
        }
        raw::set_mixed(nvml, &device, wanted).map_err(fail)
    }

    pub(super) fn set_scheduler(
        &mut self,
        gpu: PciAddress,
        policy: SchedulerPolicy,
        time_slice_ns: u32,
    ) -> Result<(), NvmlError> {
        let nvml = self.nvml()?;
        let device = device(nvml, gpu)?;
        let what = match time_slice_ns {
            0 => format!("set the scheduler to {policy}"),
            slice => format!("set the scheduler to {policy} with a time slice of {slice} ns"),
        };
        let set = raw::set_scheduler(nvml, &device, number(policy), time_slice_ns);
        set.map_err(|error| failed(what, Some(gpu), &error))
    }
}

/// Returns NVML's number of a policy.
const fn number(policy: SchedulerPolicy) -> u32 {
    match policy {
        SchedulerPolicy::BestEffort => 1,
        SchedulerPolicy::EqualShare => 2,
        SchedulerPolicy::FixedShare => 3,
    }
}
