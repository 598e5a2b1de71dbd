//! Performing operations, with what sleeps aside.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{gettid, read, write};

use super::listing::{functions, mdevs, nodes};
use super::ops::Op;

/// Most writers that may sleep at once; what comes then is left out.
const MOST_SLEEPING: usize = 3;
/// Longest that one operation may take before it ends or is seen to sleep.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked.
const STEP: Duration = Duration::from_millis(4);

/// A part of the tree, with the word in an operation's text that says that it may have changed it.
type Part = (&'static str, fn(&Path) -> BTreeSet<String>);

/// Reading everything after each operation would take most of the time. A part of another kind is read every
/// now and then, and so is the tree after an operation that was refused.
const PARTS: [Part; 3] = [("mdev", mdevs), ("pci", functions), ("", nodes)];
const NOW_AND_THEN: usize = 16;

/// Where it is performed.
pub(crate) trait Host {
    /// The directory that holds `sys` and `dev`.
    fn root(&self) -> &Path;

    /// Returns whether the thread sleeps in the kernel until something is given back. `since` is how long it
    /// has been looked at; `others` is how many sleep already.
    fn sleeps(&mut self, thread: i32, others: usize, since: Duration) -> bool;

    /// Takes a device as a guest does.
    fn hold(&mut self, device: &str) -> Result<(), Errno>;

    /// Gives it back.
    fn release(&mut self, device: &str);

    /// A node was closed, and so many are open still.
    fn closed(&mut self, open: usize);
}

/// An access under way in a thread of its own.
struct Worker {
    number: usize,
    thread: i32,
    answer: Receiver<String>,
}

/// Performs the operations; `tell` gets the text line by line. Returns how many were performed.
pub(crate) fn perform(host: &mut dyn Host, ops: &[Op], tell: &mut dyn FnMut(String)) -> usize {
    let mut run = Run {
        host,
        tell,
        before: BTreeMap::new(),
        held: BTreeSet::new(),
        open: BTreeMap::new(),
        asleep: Vec::new(),
    };
    PARTS.iter().for_each(|part| run.differences(part));
    let mut performed = 0;
    for (number, op) in ops.iter().enumerate() {
        performed += usize::from(run.op(number, op));
    }
    performed
}

struct Run<'a> {
    host: &'a mut dyn Host,
    tell: &'a mut dyn FnMut(String),
    before: BTreeMap<&'static str, BTreeSet<String>>,
    held: BTreeSet<String>,
    open: BTreeMap<String, OwnedFd>,
    asleep: Vec<Worker>,
}

impl Run<'_> {
    /// Performs one operation; `false` when there was nothing to do.
    fn op(&mut self, number: usize, op: &Op) -> bool {
        let result = match op {
            Op::Release { device } if !self.held.contains(device) => return false,
            Op::Close { device } if !self.open.contains_key(device) => return false,
            Op::Release { device } => {
                self.held.remove(device);
                self.host.release(device);
                "ok".to_owned()
            }
            Op::Close { device } => {
                drop(self.open.remove(device));
                self.host.closed(self.open.len());
                "ok".to_owned()
            }
            Op::Hold { device } if self.held.contains(device) => return false,
            Op::Hold { device } => match self.host.hold(device) {
                Ok(()) => {
                    self.held.insert(device.clone());
                    "ok".to_owned()
                }
                Err(errno) => format!("{errno:?}"),
            },
            Op::Open { device } => self.open(device),
            Op::Write { .. } | Op::WriteTwice { .. } | Op::Read { .. } => {
                if self.asleep.len() >= MOST_SLEEPING {
                    "left out".to_owned()
                } else {
                    self.access(number, op)
                }
            }
        };
        let text = op.to_string();
        (self.tell)(format!("{number}: {text}: {result}"));
        let ended = self.settle();
        for part in &PARTS {
            let touched = (result.starts_with("ok") || result == "sleeps") && text.contains(part.0);
            // What is held and given back is named by its device alone.
            if touched || ended || !text.contains('/') || number.is_multiple_of(NOW_AND_THEN) {
                self.differences(part);
            }
        }
        true
    }

    fn open(&mut self, device: &str) -> String {
        if self.open.contains_key(device) {
            return "open already".to_owned();
        }
        match node(self.host.root(), device).and_then(|node| open(&node, OFlag::O_RDWR, Mode::empty())) {
            Ok(file) => {
                self.open.insert(device.to_owned(), file);
                "ok".to_owned()
            }
            Err(errno) => format!("{errno:?}"),
        }
    }

    /// Starts an access, and waits until it ends or sleeps.
    fn access(&mut self, number: usize, op: &Op) -> String {
        let (sender, answer) = channel();
        let (say_thread, hear_thread) = channel();
        let (root, op) = (self.host.root().to_owned(), op.clone());
        std::thread::spawn(move || work(&root, &op, &say_thread, &sender));
        let thread = hear_thread.recv().expect("the thread says its number first");
        let worker = Worker { number, thread, answer };
        match self.wait(&worker) {
            Some(answer) => answer,
            None => {
                self.asleep.push(worker);
                "sleeps".to_owned()
            }
        }
    }

    /// Waits for an answer; `None` when the thread sleeps instead.
    fn wait(&mut self, worker: &Worker) -> Option<String> {
        let began = Instant::now();
        let others = self.asleep.iter().filter(|other| other.number != worker.number).count();
        loop {
            match worker.answer.recv_timeout(STEP) {
                Ok(answer) => return Some(answer),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("operation {} ended without answer", worker.number)
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.host.sleeps(worker.thread, others, began.elapsed()) {
                // It may have ended between the two questions.
                return worker.answer.try_recv().ok();
            }
            assert!(began.elapsed() < PATIENCE, "operation {} neither ends nor sleeps", worker.number);
        }
    }

    /// Waits until everything that slept has ended or sleeps again; returns whether something has ended.
    fn settle(&mut self) -> bool {
        let (mut again, before) = (true, self.asleep.len());
        while again {
            again = false;
            for worker in std::mem::take(&mut self.asleep) {
                match self.wait(&worker) {
                    Some(answer) => {
                        (self.tell)(format!("  operation {} ended: {answer}", worker.number));
                        again = true;
                    }
                    None => self.asleep.push(worker),
                }
            }
            self.asleep.sort_by_key(|worker| worker.number);
        }
        self.asleep.len() < before
    }

    fn differences(&mut self, (name, read): &Part) {
        let now = read(self.host.root());
        let before = self.before.insert(name, now.clone()).unwrap_or_default();
        for gone in before.difference(&now) {
            (self.tell)(format!("  - {gone}"));
        }
        for new in now.difference(&before) {
            (self.tell)(format!("  + {new}"));
        }
    }
}

/// The node of a device's group.
pub(crate) fn node(root: &Path, device: &str) -> Result<PathBuf, Errno> {
    let bus = if device.len() == 36 { "mdev" } else { "pci" };
    let link = root.join(format!("sys/bus/{bus}/devices/{device}/iommu_group"));
    let group =
        std::fs::read_link(link).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    Ok(root.join("dev/vfio").join(group.file_name().ok_or(Errno::EINVAL)?))
}

fn work(root: &Path, op: &Op, say_thread: &Sender<i32>, sender: &Sender<String>) {
    say_thread.send(gettid().as_raw()).expect("somebody waits");
    let text = |result: Result<String, Errno>| result.unwrap_or_else(|errno| format!("{errno:?}"));
    let answer = match op {
        Op::Write { path, value } => text(write_once(root, path, value)),
        Op::WriteTwice { path, value } => text(write_twice(root, path, value)),
        Op::Read { path } => text(read_all(root, path)),
        Op::Open { .. } | Op::Close { .. } | Op::Hold { .. } | Op::Release { .. } => "no access".to_owned(),
    };
    // A run that was given up does not listen any more.
    drop(sender.send(answer));
}

fn open_to_write(root: &Path, path: &str) -> Result<OwnedFd, String> {
    let file = open(&root.join(path), OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());
    file.map_err(|errno| format!("not opened, {errno:?}"))
}

fn answer(file: &OwnedFd, value: &str) -> String {
    match write(file, value.as_bytes()) {
        Ok(count) if count == value.len() => "ok".to_owned(),
        Ok(count) => format!("ok, {count} of {} bytes", value.len()),
        Err(errno) => format!("{errno:?}"),
    }
}

fn write_once(root: &Path, path: &str, value: &str) -> Result<String, Errno> {
    Ok(open_to_write(root, path).map_or_else(|refused| refused, |file| answer(&file, value)))
}

fn write_twice(root: &Path, path: &str, value: &str) -> Result<String, Errno> {
    Ok(match (open_to_write(root, path), open_to_write(root, path)) {
        (Ok(first), Ok(second)) => format!("{}, then {}", answer(&first, value), answer(&second, value)),
        (Err(refused), _) | (_, Err(refused)) => refused,
    })
}

fn read_all(root: &Path, path: &str) -> Result<String, Errno> {
    let file = open(&root.join(path), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
    let file = match file {
        Ok(file) => file,
        Err(errno) => return Ok(format!("not opened, {errno:?}")),
    };
    let mut bytes = [0; 8192];
    let count = read(&file, &mut bytes)?;
    Ok(match count {
        0..200 => format!("{:?}", String::from_utf8_lossy(&bytes[..count])),
        _ => format!("{count} bytes"),
    })
}
