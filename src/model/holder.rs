//! Who holds a device open.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A process that has a VFIO node open, or a host driver that uses the device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Holder {
    /// Process id; 0 when no process but the host itself uses the device (a netdev that is up).
    pub pid: u32,
    /// The domain whose QEMU this is, from its command line; `None` for any other process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The process's command name, or what of the host uses it.
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.domain, self.pid) {
            (Some(domain), pid) => write!(f, "domain {domain} (pid {pid})"),
            (None, 0) => write!(f, "{}", self.name),
            (None, pid) => write!(f, "{} (pid {pid})", self.name),
        }
    }
}
