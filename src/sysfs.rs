//! Attributes below a root: read, list, follow a link, write. Knows nothing of what they mean.
//!
//! Paths are relative to the root and written without a leading slash: `sys/bus/pci/devices`. The
//! root is `/` on a host and any directory in a rehearsal or a test. Only plain libc calls on full
//! paths are used, so that a preloaded library can put a recorded host in front.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollTimeout, poll};
use nix::unistd::{AccessFlags, access};

use crate::failpoint;

/// Longest attribute that is read; sysfs gives at most a page.
const MOST_BYTES: usize = 64 * 1024;

/// What was tried on an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Read its content.
    Read,
    /// List a directory.
    List,
    /// Read a symbolic link.
    Follow,
    /// Write a value.
    Write,
}

/// An attribute that could not be read, listed or written. Keeps errno.
#[derive(Debug)]
pub struct SysfsError {
    verb: Verb,
    path: PathBuf,
    value: Option<String>,
    source: io::Error,
}

impl SysfsError {
    /// Returns errno; `None` when the failure did not come from the kernel.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        self.source.raw_os_error().map(Errno::from_raw)
    }

    /// Returns the full path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns what was tried.
    #[must_use]
    pub const fn verb(&self) -> Verb {
        self.verb
    }
}

impl fmt::Display for SysfsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match (self.verb, &self.value) {
            (Verb::Read, _) => write!(f, "cannot read {path}"),
            (Verb::List, _) => write!(f, "cannot list {path}"),
            (Verb::Follow, _) => write!(f, "cannot follow the link {path}"),
            (Verb::Write, Some(value)) => write!(f, "cannot write {value:?} to {path}"),
            (Verb::Write, None) => write!(f, "cannot write to {path}"),
        }
    }
}

impl std::error::Error for SysfsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// The host's files below a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysfs {
    root: PathBuf,
}

impl Sysfs {
    /// Creates a view of the files below `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Returns whether this is the machine itself and not a rehearsal.
    #[must_use]
    pub fn is_this_host(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Returns the full path of `at`.
    #[must_use]
    pub fn path(&self, at: &str) -> PathBuf {
        self.root.join(at.trim_start_matches('/'))
    }

    /// Reads an attribute; white space and NULs around it are dropped, bytes that are not UTF-8 replaced.
    ///
    /// # Errors
    /// What open(2) and read(2) say.
    pub fn read(&self, at: &str) -> Result<String, SysfsError> {
        let bytes = self.read_bytes(at)?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned())
    }

    /// Reads an attribute that may be absent.
    ///
    /// # Errors
    /// Like [`Self::read`], except when it does not exist.
    pub fn read_optional(&self, at: &str) -> Result<Option<String>, SysfsError> {
        absent_is_none(self.read(at))
    }

    /// Reads at most 64 KiB of a file as they are.
    ///
    /// # Errors
    /// What open(2) and read(2) say.
    pub fn read_bytes(&self, at: &str) -> Result<Vec<u8>, SysfsError> {
        let path = self.path(at);
        match read_bounded(&path) {
            Ok(bytes) => Ok(bytes),
            Err(source) => Err(SysfsError { verb: Verb::Read, path, value: None, source }),
        }
    }

    /// Lists the names in a directory, sorted. Names that are not UTF-8 are left out: the kernel has none.
    ///
    /// # Errors
    /// What opendir(3) and readdir(3) say.
    pub fn list(&self, at: &str) -> Result<Vec<String>, SysfsError> {
        let path = self.path(at);
        let fail = |source| SysfsError { verb: Verb::List, path: path.clone(), value: None, source };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(fail)? {
            names.extend(entry.map_err(fail)?.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Lists a directory that may be absent; absent is empty.
    ///
    /// # Errors
    /// Like [`Self::list`], except when it does not exist.
    pub fn list_optional(&self, at: &str) -> Result<Vec<String>, SysfsError> {
        absent_is_none(self.list(at)).map(Option::unwrap_or_default)
    }

    /// Returns where a link points, as written in it; `None` when it does not exist.
    ///
    /// # Errors
    /// What readlink(2) says, for example EINVAL when it is no link.
    pub fn link(&self, at: &str) -> Result<Option<String>, SysfsError> {
        let path = self.path(at);
        let target = std::fs::read_link(&path).map_err(|source| SysfsError {
            verb: Verb::Follow,
            path,
            value: None,
            source,
        });
        Ok(absent_is_none(target)?.map(|target| target.to_string_lossy().into_owned()))
    }

    /// Returns the last component of a link's target, which is how sysfs names a driver, a group or
    /// a type; `None` when it does not exist or cannot be read.
    #[must_use]
    pub fn link_name(&self, at: &str) -> Option<String> {
        let target = self.link(at).ok().flatten()?;
        target.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned)
    }

    /// Returns the path below the root that a link in `at` leads to; `None` when it does not exist or
    /// cannot be read. Resolved by its text: sysfs links hold no further links.
    #[must_use]
    pub fn link_path(&self, at: &str) -> Option<String> {
        let target = self.link(at).ok().flatten()?;
        let mut parts: Vec<&str> = match target.starts_with('/') {
            true => Vec::new(),
            false => at.split('/').filter(|part| !part.is_empty()).collect(),
        };
        parts.pop();
        for part in target.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                name => parts.push(name),
            }
        }
        Some(parts.join("/"))
    }

    /// Returns whether something exists there; a link counts by what it leads to.
    #[must_use]
    pub fn exists(&self, at: &str) -> bool {
        access(&self.path(at), AccessFlags::F_OK).is_ok()
    }

    /// Waits up to a second until nothing is there; `false` when something still is.
    #[must_use]
    pub fn wait_gone(&self, at: &str) -> bool {
        wait_until(Duration::from_secs(1), || !self.exists(at))
    }

    /// Writes a value: one open without creating or truncating, one write(2), never repeated. Blocks
    /// as long as the kernel does.
    ///
    /// # Errors
    /// What open(2) and write(2) say; errno is kept.
    pub fn write(&self, at: &str, value: &str) -> Result<(), SysfsError> {
        let path = self.path(at);
        failpoint::hit("before a kernel write");
        let written = write_once(&path, value);
        failpoint::hit("after a kernel write");
        written.map_err(|source| SysfsError {
            verb: Verb::Write,
            path,
            value: Some(value.to_owned()),
            source,
        })
    }
}

fn absent_is_none<T>(result: Result<T, SysfsError>) -> Result<Option<T>, SysfsError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENOTDIR)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads up to [`MOST_BYTES`]. A short read is the end: an attribute is given in one piece.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut page = [0u8; 4096];
    let mut bytes = Vec::new();
    while bytes.len() < MOST_BYTES {
        let count = match file.read(&mut page) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        bytes.extend_from_slice(&page[..count]);
        if count < page.len() {
            break;
        }
    }
    Ok(bytes)
}

fn write_once(path: &Path, value: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).custom_flags(nix::libc::O_CLOEXEC).open(path)?;
    let count = file.write(value.as_bytes())?;
    if count == value.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Looks every few milliseconds whether `fact` holds; `false` when it still does not after `limit`.
pub fn wait_until(limit: Duration, mut fact: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if fact() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        // Waiting for nothing but the time-out; an interruption only looks earlier.
        let _ = poll(&mut [], PollTimeout::from(5u8));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, Sysfs) {
        let dir = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir_all(dir.path().join("sys/devices/a/b")).expect("directories");
        std::fs::create_dir_all(dir.path().join("sys/bus/x")).expect("directories");
        symlink("../../devices/a/b", dir.path().join("sys/bus/x/b")).expect("link");
        let sysfs = Sysfs::new(dir.path());
        (dir, sysfs)
    }

    fn put(sysfs: &Sysfs, at: &str, content: &[u8]) {
        File::create(sysfs.path(at)).and_then(|mut f| f.write_all(content)).expect("file");
    }

    #[test]
    fn content_is_trimmed_and_never_fails_on_odd_bytes() {
        let (_dir, sysfs) = tree();
        put(&sysfs, "sys/devices/a/b/name", b" two words\n\0");
        put(&sysfs, "sys/devices/a/b/odd", b"\xff\xfe");
        assert_eq!(sysfs.read("sys/bus/x/b/name").expect("content"), "two words");
        assert_eq!(sysfs.read("/sys/devices/a/b/odd").expect("content"), "\u{fffd}\u{fffd}");
        assert_eq!(sysfs.read_optional("sys/none").expect("absent is no error"), None);
    }

    #[test]
    fn endless_content_is_cut() {
        let (_dir, sysfs) = tree();
        put(&sysfs, "sys/long", &vec![b'x'; MOST_BYTES * 2]);
        assert_eq!(sysfs.read("sys/long").expect("content").len(), MOST_BYTES);
    }

    #[test]
    fn links_are_resolved_below_the_root() {
        let (_dir, sysfs) = tree();
        assert_eq!(sysfs.link_path("sys/bus/x/b").as_deref(), Some("sys/devices/a/b"));
        assert_eq!(sysfs.link_name("sys/bus/x/b").as_deref(), Some("b"));
        assert_eq!(sysfs.link_name("sys/bus/x/c"), None);
        assert_eq!(sysfs.list("sys/bus").expect("names"), ["x"]);
        assert!(sysfs.list_optional("sys/none").expect("absent is empty").is_empty());
    }

    #[test]
    fn a_write_never_creates_and_says_what_and_where() {
        let (_dir, sysfs) = tree();
        let error = sysfs.write("sys/devices/a/b/new", "4").expect_err("no such attribute");
        assert_eq!(error.errno(), Some(Errno::ENOENT));
        assert_eq!(error.verb(), Verb::Write);
        assert!(!sysfs.exists("sys/devices/a/b/new"));
        let text = error.to_string();
        assert!(text.starts_with("cannot write \"4\" to "), "{text}");
        assert!(text.ends_with("sys/devices/a/b/new"), "{text}");
        assert!(!text.contains("os error"), "the source is told by the chain: {text}");
    }

    #[test]
    fn a_write_does_not_truncate() {
        let (_dir, sysfs) = tree();
        put(&sysfs, "sys/value", b"12345");
        sysfs.write("sys/value", "9").expect("written");
        assert_eq!(sysfs.read("sys/value").expect("content"), "92345");
    }
}
