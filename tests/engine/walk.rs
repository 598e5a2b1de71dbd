//! A walk of random steps against a model that knows only who runs and who made what: after each step the
//! host's mdevs are the model's. The seed is printed; `VGPUD_SEED` walks the same way again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::kit::{allocations, device, lab, look};
use crate::support::dice::Dice;
use crate::support::world::{World, wait};

const TIME: Duration = Duration::from_secs(18);
const DOMAINS: [&str; 6] = ["d0", "d1", "d2", "d3", "d4", "d5"];
const PF: &str = "0000:01:00.0";
const NUMVFS: &str = "sys/devices/pci0000:00/0000:00:02.0/0000:01:00.0/sriov_numvfs";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Profile {
    Small,
    Screen,
}

impl Profile {
    const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Screen => "screen",
        }
    }

    const fn parent(self) -> (&'static str, &'static str) {
        match self {
            Self::Small => ("mtty", "mtty-1"),
            Self::Screen => ("mdpy", "mdpy-hd"),
        }
    }
}

#[derive(Default)]
struct Domain {
    attached: Option<(Profile, String)>,
    running: bool,
}

struct Walk {
    world: World,
    dice: Dice,
    domains: BTreeMap<&'static str, Domain>,
    /// What others made: UUID to parent.
    foreign: BTreeMap<String, &'static str>,
    made: u32,
    log: Vec<String>,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let world = lab();
        for (place, name) in DOMAINS.iter().enumerate() {
            world.define(name, 100 + u32::try_from(place).expect("few"));
        }
        let domains = DOMAINS.iter().map(|name| (*name, Domain::default())).collect();
        Self { world, dice: Dice::new(seed), domains, foreign: BTreeMap::new(), made: 0, log: Vec::new() }
    }

    fn expected(&self) -> Vec<String> {
        let running = self.domains.values().filter(|domain| domain.running);
        let ours = running.filter_map(|domain| domain.attached.as_ref()).map(|(_, uuid)| uuid.clone());
        let mut all: Vec<String> = ours.chain(self.foreign.keys().cloned()).collect();
        all.sort();
        all
    }

    fn has_room(&self, profile: Profile) -> bool {
        let (parent, _) = profile.parent();
        let ours = self.domains.values().filter(|domain| {
            domain.running && domain.attached.as_ref().is_some_and(|(other, _)| *other == profile)
        });
        let used = ours.count() + self.foreign.values().filter(|at| **at == parent).count();
        used < if profile == Profile::Small { 24 } else { 4 }
    }

    fn tell(&mut self, text: String) {
        self.log.push(text);
    }

    fn some(&mut self, fits: impl Fn(&Domain) -> bool) -> Option<&'static str> {
        let names: Vec<&'static str> =
            self.domains.iter().filter(|(_, domain)| fits(domain)).map(|(name, _)| *name).collect();
        self.dice.some(&names)
    }

    fn domain(&mut self, name: &str) -> &mut Domain {
        self.domains.get_mut(name).expect("one of the domains")
    }

    fn step(&mut self) {
        match self.dice.roll(20) {
            0..=2 => self.attach(),
            3 => self.detach(),
            4..=8 => self.start(),
            9..=12 => self.stop(),
            13 => self.kill(),
            14 => self.restart(),
            15 | 16 => self.foreign_create(),
            17 => self.foreign_remove(),
            18 => self.vfs(),
            _ => look(&self.world),
        }
        self.agree();
    }

    fn agree(&self) {
        let expected = self.expected();
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.world.host.mdevs() != expected {
            assert!(
                Instant::now() < deadline,
                "the host has {:?}, the model {expected:?}\n{}\n--- service:\n{}",
                self.world.host.mdevs(),
                self.log.join("\n"),
                self.world.service_log()
            );
            look(&self.world);
        }
    }

    fn attach(&mut self) {
        let Some(name) = self.some(|domain| domain.attached.is_none()) else { return };
        let profile = self.dice.pick(&[Profile::Small, Profile::Screen, Profile::Screen]);
        self.tell(format!("attach {name} {}", profile.name()));
        self.world.ok(&format!("attach {name} --profile {}", profile.name()));
        let uuid = device(&self.world, name);
        self.domain(name).attached = Some((profile, uuid));
    }

    fn detach(&mut self) {
        let Some(name) = self.some(|domain| domain.attached.is_some() && !domain.running) else { return };
        self.tell(format!("detach {name}"));
        self.world.ok(&format!("detach {name}"));
        self.domain(name).attached = None;
        assert_eq!(self.world.devices(name), Vec::<String>::new());
    }

    fn start(&mut self) {
        let Some(name) = self.some(|domain| domain.attached.is_some() && !domain.running) else { return };
        let (profile, uuid) = self.domain(name).attached.clone().expect("attached");
        let (trouble, killed) = (self.dice.roll(4) == 0, self.dice.roll(5) == 0);
        let errno = self.dice.pick(&[Errno::ENOSPC, Errno::EUSERS, Errno::EIO, Errno::EINVAL, Errno::ENOMEM]);
        if trouble {
            self.world.host.fail_always("/create", errno);
        }
        let world = &self.world;
        let started = std::thread::scope(|scope| {
            let start = scope.spawn(|| world.start(name));
            if killed {
                world.kill_once();
            }
            start.join().expect("a start")
        });
        self.world.host.unhang("/create");
        let possible = !trouble && self.has_room(profile) && !self.foreign.contains_key(&uuid);
        self.tell(format!("start {name}, trouble {trouble}, killed {killed}: {started:?}"));
        assert_eq!(started.is_ok(), possible, "{}", self.log.join("\n"));
        self.domain(name).running = possible;
    }

    fn stop(&mut self) {
        let Some(name) = self.some(|domain| domain.running) else { return };
        let (trouble, killed) = (self.dice.roll(4) == 0, self.dice.roll(5) == 0);
        self.tell(format!("stop {name}, trouble {trouble}, killed {killed}"));
        if trouble {
            self.world.host.fail("/remove", 1, Errno::EIO);
        }
        let world = &self.world;
        std::thread::scope(|scope| {
            let stop = scope.spawn(|| world.stop(name));
            if killed {
                world.kill_once();
            }
            stop.join().expect("a stop");
        });
        self.world.host.unhang("/remove");
        self.domain(name).running = false;
    }

    fn kill(&mut self) {
        self.tell("kill".to_owned());
        self.world.kill_once();
    }

    fn restart(&mut self) {
        self.tell("restart".to_owned());
        self.world.stop_service();
        self.world.serve();
    }

    /// Now and then with a UUID that is promised to a domain.
    fn foreign_create(&mut self) {
        let profile = self.dice.pick(&[Profile::Small, Profile::Screen]);
        if !self.has_room(profile) || self.foreign.len() > 3 {
            return;
        }
        self.made += 1;
        let mut uuid = format!("ffffffff-0000-4000-8000-{:012}", self.made);
        if self.dice.roll(4) == 0
            && let Some(name) = self.some(|domain| domain.attached.is_some() && !domain.running)
        {
            uuid = self.domain(name).attached.clone().expect("attached").1;
        }
        if self.foreign.contains_key(&uuid) {
            return;
        }
        self.tell(format!("foreign {uuid} for {}", profile.name()));
        let (parent, kind) = profile.parent();
        self.world.host.foreign_mdev(parent, kind, &uuid).expect("room");
        self.foreign.insert(uuid, parent);
    }

    fn foreign_remove(&mut self) {
        let Some(uuid) = self.foreign.keys().next().cloned() else { return };
        self.tell(format!("foreign {uuid} goes"));
        let parent = self.foreign.remove(&uuid).expect("one of them");
        self.world.host.foreign_remove(parent, &uuid).expect("nobody holds it");
    }

    fn vfs(&mut self) {
        let count = self.dice.roll(8);
        self.tell(format!("vfs {count}"));
        self.world.ok(&format!("vfs set {PF} {count}"));
        assert_eq!(self.world.host.read(NUMVFS), Some(count.to_string()));
    }

    /// Everything ends: nothing is left on the host or in the ledger.
    fn end(&mut self) {
        while self.some(|domain| domain.running).is_some() {
            self.stop();
        }
        while !self.foreign.is_empty() {
            self.foreign_remove();
        }
        self.agree();
        while self.some(|domain| domain.attached.is_some()).is_some() {
            self.detach();
        }
        let world = &self.world;
        world.settles_to(&[], "at the end of the walk");
        wait("no promise is left", || {
            DOMAINS.iter().all(|name| allocations(world, name).is_empty()).then_some(())
        });
    }
}

#[test]
fn a_random_walk_leaks_nothing_and_loses_nothing() {
    let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
    let seed = std::env::var("VGPUD_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(random);
    println!("VGPUD_SEED={seed}");
    let mut walk = Walk::new(seed);
    let began = Instant::now();
    let mut steps = 0;
    while began.elapsed() < TIME {
        walk.step();
        steps += 1;
    }
    walk.end();
    let foreign = walk.world.host.writes();
    let touched = foreign.iter().find(|write| write.path.contains("/ffffffff-"));
    assert_eq!(touched, None, "a foreign mdev was written to");
    println!("{steps} steps");
}
