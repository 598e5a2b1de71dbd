//! An admin's own hostdev templates: whatever they are, what is made of one is exactly one hostdev of the
//! device asked for, with our alias.

use std::fs::write;
use std::sync::OnceLock;

use tempfile::TempDir;
use vgpud::domain_xml::{Options, Templates, read};
use vgpud::model::{AllocationId, Device, Kind, Refusal};

pub(super) fn run(data: &[u8]) {
    static DIRS: OnceLock<[TempDir; 2]> = OnceLock::new();
    let dirs = DIRS.get_or_init(|| [(); 2].map(|()| TempDir::new().expect("temporary directory")));
    let uuid = "734e160f-0c02-48dc-bacb-b4312707d493".parse().expect("a UUID");
    let address = "0000:41:00.4".parse().expect("an address");
    let kinds = [("mdev.xml", Device::Mdev(uuid)), ("vf.xml", Device::Vf(address))];
    for (dir, (file, device)) in dirs.iter().zip(kinds) {
        write(dir.path().join(file), data).expect("template");
        match Templates::load(&[dir.path()]) {
            Ok(templates) => check(&templates, device),
            Err(error) => super::assert_one_line(&Refusal::from_error(Kind::HostFault, &error).to_string()),
        }
    }
}

fn check(templates: &Templates, device: Device) {
    let id = AllocationId::from_bits(0xbd23_23fe);
    for on in [false, true] {
        let xml = templates.render(device, &id, Options { display: on, ramfb: on });
        let xml = xml.expect("loading has tried it");
        let domain = format!(
            "<domain><name>web1</name><uuid>71c00065-9ff8-4eb5-af8c-5d5c82c20df6</uuid>\
             <devices>{xml}</devices></domain>"
        );
        let domain = read(domain.as_bytes()).unwrap_or_else(|error| panic!("{error}: {xml}"));
        let [hostdev] = &domain.hostdevs[..] else { panic!("{} hostdevs: {xml}", domain.hostdevs.len()) };
        assert_eq!(hostdev.source.device(), Some(device), "{xml}");
        assert_eq!((hostdev.alias.as_deref(), hostdev.managed), (Some(id.alias().as_str()), false), "{xml}");
    }
}
