//! A whole GPU for one guest: its function, and those that go with it, on VFIO drivers while the guest runs.
//!
//! A guest gets IOMMU groups, not functions: all that can reach each other behind the IOMMU goes together. So a
//! GPU is given only when nothing else is in its group, with the audio function of its slot. The drivers that its
//! functions had before are put back afterwards. Interface: the kernel's Documentation/driver-api/vfio.rst,
//! drivers/vfio/vfio_main.c and Documentation/ABI/testing/sysfs-bus-pci (driver_override, bind, unbind).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::backend::error::{Act, StepError};
use crate::backend::mdev::{hold_free, iommu_group};
use crate::backend::sriov::{bind_error, numa_node};
use crate::model::{Gpu, HostDriver, IommuGroupId, Kind, PciAddress, PciFacts, Refusal, Vf, Whole};
use crate::sysfs::{Sysfs, SysfsError, wait_until};
use crate::vfio::{GroupGuard, Holders, bind, choose_driver, unbind};

const DEVICES: &str = "sys/bus/pci/devices";
const DRIVERS: &str = "sys/bus/pci/drivers";

/// How long udev or devtmpfs may take to make the group's node.
const NODE_LIMIT: Duration = Duration::from_secs(2);

/// Reads the GPU in `gpu.path` as one thing that a guest can have. `None` when it is no display controller (class
/// 0x03) or accelerator (0x12), or has no IOMMU group, without which VFIO gives nothing to anybody.
#[must_use]
pub fn scan(sysfs: &Sysfs, gpu: &Gpu, holders: &Holders) -> Option<Whole> {
    let pci = gpu.pci.as_ref().filter(|pci| matches!(pci.class >> 16, 0x03 | 0x12))?;
    let group = gpu.iommu_group?;
    let members = Members::read(sysfs, pci.address, group);
    let mut users: BTreeSet<_> = holders.of_device(sysfs, &gpu.path, Some(group)).into_iter().collect();
    let mut companions = Vec::new();
    let mut vfio = is_vfio(sysfs, &gpu.path, gpu.driver.as_deref());
    for (function, dir) in &members.companions {
        let driver = sysfs.link_name(&format!("{dir}/driver"));
        users.extend(holders.of_device(sysfs, dir, iommu_group(sysfs, dir)));
        vfio &= is_vfio(sysfs, dir, driver.as_deref());
        companions.push(HostDriver { function: *function, driver });
    }
    let refusal =
        slices(gpu).or_else(|| members.fault()).or_else(|| display(sysfs, gpu, pci)).or_else(|| {
            let own = HostDriver { function: pci.address, driver: gpu.driver.clone() };
            std::iter::once(&own).chain(&companions).find_map(|one| keeps_hold(sysfs, one))
        });
    let function = Vf {
        index: 0,
        address: pci.address,
        id: pci.id,
        driver: gpu.driver.clone(),
        vfio,
        iommu_group: Some(group),
        numa_node: numa_node(sysfs, &gpu.path),
        holders: users.into_iter().collect(),
        framebuffer: None,
        quantum: None,
        vgpu: None,
    };
    Some(Whole { function, companions, refusal })
}

/// A driver of the host can have the function; a VFIO driver has a `vfio-dev`, or before Linux 6.0 a telling name.
fn is_vfio(sysfs: &Sysfs, dir: &str, driver: Option<&str>) -> bool {
    driver.is_some_and(|driver| driver.contains("vfio")) || sysfs.exists(&format!("{dir}/vfio-dev"))
}

/// What goes with a GPU, and what is in its way.
#[derive(Debug, Default)]
struct Members {
    /// Functions that go with it and their directories, sorted by address.
    companions: Vec<(PciAddress, String)>,
    /// Functions of its group that are not the GPU's: the address and the class.
    foreign: Vec<(PciAddress, u32)>,
}

impl Members {
    /// Reads the group. What is in the GPU's slot and is a part of a graphics card goes with it; so does the audio
    /// function when it has a group of its own. Bridges in the group are no hindrance to VFIO.
    fn read(sysfs: &Sysfs, gpu: PciAddress, group: IommuGroupId) -> Self {
        let in_group = sysfs.list_optional(&format!("sys/kernel/iommu_groups/{group}/devices"));
        let in_group = in_group.unwrap_or_default().into_iter().filter_map(|name| name.parse().ok());
        let of_slot = (0..8).map(|function| PciAddress { function, ..gpu });
        let all: BTreeSet<PciAddress> = in_group.chain(of_slot).filter(|one| *one != gpu).collect();
        let mut members = Self::default();
        for address in all {
            let Some(dir) = sysfs.link_path(&format!("{DEVICES}/{address}")) else { continue };
            let text = sysfs.read(&format!("{dir}/class")).unwrap_or_default();
            let class =
                text.strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok()).unwrap_or(0);
            let own_slot = PciAddress { function: gpu.function, ..address } == gpu;
            match (iommu_group(sysfs, &dir) == Some(group), class >> 8) {
                (_, 0x0600 | 0x0604) => {}
                // Display, audio; USB and its power delivery, as cards with a USB-C socket have them.
                (true, 0x0300..=0x0380 | 0x0403 | 0x0c03 | 0x0c80) if own_slot => {
                    members.companions.push((address, dir));
                }
                (false, 0x0403) if own_slot => members.companions.push((address, dir)),
                (true, _) => members.foreign.push((address, class)),
                (false, _) => {}
            }
        }
        members
    }

    fn fault(&self) -> Option<String> {
        let (first, class) = self.foreign.first()?;
        let more = match self.foreign.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        Some(format!(
            "shares its IOMMU group with {first} (class {class:06x}){more}, which would go to the guest with it: another slot, \
             or a board with ACS on the port above, keeps them apart"
        ))
    }
}

/// A GPU is either divided or given whole.
fn slices(gpu: &Gpu) -> Option<String> {
    let vfs = gpu.sriov.as_ref().map_or(0, |sriov| sriov.enabled);
    if vfs > 0 {
        return Some(format!(
            "has {vfs} VFs, and is given whole only without any: vgpuctl vfs set {} 0 takes them away",
            gpu.name
        ));
    }
    let mdevs: usize = gpu.parents.iter().map(|parent| parent.mdevs.len()).sum();
    (mdevs > 0).then(|| format!("has {mdevs} mediated devices, and is given whole only without any"))
}

/// What the host shows on it. A GPU that was given to VFIO before, at boot say, shows nothing.
fn display(sysfs: &Sysfs, gpu: &Gpu, pci: &PciFacts) -> Option<String> {
    if is_vfio(sysfs, &gpu.path, gpu.driver.as_deref()) {
        return None;
    }
    for card in sysfs.list_optional(&format!("{}/drm", gpu.path)).unwrap_or_default() {
        let at = format!("{}/drm/{card}", gpu.path);
        let connectors = sysfs.list_optional(&at).unwrap_or_default();
        let lit = connectors.iter().find_map(|name| {
            let connector = name.strip_prefix(&format!("{card}-"))?;
            let state = sysfs.read(&format!("{at}/{name}/enabled")).ok()?;
            (state == "enabled").then_some(connector)
        });
        if let Some(connector) = lit {
            return Some(format!(
                "shows a picture on {connector}: a guest would take it away; end the display server, or unplug the monitor"
            ));
        }
    }
    // 3D controllers and accelerators have no such attribute.
    if sysfs.read(&format!("{}/boot_vga", gpu.path)).ok()? != "1" {
        return None;
    }
    let console = console(sysfs, &gpu.path)?;
    Some(format!(
        "is the GPU of the firmware's screen (boot_vga), with the host's console on {console}: choose the other one as first in \
         the firmware, or give this one to VFIO at boot (vfio-pci.ids={} on the kernel's command line)",
        pci.id
    ))
}

/// The frame buffer device of the boot GPU in `dir`: its driver's, or the one that the kernel took over from the firmware.
/// A host without any has no console there, although one of its GPUs is always the boot GPU.
fn console(sysfs: &Sysfs, dir: &str) -> Option<String> {
    let own = sysfs.list_optional(&format!("{dir}/graphics")).unwrap_or_default();
    let all = sysfs.list_optional("sys/class/graphics").unwrap_or_default();
    let platform = |name: &String| {
        let at = sysfs.link_path(&format!("sys/class/graphics/{name}"));
        at.is_some_and(|at| at.starts_with("sys/devices/platform/"))
    };
    own.into_iter().chain(all.into_iter().filter(platform)).find(|name| name.starts_with("fb"))
}

/// A driver whose module says so has no `unbind` (suppress_bind_attrs in drivers/base/bus.c); `uevent` tells that its
/// directory can be read at all.
fn keeps_hold(sysfs: &Sysfs, one: &HostDriver) -> Option<String> {
    let driver = one.driver.as_ref()?;
    let at = format!("{DRIVERS}/{driver}");
    let kept = sysfs.exists(&format!("{at}/uevent")) && !sysfs.exists(&format!("{at}/unbind"));
    kept.then(|| format!("is on driver {driver} ({}), which lets no function go", one.function))
}

/// Gives a whole GPU to VFIO drivers. What is there already stays. A refusal half way is undone.
///
/// # Errors
/// [`StepError::NotWhole`] and [`StepError::Held`] before anything changes; [`StepError::Gone`],
/// [`StepError::NoDriver`], [`StepError::Kernel`] when all is as before; [`StepError::NotSo`] when it is not.
pub fn take(sysfs: &Sysfs, gpu: PciAddress, functions: &[HostDriver]) -> Result<(), StepError> {
    let act = Act::TakeGpu { gpu };
    refuse_unfit(sysfs, gpu, &act)?;
    let guards = hold_all(sysfs, functions, &act)?;
    let taken = functions.iter().try_for_each(|one| take_one(sysfs, one.function));
    drop(guards);
    let Err(cause) = taken.and_then(|()| await_nodes(sysfs, functions, &act)) else { return Ok(()) };
    match functions.iter().rev().try_for_each(|one| return_one(sysfs, gpu, one)) {
        Ok(()) => Err(cause),
        Err(undo) => {
            let chain = |error: &StepError| Refusal::from_error(Kind::HostFault, error).message;
            let found = format!("{}, and it could not be undone: {}", chain(&cause), chain(&undo));
            Err(StepError::NotSo { act, found })
        }
    }
}

/// The host may have changed since the choice was made.
fn refuse_unfit(sysfs: &Sysfs, gpu: PciAddress, act: &Act) -> Result<(), StepError> {
    let Some(dir) = sysfs.link_path(&format!("{DEVICES}/{gpu}")) else {
        return Err(StepError::Gone { act: act.clone(), what: format!("GPU {gpu}") });
    };
    let unfit = |reason: String| StepError::NotWhole { gpu, reason };
    let group = iommu_group(sysfs, &dir);
    let group = group.ok_or_else(|| {
        unfit(
            "has no IOMMU group: turn the IOMMU on in the firmware and the kernel (intel_iommu=on)"
                .to_owned(),
        )
    })?;
    let vfs = sysfs.list_optional(&dir).unwrap_or_default();
    if vfs.iter().any(|name| name.starts_with("virtfn")) {
        return Err(unfit(format!("has VFs: vgpuctl vfs set {gpu} 0 takes them away")));
    }
    match Members::read(sysfs, gpu, group).fault() {
        Some(reason) => Err(unfit(reason)),
        None => Ok(()),
    }
}

/// Makes sure that nobody has one of the functions, and keeps it so for those that have a group node.
fn hold_all(sysfs: &Sysfs, functions: &[HostDriver], act: &Act) -> Result<Vec<GroupGuard>, StepError> {
    let mut guards: Vec<GroupGuard> = Vec::new();
    for HostDriver { function, .. } in functions {
        let Some(dir) = sysfs.link_path(&format!("{DEVICES}/{function}")) else { continue };
        let group = iommu_group(sysfs, &dir);
        if guards.iter().any(|guard| Some(guard.group()) == group) {
            continue;
        }
        guards.extend(hold_free(sysfs, &dir, &format!("GPU function {function}"), act)?);
    }
    // A function of the host has no group node: who has its own nodes open is looked up once more.
    let holders = Holders::scan(sysfs);
    for HostDriver { function, .. } in functions {
        let Some(dir) = sysfs.link_path(&format!("{DEVICES}/{function}")) else { continue };
        let users: Vec<_> = holders.of_device(sysfs, &dir, None);
        if !users.is_empty() {
            return Err(StepError::Held { device: format!("GPU function {function}"), holders: users });
        }
    }
    Ok(guards)
}

fn take_one(sysfs: &Sysfs, function: PciAddress) -> Result<(), StepError> {
    let Some(dir) = sysfs.link_path(&format!("{DEVICES}/{function}")) else {
        let act = Act::Bind { vf: function, driver: "its VFIO driver".to_owned() };
        return Err(StepError::Gone { act, what: format!("function {function}") });
    };
    if is_vfio(sysfs, &dir, sysfs.link_name(&format!("{dir}/driver")).as_deref()) {
        return Ok(());
    }
    let driver = choose_driver(sysfs, &dir);
    let act = Act::Bind { vf: function, driver: driver.clone() };
    bind(sysfs, function, &driver).map_err(|error| bind_error(error, &act))
}

fn await_nodes(sysfs: &Sysfs, functions: &[HostDriver], act: &Act) -> Result<(), StepError> {
    let ready = |one: &HostDriver| {
        let dir = format!("{DEVICES}/{}", one.function);
        let group = iommu_group(sysfs, &dir);
        sysfs.exists(&format!("{dir}/vfio-dev"))
            || group.is_some_and(|group| sysfs.exists(&format!("dev/vfio/{group}")))
    };
    match functions.iter().find(|one| !wait_until(NODE_LIMIT, || ready(one))) {
        None => Ok(()),
        Some(one) => {
            let found =
                format!("{} on its VFIO driver, but neither vfio-dev nor a node in /dev/vfio", one.function);
            Err(StepError::NotSo { act: act.clone(), found })
        }
    }
}

/// Gives the functions of a GPU back to the drivers that they had. One that is there already stays; one whose driver
/// is not loaded any more stays without one.
///
/// # Errors
/// [`StepError::Held`] while a guest has it; [`StepError::Kernel`] and [`StepError::NotSo`] when a driver of the host does
/// not take its function again.
pub fn give_back(sysfs: &Sysfs, gpu: PciAddress, functions: &[HostDriver]) -> Result<(), StepError> {
    let act = Act::TakeGpu { gpu };
    let moved: Vec<HostDriver> = functions.iter().filter(|one| !is_home(sysfs, one)).cloned().collect();
    let guards = hold_groups(sysfs, &moved, &act)?;
    for one in moved.iter().rev() {
        let Some(dir) = sysfs.link_path(&format!("{DEVICES}/{}", one.function)) else { continue };
        let wrong = |error: SysfsError| StepError::Kernel { act: return_act(gpu, one), source: error.into() };
        // The kernel clears it on an empty line.
        sysfs.write(&format!("{dir}/driver_override"), "\n").map_err(wrong)?;
        let current = sysfs.link_name(&format!("{dir}/driver"));
        if current.is_some() && current != one.driver {
            unbind(sysfs, one.function, &dir).map_err(wrong)?;
        }
    }
    // A group whose node is open is no hindrance, but a driver of the host shall find it closed.
    drop(guards);
    moved.iter().try_for_each(|one| return_one(sysfs, gpu, one))
}

/// As [`hold_all`], of functions that a guest may have: who has nodes of the host open does not matter.
fn hold_groups(sysfs: &Sysfs, functions: &[HostDriver], act: &Act) -> Result<Vec<GroupGuard>, StepError> {
    let mut guards: Vec<GroupGuard> = Vec::new();
    for HostDriver { function, .. } in functions {
        let Some(dir) = sysfs.link_path(&format!("{DEVICES}/{function}")) else { continue };
        let group = iommu_group(sysfs, &dir);
        let known = guards.iter().any(|guard| Some(guard.group()) == group);
        if !known && is_vfio(sysfs, &dir, sysfs.link_name(&format!("{dir}/driver")).as_deref()) {
            guards.extend(hold_free(sysfs, &dir, &format!("GPU function {function}"), act)?);
        }
    }
    Ok(guards)
}

fn return_act(gpu: PciAddress, one: &HostDriver) -> Act {
    Act::ReturnGpu { gpu, function: one.function, driver: one.driver.clone() }
}

/// A function that has its driver, and that no later event would take from it, is where it belongs.
fn is_home(sysfs: &Sysfs, one: &HostDriver) -> bool {
    let dir = format!("{DEVICES}/{}", one.function);
    let named = sysfs.read(&format!("{dir}/driver_override")).is_ok_and(|text| text.contains("vfio"));
    !named && sysfs.link_name(&format!("{dir}/driver")) == one.driver
}

/// Brings one function back to its driver.
fn return_one(sysfs: &Sysfs, gpu: PciAddress, one: &HostDriver) -> Result<(), StepError> {
    let Some(dir) = sysfs.link_path(&format!("{DEVICES}/{}", one.function)) else { return Ok(()) };
    let act = return_act(gpu, one);
    let wrong = |error: SysfsError| StepError::Kernel { act: act.clone(), source: error.into() };
    if !is_home(sysfs, one) {
        sysfs.write(&format!("{dir}/driver_override"), "\n").map_err(wrong)?;
    }
    let current = || sysfs.link_name(&format!("{dir}/driver"));
    if current() == one.driver {
        return Ok(());
    }
    if current().is_some() {
        unbind(sysfs, one.function, &dir).map_err(wrong)?;
    }
    let Some(driver) = &one.driver else { return Ok(()) };
    if !sysfs.exists(&format!("{DRIVERS}/{driver}")) {
        tracing::debug!(function = %one.function, %driver, "its driver is not loaded any more, it stays without one");
        return Ok(());
    }
    sysfs.write(&format!("{DRIVERS}/{driver}/bind"), &one.function.to_string()).map_err(wrong)?;
    match current() {
        found if found == one.driver => Ok(()),
        found => {
            let found = found.map_or_else(|| "no driver".to_owned(), |driver| format!("driver {driver}"));
            Err(StepError::NotSo { act: act.clone(), found })
        }
    }
}
