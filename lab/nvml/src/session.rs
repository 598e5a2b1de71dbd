//! What `nvmlInit` begins: the list of GPUs, and the handles that name them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlGpuInstance_t};

use crate::abi::{Answer, Code, INVALID, LOST, NOT_FOUND, NOT_LOADED, UNINITIALIZED};
use crate::lock::Client;
use crate::state::{self, Gpu, Instance, Kind, Vgpu};

#[derive(Debug)]
struct Session {
    users: u32,
    gpus: Vec<String>,
    /// One of each GPU, while anybody uses the library.
    clients: Vec<Client>,
}

static SESSION: Mutex<Session> = Mutex::new(Session { users: 0, gpus: Vec::new(), clients: Vec::new() });

/// Instances of the GPU at index N are numbered from N times this.
const INSTANCES: u32 = 1 << 16;

fn session() -> MutexGuard<'static, Session> {
    SESSION.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins or joins the session.
pub(crate) fn begin() -> Answer {
    let mut session = session();
    if session.users == 0 {
        let gpus = state::addresses();
        if gpus.is_empty() {
            return Err(NOT_LOADED);
        }
        // Refused while the driver is being taken off a GPU.
        session.clients = gpus.iter().map(|gpu| Client::of(gpu)).collect::<Option<_>>().ok_or(NOT_LOADED)?;
        session.gpus = gpus;
    }
    session.users += 1;
    Ok(())
}

/// Leaves the session; the last one ends it.
pub(crate) fn end() -> Answer {
    let mut session = session();
    session.users = session.users.checked_sub(1).ok_or(UNINITIALIZED)?;
    if session.users == 0 {
        session.gpus.clear();
        session.clients.clear();
    }
    Ok(())
}

/// Returns the addresses of the GPUs that the session began with.
pub(crate) fn addresses() -> Result<Vec<String>, Code> {
    let session = session();
    if session.users == 0 { Err(UNINITIALIZED) } else { Ok(session.gpus.clone()) }
}

/// Returns the handle of the GPU at an index. It is a number, and never followed as a pointer.
pub(crate) fn handle(index: usize) -> nvmlDevice_t {
    std::ptr::without_provenance_mut(index + 1)
}

/// Returns the index that a handle stands for.
pub(crate) fn index(device: nvmlDevice_t) -> Result<usize, Code> {
    let known = addresses()?.len();
    device.addr().checked_sub(1).filter(|index| *index < known).ok_or(INVALID)
}

/// Reads the GPU that a handle stands for.
pub(crate) fn gpu(device: nvmlDevice_t) -> Result<Gpu, Code> {
    let index = index(device)?;
    addresses()?.get(index).and_then(|address| state::load(address)).ok_or(LOST)
}

/// Finds a kind of vGPU on any GPU.
pub(crate) fn kind(id: u32) -> Result<(Gpu, Kind), Code> {
    let gpus = addresses()?.into_iter().filter_map(|address| state::load(&address));
    let mut found = gpus.filter_map(|gpu| gpu.kind(id).cloned().map(|kind| (gpu, kind)));
    found.next().ok_or(INVALID)
}

/// Returns the number by which the library knows a vGPU of the GPU at an index.
pub(crate) fn instance_number(index: usize, vgpu: &Vgpu) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX).saturating_mul(INSTANCES).saturating_add(vgpu.id)
}

/// Finds a running vGPU by the library's number.
pub(crate) fn instance(number: u32) -> Result<(Gpu, Vgpu), Code> {
    let addresses = addresses()?;
    if number == 0 {
        return Err(INVALID);
    }
    let address = addresses.get((number / INSTANCES) as usize).ok_or(NOT_FOUND)?;
    let gpu = state::load(address).ok_or(LOST)?;
    let vgpu = gpu.vgpus.iter().find(|vgpu| vgpu.id == number % INSTANCES && vgpu.running).cloned();
    vgpu.map(|vgpu| (gpu, vgpu)).ok_or(NOT_FOUND)
}

/// Returns the handle of a GPU instance: a number, and never followed as a pointer.
pub(crate) fn part_handle(index: usize, id: u32) -> nvmlGpuInstance_t {
    std::ptr::without_provenance_mut((index + 1) * INSTANCES as usize + id as usize)
}

/// Finds a GPU instance by its handle.
pub(crate) fn part(handle: nvmlGpuInstance_t) -> Result<(usize, Gpu, Instance), Code> {
    let addresses = addresses()?;
    let index = (handle.addr() / INSTANCES as usize).checked_sub(1).ok_or(INVALID)?;
    let gpu = state::load(addresses.get(index).ok_or(INVALID)?).ok_or(LOST)?;
    let id = handle.addr() % INSTANCES as usize;
    let found = gpu.instances.iter().find(|one| one.id as usize == id).cloned();
    found.map(|one| (index, gpu, one)).ok_or(INVALID)
}
