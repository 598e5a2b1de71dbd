//! Which processes have nodes open that keep a function in use: VFIO's, and those of a VF's display driver.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Holder, IommuGroupId};
use crate::sysfs::Sysfs;

/// A node that stands for a group or a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// `/dev/vfio/N`.
    Group(IommuGroupId),
    /// `/dev/vfio/devices/vfioN`, by its last component.
    Device(String),
    /// `/dev/dri/NAME` of a virtual function that a display driver of the host has.
    Dri(String),
}

/// Who has such nodes open: one reading of all processes.
///
/// A known weakness: processes that this reader may not look into are missing, so an empty answer
/// proves nothing without root. What must be proven is proven with [`crate::vfio::GroupGuard`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    by_node: BTreeMap<Node, Vec<Holder>>,
}

impl Holders {
    /// Reads the open files of every process. Processes that end meanwhile or may not be read are skipped.
    #[must_use]
    pub fn scan(sysfs: &Sysfs) -> Self {
        let mut all = Self::default();
        let dri = dri_nodes_of_vfs(sysfs);
        if dri.is_empty() && !any_node(sysfs) {
            return all;
        }
        for name in sysfs.list("proc").unwrap_or_default() {
            let Ok(pid) = name.parse::<u32>() else { continue };
            let nodes = open_nodes(sysfs, pid, &dri);
            if nodes.is_empty() {
                continue;
            }
            let holder = describe(sysfs, pid);
            for node in nodes {
                all.by_node.entry(node).or_default().push(holder.clone());
            }
        }
        for holders in all.by_node.values_mut() {
            holders.sort();
        }
        all
    }

    /// Returns who has the node open, sorted by pid.
    #[must_use]
    pub fn of(&self, node: &Node) -> &[Holder] {
        self.by_node.get(node).map_or(&[], Vec::as_slice)
    }

    /// Returns who uses a device: its group's node, or its own below `<dir>/vfio-dev` or `<dir>/drm`. Sorted by pid.
    #[must_use]
    pub fn of_device(&self, sysfs: &Sysfs, dir: &str, group: Option<IommuGroupId>) -> Vec<Holder> {
        let mut found = group.map_or(&[][..], |group| self.of(&Node::Group(group))).to_vec();
        if self.by_node.keys().any(|node| matches!(node, Node::Device(_))) {
            for name in sysfs.list_optional(&format!("{dir}/vfio-dev")).unwrap_or_default() {
                found.extend_from_slice(self.of(&Node::Device(name)));
            }
        }
        if self.by_node.keys().any(|node| matches!(node, Node::Dri(_))) {
            for name in sysfs.list_optional(&format!("{dir}/drm")).unwrap_or_default() {
                found.extend_from_slice(self.of(&Node::Dri(name)));
            }
        }
        found.sort();
        found.dedup();
        found
    }
}

/// Whether `/dev/vfio` has more than the container node; if not, nobody can hold anything.
fn any_node(sysfs: &Sysfs) -> bool {
    sysfs.list_optional("dev/vfio").unwrap_or_default().iter().any(|name| name != "vfio")
}

/// The nodes of display drivers on virtual functions, by name (`card1`, `renderD129`).
fn dri_nodes_of_vfs(sysfs: &Sysfs) -> BTreeSet<String> {
    let mut names: BTreeSet<String> =
        sysfs.list_optional("sys/class/drm").unwrap_or_default().into_iter().collect();
    names.retain(|name| sysfs.exists(&format!("sys/class/drm/{name}/device/physfn")));
    names
}

fn open_nodes(sysfs: &Sysfs, pid: u32, dri: &BTreeSet<String>) -> Vec<Node> {
    let fds = format!("proc/{pid}/fd");
    let names = sysfs.list(&fds).unwrap_or_default();
    let targets = names.iter().filter_map(|fd| sysfs.link(&format!("{fds}/{fd}")).ok().flatten());
    let mut nodes: Vec<Node> = targets.filter_map(|target| parse_node(&target, dri)).collect();
    nodes.sort();
    nodes.dedup();
    nodes
}

fn parse_node(target: &str, dri: &BTreeSet<String>) -> Option<Node> {
    if let Some(name) = target.strip_prefix("/dev/dri/") {
        return dri.get(name).cloned().map(Node::Dri);
    }
    let name = target.strip_prefix("/dev/vfio/")?;
    if let Some(device) = name.strip_prefix("devices/") {
        return Some(Node::Device(device.to_owned()));
    }
    name.parse().ok().map(|group| Node::Group(IommuGroupId(group)))
}

fn describe(sysfs: &Sysfs, pid: u32) -> Holder {
    let arguments = sysfs.read_bytes(&format!("proc/{pid}/cmdline")).unwrap_or_default();
    let name = sysfs.read(&format!("proc/{pid}/comm")).unwrap_or_default();
    Holder { pid, domain: domain_of(&arguments), name }
}

/// Reads the domain's name from QEMU's arguments: `-name guest=NAME,debug-threads=on`, with commas of
/// the name doubled (QEMU's option syntax; `guest=` is optional there).
fn domain_of(arguments: &[u8]) -> Option<String> {
    let mut arguments = arguments.split(|byte| *byte == 0);
    arguments.find(|argument| *argument == b"-name")?;
    let value = String::from_utf8_lossy(arguments.next()?).into_owned();
    let value = value.strip_prefix("guest=").unwrap_or(&value);
    let mut name = String::new();
    let mut rest = value.chars().peekable();
    while let Some(c) = rest.next() {
        if c == ',' && rest.next_if_eq(&',').is_none() {
            break;
        }
        name.push(c);
    }
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_domain_is_read_from_qemus_arguments() {
        let read = |text: &str| domain_of(text.replace(' ', "\0").as_bytes());
        assert_eq!(read("qemu -name guest=web1,debug-threads=on -S"), Some("web1".into()));
        assert_eq!(read("qemu -name web1"), Some("web1".into()));
        assert_eq!(read("qemu -name guest=a,,b,process=x"), Some("a,b".into()));
        assert_eq!(read("qemu -S"), None);
        assert_eq!(read("qemu -name"), None);
        assert_eq!(read("qemu -name guest=,x"), None);
    }

    #[test]
    fn only_nodes_that_keep_a_function_in_use_count() {
        let dri = BTreeSet::from(["renderD129".to_owned()]);
        assert_eq!(parse_node("/dev/vfio/12", &dri), Some(Node::Group(IommuGroupId(12))));
        assert_eq!(parse_node("/dev/vfio/devices/vfio3", &dri), Some(Node::Device("vfio3".into())));
        assert_eq!(parse_node("/dev/dri/renderD129", &dri), Some(Node::Dri("renderD129".into())));
        let others = [
            "/dev/vfio/vfio",
            "/dev/vfio/noiommu-1",
            "anon_inode:[vfio-device]",
            "/dev/null",
            "/dev/dri/card0",
        ];
        for other in others {
            assert_eq!(parse_node(other, &dri), None, "{other}");
        }
    }

    #[test]
    fn a_display_node_of_a_vf_that_is_open_makes_a_holder() {
        let root = tempfile::tempdir().expect("directory");
        let at = |path: &str| root.path().join(path);
        for dir in ["proc/7/fd", "sys/vf/drm/renderD129", "sys/pf/drm/card0", "sys/class/drm"] {
            std::fs::create_dir_all(at(dir)).expect("directory");
        }
        let links = [
            ("../pf", "sys/vf/physfn"),
            ("../..", "sys/vf/drm/renderD129/device"),
            ("../..", "sys/pf/drm/card0/device"),
            ("../../vf/drm/renderD129", "sys/class/drm/renderD129"),
            ("../../pf/drm/card0", "sys/class/drm/card0"),
            ("/dev/dri/renderD129", "proc/7/fd/3"),
            ("/dev/dri/card0", "proc/7/fd/4"),
        ];
        for (target, link) in links {
            std::os::unix::fs::symlink(target, at(link)).expect("link");
        }
        let sysfs = Sysfs::new(root.path());
        let holders = Holders::scan(&sysfs);
        let of = |dir| holders.of_device(&sysfs, dir, None).iter().map(|one| one.pid).collect::<Vec<u32>>();
        assert_eq!(of("sys/vf"), [7]);
        assert_eq!(of("sys/pf"), [] as [u32; 0], "the host may use its own GPU");
    }

    proptest! {
        #[test]
        fn any_name_survives_qemus_escaping(name in "[^\0,]{1,20}(,[^\0,]{1,9})?") {
            let line = format!("qemu\0-name\0guest={},debug-threads=on\0", name.replace(',', ",,"));
            prop_assert_eq!(domain_of(line.as_bytes()), Some(name));
        }

        #[test]
        fn any_bytes_are_tolerated(bytes: Vec<u8>) {
            domain_of(&bytes);
        }
    }
}
