//! The kernel's announcements that devices come, go or change. Says "look again", never acts.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, setsockopt, socket, sockopt,
};

/// Group of messages that come from the kernel itself, before udev's rules.
const KERNEL_GROUP: u32 = 1;
/// Enabling 32 VFs sends some hundreds of messages at once.
const BUFFER_BYTES: usize = 4 << 20;
/// Longest message: the kernel's own limit is 2 KiB of properties and a path.
const MESSAGE_BYTES: usize = 16 * 1024;

/// One announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A device came, went or changed.
    Device {
        /// `add`, `remove`, `change`, `bind`, `unbind`, `move`, `online`, `offline`.
        action: String,
        /// Directory below `/sys`, with a leading slash.
        devpath: String,
        /// Everything else the kernel says, e.g. `SUBSYSTEM`, `PCI_SLOT_NAME`, `MDEV_STATE`.
        properties: BTreeMap<String, String>,
    },
    /// Messages were lost: everything may have changed.
    Overflow,
}

/// The socket that hears the kernel's announcements.
#[derive(Debug)]
pub struct Listener {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Kernel(OwnedFd),
    /// Messages in the kernel's form, from whoever plays the kernel.
    Rehearsal(UnixDatagram),
}

impl Listener {
    /// Opens the socket with a large buffer; without the right to a large one, with the largest allowed.
    ///
    /// # Errors
    /// What socket(2) and bind(2) say.
    pub fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkKObjectUEvent,
        )?;
        if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES).is_err() {
            // An overflow is noticed and answered by a rescan, so a small buffer only costs time.
            let _ = setsockopt(&socket, sockopt::RcvBuf, &BUFFER_BYTES);
        }
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP))?;
        Ok(Self { source: Source::Kernel(socket) })
    }

    /// Opens a socket at `path` instead, for a rehearsal: each datagram is a message as the kernel sends it.
    ///
    /// # Errors
    /// When the socket cannot be made there.
    pub fn rehearse(path: &Path) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self { source: Source::Rehearsal(UnixDatagram::bind(path)?) })
    }

    /// Waits for the next announcement. Messages that are not the kernel's or make no sense are skipped.
    ///
    /// # Errors
    /// What recvfrom(2) says, except ENOBUFS, which is [`Event::Overflow`].
    pub fn next(&self) -> io::Result<Event> {
        let mut buffer = [0u8; MESSAGE_BYTES];
        loop {
            let socket = match &self.source {
                Source::Kernel(socket) => socket,
                Source::Rehearsal(socket) => {
                    let length = socket.recv(&mut buffer)?;
                    match parse(&buffer[..length]) {
                        Some(event) => return Ok(event),
                        None => continue,
                    }
                }
            };
            match recvfrom::<NetlinkAddr>(socket.as_raw_fd(), &mut buffer) {
                Err(Errno::ENOBUFS) => return Ok(Event::Overflow),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
                // Port 0 is the kernel; any root process could send to the group.
                Ok((length, Some(sender))) if sender.pid() == 0 => {
                    if let Some(event) = parse(&buffer[..length]) {
                        return Ok(event);
                    }
                }
                Ok(_) => {}
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::Kernel(socket) => socket.as_fd(),
            Source::Rehearsal(socket) => socket.as_fd(),
        }
    }
}

/// Reads `action@devpath\0KEY=VALUE\0…`. `None` when there is no such head.
#[must_use]
pub fn parse(message: &[u8]) -> Option<Event> {
    let mut fields = message.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let head = fields.next()?;
    let (action, devpath) = head.split_once('@')?;
    if action.is_empty() || !devpath.starts_with('/') {
        return None;
    }
    let properties = fields
        .filter_map(|field| field.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())))
        .collect();
    Some(Event::Device { action: action.to_owned(), devpath: devpath.to_owned(), properties })
}

/// Returns whether the host should be looked at again because of this event: a PCI function, an
/// mdev, a VFIO device, or a parent that says that it offers mdev types (`MDEV_STATE`).
#[must_use]
pub fn concerns_us(event: &Event) -> bool {
    match event {
        Event::Overflow => true,
        Event::Device { properties, .. } => {
            let subsystem = properties.get("SUBSYSTEM").map(String::as_str);
            matches!(subsystem, Some("pci" | "mdev" | "vfio" | "vfio-dev"))
                || properties.contains_key("MDEV_STATE")
        }
    }
}

/// Returns whether a parent may have come, gone or changed because of this event: a PCI function, a device
/// that says that it offers mdev types, or anything after messages were lost. Slices alone are none.
#[must_use]
pub fn concerns_parents(event: &Event) -> bool {
    match event {
        Event::Overflow => true,
        Event::Device { properties, .. } => {
            properties.get("SUBSYSTEM").is_some_and(|name| name == "pci")
                || properties.contains_key("MDEV_STATE")
        }
    }
}

/// Returns the device, by its name in sysfs, to which a driver was bound by this event, or that registered as a
/// parent of mediated devices.
#[must_use]
pub fn renewed_device(event: &Event) -> Option<&str> {
    let Event::Device { action, devpath, properties } = event else { return None };
    let is_pci = properties.get("SUBSYSTEM").is_some_and(|name| name == "pci");
    let registered = properties.get("MDEV_STATE").is_some_and(|state| state == "registered");
    ((action == "bind" && is_pci) || registered).then(|| devpath.rsplit('/').next()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_parent_that_registers_concerns_us() {
        let event =
            parse(b"change@/devices/virtual/mtty/mtty\0SUBSYSTEM=mtty\0MDEV_STATE=registered\0SEQNUM=7\0")
                .expect("well formed");
        assert!(concerns_us(&event));
        let Event::Device { action, devpath, properties } = event else { panic!("a device event") };
        assert_eq!((action.as_str(), devpath.as_str()), ("change", "/devices/virtual/mtty/mtty"));
        assert_eq!(properties["SEQNUM"], "7");
    }

    #[test]
    fn only_our_subsystems_concern_us() {
        let about = |subsystem: &str| {
            let message = format!("add@/devices/x\0SUBSYSTEM={subsystem}\0");
            concerns_us(&parse(message.as_bytes()).expect("well formed"))
        };
        assert!(about("pci") && about("mdev") && about("vfio"));
        assert!(!about("block") && !about("net"));
        assert!(concerns_us(&Event::Overflow));
    }

    #[test]
    fn a_device_is_renewed_by_its_driver_and_by_registering_as_a_parent() {
        let of =
            |message: &str| renewed_device(&parse(message.as_bytes()).expect("an event")).map(str::to_owned);
        let pf = "/devices/pci0000:00/0000:00:04.0/0000:01:00.0";
        assert_eq!(of(&format!("bind@{pf}\0SUBSYSTEM=pci\0")).as_deref(), Some("0000:01:00.0"));
        assert_eq!(of(&format!("add@{pf}\0SUBSYSTEM=pci\0")), None);
        let mtty = "/devices/virtual/mtty/mtty";
        assert_eq!(of(&format!("change@{mtty}\0MDEV_STATE=registered\0")).as_deref(), Some("mtty"));
        assert_eq!(of(&format!("change@{mtty}\0MDEV_STATE=unregistered\0")), None);
    }

    #[test]
    fn messages_of_udev_and_nonsense_are_skipped() {
        for message in [&b"libudev\0\xfe\xed\xca\xfe"[..], b"", b"\0\0", b"@/x", b"add@x", b"add"] {
            assert_eq!(parse(message), None, "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_tolerated(bytes: Vec<u8>) {
            if let Some(event) = parse(&bytes) {
                let _ = concerns_us(&event);
            }
        }
    }
}
