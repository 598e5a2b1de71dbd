//! Bounds that make parsing linear. The tree parser compares all attributes of an element with each other,
//! and copies all namespaces in scope for each element that declares one; so both are counted first, in
//! one pass that keeps nothing.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// The most nested elements; libxml2's own limit.
const MAX_DEPTH: usize = 256;

/// The most attributes of one element; libvirt's have a dozen.
const MAX_ATTRIBUTES: usize = 128;

/// The most namespace declarations in one document.
const MAX_NAMESPACES: usize = 256;

/// The most elements, comments and texts in one document.
pub(super) const MAX_NODES: u32 = 200_000;

/// Checks the bounds; the fault is a clause.
pub(super) fn check(text: &str) -> Result<(), String> {
    let mut reader = Reader::from_str(text);
    let (mut depth, mut namespaces, mut events) = (0_usize, 0_usize, 0_u32);
    loop {
        events += 1;
        if events > 2 * MAX_NODES {
            return Err(format!("it has more than {MAX_NODES} nodes"));
        }
        let event =
            reader.read_event().map_err(|error| format!("{error} at byte {}", reader.error_position()))?;
        match event {
            Event::Start(tag) => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(format!("its elements are nested more than {MAX_DEPTH} deep"));
                }
                namespaces += attributes(&tag)?;
            }
            Event::Empty(tag) => namespaces += attributes(&tag)?,
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::DocType(_) => return Err("it has a DTD, which no domain has".to_owned()),
            Event::Eof => return Ok(()),
            Event::Text(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::GeneralRef(_) => {}
        }
        if namespaces > MAX_NAMESPACES {
            return Err(format!("it declares more than {MAX_NAMESPACES} namespaces"));
        }
    }
}

/// Counts an element's namespace declarations.
fn attributes(tag: &BytesStart<'_>) -> Result<usize, String> {
    let mut namespaces = 0;
    for (index, attribute) in tag.attributes().with_checks(false).enumerate() {
        if index >= MAX_ATTRIBUTES {
            return Err(format!("an element has more than {MAX_ATTRIBUTES} attributes"));
        }
        let attribute =
            attribute.map_err(|error| format!("an element's attributes are malformed: {error}"))?;
        namespaces += usize::from(attribute.key.as_ref().starts_with("xmlns"));
    }
    Ok(namespaces)
}
