//! Who has a GPU's driver in use, and who takes it off the GPU.
//!
//! The one truth is `<GPU>/session` of the simulation. A client has it open; the kernel module counts them, and
//! gives the unbind lock only to whoever asks while there is none. Where the simulation is mere files, as in tests,
//! no kernel counts: locks on the same file say the same.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;

use crate::state;

/// Where NVIDIA's driver has the lock.
const DRIVER: &str = "/proc/driver/nvidia/gpus";

/// A client of one GPU, as long as it lives.
#[derive(Debug)]
pub struct Client {
    _session: File,
}

impl Client {
    /// Becomes a client of a GPU; `None` while somebody has its unbind lock.
    #[must_use]
    pub fn of(gpu: &str) -> Option<Self> {
        let session = File::open(state::base().join(gpu).join("session")).ok()?;
        session.try_lock_shared().ok()?;
        Some(Self { _session: session })
    }
}

/// A GPU's unbind lock, as long as it lives.
#[derive(Debug)]
pub enum Unbind {
    /// The driver's.
    Driver(PathBuf),
    /// That of a simulation without a kernel.
    File(File),
}

impl Unbind {
    /// Takes the lock; `None` while the GPU has a client.
    #[must_use]
    pub fn of(gpu: &str) -> Option<Self> {
        if state::is_files() {
            let session = File::open(state::base().join(gpu).join("session")).ok()?;
            session.try_lock().ok()?;
            return Some(Self::File(session));
        }
        let path = PathBuf::from(DRIVER).join(gpu).join("unbindLock");
        write(&path, "1").ok()?;
        let got = std::fs::read_to_string(&path).is_ok_and(|text| text.trim() == "1");
        got.then_some(Self::Driver(path))
    }
}

impl Drop for Unbind {
    fn drop(&mut self) {
        if let Self::Driver(path) = self
            && let Err(error) = write(path, "0")
        {
            eprintln!("Cannot give {} back: {error}", path.display());
        }
    }
}

fn write(path: &PathBuf, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}
