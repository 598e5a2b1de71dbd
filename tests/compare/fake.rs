//! The fake kernel as the host of a run.

use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;

use super::program::{Host, node, perform, sequence};
use super::support::fake::FakeKernel;
use super::support::spec::{HostSpec, KernelSpec};

/// Writers are answered at once, unless they sleep.
const WATCHED: Duration = Duration::from_millis(12);

struct Fake {
    kernel: FakeKernel,
    next_pid: u32,
}

impl Host for Fake {
    fn root(&self) -> &Path {
        self.kernel.root()
    }

    fn sleeps(&mut self, _thread: i32, others: usize, since: Duration) -> bool {
        since >= WATCHED && self.kernel.sleeping() > others
    }

    fn hold(&mut self, device: &str) -> Result<(), Errno> {
        // Not opened to see: the fake hears of a close a little later.
        std::fs::symlink_metadata(node(self.root(), device)?).map_err(|_| Errno::ENOENT)?;
        self.next_pid += 1;
        if self.kernel.hold(device, "web1", self.next_pid) { Ok(()) } else { Err(Errno::EBUSY) }
    }

    fn closed(&mut self, open: usize) {
        self.kernel.wait_open_nodes(open);
    }

    fn release(&mut self, device: &str) {
        self.kernel.unhold(device);
    }
}

/// Performs a sequence on a new fake host of the lab's devices; the text is what the program prints there.
pub(crate) fn on_the_fake(kernel: KernelSpec, seed: u64, count: usize) -> Vec<String> {
    let spec = HostSpec { kernel, ..HostSpec::lab() };
    let mut host = Fake { kernel: FakeKernel::mount(spec), next_pid: 4000 };
    let mut lines = vec![format!("seed {seed}")];
    let performed = perform(&mut host, &sequence(seed, count), &mut |line| lines.push(line));
    lines.push(format!("performed {performed}"));
    lines
}
