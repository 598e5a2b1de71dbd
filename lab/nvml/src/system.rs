//! Beginning, ending, versions, errors in words.

use std::os::raw::{c_char, c_int, c_uint};

use nvml_wrapper_sys::bindings as c;

use crate::abi::{Out, nvml, put, put_text};
use crate::session;

/// The driver whose documents the rules are taken from.
pub(crate) const DRIVER: &str = "550.54.16";
const NVML: &str = "13.550.54.16";
const CUDA: c_int = 12_040;

nvml! {
    /// Begins a session.
    fn nvmlInit_v2() {
        session::begin()
    }

    /// Begins a session; the flags change nothing here.
    fn nvmlInitWithFlags(_flags: c_uint) {
        session::begin()
    }

    /// Ends a session.
    fn nvmlShutdown() {
        session::end()
    }

    /// Tells the driver's version.
    fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) {
        session::addresses()?;
        put_text(version, length, DRIVER)
    }

    /// Tells the library's version, also before a session.
    fn nvmlSystemGetNVMLVersion(version: *mut c_char, length: c_uint) {
        put_text(version, length, NVML)
    }

    /// Tells the version of CUDA, also before a session.
    fn nvmlSystemGetCudaDriverVersion(version: Out<'_, c_int>) {
        put(version, CUDA)
    }

    /// Tells whether vGPUs of several types can be in one VM (0), and whether the host driver can be updated under
    /// running ones (1).
    fn nvmlGetVgpuDriverCapabilities(capability: c::nvmlVgpuDriverCapability_t, result: Out<'_, c_uint>) {
        session::addresses()?;
        match capability {
            0 => put(result, 1),
            1 => put(result, 0),
            _ => Err(crate::abi::INVALID),
        }
    }
}

/// Says an error in words.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlErrorString(result: c::nvmlReturn_t) -> *const c_char {
    let text = match result {
        0 => c"Success",
        1 => c"Uninitialized",
        2 => c"Invalid Argument",
        3 => c"Not Supported",
        4 => c"Insufficient Permissions",
        6 => c"Not Found",
        7 => c"Insufficient Size",
        9 => c"Driver Not Loaded",
        15 => c"GPU is lost",
        19 => c"In use by another client",
        25 => c"Argument version mismatch",
        _ => c"Unknown Error",
    };
    text.as_ptr()
}
