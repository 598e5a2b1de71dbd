//! Hot-plug: slices into and out of a running guest.
//!
//! libvirt runs no hook for it, so the slice is made first, plugged, and looked for in the live XML. An
//! unplug counts only when the live XML no longer shows the hostdev: libvirt answers before the guest has
//! let go. Seen in libvirt 11.3: a time-out of the guest is reported as success.

use std::time::{Duration, Instant};

use super::{CALL, Desk, shows};
use crate::libvirt::{Definition, Listed};
use crate::model::{Allocation, AllocationId, Kind, Refusal};

/// The first VFIO device of a guest has all of its memory pinned.
const PLUG: Duration = Duration::from_secs(120);

/// How long a guest may take to let go of a device. libvirt itself waits 5 s.
const UNPLUG: Duration = Duration::from_secs(15);

/// Between two looks at the live XML while waiting for that.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

impl Desk {
    /// Makes and plugs what the guest does not have yet. Returns what was plugged.
    ///
    /// All or nothing: a refused plug takes the others out again and gives their slices back.
    pub(super) fn plug_all(&self, listed: &Listed, all: &[Allocation]) -> Result<Vec<Allocation>, Refusal> {
        let live = self.shown(listed.domain.uuid, Definition::Live)?;
        let missing: Vec<Allocation> = all.iter().filter(|one| !shows(&live, one)).cloned().collect();
        // Until the live XML shows them, a look must not take these for slices that were unplugged.
        let _plugging = self.engine.plugging(&missing);
        self.engine.make_now(&missing)?;
        let done = self.plug_made(listed, &missing);
        done.inspect_err(|_| self.unplug_all(listed, &missing))?;
        Ok(missing)
    }

    fn plug_made(&self, listed: &Listed, made: &[Allocation]) -> Result<(), Refusal> {
        let domain = listed.domain.uuid;
        for allocation in made {
            let hostdev = self.hostdev(allocation)?;
            let done = self.link.call("plug a hostdev", PLUG, move |host| host.plug(domain, &hostdev));
            done.map_err(|error| Refusal::from(&error))?;
        }
        let live = self.shown(domain, Definition::Live)?;
        match made.iter().find(|one| !shows(&live, one)) {
            None => Ok(()),
            Some(one) => Err(Refusal::new(
                Kind::HostFault,
                format!(
                    "libvirt plugged {} into domain {}, but its live XML does not show it",
                    one.device, listed.domain.name
                ),
            )),
        }
    }

    /// Takes back what a failed attach plugged; what the guest keeps is left to the next look.
    pub(super) fn unplug_all(&self, listed: &Listed, plugged: &[Allocation]) {
        if let Err(refusal) = self.unplug_and_wait(listed, plugged) {
            tracing::warn!(domain = %listed.domain.name, error = %refusal, "a failed attach is not undone yet");
            return;
        }
        let ids: Vec<AllocationId> = plugged.iter().map(|one| one.id.clone()).collect();
        self.engine.unmake(&ids);
    }

    /// Unplugs hostdevs and waits until the live XML no longer shows them.
    pub(super) fn unplug_and_wait(&self, listed: &Listed, chosen: &[Allocation]) -> Result<(), Refusal> {
        let domain = listed.domain.uuid;
        let live = self.shown(domain, Definition::Live)?;
        let there: Vec<&Allocation> = chosen.iter().filter(|one| shows(&live, one)).collect();
        for allocation in &there {
            let (hostdev, id) = (self.hostdev(allocation)?, allocation.id.clone());
            let done =
                self.link.call("unplug a hostdev", CALL, move |host| host.unplug(domain, &hostdev, &id));
            done.map_err(|error| Refusal::from(&error))?;
        }
        let began = Instant::now();
        while began.elapsed() < UNPLUG {
            if self
                .shown(domain, Definition::Live)
                .is_ok_and(|live| there.iter().all(|one| !shows(&live, one)))
            {
                return Ok(());
            }
            std::thread::park_timeout(LOOK_AGAIN);
        }
        Err(Refusal::new(
            Kind::Busy,
            format!(
                "the guest of domain {} has not let go of its device for {} s",
                listed.domain.name,
                began.elapsed().as_secs()
            ),
        )
        .hint("its slice is given back as soon as it does, or when the domain stops"))
    }
}
