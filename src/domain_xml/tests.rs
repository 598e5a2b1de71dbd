//! Hostile and ordinary XML.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::fixture::{pci, uuid};
use crate::model::{AllocationId, Device, HookDevice};

const DOMAIN_UUID: &str = "6a1e5f00-0000-4000-8000-000000000001";

fn domain(devices: &str) -> String {
    format!(
        "<?xml version='1.0' encoding='utf-8'?>\n<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n\
         <name>web1</name><uuid>{DOMAIN_UUID}</uuid>\n\
         <metadata><x:a xmlns:x='urn:x'><devices><hostdev mode='subsystem' type='mdev'/></devices></x:a></metadata>\n\
         <devices><disk type='file'/>{devices}</devices>\n\
         <qemu:commandline><qemu:arg value='-cpu'/></qemu:commandline>\n</domain>\n"
    )
}

fn mdev(alias: &str, number: u32) -> String {
    format!(
        "<hostdev mode='subsystem' type='mdev' managed='no' model='vfio-pci'>\
         <source><address uuid='{}'/></source><alias name='{alias}'/></hostdev>",
        uuid(number)
    )
}

fn vf(alias: &str, address: &str) -> String {
    format!(
        "<hostdev mode='subsystem' type='pci' managed='yes'><driver name='vfio'/>\
         <source><address {address}/></source><alias name='{alias}'/>\
         <address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x0'/></hostdev>"
    )
}

fn read_text(text: &str) -> Result<DomainXml, DomainXmlError> {
    read(text.as_bytes())
}

/// What this thread has used of a processor.
fn processor_time() -> Duration {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    nix::time::clock_gettime(clock).expect("the thread's own clock").into()
}

/// Reads something hostile: one short line, and soon.
fn refused(xml: &[u8]) -> String {
    let begun = processor_time();
    let line = read(xml).expect_err("refused").to_string();
    // Generous, for unoptimized code: what is not linear takes minutes. Other work on the machine does not count.
    let spent = processor_time() - begun;
    assert!(spent < Duration::from_secs(5), "{line} took {spent:?}");
    assert!(!line.contains(char::is_control) && line.chars().count() < 400, "{line:?}");
    line
}

#[test]
fn hostdevs_are_read_as_libvirt_writes_them() {
    let pci_attributes = "domain='0x0000' bus='0x41' slot='0x00' function='0x4'";
    let xml = domain(&(mdev("ua-vgpud-0000000a", 1) + &vf("hostdev1", pci_attributes)));
    let read = read_text(&xml).expect("a domain");
    assert_eq!((read.uuid.to_string().as_str(), read.name.as_str()), (DOMAIN_UUID, "web1"));
    let expected = [
        Hostdev {
            alias: Some("ua-vgpud-0000000a".to_owned()),
            source: Source::Mdev(uuid(1)),
            managed: false,
        },
        Hostdev {
            alias: Some("hostdev1".to_owned()),
            source: Source::Pci(pci("0000:41:00.4")),
            managed: true,
        },
    ];
    assert_eq!(read.hostdevs, expected);
}

#[test]
fn numbers_of_addresses_are_read_as_libvirt_reads_them() {
    let source = |attributes: &str| {
        read_text(&domain(&vf("a", attributes))).expect("a domain").hostdevs.remove(0).source
    };
    assert_eq!(source("domain='0' bus='65' slot='0' function='4'"), Source::Pci(pci("0000:41:00.4")));
    assert_eq!(source("bus='0X41' slot='012' function='4'"), Source::Pci(pci("0000:41:0a.4")));
    assert_eq!(source("domain='0x10000' bus='0xe1'"), Source::Pci(pci("10000:e1:00.0")));
    for odd in
        ["bus='0x100'", "slot='32'", "function='8'", "bus=''", "bus='0x'", "bus='+1'", "bus='-1'", "bus='08'"]
    {
        assert!(matches!(source(odd), Source::Other(_)), "{odd}");
    }
}

#[test]
fn odd_hostdevs_of_others_are_no_error() {
    let odd = "<hostdev/><hostdev mode='subsystem' type='usb'><source><vendor id='0x1'/></source></hostdev>\
               <hostdev mode='subsystem' type='mdev'><source/></hostdev>\
               <hostdev mode='subsystem' type='mdev'><source><address uuid='no'/></source></hostdev>\
               <hostdev mode='capabilities' type='storage'/>";
    let read = read_text(&domain(odd)).expect("a domain");
    assert_eq!(read.hostdevs.len(), 5);
    assert!(read.hostdevs.iter().all(|one| matches!(one.source, Source::Other(_))));
    assert_eq!(ours(&read, &OwnedSet::default()), Ok(vec![]));
}

fn ours_of(devices: &str, owned: &OwnedSet) -> Result<Vec<HookDevice>, String> {
    let read = read_text(&domain(devices)).expect("a domain");
    ours(&read, owned).map_err(|error| error.to_string())
}

#[test]
fn ours_are_those_with_our_alias_or_a_device_of_ours() {
    let owned: OwnedSet = [Device::Mdev(uuid(2)), Device::Vf(pci("0000:41:00.4"))].into_iter().collect();
    let devices = mdev("ua-vgpud-0000000a", 1)
        + &mdev("hostdev0", 2)
        + &mdev("ua-mine", 3)
        + &vf("x", "bus='0x41' function='4'")
        + &vf("y", "bus='0x42'");
    let expected = vec![
        HookDevice { allocation: Some(AllocationId::from_bits(10)), device: Device::Mdev(uuid(1)) },
        HookDevice { allocation: None, device: Device::Mdev(uuid(2)) },
        HookDevice { allocation: None, device: Device::Vf(pci("0000:41:00.4")) },
    ];
    assert_eq!(ours_of(&devices, &owned), Ok(expected));
}

#[test]
fn hostdevs_that_claim_to_be_ours_and_make_no_sense_are_refused() {
    let none = OwnedSet::default();
    let refused = |devices: &str| ours_of(devices, &none).expect_err("refused");
    assert_eq!(
        refused(&mdev("ua-vgpud-garbage", 1)),
        "hostdev \"ua-vgpud-garbage\" has an alias of vgpud, but \"garbage\" is no allocation id"
    );
    assert!(refused(&mdev(&format!("ua-vgpud-{}", "x".repeat(100_000)), 1)).len() < 300);
    let no_device = mdev("ua-vgpud-0000000a", 1).replace(&uuid(1).to_string(), "no-uuid");
    assert_eq!(
        refused(&no_device),
        "hostdev \"ua-vgpud-0000000a\" has an alias of vgpud, but names no mdev or VF: \
         in its source address \"no-uuid\" is no UUID of a mediated device"
    );
    assert!(refused(&vf("ua-vgpud-0000000a", "bus='0x1000'")).contains("bus is \"0x1000\""));
    assert!(refused("<hostdev><alias name='ua-vgpud-0000000a'/></hostdev>").contains("mode is not given"));
    let aliases = mdev("ua-vgpud-0000000a", 1) + &mdev("ua-vgpud-0000000a", 2);
    assert_eq!(refused(&aliases), "the alias \"ua-vgpud-0000000a\" is on two hostdevs of the domain");
    let devices = mdev("ua-vgpud-0000000a", 1) + &mdev("hostdev1", 1);
    assert_eq!(refused(&devices), format!("{} is named by two hostdevs of the domain", uuid(1)));
    let foreign = mdev("hostdev0", 1) + &mdev("hostdev1", 1);
    assert_eq!(ours_of(&foreign, &none), Ok(vec![]), "what others do twice is libvirt's to refuse");
}

#[test]
fn xml_that_is_no_domain_is_refused() {
    assert_eq!(refused(b"<network/>"), "the XML is not a domain's: its root is <network>");
    assert!(refused(b"<domain><name>a</name></domain>").contains("no name or no uuid"));
    assert!(refused(b"<domain><name>a</name><uuid>b</uuid></domain>").contains("its uuid is \"b\""));
    for text in ["", " ", "web1", "<domain>", "<domain/><domain/>", "<domain></x>", "<domain a='1' a='2'/>"] {
        assert!(refused(text.as_bytes()).starts_with("the domain XML cannot be read: "), "{text:?}");
    }
}

#[test]
fn dtds_and_entities_are_refused() {
    let bomb = "<!DOCTYPE d [<!ENTITY a 'lol'><!ENTITY b '&a;&a;&a;&a;'>]><domain><name>&b;</name></domain>";
    assert_eq!(refused(bomb.as_bytes()), "the domain XML cannot be read: it has a DTD, which no domain has");
    let outside = "<!DOCTYPE d SYSTEM 'file:///etc/shadow'><domain/>";
    assert!(refused(outside.as_bytes()).contains("DTD"));
    assert!(refused(b"<domain><name>&xxe;</name></domain>").contains("cannot be read"));
    assert!(refused(b"<!-- a --><!DOCTYPE d><domain/>").contains("DTD"));
}

#[test]
fn what_is_not_text_is_refused() {
    assert_eq!(refused(b"<domain>\xff</domain>"), "the domain XML is not UTF-8: byte 8 is wrong");
    assert!(refused(b"<domain>\0</domain>").contains("cannot be read"));
    assert!(refused(b"\0\0\0").contains("cannot be read"));
    assert!(refused(b"\xff\xfe<\0d\0").contains("UTF-8"));
}

#[test]
fn a_byte_order_mark_does_no_harm() {
    let xml = format!("\u{feff}{}", domain(""));
    assert!(read_text(&xml).is_ok());
}

#[test]
fn what_is_beyond_all_bounds_is_refused_at_once() {
    assert_eq!(refused(&vec![b' '; 100 << 20]), "the domain XML has more than 8388608 bytes");
    let deep = "<a>".repeat(100_000);
    assert!(refused(deep.as_bytes()).contains("nested more than 256 deep"));
    let closed = "<a>".repeat(100_000) + &"</a>".repeat(100_000);
    assert!(refused(closed.as_bytes()).contains("nested more than 256 deep"));
    let attributes: String = (0..200_000).map(|n| format!(" a{n}=''")).collect();
    assert!(refused(format!("<domain{attributes}/>").as_bytes()).contains("more than 128 attributes"));
    let namespaces: String = (0..60_000).map(|n| format!("<a xmlns:n{n}='u'/>")).collect();
    assert!(
        refused(format!("<domain>{namespaces}</domain>").as_bytes()).contains("more than 256 namespaces")
    );
    let wide = format!("<domain>{}</domain>", "<a/>".repeat(2_000_000));
    assert!(refused(wide.as_bytes()).contains("more than 200000 nodes"));
    let name = format!("<{}/>", "x".repeat(4_000_000));
    assert!(refused(name.as_bytes()).contains("its root is"));
    let quotes = format!("<domain a='{}", "\"".repeat(4_000_000));
    refused(quotes.as_bytes());
}

#[test]
fn a_domain_of_libvirts_largest_size_is_read() {
    let devices: String = (0..2000).map(|n| mdev(&format!("hostdev{n}"), n)).collect();
    let comment = format!("<!--{}-->", "x".repeat(4 << 20));
    let read = read_text(&domain(&(devices + &comment))).expect("a domain");
    assert_eq!(read.hostdevs.len(), 2000);
}

#[test]
fn hostdevs_are_noticed_without_parsing() {
    assert!(mentions_hostdev(domain(&mdev("a", 1)).as_bytes()));
    assert!(!mentions_hostdev(b"<domain><devices><disk/><host dev=''/></devices></domain><hostde"));
    assert!(!mentions_hostdev(b""));
    assert!(mentions_hostdev(b"\xff<<hostdev"));
}

#[test]
fn lines_of_the_owned_list_that_are_unknown_are_ignored() {
    let text =
        format!("{}\n# a comment\n\n 0000:41:00.4 \r\nnewer:thing\n{}\n", uuid(1), "x".repeat(100_000));
    let owned = OwnedSet::parse(&text);
    assert!(owned.contains(Device::Mdev(uuid(1))) && owned.contains(Device::Vf(pci("0000:41:00.4"))));
    assert_eq!(owned.to_text(), format!("{}\n0000:41:00.4\n", uuid(1)));
}

/// Texts that are nearly XML.
fn nearly_xml() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just(domain("")),
        Just(mdev("ua-vgpud-0000000a", 1)),
        "</?(domain|name|uuid|devices|hostdev|source|address|alias)( (mode|type|uuid|bus|name)='[ -~]{0,8}')?/?>",
        "[<>&;'\"\\]!\\[?-]{1,6}",
        "\\PC{0,12}",
        Just("<!DOCTYPE d [".to_owned()),
        Just("<![CDATA[".to_owned()),
        Just("&#0;".to_owned()),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_xml_makes_the_reader_panic(text in nearly_xml(), owned in "([0-9a-f:.-]{0,40}\n){0,4}") {
        match read_text(&text) {
            Err(error) => prop_assert!(!error.to_string().contains(char::is_control), "{:?}", error),
            Ok(read) => {
                if let Err(error) = ours(&read, &OwnedSet::parse(&owned)) {
                    prop_assert!(!error.to_string().contains(char::is_control), "{:?}", error);
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
        prop_assert!(read(&bytes).is_err());
        prop_assert_eq!(mentions_hostdev(&bytes), bytes.windows(8).any(|eight| eight == b"<hostdev"));
    }

    #[test]
    fn owned_lists_round_trip(numbers in proptest::collection::btree_set(0u32..1000, 0..9), buses: Vec<u8>) {
        let mdevs = numbers.into_iter().map(|number| Device::Mdev(uuid(number)));
        let vfs = buses.into_iter().map(|bus| Device::Vf(pci(&format!("{bus:02x}:00.1"))));
        let owned: OwnedSet = mdevs.chain(vfs).collect();
        prop_assert_eq!(OwnedSet::parse(&owned.to_text()), owned);
    }

    #[test]
    fn no_owned_list_makes_the_reader_panic(text in "\\PC*") {
        let owned = OwnedSet::parse(&text);
        prop_assert_eq!(OwnedSet::parse(&owned.to_text()), owned);
    }
}

#[test]
fn what_only_looks_like_a_hostdev_is_none() {
    let source =
        "<source><address uuid='734e160f-0c02-48dc-bacb-b4312707d493'/></source><alias name='ua-x'/>";
    let domain = |metadata: &str, devices: &str| {
        format!(
            "<domain><name>a</name><uuid>71c00065-9ff8-4eb5-af8c-5d5c82c20df6</uuid>\
             <metadata>{metadata}</metadata><devices>{devices}</devices></domain>"
        )
    };
    let foreign = domain("", &format!("<q:hostdev xmlns:q='urn:q'>{source}</q:hostdev>"));
    assert_eq!(read(foreign.as_bytes()).expect("a domain").hostdevs, []);
    let both =
        domain(&format!("<hostdev>{source}</hostdev>"), &format!("<hostdev type='mdev'>{source}</hostdev>"));
    let range = hostdev_range(&both, "ua-x").expect("a hostdev");
    assert!(both[range].starts_with("<hostdev type='mdev'"));
}
