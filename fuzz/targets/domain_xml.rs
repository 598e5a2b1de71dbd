//! The XML that libvirt gives to the hook, with the decision whether the domain is ours.

use vgpud::domain_xml::{OwnedSet, hostdev_range, mentions_hostdev, ours, read};

/// What the service published: the corpus has these devices without our alias.
const OWNED: &str = "734e160f-0c02-48dc-bacb-b4312707d493\n0000:41:00.4\n";

pub(super) fn run(data: &[u8]) {
    let domain = match read(data) {
        Ok(domain) => domain,
        Err(error) => return super::assert_one_line(&error.to_string()),
    };
    assert_eq!(read(data).as_ref(), Ok(&domain), "the same bytes are the same domain");
    // The hook asks this first, and looks no further when it is no.
    assert!(domain.hostdevs.is_empty() || mentions_hostdev(data), "{domain:?}");
    let text = std::str::from_utf8(data).expect("read refuses what is no text");
    for alias in domain.hostdevs.iter().filter_map(|hostdev| hostdev.alias.as_deref()) {
        let range = hostdev_range(text, alias).expect("a hostdev with this alias was read");
        assert!(text[range.clone()].starts_with("<hostdev") && text[range].ends_with('>'));
    }
    match ours(&domain, &OwnedSet::parse(OWNED)) {
        Ok(devices) => assert!(devices.len() <= domain.hostdevs.len()),
        Err(error) => super::assert_one_line(&error.to_string()),
    }
}
