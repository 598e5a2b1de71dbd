//! PCI functions: SR-IOV (k:drivers/pci/iov.c) and driver binding (k:drivers/base/bus.c,
//! drivers/pci/pci-driver.c, drivers/pci/pci-sysfs.c).

use nix::errno::Errno;

use super::number::{self, name};
use super::sleep::{Then, Wait};
use super::{Effect, Kernel};
use crate::support::spec::PciSpec;

/// A PCI function that exists.
pub(super) struct Function {
    dir: String,
    pub(super) group: u32,
    /// Number N of its `vfio-dev/vfioN` while a VFIO driver has it.
    pub(super) vfio: Option<u32>,
    /// Driver that takes it without an override.
    host_driver: Option<String>,
    /// Whether that driver makes a network interface.
    net: bool,
    /// The PF of a VF.
    pf: Option<String>,
    /// The driver that it has; also one that is letting go and has no link any more.
    driver: Option<String>,
}

impl Kernel {
    pub(super) fn add_pf(&mut self, spec: PciSpec) {
        let dir = format!("sys/devices/{}/{}", spec.bridge, spec.address);
        self.add_function(&dir, &spec, spec.id, None);
        if let Some((speed, width, max_speed, max_width)) = &spec.link {
            self.tree.file(&format!("{dir}/current_link_speed"), 0o444, format!("{speed}\n"));
            self.tree.file(&format!("{dir}/current_link_width"), 0o444, format!("{width}\n"));
            self.tree.file(&format!("{dir}/max_link_speed"), 0o444, format!("{max_speed}\n"));
            self.tree.file(&format!("{dir}/max_link_width"), 0o444, format!("{max_width}\n"));
        }
        for (name, content) in &spec.attributes {
            self.tree.file(&format!("{dir}/{name}"), 0o444, *content);
        }
        if let Some(sriov) = &spec.sriov {
            self.tree.file(&format!("{dir}/sriov_totalvfs"), 0o444, format!("{}\n", sriov.total));
            self.tree.file(&format!("{dir}/sriov_numvfs"), 0o644, "0\n");
            self.tree.file(&format!("{dir}/vendor_numvfs"), 0o200, "");
            self.tree.file(&format!("{dir}/vendor_control"), 0o200, "");
            self.tree.file(&format!("{dir}/sriov_drivers_autoprobe"), 0o644, "1\n");
            self.tree.file(&format!("{dir}/sriov_vf_device"), 0o444, format!("{:x}\n", sriov.vf_device));
            self.tree.file(&format!("{dir}/sriov_offset"), 0o444, format!("{}\n", sriov.offset));
            self.tree.file(&format!("{dir}/sriov_stride"), 0o444, format!("{}\n", sriov.stride));
            if sriov.vram.is_some() {
                self.add_admin(&dir, sriov.total);
            }
            self.add_vfs(&spec.address, sriov.enabled);
        }
        if let Some(parent) = spec.parent {
            self.register_parent(&dir, parent);
        }
    }

    fn add_function(&mut self, dir: &str, spec: &PciSpec, id: (u16, u16), pf: Option<&str>) {
        let address = dir.rsplit('/').next().expect("a path has a name").to_owned();
        let (vendor, device) = id;
        let (sub_vendor, sub_device) = spec.subsystem;
        let (base, sub, interface) = (spec.class >> 16, spec.class >> 8 & 0xff, spec.class & 0xff);
        let modalias = format!(
            "pci:v{vendor:08X}d{device:08X}sv{sub_vendor:08X}sd{sub_device:08X}bc{base:02X}sc{sub:02X}i{interface:02X}\n"
        );
        let attributes = [
            ("class", format!("0x{:06x}\n", spec.class)),
            ("vendor", format!("0x{vendor:04x}\n")),
            ("device", format!("0x{device:04x}\n")),
            ("subsystem_vendor", format!("0x{sub_vendor:04x}\n")),
            ("subsystem_device", format!("0x{sub_device:04x}\n")),
            ("numa_node", format!("{}\n", spec.numa_node)),
            ("modalias", modalias),
        ];
        for (name, content) in attributes {
            self.tree.file(&format!("{dir}/{name}"), 0o444, content);
        }
        self.tree.file(&format!("{dir}/driver_override"), 0o644, "(null)\n");
        self.tree.link(&format!("sys/bus/pci/devices/{address}"), dir);
        let shared = spec.group_of.as_ref().filter(|_| pf.is_none());
        let group = match shared.and_then(|other| self.functions.get(other)).map(|other| other.group) {
            Some(group) => self.join_group(group, dir, &address),
            None => self.add_group(dir, &address),
        };
        let sriov = spec.sriov.as_ref();
        let (host_driver, net) = match pf {
            Some(pf) => {
                self.tree.link(&format!("{dir}/physfn"), &self.functions[pf].dir.clone());
                (sriov.and_then(|s| s.vf_driver.clone()), sriov.is_some_and(|s| s.vf_net))
            }
            None => (spec.driver.clone(), false),
        };
        let function = Function {
            dir: dir.to_owned(),
            group,
            vfio: None,
            host_driver,
            net,
            pf: pf.map(str::to_owned),
            driver: None,
        };
        let probe = function.host_driver.clone().filter(|_| pf.is_none_or(|pf| self.autoprobe(pf)));
        self.functions.insert(address.clone(), function);
        if let Some(driver) = probe {
            self.give(&address, &driver);
        }
    }

    fn autoprobe(&self, pf: &str) -> bool {
        let path = format!("{}/sriov_drivers_autoprobe", self.functions[pf].dir);
        self.tree.content(&path) != Some("0\n")
    }

    // SR-IOV -------------------------------------------------------------------------------------

    /// Writes `sriov_numvfs` of the PF in `dir` (sriov_numvfs_store).
    pub(super) fn set_vfs(&mut self, dir: &str, value: &str, by_vendor: bool) -> Effect {
        let pf = dir.rsplit('/').next().unwrap_or_default().to_owned();
        match self.check_vfs(&pf, value) {
            Err(errno) => Effect::Done(Err(errno)),
            Ok(_) if self.is_locked(&pf) => {
                let path = format!("{dir}/sriov_numvfs");
                self.sleep(Wait::Locked(pf), Then::Write { path, value: value.to_owned() })
            }
            Ok(count) => match self.change_vfs(&pf, count, by_vendor) {
                Err(errno) => Effect::Done(Err(errno)),
                Ok(None) => Effect::Done(Ok(())),
                Ok(Some(0)) => self.remove_vfs(&pf, false),
                Ok(Some(count)) => {
                    self.add_vfs(&pf, count);
                    Effect::Done(Ok(()))
                }
            },
        }
    }

    /// What is checked without the lock.
    fn check_vfs(&self, pf: &str, value: &str) -> Result<u32, Errno> {
        let count = number::parse(value).ok().and_then(|number| u16::try_from(number).ok());
        let count = u32::from(count.ok_or(Errno::EINVAL)?);
        let sriov = self.pci_spec(pf).and_then(|spec| spec.sriov.as_ref()).ok_or(Errno::ENODEV)?;
        if count > sriov.total { Err(Errno::ERANGE) } else { Ok(count) }
    }

    /// The count to bring about; `None` when it is so already.
    fn change_vfs(&self, pf: &str, count: u32, by_vendor: bool) -> Result<Option<u32>, Errno> {
        let now = u32::try_from(self.vfs_of(pf).len()).expect("few VFs");
        if count == now {
            return Ok(None);
        }
        let spec = self.pci_spec(pf).ok_or(Errno::ENODEV)?;
        let configure = by_vendor || spec.sriov.as_ref().is_some_and(|sriov| sriov.configure);
        // No driver, or one that has no sriov_configure; vfio-pci's says the same.
        let own = self.functions.get(pf).is_some_and(|function| function.driver == spec.driver);
        if !configure || !own || spec.driver.is_none() {
            return Err(Errno::ENOENT);
        }
        if count > 0 && now > 0 {
            return Err(Errno::EBUSY);
        }
        Ok(Some(count))
    }

    pub(super) fn dir_of(&self, address: &str) -> String {
        self.functions[address].dir.clone()
    }

    /// The PF of a VF.
    pub(super) fn pf_of(&self, vf: &str) -> Option<&str> {
        self.functions.get(vf)?.pf.as_deref()
    }

    pub(super) fn vfs_of(&self, pf: &str) -> Vec<String> {
        let of_pf = |(_, function): &(&String, &Function)| function.pf.as_deref() == Some(pf);
        self.functions.iter().filter(of_pf).map(|(address, _)| address.clone()).collect()
    }

    fn add_vfs(&mut self, pf: &str, count: u32) {
        let Some(spec) = self.pci_spec(pf).cloned() else { return };
        self.lose_instances(pf);
        let Some(sriov) = spec.sriov.clone() else { return };
        let pf_dir = self.functions[pf].dir.clone();
        // A driver may enable fewer than asked; the kernel only logs it.
        let count = count.min(sriov.makes.unwrap_or(count));
        for index in 0..count {
            let address = vf_address(pf, sriov.offset + index * sriov.stride);
            let dir = format!("sys/devices/{}/{address}", spec.bridge);
            self.add_function(&dir, &spec, (spec.id.0, sriov.vf_device), Some(pf));
            self.tree.link(&format!("{pf_dir}/virtfn{index}"), &dir);
            if let Some(parent) = sriov.vf_parent.clone() {
                self.register_parent(&dir, parent);
            }
            if let Some(types) = sriov.vf_vgpu.clone() {
                let group = self.functions[&address].group;
                let vfio = self.register_vgpu(&address, &dir, group, types);
                self.functions.get_mut(&address).expect("made above").vfio = Some(vfio);
            }
        }
        self.tree.set(&format!("{pf_dir}/sriov_numvfs"), format!("{count}\n"));
        self.divide_vram(pf);
    }

    /// Takes the VFs away, the first first (sriov_del_vfs). One that a guest has loses its links, and is
    /// waited for with those behind it still there (pci_iov_remove_virtfn).
    pub(super) fn remove_vfs(&mut self, pf: &str, unbind: bool) -> Effect {
        let then = || Then::Vfs { pf: pf.to_owned(), unbind };
        for vf in self.vfs_of(pf) {
            self.unlink_vf(pf, &vf);
            if self.is_locked(&vf) {
                return self.sleep(Wait::Locked(vf), then());
            }
            if self.is_held(&vf) {
                self.let_go(&vf);
                return self.sleep(Wait::Held(vf), then());
            }
            self.remove_function(&vf);
        }
        let dir = self.functions[pf].dir.clone();
        self.tree.set(&format!("{dir}/sriov_numvfs"), "0\n");
        self.divide_vram(pf);
        self.lose_instances(pf);
        if unbind {
            self.take(pf);
        }
        Effect::Done(Ok(()))
    }

    fn unlink_vf(&mut self, pf: &str, vf: &str) {
        let dir = self.functions[pf].dir.clone();
        let is_vf = |kernel: &Self, name: &String| {
            let target = kernel.link_text(&format!("{dir}/{name}"));
            name.starts_with("virtfn") && target.is_some_and(|target| target.ends_with(vf))
        };
        let names = self.tree.names(&dir);
        if let Some(name) = names.iter().find(|name| is_vf(self, name)) {
            self.tree.remove(&format!("{dir}/{name}"));
        }
        self.tree.remove(&format!("{}/physfn", self.functions[vf].dir));
    }

    fn remove_function(&mut self, address: &str) {
        self.vanish(address);
        self.take(address);
        if let Some(function) = self.functions.remove(address) {
            self.tree.remove(&function.dir);
            if self.functions.values().all(|other| other.group != function.group) {
                self.remove_group(function.group);
            }
        }
        self.tree.remove(&format!("sys/bus/pci/devices/{address}"));
    }

    /// A function of the host is plugged in again.
    pub(crate) fn plug_in(&mut self, address: &str) {
        let spec = self.pci_spec(address).cloned().expect("a function of the host");
        self.add_pf(spec);
    }

    /// Another card comes into the slot of one that was pulled out.
    pub(crate) fn plug_in_another(&mut self, address: &str, id: (u16, u16)) {
        let spec = self.pci_spec(address).cloned().expect("a function of the host");
        self.add_pf(PciSpec { id, ..spec });
    }

    /// The PF's driver is unloaded: it takes its VFs away first, as drivers do in their remove.
    pub(crate) fn unload_driver(&mut self, address: &str) {
        let done = self.remove_vfs(address, true);
        assert!(matches!(done, Effect::Done(Ok(()))), "nobody holds its VFs");
    }

    /// A PCI function is pulled out, with all that depends on it.
    pub(crate) fn pull_out(&mut self, address: &str) {
        for vf in self.vfs_of(address) {
            self.unlink_vf(address, &vf);
            self.remove_function(&vf);
        }
        self.remove_function(address);
    }

    // Binding ------------------------------------------------------------------------------------

    /// Writes `driver_override` (driver_set_override): nothing or a newline at the front clears it, and it
    /// ends at the first newline.
    pub(super) fn set_override(&mut self, dir: &str, value: &str) -> Effect {
        if value.len() >= 4095 {
            return Effect::Done(Err(Errno::EINVAL));
        }
        // Debian's 6.12.107 waits for nobody, also while a driver lets the device go.
        let address = dir.rsplit('/').next().unwrap_or_default();
        if self.spec.kernel.locks_for_override() && self.is_locked(address) {
            let path = format!("{dir}/driver_override");
            return self
                .sleep(Wait::Locked(address.to_owned()), Then::Write { path, value: value.to_owned() });
        }
        let name = value.split('\n').next().unwrap_or_default();
        let shown = if name.is_empty() { "(null)" } else { name };
        self.tree.set(&format!("{dir}/driver_override"), format!("{shown}\n"));
        Effect::Done(Ok(()))
    }

    fn wanted_driver(&self, address: &str) -> Option<String> {
        let function = self.functions.get(address)?;
        let named = self.tree.content(&format!("{}/driver_override", function.dir));
        let named = named.map(|text| text.trim_end_matches('\n'));
        match named {
            Some("(null)") | None => function.host_driver.clone(),
            Some(name) => Some(name.to_owned()),
        }
    }

    /// Writes `drivers_probe`: success even when nothing matches; a bound function stays, without its lock being
    /// taken (bus_rescan_devices_helper).
    pub(super) fn probe(&mut self, value: &str) -> Effect {
        let address = name(value);
        let Some(function) = self.functions.get(address) else { return Effect::Done(Err(Errno::ENODEV)) };
        if function.driver.is_none() {
            if self.is_locked(address) {
                let path = "sys/bus/pci/drivers_probe".to_owned();
                let then = Then::Write { path, value: value.to_owned() };
                return self.sleep(Wait::Locked(address.to_owned()), then);
            }
            if let Some(driver) = self.wanted_driver(address) {
                self.give(address, &driver);
            }
        }
        Effect::Done(Ok(()))
    }

    /// Writes `bind` of the driver in `dir` (bind_store, __driver_probe_device).
    pub(super) fn bind_by_hand(&mut self, dir: &str, value: &str) -> Effect {
        let (driver, address) = (dir.rsplit('/').next().unwrap_or_default(), name(value));
        if self.wanted_driver(address).as_deref() != Some(driver) {
            return Effect::Done(Err(Errno::ENODEV));
        }
        if self.is_locked(address) {
            let then = Then::Write { path: format!("{dir}/bind"), value: value.to_owned() };
            return self.sleep(Wait::Locked(address.to_owned()), then);
        }
        if self.functions[address].driver.is_some() {
            return Effect::Done(Err(Errno::EBUSY));
        }
        Effect::Done(if self.give(address, driver) { Ok(()) } else { Err(Errno::ENODEV) })
    }

    /// Writes `unbind` of the driver in `dir` (unbind_store); a VFIO driver waits for the last user.
    pub(super) fn unbind(&mut self, dir: &str, value: &str) -> Effect {
        let (driver, address) = (dir.rsplit('/').next().unwrap_or_default(), name(value));
        if self.functions.get(address).and_then(|function| function.driver.as_deref()) != Some(driver) {
            return Effect::Done(Err(Errno::ENODEV));
        }
        let device = address.to_owned();
        if self.is_locked(address) {
            // When it has the lock the driver is gone, and that is success.
            return self.sleep(Wait::Locked(device), Then::Nothing);
        }
        self.let_go(address);
        if self.is_held(address) {
            return self.sleep(Wait::Held(device.clone()), Then::Unbind { device });
        }
        // A driver that makes VFs takes them along (k:drivers/net/ethernet/intel/igb/igb_main.c, igb_remove).
        let own = self.pci_spec(address).is_some_and(|spec| spec.driver.as_deref() == Some(driver));
        if own && !self.vfs_of(address).is_empty() {
            return self.remove_vfs(address, true);
        }
        self.take(address);
        Effect::Done(Ok(()))
    }

    /// What a driver's leaving begins with: the links go, and the VFIO device (__device_release_driver,
    /// vfio_unregister_group_dev).
    fn let_go(&mut self, address: &str) {
        let Some(function) = self.functions.get(address) else { return };
        let dir = function.dir.clone();
        if let Some(driver) = self.driver_of(address) {
            self.tree.remove(&format!("sys/bus/pci/drivers/{driver}/{address}"));
        }
        self.tree.remove(&format!("{dir}/driver"));
        if self.spec.kernel.hides_before_waiting() {
            self.tree.remove(&format!("{dir}/vfio-dev"));
        }
    }

    fn driver_of(&self, address: &str) -> Option<String> {
        let dir = &self.functions.get(address)?.dir;
        let text = self.link_text(&format!("{dir}/driver"))?;
        text.rsplit('/').next().map(str::to_owned)
    }

    /// Gives a function without a driver to one that is registered.
    fn give(&mut self, address: &str, driver: &str) -> bool {
        let Some(vfio) = self.spec.drivers.iter().find(|(name, _)| name == driver).map(|(_, vfio)| *vfio)
        else {
            return false;
        };
        let Some(function) = self.functions.get(address) else { return false };
        let (dir, group, net) = (function.dir.clone(), function.group, function.net);
        if function.driver.is_some() {
            return false;
        }
        self.tree.link(&format!("{dir}/driver"), &format!("sys/bus/pci/drivers/{driver}"));
        self.tree.link(&format!("sys/bus/pci/drivers/{driver}/{address}"), &dir);
        let number = vfio.then(|| self.add_vfio(&dir, group));
        let function = self.functions.get_mut(address).expect("looked up above");
        (function.driver, function.vfio) = (Some(driver.to_owned()), number);
        if net && !vfio {
            // Up: IFF_UP is bit 0 (k:include/uapi/linux/if.h).
            let name = format!("eth{}", address.replace([':', '.'], ""));
            self.tree.file(&format!("{dir}/net/{name}/flags"), 0o644, "0x1003\n");
        }
        true
    }

    /// Takes a function from its driver.
    pub(super) fn take(&mut self, address: &str) {
        self.let_go(address);
        self.unregister_vgpu(address);
        let Some(function) = self.functions.get_mut(address) else { return };
        let (dir, group, vfio) = (function.dir.clone(), function.group, function.vfio.take());
        function.driver = None;
        if let Some(number) = vfio {
            let shared = self.functions.values().any(|other| other.group == group && other.vfio.is_some());
            self.remove_vfio(&dir, group, number, shared);
        }
        self.tree.remove(&format!("{dir}/net"));
    }

    /// Sets the interface flags of a VF on its host driver.
    pub(crate) fn set_link_up(&mut self, address: &str, up: bool) {
        let Some(dir) = self.functions.get(address).map(|function| function.dir.clone()) else { return };
        for name in self.tree.names(&format!("{dir}/net")) {
            self.tree.set(&format!("{dir}/net/{name}/flags"), if up { "0x1003\n" } else { "0x1002\n" });
        }
    }
}

/// The address of the function whose routing id lies `distance` behind the PF's.
fn vf_address(pf: &str, distance: u32) -> String {
    let (segment, rest) = pf.split_once(':').expect("a full address");
    let number = |text: &str| u32::from_str_radix(text, 16).expect("hexadecimal");
    let (bus, rest) = rest.split_once(':').expect("a full address");
    let (device, function) = rest.split_once('.').expect("a full address");
    let id = (number(bus) << 8 | number(device) << 3 | number(function)) + distance;
    format!("{segment}:{:02x}:{:02x}.{:x}", id >> 8, id >> 3 & 0x1f, id & 7)
}
