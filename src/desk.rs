//! Admin requests that need libvirt as well as the engine, and the keeper that looks at libvirt's domains.
//!
//! Engine and libvirt meet here and nowhere else: the engine never waits for libvirt, and nothing here
//! holds a turn of the engine while it asks libvirt.

mod adopt;
mod attach;
mod check;
mod index;
mod plug;
mod pointing;
mod rebuild;
mod room;
mod start;
mod terms;
mod version;
mod wait;
mod watch;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::domain_xml;
use crate::engine::Engine;
use crate::libvirt::{self, Definition, Link, Listed, VirtError};
use crate::model::{Allocation, AllocationId, DomainUuid, HookDevice, Kind, Refusal};

/// libvirt may be waiting for our hook, which waits for other starts: longer than the hook's own cap.
const CALL: Duration = Duration::from_secs(15);

/// The desk; clones share the engine and the link.
#[derive(Clone, Debug)]
pub struct Desk {
    engine: Engine,
    link: Link,
    /// Whether libvirt's domains were looked at since the start.
    looked: Arc<AtomicBool>,
}

impl Desk {
    /// Joins an engine and a libvirt link.
    #[must_use]
    pub fn new(engine: Engine, link: Link) -> Self {
        Self { engine, link, looked: Arc::default() }
    }

    /// Returns the engine.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    fn find(&self, name: &str) -> Result<Listed, Refusal> {
        let wanted = name.to_owned();
        let found = self.link.call("list domains", CALL, move |host| libvirt::find(&host.list()?, &wanted));
        found.map_err(|error| {
            let refusal = Refusal::from(&error);
            match error {
                VirtError::NoDomain(_) => refusal.hint("virsh list --all shows the domains"),
                _ => refusal,
            }
        })
    }

    /// Reads our hostdevs of a definition.
    fn shown(&self, domain: DomainUuid, definition: Definition) -> Result<Vec<HookDevice>, Refusal> {
        let xml = self.link.call("read a definition", CALL, move |host| host.xml(domain, definition));
        let xml = xml.map_err(|error| Refusal::from(&error))?;
        ours(&xml).ok_or_else(|| {
            Refusal::new(
                Kind::HostFault,
                format!("the XML of domain {domain} is nothing that vgpud can read"),
            )
            .hint(format!("virsh dumpxml --inactive {domain}"))
        })
    }

    /// Renders the hostdev of an allocation as its profile is today.
    fn hostdev(&self, allocation: &Allocation) -> Result<String, Refusal> {
        let profile = self.engine.profile(&allocation.profile)?;
        self.engine.hostdev(allocation, &profile)
    }
}

fn shows(devices: &[HookDevice], allocation: &Allocation) -> bool {
    devices.iter().any(|device| match &device.allocation {
        Some(id) => *id == allocation.id,
        // The alias is gone, as after an edit by hand: the device tells.
        None => device.device == allocation.device,
    })
}

/// Reads our hostdevs of a definition; `None` when the XML makes no sense to us, so that nothing is concluded from it.
fn ours(xml: &str) -> Option<Vec<HookDevice>> {
    let domain = domain_xml::read(xml.as_bytes()).ok()?;
    // Owned devices without our alias are matched by the engine, which knows the devices.
    let devices = domain.hostdevs.iter().filter_map(|hostdev| {
        let device = hostdev.source.device()?;
        let allocation = hostdev.alias.as_deref().and_then(AllocationId::from_alias);
        Some(HookDevice { allocation, device })
    });
    Some(devices.collect())
}
