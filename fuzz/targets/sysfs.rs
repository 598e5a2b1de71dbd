//! The host as the kernel and its drivers describe it: any text in any attribute.
//!
//! The host is the recorded one of an NVIDIA A40 with two guests. An input replaces attributes:
//!
//! ```text
//! -- sys/devices/…/class --
//! 0x030200
//! ```
//!
//! A name that is no attribute of the host stands for one of them too, so that no input is in vain.

use std::collections::BTreeMap;
use std::fs::{read, write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;
use vgpud::inventory::{ScanOptions, scan};
use vgpud::model::{HostSnapshot, Profile, Wish};
use vgpud::profile::candidates;
use vgpud::sysfs::Sysfs;
use vgpud::wire::{Owner, slices};

use super::manifest;

const HOST: &str = include_str!("../../tests/fixtures/nvidia-a40-sriov-mdev/host.txt");

/// What is on the host besides: two guests, of which one holds an mdev's group.
const MORE: &str = "\
f proc/4711/comm 0644 \"qemu-system-x86\\n\"
f proc/4711/cmdline 0444 \"/usr/bin/qemu-system-x86_64\\0-name\\0guest=web1,debug-threads=on\\0\"
f proc/4711/stat 0444 \"4711 (qemu-system-x86) S 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 4711 0 0\\n\"
l proc/4711/fd/20 -> /dev/vfio/200
f dev/vfio/200 0600 \"\"
";

struct Host {
    root: TempDir,
    attributes: BTreeMap<PathBuf, Vec<u8>>,
    changed: Vec<PathBuf>,
}

static ONE: Mutex<Option<Host>> = Mutex::new(None);

impl Host {
    fn new() -> Self {
        let root = TempDir::new().expect("temporary directory");
        manifest::write_out(&format!("{HOST}{MORE}"), root.path());
        let mut attributes = BTreeMap::new();
        collect(root.path(), &mut attributes);
        Self { root, attributes, changed: Vec::new() }
    }

    /// Puts back what the input before has changed.
    fn restore(&mut self) {
        for path in std::mem::take(&mut self.changed) {
            write(&path, &self.attributes[&path]).expect("attribute");
        }
    }

    fn change(&mut self, name: &str, content: &[u8]) {
        let path = self.root.path().join(name);
        let path = if self.attributes.contains_key(&path) {
            path
        } else {
            let sum: usize = name.bytes().map(usize::from).sum();
            self.attributes.keys().nth(sum % self.attributes.len()).expect("a host has attributes").clone()
        };
        write(&path, content).expect("attribute");
        self.changed.push(path);
    }
}

fn collect(dir: &Path, attributes: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).expect("directory") {
        let entry = entry.expect("an entry");
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            collect(&entry.path(), attributes);
        } else if kind.is_file() {
            let content = read(entry.path()).expect("attribute");
            attributes.insert(entry.path(), content);
        }
    }
}

/// Splits an input into names and contents.
fn sections(data: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut sections: Vec<(String, Vec<u8>)> = Vec::new();
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        let plain = line.strip_suffix(b"\n").unwrap_or(line);
        match plain.strip_prefix(b"-- ").and_then(|rest| rest.strip_suffix(b" --")) {
            Some(name) => sections.push((String::from_utf8_lossy(name).into_owned(), Vec::new())),
            None => sections.last_mut().iter_mut().for_each(|(_, content)| content.extend(line)),
        }
    }
    sections
}

pub(super) fn run(data: &[u8]) {
    let mut one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let host = one.get_or_insert_with(Host::new);
    host.restore();
    for (name, content) in sections(data) {
        host.change(&name, &content);
    }
    let options = ScanOptions { include: ["8086:10c9".parse().expect("an id")].into() };
    check(&scan(&Sysfs::new(host.root.path()), &options));
}

fn check(snapshot: &HostSnapshot) {
    for problem in &snapshot.problems {
        super::assert_one_line(&problem.text);
    }
    for gpu in &snapshot.gpus {
        super::assert_one_line(&gpu.backend_reason);
        for mdev_type in gpu.parents.iter().flat_map(|parent| &parent.types) {
            super::assert_one_line(&mdev_type.name);
            super::assert_one_line(&mdev_type.device_api);
            // This may have several.
            mdev_type.description.iter().flat_map(|text| text.split('\n')).for_each(super::assert_one_line);
        }
    }
    let line = serde_json::to_string(snapshot).expect("json");
    assert_eq!(serde_json::from_str::<HostSnapshot>(&line).ok().as_ref(), Some(snapshot), "{line}");
    let listed = slices(snapshot, |_| Owner::Foreign { maker: None });
    assert!(listed.len() < 1000);
    let wishes = [
        Wish::Framebuffer("4GiB".parse().expect("a size")),
        Wish::Type("nvidia-558".to_owned()),
        Wish::Vf("10de:2235".parse().expect("an id")),
    ];
    for wish in wishes {
        let profile = Profile::new("desk".parse().expect("a name"), wish);
        let _: usize = candidates(&profile, snapshot).len();
    }
}
