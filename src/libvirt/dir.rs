//! `dir:PATH`: domains as files, for rehearsals and tests without libvirt.
//!
//! `PATH/NAME.xml` is the inactive definition, `PATH/NAME.live.xml` is there while the domain runs.

use std::path::{Path, PathBuf};

use super::{Definition, Hypervisor, Listed, VirtError};
use crate::domain_xml;
use crate::model::{AllocationId, DomainRef, DomainUuid};

#[derive(Debug)]
pub(super) struct Dir {
    path: PathBuf,
}

impl Dir {
    pub(super) fn open(path: &str) -> Result<Self, VirtError> {
        let path = PathBuf::from(path);
        if path.is_dir() {
            return Ok(Self { path });
        }
        Err(VirtError::Uri { uri: format!("dir:{}", path.display()), reason: "no such directory".to_owned() })
    }

    fn fault(act: &'static str, file: &Path, error: impl ToString) -> VirtError {
        VirtError::Refused { act, domain: file.display().to_string(), message: error.to_string() }
    }

    fn read(file: &Path) -> Result<String, VirtError> {
        #[expect(clippy::disallowed_methods, reason = "this room's own files")]
        std::fs::read_to_string(file).map_err(|error| Self::fault("read", file, error))
    }

    fn file_of(&mut self, domain: DomainUuid, definition: Definition) -> Result<PathBuf, VirtError> {
        let listed = self.list()?.into_iter().find(|listed| listed.domain.uuid == domain);
        let name = listed.ok_or_else(|| VirtError::NoDomain(domain.to_string()))?.domain.name;
        Ok(self.path.join(match definition {
            Definition::Inactive => format!("{name}.xml"),
            Definition::Live => format!("{name}.live.xml"),
        }))
    }

    /// Replaces the definition as a whole, so that a crash leaves the old or the new one.
    fn edit(
        &mut self,
        domain: DomainUuid,
        definition: Definition,
        act: &'static str,
        edit: impl FnOnce(&str) -> Option<String>,
    ) -> Result<(), VirtError> {
        let file = self.file_of(domain, definition)?;
        let text = Self::read(&file)?;
        let new = edit(&text).ok_or_else(|| Self::fault(act, &file, "no such place in its XML"))?;
        let beside = file.with_extension("new");
        #[expect(clippy::disallowed_methods, reason = "this room's own files")]
        std::fs::write(&beside, new)
            .and_then(|()| std::fs::rename(&beside, &file))
            .map_err(|error| Self::fault(act, &file, error))
    }
}

impl Hypervisor for Dir {
    fn list(&mut self) -> Result<Vec<Listed>, VirtError> {
        let entries =
            std::fs::read_dir(&self.path).map_err(|error| Self::fault("list", &self.path, error))?;
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|file| file.strip_suffix(".xml").map(str::to_owned))
            .filter(|name| !name.ends_with(".live"))
            .collect();
        names.sort();
        let mut list = Vec::new();
        for name in names {
            let file = self.path.join(format!("{name}.xml"));
            let text = Self::read(&file)?;
            let uuid =
                domain_xml::read(text.as_bytes()).map_err(|error| Self::fault("read", &file, error))?.uuid;
            let active = self.path.join(format!("{name}.live.xml")).exists();
            list.push(Listed { domain: DomainRef { uuid, name }, active });
        }
        Ok(list)
    }

    fn xml(&mut self, domain: DomainUuid, definition: Definition) -> Result<String, VirtError> {
        Self::read(&self.file_of(domain, definition)?)
    }

    fn attach(&mut self, domain: DomainUuid, hostdev: &str) -> Result<(), VirtError> {
        self.edit(domain, Definition::Inactive, "attach a hostdev to", |text| add(text, hostdev))
    }

    fn detach(&mut self, domain: DomainUuid, _: &str, allocation: &AllocationId) -> Result<(), VirtError> {
        self.edit(domain, Definition::Inactive, "detach a hostdev from", |text| take_out(text, allocation))
    }

    fn plug(&mut self, domain: DomainUuid, hostdev: &str) -> Result<(), VirtError> {
        self.edit(domain, Definition::Live, "plug a hostdev into", |text| add(text, hostdev))
    }

    fn unplug(&mut self, domain: DomainUuid, _: &str, allocation: &AllocationId) -> Result<(), VirtError> {
        self.edit(domain, Definition::Live, "unplug a hostdev from", |text| take_out(text, allocation))
    }
}

fn add(text: &str, hostdev: &str) -> Option<String> {
    let at = text.rfind("</devices>")?;
    Some(format!("{}{hostdev}\n  {}", &text[..at], &text[at..]))
}

fn take_out(text: &str, allocation: &AllocationId) -> Option<String> {
    let range = domain_xml::hostdev_range(text, &allocation.alias())?;
    Some(format!("{}{}", &text[..range.start], &text[range.end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostdev_is_attached_and_detached_and_the_rest_stays_to_the_byte() {
        let dir = tempfile::tempdir().expect("directory");
        let xml = "<domain><name>web1</name><uuid>11111111-1111-4111-8111-111111111111</uuid>\n\
                   <devices>\n  <disk/>\n  </devices></domain>\n";
        let file = dir.path().join("web1.xml");
        #[expect(clippy::disallowed_methods, reason = "test fixture")]
        std::fs::write(&file, xml).expect("fixture");
        let mut host = Dir::open(&dir.path().display().to_string()).expect("open");
        let list = host.list().expect("list");
        assert_eq!(list.len(), 1);
        let uuid = list[0].domain.uuid;
        let id = AllocationId::from_bits(1);
        let hostdev = format!("<hostdev><alias name='{}'/></hostdev>", id.alias());
        host.attach(uuid, &hostdev).expect("attach");
        assert!(host.xml(uuid, Definition::Inactive).expect("xml").contains(&hostdev));
        host.detach(uuid, &hostdev, &id).expect("detach");
        let left = host.xml(uuid, Definition::Inactive).expect("xml");
        assert_eq!(left.split_whitespace().collect::<String>(), xml.split_whitespace().collect::<String>());
        assert!(host.xml(uuid, Definition::Live).is_err());
        assert!(matches!(host.detach(uuid, "", &id), Err(VirtError::Refused { .. })));
    }
}
