//! Which domains libvirt starts by itself, read from its own files: it must not be asked before we are ready.
//!
//! libvirt marks such a domain by a link in `autostart/` that has the name of its definition beside
//! (virDomainObjListLoadConfig in libvirt's src/conf/virdomainobjlist.c).

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::domain_xml::{self, DomainXml};
use crate::model::{AllocationId, DomainRef, HookDevice};

/// Where the QEMU driver keeps its definitions.
const DEFINITIONS: &str = "etc/libvirt/qemu";

/// Reads the domains that start with libvirt and have hostdevs, by name. A definition that cannot be read is
/// told and left out.
#[must_use]
pub fn autostart(root: &Path) -> Vec<(DomainRef, Vec<HookDevice>)> {
    let definitions = root.join(DEFINITIONS);
    let Ok(links) = std::fs::read_dir(definitions.join("autostart")) else { return Vec::new() };
    let names = links.filter_map(|link| Some(link.ok()?.file_name()));
    let mut names: Vec<_> =
        names.filter(|name| Path::new(name).extension().is_some_and(|end| end == "xml")).collect();
    names.sort();
    let mut domains = Vec::new();
    for name in names {
        match read(&definitions.join(&name)) {
            Ok(found) => domains.extend(found),
            Err(error) => {
                let file = definitions.join(&name);
                tracing::warn!(file = %file.display(), error, "cannot tell what this autostart domain needs");
            }
        }
    }
    domains
}

fn read(file: &Path) -> Result<Option<(DomainRef, Vec<HookDevice>)>, String> {
    let most = u64::try_from(domain_xml::MAX_XML).unwrap_or(u64::MAX).saturating_add(1);
    let mut xml = Vec::new();
    let opened = File::open(file).map_err(|error| error.to_string())?;
    opened.take(most).read_to_end(&mut xml).map_err(|error| error.to_string())?;
    if !domain_xml::mentions_hostdev(&xml) {
        return Ok(None);
    }
    let DomainXml { uuid, name, hostdevs, .. } = domain_xml::read(&xml).map_err(|error| error.to_string())?;
    let devices = hostdevs.iter().filter_map(|hostdev| {
        let allocation = hostdev.alias.as_deref().and_then(AllocationId::from_alias);
        Some(HookDevice { allocation, device: hostdev.source.device()? })
    });
    Ok(Some((DomainRef { uuid, name }, devices.collect())))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "test fixture")]
mod tests {
    use super::*;

    const HOSTDEV: &str = "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source>\
        <address uuid='22222222-2222-4222-8222-222222222222'/></source><alias name='ua-vgpud-0000000a'/></hostdev>";

    fn definition(name: &str, hostdev: &str) -> String {
        format!(
            "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n\n<domain type='kvm'><name>{name}</name>\
             <uuid>11111111-1111-4111-8111-111111111111</uuid><devices>{hostdev}</devices></domain>"
        )
    }

    #[test]
    fn domains_with_a_link_and_a_hostdev_are_found_and_bad_files_cost_themselves_only() {
        let root = tempfile::tempdir().expect("directory");
        let dir = root.path().join(DEFINITIONS);
        std::fs::create_dir_all(dir.join("autostart")).expect("directory");
        assert_eq!(autostart(root.path()), []);
        for (name, text) in [
            ("web1", definition("web1", HOSTDEV)),
            ("plain", definition("plain", "")),
            ("by-hand", definition("by-hand", HOSTDEV)),
            ("odd", "<domain><hostdev".to_owned()),
        ] {
            std::fs::write(dir.join(format!("{name}.xml")), text).expect("file");
            if name != "by-hand" {
                // libvirt's links are absolute: below another root they lead elsewhere.
                let target = format!("/etc/libvirt/qemu/{name}.xml");
                std::os::unix::fs::symlink(target, dir.join(format!("autostart/{name}.xml"))).expect("link");
            }
        }
        let found = autostart(root.path());
        let names: Vec<&str> = found.iter().map(|(domain, _)| domain.name.as_str()).collect();
        assert_eq!(names, ["web1"]);
        assert_eq!(found[0].1[0].allocation, Some(AllocationId::from_bits(10)));
    }

    #[test]
    fn a_host_without_libvirt_has_none() {
        let root = tempfile::tempdir().expect("directory");
        assert_eq!(autostart(root.path()), []);
    }
}
