//! `dir:PATH`: domains as files, for rehearsals and tests without libvirt.
//!
//! `PATH/NAME.xml` is the inactive definition, `PATH/NAME.live.xml` is there while the domain runs; a domain
//! that has only the latter is transient. `PATH/NAME.save` is there while it has the image of a managed save,
//! `PATH/NAME.snapshot` while it has a snapshot with memory; one with `PATH/NAME.unsavable` cannot be saved. `PATH/hooks/qemu`, if it is there, is run as
//! libvirt runs its hook. `PATH/version` may say which libvirt this stands for.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Definition, Edit, Hypervisor, Images, Listed, Version, VirtError};
use crate::domain_xml::{self, Edited, Indexed};
use crate::model::{AllocationId, DomainRef, DomainUuid, one_line};

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

    fn listed(&mut self, domain: DomainUuid) -> Result<Listed, VirtError> {
        let listed = self.list()?.into_iter().find(|listed| listed.domain.uuid == domain);
        listed.ok_or_else(|| VirtError::NoDomain(domain.to_string()))
    }

    fn file_of(&mut self, domain: DomainUuid, definition: Definition) -> Result<PathBuf, VirtError> {
        let Listed { domain: DomainRef { name, .. }, persistent, .. } = self.listed(domain)?;
        Ok(self.path.join(match definition {
            Definition::Inactive if persistent => format!("{name}.xml"),
            Definition::Inactive | Definition::Live => format!("{name}.live.xml"),
        }))
    }

    /// Runs `PATH/hooks/qemu`, if it is there, as libvirt runs its hook.
    fn run_hook(&self, name: &str, words: [&str; 3], xml: &str) -> Result<(), VirtError> {
        let program = self.path.join("hooks/qemu");
        if !program.exists() {
            return Ok(());
        }
        let fault =
            |error: String| VirtError::Refused { act: "start", domain: name.to_owned(), message: error };
        #[expect(clippy::disallowed_methods, reason = "the hook of a rehearsal is a program")]
        let mut command = Command::new(&program);
        let child = command.arg(name).args(words).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = child.stderr(Stdio::piped()).spawn().map_err(|error| fault(error.to_string()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A hook that does not read all of it is its own affair.
            drop(stdin.write_all(xml.as_bytes()));
        }
        let ended = child.wait_with_output().map_err(|error| fault(error.to_string()))?;
        let said = String::from_utf8_lossy(&ended.stderr);
        let text = || format!("Hook script execution failed: {}", one_line(&said, 2000));
        if ended.status.success() { Ok(()) } else { Err(fault(text())) }
    }

    /// Ends a run as libvirt does: the guest is gone, then the hook hears of it.
    fn end(&mut self, domain: DomainUuid, act: &'static str) -> Result<(), VirtError> {
        let live = self.file_of(domain, Definition::Live)?;
        let name = self.listed(domain)?.domain.name;
        let xml = Self::read(&live)?;
        std::fs::remove_file(&live).map_err(|error| Self::fault(act, &live, error))?;
        // What they say does not count any more.
        let ends = [["stopped", "end", "-"], ["release", "end", "-"]];
        drop(ends.map(|words| self.run_hook(&name, words, &xml)));
        Ok(())
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
    /// What `PATH/version` says, so that an old libvirt can be rehearsed.
    fn version(&self) -> Option<Version> {
        Self::read(&self.path.join("version")).ok()?.parse().ok()
    }

    fn list(&mut self) -> Result<Vec<Listed>, VirtError> {
        let entries =
            std::fs::read_dir(&self.path).map_err(|error| Self::fault("list", &self.path, error))?;
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|file| file.strip_suffix(".xml").map(str::to_owned))
            .map(|name| name.strip_suffix(".live").unwrap_or(&name).to_owned())
            .collect();
        names.sort();
        names.dedup();
        let mut list = Vec::new();
        for name in names {
            let live = self.path.join(format!("{name}.live.xml"));
            let defined = self.path.join(format!("{name}.xml"));
            let persistent = defined.exists();
            let file = if persistent { defined } else { live.clone() };
            let text = Self::read(&file)?;
            let uuid =
                domain_xml::read(text.as_bytes()).map_err(|error| Self::fault("read", &file, error))?.uuid;
            list.push(Listed { domain: DomainRef { uuid, name }, active: live.exists(), persistent });
        }
        Ok(list)
    }

    fn xml(&mut self, domain: DomainUuid, definition: Definition) -> Result<String, VirtError> {
        Self::read(&self.file_of(domain, definition)?)
    }

    fn images(&mut self, domain: DomainUuid) -> Result<Images, VirtError> {
        let name = self.listed(domain)?.domain.name;
        let exists = |ending: &str| self.path.join(format!("{name}.{ending}")).exists();
        Ok(Images { managed_save: exists("save"), memory_snapshot: exists("snapshot") })
    }

    fn attach(&mut self, domain: DomainUuid, hostdev: &str) -> Result<(), VirtError> {
        self.edit(domain, Definition::Inactive, "attach a hostdev to", |text| add(text, hostdev))
    }

    fn detach(&mut self, domain: DomainUuid, _: &str, alias: &str) -> Result<(), VirtError> {
        self.edit(domain, Definition::Inactive, "detach a hostdev from", |text| take_out(text, alias))
    }

    fn secure_xml(&mut self, domain: DomainUuid) -> Result<String, VirtError> {
        self.xml(domain, Definition::Inactive)
    }

    fn define(&mut self, domain: DomainUuid, xml: &str) -> Result<(), VirtError> {
        let same = domain_xml::read(xml.as_bytes()).is_ok_and(|read| read.uuid == domain);
        self.edit(domain, Definition::Inactive, "define", |_| same.then(|| xml.to_owned()))
    }

    fn start(&mut self, domain: DomainUuid) -> Result<(), VirtError> {
        let (file, live) =
            (self.file_of(domain, Definition::Inactive)?, self.file_of(domain, Definition::Live)?);
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let xml = Self::read(&file)?;
        #[expect(clippy::disallowed_methods, reason = "this room's own files")]
        std::fs::write(&live, &xml).map_err(|error| Self::fault("start", &file, error))?;
        let started = self.run_hook(&name, ["prepare", "begin", "-"], &xml);
        let Err(line) = started else {
            // The image is used up.
            drop(std::fs::remove_file(file.with_extension("save")));
            return self.run_hook(&name, ["started", "begin", "-"], &xml).or(Ok(()));
        };
        // As libvirt does: a failed start is stopped and released too, and what those say does not count.
        let ends = [["stopped", "end", "-"], ["release", "end", "failed"]];
        drop(ends.map(|words| self.run_hook(&name, words, &xml)));
        std::fs::remove_file(&live).map_err(|error| Self::fault("start", &file, error))?;
        Err(line)
    }

    fn shutdown(&mut self, domain: DomainUuid) -> Result<(), VirtError> {
        self.end(domain, "shut down").map(drop)
    }

    /// `PATH/NAME.unsavable` stands for a device whose state cannot be moved.
    fn save(&mut self, domain: DomainUuid) -> Result<(), VirtError> {
        let name = self.listed(domain)?.domain.name;
        let image = self.path.join(format!("{name}.save"));
        if self.path.join(format!("{name}.unsavable")).exists() {
            return Err(Self::fault("save", &image, "a device of it blocks migration"));
        }
        self.end(domain, "save")?;
        #[expect(clippy::disallowed_methods, reason = "this room's own files")]
        std::fs::write(&image, "").map_err(|error| Self::fault("save", &image, error))
    }

    fn redefine(&mut self, domain: DomainUuid, edit: Edit<'_>) -> Result<bool, VirtError> {
        let text = self.xml(domain, Definition::Inactive)?;
        match edit(&text).map_err(VirtError::Edit)? {
            Edited::Same => Ok(false),
            Edited::Changed(xml) => {
                self.edit(domain, Definition::Inactive, "edit the definition of", |_| Some(xml))?;
                Ok(true)
            }
        }
    }

    fn set_index(&mut self, domain: DomainUuid, indexed: &[Indexed]) -> Result<(), VirtError> {
        self.redefine(domain, &mut |xml| Ok(domain_xml::with_index(xml, indexed))).map(drop)
    }

    fn plug(&mut self, domain: DomainUuid, hostdev: &str) -> Result<(), VirtError> {
        self.edit(domain, Definition::Live, "plug a hostdev into", |text| add(text, hostdev))
    }

    fn unplug(&mut self, domain: DomainUuid, _: &str, allocation: &AllocationId) -> Result<(), VirtError> {
        self.edit(domain, Definition::Live, "unplug a hostdev from", |text| {
            take_out(text, &allocation.alias())
        })
    }
}

fn add(text: &str, hostdev: &str) -> Option<String> {
    let at = text.rfind("</devices>")?;
    Some(format!("{}{hostdev}\n  {}", &text[..at], &text[at..]))
}

fn take_out(text: &str, alias: &str) -> Option<String> {
    let range = domain_xml::hostdev_range(text, alias)?;
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
        host.detach(uuid, &hostdev, &id.alias()).expect("detach");
        let left = host.xml(uuid, Definition::Inactive).expect("xml");
        assert_eq!(left.split_whitespace().collect::<String>(), xml.split_whitespace().collect::<String>());
        assert!(host.xml(uuid, Definition::Live).is_err());
        assert!(matches!(host.detach(uuid, "", &id.alias()), Err(VirtError::Refused { .. })));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "test fixture")]
    fn a_domain_that_only_runs_is_transient_and_images_are_files() {
        let dir = tempfile::tempdir().expect("directory");
        let xml = "<domain><name>web1</name><uuid>11111111-1111-4111-8111-111111111111</uuid></domain>";
        std::fs::write(dir.path().join("web1.live.xml"), xml).expect("fixture");
        let mut host = Dir::open(&dir.path().display().to_string()).expect("open");
        let list = host.list().expect("list");
        assert!(list.len() == 1 && list[0].active && !list[0].persistent, "{list:?}");
        let uuid = list[0].domain.uuid;
        assert_eq!(host.xml(uuid, Definition::Inactive).expect("as libvirt"), xml);
        assert_eq!(host.images(uuid), Ok(Images::default()));
        std::fs::write(dir.path().join("web1.save"), "").expect("fixture");
        assert_eq!(host.images(uuid), Ok(Images { managed_save: true, memory_snapshot: false }));
        std::fs::write(dir.path().join("web1.snapshot"), "").expect("fixture");
        assert_eq!(host.images(uuid), Ok(Images { managed_save: true, memory_snapshot: true }));
        let nobody = "99999999-9999-4999-8999-999999999999".parse().expect("uuid");
        assert!(matches!(host.images(nobody), Err(VirtError::NoDomain(_))));
    }
}
