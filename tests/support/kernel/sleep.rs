//! Writers and readers that sleep: for a guest that has the device, or for the device's lock
//! (k:drivers/base/dd.c: `device_lock` is held while a driver lets go).

use nix::errno::Errno;

use super::{Answer, Effect, Kernel};

/// An access that sleeps in the kernel.
pub(super) struct Sleeper {
    number: u64,
    wait: Wait,
    then: Then,
}

/// What it waits for.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Wait {
    /// That no guest has the device.
    Held(String),
    /// That nobody who sleeps has the device's lock.
    Locked(String),
}

/// What happens when it may go on.
#[derive(Clone)]
pub(super) enum Then {
    Remove {
        uuid: String,
    },
    /// The PF's VFs go, one after the other; then its driver, when that is why.
    Vfs {
        pf: String,
        unbind: bool,
    },
    Unbind {
        device: String,
    },
    /// The whole write once more: until it has the lock it has done nothing.
    Write {
        path: String,
        value: String,
    },
    /// Nothing is left to do.
    Nothing,
}

impl Sleeper {
    /// Whether it has the lock of a device while it sleeps.
    fn locks(&self, device: &str) -> bool {
        let waited_for = matches!(&self.wait, Wait::Held(held) if held == device);
        match &self.then {
            Then::Vfs { pf, .. } => pf == device || waited_for,
            Then::Unbind { .. } => waited_for,
            Then::Remove { .. } | Then::Write { .. } | Then::Nothing => false,
        }
    }
}

impl Kernel {
    pub(super) fn is_held(&self, device: &str) -> bool {
        self.holds.contains_key(device)
    }

    /// Whether somebody who sleeps has the device's lock.
    pub(super) fn is_locked(&self, device: &str) -> bool {
        self.sleepers.iter().any(|sleeper| sleeper.locks(device))
    }

    pub(super) fn sleep(&mut self, wait: Wait, then: Then) -> Effect {
        let number = self.next_sleeper;
        self.next_sleeper += 1;
        self.sleepers.push(Sleeper { number, wait, then });
        Effect::Asleep(number)
    }

    /// Reading an attribute that takes the lock (sriov_numvfs_show); the number when the reader sleeps.
    pub(crate) fn wait_to_read(&mut self, path: &str) -> Option<u64> {
        let (dir, attribute) = path.rsplit_once('/')?;
        let device = dir.rsplit('/').next()?;
        let locks = match attribute {
            "sriov_numvfs" => true,
            "driver_override" => self.spec.kernel.locks_for_override(),
            _ => false,
        };
        if !locks || !self.is_locked(device) {
            return None;
        }
        match self.sleep(Wait::Locked(device.to_owned()), Then::Nothing) {
            Effect::Asleep(number) => Some(number),
            Effect::Done(_) => None,
        }
    }

    /// Lets everybody go on who can, in the order in which they came, until nobody can.
    pub(super) fn wake(&mut self) -> Vec<(u64, Answer)> {
        let mut woken = Vec::new();
        while let Some(place) = self.sleepers.iter().position(|sleeper| self.may_go_on(&sleeper.wait)) {
            let sleeper = self.sleepers.remove(place);
            match self.go_on(sleeper.then) {
                Effect::Done(answer) => woken.push((sleeper.number, answer)),
                // It sleeps again: it keeps its number and its place.
                Effect::Asleep(_) => {
                    if let Some(mut again) = self.sleepers.pop() {
                        again.number = sleeper.number;
                        self.sleepers.insert(place, again);
                    }
                }
            }
        }
        woken
    }

    fn may_go_on(&self, wait: &Wait) -> bool {
        match wait {
            Wait::Held(device) => !self.is_held(device),
            Wait::Locked(device) => !self.is_locked(device),
        }
    }

    fn go_on(&mut self, then: Then) -> Effect {
        match then {
            Then::Remove { uuid } => self.finish_remove(&uuid),
            Then::Vfs { pf, unbind } => return self.remove_vfs(&pf, unbind),
            Then::Unbind { device } => self.take(&device),
            // Its device waits for the writer before it goes (driver_set_override has nothing else to do).
            Then::Write { path, .. } if path.ends_with("/driver_override") && !self.tree.exists(&path) => {}
            // The attribute went away while its writer slept (k:fs/kernfs/file.c).
            Then::Write { path, .. } if !self.tree.exists(&path) => return Effect::Done(Err(Errno::ENODEV)),
            Then::Write { path, value } => return self.write(&path, &value),
            Then::Nothing => {}
        }
        Effect::Done(Ok(()))
    }
}
