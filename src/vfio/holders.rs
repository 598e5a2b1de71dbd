//! Which processes have nodes open that keep a function in use: VFIO's, and those of the host's display and sound
//! drivers.

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
    /// `/dev/dri/NAME` of a PCI function that a display driver of the host has.
    Dri(String),
    /// `/dev/nvidiaN` of a GPU that NVIDIA's driver has, by its number.
    Nvidia(u32),
    /// A node in `/dev/snd` of a sound card, by the card's number: `controlC0`, `pcmC0D3p`.
    Sound(u32),
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
        let dri = dri_nodes(sysfs);
        if dri.is_empty() && !any_node(sysfs) && !sysfs.exists(NVIDIA_GPUS) {
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
        if self.by_node.keys().any(|node| matches!(node, Node::Sound(_))) {
            for name in sysfs.list_optional(&format!("{dir}/sound")).unwrap_or_default() {
                let card = name.strip_prefix("card").and_then(|number| number.parse().ok());
                found.extend(card.map(Node::Sound).iter().flat_map(|node| self.of(node)).cloned());
            }
        }
        if self.by_node.keys().any(|node| matches!(node, Node::Nvidia(_))) {
            let minor = dir.rsplit('/').next().and_then(|address| nvidia_minor(sysfs, address));
            found.extend(minor.map(Node::Nvidia).iter().flat_map(|node| self.of(node)).cloned());
        }
        found.sort();
        found.dedup();
        found
    }
}

/// Where NVIDIA's driver tells of each GPU that it has, by address.
const NVIDIA_GPUS: &str = "proc/driver/nvidia/gpus";

/// Reads which `/dev/nvidiaN` a GPU is: the line `Device Minor:` of its `information` (NVIDIA's README, chapter
/// "The /proc interface"; its addresses are the kernel's).
fn nvidia_minor(sysfs: &Sysfs, address: &str) -> Option<u32> {
    let text = sysfs.read(&format!("{NVIDIA_GPUS}/{address}/information")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Device Minor:"))?.trim().parse().ok()
}

/// Whether `/dev/vfio` has more than the container node; if not, nobody can hold anything.
fn any_node(sysfs: &Sysfs) -> bool {
    sysfs.list_optional("dev/vfio").unwrap_or_default().iter().any(|name| name != "vfio")
}

/// The nodes of display drivers on PCI functions, by name (`card1`, `renderD129`); their connectors have names too, and
/// no node.
fn dri_nodes(sysfs: &Sysfs) -> BTreeSet<String> {
    let mut names: BTreeSet<String> =
        sysfs.list_optional("sys/class/drm").unwrap_or_default().into_iter().collect();
    names.retain(|name| sysfs.exists(&format!("sys/class/drm/{name}/device/vendor")));
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
    if let Some(name) = target.strip_prefix("/dev/snd/") {
        return sound_card(name).map(Node::Sound);
    }
    if let Some(number) = target.strip_prefix("/dev/nvidia") {
        return number.parse().ok().map(Node::Nvidia);
    }
    let name = target.strip_prefix("/dev/vfio/")?;
    if let Some(device) = name.strip_prefix("devices/") {
        return Some(Node::Device(device.to_owned()));
    }
    name.parse().ok().map(|group| Node::Group(IommuGroupId(group)))
}

/// Reads the card of `controlC1`, `pcmC1D3p`, `hwC1D0` or `midiC1D0`.
fn sound_card(name: &str) -> Option<u32> {
    let (_, rest) = name.split_once('C')?;
    let digits = rest.split_once('D').map_or(rest, |(card, _)| card);
    digits.parse().ok()
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
    fn nodes_of_the_hosts_drivers_that_are_open_make_holders() {
        let root = tempfile::tempdir().expect("directory");
        let at = |path: &str| root.path().join(path);
        let dirs =
            ["proc/7/fd", "proc/8/fd", "sys/0000:01:00.1/drm/renderD129", "sys/0000:01:00.0/drm/card0"];
        let more = ["sys/0000:01:00.1/sound/card2", "sys/class/drm/card0-DP-1"];
        for dir in dirs.into_iter().chain(more) {
            std::fs::create_dir_all(at(dir)).expect("directory");
        }
        let links = [
            ("../..", "sys/0000:01:00.1/drm/renderD129/device"),
            ("../..", "sys/0000:01:00.0/drm/card0/device"),
            ("../../0000:01:00.1/drm/renderD129", "sys/class/drm/renderD129"),
            ("../../0000:01:00.0/drm/card0", "sys/class/drm/card0"),
            ("/dev/dri/renderD129", "proc/7/fd/3"),
            ("/dev/nvidia3", "proc/7/fd/4"),
            ("/dev/nvidiactl", "proc/8/fd/3"),
            ("/dev/snd/controlC2", "proc/8/fd/5"),
            ("/dev/dri/card0-DP-1", "proc/8/fd/6"),
        ];
        for (target, link) in links {
            std::os::unix::fs::symlink(target, at(link)).expect("link");
        }
        #[expect(clippy::disallowed_methods, reason = "test fixture")]
        let write = |path: &str, text: &str| {
            std::fs::create_dir_all(at(path).parent().expect("a directory")).expect("directory");
            std::fs::write(at(path), text).expect("fixture");
        };
        write("sys/0000:01:00.0/vendor", "0x10de\n");
        write("sys/0000:01:00.1/vendor", "0x10de\n");
        write("proc/driver/nvidia/gpus/0000:01:00.2/information", "Model: \t\t L40S\nDevice Minor: \t 3\n");
        let sysfs = Sysfs::new(root.path());
        let holders = Holders::scan(&sysfs);
        let of = |dir| holders.of_device(&sysfs, dir, None).iter().map(|one| one.pid).collect::<Vec<u32>>();
        assert_eq!(of("sys/0000:01:00.1"), [7, 8], "the render node, the sound card");
        assert_eq!(of("sys/0000:01:00.0"), [] as [u32; 0]);
        assert_eq!(of("sys/0000:01:00.2"), [7], "its NVIDIA node");
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
