//! Holding a group node, so that nobody else can.
#![expect(unsafe_code, reason = "the one ioctl that asks a group for its state")]

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use vfio_bindings::bindings::vfio::{VFIO_BASE, VFIO_GROUP_FLAGS_VIABLE, VFIO_TYPE, vfio_group_status};
use vmm_sys_util::ioctl::{_IOC_NONE, ioctl_expr, ioctl_with_mut_ref};

use crate::model::IommuGroupId;
use crate::sysfs::Sysfs;

/// Why a group node could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// Somebody has it open, or a device of it through its own node.
    #[error("IOMMU group {0} is in use")]
    Held(IommuGroupId),
    /// There is no node: no device of the group is on a VFIO driver, or the kernel has only device nodes.
    #[error("IOMMU group {0} has no node in /dev/vfio")]
    Absent(IommuGroupId),
    /// The kernel refused for another reason.
    #[error("cannot open {path}")]
    Open {
        /// The node.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
}

/// An open group node: while it lives, no guest can take a device of the group.
///
/// Writing `remove`, `unbind` or a VF count of 0 under it succeeds at once (seen on Linux 6.12).
#[derive(Debug)]
pub struct GroupGuard {
    group: IommuGroupId,
    node: OwnedFd,
}

impl GroupGuard {
    /// Opens the group's node. Does not open, and so does not reset, any device of it.
    ///
    /// # Errors
    /// [`GuardError::Held`] when a guest has it: trying again can help. [`GuardError::Absent`] when
    /// there is nothing to open.
    pub fn open(sysfs: &Sysfs, group: IommuGroupId) -> Result<Self, GuardError> {
        let path = sysfs.path(&format!("dev/vfio/{group}"));
        match open(&path, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(node) => Ok(Self { group, node }),
            Err(Errno::EBUSY) => Err(GuardError::Held(group)),
            Err(Errno::ENOENT | Errno::ENXIO | Errno::ENODEV) => Err(GuardError::Absent(group)),
            Err(source) => Err(GuardError::Open { path, source }),
        }
    }

    /// Returns the group.
    #[must_use]
    pub const fn group(&self) -> IommuGroupId {
        self.group
    }

    /// Returns whether every device of the group is on a VFIO driver or on none; `None` when the node
    /// does not say (a rehearsal's node is no VFIO node).
    #[must_use]
    pub fn is_viable(&self) -> Option<bool> {
        let size = u32::try_from(size_of::<vfio_group_status>()).ok()?;
        let mut status = vfio_group_status { argsz: size, flags: 0 };
        group_get_status(&self.node, &mut status).ok()?;
        Some(status.flags & VFIO_GROUP_FLAGS_VIABLE != 0)
    }
}

fn group_get_status(node: &OwnedFd, status: &mut vfio_group_status) -> Result<(), Errno> {
    let request = ioctl_expr(_IOC_NONE, VFIO_TYPE.into(), VFIO_BASE + 3, 0);
    debug_assert!(node.as_raw_fd() >= 0, "an owned descriptor is open");
    // SAFETY: the request is VFIO_GROUP_GET_STATUS (linux/vfio.h: type ';', 100 + 3, no size), whose
    // argument is a `vfio_group_status`. The reference is valid and exclusive for the call, its
    // `argsz` is its size, and the kernel writes no more than `argsz` bytes. The descriptor is open
    // because `node` is borrowed. JUSTIFICATION: no safe wrapper for this ioctl exists in our
    // dependencies.
    let answer = unsafe { ioctl_with_mut_ref(node, request, status) };
    Errno::result(answer).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_without_node_is_absent_and_a_plain_file_does_not_say_whether_it_is_viable() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let sysfs = Sysfs::new(dir.path());
        assert!(matches!(
            GroupGuard::open(&sysfs, IommuGroupId(7)),
            Err(GuardError::Absent(IommuGroupId(7)))
        ));
        std::fs::create_dir_all(dir.path().join("dev/vfio")).expect("directory");
        drop(std::fs::File::create(dir.path().join("dev/vfio/7")).expect("node"));
        let guard = GroupGuard::open(&sysfs, IommuGroupId(7)).expect("free");
        assert_eq!((guard.group(), guard.is_viable()), (IommuGroupId(7), None));
    }

    #[test]
    fn other_errors_keep_errno() {
        let dir = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir_all(dir.path().join("dev/vfio/7")).expect("directory in the node's place");
        match GroupGuard::open(&Sysfs::new(dir.path()), IommuGroupId(7)) {
            Err(GuardError::Open { source, .. }) => assert_eq!(source, Errno::EISDIR),
            other => panic!("{other:?}"),
        }
    }
}
