//! Mediated devices: k:drivers/vfio/mdev/mdev_core.c, mdev_sysfs.c, and the drivers of samples/vfio-mdev.

use nix::errno::Errno;

use super::sleep::{Then, Wait};
use super::{Answer, Effect, Kernel, number};
use crate::support::spec::ParentSpec;

/// A registered parent.
pub(super) struct Parent {
    pub(super) dir: String,
    pub(super) spec: ParentSpec,
}

/// An mdev, also one whose removal sleeps.
pub(super) struct State {
    pub(super) parent: String,
    pub(super) group: u32,
    pub(super) vfio: u32,
    pool: usize,
    /// Its `remove` was written: the attribute is gone, the UUID is not free yet.
    leaving: bool,
}

impl Kernel {
    /// A parent appears: its types, and the link in the compatibility class.
    pub(super) fn register_parent(&mut self, dir: &str, spec: ParentSpec) {
        let name = dir.rsplit('/').next().expect("a path has a name").to_owned();
        for kind in &spec.types {
            let at = format!("{dir}/mdev_supported_types/{}", kind.id);
            self.tree.file(&format!("{at}/create"), 0o200, "");
            self.tree.file(&format!("{at}/available_instances"), 0o444, "0\n");
            self.tree.file(&format!("{at}/device_api"), 0o444, "vfio-pci\n");
            self.tree.file(&format!("{at}/name"), 0o444, format!("{}\n", kind.name));
            if let Some(description) = &kind.description {
                self.tree.file(&format!("{at}/description"), 0o444, format!("{description}\n"));
            }
            self.tree.dir(&format!("{at}/devices"));
        }
        self.tree.link(&format!("sys/class/mdev_bus/{name}"), dir);
        let pool = spec.pool;
        self.parents.insert(name, Parent { dir: dir.to_owned(), spec });
        self.count_available(pool);
    }

    /// A parent unregisters: all its mdevs vanish with it (mdev_unregister_parent).
    pub(crate) fn vanish(&mut self, name: &str) {
        let uuids: Vec<String> =
            self.mdevs.iter().filter(|(_, mdev)| mdev.parent == name).map(|(uuid, _)| uuid.clone()).collect();
        for uuid in uuids {
            self.leave(&uuid);
            self.holds.remove(&uuid);
            self.finish_remove(&uuid);
        }
        if let Some(parent) = self.parents.remove(name) {
            self.tree.remove(&format!("{}/mdev_supported_types", parent.dir));
            self.tree.remove(&format!("sys/class/mdev_bus/{name}"));
        }
    }

    /// The driver of a virtual parent is loaded again.
    pub(crate) fn appear(&mut self, name: &str) {
        let spec =
            self.spec.virtuals.iter().find(|device| device.name == name).expect("a parent of the host");
        let dir = format!("sys/devices/virtual/{name}/{name}");
        self.register_parent(&dir, spec.parent.clone());
    }

    /// Fills `available_instances` of every type that is cut from the pool.
    pub(super) fn count_available(&mut self, pool: usize) {
        let mut counts = Vec::new();
        for (name, parent) in self.parents.iter().filter(|(_, parent)| parent.spec.pool == pool) {
            for kind in &parent.spec.types {
                let path = format!("{}/mdev_supported_types/{}/available_instances", parent.dir, kind.id);
                counts.push((path, self.available(name, parent, kind.cost)));
            }
        }
        for (path, count) in counts {
            self.tree.set(&path, format!("{count}\n"));
        }
    }

    fn available(&self, name: &str, parent: &Parent, cost: u32) -> u32 {
        let used = &self.used[parent.spec.pool];
        let pool = &self.spec.pools[parent.spec.pool];
        if pool.equal_size && used.values().any(|size| *size != cost) {
            return 0;
        }
        let left = (pool.total - used.values().sum::<u32>()) / cost;
        let here = self.mdevs.values().filter(|mdev| mdev.parent == name).count();
        match parent.spec.most {
            Some(most) => left.min(most.saturating_sub(u32::try_from(here).expect("few mdevs"))),
            None => left,
        }
    }

    /// Writes `create` of the type in `dir`.
    pub(super) fn create(&mut self, dir: &str, value: &str) -> Answer {
        let uuid = parse_uuid(value)?;
        // The list is global, and a device whose last reference is held is still on it.
        if self.mdevs.contains_key(&uuid) {
            return Err(Errno::EEXIST);
        }
        let (parent_dir, kind) = dir.split_once("/mdev_supported_types/").ok_or(Errno::EACCES)?;
        let name = parent_dir.rsplit('/').next().ok_or(Errno::ENODEV)?.to_owned();
        let parent = self.parents.get(&name).ok_or(Errno::ENODEV)?;
        let cost = parent.spec.types.iter().find(|t| t.id == kind).ok_or(Errno::ENODEV)?.cost;
        let pool = parent.spec.pool;
        if self.available(&name, parent, cost) == 0 {
            return Err(Errno::from_raw(self.spec.pools[pool].full));
        }
        let at = format!("{parent_dir}/{uuid}");
        self.tree.link(&format!("{at}/mdev_type"), dir);
        self.tree.file(&format!("{at}/remove"), 0o200, "");
        if kind.starts_with("nvidia-") {
            self.tree.file(&format!("{at}/nvidia/vgpu_params"), 0o644, "\n");
        }
        self.tree.link(&format!("{dir}/devices/{uuid}"), &at);
        self.tree.link(&format!("sys/bus/mdev/devices/{uuid}"), &at);
        let group = self.add_group(&at, &uuid);
        let vfio = self.add_vfio(&at, group);
        self.used[pool].insert(uuid.clone(), cost);
        self.mdevs.insert(uuid, State { parent: name, group, vfio, pool, leaving: false });
        self.count_available(pool);
        Ok(())
    }

    /// Writes `remove` of the mdev in `dir`.
    pub(super) fn remove(&mut self, dir: &str, value: &str) -> Effect {
        let uuid = dir.rsplit('/').next().unwrap_or_default().to_owned();
        match number::parse(value) {
            Err(errno) => return Effect::Done(Err(errno)),
            // Zero is accepted and does nothing.
            Ok(0) => return Effect::Done(Ok(())),
            Ok(_) => {}
        }
        match self.mdevs.get(&uuid) {
            // A second writer waits for the first and returns success without having done anything.
            Some(mdev) if !mdev.leaving => {}
            _ => return Effect::Done(Ok(())),
        }
        self.leave(&uuid);
        if self.is_held(&uuid) {
            // The writer sleeps until the last user is gone (vfio_unregister_group_dev).
            return self.sleep(Wait::Held(uuid.clone()), Then::Remove { uuid });
        }
        self.finish_remove(&uuid);
        Effect::Done(Ok(()))
    }

    /// First half: the mdev leaves the bus, its attribute and links go (mdev_device_remove_common).
    fn leave(&mut self, uuid: &str) {
        let Some(mdev) = self.mdevs.get_mut(uuid) else { return };
        mdev.leaving = true;
        let Some(dir) = self.parents.get(&mdev.parent).map(|parent| format!("{}/{uuid}", parent.dir)) else {
            return;
        };
        let kind = self.link_text(&format!("{dir}/mdev_type")).unwrap_or_default();
        let kind = kind.trim_start_matches("../").to_owned();
        self.tree.remove(&format!("{kind}/devices/{uuid}"));
        self.tree.remove(&format!("{dir}/mdev_type"));
        self.tree.remove(&format!("{dir}/remove"));
        // The VFIO device goes before anybody is waited for, the group's node after (vfio_unregister_group_dev).
        if self.spec.kernel.hides_before_waiting() {
            self.tree.remove(&format!("{dir}/vfio-dev"));
        }
        self.tree.remove(&format!("sys/bus/mdev/devices/{uuid}"));
    }

    /// Second half: the device is released, its units and its UUID are free again.
    pub(super) fn finish_remove(&mut self, uuid: &str) {
        let Some(mdev) = self.mdevs.remove(uuid) else { return };
        if let Some(dir) = self.parents.get(&mdev.parent).map(|parent| format!("{}/{uuid}", parent.dir)) {
            self.remove_vfio(&dir, mdev.group, mdev.vfio, false);
            self.tree.remove(&dir);
        }
        self.remove_group(mdev.group);
        // Also when the group's node is open: that is no use of the device, and holds nothing of it.
        self.used[mdev.pool].remove(uuid);
        self.count_available(mdev.pool);
    }
}

/// 36 bytes, or 37, of which nobody looks at the last (create_store, guid_parse); strict form, either case; the
/// name is lower case.
fn parse_uuid(value: &str) -> Result<String, Errno> {
    let text = match value.len() {
        36 | 37 => value.get(..36).ok_or(Errno::EINVAL)?,
        _ => return Err(Errno::EINVAL),
    };
    let form = |(place, byte): (usize, u8)| match place {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    if text.bytes().enumerate().all(form) { Ok(text.to_ascii_lowercase()) } else { Err(Errno::EINVAL) }
}
