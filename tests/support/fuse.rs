//! The fake host as a mounted file system, so that unmodified programs meet it by real system calls.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::fake::Write;
use super::kernel::{Answer, Effect, Kernel};
use super::tree::{Kind, Node};

/// What a node is, is not cached: the host changes under its readers.
const NO_TIME: Duration = Duration::ZERO;

/// Which node a name is, is cached, as most of the work is else walking paths. A number never comes back, and a node that is
/// gone answers ESTALE, upon which the kernel walks the path anew and asks at each name (k:fs/namei.c, `LOOKUP_REVAL`).
const NAMES: Duration = Duration::from_secs(3600);

/// An injected fault for a kind of access to paths that contain a text.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) pattern: String,
    pub(crate) on: Access,
    /// Only the nth access, counted from 1; `None` is each.
    pub(crate) nth: Option<u32>,
    pub(crate) seen: u32,
    pub(crate) then: Trouble,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// Answers with this errno; nothing happens.
    Fail(i32),
    /// Answers success; nothing happens.
    Ignore,
    /// Happens after this time.
    Delay(Duration),
    /// Happens when the fault is taken back.
    Hang,
}

/// An access that was taken from a program and not answered yet.
struct Pending {
    path: String,
    value: String,
    reply: Reply,
    since: Instant,
}

enum Reply {
    Write(ReplyWrite),
    /// Of the node with this number.
    Read(ReplyData, u64),
}

impl Reply {
    fn error(self, errno: Errno) {
        match self {
            Self::Write(reply) => reply.error(errno),
            Self::Read(reply, _) => reply.error(errno),
        }
    }
}

pub(crate) struct State {
    pub(crate) kernel: Kernel,
    pub(crate) faults: Vec<Fault>,
    pub(crate) writes: Vec<Write>,
    /// Writers that sleep by the kernel's rules, by their number.
    asleep: HashMap<u64, Pending>,
    /// Writers that an injected fault keeps.
    hung: Vec<(String, Pending)>,
    listings: HashMap<u64, Vec<(u64, FileType, String)>>,
    next_handle: u64,
    /// Group nodes that programs have open.
    pub(crate) open_nodes: usize,
    /// Who was told that a node is stale, by process and number.
    told: HashSet<(u32, u64)>,
}

/// What the mounted file system and the test share.
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    pub(crate) fn new(kernel: Kernel) -> Self {
        let state = State {
            kernel,
            faults: Vec::new(),
            writes: Vec::new(),
            asleep: HashMap::new(),
            hung: Vec::new(),
            listings: HashMap::new(),
            next_handle: 1,
            open_nodes: 0,
            told: HashSet::new(),
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Locks the state. A test that panicked meanwhile does not matter to the others.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a condition on the state holds; `false` when it does not within the time.
    pub(crate) fn wait_for(&self, limit: Duration, mut condition: impl FnMut(&mut State) -> bool) -> bool {
        let guard = self.lock();
        let waited = self.changed.wait_timeout_while(guard, limit, |state| !condition(state));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    pub(crate) fn notify(&self) {
        self.changed.notify_all();
    }

    /// Answers writers that the kernel woke.
    pub(crate) fn wake(&self, woken: Vec<(u64, Answer)>) {
        let mut state = self.lock();
        for (number, answer) in woken {
            if let Some(pending) = state.asleep.remove(&number) {
                state.answer(pending, answer);
            }
        }
        drop(state);
        self.notify();
    }

    /// Lets the writers go on that a fault with this pattern kept.
    pub(crate) fn unhang(&self, pattern: &str) {
        let mut state = self.lock();
        let ours = |kept: &mut (String, Pending)| kept.0 == pattern;
        let released: Vec<_> = state.hung.extract_if(.., ours).collect();
        for (_, pending) in released {
            state.perform(pending);
        }
        drop(state);
        self.notify();
    }

    /// Answers EIO to everybody who sleeps for longer than `least`.
    pub(crate) fn abandon(&self, least: Duration) {
        let mut state = self.lock();
        let old = |pending: &Pending| pending.since.elapsed() >= least;
        let asleep: Vec<(u64, Pending)> = state.asleep.extract_if(|_, pending| old(pending)).collect();
        let hung: Vec<(String, Pending)> = state.hung.extract_if(.., |kept| old(&kept.1)).collect();
        let asleep = asleep.into_iter().map(|(_, pending)| pending);
        for pending in asleep.chain(hung.into_iter().map(|(_, pending)| pending)) {
            pending.reply.error(Errno::EIO);
        }
    }
}

impl State {
    pub(crate) fn sleeping(&self) -> usize {
        self.asleep.len() + self.hung.len()
    }

    /// Finds the fault that applies to this access, and counts it.
    fn fault(&mut self, path: &str, on: Access) -> Option<(String, Trouble)> {
        for fault in &mut self.faults {
            if fault.on == on && path.contains(&fault.pattern) {
                fault.seen += 1;
                if fault.nth.is_none_or(|nth| nth == fault.seen) {
                    return Some((fault.pattern.clone(), fault.then));
                }
            }
        }
        None
    }

    fn perform(&mut self, pending: Pending) {
        match self.kernel.write(&pending.path, &pending.value) {
            Effect::Done(answer) => self.answer(pending, answer),
            Effect::Asleep(number) => {
                self.asleep.insert(number, pending);
            }
        }
    }

    fn answer(&mut self, pending: Pending, answer: Answer) {
        let Pending { path, value, reply, .. } = pending;
        match (reply, answer) {
            // Who goes away waits for whoever is inside of the attribute (k:fs/kernfs/dir.c, kernfs_drain).
            (Reply::Read(reply, number), Ok(())) => {
                reply.data(self.content(number).unwrap_or(value).as_bytes());
            }
            (Reply::Read(reply, _), Err(errno)) => reply.error(Errno::from_i32(errno as i32)),
            (Reply::Write(reply), answer) => {
                match answer {
                    Ok(()) => reply.written(u32::try_from(value.len()).expect("a short value")),
                    Err(errno) => reply.error(Errno::from_i32(errno as i32)),
                }
                self.writes.push(Write { path, value, answer });
            }
        }
    }

    /// The answer to somebody who asks for a node that is gone. Whoever asks once more came by no name, but by a directory
    /// that it holds open.
    fn gone(&mut self, request: &Request, number: u64) -> Errno {
        let asked = (request.pid(), number);
        eprintln!("STALE pid {} node {number} told {}", request.pid(), self.told.contains(&asked));
        if self.told.remove(&asked) {
            return Errno::ENOENT;
        }
        self.told.insert(asked);
        Errno::ESTALE
    }

    fn attributes(&self, number: u64) -> Option<FileAttr> {
        let node = self.kernel.tree.node(number)?;
        let (kind, perm, size) = match &node.kind {
            Kind::Dir(_) => (FileType::Directory, 0o755, 0),
            Kind::Link(text) => (FileType::Symlink, 0o777, text.len() as u64),
            // sysfs says a page for each attribute.
            Kind::File { mode, .. } => (FileType::RegularFile, *mode, 4096),
        };
        Some(FileAttr {
            ino: INodeNo(number),
            size,
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn listing(&self, number: u64) -> Option<Vec<(u64, FileType, String)>> {
        let Node { kind: Kind::Dir(children), .. } = self.kernel.tree.node(number)? else { return None };
        let mut entries = vec![
            (number, FileType::Directory, ".".to_owned()),
            (number, FileType::Directory, "..".to_owned()),
        ];
        for (name, child) in children {
            let kind = self.attributes(*child)?.kind;
            entries.push((*child, kind, name.clone()));
        }
        Some(entries)
    }

    fn content(&mut self, number: u64) -> Result<String, Errno> {
        let Some(Node { path, kind: Kind::File { content, .. } }) = self.kernel.tree.node(number).cloned()
        else {
            return Err(Errno::ENODEV);
        };
        match self.fault(&path, Access::Read) {
            Some((_, Trouble::Fail(errno))) => Err(Errno::from_i32(errno)),
            _ => Ok(content),
        }
    }

    /// Opening takes a group's node, and fails where sysfs has no function for the access.
    fn open(&mut self, request: &Request, number: u64, flags: OpenFlags) -> Result<FileHandle, Errno> {
        let Some(Node { path, kind: Kind::File { mode, .. } }) = self.kernel.tree.node(number) else {
            return Err(self.gone(request, number));
        };
        if let Some(group) = group_node(path) {
            let opening = self.kernel.open_node(group);
            self.open_nodes += usize::from(opening.is_ok());
            return opening.map(FileHandle).map_err(|errno| Errno::from_i32(errno as i32));
        }
        let readable = mode & 0o444 != 0;
        let writable = mode & 0o222 != 0;
        let allowed = match flags.acc_mode() {
            OpenAccMode::O_RDONLY => readable,
            OpenAccMode::O_WRONLY => writable,
            OpenAccMode::O_RDWR => readable && writable,
        };
        if allowed { Ok(FileHandle(0)) } else { Err(Errno::EACCES) }
    }
}

/// The group whose node this path is.
fn group_node(path: &str) -> Option<u32> {
    path.strip_prefix("dev/vfio/")?.parse().ok()
}

/// The file system; answers at once, so one thread serves it and requests keep their order.
pub(crate) struct Mounted(pub(crate) Arc<Shared>);

impl Filesystem for Mounted {
    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut state = self.0.lock();
        if state.kernel.tree.node(parent.0).is_none() {
            return reply.error(state.gone(req, parent.0));
        }
        let child = name.to_str().and_then(|name| state.kernel.tree.child(parent.0, name));
        match child.and_then(|child| state.attributes(child)) {
            Some(attributes) => reply.entry_with_ttls(&NO_TIME, &NAMES, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let mut state = self.0.lock();
        match state.attributes(ino.0) {
            Some(attributes) => reply.attr(&NO_TIME, &attributes),
            None if fh.is_some() => reply.error(Errno::ENOENT),
            None => reply.error(state.gone(req, ino.0)),
        }
    }

    /// Truncating an attribute does nothing, as in sysfs.
    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<std::time::SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<std::time::SystemTime>,
        _chgtime: Option<std::time::SystemTime>,
        _bkuptime: Option<std::time::SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.getattr(req, ino, fh, reply);
    }

    /// Whether there is something, which the kernel does not ask for names that it has cached unless this is answered.
    fn access(&self, req: &Request, ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        let mut state = self.0.lock();
        match state.kernel.tree.node(ino.0) {
            Some(_) => reply.ok(),
            None => reply.error(state.gone(req, ino.0)),
        }
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let mut state = self.0.lock();
        match state.kernel.tree.node(ino.0).map(|node| &node.kind) {
            Some(Kind::Link(text)) => {
                if text.contains("drivers") {
                    eprintln!("READLINK {} {} {text}", ino.0, req.pid());
                }
                reply.data(text.as_bytes())
            }
            Some(_) => reply.error(Errno::EINVAL),
            None => reply.error(state.gone(req, ino.0)),
        }
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let opened = self.0.lock().open(req, ino.0, flags);
        self.0.notify();
        match opened {
            // Without the second flag FUSE lets one writer at a time to a file, and who came behind one that
            // sleeps would never be heard of. In sysfs each open has a lock of its own (kernfs_fop_write_iter of
            // k:fs/kernfs/file.c).
            Ok(handle) => {
                reply.opened(handle, FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES)
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        // Openings are numbered from 1; attributes have none.
        let mut state = self.0.lock();
        state.kernel.close_node(fh.0);
        state.open_nodes -= usize::from(fh.0 != 0);
        drop(state);
        self.0.notify();
        reply.ok();
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        _size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut state = self.0.lock();
        let path = state.kernel.tree.node(ino.0).map(|node| node.path.clone()).unwrap_or_default();
        if let Some(number) = (offset == 0).then(|| state.kernel.wait_to_read(&path)).flatten() {
            let reply = Reply::Read(reply, ino.0);
            let value = state.content(ino.0).unwrap_or_default();
            let pending = Pending { path, value, reply, since: Instant::now() };
            state.asleep.insert(number, pending);
            drop(state);
            return self.0.notify();
        }
        let content = state.content(ino.0);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        match content {
            Ok(content) => reply.data(content.as_bytes().get(start..).unwrap_or_default()),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let value = String::from_utf8_lossy(data).into_owned();
        let mut state = self.0.lock();
        // An attribute that went away between open and write (k:fs/kernfs/file.c, kernfs_get_active).
        let Some(path) = state.kernel.tree.node(ino.0).map(|node| node.path.clone()) else {
            return reply.error(Errno::ENODEV);
        };
        let fault = state.fault(&path, Access::Write);
        let pending = Pending { path, value, reply: Reply::Write(reply), since: Instant::now() };
        match fault {
            None => state.perform(pending),
            Some((_, Trouble::Fail(errno))) => state.answer(pending, Err(nix::errno::Errno::from_raw(errno))),
            Some((_, Trouble::Ignore)) => state.answer(pending, Ok(())),
            Some((pattern, Trouble::Hang)) => state.hung.push((pattern, pending)),
            Some((_, Trouble::Delay(time))) => {
                let shared = Arc::clone(&self.0);
                std::thread::spawn(move || {
                    let _ = shared.wait_for(time, |_| false);
                    shared.lock().perform(pending);
                    shared.notify();
                });
            }
        }
        drop(state);
        self.0.notify();
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let mut state = self.0.lock();
        let Some(listing) = state.listing(ino.0) else { return reply.error(state.gone(req, ino.0)) };
        let handle = state.next_handle;
        state.next_handle += 1;
        state.listings.insert(handle, listing);
        reply.opened(FileHandle(handle), FopenFlags::empty());
    }

    fn readdir(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let state = self.0.lock();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let entries = state.listings.get(&fh.0).and_then(|entries| entries.get(start..)).unwrap_or_default();
        for (place, (number, kind, name)) in entries.iter().enumerate() {
            if reply.add(INodeNo(*number), (start + place + 1) as u64, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.0.lock().listings.remove(&fh.0);
        reply.ok();
    }
}
