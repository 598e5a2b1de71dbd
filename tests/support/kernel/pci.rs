//! PCI functions: SR-IOV (k:drivers/pci/iov.c) and driver binding (k:drivers/base/bus.c,
//! drivers/pci/pci-driver.c, drivers/pci/pci-sysfs.c).

use std::collections::BTreeSet;

use nix::errno::Errno;

use super::{Answer, Effect, Kernel, Then};
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
        if let Some(sriov) = &spec.sriov {
            self.tree.file(&format!("{dir}/sriov_totalvfs"), 0o444, format!("{}\n", sriov.total));
            self.tree.file(&format!("{dir}/sriov_numvfs"), 0o644, "0\n");
            self.tree.file(&format!("{dir}/sriov_drivers_autoprobe"), 0o644, "1\n");
            self.tree.file(&format!("{dir}/sriov_vf_device"), 0o444, format!("{:x}\n", sriov.vf_device));
            self.tree.file(&format!("{dir}/sriov_offset"), 0o444, format!("{}\n", sriov.offset));
            self.tree.file(&format!("{dir}/sriov_stride"), 0o444, format!("{}\n", sriov.stride));
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
        let group = self.add_group(dir, &address);
        let sriov = spec.sriov.as_ref();
        let (host_driver, net) = match pf {
            Some(pf) => {
                self.tree.link(&format!("{dir}/physfn"), &self.functions[pf].dir.clone());
                (sriov.and_then(|s| s.vf_driver.clone()), sriov.is_some_and(|s| s.vf_net))
            }
            None => (spec.driver.clone(), false),
        };
        let function =
            Function { dir: dir.to_owned(), group, vfio: None, host_driver, net, pf: pf.map(str::to_owned) };
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
    pub(super) fn set_vfs(&mut self, dir: &str, value: &str) -> Effect {
        match self.check_vfs(dir, value) {
            Err(errno) => Effect::Done(Err(errno)),
            Ok((_, None)) => Effect::Done(Ok(())),
            Ok((pf, Some(0))) => {
                // Disabling is all or none; a VF in use makes the unbind of its driver wait.
                let waits_for: BTreeSet<String> = self.vfs_of(&pf).into_iter().collect();
                self.sleep_until_free(waits_for, Then::Vfs { pf })
            }
            Ok((pf, Some(count))) => {
                self.add_vfs(&pf, count);
                Effect::Done(Ok(()))
            }
        }
    }

    /// The PF and the count to bring about; `None` when it is so already.
    fn check_vfs(&self, dir: &str, value: &str) -> Result<(String, Option<u32>), Errno> {
        let count: u16 = value.trim_end_matches('\n').parse().map_err(|_| Errno::EINVAL)?;
        let count = u32::from(count);
        let pf = dir.rsplit('/').next().unwrap_or_default().to_owned();
        let sriov = self.pci_spec(&pf).and_then(|spec| spec.sriov.as_ref()).ok_or(Errno::ENODEV)?;
        if count > sriov.total {
            return Err(Errno::ERANGE);
        }
        let now = u32::try_from(self.vfs_of(&pf).len()).expect("few VFs");
        if count == now {
            return Ok((pf, None));
        }
        // No driver, or one without sriov_configure.
        if !sriov.configure || !self.tree.exists(&format!("{dir}/driver")) {
            return Err(Errno::ENOENT);
        }
        if count > 0 && now > 0 {
            return Err(Errno::EBUSY);
        }
        Ok((pf, Some(count)))
    }

    fn vfs_of(&self, pf: &str) -> Vec<String> {
        let of_pf = |(_, function): &(&String, &Function)| function.pf.as_deref() == Some(pf);
        self.functions.iter().filter(of_pf).map(|(address, _)| address.clone()).collect()
    }

    fn add_vfs(&mut self, pf: &str, count: u32) {
        let Some(spec) = self.pci_spec(pf).cloned() else { return };
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
        }
        self.tree.set(&format!("{pf_dir}/sriov_numvfs"), format!("{count}\n"));
    }

    pub(super) fn remove_vfs(&mut self, pf: &str) {
        for address in self.vfs_of(pf) {
            self.vanish(&address);
            self.take(&address);
            if let Some(function) = self.functions.remove(&address) {
                self.tree.remove(&function.dir);
                self.remove_group(function.group);
            }
            self.tree.remove(&format!("sys/bus/pci/devices/{address}"));
        }
        let dir = self.functions[pf].dir.clone();
        for name in self.tree.names(&dir).iter().filter(|name| name.starts_with("virtfn")) {
            self.tree.remove(&format!("{dir}/{name}"));
        }
        self.tree.set(&format!("{dir}/sriov_numvfs"), "0\n");
    }

    /// A PCI function is pulled out, with all that depends on it.
    pub(crate) fn pull_out(&mut self, address: &str) {
        self.remove_vfs(address);
        self.vanish(address);
        self.take(address);
        if let Some(function) = self.functions.remove(address) {
            self.tree.remove(&function.dir);
            self.remove_group(function.group);
        }
        self.tree.remove(&format!("sys/bus/pci/devices/{address}"));
    }

    // Binding ------------------------------------------------------------------------------------

    /// Writes `driver_override` (driver_set_override): nothing or a lone newline clears it.
    pub(super) fn set_override(&mut self, dir: &str, value: &str) -> Answer {
        if value.len() >= 4095 {
            return Err(Errno::EINVAL);
        }
        let name = value.trim_end_matches('\n');
        let shown = if name.is_empty() { "(null)" } else { name };
        self.tree.set(&format!("{dir}/driver_override"), format!("{shown}\n"));
        Ok(())
    }

    fn wanted_driver(&self, address: &str) -> Option<String> {
        let function = self.functions.get(address)?;
        let named = self.tree.content(&format!("{}/driver_override", function.dir)).map(str::trim);
        match named {
            Some("(null)") | None => function.host_driver.clone(),
            Some(name) => Some(name.to_owned()),
        }
    }

    /// Writes `drivers_probe`: success even when nothing matches; a bound function stays (bus_rescan_devices).
    pub(super) fn probe(&mut self, address: &str) -> Answer {
        if !self.functions.contains_key(address) {
            return Err(Errno::ENODEV);
        }
        if let Some(driver) = self.wanted_driver(address) {
            self.give(address, &driver);
        }
        Ok(())
    }

    /// Writes `bind` of the driver in `dir` (bind_store).
    pub(super) fn bind_by_hand(&mut self, dir: &str, address: &str) -> Answer {
        let driver = dir.rsplit('/').next().unwrap_or_default();
        let matches = self.wanted_driver(address).as_deref() == Some(driver);
        if matches && self.give(address, driver) { Ok(()) } else { Err(Errno::ENODEV) }
    }

    /// Writes `unbind` of the driver in `dir` (unbind_store); a VFIO driver waits for the last user.
    pub(super) fn unbind(&mut self, dir: &str, address: &str) -> Effect {
        let driver = dir.rsplit('/').next().unwrap_or_default();
        if self.driver_of(address).as_deref() != Some(driver) {
            return Effect::Done(Err(Errno::ENODEV));
        }
        let device = address.to_owned();
        self.sleep_until_free(BTreeSet::from([device.clone()]), Then::Unbind { device })
    }

    pub(super) fn finish_unbind(&mut self, device: &str) {
        self.take(device);
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
        if self.tree.exists(&format!("{dir}/driver")) {
            return false;
        }
        self.tree.link(&format!("{dir}/driver"), &format!("sys/bus/pci/drivers/{driver}"));
        self.tree.link(&format!("sys/bus/pci/drivers/{driver}/{address}"), &dir);
        if vfio {
            let number = self.add_vfio(&dir, group);
            self.functions.get_mut(address).expect("looked up above").vfio = Some(number);
        } else if net {
            // Up: IFF_UP is bit 0 (k:include/uapi/linux/if.h).
            let name = format!("eth{}", address.replace([':', '.'], ""));
            self.tree.file(&format!("{dir}/net/{name}/flags"), 0o644, "0x1003\n");
        }
        true
    }

    /// Takes a function from its driver.
    fn take(&mut self, address: &str) {
        let driver = self.driver_of(address);
        let Some(function) = self.functions.get_mut(address) else { return };
        let (dir, group, vfio) = (function.dir.clone(), function.group, function.vfio.take());
        if let Some(number) = vfio {
            self.remove_vfio(&dir, group, number);
        }
        self.tree.remove(&format!("{dir}/net"));
        self.tree.remove(&format!("{dir}/driver"));
        if let Some(driver) = driver {
            self.tree.remove(&format!("sys/bus/pci/drivers/{driver}/{address}"));
        }
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
