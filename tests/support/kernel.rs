//! The rules by which the fake host changes. Each rule names what says so; `k:` is a file of Linux 7.2.

mod mdev;
mod number;
mod partition;
mod pci;
mod sleep;
mod vgpu;
mod xe;

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;

use super::spec::{HostSpec, PciSpec};
use super::tree::Tree;

pub(crate) type Answer = Result<(), Errno>;

/// What QEMU's command name is cut to: 15 bytes (k:include/linux/sched.h, TASK_COMM_LEN).
pub(crate) const QEMU: &str = "qemu-system-x86";

/// What became of a write.
pub(crate) enum Effect {
    Done(Answer),
    /// The writer sleeps until the devices are let go; the number comes back from [`Kernel::unhold`].
    Asleep(u64),
}

pub(crate) struct Kernel {
    pub(crate) tree: Tree,
    spec: HostSpec,
    parents: BTreeMap<String, mdev::Parent>,
    mdevs: BTreeMap<String, mdev::State>,
    used: Vec<BTreeMap<String, u32>>,
    functions: BTreeMap<String, pci::Function>,
    /// VFs that take vGPU types.
    vgpus: BTreeMap<String, vgpu::Slot>,
    /// How PFs are divided by MIG.
    partitions: BTreeMap<String, partition::Partition>,
    /// Group numbers and `vfioN` numbers in use; the kernel takes the lowest free one.
    groups: BTreeSet<u32>,
    vfio_numbers: BTreeSet<u32>,
    /// Group nodes that are open now, with the number of the opening.
    open_nodes: BTreeMap<u32, u64>,
    next_opening: u64,
    /// Guests: device to pid and opening.
    holds: BTreeMap<String, (u32, u64)>,
    sleepers: Vec<sleep::Sleeper>,
    next_sleeper: u64,
}

impl Kernel {
    /// Creates the host as it is after its boot number `boot`.
    pub(crate) fn new(spec: HostSpec, boot: u32, first_node: u64) -> Self {
        let mut kernel = Self {
            tree: Tree::new(first_node),
            parents: BTreeMap::new(),
            mdevs: BTreeMap::new(),
            used: vec![BTreeMap::new(); spec.pools.len()],
            functions: BTreeMap::new(),
            vgpus: BTreeMap::new(),
            partitions: BTreeMap::new(),
            groups: BTreeSet::new(),
            vfio_numbers: BTreeSet::new(),
            open_nodes: BTreeMap::new(),
            next_opening: 1,
            holds: BTreeMap::new(),
            sleepers: Vec::new(),
            next_sleeper: 1,
            spec,
        };
        kernel.build(boot);
        kernel
    }

    fn build(&mut self, boot: u32) {
        let tree = &mut self.tree;
        for dir in
            ["sys/bus/mdev/devices", "sys/bus/pci/devices", "sys/bus/pci/drivers", "sys/class/mdev_bus"]
        {
            tree.dir(dir);
        }
        tree.dir("sys/kernel/iommu_groups");
        tree.file("sys/bus/pci/drivers_probe", 0o200, "");
        tree.file("dev/vfio/vfio", 0o666, "");
        let boot_id = format!("00000000-0000-4000-8000-{boot:012}\n");
        tree.file("proc/sys/kernel/random/boot_id", 0o444, boot_id);
        tree.file("proc/sys/kernel/osrelease", 0o444, "6.12.0-fake\n");
        for (driver, _) in &self.spec.drivers {
            tree.file(&format!("sys/bus/pci/drivers/{driver}/bind"), 0o200, "");
            tree.file(&format!("sys/bus/pci/drivers/{driver}/unbind"), 0o200, "");
        }
        for (path, content) in &self.spec.files {
            tree.file(path, 0o444, content.clone());
        }
        if !self.spec.aliases.is_empty() {
            tree.file("lib/modules/6.12.0-fake/modules.alias", 0o644, self.spec.aliases.clone());
            tree.link("sys/module/vfio_pci/drivers/pci:vfio-pci", "sys/bus/pci/drivers/vfio-pci");
        }
        for device in self.spec.virtuals.clone() {
            let dir = format!("sys/devices/virtual/{0}/{0}", device.name);
            self.register_parent(&dir, device.parent);
        }
        for function in self.spec.pci.clone() {
            self.add_pf(function);
        }
    }

    fn pci_spec(&self, address: &str) -> Option<&PciSpec> {
        self.spec.pci.iter().find(|spec| spec.address == address)
    }

    /// Writes to an attribute, by its real path below the root.
    pub(crate) fn write(&mut self, path: &str, value: &str) -> Effect {
        let (dir, attribute) = path.rsplit_once('/').unwrap_or(("", path));
        match attribute {
            "create" => Effect::Done(self.create(dir, value)),
            "remove" => self.remove(dir, value),
            "sriov_numvfs" => self.set_vfs(dir, value, false),
            // Nobody's file but of the stand-in of a vendor's script: what that does inside its driver.
            "vendor_numvfs" => self.set_vfs(dir, value, true),
            "vendor_control" => Effect::Done(self.set_partition(dir, value)),
            "sriov_drivers_autoprobe" => Effect::Done(self.set_bool(path, value)),
            "driver_override" => self.set_override(dir, value),
            "current_vgpu_type" => Effect::Done(self.set_vgpu_type(dir, value)),
            "vgpu_params" => Effect::Done(self.set_params(dir, value)),
            "exec_quantum_ms" | "preempt_timeout_us" | "vram_quota" => {
                Effect::Done(self.set_provision(path, value))
            }
            "drivers_probe" => self.probe(value),
            "bind" => self.bind_by_hand(dir, value),
            "unbind" => self.unbind(dir, value),
            // sysfs refuses to open what has no store function (k:fs/kernfs/file.c).
            _ => Effect::Done(Err(Errno::EACCES)),
        }
    }

    fn set_bool(&mut self, path: &str, value: &str) -> Answer {
        let text = if number::parse_bool(value)? { "1\n" } else { "0\n" };
        self.tree.set(path, text);
        Ok(())
    }

    // IOMMU groups and their nodes ---------------------------------------------------------------

    /// Adds a group with one device; numbers are the lowest free (k:drivers/iommu/iommu.c, ida).
    fn add_group(&mut self, dir: &str, device: &str) -> u32 {
        let group = (0..).find(|number| !self.groups.contains(number)).expect("numbers are endless");
        self.groups.insert(group);
        self.tree.file(&format!("sys/kernel/iommu_groups/{group}/type"), 0o644, "DMA-FQ\n");
        self.join_group(group, dir, device)
    }

    fn join_group(&mut self, group: u32, dir: &str, device: &str) -> u32 {
        self.tree.link(&format!("sys/kernel/iommu_groups/{group}/devices/{device}"), dir);
        self.tree.link(&format!("{dir}/iommu_group"), &format!("sys/kernel/iommu_groups/{group}"));
        group
    }

    fn remove_group(&mut self, group: u32) {
        self.groups.remove(&group);
        self.tree.remove(&format!("sys/kernel/iommu_groups/{group}"));
    }

    /// A VFIO driver took the device: `vfio-dev` and the group's node (k:drivers/vfio/vfio_main.c).
    fn add_vfio(&mut self, dir: &str, group: u32) -> u32 {
        let number = (0..).find(|number| !self.vfio_numbers.contains(number)).expect("numbers are endless");
        self.vfio_numbers.insert(number);
        self.tree.file(&format!("{dir}/vfio-dev/vfio{number}/dev"), 0o444, format!("511:{number}\n"));
        self.tree.file(&format!("dev/vfio/{group}"), 0o600, "");
        number
    }

    /// The group's node goes with its last device.
    fn remove_vfio(&mut self, dir: &str, group: u32, number: u32, shared: bool) {
        self.vfio_numbers.remove(&number);
        self.tree.remove(&format!("{dir}/vfio-dev"));
        if !shared {
            self.open_nodes.remove(&group);
            self.tree.remove(&format!("dev/vfio/{group}"));
        }
        self.tree.remove(&format!("dev/vfio/devices/vfio{number}"));
    }

    /// Opens a group's node: one opener only (k:drivers/vfio/group.c, vfio_group_fops_open). Returns
    /// the number to close it by.
    pub(crate) fn open_node(&mut self, group: u32) -> Result<u64, Errno> {
        if self.open_nodes.contains_key(&group) {
            return Err(Errno::EBUSY);
        }
        let opening = self.next_opening;
        self.next_opening += 1;
        self.open_nodes.insert(group, opening);
        Ok(opening)
    }

    /// Closes a node that may be gone with its group meanwhile.
    pub(crate) fn close_node(&mut self, opening: u64) {
        self.open_nodes.retain(|_, open| *open != opening);
    }

    /// Replaces the node of the device's group by a node of its own, as on a kernel with device nodes only
    /// (CONFIG_VFIO_GROUP off).
    pub(crate) fn use_device_node(&mut self, device: &str) {
        if let (Some(group), Some(number)) = (self.group_of(device), self.vfio_of(device)) {
            self.tree.remove(&format!("dev/vfio/{group}"));
            self.tree.file(&format!("dev/vfio/devices/vfio{number}"), 0o600, "");
        }
    }

    fn vfio_of(&self, device: &str) -> Option<u32> {
        let mdev = self.mdevs.get(device).map(|mdev| mdev.vfio);
        mdev.or_else(|| self.functions.get(device)?.vfio)
    }

    /// The node through which a guest has the device.
    fn node_of(&self, device: &str) -> Option<String> {
        let (group, number) = (self.group_of(device)?, self.vfio_of(device)?);
        let own = format!("dev/vfio/devices/vfio{number}");
        Some(if self.tree.exists(&own) { own } else { format!("dev/vfio/{group}") })
    }

    // Guests -------------------------------------------------------------------------------------

    fn group_of(&self, device: &str) -> Option<u32> {
        let mdev = self.mdevs.get(device).map(|mdev| mdev.group);
        mdev.or_else(|| self.functions.get(device).filter(|f| f.vfio.is_some()).map(|f| f.group))
    }

    /// A guest opens the device; `false` when it cannot.
    pub(crate) fn hold(&mut self, device: &str, domain: &str, pid: u32) -> bool {
        let (Some(group), Some(node)) = (self.group_of(device), self.node_of(device)) else { return false };
        if !self.vgpu_opens(device) {
            return false;
        }
        // QEMU opens a group once for all of its devices.
        let same = self
            .holds
            .iter()
            .find(|(other, (holder, _))| *holder == pid && self.group_of(other) == Some(group));
        let known = same.map(|(_, (_, opening))| *opening);
        let Some(opening) = known.or_else(|| self.open_node(group).ok()) else { return false };
        self.holds.insert(device.to_owned(), (pid, opening));
        let proc = format!("proc/{pid}");
        let tree = &mut self.tree;
        tree.file(&format!("{proc}/comm"), 0o644, format!("{QEMU}\n"));
        let arguments = format!("/usr/bin/qemu-system-x86_64\0-name\0guest={domain},debug-threads=on\0-S\0");
        tree.file(&format!("{proc}/cmdline"), 0o444, arguments);
        let fields = "1 ".repeat(18);
        tree.file(&format!("{proc}/stat"), 0o444, format!("{pid} ({QEMU}) S {fields}{pid} 0 0\n"));
        let fds = format!("{proc}/fd");
        let next = tree.names(&fds).len() + 20;
        tree.raw_link(&format!("{fds}/{next}"), &format!("/{node}"));
        true
    }

    /// The guest lets the device go, and its process ends with its last device. Returns the sleepers
    /// that may go on now, with their answers.
    pub(crate) fn unhold(&mut self, device: &str) -> Vec<(u64, Answer)> {
        let Some((pid, opening)) = self.holds.remove(device) else { return Vec::new() };
        if self.holds.values().any(|(_, other)| *other == opening) {
            return self.wake();
        }
        self.close_node(opening);
        if let Some(node) = self.node_of(device) {
            let fds = format!("proc/{pid}/fd");
            let text = format!("/{node}");
            for name in self.tree.names(&fds) {
                let path = format!("{fds}/{name}");
                if self.link_text(&path) == Some(text.clone()) {
                    self.tree.remove(&path);
                }
            }
        }
        if !self.holds.values().any(|(holder, _)| *holder == pid) {
            self.tree.remove(&format!("proc/{pid}"));
        }
        self.wake()
    }

    fn link_text(&self, path: &str) -> Option<String> {
        match &self.tree.node(self.tree.number(path)?)?.kind {
            super::tree::Kind::Link(text) => Some(text.clone()),
            _ => None,
        }
    }
}
