//! Mediated devices: made by writing a UUID into a type's `create`, on any parent.
//!
//! Interface: the kernel's Documentation/ABI/testing/sysfs-bus-vfio-mdev and drivers/vfio/mdev.

mod describe;

use std::collections::BTreeMap;

use nix::errno::Errno;

use crate::backend::error::{Act, StepError};
use crate::backend::plugin;
use crate::model::{DeviceName, Holder, IommuGroupId, Mdev, MdevParent, MdevType, MdevTypeId, MdevUuid};
use crate::sysfs::{Sysfs, SysfsError};
use crate::vfio::{GroupGuard, GuardError, Holders, Node};

const DEVICES: &str = "sys/bus/mdev/devices";
const PARENTS: &str = "sys/class/mdev_bus";

/// The mdevs of the host by the directory of their parent; each list sorted by UUID.
pub type MdevsByParent = BTreeMap<String, Vec<Mdev>>;

/// What never differs between two parents on one GPU: read once for each type id.
pub type TypeFacts = BTreeMap<String, MdevType>;

/// Reads the mdevs of the host whose parent's directory is `wanted`. Entries that cannot be understood become problems.
#[must_use]
pub fn scan_devices(
    sysfs: &Sysfs,
    holders: &Holders,
    wanted: impl Fn(&str) -> bool,
    problems: &mut Vec<String>,
) -> MdevsByParent {
    let mut all = MdevsByParent::new();
    for name in sysfs.list_optional(DEVICES).unwrap_or_default() {
        let link = format!("{DEVICES}/{name}");
        let Some(dir) = sysfs.link_path(&link) else { continue };
        let Some((parent, _)) = dir.rsplit_once('/').filter(|(parent, _)| wanted(parent)) else { continue };
        match read_device(sysfs, &name, &dir, holders) {
            Some(mdev) => all.entry(parent.to_owned()).or_default().push(mdev),
            // It may be going away right now; what stays shows up in the next reading, too.
            None => problems.push(format!("mdev {name} has no UUID for a name or no mdev_type")),
        }
    }
    all
}

fn read_device(sysfs: &Sysfs, name: &str, dir: &str, holders: &Holders) -> Option<Mdev> {
    let uuid = name.parse().ok()?;
    let mdev_type = sysfs.link_name(&format!("{dir}/mdev_type"))?.parse().ok()?;
    let iommu_group = iommu_group(sysfs, dir);
    let holders = holders.of_device(sysfs, dir, iommu_group);
    let parameters = plugin::read(sysfs, dir);
    Some(Mdev { uuid, mdev_type, iommu_group, holders, parameters })
}

/// Reads the IOMMU group of the device in `dir`.
#[must_use]
pub fn iommu_group(sysfs: &Sysfs, dir: &str) -> Option<IommuGroupId> {
    sysfs.link_name(&format!("{dir}/iommu_group"))?.parse().ok().map(IommuGroupId)
}

/// Reads the types that the device in `dir` offers. `known` holds the unchanging facts of the types
/// met on the same GPU before, so that of 32 VFs with the same types each is described once.
///
/// # Errors
/// When the directory of types cannot be listed; a type that cannot be read becomes a problem.
pub fn scan_parent(
    sysfs: &Sysfs,
    dir: &str,
    known: &mut TypeFacts,
    mdevs: Vec<Mdev>,
    problems: &mut Vec<String>,
) -> Result<Option<MdevParent>, SysfsError> {
    let types_dir = format!("{dir}/mdev_supported_types");
    let Some(name) = dir.rsplit('/').next().and_then(|name| name.parse().ok()) else { return Ok(None) };
    let mut types = Vec::new();
    for id in sysfs.list(&types_dir)? {
        match scan_type(sysfs, &format!("{types_dir}/{id}"), &id, known) {
            Ok(Some(mdev_type)) => types.push(mdev_type),
            Ok(None) => problems.push(format!("type {id:?} of {dir} has an unusual name, skipping it")),
            Err(error) => problems
                .push(crate::model::Refusal::from_error(crate::model::Kind::HostFault, &error).message),
        }
    }
    Ok(Some(MdevParent { name, path: dir.to_owned(), types, mdevs }))
}

fn scan_type(
    sysfs: &Sysfs,
    dir: &str,
    id: &str,
    known: &mut TypeFacts,
) -> Result<Option<MdevType>, SysfsError> {
    let available = sysfs.read(&format!("{dir}/available_instances"))?.parse().unwrap_or(0);
    if let Some(facts) = known.get(id) {
        return Ok(Some(MdevType { available, ..facts.clone() }));
    }
    let Ok(type_id) = id.parse::<MdevTypeId>() else { return Ok(None) };
    let read = |attribute: &str| -> Result<Option<String>, SysfsError> {
        let text = sysfs.read_optional(&format!("{dir}/{attribute}"))?;
        Ok(text.map(|text| describe::printable(&text)).filter(|text| !text.is_empty()))
    };
    // A description may have several lines; these two stand in tables and messages.
    let line = |text: String| text.replace('\n', " ");
    let name = read("name")?.map(line);
    let device_api = read("device_api")?.map(line).unwrap_or_default();
    let description = read("description")?;
    let facts = describe::parse(description.as_deref().unwrap_or_default());
    let mdev_type = MdevType {
        id: type_id,
        name: name.unwrap_or_else(|| id.to_owned()),
        // NVIDIA's guides print `vfio_pci`; the kernel's word has a hyphen.
        device_api: device_api.replace('_', "-"),
        description,
        framebuffer: facts.framebuffer,
        heads: facts.heads,
        max_instances: facts.max_instances,
        available,
    };
    known.insert(id.to_owned(), mdev_type.clone());
    Ok(Some(mdev_type))
}

/// Makes an mdev and reads back that it is on that parent with that type.
///
/// # Errors
/// [`StepError::Exists`], [`StepError::NoRoom`] (EUSERS, ENOSPC), [`StepError::Gone`],
/// [`StepError::NotSo`], or [`StepError::Kernel`].
pub fn create(
    sysfs: &Sysfs,
    parent: &DeviceName,
    mdev_type: &MdevTypeId,
    uuid: MdevUuid,
) -> Result<(), StepError> {
    let act = Act::Create { parent: parent.clone(), mdev_type: mdev_type.clone(), uuid };
    let gone = |what: String| StepError::Gone { act: act.clone(), what };
    let Some(dir) = parent_dir(sysfs, parent) else { return Err(gone(format!("mdev parent {parent}"))) };
    let attribute = format!("{dir}/mdev_supported_types/{mdev_type}/create");
    if let Err(error) = sysfs.write(&attribute, &uuid.to_string()) {
        return Err(match error.errno() {
            Some(Errno::EEXIST) => StepError::Exists { uuid, source: error.into() },
            Some(Errno::EUSERS | Errno::ENOSPC) => StepError::NoRoom {
                parent: parent.clone(),
                mdev_type: mdev_type.clone(),
                source: error.into(),
            },
            Some(Errno::ENOENT) => gone(format!("type {mdev_type} of {parent}")),
            Some(Errno::ENODEV) => gone(format!("mdev parent {parent} (it is unregistering)")),
            _ => StepError::Kernel { act, source: error.into() },
        });
    }
    verify_created(sysfs, &dir, mdev_type, uuid).map_err(|found| StepError::NotSo { act, found })
}

/// The directory of a parent, by the class link or, where there is no class, by its PCI address.
fn parent_dir(sysfs: &Sysfs, parent: &DeviceName) -> Option<String> {
    let in_class = sysfs.link_path(&format!("{PARENTS}/{parent}"));
    in_class.or_else(|| sysfs.link_path(&format!("sys/bus/pci/devices/{parent}")))
}

fn verify_created(sysfs: &Sysfs, parent: &str, mdev_type: &MdevTypeId, uuid: MdevUuid) -> Result<(), String> {
    let link = format!("{DEVICES}/{uuid}");
    let dir = sysfs.link_path(&link).ok_or_else(|| format!("no /{link}"))?;
    if dir != format!("{parent}/{uuid}") {
        return Err(format!("it in /{dir}"));
    }
    match sysfs.link_name(&format!("{dir}/mdev_type")) {
        Some(found) if found == mdev_type.as_str() => Ok(()),
        Some(found) => Err(format!("type {found}")),
        None => Err("no mdev_type".to_owned()),
    }
}

/// Takes an mdev away, unless somebody has it open, and reads back that it is gone. One that is gone
/// already is success.
///
/// The group's node is held open meanwhile, so that no guest can take the device between the question
/// and the write. Without a group node the open files of all processes are searched instead; what
/// opens it after that makes the write sleep until it is closed.
///
/// # Errors
/// [`StepError::Held`], [`StepError::NotSo`], or [`StepError::Kernel`].
pub fn remove(sysfs: &Sysfs, uuid: MdevUuid) -> Result<(), StepError> {
    let act = Act::Remove { uuid };
    let link = format!("{DEVICES}/{uuid}");
    if !sysfs.exists(&link) {
        return Ok(());
    }
    let guard = hold_free(sysfs, &link, &uuid.to_string(), &act)?;
    let written = sysfs.write(&format!("{link}/remove"), "1");
    drop(guard);
    match written {
        // ENOENT: somebody else removes it. ENODEV: its parent is unregistering.
        Err(error) if !matches!(error.errno(), Some(Errno::ENOENT | Errno::ENODEV)) => {
            return Err(StepError::Kernel { act, source: error.into() });
        }
        _ => {}
    }
    if sysfs.wait_gone(&link) {
        Ok(())
    } else {
        Err(StepError::NotSo { act, found: format!("it still in /{DEVICES}") })
    }
}

/// Makes sure that nobody has the device in `dir` open, and keeps it so while the guard lives.
/// `None`: it has no group node, and no process was seen with it.
pub(super) fn hold_free(
    sysfs: &Sysfs,
    dir: &str,
    device: &str,
    act: &Act,
) -> Result<Option<GroupGuard>, StepError> {
    let held = |holders| StepError::Held { device: device.to_owned(), holders };
    let group = iommu_group(sysfs, dir);
    match group.map(|group| GroupGuard::open(sysfs, group)) {
        Some(Ok(guard)) => Ok(Some(guard)),
        Some(Err(GuardError::Held(group))) => Err(held(who(sysfs, dir, group))),
        None | Some(Err(GuardError::Absent(_))) => match Holders::scan(sysfs).of_device(sysfs, dir, group) {
            holders if holders.is_empty() => Ok(None),
            holders => Err(held(holders)),
        },
        Some(Err(error @ GuardError::Open { source, .. })) => {
            let text = crate::model::Refusal::from_error(crate::model::Kind::HostFault, &error).message;
            let source = super::Cause { text, errno: Some(source as i32) };
            Err(StepError::Kernel { act: act.clone(), source })
        }
    }
}

fn who(sysfs: &Sysfs, dir: &str, group: IommuGroupId) -> Vec<Holder> {
    let holders = Holders::scan(sysfs);
    match holders.of_device(sysfs, dir, Some(group)) {
        found if found.is_empty() => holders.of(&Node::Group(group)).to_vec(),
        found => found,
    }
}
