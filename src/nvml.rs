//! NVIDIA's management library. Loaded when it is asked for, let go when nobody asks; that it is absent is
//! an ordinary answer.
//!
//! [`Nvml`] is a handle on a thread of its own, the only one that calls the library: a call that a wedged
//! GPU holds up costs its caller the deadline, and everybody else an immediate "still at it". A session
//! that is open keeps `sriov-manage` from working (NVIDIA's unbind lock), so it ends by itself after a few
//! idle seconds, and [`Nvml::close`] ends it at once and keeps it ended as long as its guard lives.
//!
//! `read` asks, `set` changes, `partition` does both with GPU instances, `raw` holds the calls that nvml-wrapper lacks or gets wrong, `worker` is the
//! thread.

mod error;
#[cfg(feature = "nvml")]
mod pairs;
#[cfg(feature = "nvml")]
mod partition;
#[cfg(feature = "nvml")]
mod raw;
#[cfg(feature = "nvml")]
mod read;
#[cfg(feature = "nvml")]
mod session;
#[cfg(feature = "nvml")]
mod set;
#[cfg(not(feature = "nvml"))]
mod without;
mod worker;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{
    GpuState, MigProfile, NvmlType, PairState, PciAddress, Placements, SchedulerPolicy, SizeMode,
};

pub use error::{Fault, NvmlError};
#[cfg(feature = "nvml")]
use session::Session;
#[cfg(not(feature = "nvml"))]
use without::Session;
pub use worker::Closed;
use worker::{Resource as _, Worker};

/// How long a caller waits: the driver may have to wake a GPU first.
const ANSWER: Duration = Duration::from_secs(5);

/// How long a change may take that resets a GPU.
const RESET: Duration = Duration::from_secs(30);

/// What the library says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of NVIDIA's driver.
    pub driver_version: String,
    /// Version of the library.
    pub nvml_version: String,
    /// GPUs that the library sees.
    pub devices: u32,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { driver_version, nvml_version, devices } = self;
        write!(f, "{nvml_version}, driver {driver_version}, {devices} GPUs")
    }
}

/// A kind of vGPU and where it can sit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypePlacements {
    /// The type's number.
    pub type_id: u32,
    /// One for each mode in which the GPU knows ids; empty when in none.
    pub placements: Vec<Placements>,
}

/// The library; clones share one thread. Every call loads the library if it must, answers within five
/// seconds, and may be made from any thread.
#[derive(Clone, Debug)]
pub struct Nvml {
    worker: Worker<Session>,
}

impl Default for Nvml {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Nvml {
    /// Creates the handle. Nothing is loaded. `library` replaces `libnvidia-ml.so.1` of the system.
    #[must_use]
    pub fn new(library: Option<PathBuf>) -> Self {
        Self { worker: Worker::new(move || Session::new(library.clone())) }
    }

    /// Asks the library for its versions.
    ///
    /// # Errors
    /// See [`NvmlError`].
    pub fn summary(&self) -> Result<Summary, NvmlError> {
        self.worker.call("ask NVML for its version", ANSWER, Session::summary)
    }

    /// Reads all GPUs and the vGPUs that run on them, in the library's order. One that cannot be read, such as one
    /// that fell off the bus, is left out.
    ///
    /// # Errors
    /// See [`NvmlError`].
    pub fn gpus(&self) -> Result<Vec<GpuState>, NvmlError> {
        self.worker.call("read the GPUs through NVML", ANSWER, Session::gpus)
    }

    /// As [`Nvml::gpus`], for callers in a hurry; a session that this opened ends at once.
    ///
    /// # Errors
    /// See [`NvmlError`].
    pub fn glance(&self, within: Duration) -> Result<Vec<GpuState>, NvmlError> {
        self.worker.call("read the GPUs through NVML", within, |session| {
            let open = session.is_open();
            let gpus = session.gpus();
            if !open {
                session.close();
            }
            gpus
        })
    }

    /// Reads for each pair of GPUs what they can do with each other.
    ///
    /// # Errors
    /// See [`NvmlError`].
    pub fn pairs(&self) -> Result<Vec<PairState>, NvmlError> {
        self.worker.call("read how GPUs are connected through NVML", ANSWER, Session::pairs)
    }

    /// Reads one GPU.
    ///
    /// # Errors
    /// [`NvmlError::NoGpu`] when the library does not know it; see [`NvmlError`].
    pub fn gpu(&self, gpu: PciAddress) -> Result<GpuState, NvmlError> {
        self.worker.call("read a GPU through NVML", ANSWER, move |session| session.gpu(gpu))
    }

    /// Lists the types that a GPU supports, by number; the list does not shrink as the GPU fills.
    ///
    /// # Errors
    /// See [`NvmlError`].
    pub fn types(&self, gpu: PciAddress) -> Result<Vec<NvmlType>, NvmlError> {
        self.worker.call("read the vGPU types through NVML", ANSWER, move |session| session.types(gpu))
    }

    /// Lists where the types of a GPU can sit, by number.
    ///
    /// # Errors
    /// See [`NvmlError`].
    pub fn placements(&self, gpu: PciAddress) -> Result<Vec<TypePlacements>, NvmlError> {
        self.worker
            .call("read the placement ids through NVML", ANSWER, move |session| session.placements(gpu))
    }

    /// Allows vGPUs of several sizes on a GPU, or forbids them. Does not outlive a reload of the driver, nor
    /// `sriov-manage`. Harmless when it is already so.
    ///
    /// # Errors
    /// [`Fault::InUse`] while any vGPU exists on it, [`Fault::NotSupported`] without VFs or in MIG mode.
    pub fn set_size_mode(&self, gpu: PciAddress, mode: SizeMode) -> Result<(), NvmlError> {
        self.worker.call("set the size mode through NVML", ANSWER, move |session| session.set_mode(gpu, mode))
    }

    /// Chooses the scheduler of a GPU; a time slice of 0 is the driver's default. Does not outlive a reload of the driver.
    ///
    /// # Errors
    /// [`Fault::InUse`] while a vGPU runs on it, [`Fault::NotSupported`] in MIG mode, and for fixed share with mixed
    /// sizes; [`Fault::Invalid`] for a time slice out of range.
    pub fn set_scheduler(
        &self,
        gpu: PciAddress,
        policy: SchedulerPolicy,
        time_slice_ns: u32,
    ) -> Result<(), NvmlError> {
        let set = move |session: &mut Session| session.set_scheduler(gpu, policy, time_slice_ns);
        self.worker.call("set the scheduler through NVML", ANSWER, set)
    }

    /// Switches MIG mode. Returns whether that is in force: while anybody has the GPU open it waits for a reset of the GPU, or
    /// a reboot. The mode outlives both.
    ///
    /// # Errors
    /// [`Fault::InUse`] while anything is on the GPU, [`Fault::NotSupported`] where there is no MIG.
    pub fn set_mig(&self, gpu: PciAddress, on: bool) -> Result<bool, NvmlError> {
        self.worker.call("switch MIG mode through NVML", RESET, move |session| session.set_mig(gpu, on))
    }

    /// Makes a GPU instance, where the driver finds room for it. Does not outlive a reboot, nor `sriov-manage`.
    ///
    /// # Errors
    /// [`Fault::NoRoom`] when there is none, [`Fault::NotSupported`] outside MIG mode, [`Fault::Other`] when the GPU has no
    /// such profile.
    pub fn create_instance(&self, gpu: PciAddress, profile: MigProfile) -> Result<(), NvmlError> {
        let create = move |session: &mut Session| session.create_instance(gpu, &profile);
        self.worker.call("make a GPU instance through NVML", ANSWER, create)
    }

    /// Takes a GPU instance away, by its number.
    ///
    /// # Errors
    /// [`Fault::InUse`] while a vGPU, a compute instance or a process is on it.
    pub fn destroy_instance(&self, gpu: PciAddress, id: u32) -> Result<(), NvmlError> {
        let destroy = move |session: &mut Session| session.destroy_instance(gpu, id);
        self.worker.call("take a GPU instance away through NVML", ANSWER, destroy)
    }

    /// Ends the session now; the next call begins another.
    ///
    /// # Errors
    /// When a call is held up in the library.
    pub fn rest(&self) -> Result<(), NvmlError> {
        self.worker.call("end the session of NVML", ANSWER, |session| {
            session.close();
            Ok(())
        })
    }

    /// Ends the session and keeps it ended while the guard lives: to be held across `sriov-manage`, a change of MIG mode and
    /// a reset of a GPU. Calls are refused meanwhile as [`NvmlError::Closed`].
    ///
    /// # Errors
    /// When a call is held up in the library, so that the session cannot be ended.
    pub fn close(&self) -> Result<Closed, NvmlError> {
        self.worker.close(ANSWER)
    }

    /// Returns whether a session is open now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.worker.is_open()
    }
}
