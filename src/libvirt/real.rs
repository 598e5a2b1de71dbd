//! The real libvirt, through the `virt` crate.

use std::sync::mpsc::Sender;

use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::ErrorNumber;

use super::events::{self, Subscription};
use super::{Definition, Edit, Event, Hypervisor, Images, Listed, Version, VirtError};
use crate::domain_xml::{self, Edited, Indexed};
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

    fn list_where(&self, flags: u32, active: bool, persistent: bool) -> Result<Vec<Listed>, VirtError> {
        let domains =
            self.connect.list_all_domains(flags).map_err(|error| translate("list", "(all)", &error))?;
        let mut list = Vec::with_capacity(domains.len());
        for domain in domains {
            let name = domain.get_name().map_err(|error| translate("list", "(all)", &error))?;
            let uuid = domain.get_uuid_string().map_err(|error| translate("list", &name, &error))?;
            if let Ok(uuid) = uuid.parse() {
                list.push(Listed { domain: DomainRef { uuid, name }, active, persistent });
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
    fn version(&self) -> Option<Version> {
        self.connect.get_lib_version().ok().map(Version::new)
    }

    fn list(&mut self) -> Result<Vec<Listed>, VirtError> {
        let mut list = self.list_where(virt::sys::VIR_CONNECT_LIST_DOMAINS_INACTIVE, false, true)?;
        // Asked last, so that a domain that starts in between counts as running.
        for (flag, persistent) in [
            (virt::sys::VIR_CONNECT_LIST_DOMAINS_TRANSIENT, false),
            (virt::sys::VIR_CONNECT_LIST_DOMAINS_PERSISTENT, true),
        ] {
            let flags = virt::sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE | flag;
            for running in self.list_where(flags, true, persistent)? {
                list.retain(|listed| listed.domain.uuid != running.domain.uuid);
                list.push(running);
            }
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

    fn images(&mut self, domain: DomainUuid) -> Result<Images, VirtError> {
        let known = |asked: Result<bool, virt::error::Error>| match asked {
            // A driver that cannot save has no images.
            Err(error) if error.code() == ErrorNumber::NoSupport => Ok(false),
            asked => {
                asked.map_err(|error| translate("list the saved images of", &domain.to_string(), &error))
            }
        };
        let found = self.domain(domain)?;
        let managed_save = known(found.has_managed_save(0))?;
        // Those of a running guest with its memory; those of its disks alone are another flag.
        let snapshots = found.list_all_snapshots(virt::sys::VIR_DOMAIN_SNAPSHOT_LIST_ACTIVE);
        let memory_snapshot = known(snapshots.map(|list| !list.is_empty()))?;
        Ok(Images { managed_save, memory_snapshot })
    }

    fn attach(&mut self, domain: DomainUuid, hostdev: &str) -> Result<(), VirtError> {
        self.change(domain, "attach a hostdev to", |domain| {
            domain.attach_device_flags(hostdev, virt::sys::VIR_DOMAIN_AFFECT_CONFIG)
        })
    }

    fn detach(&mut self, domain: DomainUuid, hostdev: &str, _: &str) -> Result<(), VirtError> {
        self.change(domain, "detach a hostdev from", |domain| {
            domain.detach_device_flags(hostdev, virt::sys::VIR_DOMAIN_AFFECT_CONFIG)
        })
    }

    fn secure_xml(&mut self, domain: DomainUuid) -> Result<String, VirtError> {
        let flags = virt::sys::VIR_DOMAIN_XML_INACTIVE | virt::sys::VIR_DOMAIN_XML_SECURE;
        let xml = self.domain(domain)?.get_xml_desc(flags);
        xml.map_err(|error| translate("read the XML of", &domain.to_string(), &error))
    }

    fn define(&mut self, domain: DomainUuid, xml: &str) -> Result<(), VirtError> {
        let defined = Domain::define_xml(&self.connect, xml);
        defined.map(drop).map_err(|error| translate("define", &domain.to_string(), &error))
    }

    fn start(&mut self, domain: DomainUuid) -> Result<(), VirtError> {
        self.change(domain, "start", Domain::create)
    }

    fn shutdown(&mut self, domain: DomainUuid) -> Result<(), VirtError> {
        self.change(domain, "shut down", Domain::shutdown)
    }

    fn save(&mut self, domain: DomainUuid) -> Result<(), VirtError> {
        self.change(domain, "save", |domain| domain.managed_save(0))
    }

    fn redefine(&mut self, uuid: DomainUuid, edit: Edit<'_>) -> Result<bool, VirtError> {
        // Somebody may edit it at the same time; a definition that never stands still is left to them.
        const TRIES: usize = 3;
        const ACT: &str = "edit the definition of";
        let failed = |error: virt::error::Error| translate(ACT, &uuid.to_string(), &error);
        let refused = |message: &str| VirtError::Refused {
            act: ACT,
            domain: uuid.to_string(),
            message: message.to_owned(),
        };
        let domain = self.domain(uuid)?;
        if !domain.is_persistent().map_err(failed)? {
            return Err(refused("it is transient: no definition outlives its run"));
        }
        // Without SECURE the passwords in it would be lost.
        let flags = virt::sys::VIR_DOMAIN_XML_INACTIVE | virt::sys::VIR_DOMAIN_XML_SECURE;
        for _ in 0..TRIES {
            let was = domain.get_xml_desc(flags).map_err(failed)?;
            let Edited::Changed(xml) = edit(&was).map_err(VirtError::Edit)? else { return Ok(false) };
            if domain.get_xml_desc(flags).map_err(failed)? == was {
                return Domain::define_xml(&self.connect, &xml).map(|_| true).map_err(failed);
            }
        }
        Err(refused("somebody else keeps changing it"))
    }

    fn set_index(&mut self, domain: DomainUuid, indexed: &[Indexed]) -> Result<(), VirtError> {
        let kind = i32::try_from(virt::sys::VIR_DOMAIN_METADATA_ELEMENT).unwrap_or_default();
        let element = domain_xml::index_element(indexed);
        self.change(domain, "write the metadata of", |domain| {
            domain.set_metadata(
                kind,
                element.as_deref(),
                Some(domain_xml::INDEX_PREFIX),
                Some(domain_xml::INDEX_NAMESPACE),
                virt::sys::VIR_DOMAIN_AFFECT_CONFIG,
            )
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
        assert!(test.active && test.persistent);
        assert_eq!(host.images(test.domain.uuid), Ok(Images::default()));
        let xml = host.xml(test.domain.uuid, Definition::Inactive).expect("xml");
        assert!(xml.contains("<name>test</name>"), "{xml}");
        let nobody = "99999999-9999-4999-8999-999999999999".parse().expect("uuid");
        assert!(matches!(host.xml(nobody, Definition::Inactive), Err(VirtError::NoDomain(_))));
    }

    #[test]
    fn a_definition_is_edited_and_one_that_needs_no_edit_is_left() {
        let (sender, _events) = std::sync::mpsc::channel();
        let mut host = Real::open("test:///default", &sender).expect("connect");
        let uuid = super::super::find(&host.list().expect("list"), "test").expect("its domain").domain.uuid;
        let mut title = |xml: &str| {
            let edited = xml.replacen("</uuid>", "</uuid>\n  <title>edited</title>", 1);
            Ok(if xml.contains("<title>") { Edited::Same } else { Edited::Changed(edited) })
        };
        assert_eq!(host.redefine(uuid, &mut title), Ok(true));
        assert!(host.xml(uuid, Definition::Inactive).expect("xml").contains("<title>edited</title>"));
        assert_eq!(host.redefine(uuid, &mut title), Ok(false));
        let mut no = |_: &str| Err(crate::model::Refusal::new(crate::model::Kind::Conflict, "not this one"));
        assert!(matches!(host.redefine(uuid, &mut no), Err(VirtError::Edit(_))));
    }

    #[test]
    fn the_index_is_written_read_replaced_and_taken_out() {
        let (sender, _events) = std::sync::mpsc::channel();
        let mut host = Real::open("test:///default", &sender).expect("connect");
        let uuid = super::super::find(&host.list().expect("list"), "test").expect("its domain").domain.uuid;
        let before = host.xml(uuid, Definition::Inactive).expect("xml");
        let one = |bits, profile: &str| Indexed {
            id: AllocationId::from_bits(bits),
            profile: profile.parse().expect("a name"),
        };
        for indexed in [vec![one(1, "small"), one(2, "ai.large")], vec![one(2, "ai.large")]] {
            host.set_index(uuid, &indexed).expect("libvirt keeps it");
            let xml = host.xml(uuid, Definition::Inactive).expect("xml");
            assert_eq!(domain_xml::index(&xml), Some(indexed), "{xml}");
        }
        host.set_index(uuid, &[]).expect("taken out");
        let after = host.xml(uuid, Definition::Inactive).expect("xml");
        assert_eq!(domain_xml::index(&after), None);
        assert_eq!(after.replace("  <metadata/>\n", "").replace("  <metadata>\n  </metadata>\n", ""), before);
    }

    #[test]
    fn a_snapshot_with_memory_and_a_transient_domain_are_told_apart() {
        let (sender, _events) = std::sync::mpsc::channel();
        let mut host = Real::open("test:///default", &sender).expect("connect");
        let xml = "<domain type='test'><name>fleeting</name><memory>8192</memory><os><type>hvm</type></os></domain>";
        let domain = Domain::create_xml(&host.connect, xml, 0).expect("a transient domain");
        let list = host.list().expect("list");
        let fleeting = super::super::find(&list, "fleeting").expect("it runs");
        assert!(fleeting.active && !fleeting.persistent);
        virt::domain_snapshot::DomainSnapshot::create_xml(&domain, "<domainsnapshot/>", 0)
            .expect("a snapshot");
        let images = host.images(fleeting.domain.uuid).expect("images");
        assert_eq!(images, Images { managed_save: false, memory_snapshot: true });
        domain.destroy().expect("gone");
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
