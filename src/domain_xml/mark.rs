//! Our mark in a definition that somebody else wrote: put onto a hostdev, and taken off again. Every other
//! byte stays as it is.

use std::ops::Range;

use roxmltree::Node;

use crate::domain_xml::read::{self, Source};
use crate::model::{AllocationId, Device, Kind, Refusal, one_line};

/// What an edit of a definition comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edited {
    /// The definition as it should be.
    Changed(String),
    /// It is so already.
    Same,
}

/// Puts the alias of an allocation onto the hostdev that names its device.
///
/// # Errors
/// When no hostdev names the device, or the one that does has another alias of its own: libvirt knows one alias a
/// device, and other parts of the definition may refer to it.
pub fn mark(xml: &str, device: Device, allocation: &AllocationId) -> Result<Edited, Refusal> {
    let document = parse(xml)?;
    let mut named = hostdevs(document.root_element()).filter(|node| names(*node, device));
    let Some(hostdev) = named.next() else {
        let text = format!("the definition has no hostdev that names {device}");
        return Err(Refusal::new(Kind::Conflict, text));
    };
    if let Some(alias) = alias_of(hostdev) {
        let name = alias.attribute("name").unwrap_or_default();
        if name == allocation.alias() {
            return Ok(Edited::Same);
        }
        if !name.starts_with("ua-") {
            // One that libvirt gave by itself; nothing can refer to it.
            return Ok(Edited::Changed(replace(xml, alias.range(), &element(allocation))));
        }
        return Err(Refusal::new(
            Kind::Conflict,
            format!(
                "the hostdev of {device} has the alias {:?} already, and libvirt takes one a device",
                one_line(name, 60)
            ),
        )
        .hint("remove that alias with virsh edit, where nothing refers to it, then adopt again"));
    }
    let Some(source) = hostdev.children().find(|node| node.has_tag_name("source")) else {
        return Err(Refusal::new(Kind::Conflict, format!("the hostdev of {device} has no source")));
    };
    let range = source.range();
    let added = format!("{}{}", indent_before(xml, range.start), element(allocation));
    Ok(Edited::Changed(replace(xml, range.end..range.end, &added)))
}

/// Takes the alias of an allocation off whatever hostdev has it.
///
/// # Errors
/// When the definition cannot be read.
pub fn unmark(xml: &str, allocation: &AllocationId) -> Result<Edited, Refusal> {
    let document = parse(xml)?;
    let wanted = allocation.alias();
    let mut aliases = hostdevs(document.root_element()).filter_map(alias_of);
    let Some(alias) = aliases.find(|alias| alias.attribute("name") == Some(&wanted)) else {
        return Ok(Edited::Same);
    };
    let range = alias.range();
    let start = range.start - indent_before(xml, range.start).len();
    Ok(Edited::Changed(replace(xml, start..range.end, "")))
}

fn element(allocation: &AllocationId) -> String {
    format!("<alias name='{}'/>", allocation.alias())
}

fn parse(xml: &str) -> Result<roxmltree::Document<'_>, Refusal> {
    read::parse(xml)
        .map_err(|fault| Refusal::new(Kind::HostFault, format!("the domain XML cannot be read: {fault}")))
}

fn hostdevs<'a, 'i>(domain: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    let devices = domain.children().filter(|node| node.has_tag_name("devices"));
    devices.flat_map(|devices| devices.children().filter(|node| node.has_tag_name("hostdev")))
}

fn alias_of<'a, 'i>(hostdev: Node<'a, 'i>) -> Option<Node<'a, 'i>> {
    hostdev.children().find(|node| node.has_tag_name("alias"))
}

fn names(hostdev: Node<'_, '_>, device: Device) -> bool {
    match read::hostdev(hostdev).source {
        Source::Other(_) => false,
        source => source.device() == Some(device),
    }
}

/// Returns the white space between the last line's end, inclusive, and a place; empty when there is more than that.
pub(super) fn indent_before(xml: &str, at: usize) -> &str {
    let before = xml.get(..at).unwrap_or_default();
    match before.rfind('\n') {
        Some(line) if before[line..].chars().all(char::is_whitespace) => &before[line..],
        _ => "",
    }
}

pub(super) fn replace(xml: &str, range: Range<usize>, with: &str) -> String {
    let head = xml.get(..range.start).unwrap_or_default();
    let tail = xml.get(range.end..).unwrap_or_default();
    format!("{head}{with}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "8a1c0e3e-0000-4000-8000-000000000002";

    fn domain(hostdev: &str) -> String {
        format!(
            "<domain type='kvm'>\n  <name>w&amp;b</name>\n  <metadata><x:a xmlns:x='urn:x'><hostdev/></x:a></metadata>\n  \
             <devices>\n    <disk/>\n{hostdev}\n  </devices>\n</domain>\n"
        )
    }

    fn mdev(alias: &str) -> String {
        domain(&format!(
            "    <hostdev mode='subsystem' type='mdev' managed='no' model='vfio-pci' display='off'>\n      <source>\n        \
             <address uuid='{UUID}'/>\n      </source>{alias}\n      \
             <address type='pci' domain='0x0000' bus='0x05' slot='0x00' function='0x0'/>\n    </hostdev>"
        ))
    }

    fn device() -> Device {
        Device::Mdev(UUID.parse().expect("uuid"))
    }

    fn changed(edited: Result<Edited, Refusal>) -> String {
        match edited.expect("an edit") {
            Edited::Changed(xml) => xml,
            Edited::Same => panic!("nothing changed"),
        }
    }

    #[test]
    fn a_mark_comes_and_goes_and_no_other_byte_changes() {
        let id = AllocationId::from_bits(7);
        let before = mdev("");
        let marked = changed(mark(&before, device(), &id));
        assert_eq!(marked, mdev("\n      <alias name='ua-vgpud-00000007'/>"));
        assert_eq!(mark(&marked, device(), &id), Ok(Edited::Same));
        assert_eq!(changed(unmark(&marked, &id)), before);
        assert_eq!(unmark(&before, &id), Ok(Edited::Same));
        assert_eq!(unmark(&marked, &AllocationId::from_bits(8)), Ok(Edited::Same), "another's mark");
    }

    #[test]
    fn xml_on_one_line_is_marked_as_well() {
        let one_line = "<domain><devices><hostdev mode='subsystem' type='pci'><source><address domain='0x0000' bus='0x41' \
                        slot='0x00' function='0x4'/></source></hostdev></devices></domain>";
        let id = AllocationId::from_bits(7);
        let vf = Device::Vf("0000:41:00.4".parse().expect("address"));
        let marked = changed(mark(one_line, vf, &id));
        assert!(marked.contains("</source><alias name='ua-vgpud-00000007'/></hostdev>"), "{marked}");
        assert_eq!(changed(unmark(&marked, &id)), one_line);
    }

    #[test]
    fn an_alias_that_others_may_refer_to_is_left_and_libvirts_own_is_not() {
        let id = AllocationId::from_bits(7);
        let refusal = mark(&mdev("<alias name='ua-mine'/>"), device(), &id).expect_err("an admin's alias");
        assert!(refusal.message.contains("ua-mine"), "{refusal}");
        assert_eq!(
            changed(mark(&mdev("<alias name='hostdev0'/>"), device(), &id)),
            mdev("<alias name='ua-vgpud-00000007'/>")
        );
    }

    #[test]
    fn what_is_not_there_is_not_marked() {
        let id = AllocationId::from_bits(7);
        let other = Device::Vf("0000:41:00.4".parse().expect("address"));
        assert!(mark(&mdev(""), other, &id).is_err());
        assert!(mark("<domain", device(), &id).is_err());
        assert!(unmark("no xml", &id).is_err());
    }
}
