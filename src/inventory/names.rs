//! Names of PCI vendors and devices: a sorted text in the program, searched where it lies.
//!
//! `build.rs` makes it of the PCI id list. Each line is a key in hexadecimal (vendor, or vendor and device),
//! a tab and the name.

use std::cmp::Ordering;

use crate::model::PciId;

const NAMES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pci-names.txt"));

/// Returns the vendor's name, or its number.
pub(super) fn vendor(id: u16) -> String {
    find(NAMES, &format!("{id:04x}")).map_or_else(|| format!("vendor {id:04x}"), str::to_owned)
}

/// Returns the device's name, or its number.
pub(super) fn device(id: PciId) -> String {
    let name = find(NAMES, &format!("{:04x}{:04x}", id.vendor, id.device));
    name.map_or_else(|| format!("device {:04x}", id.device), str::to_owned)
}

/// Halves the text between two starts of lines until the line of `key` is met.
fn find<'a>(text: &'a [u8], key: &str) -> Option<&'a str> {
    let is_end = |byte: &u8| *byte == b'\n';
    let mut rest = text;
    while !rest.is_empty() {
        let middle = rest.len() / 2;
        let start = rest[..middle].iter().rposition(is_end).map_or(0, |at| at + 1);
        let end = rest[start..].iter().position(is_end).map_or(rest.len(), |at| start + at);
        let mut parts = rest[start..end].splitn(2, |byte| *byte == b'\t');
        match parts.next().unwrap_or_default().cmp(key.as_bytes()) {
            Ordering::Equal => return std::str::from_utf8(parts.next()?).ok(),
            Ordering::Less => rest = rest.get(end + 1..).unwrap_or_default(),
            Ordering::Greater => rest = &rest[..start],
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_found() {
        let text = std::str::from_utf8(NAMES).expect("text");
        assert!(text.lines().count() > 10_000, "the list is not there");
        for line in text.lines() {
            let (key, name) = line.split_once('\t').expect("key and name");
            assert_eq!(find(NAMES, key), Some(name), "{key}");
        }
    }

    #[test]
    fn names_are_those_of_the_list_and_numbers_stand_for_what_it_does_not_know() {
        assert_eq!(vendor(0x10de), "NVIDIA Corporation");
        assert_eq!(device(PciId { vendor: 0x8086, device: 0x10ca }), "82576 Virtual Function");
        assert_eq!(vendor(0xfff0), "vendor fff0");
        assert_eq!(device(PciId { vendor: 0x10de, device: 0xffff }), "device ffff");
    }

    #[test]
    fn a_text_of_any_shape_is_searched_to_its_end() {
        for text in ["", "\n", "a", "a\tx", "a\tx\nc\ty", "a\tx\nc\ty\n"] {
            assert_eq!(find(text.as_bytes(), "b"), None, "{text:?}");
        }
        assert_eq!(find(b"a\tx\nc\ty", "c"), Some("y"));
    }
}
