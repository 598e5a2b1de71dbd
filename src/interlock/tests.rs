use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::domain_xml::details;
use crate::model::fixture::{gpu, host, mdev, mdev_type, parent, pf, profile, uuid, vf, vf_allocation};
use crate::model::{Device, LibvirtVersion, PciAddress, Wish};

const MDEV: &str = "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source>\
    <address uuid='c0ffee00-0000-4000-8000-000000000001'/></source></hostdev>";
const PCI: &str = "<hostdev mode='subsystem' type='pci' managed='no'><source>\
    <address domain='0' bus='1' slot='0' function='1'/></source></hostdev>";

fn domain(head: &str, devices: &str) -> Domain {
    let xml = format!("<domain><name>web1</name>{head}<devices>{devices}</devices></domain>");
    let xml = details(xml.as_bytes()).expect("a domain");
    Domain { slices: vec![Slice::default(); xml.hostdevs.len()], xml }
}

fn of(domains: Vec<Domain>) -> Facts {
    Facts { domains, ..Facts::default() }
}

fn vgpu(name: &str) -> Vgpu {
    Vgpu::new(TypeName::parse(name).expect("a type"))
}

fn card(change: impl FnOnce(&mut GpuFacts)) -> Facts {
    let mut card = GpuFacts::new("virtual:a".parse().expect("id"), "0000:41:00.0");
    change(&mut card);
    Facts { gpus: vec![card], ..Facts::default() }
}

/// A domain with two mdevs that are these vGPUs.
fn pair(one: Vgpu, other: Vgpu) -> Facts {
    let second = MDEV.replace("0001'", "0002'");
    let mut domain = domain("", &[MDEV, &second].concat());
    for (slice, vgpu) in domain.slices.iter_mut().zip([one, other]) {
        slice.vgpu = Some(vgpu);
    }
    of(vec![domain])
}

/// A domain with one hostdev and what it stands for.
fn single(hostdev: &str, slice: Slice) -> Facts {
    let mut domain = domain("", hostdev);
    domain.slices = vec![slice];
    of(vec![domain])
}

fn mode(mode: SizeMode, names: &[&str]) -> Facts {
    card(|card| {
        card.mode = Some(mode);
        card.made = names.iter().map(|name| vgpu(name)).collect();
    })
}

fn with(version: &str, facts: Facts) -> Facts {
    Facts { libvirt: Some(version.parse().expect("a version")), ..facts }
}

fn ecc(name: &str) -> Facts {
    card(|card| (card.ecc, card.made) = (Some(true), vec![vgpu(name)]))
}

fn mig(name: &str, scheduler: Scheduler) -> Facts {
    card(|card| {
        (card.mig, card.scheduler, card.made) = (Some(true), Some(scheduler), vec![vgpu(name)]);
    })
}

fn shares(scheduler: Scheduler, mode: SizeMode) -> Facts {
    card(|card| (card.scheduler, card.mode) = (Some(scheduler), Some(mode)))
}

fn two(one: Vgpu, other: &str) -> Facts {
    card(|card| card.made = vec![one, vgpu(other)])
}

fn params(name: &str, params: &str) -> Vgpu {
    Vgpu { params: Some(params.to_owned()), ..vgpu(name) }
}

fn whole(name: &str, most: u32) -> Vgpu {
    Vgpu { most: Some(most), nvlink: Some(true), ..vgpu(name) }
}

fn gib(head: &str) -> Facts {
    of(vec![domain(head, MDEV)])
}

/// Each rule: an example that breaks it, and one that is as near as can be and does not.
fn examples() -> Vec<(&'static str, Facts, Facts)> {
    let mut examples = nvidia_examples();
    examples.extend(xml_examples());
    examples
}

fn nvidia_examples() -> Vec<(&'static str, Facts, Facts)> {
    let only_type = |name| Vgpu { exclusive_type: Some(true), ..vgpu(name) };
    let only_size = |name| Vgpu { exclusive_size: Some(true), ..vgpu(name) };
    let alone = |name| Vgpu { exclusive_in_domain: Some(true), ..vgpu(name) };
    let crowd =
        |count| card(|card| card.made = vec![Vgpu { gpu_instance: Some(3), ..vgpu("A100-1-5C") }; count]);
    let uvm = |name| params(name, "enable_uvm=1");
    vec![
        (
            "nv-fixed-share-mixed",
            shares(Scheduler::FixedShare, SizeMode::Mixed),
            shares(Scheduler::EqualShare, SizeMode::Mixed),
        ),
        (
            "nv-one-size",
            mode(SizeMode::Equal, &["A40-4Q", "A40-8Q"]),
            mode(SizeMode::Equal, &["A40-4Q", "A40-4C"]),
        ),
        ("nv-exclusive-type", two(only_type("A40-4Q"), "A40-4C"), two(only_type("A40-4Q"), "A40-4Q")),
        ("nv-exclusive-size", two(only_size("A40-4Q"), "A40-8Q"), two(only_size("A40-4Q"), "A40-4C")),
        ("nv-too-many", crowd(13), crowd(12)),
        ("nv-mig-mode", mig("A100-5C", Scheduler::BestEffort), mig("A100-1-5C", Scheduler::BestEffort)),
        (
            "nv-mig-scheduler",
            mig("A100-1-5C", Scheduler::FixedShare),
            mig("A100-1-5C", Scheduler::BestEffort),
        ),
        ("nv-ecc-series", ecc("A40-2B"), ecc("A40-2Q")),
        ("nv-multi-vgpu-board", pair(vgpu("A30-8C"), vgpu("A16-8C")), pair(vgpu("A40-48C"), vgpu("A40-16C"))),
        (
            "nv-multi-vgpu-exclusive",
            pair(alone("A40-4Q"), vgpu("A40-8Q")),
            pair(alone("A40-4Q"), vgpu("A40-4Q")),
        ),
        (
            "nv-p2p-whole-framebuffer",
            pair(whole("H100-40C", 2), whole("H100-80C", 1)),
            pair(whole("H100-80C", 1), whole("H100-80C", 1)),
        ),
        ("nv-uvm-p2p", pair(uvm("A100-40C"), vgpu("A100-40C")), pair(uvm("H100-80C"), vgpu("H100-80C"))),
        (
            "nv-uvm-migration",
            pair(uvm("A40-4Q"), vgpu("A40-4Q")),
            pair(params("A40-4Q", "enable_uvm=0,disable_vnc=1"), vgpu("A40-4Q")),
        ),
    ]
}

fn xml_examples() -> Vec<(&'static str, Facts, Facts)> {
    let mdev = |options: &str| MDEV.replace(" model='vfio-pci'", &format!(" model='vfio-pci' {options}"));
    let plain = |devices: &str| of(vec![domain("", devices)]);
    let screen = |options: &str| format!("<graphics type='vnc'/>{}", mdev(options));
    let both = "display='on' ramfb='on'";
    let second = mdev(both).replace("0001'", "0002'");
    let managed = PCI.replace("'no'", "'yes'");
    let on =
        |driver: &str, vfio| Slice { driver: Some(driver.to_owned()), vfio: Some(vfio), ..Slice::default() };
    let vendor = || Slice { vendor_vf: true, ..on("nvidia", true) };
    let ours = || Slice { ours: true, ..on("vfio-pci", true) };
    let gone = |ours| Slice { exists: Some(false), ours, ..Slice::default() };
    let api = |api: &str| Slice { device_api: Some(api.to_owned()), ..Slice::default() };
    let other = |uuid: &str| Domain {
        xml: details(
            format!("<domain><name>web2</name><devices>{}</devices></domain>", MDEV.replace("0001'", uuid))
                .as_bytes(),
        )
        .expect("a domain"),
        slices: vec![Slice::default()],
    };
    vec![
        ("ramfb-needs-display", plain(&mdev("ramfb='on'")), plain(&screen(both))),
        ("display-needs-graphics", plain(&mdev("display='on'")), plain(&screen("display='on'"))),
        ("second-ramfb", plain(&[screen(both), second].concat()), plain(&screen(both))),
        ("mdev-model", single(MDEV, api("vfio-ccw")), single(MDEV, api("vfio_pci"))),
        ("managed-vendor-vf", single(&managed, vendor()), single(PCI, vendor())),
        ("managed-own-vf", single(&managed, ours()), single(PCI, ours())),
        ("unmanaged-host-driver", single(PCI, on("xe", false)), single(&managed, on("xe", false))),
        ("absent-device", single(MDEV, gone(false)), single(MDEV, gone(true))),
        ("device-twice", plain(&[MDEV, MDEV].concat()), plain(MDEV)),
        (
            "device-of-two-domains",
            of(vec![domain("", MDEV), other("0001'")]),
            of(vec![domain("", MDEV), other("0002'")]),
        ),
        (
            "memtune-hard-limit",
            gib("<memory unit='GiB'>4</memory><memtune><hard_limit unit='MiB'>5119</hard_limit></memtune>"),
            gib("<memory unit='GiB'>4</memory><memtune><hard_limit unit='GiB'>5</hard_limit></memtune>"),
        ),
        (
            "vfio-overcommit",
            gib("<memory unit='GiB'>4</memory><currentMemory unit='GiB'>2</currentMemory>"),
            gib("<memory unit='GiB'>4</memory><currentMemory unit='GiB'>4</currentMemory>"),
        ),
        ("libvirt-too-old", with("9.0.0", single(PCI, vendor())), with("9.7.0", single(PCI, vendor()))),
    ]
}

fn broken(facts: &Facts) -> BTreeSet<String> {
    check(facts).into_iter().map(|finding| finding.rule).collect()
}

#[test]
fn every_rule_has_an_example_that_breaks_it_and_one_that_does_not() {
    for (id, wrong, right) in examples() {
        assert!(broken(&wrong).contains(id), "{id} does not find its example");
        assert!(!broken(&right).contains(id), "{id} finds what is right: {:?}", check(&right));
    }
    let shown: BTreeSet<&str> = examples().iter().map(|(id, ..)| *id).collect();
    let rules: BTreeSet<&str> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(shown, rules);
    assert_eq!(rules.len(), RULES.len(), "an id stands for one rule");
}

#[test]
fn every_rule_says_what_why_and_where_from() {
    for rule in RULES {
        assert!(
            !rule.forbids.ends_with('.') && rule.why.ends_with('.') && !rule.source.is_empty(),
            "{}",
            rule.id
        );
    }
    for (id, wrong, _) in examples() {
        for finding in check(&wrong) {
            let text = &finding.sentence;
            assert!(
                !text.is_empty() && !text.ends_with('.') && !finding.place.is_empty(),
                "{id}: {finding:?}"
            );
        }
    }
}

#[test]
fn other_options_that_need_a_newer_libvirt_are_found() {
    let hostdev = PCI.replace(
        "managed='no'>",
        "managed='yes' display='on'><driver model='xe-vfio-pci' iommufd='yes'/><acpi nodeset='1'/>",
    );
    let all = |version: &str| {
        let found = check(&with(version, of(vec![domain("<iommufd/>", &hostdev)])));
        let of_rule: Vec<String> =
            found.into_iter().filter(|one| one.rule == "libvirt-too-old").map(|one| one.sentence).collect();
        of_rule.join("; ").split("; ").filter(|text| !text.is_empty()).count()
    };
    let counts = ["9.7.0", "10.0.0", "10.3.0", "11.8.0", "12.1.0", "12.2.0"].map(all);
    assert_eq!(counts, [5, 4, 3, 2, 1, 0]);
}

#[test]
fn an_iommu_in_the_guest_pins_once_for_each_device() {
    let head = "<memory unit='GiB'>4</memory><memtune><hard_limit unit='GiB'>8</hard_limit></memtune>";
    let second = MDEV.replace("0001'", "0002'");
    let devices = [MDEV, &second, "<iommu model='intel'/>"].concat();
    assert!(broken(&of(vec![domain(head, &devices)])).contains("memtune-hard-limit"));
    assert!(!broken(&of(vec![domain(head, &[MDEV, &second].concat())])).contains("memtune-hard-limit"));
    assert!(!broken(&of(vec![domain(head, "<iommu model='intel'/>")])).contains("memtune-hard-limit"));
}

#[test]
fn profiles_are_checked_too() {
    let mut desk = profile("desk", Wish::Type("nvidia-1".to_owned()));
    desk.ramfb = true;
    let facts = facts(Known { profiles: &[desk], ..Known::default() }, Vec::new());
    let found = check(&facts);
    assert_eq!((found[0].place.as_str(), found[0].rule.as_str()), ("profile desk", "ramfb-needs-display"));
}

#[test]
fn what_a_change_brings_is_told_from_what_was_there() {
    let before = check(&gib("<memory unit='GiB'>4</memory><currentMemory unit='GiB'>2</currentMemory>"));
    assert_eq!(before.len(), 1);
    assert!(brought(&before, before.clone()).is_empty());
    assert_eq!(brought(&[], before.clone()), before);
}

#[test]
fn a_hosts_slices_are_recognized() {
    let named =
        |id: &str, name: &str| crate::model::MdevType { name: name.to_owned(), ..mdev_type(id, 4096, 1) };
    let mut t4 =
        parent("0000:41:00.0", vec![named("nvidia-1", "GRID T4-4Q"), named("nvidia-2", "GRID T4-8Q")]);
    t4.mdevs = vec![mdev(1, "nvidia-1"), mdev(2, "nvidia-2")];
    let mut card = gpu("0000:41:00.0", vec![t4]);
    card.pci = Some(crate::model::PciFacts {
        address: "0000:41:00.0".parse().expect("address"),
        id: "10de:1eb8".parse().expect("id"),
        subsystem: "10de:12a2".parse().expect("id"),
        class: 0x03_0200,
        vendor_name: "NVIDIA".to_owned(),
        device_name: "T4".to_owned(),
        link: None,
    });
    let snapshot = host(vec![card]);
    let xml = domain("", MDEV).xml;
    let known = Known { snapshot: Some(&snapshot), allocations: Some(&[]), ..Known::default() };
    let facts = facts(known, vec![xml]);
    let slice = &facts.domains[0].slices[0];
    assert_eq!(
        (slice.ours, slice.exists, slice.device_api.as_deref()),
        (false, Some(true), Some("vfio-pci"))
    );
    assert_eq!(slice.vgpu.as_ref().map(|vgpu| vgpu.name.to_string()).as_deref(), Some("T4-4Q"));
    // Two sizes on a card without SR-IOV: the driver would not have made them, and the rule sees it.
    assert_eq!(broken(&facts), BTreeSet::from(["nv-one-size".to_owned()]));
}

#[test]
fn promises_say_what_will_be_there() {
    let mut own = vf_allocation(1, 1, "0000:01:00.1");
    own.device = Device::Mdev(uuid(1));
    let wish = profile("nic", Wish::Type("NVIDIA A40-4Q".to_owned()));
    let snapshot = host(Vec::new());
    let known = Known {
        snapshot: Some(&snapshot),
        allocations: Some(&[own]),
        profiles: &[wish],
        libvirt: Some(LibvirtVersion::PCI_DISPLAY),
    };
    let facts = facts(known, vec![domain("", MDEV).xml]);
    let slice = &facts.domains[0].slices[0];
    assert!(slice.ours && slice.vgpu.as_ref().is_some_and(|vgpu| vgpu.name.gb == 4));
    assert!(check(&facts).is_empty(), "{:?}", check(&facts));
}

#[test]
fn vfs_say_whose_driver_they_are_on() {
    let address: PciAddress = "0000:01:00.1".parse().expect("address");
    let snapshot = host(vec![pf("0000:01:00.0", vec![vf(&address.to_string(), "8086:10ca")])]);
    let known = Known { snapshot: Some(&snapshot), ..Known::default() };
    let marked = PCI.replace("</source>", "</source><alias name='ua-vgpud-00000001'/>");
    for (xml, ours) in [(PCI, false), (marked.as_str(), true)] {
        let facts = facts(known, vec![domain("", xml).xml]);
        let slice = &facts.domains[0].slices[0];
        assert_eq!((slice.ours, slice.vfio, slice.vendor_vf), (ours, Some(true), false));
    }
}

#[test]
fn the_documentation_shows_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/interlocks.md");
    #[expect(clippy::disallowed_methods, reason = "documentation is no state")]
    let text = std::fs::read_to_string(path).expect("docs/interlocks.md");
    let (head, rest) = text.split_once("<!-- rules -->\n").expect("a mark before the table");
    let (table, tail) = rest.split_once("<!-- end of rules -->").expect("a mark after the table");
    if std::env::var_os("VGPUD_BLESS").is_some() {
        let text = format!("{head}<!-- rules -->\n{}<!-- end of rules -->{tail}", markdown());
        #[expect(clippy::disallowed_methods, reason = "documentation is no state")]
        std::fs::write(path, text).expect("writable documentation");
    } else {
        assert_eq!(table, markdown(), "VGPUD_BLESS=1 cargo test --lib interlock rewrites it");
    }
}

proptest! {
    #[test]
    fn without_facts_no_rule_of_a_vendor_speaks(names in proptest::collection::vec("A40-[1-8]Q", 0..4)) {
        let made: Vec<Vgpu> = names.iter().map(|name| vgpu(name)).collect();
        let facts = card(|card| card.made = made);
        prop_assert!(check(&facts).is_empty());
    }

    #[test]
    fn any_xml_is_checked_without_a_panic(options in "[a-z='\" ]{0,40}", head in "[a-z<>/ ]{0,40}") {
        let xml = format!("<domain><name>x</name>{head}<devices><hostdev {options}/></devices></domain>");
        if let Ok(xml) = details(xml.as_bytes()) {
            drop(check(&facts(Known::default(), vec![xml])));
        }
    }
}
