//! The real libvirt, through the `virt` crate.

use std::sync::mpsc::Sender;

use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::ErrorNumber;

use super::events::{self, Subscription};
use super::{Definition, Event, Hypervisor, Listed, VirtError};
use crate::model::{AllocationId, DomainRef, DomainUuid};

/// An open connection with its event subscription.
#[derive(Debug)]
pub(super) struct Real {
    /// Dropped first: the callbacks hold a reference on the connection.
    _subscription: Subscription,
    connect: Connect,
}

impl Real {
    pub(super) fn open(uri: &str, events: &Sender<Event>) -> Result<Self, VirtError> {
        events::start_loop();
        let failed = |error: virt::error::Error| VirtError::NotConnected {
            uri: uri.to_owned(),
            message: error.message().to_owned(),
        };
        let connect = Connect::open(Some(uri)).map_err(failed)?;
        let subscription = Subscription::new(&connect, events).map_err(failed)?;
        Ok(Self { _subscription: subscription, connect })
    }

    pub(super) fn is_alive(&self) -> bool {
        self.connect.is_alive().unwrap_or(false)
    }

    fn domain(&self, uuid: DomainUuid) -> Result<Domain, VirtError> {
        Domain::lookup_by_uuid_string(&self.connect, &uuid.to_string())
            .map_err(|error| translate("find", &uuid.to_string(), &error))
    }

    fn change(
        &self,
        uuid: DomainUuid,
        act: &'static str,
        call: impl FnOnce(&Domain) -> Result<u32, virt::error::Error>,
    ) -> Result<(), VirtError> {
        let domain = self.domain(uuid)?;
        call(&domain).map(drop).map_err(|error| translate(act, &uuid.to_string(), &error))
    }

    fn list_where(&self, flags: u32, active: bool) -> Result<Vec<Listed>, VirtError> {
        let domains =
            self.connect.list_all_domains(flags).map_err(|error| translate("list", "(all)", &error))?;
        let mut list = Vec::with_capacity(domains.len());
        for domain in domains {
            let name = domain.get_name().map_err(|error| translate("list", "(all)", &error))?;
            let uuid = domain.get_uuid_string().map_err(|error| translate("list", &name, &error))?;
            if let Ok(uuid) = uuid.parse() {
                list.push(Listed { domain: DomainRef { uuid, name }, active });
            }
        }
        Ok(list)
    }
}

fn translate(act: &'static str, domain: &str, error: &virt::error::Error) -> VirtError {
    if error.code() == ErrorNumber::NoDomain {
        return VirtError::NoDomain(domain.to_owned());
    }
    VirtError::Refused { act, domain: domain.to_owned(), message: error.message().to_owned() }
}

impl Hypervisor for Real {
    fn list(&mut self) -> Result<Vec<Listed>, VirtError> {
        let mut list = self.list_where(virt::sys::VIR_CONNECT_LIST_DOMAINS_INACTIVE, false)?;
        // Asked last, so that a domain that starts in between counts as running.
        for running in self.list_where(virt::sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE, true)? {
            list.retain(|listed| listed.domain.uuid != running.domain.uuid);
            list.push(running);
        }
        Ok(list)
    }

    fn xml(&mut self, domain: DomainUuid, definition: Definition) -> Result<String, VirtError> {
        let flags = match definition {
            Definition::Inactive => virt::sys::VIR_DOMAIN_XML_INACTIVE,
            Definition::Live => 0,
        };
        let found = self.domain(domain)?;
        // Without a running guest libvirt would give the inactive definition.
        if definition == Definition::Live && !found.is_active().unwrap_or(false) {
            let message = "it does not run".to_owned();
            return Err(VirtError::Refused {
                act: "read the live XML of",
                domain: domain.to_string(),
                message,
            });
        }
        found.get_xml_desc(flags).map_err(|error| translate("read the XML of", &domain.to_string(), &error))
    }

    fn attach(&mut self, domain: DomainUuid, hostdev: &str) -> Result<(), VirtError> {
        self.change(domain, "attach a hostdev to", |domain| {
            domain.attach_device_flags(hostdev, virt::sys::VIR_DOMAIN_AFFECT_CONFIG)
        })
    }

    fn detach(&mut self, domain: DomainUuid, hostdev: &str, _: &AllocationId) -> Result<(), VirtError> {
        self.change(domain, "detach a hostdev from", |domain| {
            domain.detach_device_flags(hostdev, virt::sys::VIR_DOMAIN_AFFECT_CONFIG)
        })
    }

    fn plug(&mut self, domain: DomainUuid, hostdev: &str) -> Result<(), VirtError> {
        self.change(domain, "plug a hostdev into", |domain| {
            domain.attach_device_flags(hostdev, virt::sys::VIR_DOMAIN_AFFECT_LIVE)
        })
    }

    fn unplug(&mut self, domain: DomainUuid, hostdev: &str, _: &AllocationId) -> Result<(), VirtError> {
        self.change(domain, "unplug a hostdev from", |domain| {
            domain.detach_device_flags(hostdev, virt::sys::VIR_DOMAIN_AFFECT_LIVE)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_driver_lists_domains_and_gives_their_xml() {
        let (sender, _events) = std::sync::mpsc::channel();
        let mut host = Real::open("test:///default", &sender).expect("the test driver is built into libvirt");
        let list = host.list().expect("list");
        let test = super::super::find(&list, "test").expect("its domain");
        assert!(test.active);
        let xml = host.xml(test.domain.uuid, Definition::Inactive).expect("xml");
        assert!(xml.contains("<name>test</name>"), "{xml}");
        let nobody = "99999999-9999-4999-8999-999999999999".parse().expect("uuid");
        assert!(matches!(host.xml(nobody, Definition::Inactive), Err(VirtError::NoDomain(_))));
    }

    #[test]
    fn a_life_cycle_event_says_look_again() {
        let (sender, events) = std::sync::mpsc::channel();
        let host = Real::open("test:///default", &sender).expect("connect");
        let domain = Domain::lookup_by_name(&host.connect, "test").expect("domain");
        domain.suspend().expect("suspend");
        let event = events.recv_timeout(std::time::Duration::from_secs(5));
        assert_eq!(event, Ok(Event::Look));
    }
}
