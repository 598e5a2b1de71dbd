//! The host that this runs on.
#![expect(unsafe_code, reason = "a guest's ioctls: put the group into a container, ask for the device")]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc::c_ulong;
use nix::sys::stat::Mode;
use vfio_bindings::bindings::vfio::{VFIO_BASE, VFIO_TYPE, VFIO_TYPE1_IOMMU};
use vmm_sys_util::ioctl::{_IOC_NONE, ioctl_expr, ioctl_with_ptr, ioctl_with_ref, ioctl_with_val};

use super::program::{Host, node};

/// How long a thread must be where threads wait for a guest, or for a lock that a sleeper has.
const SEEN_WAITING: Duration = Duration::from_millis(60);
const SEEN_LOCKED: Duration = Duration::from_millis(250);

/// Functions of the kernel in which somebody waits until a device is given back.
const WAITING: &[&str] = &["vfio_unregister_group_dev"];
/// And in which somebody waits for the lock of one who does. The lock's own functions are not in the stack, so
/// these count only where they stand on top.
const LOCKED: &[&str] = &[
    "device_release_driver_internal",
    "device_driver_attach",
    "__device_attach",
    "__driver_attach",
    "driver_set_override",
    "driver_override_show",
    "sriov_numvfs_store",
    "sriov_numvfs_show",
    "pci_lock_rescan_remove",
    "__kernfs_remove",
    "kernfs_drain",
];

#[derive(Debug, Default)]
pub(crate) struct Real {
    /// Descriptors of device, group and container; they are closed in this order.
    held: BTreeMap<String, [OwnedFd; 3]>,
    /// Where threads wait, since when.
    seen: BTreeMap<i32, (String, Duration)>,
}

impl Host for Real {
    fn root(&self) -> &Path {
        Path::new("/")
    }

    fn sleeps(&mut self, thread: i32, others: usize, since: Duration) -> bool {
        let stack = std::fs::read_to_string(format!("/proc/self/task/{thread}/stack")).unwrap_or_default();
        let top = stack.lines().next().unwrap_or_default();
        let least = if WAITING.iter().any(|place| stack.contains(place)) {
            SEEN_WAITING
        } else if others > 0 && LOCKED.iter().any(|place| top.contains(place)) {
            SEEN_LOCKED
        } else {
            self.seen.remove(&thread);
            return false;
        };
        let (place, began) = self.seen.entry(thread).or_insert_with(|| (stack.clone(), since));
        if *place != stack || *began > since {
            (*place, *began) = (stack, since);
        }
        since.saturating_sub(*began) >= least
    }

    fn hold(&mut self, device: &str) -> Result<(), Errno> {
        let group = open(&node(self.root(), device)?, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        let container = open("/dev/vfio/vfio", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        let request =
            |number: u32| -> c_ulong { ioctl_expr(_IOC_NONE, VFIO_TYPE.into(), VFIO_BASE + number, 0) };
        let raw = container.as_raw_fd();
        // SAFETY: VFIO_GROUP_SET_CONTAINER (linux/vfio.h: 100 + 4) reads one `int` behind the pointer.
        Errno::result(unsafe { ioctl_with_ref(&group, request(4), &raw) })?;
        // SAFETY: VFIO_SET_IOMMU (100 + 2) takes its argument by value.
        Errno::result(unsafe { ioctl_with_val(&container, request(2), VFIO_TYPE1_IOMMU.into()) })?;
        let name = CString::new(device).map_err(|_| Errno::EINVAL)?;
        // SAFETY: VFIO_GROUP_GET_DEVICE_FD (100 + 6) reads a string that ends with a zero byte.
        let fd = Errno::result(unsafe { ioctl_with_ptr(&group, request(6), name.as_ptr()) })?;
        // SAFETY: the ioctl has just made this descriptor, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        self.held.insert(device.to_owned(), [fd, group, container]);
        Ok(())
    }

    fn release(&mut self, device: &str) {
        drop(self.held.remove(device));
    }

    /// The kernel does it at once.
    fn closed(&mut self, _open: usize) {}
}
