//! A random walk through everything that can be done and can go wrong, with an independent checker after each
//! step.
//!
//!     VGPUD_TORTURE_MINUTES=15 cargo test --test lab -- --nocapture torture::
//!
//! It says its seed, each step and what was survived. `VGPUD_TORTURE_SEED=N` walks the same way again, as far as
//! the machine is as quick: the steps come from the seed alone, what falls together in time does not.

#[path = "torture/act.rs"]
mod act;
#[path = "torture/check.rs"]
mod check;
#[path = "torture/steps.rs"]
mod steps;
#[path = "torture/witness.rs"]
mod witness;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use self::steps::{DOMAINS, Fault, Model, Step, Walk};
use self::witness::Witness;
use super::host::Lab;

const MINUTES: u64 = 3;
/// A walk of so many minutes has room for power cuts.
const WITH_CUTS: u64 = 10;
/// VFs of the first igb at the beginning.
const VFS: usize = 2;

/// How long the service may take to see what it was not told: it looks once a minute, and libvirt may have been
/// killed meanwhile.
const SETTLES: Duration = Duration::from_secs(150);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

struct Torture {
    lab: Lab,
    model: Model,
    /// QEMU's pids at the last check.
    pids: BTreeMap<String, u64>,
    steps: usize,
    survived: BTreeMap<&'static str, usize>,
    slowest: Duration,
}

impl Torture {
    fn new() -> Self {
        let lab = Lab::reset();
        act::quiet_kernel(&lab);
        DOMAINS.iter().for_each(|name| drop(lab.guest(name)));
        lab.manage_igb();
        lab.ok(&format!(
            "vgpuctl vfs set 0000:01:00.0 {VFS}; vgpuctl profile create small --type mtty-1
             vgpuctl profile create screen --type mdpy-hd; vgpuctl profile create nic --vf 8086:10ca; sync"
        ));
        let (steps, survived) = (0, BTreeMap::new());
        Self { lab, model: Model::new(VFS), pids: BTreeMap::new(), steps, survived, slowest: Duration::ZERO }
    }

    fn take(&mut self, step: &Step) {
        self.steps += 1;
        println!("{:4} {step:?}", self.steps);
        act::perform(&self.lab, &self.model, step);
        self.model.advance(step);
        self.check();
        if let Some(fault) = fault_of(step) {
            *self.survived.entry(fault).or_default() += 1;
        }
    }

    /// Waits until all agree; what can never be so fails at once.
    fn check(&mut self) {
        let began = Instant::now();
        loop {
            let witness = Witness::read(&self.lab);
            let grave = check::grave(&witness, &self.model, &self.pids);
            assert!(grave.is_empty(), "{grave:#?}\n{witness:#?}");
            let faults = check::faults(&witness, &self.model);
            if faults.is_empty() {
                self.pids = witness.qemus;
                break;
            }
            assert!(
                began.elapsed() < SETTLES,
                "not settled after {} s: {faults:#?}\n{witness:#?}",
                began.elapsed().as_secs()
            );
            std::thread::park_timeout(Duration::from_millis(300));
        }
        self.slowest = self.slowest.max(began.elapsed());
    }

    fn end(&mut self) {
        self.model.ending().iter().for_each(|step| self.take(step));
        self.lab.wait_agreement(&[]);
        assert_eq!(self.lab.mdevs(), [""; 0]);
        assert_eq!(self.lab.ok("vgpuctl allocations"), "no allocations");
    }
}

/// What a step put up with.
fn fault_of(step: &Step) -> Option<&'static str> {
    match step {
        Step::KillService => Some("service killed"),
        Step::RestartService => Some("service restarted"),
        Step::KillLibvirtd => Some("libvirtd killed"),
        Step::Start(_, fault) | Step::Stop(_, fault) => match fault {
            Fault::None => None,
            Fault::KillService(_) => Some("service killed during an operation"),
            Fault::FreezeService(_) => Some("service frozen during an operation"),
            Fault::KillLibvirtd(_) => Some("libvirtd killed during an operation"),
        },
        Step::StopUnseen(_) => Some("guest stopped while the service was away"),
        Step::Usurp(_) => Some("our UUID made by others"),
        Step::Yank(_) => Some("mdev of a running guest removed by hand"),
        Step::Make(..) => Some("mdev of others"),
        Step::Cut => Some("power cut"),
        _ => None,
    }
}

#[test]
fn a_random_walk_with_faults_leaks_nothing_loses_nothing_and_all_agree() {
    let seed = number("VGPUD_TORTURE_SEED").unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 >> 40);
    let minutes = number("VGPUD_TORTURE_MINUTES").unwrap_or(MINUTES);
    println!("VGPUD_TORTURE_SEED={seed} VGPUD_TORTURE_MINUTES={minutes}");
    let mut torture = Torture::new();
    let mut walk = Walk::new(seed, minutes >= WITH_CUTS);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(minutes * 60) {
        let step = walk.next(&torture.model);
        torture.take(&step);
    }
    torture.end();
    let faults: usize = torture.survived.values().sum();
    println!(
        "seed {seed}: {} steps, {faults} faults survived, all agreed within {} ms at most",
        torture.steps,
        torture.slowest.as_millis()
    );
    torture.survived.iter().for_each(|(fault, count)| println!("  {count:4} x {fault}"));
}
