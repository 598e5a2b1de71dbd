//! As the real one, a client of the library: it loads it, and without a session it says nothing.

use nvidia_ml::lock::Client;
use nvidia_ml::state;

/// The exit code for a driver that is not there.
const NOT_LOADED: u8 = 9;

/// A session of the library, as long as it lives.
#[derive(Debug)]
pub(super) enum Session {
    /// The library's.
    Library(libloading::Library),
    /// That of a simulation without a kernel: the library of the machine is none of its business.
    Files { _clients: Vec<Client> },
}

type Call = unsafe extern "C" fn() -> u32;

impl Session {
    /// Begins one.
    ///
    /// # Errors
    /// The exit code.
    pub(super) fn begin() -> Result<Self, u8> {
        let session = if state::is_files() { files() } else { library() };
        session.ok_or_else(|| {
            println!(
                "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. \
                 Make sure that the latest NVIDIA driver is installed and running."
            );
            NOT_LOADED
        })
    }
}

fn files() -> Option<Session> {
    let clients = state::addresses().iter().map(|gpu| Client::of(gpu)).collect::<Option<_>>();
    clients.map(|clients| Session::Files { _clients: clients })
}

fn library() -> Option<Session> {
    // SAFETY: loading runs the library's initializers; it is the one of this package, which has none.
    let library = unsafe { libloading::Library::new("libnvidia-ml.so.1") }.ok()?;
    (call(&library, b"nvmlInit_v2\0")? == 0).then_some(Session::Library(library))
}

fn call(library: &libloading::Library, name: &[u8]) -> Option<u32> {
    // SAFETY: NVML's functions of these names take nothing and return a result code.
    let function = unsafe { library.get::<Call>(name) }.ok()?;
    // SAFETY: the library is loaded as long as it is borrowed.
    Some(unsafe { function() })
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Self::Library(library) = self {
            call(library, b"nvmlShutdown\0");
        }
    }
}
