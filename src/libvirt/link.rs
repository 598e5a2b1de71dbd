//! One thread that owns the connection; callers wait with a deadline.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::dir::Dir;
use super::{Hypervisor, Version, VirtError};

/// What libvirt tells unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A domain or a device of one changed.
    Look,
    /// The connection is gone.
    Closed,
}

type Job = Box<dyn FnOnce(Result<&mut dyn Hypervisor, VirtError>) + Send>;

/// A handle on the libvirt thread. Nothing connects before the first call.
#[derive(Clone, Debug)]
pub struct Link {
    jobs: Sender<Job>,
    events: Sender<Event>,
    state: Arc<Mutex<String>>,
    version: Arc<Mutex<Option<Version>>>,
}

impl Link {
    /// Starts the thread; what libvirt tells unasked comes out of the receiver.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn start(uri: &str) -> std::io::Result<(Self, Receiver<Event>)> {
        let (jobs, queue) = mpsc::channel();
        let (events, told) = mpsc::channel();
        let state = Arc::new(Mutex::new("not connected yet".to_owned()));
        let version = Arc::default();
        let worker = Worker {
            uri: uri.to_owned(),
            events: events.clone(),
            state: Arc::clone(&state),
            version: Arc::clone(&version),
            open: None,
        };
        std::thread::Builder::new().name("libvirt".to_owned()).spawn(move || worker.run(&queue))?;
        Ok((Self { jobs, events, state, version }, told))
    }

    /// Returns how the connection is, for people.
    #[must_use]
    pub fn state(&self) -> String {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns whether there is no libvirt to ask, as far as is known.
    #[must_use]
    pub fn is_off(&self) -> bool {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) == "off"
    }

    /// Returns the version of the daemon that was connected last; `None` before the first connection.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes whoever waits for events look.
    pub fn poke(&self) {
        self.events.send(Event::Look).unwrap_or_default();
    }

    /// Runs `job` on the libvirt thread, connecting first where needed.
    ///
    /// # Errors
    /// What `job` returned; [`VirtError::Deadline`] when it did not end in time: one that had not begun then
    /// never does, one that had may still end.
    pub fn call<R: Send + 'static>(
        &self,
        act: &'static str,
        deadline: Duration,
        job: impl FnOnce(&mut dyn Hypervisor) -> Result<R, VirtError> + Send + 'static,
    ) -> Result<R, VirtError> {
        let (answer, wait) = mpsc::sync_channel(1);
        let gone = Arc::new(AtomicBool::new(false));
        let nobody_waits = Arc::clone(&gone);
        let boxed: Job = Box::new(move |host| {
            if nobody_waits.load(Ordering::SeqCst) {
                return;
            }
            // A caller that no longer waits has had its deadline.
            answer.send(host.and_then(job)).unwrap_or_default();
        });
        let late = VirtError::Deadline { act, seconds: deadline.as_secs() };
        self.jobs.send(boxed).map_err(|_| late.clone())?;
        wait.recv_timeout(deadline).map_err(|_| {
            gone.store(true, Ordering::SeqCst);
            late
        })?
    }
}

enum Open {
    Dir(Dir),
    #[cfg(feature = "libvirt")]
    Real(super::real::Real),
}

struct Worker {
    uri: String,
    events: Sender<Event>,
    state: Arc<Mutex<String>>,
    version: Arc<Mutex<Option<Version>>>,
    open: Option<Open>,
}

impl Worker {
    fn run(mut self, queue: &Receiver<Job>) {
        while let Ok(job) = queue.recv() {
            let host = self.host();
            job(host);
        }
    }

    fn host(&mut self) -> Result<&mut dyn Hypervisor, VirtError> {
        self.drop_dead();
        let opened = match self.open.take() {
            Some(open) => Ok(open),
            None => self.connect().inspect(|open| self.learn_version(open)),
        };
        let text = match &opened {
            Ok(_) => "connected".to_owned(),
            Err(VirtError::Off) => "off".to_owned(),
            Err(error) => error.to_string(),
        };
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = text;
        match self.open.insert(opened?) {
            Open::Dir(dir) => Ok(dir),
            #[cfg(feature = "libvirt")]
            Open::Real(real) => Ok(real),
        }
    }

    fn learn_version(&self, open: &Open) {
        let version = match open {
            Open::Dir(dir) => dir.version(),
            #[cfg(feature = "libvirt")]
            Open::Real(real) => real.version(),
        };
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = version;
    }

    fn drop_dead(&mut self) {
        #[cfg(feature = "libvirt")]
        if matches!(&self.open, Some(Open::Real(real)) if !real.is_alive()) {
            self.open = None;
        }
    }

    fn connect(&self) -> Result<Open, VirtError> {
        match self.uri.split_once(':') {
            None if self.uri == "none" => Err(VirtError::Off),
            Some(("dir", path)) => Dir::open(path).map(Open::Dir),
            _ => self.connect_real(),
        }
    }

    #[cfg(feature = "libvirt")]
    fn connect_real(&self) -> Result<Open, VirtError> {
        super::real::Real::open(&self.uri, &self.events).map(Open::Real)
    }

    #[cfg(not(feature = "libvirt"))]
    fn connect_real(&self) -> Result<Open, VirtError> {
        let _ = &self.events;
        Err(VirtError::Uri { uri: self.uri.clone(), reason: "built without libvirt".to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_off_and_says_so() {
        let (link, _events) = Link::start("none").expect("thread");
        let answer = link.call("list", Duration::from_secs(5), |host| host.list());
        assert_eq!(answer, Err(VirtError::Off));
        assert_eq!(link.state(), "off");
    }

    #[test]
    fn a_call_that_hangs_costs_its_deadline_and_no_more() {
        let dir = tempfile::tempdir().expect("directory");
        let (link, _events) = Link::start(&format!("dir:{}", dir.path().display())).expect("thread");
        let (release, hold) = mpsc::channel::<()>();
        let answer = link.call("wait", Duration::from_millis(20), move |_| {
            let _ = hold.recv();
            Ok(())
        });
        assert_eq!(answer, Err(VirtError::Deadline { act: "wait", seconds: 0 }));
        drop(release);
        assert_eq!(link.call("list", Duration::from_secs(5), |host| host.list()), Ok(Vec::new()));
    }
}
