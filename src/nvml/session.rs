//! The library while it is loaded.

use std::path::PathBuf;

use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError as Given;

use super::worker::Resource;
use super::{Fault, NvmlError, Summary};
use crate::model::PciAddress;

/// The library, loaded or not.
#[derive(Debug)]
pub(super) struct Session {
    library: Option<PathBuf>,
    open: Option<nvml_wrapper::Nvml>,
}

impl Resource for Session {
    fn close(&mut self) {
        if let Some(Err(error)) = self.open.take().map(nvml_wrapper::Nvml::shutdown) {
            tracing::warn!(%error, "NVML did not end its session in order, taking it as ended");
        }
    }

    fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

impl Session {
    pub(super) fn new(library: Option<PathBuf>) -> Self {
        Self { library, open: None }
    }

    /// Returns the library, loaded if it must be.
    pub(super) fn nvml(&mut self) -> Result<&nvml_wrapper::Nvml, NvmlError> {
        let open = match self.open.take() {
            Some(open) => open,
            None => load(self.library.as_ref()).map_err(|error| NvmlError::Absent(why_absent(&error)))?,
        };
        Ok(self.open.insert(open))
    }

    pub(super) fn summary(&mut self) -> Result<Summary, NvmlError> {
        let nvml = self.nvml()?;
        let fail = |error| failed("ask NVML for its version", None, &error);
        Ok(Summary {
            driver_version: nvml.sys_driver_version().map_err(fail)?,
            nvml_version: nvml.sys_nvml_version().map_err(fail)?,
            devices: nvml.device_count().map_err(fail)?,
        })
    }
}

fn load(library: Option<&PathBuf>) -> Result<nvml_wrapper::Nvml, Given> {
    match library {
        None => nvml_wrapper::Nvml::init(),
        Some(path) => nvml_wrapper::Nvml::builder().lib_path(path.as_os_str()).init(),
    }
}

fn why_absent(error: &Given) -> String {
    match error {
        Given::LibloadingError(_) | Given::LibraryNotFound => "libnvidia-ml.so.1 cannot be loaded".to_owned(),
        other => crate::model::one_line(&other.to_string(), 200),
    }
}

/// Finds a GPU by its address.
pub(super) fn device(nvml: &nvml_wrapper::Nvml, gpu: PciAddress) -> Result<Device<'_>, NvmlError> {
    nvml.device_by_pci_bus_id(gpu.to_string()).map_err(|error| match error {
        Given::NotFound | Given::InvalidArg => NvmlError::NoGpu(gpu),
        other => failed("find a GPU", Some(gpu), &other),
    })
}

/// Says what an answer means that is not success.
pub(super) fn failed(what: impl Into<String>, gpu: Option<PciAddress>, error: &Given) -> NvmlError {
    NvmlError::Failed { what: what.into(), gpu, fault: fault(error) }
}

fn fault(error: &Given) -> Fault {
    match error {
        Given::InUse => Fault::InUse,
        Given::NotSupported => Fault::NotSupported,
        Given::InvalidArg | Given::UnexpectedVariant(_) => Fault::Invalid,
        Given::NoPermission => Fault::Forbidden,
        Given::GpuLost => Fault::Lost,
        Given::FailedToLoadSymbol(name) => Fault::TooOld(crate::model::one_line(name, 120)),
        other => Fault::Other(crate::model::one_line(&other.to_string(), 200)),
    }
}
