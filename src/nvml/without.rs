//! What stands for the library in a build without the feature `nvml`.

use std::path::PathBuf;

use super::worker::Resource;
use super::{NvmlError, Summary, TypePlacements};
use crate::model::{GpuState, MigProfile, NvmlType, PairState, PciAddress, SchedulerPolicy, SizeMode};

/// Answers everything alike.
#[derive(Debug)]
pub(super) struct Session;

fn absent<T>() -> Result<T, NvmlError> {
    Err(NvmlError::Absent("built without the feature `nvml`".to_owned()))
}

impl Resource for Session {
    fn close(&mut self) {}

    fn is_open(&self) -> bool {
        false
    }
}

impl Session {
    pub(super) fn new(_library: Option<PathBuf>) -> Self {
        Self
    }

    pub(super) fn summary(&mut self) -> Result<Summary, NvmlError> {
        absent()
    }

    pub(super) fn gpus(&mut self) -> Result<Vec<GpuState>, NvmlError> {
        absent()
    }

    pub(super) fn pairs(&mut self) -> Result<Vec<PairState>, NvmlError> {
        absent()
    }

    pub(super) fn gpu(&mut self, _gpu: PciAddress) -> Result<GpuState, NvmlError> {
        absent()
    }

    pub(super) fn types(&mut self, _gpu: PciAddress) -> Result<Vec<NvmlType>, NvmlError> {
        absent()
    }

    pub(super) fn placements(&mut self, _gpu: PciAddress) -> Result<Vec<TypePlacements>, NvmlError> {
        absent()
    }

    pub(super) fn set_mode(&mut self, _gpu: PciAddress, _mode: SizeMode) -> Result<(), NvmlError> {
        absent()
    }

    pub(super) fn set_scheduler(
        &mut self,
        _gpu: PciAddress,
        _policy: SchedulerPolicy,
        _time_slice_ns: u32,
    ) -> Result<(), NvmlError> {
        absent()
    }
    pub(super) fn set_mig(&mut self, _gpu: PciAddress, _on: bool) -> Result<bool, NvmlError> {
        absent()
    }

    pub(super) fn create_instance(
        &mut self,
        _gpu: PciAddress,
        _profile: &MigProfile,
    ) -> Result<(), NvmlError> {
        absent()
    }

    pub(super) fn destroy_instance(&mut self, _gpu: PciAddress, _id: u32) -> Result<(), NvmlError> {
        absent()
    }
}
