//! `/run/vgpud/owned`, the list of our devices that the hook reads.

use vgpud::domain_xml::OwnedSet;

pub(super) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let owned = OwnedSet::parse(&text);
    assert_eq!(OwnedSet::parse(&owned.to_text()), owned, "what is printed is read back");
}
