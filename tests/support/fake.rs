//! A fake host: mounted, held by the test, taken down when dropped.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption, Session};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::fuse::{Access, Fault, Mounted, Shared, Trouble};
use super::kernel::{Answer, Effect, Kernel};
use super::spec::HostSpec;
use super::tree::put;

/// Longest that a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longest that FUSE may take to tell of a close.
const CLOSED: Duration = Duration::from_secs(2);

/// Longest that a writer may sleep.
const TOO_LONG: Duration = Duration::from_secs(60);

/// A write that a program made, and the kernel's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    /// Real path below the root.
    pub(crate) path: String,
    pub(crate) value: String,
    pub(crate) answer: Answer,
}

/// A fake host for `VGPUD_ROOT`: `sys`, `proc`, `dev` and `lib` are served and react, `etc`, `run` and
/// `var` are plain directories.
pub(crate) struct FakeKernel {
    shared: Arc<Shared>,
    spec: HostSpec,
    boots: u32,
    mountpoint: PathBuf,
    session: Option<BackgroundSession>,
    root: tempfile::TempDir,
}

impl FakeKernel {
    /// Mounts a host.
    pub(crate) fn mount(spec: HostSpec) -> Self {
        let root = tempfile::Builder::new().prefix("fake-host-").tempdir().expect("temporary directory");
        let mountpoint = root.path().join(".host");
        for dir in [".host", "etc/vgpud", "run", "var/lib"] {
            std::fs::create_dir_all(root.path().join(dir)).expect("directory");
        }
        for dir in ["sys", "proc", "dev", "lib"] {
            std::os::unix::fs::symlink(format!(".host/{dir}"), root.path().join(dir)).expect("link");
        }
        let shared = Arc::new(Shared::new(Kernel::new(spec.clone(), 1, 2)));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("fake-host".to_owned()), MountOption::NoAtime];
        let session = Session::new(Mounted(Arc::clone(&shared)), &mountpoint, &config)
            .and_then(Session::spawn)
            .expect("a FUSE mount (needs root and /dev/fuse)");
        let watched = Arc::downgrade(&shared);
        std::thread::spawn(move || watch(&watched));
        Self { shared, spec, boots: 1, mountpoint, session: Some(session), root }
    }

    /// The directory for `VGPUD_ROOT`.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Writes a plain file, such as `etc/vgpud/vgpud.toml`.
    pub(crate) fn put(&self, path: &str, content: &str) {
        put(&self.root().join(path), content.as_bytes());
    }

    // Looking ------------------------------------------------------------------------------------

    /// The whole host as sorted text, for comparing before and after.
    pub(crate) fn state(&self) -> String {
        self.shared.lock().kernel.tree.print()
    }

    /// All writes by programs that were answered, in order.
    pub(crate) fn writes(&self) -> Vec<Write> {
        self.shared.lock().writes.clone()
    }

    /// The content of an attribute, past all faults.
    pub(crate) fn read(&self, path: &str) -> Option<String> {
        self.shared.lock().kernel.tree.content(path).map(|text| text.trim_end().to_owned())
    }

    /// Whether something has this real path.
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.shared.lock().kernel.tree.exists(path)
    }

    /// The UUIDs on the mdev bus.
    pub(crate) fn mdevs(&self) -> Vec<String> {
        self.shared.lock().kernel.tree.names("sys/bus/mdev/devices")
    }

    /// How many accesses sleep in the kernel now.
    pub(crate) fn sleeping(&self) -> usize {
        self.shared.lock().sleeping()
    }

    /// Waits until programs have at most `count` group nodes open: a close is heard of a little later.
    pub(crate) fn wait_open_nodes(&self, count: usize) {
        assert!(self.shared.wait_for(PATIENCE, |state| state.open_nodes <= count), "{count} open nodes");
    }

    /// Waits until `count` writers sleep in the kernel.
    pub(crate) fn wait_sleeping(&self, count: usize) {
        assert!(
            self.shared.wait_for(PATIENCE, |state| state.sleeping() == count),
            "{count} sleeping writers"
        );
    }

    // Guests and others --------------------------------------------------------------------------

    /// A guest takes the device (an mdev's UUID or a VF's address); `false` when it cannot, because its
    /// group is open elsewhere or it is not on a VFIO driver. FUSE tells of a close some time after it.
    #[must_use]
    pub(crate) fn hold(&self, device: &str, domain: &str, pid: u32) -> bool {
        self.shared.wait_for(CLOSED, |state| state.kernel.hold(device, domain, pid))
    }

    /// The guest gives the device back; writers that slept because of it go on.
    pub(crate) fn unhold(&self, device: &str) {
        let woken = self.shared.lock().kernel.unhold(device);
        self.shared.wake(woken);
    }

    /// Somebody else makes an mdev; not logged, no faults.
    pub(crate) fn foreign_mdev(&self, parent: &str, mdev_type: &str, uuid: &str) -> Answer {
        let path = format!("{}/mdev_supported_types/{mdev_type}/create", self.parent_dir(parent));
        self.by_hand(&path, uuid)
    }

    /// Somebody else removes an mdev that nobody holds.
    pub(crate) fn foreign_remove(&self, parent: &str, uuid: &str) -> Answer {
        self.by_hand(&format!("{}/{uuid}/remove", self.parent_dir(parent)), "1")
    }

    /// Somebody else writes to an attribute.
    pub(crate) fn by_hand(&self, path: &str, value: &str) -> Answer {
        match self.shared.lock().kernel.write(path, value) {
            Effect::Done(answer) => answer,
            Effect::Asleep(_) => Err(Errno::EINTR),
        }
    }

    fn parent_dir(&self, parent: &str) -> String {
        let spec = self.spec.virtuals.iter().find(|device| device.name == parent);
        if spec.is_some() {
            return format!("sys/devices/virtual/{parent}/{parent}");
        }
        let bridge =
            self.spec.pci.iter().find(|spec| spec.address[..7] == parent[..7]).expect("a parent of the host");
        format!("sys/devices/{}/{parent}", bridge.bridge)
    }

    /// Gives a device a node of its own instead of its group's; before a guest takes it.
    pub(crate) fn use_device_node(&self, device: &str) {
        self.shared.lock().kernel.use_device_node(device);
    }

    /// A parent unregisters, as when its driver is unloaded; its mdevs vanish.
    pub(crate) fn vanish(&self, parent: &str) {
        self.shared.lock().kernel.vanish(parent);
    }

    /// A PCI function is pulled out, with its VFs and mdevs.
    pub(crate) fn pull_out(&self, address: &str) {
        self.shared.lock().kernel.pull_out(address);
    }

    /// Tells the service what the kernel would: a message of its own form.
    pub(crate) fn announce(&self, head: &str, properties: &[&str]) {
        let message = [&[head], properties].concat().join("\0") + "\0";
        let socket = std::os::unix::net::UnixDatagram::unbound().expect("a socket");
        socket
            .send_to(message.as_bytes(), self.root().join("run/vgpud/uevents"))
            .expect("a service that hears");
    }

    fn announce_pci(&self, action: &str, address: &str) {
        let dir = self.parent_dir(address).replacen("sys", "", 1);
        self.announce(&format!("{action}@{dir}"), &["SUBSYSTEM=pci", &format!("PCI_SLOT_NAME={address}")]);
    }

    /// A PCI function that was pulled out comes back, and its driver takes it. Nothing is announced.
    pub(crate) fn plug_in_silently(&self, address: &str) {
        self.shared.lock().kernel.plug_in(address);
    }

    /// The same, announced.
    pub(crate) fn plug_in(&self, address: &str) {
        self.plug_in_silently(address);
        self.announce_pci("add", address);
        self.announce_pci("bind", address);
    }

    /// Another card is in the slot of one that was pulled out.
    pub(crate) fn plug_in_another(&self, address: &str, id: (u16, u16)) {
        self.shared.lock().kernel.plug_in_another(address, id);
    }

    /// The driver of a PF is unloaded, with its VFs.
    pub(crate) fn unload_driver(&self, address: &str) {
        self.shared.lock().kernel.unload_driver(address);
        self.announce_pci("unbind", address);
    }

    /// The driver of a PF is loaded again.
    pub(crate) fn load_driver(&self, address: &str) {
        self.by_hand("sys/bus/pci/drivers_probe", address).expect("a function of the host");
        self.announce_pci("bind", address);
    }

    /// The driver of a virtual parent is loaded again.
    pub(crate) fn appear(&self, parent: &str) {
        self.shared.lock().kernel.appear(parent);
        let head = format!("change@/devices/virtual/{parent}/{parent}");
        self.announce(&head, &["SUBSYSTEM=misc", "MDEV_STATE=registered"]);
    }

    /// Brings the network interface of a VF up or down.
    pub(crate) fn set_link_up(&self, vf: &str, up: bool) {
        self.shared.lock().kernel.set_link_up(vf, up);
    }

    /// The host loses power and boots: another boot id, no mdevs, no guests, VFs as at first.
    pub(crate) fn reboot(&mut self) {
        self.shared.abandon(Duration::ZERO);
        self.boots += 1;
        let mut state = self.shared.lock();
        let first_node = state.kernel.tree.next_number();
        state.kernel = Kernel::new(self.spec.clone(), self.boots, first_node);
    }

    // Faults -------------------------------------------------------------------------------------

    /// Lets the nth write (from 1) to a path that contains `pattern` fail; nothing happens then.
    pub(crate) fn fail(&self, pattern: &str, nth: u32, errno: Errno) {
        self.add_fault(pattern, Access::Write, Some(nth), Trouble::Fail(errno as i32));
    }

    /// Lets every write to a path that contains `pattern` fail; nothing happens then.
    pub(crate) fn fail_always(&self, pattern: &str, errno: Errno) {
        self.add_fault(pattern, Access::Write, None, Trouble::Fail(errno as i32));
    }

    /// Lets every read of a path that contains `pattern` fail.
    pub(crate) fn fail_reads(&self, pattern: &str, errno: Errno) {
        self.add_fault(pattern, Access::Read, None, Trouble::Fail(errno as i32));
    }

    /// Lets every write to a path that contains `pattern` succeed without doing anything.
    pub(crate) fn ignore_writes(&self, pattern: &str) {
        self.add_fault(pattern, Access::Write, None, Trouble::Ignore);
    }

    /// How many reads failed by order.
    pub(crate) fn failed_reads(&self) -> u32 {
        self.shared
            .lock()
            .faults
            .iter()
            .filter(|fault| fault.on == Access::Read)
            .map(|fault| fault.seen)
            .sum()
    }

    /// Lets every write to a path that contains `pattern` take this long.
    pub(crate) fn delay(&self, pattern: &str, time: Duration) {
        self.add_fault(pattern, Access::Write, None, Trouble::Delay(time));
    }

    /// Lets every write to a path that contains `pattern` sleep until [`Self::unhang`].
    pub(crate) fn hang(&self, pattern: &str) {
        self.add_fault(pattern, Access::Write, None, Trouble::Hang);
    }

    /// Takes all faults with this pattern back; writers that they kept go on.
    pub(crate) fn unhang(&self, pattern: &str) {
        self.shared.lock().faults.retain(|fault| fault.pattern != pattern);
        self.shared.unhang(pattern);
    }

    fn add_fault(&self, pattern: &str, on: Access, nth: Option<u32>, then: Trouble) {
        self.shared.lock().faults.push(Fault { pattern: pattern.to_owned(), on, nth, seen: 0, then });
    }
}

/// Lets writers go that slept longer than any test wants: a thread of the test's own process that sleeps
/// in its own file system could not even be killed.
fn watch(shared: &Weak<Shared>) {
    while let Some(shared) = shared.upgrade() {
        let _ = shared.wait_for(Duration::from_millis(200), |_| false);
        shared.abandon(TOO_LONG);
    }
}

impl Drop for FakeKernel {
    /// Lets every writer go, then unmounts even if a program still has a file open.
    fn drop(&mut self) {
        self.shared.abandon(Duration::ZERO);
        let unmounted = umount2(&self.mountpoint, MntFlags::MNT_DETACH);
        drop(self.session.take());
        if let Err(errno) = unmounted {
            eprintln!("cannot unmount {}: {errno}", self.mountpoint.display());
        }
    }
}
