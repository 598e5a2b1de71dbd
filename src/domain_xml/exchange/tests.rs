use proptest::prelude::*;

use super::*;
use crate::model::fixture::pci;

const UUID: &str = "6a1e5f00-0000-4000-8000-000000000001";
const A: &str = "0000:01:10.0";
const B: &str = "0000:02:10.4";

fn id(bits: u32) -> AllocationId {
    AllocationId::from_bits(bits)
}

fn one(from: &str, to: &str) -> Exchange {
    Exchange { allocation: id(1), from: pci(from), to: pci(to) }
}

fn domain(devices: &str) -> String {
    format!(
        "<?xml version='1.0'?>\n<!-- 0x01 -->\n<domain type='kvm'>\n  <name>a&amp;b</name>\n  <uuid>{UUID}</uuid>\n\
         <metadata><x:a xmlns:x='urn:x'><devices><hostdev mode='subsystem' type='pci'><source>\
         <address domain='0x0000' bus='0x01' slot='0x10' function='0x0'/></source>\
         <alias name='ua-vgpud-00000001'/></hostdev></devices></x:a></metadata>\n\
         <devices>\n{devices}\n<graphics type='vnc' passwd='s&lt;cret'/></devices>\n</domain>\n"
    )
}

fn hostdev(attributes: &str, alias: &str) -> String {
    format!(
        "<hostdev mode='subsystem' type='pci' managed='no'>\n  <source>\n    <address {attributes}/>\n  </source>\n  \
         <alias name='{alias}'/>\n  <address type='pci' domain='0x0000' bus='0x01' slot='0x10' function='0x0'/>\n</hostdev>"
    )
}

const LIBVIRTS: &str = "domain='0x0000' bus='0x01' slot='0x10' function='0x0'";

fn ours(attributes: &str) -> String {
    domain(&hostdev(attributes, &id(1).alias()))
}

#[test]
fn only_the_digits_of_the_source_change() {
    let xml = ours(LIBVIRTS);
    let new = exchange(&xml, &[one(A, B)]).expect("one place");
    let wanted = ours("domain='0x0000' bus='0x02' slot='0x10' function='0x4'");
    assert_eq!(new, wanted);
    assert_eq!(exchange(&new, &[one(B, A)]).expect("and back"), xml);
}

#[test]
fn each_number_is_written_as_the_one_before() {
    let cases = [
        (
            "function = \"0\"\tslot=\"16\"  bus='1'\n domain='0'",
            "function = \"4\"\tslot=\"16\"  bus='2'\n domain='0'",
        ),
        (
            "bus='0X0001' slot='020' function='00' domain='0x0'",
            "bus='0X0002' slot='020' function='04' domain='0x0'",
        ),
        (
            "type='pci' bus='&#48;x01' slot='0x10' function='0'",
            "type='pci' bus='0x02' slot='0x10' function='4'",
        ),
    ];
    for (before, after) in cases {
        assert_eq!(exchange(&ours(before), &[one(A, B)]).as_deref(), Ok(ours(after).as_str()), "{before}");
    }
    let upper = exchange(
        &ours("domain='0x0000' bus='0xAB' slot='0x10' function='0x0'"),
        &[one("0000:ab:10.0", "10000:cd:10.0")],
    );
    assert_eq!(upper, Ok(ours("domain='0x10000' bus='0xCD' slot='0x10' function='0x0'")));
}

#[test]
fn a_hostdev_without_our_alias_is_known_by_its_address() {
    let xml = domain(&hostdev(LIBVIRTS, "hostdev0"));
    let new = exchange(&xml, &[one(A, B)]).expect("one place");
    assert_eq!(
        new,
        xml.replacen(
            "bus='0x01' slot='0x10' function='0x0'/>\n  </source>",
            "bus='0x02' slot='0x10' function='0x4'/>\n  </source>",
            1
        )
    );
    let other = domain(&hostdev(LIBVIRTS, &id(2).alias()));
    assert!(matches!(exchange(&other, &[one(A, B)]), Err(ExchangeError::NotOne { .. })));
}

#[test]
fn two_are_exchanged_together_or_none() {
    let second = "domain='0x0000' bus='0x02' slot='0x10' function='0x4'";
    let both = |a: &str, b: &str| domain(&(hostdev(a, &id(1).alias()) + &hostdev(b, &id(2).alias())));
    let to_c = one(A, "0000:03:10.0");
    let to_d = Exchange { allocation: id(2), from: pci(B), to: pci("0000:03:10.2") };
    let new = exchange(&both(LIBVIRTS, second), &[to_d.clone(), to_c.clone()]).expect("two places");
    let expected = both(
        "domain='0x0000' bus='0x03' slot='0x10' function='0x0'",
        "domain='0x0000' bus='0x03' slot='0x10' function='0x2'",
    );
    assert_eq!(new, expected);
    let same = Exchange { to: to_c.to, ..to_d };
    assert!(matches!(exchange(&both(LIBVIRTS, second), &[to_c, same]), Err(ExchangeError::NamedAlready(_))));
}

#[test]
fn what_is_not_one_place_is_refused() {
    let refused = |xml: &str| exchange(xml, &[one(A, B)]).expect_err("refused").to_string();
    let alias = id(1).alias();
    assert!(refused(&domain("")).contains("0 hostdevs name"));
    assert!(
        refused(&domain(&(hostdev(LIBVIRTS, &alias) + &hostdev(LIBVIRTS, &alias)))).contains("2 hostdevs")
    );
    assert!(refused(&domain(&(hostdev(LIBVIRTS, &alias) + &hostdev(LIBVIRTS, "x")))).contains("2 hostdevs"));
    assert!(refused(&ours("bus='0x05'")).contains("no longer names VF 0000:01:10.0"));
    let twice = hostdev(LIBVIRTS, &alias)
        + &hostdev("domain='0x0000' bus='0x02' slot='0x10' function='0x4'", "hostdev1");
    assert!(refused(&domain(&twice)).contains("names VF 0000:02:10.4 already"));
    let two_addresses = format!("{LIBVIRTS}/><address {LIBVIRTS}");
    assert!(refused(&ours(&two_addresses)).contains("1 sources with 2 addresses"));
    let two_sources = format!("{LIBVIRTS}/></source><source><address {LIBVIRTS}");
    assert!(refused(&ours(&two_sources)).contains("2 sources"));
    assert!(refused(&ours("bus='0x01' slot='0x10'")).contains("has no function"));
    let aliases = ours(LIBVIRTS).replacen("<alias", "<alias name='x'/><alias", 2);
    assert!(refused(&aliases).contains("several aliases"), "{}", refused(&aliases));
    let mdev = ours(LIBVIRTS).replace("type='pci' managed", "type='mdev' managed");
    assert!(refused(&mdev).contains("no longer names"));
    for hostile in ["", "<domain>", "<!DOCTYPE a [<!ENTITY b 'c'>]><domain/>", "<network/>"] {
        assert!(matches!(exchange(hostile, &[one(A, B)]), Err(ExchangeError::Xml(_))), "{hostile}");
    }
}

/// White space, comments and the like between the parts of a definition.
fn any_gap() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[ \n\t]{1,4}",
        "[a-z<>&'\" 0-9]{0,12}".prop_map(|text| format!("<!--{text}-->")),
        Just("<?pi bus='0x01'?>".to_owned()),
    ]
}

/// A number in one of the ways that libvirt reads.
fn any_style(number: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        Just(format!("0x{number:02x}")),
        Just(format!("0X{number:04X}")),
        Just(number.to_string()),
        Just(if number == 0 { "0".to_owned() } else { format!("0{number:o}") }),
    ]
}

fn any_address() -> impl Strategy<Value = PciAddress> {
    (0u32..3, 0u8..4, 0u8..32, 0u8..8).prop_map(|(segment, bus, device, function)| PciAddress {
        segment,
        bus,
        device,
        function,
    })
}

/// A definition with a hostdev that names an address, and that text cut at its four values.
fn any_definition() -> impl Strategy<Value = (PciAddress, String, Vec<Range<usize>>)> {
    let attributes = any_address().prop_flat_map(|address| {
        let styles = (
            any_style(address.segment),
            any_style(address.bus.into()),
            any_style(address.device.into()),
            any_style(address.function.into()),
        );
        (Just(address), styles)
    });
    let order = Just(vec!["domain", "bus", "slot", "function"]).prop_shuffle();
    let quotes = proptest::collection::vec(any::<bool>(), 4);
    (attributes, order, quotes, proptest::collection::vec(any_gap(), 6), "[ \n\t]{1,3}").prop_map(
        |((address, styles), order, quotes, gaps, blank)| {
            let mut text = format!(
                "<domain>{}<name>n</name><uuid>{UUID}</uuid>{}<devices>{}<hostdev mode='subsystem' type='pci'>{}<source>{}<address",
                gaps[0], gaps[1], gaps[2], gaps[3], gaps[4]
            );
            let mut places = Vec::new();
            for (name, double) in order.into_iter().zip(quotes) {
                let value = match name {
                    "domain" => &styles.0,
                    "bus" => &styles.1,
                    "slot" => &styles.2,
                    _ => &styles.3,
                };
                let quote = if double { '"' } else { '\'' };
                text.push_str(&format!("{blank}{name}={quote}"));
                places.push(text.len()..text.len() + value.len());
                text.push_str(value);
                text.push(quote);
            }
            text.push_str(&format!(
                "/></source><alias name='{}'/>{}<address type='pci' bus='0x01'/></hostdev></devices></domain>",
                id(1).alias(),
                gaps[5]
            ));
            (address, text, places)
        },
    )
}

proptest! {
    #[test]
    fn every_byte_outside_the_four_values_stays((from, xml, places) in any_definition(), to in any_address()) {
        prop_assume!(from != to);
        let exchange_one = Exchange { allocation: id(1), from, to };
        let new = exchange(&xml, std::slice::from_ref(&exchange_one)).expect("one place");
        // Walk both texts: between the values they are the same bytes.
        let (mut old_at, mut new_at) = (0, 0);
        for place in &places {
            let between = &xml[old_at..place.start];
            prop_assert_eq!(&new[new_at..new_at + between.len()], between);
            new_at += between.len();
            old_at = place.end;
            new_at += new[new_at..].find(['\'', '"']).expect("the end of the value");
        }
        prop_assert_eq!(&new[new_at..], &xml[old_at..]);
        let named = read(new.as_bytes()).expect("a domain").hostdevs.remove(0).source;
        prop_assert_eq!(named, Source::Pci(to));
        let back = Exchange { from: to, to: from, ..exchange_one };
        let again = exchange(&new, &[back]).expect("one place");
        prop_assert_eq!(read(again.as_bytes()), read(xml.as_bytes()));
    }

    #[test]
    fn broken_text_is_refused_or_changed_in_one_place(at in 0usize..600, junk in "[<>&'\"/=x0-9a]{0,3}") {
        let xml = ours(LIBVIRTS);
        let at = at.min(xml.len());
        let text = format!("{}{junk}{}", &xml[..at], &xml[at..]);
        if let Ok(new) = exchange(&text, &[one(A, B)]) {
            let differing = text.bytes().zip(new.bytes()).filter(|(old, new)| old != new).count();
            prop_assert_eq!(text.len(), new.len());
            prop_assert!(differing <= 2, "{} bytes", differing);
        }
    }
}
