//! vGPUs of NVIDIA's driver on VFs, without mediated devices. The driver is not public; the rules are those of
//! NVIDIA's vGPU guides, its kubevirt-gpu-device-plugin and the public part of its resource manager
//! (open-gpu-kernel-modules, kernel_vgpu_mgr.c), and of measurements that operators published. What no source
//! settles says so.

use nix::errno::Errno;

use super::{Answer, Kernel, number};
use crate::support::spec::{ParentSpec, TypeSpec};

/// The first line of every list of types.
const HEADER: &str = "ID    : vGPU Name\n";

/// A VF that the driver registered for vGPUs.
pub(super) struct Slot {
    dir: String,
    spec: ParentSpec,
    /// The type that it has.
    current: Option<u32>,
    /// The GPU instance that carries it.
    instance: Option<u32>,
}

fn number_of(kind: &TypeSpec) -> u32 {
    kind.id.trim_start_matches("nvidia-").parse().expect("a type of NVIDIA's driver")
}

impl Kernel {
    /// The driver registers a VF that was just made: it is a VFIO device from then on, on driver `nvidia`.
    pub(super) fn register_vgpu(&mut self, address: &str, dir: &str, group: u32, spec: ParentSpec) -> u32 {
        self.tree.file(&format!("{dir}/nvidia/creatable_vgpu_types"), 0o444, HEADER);
        self.tree.file(&format!("{dir}/nvidia/current_vgpu_type"), 0o644, "0\n");
        self.tree.file(&format!("{dir}/nvidia/vgpu_params"), 0o644, "\n");
        let pool = spec.pool;
        self.vgpus
            .insert(address.to_owned(), Slot { dir: dir.to_owned(), spec, current: None, instance: None });
        let vfio = self.add_vfio(dir, group);
        self.list_vgpus(pool);
        vfio
    }

    /// The VF leaves the driver: what it was is lost. It is registered again only when all VFs are made anew
    /// (measured on L40S).
    pub(super) fn unregister_vgpu(&mut self, address: &str) {
        let Some(slot) = self.vgpus.remove(address) else { return };
        self.tree.remove(&format!("{}/nvidia", slot.dir));
        self.used[slot.spec.pool].remove(address);
        self.list_vgpus(slot.spec.pool);
    }

    /// Whether a guest can open the VF: ENODEV while it has no type.
    pub(super) fn vgpu_opens(&self, address: &str) -> bool {
        self.vgpus.get(address).is_none_or(|slot| slot.current.is_some())
    }

    /// Fills the lists of all VFs on one GPU: what can be made now. Only the header where the VF has a type.
    fn list_vgpus(&mut self, pool: usize) {
        let mut lists = Vec::new();
        for (vf, slot) in self.vgpus.iter().filter(|(_, slot)| slot.spec.pool == pool) {
            let free = slot.current.is_none();
            let fitting = slot.spec.types.iter().filter(|kind| free && self.has_room(vf, pool, kind));
            let lines = fitting.map(|kind| format!("{:<5} : {}\n", number_of(kind), kind.name));
            lists.push((slot.dir.clone(), HEADER.to_owned() + &lines.collect::<String>()));
        }
        for (dir, list) in lists {
            self.tree.set(&format!("{dir}/nvidia/creatable_vgpu_types"), list);
        }
    }

    /// Fills the lists of a PF's VFs.
    pub(super) fn list_all(&mut self, pf: &str) {
        let of_pf = |vf: &&String| self.pf_of(vf) == Some(pf);
        let pool = self.vgpus.iter().find(|(vf, _)| of_pf(vf)).map(|(_, slot)| slot.spec.pool);
        if let Some(pool) = pool {
            self.list_vgpus(pool);
        }
    }

    /// In MIG mode a GPU instance of its profile carries each type, and the others are none; else the other way round.
    fn has_room(&self, vf: &str, pool: usize, kind: &TypeSpec) -> bool {
        let on = self.pf_of(vf).and_then(|pf| self.partitions.get(pf)).is_some_and(|one| one.is_on);
        match kind.gi {
            None => !on && self.has_units(pool, kind.cost),
            Some(_) => on && self.free_instance(vf, kind).is_some(),
        }
    }

    /// The first GPU instance of the type's profile that carries nothing.
    fn free_instance(&self, vf: &str, kind: &TypeSpec) -> Option<u32> {
        let pf = self.pf_of(vf)?;
        let is_used = |id: u32| {
            self.vgpus.iter().any(|(other, slot)| self.pf_of(other) == Some(pf) && slot.instance == Some(id))
        };
        let mut all = self.partitions.get(pf)?.instances.iter();
        all.find(|(id, (profile, ..))| Some(profile.as_str()) == kind.gi && !is_used(**id)).map(|(id, _)| *id)
    }

    fn has_units(&self, pool: usize, cost: u32) -> bool {
        let (used, spec) = (&self.used[pool], &self.spec.pools[pool]);
        let same = !spec.equal_size || used.values().all(|size| *size == cost);
        same && used.values().sum::<u32>() + cost <= spec.total
    }

    /// Writes `vgpu_params` of the vGPU below whose directory `dir` is: taken while nobody has it, a space clears (NVIDIA's
    /// vGPU guides).
    pub(super) fn set_params(&mut self, dir: &str, value: &str) -> Answer {
        let device = dir.trim_end_matches("/nvidia").rsplit('/').next().unwrap_or_default().to_owned();
        let is_made = self.vgpus.get(&device).is_none_or(|slot| slot.current.is_some());
        if !is_made || self.is_held(&device) {
            return Err(Errno::EPERM);
        }
        let text = value.trim();
        let pairs =
            || text.split(',').all(|pair| pair.split_once('=').is_some_and(|(key, _)| !key.is_empty()));
        if !text.is_empty() && !pairs() {
            return Err(Errno::EINVAL);
        }
        self.tree.set(&format!("{dir}/vgpu_params"), format!("{text}\n"));
        Ok(())
    }

    /// Writes `current_vgpu_type` of the VF in `dir`.
    pub(super) fn set_vgpu_type(&mut self, dir: &str, value: &str) -> Answer {
        let address = dir.trim_end_matches("/nvidia").rsplit('/').next().unwrap_or_default().to_owned();
        let wanted = u32::try_from(number::parse(value)?).map_err(|_| Errno::EINVAL)?;
        let slot = self.vgpus.get(&address).ok_or(Errno::ENODEV)?;
        let pool = slot.spec.pool;
        match (slot.current, wanted) {
            // One type after another only by way of 0, and 0 only from a type.
            (None, 0) => return Err(Errno::EPERM),
            (Some(_), wanted) if wanted > 0 => return Err(Errno::EPERM),
            // EBUSY in NVIDIA's published proposal for the kernel; what shipped drivers answer is not known.
            (Some(_), _) if self.is_held(&address) => return Err(Errno::EBUSY),
            (Some(_), _) => drop(self.used[pool].remove(&address)),
            (None, wanted) => {
                // The driver says EIO whatever the reason, and the reason in the kernel's log.
                let kind = slot.spec.types.iter().find(|kind| number_of(kind) == wanted).ok_or(Errno::EIO)?;
                if !self.has_room(&address, pool, kind) {
                    return Err(Errno::EIO);
                }
                let (cost, instance) = (kind.cost, self.free_instance(&address, kind));
                self.used[pool].insert(address.clone(), cost);
                if let Some(slot) = self.vgpus.get_mut(&address) {
                    slot.instance = instance;
                }
            }
        }
        if let Some(slot) = self.vgpus.get_mut(&address) {
            slot.current = (wanted > 0).then_some(wanted);
            slot.instance = slot.instance.filter(|_| wanted > 0);
        }
        self.tree.set(&format!("{dir}/current_vgpu_type"), format!("{wanted}\n"));
        self.tree.set(&format!("{dir}/vgpu_params"), "\n");
        self.list_vgpus(pool);
        Ok(())
    }
}
