//! Reading the hostdevs of a domain's XML.

use std::collections::BTreeSet;
use std::ops::Range;

use roxmltree::{Document, Node, ParsingOptions};

use crate::domain_xml::{guard, numa};
use crate::model::{Device, DomainUuid, Kind, MdevUuid, PciAddress, one_line};

/// The most bytes of a domain's XML: libvirt's own messages carry at most 4 MiB of text.
pub const MAX_XML: usize = 8 * 1024 * 1024;

/// XML that is no domain's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainXmlError {
    /// More than any domain has.
    #[error("the domain XML has more than {MAX_XML} bytes")]
    TooLarge,
    /// Not text.
    #[error("the domain XML is not UTF-8: byte {0} is wrong")]
    NotText(usize),
    /// Not well-formed, or beyond what a domain's XML can be.
    #[error("the domain XML cannot be read: {0}")]
    Malformed(String),
    /// Well-formed, but no domain.
    #[error("the XML is not a domain's: {0}")]
    NotADomain(String),
}

impl DomainXmlError {
    /// Returns what kind of no this is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind::Usage
    }
}

/// What of a domain's XML matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainXml {
    /// Its identity.
    pub uuid: DomainUuid,
    /// Its name.
    pub name: String,
    /// Its hostdevs, in the order of the XML.
    pub hostdevs: Vec<Hostdev>,
    /// The NUMA nodes of its memory; empty when nothing is said of them.
    pub nodes: BTreeSet<u32>,
}

/// One `<hostdev>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hostdev {
    /// The name of its alias, when it has one.
    pub alias: Option<String>,
    /// What of the host it names.
    pub source: Source,
    /// `managed='yes'`: libvirt binds and unbinds the driver.
    pub managed: bool,
}

/// What a hostdev names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A mediated device.
    Mdev(MdevUuid),
    /// A PCI function.
    Pci(PciAddress),
    /// Anything else, with a clause that says what.
    Other(String),
}

impl Source {
    /// Returns the device, when it is of a kind that can be ours.
    #[must_use]
    pub const fn device(&self) -> Option<Device> {
        match self {
            Self::Mdev(uuid) => Some(Device::Mdev(*uuid)),
            Self::Pci(address) => Some(Device::Vf(*address)),
            Self::Other(_) => None,
        }
    }
}

/// Returns whether XML has a hostdev at all, without parsing it. May say yes for one that is in a comment.
#[must_use]
pub fn mentions_hostdev(xml: &[u8]) -> bool {
    const TAG: &[u8] = b"<hostdev";
    let mut rest = xml;
    while let Some(at) = rest.iter().position(|byte| *byte == b'<') {
        rest = &rest[at..];
        if rest.starts_with(TAG) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// Reads a domain's XML. Only direct children of `devices` are hostdevs; one that is odd is
/// [`Source::Other`], never an error.
///
/// # Errors
/// When the XML is too large, not UTF-8, not well-formed, has a DTD, or is not a domain with name and UUID.
pub fn read(xml: &[u8]) -> Result<DomainXml, DomainXmlError> {
    if xml.len() > MAX_XML {
        return Err(DomainXmlError::TooLarge);
    }
    let text = std::str::from_utf8(xml).map_err(|error| DomainXmlError::NotText(error.valid_up_to()))?;
    let document = parse(text).map_err(DomainXmlError::Malformed)?;
    let root = document.root_element();
    let other = |text: String| Err(DomainXmlError::NotADomain(text));
    if !root.has_tag_name("domain") {
        return other(format!("its root is <{}>", one_line(root.tag_name().name(), 40)));
    }
    let (Some(name), Some(uuid)) = (child_text(root, "name"), child_text(root, "uuid")) else {
        return other("it has no name or no uuid".to_owned());
    };
    let Ok(uuid) = uuid.trim().parse() else {
        return other(format!("its uuid is {:?}", one_line(&uuid, 40)));
    };
    let hostdevs = hostdevs(root).map(hostdev);
    Ok(DomainXml { uuid, name, hostdevs: hostdevs.collect(), nodes: numa::nodes(root) })
}

/// Parses XML within the bounds; the fault is a clause.
pub(super) fn parse(text: &str) -> Result<Document<'_>, String> {
    guard::check(text).map_err(|fault| one_line(&fault, 300))?;
    let options = ParsingOptions { nodes_limit: guard::MAX_NODES, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).map_err(|error| one_line(&error.to_string(), 300))
}

/// The children with a name. An element of a namespace is not libvirt's, whatever its name: libvirt looks by
/// XPath, where a name without a prefix is one without a namespace.
pub(super) fn children<'a, 'i>(node: Node<'a, 'i>, name: &'static str) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(move |child| child.has_tag_name(name) && child.tag_name().namespace().is_none())
}

pub(super) fn child_text(node: Node<'_, '_>, name: &'static str) -> Option<String> {
    let child = children(node, name).next()?;
    let text: String = child.children().filter_map(|part| part.text()).collect();
    (!text.is_empty()).then_some(text)
}

/// Reads one `<hostdev>` element.
pub(super) fn hostdev(node: Node<'_, '_>) -> Hostdev {
    let alias = children(node, "alias").find_map(|alias| alias.attribute("name"));
    Hostdev {
        alias: alias.map(str::to_owned),
        source: source(node).unwrap_or_else(Source::Other),
        managed: node.attribute("managed") == Some("yes"),
    }
}

fn source(node: Node<'_, '_>) -> Result<Source, String> {
    let kind = (node.attribute("mode"), node.attribute("type"));
    let address = children(node, "source").find_map(|source| children(source, "address").next());
    match (kind, address) {
        ((Some("subsystem"), Some("mdev")), Some(address)) => mdev(address),
        ((Some("subsystem"), Some("pci")), Some(address)) => pci(address),
        ((Some("subsystem"), Some("mdev" | "pci")), None) => Err("its source has no address".to_owned()),
        ((mode, kind), _) => Err(format!(
            "its mode is {} and its type {}",
            one_line(mode.unwrap_or("not given"), 40),
            one_line(kind.unwrap_or("not given"), 40)
        )),
    }
}

fn mdev(address: Node<'_, '_>) -> Result<Source, String> {
    let uuid = address.attribute("uuid").ok_or_else(|| "its source address has no uuid".to_owned())?;
    uuid.parse().map(Source::Mdev).map_err(|error| format!("in its source address {error}"))
}

fn pci(address: Node<'_, '_>) -> Result<Source, String> {
    let field = |name, most| number(address, name, most);
    let (segment, bus) = (field("domain", u32::MAX)?, field("bus", 0xff)?);
    let (device, function) = (field("slot", 0x1f)?, field("function", 7)?);
    let small = |number| u8::try_from(number).map_err(|_| "its source address is too large".to_owned());
    let (bus, device, function) = (small(bus)?, small(device)?, small(function)?);
    Ok(Source::Pci(PciAddress { segment, bus, device, function }))
}

/// Reads a number as libvirt does: `0x` is hexadecimal, a leading `0` octal, anything else decimal; an
/// absent attribute is 0.
fn number(address: Node<'_, '_>, name: &str, most: u32) -> Result<u32, String> {
    let Some(text) = address.attribute(name) else { return Ok(0) };
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = plain.then(|| u32::from_str_radix(digits, radix).ok()).flatten();
    number.filter(|number| *number <= most).ok_or_else(|| {
        format!("in its source address {name} is {:?}, not a number up to {most:#x}", one_line(text, 40))
    })
}

/// Finds the bytes of the hostdev that has an alias, in XML that [`read`] accepts.
#[must_use]
pub fn hostdev_range(xml: &str, alias: &str) -> Option<Range<usize>> {
    let document = roxmltree::Document::parse(xml).ok()?;
    let has_alias =
        |node: &Node<'_, '_>| children(*node, "alias").any(|child| child.attribute("name") == Some(alias));
    hostdevs(document.root_element()).find(has_alias).map(|hostdev| hostdev.range())
}

/// The hostdevs of a domain; what has the same name elsewhere, as in metadata, is none.
pub(super) fn hostdevs<'a, 'i>(domain: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    children(domain, "devices").flat_map(|devices| children(devices, "hostdev"))
}
