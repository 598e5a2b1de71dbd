//! Which whole GPUs a guest's driver may take for peers: QEMU's `x-nv-gpudirect-clique`, for which libvirt has no
//! element of its own, in `<qemu:override>` (libvirt 8.2 and later). Every other byte of a definition stays as it is.

use std::ops::Range;

use roxmltree::Node;

use crate::domain_xml::mark::Edited;
use crate::domain_xml::read;
use crate::model::{AllocationId, Kind, Refusal, one_line};

/// The namespace of libvirt's QEMU elements (docs/kbase/qemu-passthrough-security, formatdomain).
const NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

/// QEMU's property (hw/vfio/pci-quirks.c, since 2.11): 0 to 15.
const PROPERTY: &str = "x-nv-gpudirect-clique";

/// The one clique that we make: all whole GPUs of a domain that are peers.
const CLIQUE: &str = "0";

/// Makes the GPUs with these aliases one clique, and takes all others of ours out of it. Fewer than two are none.
///
/// # Errors
/// When the definition cannot be read, or somebody else says something of the same property of a device of ours.
pub fn set_peers(xml: &str, allocations: &[AllocationId]) -> Result<Edited, Refusal> {
    let fault =
        |text: String| Refusal::new(Kind::Conflict, format!("the domain XML cannot be edited: {text}"));
    let document = read::parse(xml).map_err(fault)?;
    let root = document.root_element();
    let wanted: Vec<String> = if allocations.len() < 2 {
        Vec::new()
    } else {
        let mut aliases: Vec<String> = allocations.iter().map(AllocationId::alias).collect();
        aliases.sort();
        aliases
    };
    let overrides = root.children().find(|node| is(*node, "override"));
    let ours: Vec<Node<'_, '_>> =
        overrides.iter().flat_map(Node::children).filter(|node| is_ours(*node)).collect();
    if let Some(odd) = ours.iter().find(|node| !is_clique(**node)) {
        let alias = one_line(odd.attribute("alias").unwrap_or_default(), 60);
        return Err(Refusal::new(
            Kind::Conflict,
            format!("<qemu:override> says something else of {alias}, which somebody wrote by hand"),
        )
        .hint("take that out with virsh edit, then attach again"));
    }
    let mut now: Vec<&str> = ours.iter().filter_map(|node| node.attribute("alias")).collect();
    now.sort_unstable();
    if now == wanted {
        return Ok(Edited::Same);
    }
    let empty = overrides
        .is_some_and(|node| node.children().filter(Node::is_element).all(|child| ours.contains(&child)));
    let mut text = xml.to_owned();
    // From the end, so that what comes before stays where it is.
    let mut cuts: Vec<Range<usize>> = match overrides {
        Some(node) if empty => vec![node.range()],
        Some(_) => ours.iter().map(Node::range).collect(),
        None => Vec::new(),
    };
    let at = match overrides {
        Some(node) if !empty => node.children().filter(Node::is_element).map(|child| child.range().end).max(),
        _ => end_of(xml, root),
    };
    let at = at.ok_or_else(|| fault("an element has no end".to_owned()))?;
    if !wanted.is_empty() {
        let devices: String = wanted.iter().map(|alias| device(alias)).collect();
        let added = if overrides.is_some() && !empty { devices } else { whole(&devices) };
        text.insert_str(at, &added);
    }
    cuts.sort_by_key(|cut| std::cmp::Reverse(cut.start));
    for cut in cuts {
        text.replace_range(with_indent(xml, cut), "");
    }
    Ok(Edited::Changed(text))
}

/// The namespace is declared on each element: the root may not have it, and may give it another prefix.
fn device(alias: &str) -> String {
    format!(
        "<qemu:device xmlns:qemu='{NAMESPACE}' alias='{alias}'><qemu:frontend><qemu:property name='{PROPERTY}' \
         type='unsigned' value='{CLIQUE}'/></qemu:frontend></qemu:device>"
    )
}

fn whole(devices: &str) -> String {
    format!("<qemu:override xmlns:qemu='{NAMESPACE}'>{devices}</qemu:override>\n")
}

fn is(node: Node<'_, '_>, name: &str) -> bool {
    node.is_element() && node.tag_name().namespace() == Some(NAMESPACE) && node.tag_name().name() == name
}

fn is_ours(node: Node<'_, '_>) -> bool {
    is(node, "device")
        && node.attribute("alias").is_some_and(|alias| AllocationId::from_alias(alias).is_some())
}

/// Nothing but the one property, as we write it.
fn is_clique(device: Node<'_, '_>) -> bool {
    let mut parts = device.children().filter(Node::is_element);
    let (Some(frontend), None) = (parts.next(), parts.next()) else { return false };
    let mut properties = frontend.children().filter(Node::is_element);
    let (Some(property), None) = (properties.next(), properties.next()) else { return false };
    is(frontend, "frontend") && is(property, "property") && property.attribute("name") == Some(PROPERTY)
}

/// Where an element's end tag begins.
fn end_of(xml: &str, node: Node<'_, '_>) -> Option<usize> {
    let range = node.range();
    let text = xml.get(range.clone())?;
    text.ends_with('>').then(|| text.rfind("</"))?.map(|at| range.start + at)
}

/// A cut together with the white space of its line before it.
fn with_indent(xml: &str, cut: Range<usize>) -> Range<usize> {
    let before = xml.get(..cut.start).unwrap_or_default();
    let start = match before.rfind('\n') {
        Some(line) if before[line..].chars().all(char::is_whitespace) => line,
        _ => cut.start,
    };
    start..cut.end
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str =
        "<domain type='kvm'>\n  <name>web1</name>\n  <devices>\n    <disk/>\n  </devices>\n</domain>\n";

    fn ids(numbers: &[u32]) -> Vec<AllocationId> {
        numbers.iter().map(|number| AllocationId::from_bits(*number)).collect()
    }

    fn changed(xml: &str, numbers: &[u32]) -> String {
        match set_peers(xml, &ids(numbers)).expect("an edit") {
            Edited::Changed(xml) => xml,
            Edited::Same => panic!("nothing changed"),
        }
    }

    /// The aliases with their cliques, as libvirt finds them: by namespace.
    fn cliques(xml: &str) -> Vec<String> {
        let document = roxmltree::Document::parse(xml).expect("XML");
        let properties = document.descendants().filter(|node| is(*node, "property"));
        properties
            .map(|node| {
                let device = node.ancestors().find(|node| is(*node, "device")).expect("a device");
                format!(
                    "{}={}",
                    device.attribute("alias").unwrap_or_default(),
                    node.attribute("value").unwrap_or_default()
                )
            })
            .collect()
    }

    #[test]
    fn a_clique_comes_and_goes_and_no_other_byte_changes() {
        let with = changed(PLAIN, &[2, 1]);
        assert_eq!(cliques(&with), ["ua-vgpud-00000001=0", "ua-vgpud-00000002=0"]);
        assert_eq!(set_peers(&with, &ids(&[1, 2])), Ok(Edited::Same));
        assert_eq!(changed(&with, &[1]), PLAIN, "one has no peers");
        assert_eq!(set_peers(PLAIN, &[]), Ok(Edited::Same));
        assert_eq!(cliques(&changed(&with, &[1, 2, 3])).len(), 3);
        assert!(read::parse(&with).is_ok(), "the guard takes what we write");
    }

    #[test]
    fn what_an_admin_overrides_stays() {
        let own = "<qemu:override xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n    <qemu:device alias='ua-mine'>\
                   <qemu:frontend><qemu:property name='x-foo' type='bool' value='true'/></qemu:frontend></qemu:device>\n  \
                   </qemu:override>";
        let before = PLAIN.replace("</domain>", &format!("  {own}\n</domain>"));
        let with = changed(&before, &[1, 2]);
        assert_eq!(cliques(&with).len(), 3);
        assert!(with.contains("ua-mine"));
        assert_eq!(changed(&with, &[]), before);
        let other_prefix = before.replace("qemu:", "q:").replace("xmlns:qemu", "xmlns:q");
        assert_eq!(cliques(&changed(&other_prefix, &[1, 2])).len(), 3);
    }

    #[test]
    fn what_somebody_says_of_our_device_is_not_overwritten() {
        let with = changed(PLAIN, &[1, 2]).replacen(PROPERTY, "x-no-mmap", 1);
        let refusal = set_peers(&with, &ids(&[1, 2])).expect_err("a property of somebody's");
        assert!(refusal.message.contains("ua-vgpud-00000001"), "{refusal}");
        assert!(set_peers("<domain", &[]).is_err());
    }
}
