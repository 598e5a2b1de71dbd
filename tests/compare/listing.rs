//! The part of the tree that the operations are about, as lines. Numbers that the kernel hands out (groups,
//! `vfioN`, interfaces) are left out: who has one is written down, not which. Attributes whose reading can
//! sleep are not here, the operations read them.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use super::ops::{DRIVERS, PARENTS, PFS, TYPES};

/// What of the tree is compared after each operation.
pub(super) struct Listing<'a> {
    root: &'a Path,
    lines: BTreeSet<String>,
}

/// Reads what mdevs and their parents show.
pub(super) fn mdevs(root: &Path) -> BTreeSet<String> {
    let mut listing = Listing { root, lines: BTreeSet::new() };
    for parent in PARENTS {
        listing.parent(parent);
    }
    for name in listing.names("sys/bus/mdev/devices") {
        listing.say(format!("mdev bus: {name}"));
    }
    listing.lines
}

/// Reads what PCI functions and their drivers show.
pub(super) fn functions(root: &Path) -> BTreeSet<String> {
    let mut listing = Listing { root, lines: BTreeSet::new() };
    let all = listing.names("sys/bus/pci/devices");
    for pf in PFS {
        listing.pf(pf, &all);
    }
    for driver in DRIVERS {
        for name in listing.names(&format!("sys/bus/pci/drivers/{driver}")) {
            if is_ours(&name) {
                listing.say(format!("driver {driver}: {name}"));
            }
        }
    }
    listing.lines
}

/// Counts the nodes of groups.
pub(super) fn nodes(root: &Path) -> BTreeSet<String> {
    let listing = Listing { root, lines: BTreeSet::new() };
    let nodes = listing.names("dev/vfio");
    let nodes = nodes.iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).count();
    BTreeSet::from([format!("{nodes} group nodes")])
}

/// Functions of the lab's two network cards.
fn is_ours(address: &str) -> bool {
    PFS.iter().any(|pf| address.starts_with(&pf[..8]))
}

/// A directory that was found once: what is below it is reached without walking the way again.
struct Dir {
    at: String,
    _open: File,
}

impl Listing<'_> {
    fn enter(&self, at: &str) -> Option<Dir> {
        let open = File::open(self.root.join(at)).ok()?;
        Some(Dir { at: format!("/proc/self/fd/{}", open.as_raw_fd()), _open: open })
    }

    fn say(&mut self, line: String) {
        self.lines.insert(line);
    }

    fn names(&self, at: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.root.join(at)) else { return Vec::new() };
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
    }

    fn exists(&self, at: &str) -> bool {
        std::fs::symlink_metadata(self.root.join(at)).is_ok()
    }

    /// The last part of a link's target.
    fn link(&self, at: &str) -> Option<String> {
        let target = std::fs::read_link(self.root.join(at)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    fn text(&self, at: &str) -> String {
        #[expect(clippy::disallowed_methods, reason = "below any root, and as plain as can be")]
        match std::fs::read(self.root.join(at)) {
            Ok(content) => String::from_utf8_lossy(&content).trim_end().to_owned(),
            Err(error) => format!("{error}"),
        }
    }

    fn parent(&mut self, parent: &str) {
        let Some(dir) = self.enter(&format!("sys/class/mdev_bus/{parent}")) else { return };
        for (_, kind) in TYPES.iter().filter(|(owner, _)| *owner == parent) {
            let Some(types) = self.enter(&format!("{}/mdev_supported_types/{kind}", dir.at)) else {
                continue;
            };
            let available = self.text(&format!("{}/available_instances", types.at));
            self.say(format!("{kind}: {available} available"));
            for name in self.names(&format!("{}/devices", types.at)) {
                self.say(format!("{kind}: has {name}"));
            }
        }
        for name in self.names(&dir.at).into_iter().filter(|name| name.len() == 36) {
            let Some(mdev) = self.enter(&format!("{}/{name}", dir.at)) else { continue };
            if let Some(kind) = self.link(&format!("{}/mdev_type", mdev.at)) {
                self.say(format!("{name}: type {kind}"));
            }
            if self.exists(&format!("{}/remove", mdev.at)) {
                self.say(format!("{name}: can be removed"));
            }
            self.say(format!("{name}: below {parent}"));
            self.vfio(&name, &mdev.at);
        }
    }

    /// What every VFIO device has.
    fn vfio(&mut self, name: &str, at: &str) {
        let devices = self.names(&format!("{at}/vfio-dev")).len();
        if devices > 0 {
            self.say(format!("{name}: {devices} in vfio-dev"));
        }
        if let Some(group) = self.link(&format!("{at}/iommu_group")) {
            let members = self.names(&format!("sys/kernel/iommu_groups/{group}/devices")).join(" ");
            self.say(format!("{name}: group of {members}"));
            if self.exists(&format!("dev/vfio/{group}")) {
                self.say(format!("{name}: group has a node"));
            }
        }
    }

    fn pf(&mut self, pf: &str, all: &[String]) {
        let Some(Dir { at: dir, _open }) = self.enter(&format!("sys/bus/pci/devices/{pf}")) else { return };
        for name in self.names(&dir).into_iter().filter(|name| name.starts_with("virtfn")) {
            let vf = self.link(&format!("{dir}/{name}")).unwrap_or_default();
            self.say(format!("{pf}: {name} is {vf}"));
        }
        for name in all.iter().filter(|name| name[..8] == pf[..8]) {
            let Some(Dir { at, _open }) = self.enter(&format!("sys/bus/pci/devices/{name}")) else {
                continue;
            };
            self.say(format!("{name}: exists"));
            if let Some(driver) = self.link(&format!("{at}/driver")) {
                self.say(format!("{name}: driver {driver}"));
            }
            if let Some(pf) = self.link(&format!("{at}/physfn")) {
                self.say(format!("{name}: VF of {pf}"));
            }
            let interfaces = self.names(&format!("{at}/net")).len();
            // The PF's own interfaces are no matter of the fake.
            if interfaces > 0 && !PFS.contains(&name.as_str()) {
                self.say(format!("{name}: {interfaces} interfaces"));
            }
            self.vfio(name, &at);
        }
    }
}
