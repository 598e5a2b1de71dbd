//! SR-IOV virtual functions: a PF gets a number of them, each is bound to its VFIO driver.
//!
//! Interface: the kernel's drivers/pci/iov.c and Documentation/ABI/testing/sysfs-bus-pci.

use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;

use crate::backend::error::{Act, StepError};
use crate::backend::mdev::{hold_free, iommu_group};
use crate::backend::{sriov_manage, xe};
use crate::model::{Holder, PciAddress, PciId, Sriov, Vf};
use crate::sysfs::{Sysfs, wait_until};
use crate::vfio::{BindError, GroupGuard, Holders, bind, choose_driver};

/// How long the links of new VFs may take after the write; the kernel makes them before it returns,
/// some drivers from a work queue after that.
const LINKS_LIMIT: Duration = Duration::from_secs(3);
/// How long udev or devtmpfs may take to make the node of a bound VF.
const NODE_LIMIT: Duration = Duration::from_secs(2);

/// NVIDIA's driver: its VFs stay on it.
pub(super) const NVIDIA: &str = "nvidia";
/// AMD's SR-IOV driver for PFs (amd/MxGPU-Virtualization, gim_shim).
pub(super) const GIM: &str = "gim";

/// Reads the SR-IOV state of the function in `dir`; `None` when it is no PF. Never reads
/// `sriov_numvfs`, which takes the device lock and so could wait behind a stuck change.
#[must_use]
pub fn scan(sysfs: &Sysfs, dir: &str, vendor: u16, holders: &Holders) -> Option<Sriov> {
    let total = sysfs.read_optional(&format!("{dir}/sriov_totalvfs")).ok()??.parse().ok()?;
    let vf_device = sysfs.read(&format!("{dir}/sriov_vf_device")).ok();
    let vf_id = vf_device.and_then(|text| u16::from_str_radix(&text, 16).ok());
    let autoprobe = read_autoprobe(sysfs, &format!("{dir}/sriov_drivers_autoprobe")).ok().flatten();
    let links = vf_links(sysfs, dir);
    let enabled = u32::try_from(links.len()).unwrap_or(u32::MAX);
    let vfs = links.iter().filter_map(|index| read_vf(sysfs, dir, *index, holders)).collect();
    let vf_id = vf_id.map(|device| PciId { vendor, device });
    let by_hand = if enabled == 0 { xe::by_hand(sysfs, dir, total) } else { Vec::new() };
    Some(Sriov { total, enabled, vf_id, autoprobe, vfs, by_hand })
}

/// The numbers of the `virtfnN` links in ascending order.
fn vf_links(sysfs: &Sysfs, dir: &str) -> Vec<u32> {
    let names = sysfs.list_optional(dir).unwrap_or_default();
    let mut indexes: Vec<u32> =
        names.iter().filter_map(|name| name.strip_prefix("virtfn")?.parse().ok()).collect();
    indexes.sort_unstable();
    indexes
}

fn read_vf(sysfs: &Sysfs, pf_dir: &str, index: u32, holders: &Holders) -> Option<Vf> {
    let dir = sysfs.link_path(&format!("{pf_dir}/virtfn{index}"))?;
    let address = dir.rsplit('/').next()?.parse().ok()?;
    let id = PciId {
        vendor: read_hex(sysfs, &format!("{dir}/vendor"))?,
        device: read_hex(sysfs, &format!("{dir}/device"))?,
    };
    let driver = sysfs.link_name(&format!("{dir}/driver"));
    // Kernels before 6.0 have no vfio-dev to tell by.
    let vfio = sysfs.exists(&format!("{dir}/vfio-dev"))
        || driver.as_deref().is_some_and(|driver| driver.contains("vfio"));
    let iommu_group = iommu_group(sysfs, &dir);
    let mut users = holders.of_device(sysfs, &dir, iommu_group);
    if driver.is_some() && !vfio {
        users.extend(host_users(sysfs, &dir));
    }
    Some(Vf {
        index,
        address,
        id,
        driver,
        vfio,
        iommu_group,
        numa_node: numa_node(sysfs, &dir),
        holders: users,
        framebuffer: xe::vram_of(sysfs, pf_dir, index),
        quantum: xe::quantum_of(sysfs, pf_dir, index),
        vgpu: None,
    })
}

/// Reads a hexadecimal attribute of 16 bits such as `0x10de`.
#[must_use]
pub fn read_hex(sysfs: &Sysfs, at: &str) -> Option<u16> {
    let text = sysfs.read(at).ok()?;
    u16::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// Reads the NUMA node of the device in `dir`; the kernel's -1 is `None`.
#[must_use]
pub fn numa_node(sysfs: &Sysfs, dir: &str) -> Option<u32> {
    sysfs.read(&format!("{dir}/numa_node")).ok()?.parse().ok()
}

/// What of the host itself uses the function: network interfaces that are up (IFF_UP is bit 0 of `flags`),
/// and an interface that was moved into a container's network namespace, where this reader cannot see it.
fn host_users(sysfs: &Sysfs, dir: &str) -> Vec<Holder> {
    let interfaces = sysfs.list_optional(&format!("{dir}/net")).unwrap_or_default();
    if interfaces.is_empty() && is_moved_interface(sysfs, dir) {
        let name = "a network interface in another network namespace".to_owned();
        return vec![Holder { pid: 0, domain: None, name }];
    }
    let up = interfaces.into_iter().filter(|name| {
        let flags = sysfs.read(&format!("{dir}/net/{name}/flags")).unwrap_or_default();
        let flags = flags.strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok());
        flags.is_some_and(|flags| flags & 1 != 0)
    });
    up.map(|name| Holder { pid: 0, domain: None, name: format!("network interface {name}, which is up") })
        .collect()
}

/// A function of the network class on a host driver has an interface; when none is seen, it is elsewhere.
/// A driver that is just loading looks the same for a moment.
fn is_moved_interface(sysfs: &Sysfs, dir: &str) -> bool {
    let class = sysfs.read(&format!("{dir}/class")).unwrap_or_default();
    let driver = sysfs.link_name(&format!("{dir}/driver"));
    class.starts_with("0x02")
        && driver.is_some_and(|driver| !driver.contains("vfio"))
        && !sysfs.exists(&format!("{dir}/vfio-dev"))
}

/// Brings the PF in `pf` to `count` VFs, each on its VFIO driver. Refuses while any VF is in use,
/// unless the count is right already; goes through 0, because the kernel refuses to change one
/// non-zero count into another; turns off probing of host drivers first. On driver `nvidia` its script does all
/// that, and the VFs stay on that driver.
///
/// # Errors
/// [`StepError::Held`], [`StepError::TooManyVfs`], [`StepError::Undivided`] and [`StepError::AllOrNone`] before anything changes; [`StepError::Script`]; [`StepError::NotSo`]
/// when the driver enabled fewer; [`StepError::NoDriver`], [`StepError::Gone`], [`StepError::Kernel`].
pub fn set_vfs(sysfs: &Sysfs, pf: PciAddress, count: u32, script: Option<&Path>) -> Result<(), StepError> {
    let act = Act::SetVfs { pf, count };
    let Some(dir) = sysfs.link_path(&format!("sys/bus/pci/devices/{pf}")) else {
        return Err(StepError::Gone { act, what: format!("PCI function {pf}") });
    };
    let total = sysfs.read_optional(&format!("{dir}/sriov_totalvfs")).ok().flatten();
    let Some(total) = total.and_then(|text| text.parse::<u32>().ok()) else {
        return Err(StepError::NoDriver { act, reason: format!("{pf} has no sriov_totalvfs: it is no PF") });
    };
    if count > total {
        return Err(StepError::TooManyVfs { pf, count, total });
    }
    let enabled = vf_links(sysfs, &dir);
    let bare = sysfs.link_name(&format!("{dir}/driver")).as_deref() != Some(NVIDIA);
    match enabled.len() == count as usize {
        true => {}
        false if bare => {
            if enabled.is_empty()
                && let Some(missing) = xe::undivided(&xe::by_hand(sysfs, &dir, total), count)
            {
                return Err(StepError::Undivided { pf, missing });
            }
            change_count(sysfs, &dir, &act, &enabled, count)?;
        }
        false => by_script(sysfs, &dir, &act, &enabled, (count, total), script)?,
    }
    for index in vf_links(sysfs, &dir).into_iter().filter(|_| bare) {
        if let Some(vf) = vf_address(sysfs, &dir, index) {
            bind_vf(sysfs, vf)?;
        }
    }
    match vf_links(sysfs, &dir).len() {
        found if found == count as usize => Ok(()),
        found => Err(StepError::NotSo { act, found: format!("{found} VFs; the PF's driver made no more") }),
    }
}

/// Lets host drivers take new VFs of a PF, or not. VFs that exist are not touched. The kernel takes no lock
/// for it.
///
/// # Errors
/// [`StepError::Gone`], [`StepError::Kernel`], [`StepError::NotSo`].
pub fn set_autoprobe(sysfs: &Sysfs, pf: PciAddress, on: bool) -> Result<(), StepError> {
    let act = Act::SetAutoprobe { pf };
    let at = format!("sys/bus/pci/devices/{pf}/sriov_drivers_autoprobe");
    if !sysfs.exists(&at) {
        return Err(StepError::Gone { act, what: format!("sriov_drivers_autoprobe of {pf}") });
    }
    let kernel =
        |error: crate::sysfs::SysfsError| StepError::Kernel { act: act.clone(), source: error.into() };
    let wanted = if on { "1" } else { "0" };
    if read_autoprobe(sysfs, &at).map_err(kernel)? != Some(on) {
        sysfs.write(&at, wanted).map_err(kernel)?;
    }
    match read_autoprobe(sysfs, &at).map_err(kernel)? {
        Some(found) if found == on => Ok(()),
        found => Err(StepError::NotSo {
            act: act.clone(),
            found: found.map_or("neither 0 nor 1", |on| if on { "on" } else { "off" }).to_owned(),
        }),
    }
}

fn read_autoprobe(sysfs: &Sysfs, at: &str) -> Result<Option<bool>, crate::sysfs::SysfsError> {
    Ok(match sysfs.read(at)?.as_str() {
        "0" | "N" => Some(false),
        "1" | "Y" => Some(true),
        _ => None,
    })
}

fn vf_address(sysfs: &Sysfs, dir: &str, index: u32) -> Option<PciAddress> {
    sysfs.link_name(&format!("{dir}/virtfn{index}"))?.parse().ok()
}

fn change_count(sysfs: &Sysfs, dir: &str, act: &Act, enabled: &[u32], count: u32) -> Result<(), StepError> {
    let mut guards: Vec<GroupGuard> = Vec::new();
    for index in enabled {
        guards.extend(hold_vf(sysfs, dir, *index, &guards, act)?);
    }
    let kernel =
        |error: crate::sysfs::SysfsError| StepError::Kernel { act: act.clone(), source: error.into() };
    refuse_own_ways(sysfs, dir, act)?;
    let autoprobe = format!("{dir}/sriov_drivers_autoprobe");
    if count > 0 && sysfs.exists(&autoprobe) {
        sysfs.write(&autoprobe, "0").map_err(kernel)?;
    }
    if !enabled.is_empty() {
        write_count(sysfs, dir, act, 0)?;
        drop(guards);
        if !wait_until(LINKS_LIMIT, || vf_links(sysfs, dir).is_empty()) {
            return Err(StepError::NotSo { act: act.clone(), found: "VFs that did not go away".to_owned() });
        }
    }
    if count > 0 {
        write_count(sysfs, dir, act, count).map_err(|error| bring_back(sysfs, dir, act, enabled, error))?;
        wait_for_links(sysfs, dir, count);
    }
    Ok(())
}

/// Has NVIDIA's script change the count, while nobody uses a VF.
fn by_script(
    sysfs: &Sysfs,
    dir: &str,
    act: &Act,
    enabled: &[u32],
    (count, total): (u32, u32),
    script: Option<&Path>,
) -> Result<(), StepError> {
    let mut guards: Vec<GroupGuard> = Vec::new();
    for index in enabled {
        guards.extend(hold_vf(sysfs, dir, *index, &guards, act)?);
    }
    let vfs: Vec<PciAddress> = enabled.iter().filter_map(|index| vf_address(sysfs, dir, *index)).collect();
    sriov_manage::change(sysfs, act, &vfs, total, script)?;
    drop(guards);
    wait_until(LINKS_LIMIT, || vf_links(sysfs, dir).len() == count as usize);
    Ok(())
}

/// Refuses PFs whose driver has another way to make VFs than `sriov_numvfs`, before anything changes.
fn refuse_own_ways(sysfs: &Sysfs, dir: &str, act: &Act) -> Result<(), StepError> {
    match sysfs.link_name(&format!("{dir}/driver")).as_deref() {
        Some(GIM) => Err(StepError::NoDriver {
            act: act.clone(),
            reason: "driver gim makes its VFs when it is loaded, and never changes their number".to_owned(),
        }),
        _ => Ok(()),
    }
}

/// The old VFs are gone and the new ones were refused: the old count is written once more. Returns what to
/// tell: only why the change was refused when all is as before.
fn bring_back(sysfs: &Sysfs, dir: &str, act: &Act, enabled: &[u32], cause: StepError) -> StepError {
    let before = u32::try_from(enabled.len()).unwrap_or(u32::MAX);
    let Act::SetVfs { pf, .. } = act else { return cause };
    if before == 0 {
        return cause;
    }
    let back = write_count(sysfs, dir, act, before).and_then(|()| {
        wait_for_links(sysfs, dir, before);
        let vfs = vf_links(sysfs, dir).into_iter().filter_map(|index| vf_address(sysfs, dir, index));
        vfs.into_iter().try_for_each(|vf| bind_vf(sysfs, vf))
    });
    let left = u32::try_from(vf_links(sysfs, dir).len()).unwrap_or(u32::MAX);
    match back {
        Ok(()) if left == before => cause,
        _ => StepError::CutShort { pf: *pf, cause: Box::new(cause), before, left },
    }
}

/// Waits until all VFs are there, or as many as the driver made have stopped to change.
fn wait_for_links(sysfs: &Sysfs, dir: &str, count: u32) {
    let numvfs = format!("{dir}/sriov_numvfs");
    wait_until(LINKS_LIMIT, || {
        let links = vf_links(sysfs, dir).len();
        let stored = sysfs.read(&numvfs).ok().and_then(|text| text.parse::<usize>().ok());
        links == count as usize || (links > 0 && stored == Some(links))
    });
}

fn write_count(sysfs: &Sysfs, dir: &str, act: &Act, count: u32) -> Result<(), StepError> {
    let Err(error) = sysfs.write(&format!("{dir}/sriov_numvfs"), &count.to_string()) else { return Ok(()) };
    Err(match error.errno() {
        Some(Errno::ENOENT) => {
            let driver = sysfs.link_name(&format!("{dir}/driver"));
            let reason = driver.map_or_else(
                || "no driver is bound to the PF".to_owned(),
                |driver| format!("driver {driver} of the PF does not make VFs this way"),
            );
            StepError::NoDriver { act: act.clone(), reason }
        }
        _ => StepError::Kernel { act: act.clone(), source: error.into() },
    })
}

/// Makes sure that nobody uses a VF, and keeps it so while the guard lives. A group that one of
/// `guards` has is free already: where VFs share a group, one guard keeps them all.
fn hold_vf(
    sysfs: &Sysfs,
    pf_dir: &str,
    index: u32,
    guards: &[GroupGuard],
    act: &Act,
) -> Result<Option<GroupGuard>, StepError> {
    let Some(dir) = sysfs.link_path(&format!("{pf_dir}/virtfn{index}")) else { return Ok(None) };
    let device = format!("VF {}", dir.rsplit('/').next().unwrap_or_default());
    free_of_host(sysfs, &dir, &device)?;
    let group = iommu_group(sysfs, &dir);
    if guards.iter().any(|guard| Some(guard.group()) == group) {
        return Ok(None);
    }
    hold_free(sysfs, &dir, &device, act)
}

/// Refuses while the host uses the function, or mdevs exist on it: they would go with it, whoever made them.
fn free_of_host(sysfs: &Sysfs, dir: &str, device: &str) -> Result<(), StepError> {
    let mut holders = host_users(sysfs, dir);
    let mdevs = sysfs.list_optional("sys/bus/mdev/devices").unwrap_or_default();
    let here = mdevs.iter().filter(|uuid| sysfs.exists(&format!("{dir}/{uuid}")));
    holders.extend(here.map(|uuid| Holder {
        pid: 0,
        domain: None,
        name: format!("mdev {uuid}, which exists on it"),
    }));
    if holders.is_empty() { Ok(()) } else { Err(StepError::Held { device: device.to_owned(), holders }) }
}

/// Gives a VF to its VFIO driver; one that is there already is left alone.
///
/// # Errors
/// [`StepError::Held`] while the host or a guest uses it, [`StepError::Gone`],
/// [`StepError::NoDriver`], [`StepError::NotSo`], [`StepError::Kernel`].
pub fn bind_vf(sysfs: &Sysfs, vf: PciAddress) -> Result<(), StepError> {
    let device = format!("VF {vf}");
    let Some(dir) = sysfs.link_path(&format!("sys/bus/pci/devices/{vf}")) else {
        let act = Act::Bind { vf, driver: "its VFIO driver".to_owned() };
        return Err(StepError::Gone { act, what: device });
    };
    let driver = choose_driver(sysfs, &dir);
    let act = Act::Bind { vf, driver: driver.clone() };
    let current = sysfs.link_name(&format!("{dir}/driver"));
    if current.as_deref() != Some(driver.as_str()) {
        free_of_host(sysfs, &dir, &device)?;
        let guard = hold_free(sysfs, &dir, &device, &act)?;
        bind(sysfs, vf, &driver).map_err(|error| bind_error(error, &act))?;
        drop(guard);
    }
    let group = iommu_group(sysfs, &dir);
    let ready = || {
        let node = group.is_some_and(|group| sysfs.exists(&format!("dev/vfio/{group}")));
        node || sysfs.exists(&format!("{dir}/vfio-dev"))
    };
    if wait_until(NODE_LIMIT, ready) {
        Ok(())
    } else {
        let found = format!("driver {driver}, but neither vfio-dev nor a node in /dev/vfio");
        Err(StepError::NotSo { act, found })
    }
}

pub(super) fn bind_error(error: BindError, act: &Act) -> StepError {
    let act = act.clone();
    match error {
        BindError::Gone(vf) => StepError::Gone { act, what: format!("function {vf}") },
        BindError::NoDriver { .. } => StepError::NoDriver { act, reason: error.to_string() },
        BindError::Attribute(error) => StepError::Kernel { act, source: error.into() },
        BindError::NotBound { found, .. } => {
            let found = found.map_or_else(|| "no driver".to_owned(), |driver| format!("driver {driver}"));
            StepError::NotSo { act, found }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(class: &str, driver: &str, interface: Option<&str>) -> Vec<String> {
        let root = tempfile::tempdir().expect("directory");
        let at = |path: &str| root.path().join(path);
        std::fs::create_dir_all(at("vf")).expect("directory");
        std::os::unix::fs::symlink(format!("../drivers/{driver}"), at("vf/driver")).expect("link");
        let sysfs = Sysfs::new(root.path());
        #[expect(clippy::disallowed_methods, reason = "test fixture")]
        let write = |path: &str, text: &str| std::fs::write(at(path), text).expect("fixture");
        write("vf/class", class);
        if let Some(flags) = interface {
            std::fs::create_dir_all(at("vf/net/eth1")).expect("directory");
            write("vf/net/eth1/flags", flags);
        }
        host_users(&sysfs, "vf").into_iter().map(|holder| holder.name).collect()
    }

    #[test]
    fn an_interface_that_is_up_or_out_of_sight_keeps_a_vf() {
        assert_eq!(users("0x020000\n", "igbvf", Some("0x1003\n")), ["network interface eth1, which is up"]);
        assert_eq!(users("0x020000\n", "igbvf", None), ["a network interface in another network namespace"]);
        assert_eq!(users("0x020000\n", "igbvf", Some("0x1002\n")), [] as [&str; 0]);
        assert_eq!(users("0x020000\n", "vfio-pci", None), [] as [&str; 0]);
        assert_eq!(users("0x010802\n", "nvme", None), [] as [&str; 0]);
    }
}
