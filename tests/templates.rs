//! The templates: what they make, what libvirt's schema says of it, and what is refused.

#![expect(clippy::disallowed_methods, reason = "fixtures are written, and virt-xml-validate is run")]
#![expect(clippy::expect_used, reason = "a test whose fixture fails has failed")]

use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use vgpud::domain_xml::{Options, OwnedSet, TemplateError, Templates, ours, read};
use vgpud::model::{AllocationId, Device, HookDevice, MdevUuid, PciAddress};

const MDEV: &str = include_str!("../xml-templates/mdev.xml");
const VF: &str = include_str!("../xml-templates/vf.xml");

fn mdev() -> Device {
    Device::Mdev("c0ffee00-0000-4000-8000-00000000000a".parse().expect("valid"))
}

fn vf() -> Device {
    Device::Vf("0000:41:10.3".parse().expect("valid"))
}

fn id() -> AllocationId {
    AllocationId::from_bits(0x7f3a)
}

fn render(device: Device, display: bool, ramfb: bool) -> String {
    Templates::embedded().render(device, &id(), Options { display, ramfb }).expect("our own template")
}

/// Every output of our own templates.
fn outputs() -> Vec<String> {
    vec![
        render(mdev(), false, false),
        render(mdev(), true, false),
        render(mdev(), true, true),
        render(vf(), false, false),
    ]
}

#[test]
fn an_mdev_is_written_as_the_template_says() {
    insta::assert_snapshot!("mdev", render(mdev(), false, false));
    insta::assert_snapshot!("mdev-display-ramfb", render(mdev(), true, true));
    assert!(!render(mdev(), true, false).contains("ramfb"));
}

#[test]
fn a_vf_is_written_as_the_template_says() {
    insta::assert_snapshot!("vf", render(vf(), false, false));
}

fn domain(hostdev: &str) -> String {
    format!(
        "<domain type='kvm'>\n<name>web1</name>\n<uuid>6a1e5f00-0000-4000-8000-000000000001</uuid>\n\
         <memory unit='MiB'>256</memory>\n<os><type arch='x86_64' machine='q35'>hvm</type></os>\n\
         <devices>\n{hostdev}\n</devices>\n</domain>\n"
    )
}

#[test]
fn every_output_is_valid_in_libvirts_schema() {
    if Command::new("virt-xml-validate").arg("--version").output().is_err() {
        println!("skipped: virt-xml-validate is not installed");
        return;
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    for output in outputs() {
        let file = dir.path().join("domain.xml");
        std::fs::write(&file, domain(&output)).expect("file");
        let ran = Command::new("virt-xml-validate").arg(&file).arg("domain").output().expect("it runs");
        assert!(ran.status.success(), "{output}\n{}", String::from_utf8_lossy(&ran.stderr));
    }
    let file = dir.path().join("wrong.xml");
    std::fs::write(&file, domain(&render(mdev(), false, false).replace("mdev", "nonsense"))).expect("file");
    let ran = Command::new("virt-xml-validate").arg(&file).arg("domain").output().expect("it runs");
    assert!(!ran.status.success(), "the schema refuses what is wrong");
}

/// Loads a directory that has only this file.
fn load(name: &str, text: impl AsRef<[u8]>) -> Result<Templates, TemplateError> {
    let dir = tempfile::tempdir().expect("temporary directory");
    std::fs::write(dir.path().join(name), text).expect("file");
    Templates::load(&[dir.path()])
}

/// Loads a wrong template; the error names the file and the line.
fn fault(name: &str, text: &str) -> String {
    let error = load(name, text).expect_err("refused");
    let line = error.to_string();
    assert!(line.contains(&format!("/{name}, line ")), "{line}");
    assert!(!line.contains('\n') && line.chars().count() < 600, "{line:?}");
    line.split_once(", ").expect("a place").1.to_owned()
}

#[test]
fn the_first_directory_that_has_a_file_wins() {
    let (own, packaged) = (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
    let with = |mark: &str| VF.replace("<source>", &format!("<driver name='vfio'/><{mark}/><source>"));
    std::fs::write(packaged.path().join("vf.xml"), with("packaged")).expect("file");
    let dirs = [own.path(), packaged.path(), Path::new("/nonexistent")];
    let made = |dirs: &[&Path]| {
        let templates = Templates::load(dirs).expect("valid");
        templates.render(vf(), &id(), Options::default()).expect("valid")
    };
    assert!(made(&dirs).contains("<packaged/>"));
    std::fs::write(own.path().join("vf.xml"), with("own")).expect("file");
    assert!(made(&dirs).contains("<own/>"));
    assert_eq!(made(&[]), render(vf(), false, false));
}

#[test]
fn an_admins_additions_are_kept_and_placeholders_work_in_text() {
    let text = MDEV
        .replace("<source>", "<!-- why --><x a='&lt;{alias}&gt;' b=''>{uuid} &amp; {display}</x><source>");
    let templates = load("mdev.xml", text).expect("valid");
    let made = templates.render(mdev(), &id(), Options::default()).expect("valid");
    let expected =
        "<x a=\"&lt;ua-vgpud-00007f3a&gt;\" b=\"\">c0ffee00-0000-4000-8000-00000000000a &amp; </x>";
    assert!(made.contains(expected), "{made}");
    assert!(!made.contains("why"), "comments are not copied");
}

#[test]
fn wrong_templates_are_refused_with_their_place() {
    let unknown = fault("mdev.xml", &MDEV.replace("'{uuid}'", "'{uid}'"));
    assert_eq!(unknown, "line 17: {uid} is no placeholder here; there are {alias} {uuid} {display} {ramfb}");
    assert!(fault("vf.xml", &VF.replace("0x{bus}", "0x{uuid}")).contains("{uuid} is no placeholder here"));
    assert!(fault("mdev.xml", &MDEV.replace("{uuid}", "{uuid")).contains("no closing }"));
    assert!(fault("mdev.xml", &format!("{MDEV}{MDEV}")).contains("this is the second"));
    assert!(fault("mdev.xml", &MDEV.replace("'{alias}'", "'ua-mine'")).contains("it has no {alias}"));
    assert!(fault("mdev.xml", &format!("<!DOCTYPE hostdev>{MDEV}")).contains("no DTD"));
    assert!(fault("mdev.xml", "<domain>{alias}</domain>").contains("not <domain>"));
    assert!(fault("mdev.xml", "<!-- nothing -->").contains("there is no <hostdev>"));
    assert!(fault("mdev.xml", &format!("{MDEV} text")).contains("text outside"));
    assert!(fault("mdev.xml", &MDEV.replace("</hostdev>", "")).contains("not closed"));
    assert!(fault("mdev.xml", &MDEV.replace("</source>", "</sauce>")).starts_with("line 1"));
    assert!(
        fault("mdev.xml", &MDEV.replace("<source>", "<![CDATA[x]]><source>"))
            .contains("elements, attributes")
    );
    assert!(
        fault("mdev.xml", &MDEV.replace("<source>", "<?php x?><source>")).contains("elements, attributes")
    );
    assert!(fault("mdev.xml", &MDEV.replace("<source>", "&xxe;<source>")).contains("xxe"));
    assert!(fault("mdev.xml", &MDEV.replace("<source>", "<x a='&xxe;'/><source>")).contains("xxe"));
    let deep = format!("<hostdev>{}{{alias}}{}</hostdev>", "<a>".repeat(9_000), "</a>".repeat(9_000));
    assert!(fault("mdev.xml", &deep).contains("nested more than 256 deep"));
}

#[test]
fn templates_that_make_another_device_are_refused() {
    assert!(fault("mdev.xml", VF_AS_MDEV).contains("it names another device"));
    assert!(fault("vf.xml", &VF.replace("0x{function}", "0x0")).contains("it names another device"));
    assert!(fault("vf.xml", &VF.replace("managed='no'", "managed='yes'")).contains("managed='yes'"));
    assert!(fault("mdev.xml", &MDEV.replace("type='mdev'", "type='usb'")).contains("type usb"));
    assert!(
        fault("mdev.xml", &MDEV.replace("name='{alias}'", "name='my-{alias}'")).contains("its alias is not")
    );
}

const VF_AS_MDEV: &str = "<hostdev mode='subsystem' type='pci'><source><address bus='0x41'/></source>\
                          <alias name='{alias}'/></hostdev>";

#[test]
fn files_that_cannot_be_read_are_named() {
    let large = load("mdev.xml", " ".repeat(65 * 1024)).expect_err("refused");
    assert!(large.to_string().starts_with("cannot read template /"), "{large}");
    let binary = load("mdev.xml", b"\xff\xfe").expect_err("refused");
    assert!(matches!(binary, TemplateError::Read { .. }), "{binary}");
    let dir = tempfile::tempdir().expect("temporary directory");
    std::fs::create_dir(dir.path().join("vf.xml")).expect("directory");
    assert!(matches!(Templates::load(&[dir.path()]), Err(TemplateError::Read { .. })));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(bits: u32, mdev: Option<u128>, address: (u16, u8, u8, u8), options: (bool, bool)) {
        let device = match mdev {
            Some(uuid) => Device::Mdev(MdevUuid(uuid::Uuid::from_u128(uuid))),
            None => Device::Vf(PciAddress {
                segment: address.0.into(), bus: address.1, device: address.2 % 32, function: address.3 % 8,
            }),
        };
        let id = AllocationId::from_bits(bits);
        let options = Options { display: options.0, ramfb: options.1 };
        let xml = Templates::embedded().render(device, &id, options).expect("our own template");
        let domain = read(domain(&xml).as_bytes()).expect("a domain");
        prop_assert_eq!(ours(&domain, &OwnedSet::default()), Ok(vec![HookDevice { allocation: Some(id), device }]));
    }

    #[test]
    fn no_template_makes_the_reader_panic(
        cut in 0usize..900, text in "[<>&;{}'\"a-z !?\\[-]{0,20}",
    ) {
        let at = (0..=cut.min(MDEV.len())).rev().find(|at| MDEV.is_char_boundary(*at)).unwrap_or(0);
        let (before, after) = MDEV.split_at(at);
        if let Ok(templates) = load("mdev.xml", format!("{before}{text}{after}")) {
            prop_assert!(templates.render(mdev(), &id(), Options::default()).is_ok());
        }
    }
}
