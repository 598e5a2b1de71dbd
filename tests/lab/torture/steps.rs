//! What the walker does next, and what must have come of it: pure, out of a seed alone. Nothing that happens
//! in the lab changes the walk, so the same seed walks the same way again.

use std::collections::BTreeMap;

use crate::support::dice::Dice;

/// The domains that the walk knows.
pub(crate) const DOMAINS: [&str; 6] = ["d0", "d1", "d2", "d3", "d4", "d5"];

/// Places of the kernel's samples: ports of `mtty`, displays of `mdpy`.
const MTTY_PLACES: usize = 24;
const MDPY_PLACES: usize = 4;
/// More slices than these make a start slow and no more interesting.
const MOST_SLICES: usize = 3;
const MOST_FOREIGN: usize = 5;
const MOST_VFS: usize = 4;

/// The three profiles of the walk.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Profile {
    /// `mtty-1`, of which there are many.
    Small,
    /// `mdpy-hd`, of which there are four.
    Screen,
    /// A VF of the first igb.
    Nic,
}

impl Profile {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Screen => "screen",
            Self::Nic => "nic",
        }
    }

    /// The parent and the type of its mdevs.
    pub(crate) const fn mdev(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Small => Some(("mtty", "mtty-1")),
            Self::Screen => Some(("mdpy", "mdpy-hd")),
            Self::Nic => None,
        }
    }
}

/// What a domain was promised.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Slice {
    pub(crate) profile: Profile,
    pub(crate) guaranteed: bool,
}

/// How far a guest is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Power {
    #[default]
    Off,
    /// Its QEMU has its devices, its processor was never let go.
    Paused,
    /// Its Linux is up.
    Awake,
}

/// A domain as it must be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Domain {
    pub(crate) slices: Vec<Slice>,
    pub(crate) power: Power,
}

impl Domain {
    pub(crate) fn runs(&self) -> bool {
        self.power != Power::Off
    }

    fn has(&self, profile: Profile) -> bool {
        self.slices.iter().any(|slice| slice.profile == profile)
    }
}

/// What goes wrong beside an operation, after so many milliseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    None,
    KillService(usize),
    FreezeService(usize),
    KillLibvirtd(usize),
}

/// Who makes an mdev that is not ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Maker {
    Mdevctl,
    Hand,
}

type Name = &'static str;

/// One step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    Attach(Name, Slice),
    Detach(Name),
    Start(Name, Fault),
    Stop(Name, Fault),
    /// Two starts at the same moment; both are stopped again.
    Race(Name, Name),
    /// `attach --live`.
    Plug(Name, Profile),
    /// `detach --live`, which needs a guest that lets go.
    Unplug(Name),
    /// The paused guest boots its Linux.
    Wake(Name),
    /// The guest reboots from inside.
    Reboot(Name),
    KillService,
    RestartService,
    /// The guest is destroyed while the service is away.
    StopUnseen(Name),
    KillLibvirtd,
    Make(Maker, Profile, String),
    Remove(Maker, String),
    /// Somebody makes a UUID of ours before its domain starts.
    Usurp(Name),
    /// A running guest's mdev is removed by hand, which ends when the guest does.
    Yank(Name),
    Vfs(usize),
    /// Undefined and defined again.
    Redefine(Name),
    /// Renamed and back.
    Rename(Name),
    /// udev replays all events.
    Events,
    /// The power of the whole host is cut.
    Cut,
}

/// What must be so after the steps up to now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) domains: BTreeMap<Name, Domain>,
    pub(crate) foreign: BTreeMap<String, (Maker, Profile)>,
    pub(crate) vfs: usize,
    made: u32,
}

impl Model {
    pub(crate) fn new(vfs: usize) -> Self {
        let domains = DOMAINS.iter().map(|name| (*name, Domain::default())).collect();
        Self { domains, vfs, ..Self::default() }
    }

    fn names(&self, fits: impl Fn(&Domain) -> bool) -> Vec<Name> {
        self.domains.iter().filter(|(_, domain)| fits(domain)).map(|(name, _)| *name).collect()
    }

    pub(crate) fn running(&self) -> Vec<Name> {
        self.names(Domain::runs)
    }

    /// How many slices of a profile a domain has.
    pub(crate) fn count(&self, name: Name, profile: Profile) -> usize {
        self.domains[name].slices.iter().filter(|slice| slice.profile == profile).count()
    }

    /// Places that are left for a profile.
    fn room(&self, profile: Profile) -> usize {
        let held = |domain: &Domain| {
            let holds = |slice: &&Slice| slice.profile == profile && (domain.runs() || slice.guaranteed);
            domain.slices.iter().filter(holds).count()
        };
        let ours: usize = self.domains.values().map(held).sum();
        let theirs = self.foreign.values().filter(|(_, other)| *other == profile).count();
        let all = match profile {
            Profile::Small => MTTY_PLACES,
            Profile::Screen => MDPY_PLACES,
            Profile::Nic => self.vfs,
        };
        all.saturating_sub(ours + theirs)
    }

    /// Whether a stopped domain's start must succeed.
    pub(crate) fn can_start(&self, name: Name) -> bool {
        let slices = &self.domains[name].slices;
        [Profile::Small, Profile::Screen, Profile::Nic].into_iter().all(|profile| {
            let needs = |slice: &&Slice| slice.profile == profile && !slice.guaranteed;
            slices.iter().filter(needs).count() <= self.room(profile)
        })
    }

    /// How many of two that start at the same moment come up: whoever is first, and then the other.
    pub(crate) fn race(&self, names: [Name; 2]) -> Vec<usize> {
        let in_turn = |order: [Name; 2]| {
            let mut model = self.clone();
            order.into_iter().filter(|name| model.try_start(name)).count()
        };
        vec![in_turn(names), in_turn([names[1], names[0]])]
    }

    fn try_start(&mut self, name: Name) -> bool {
        let can = self.can_start(name);
        if can {
            self.domain(name).power = Power::Paused;
        }
        can
    }

    /// Whether one slice more must be granted now.
    pub(crate) fn has_room(&self, profile: Profile) -> bool {
        self.room(profile) > 0
    }

    /// A domain has one VF at most, and gets it while one is free.
    fn may_have_nic(&self, name: Name) -> bool {
        !self.domains[name].has(Profile::Nic) && self.has_room(Profile::Nic)
    }

    fn domain(&mut self, name: Name) -> &mut Domain {
        self.domains.get_mut(name).expect("a domain of the walk")
    }

    /// Takes in what must have come of a step.
    pub(crate) fn advance(&mut self, step: &Step) {
        match step {
            Step::Attach(name, slice) => {
                if !slice.guaranteed || self.has_room(slice.profile) {
                    self.domain(name).slices.push(*slice);
                }
            }
            Step::Detach(name) | Step::Unplug(name) => self.domain(name).slices.clear(),
            Step::Start(name, _) => drop(self.try_start(name)),
            Step::Stop(name, _) | Step::StopUnseen(name) | Step::Yank(name) => {
                self.domain(name).power = Power::Off;
            }
            Step::Plug(name, profile) => {
                if self.has_room(*profile) {
                    self.domain(name).slices.push(Slice { profile: *profile, guaranteed: false });
                }
            }
            Step::Wake(name) => self.domain(name).power = Power::Awake,
            Step::Make(maker, profile, uuid) => {
                self.foreign.insert(uuid.clone(), (*maker, *profile));
                self.made += 1;
            }
            Step::Remove(_, uuid) => drop(self.foreign.remove(uuid)),
            Step::Vfs(count) => self.vfs = *count,
            Step::Cut => {
                self.domains.values_mut().for_each(|domain| domain.power = Power::Off);
                self.foreign.clear();
            }
            Step::Race(..)
            | Step::Reboot(_)
            | Step::KillService
            | Step::RestartService
            | Step::KillLibvirtd
            | Step::Usurp(_)
            | Step::Redefine(_)
            | Step::Rename(_)
            | Step::Events => {}
        }
    }

    /// What takes everything back, in its order.
    pub(crate) fn ending(&self) -> Vec<Step> {
        let stops = self.running().into_iter().map(|name| Step::Stop(name, Fault::None));
        let detaches = self.names(|domain| !domain.slices.is_empty()).into_iter().map(Step::Detach);
        let removes = self.foreign.iter().map(|(uuid, (maker, _))| Step::Remove(*maker, uuid.clone()));
        stops.chain(detaches).chain(removes).chain([Step::Vfs(0)]).collect()
    }
}

/// A walk that has no end.
#[derive(Debug)]
pub(crate) struct Walk {
    dice: Dice,
    has_cuts: bool,
}

impl Walk {
    /// With `has_cuts`, the power is cut now and then, which takes a boot.
    pub(crate) fn new(seed: u64, has_cuts: bool) -> Self {
        Self { dice: Dice::new(seed), has_cuts }
    }

    /// The next step that means something.
    pub(crate) fn next(&mut self, model: &Model) -> Step {
        loop {
            let roll = self.dice.roll(100);
            if let Some(step) = self.draw(roll, model) {
                return step;
            }
        }
    }

    fn draw(&mut self, roll: usize, model: &Model) -> Option<Step> {
        match roll {
            0..=11 => self.attach(model),
            12..=15 => {
                self.some(model, |domain| !domain.runs() && !domain.slices.is_empty()).map(Step::Detach)
            }
            16..=40 => {
                let name = self.some(model, |domain| !domain.runs() && !domain.slices.is_empty())?;
                Some(Step::Start(name, self.fault(6000)))
            }
            41..=52 => {
                let name = self.some(model, Domain::runs)?;
                Some(Step::Stop(name, self.fault(1500)))
            }
            53..=56 => self.race(model),
            57..=64 => self.plug(model),
            65 => {
                // One that is awake takes the one processor from all others.
                let asleep = model.names(|domain| domain.power == Power::Awake).is_empty();
                let name = self.some(model, |domain| domain.power == Power::Paused)?;
                asleep.then_some(Step::Wake(name))
            }
            66..=67 => self.some(model, |domain| domain.power == Power::Awake).map(Step::Reboot),
            68..=70 => {
                let lets_go = |domain: &Domain| domain.power == Power::Awake && !domain.slices.is_empty();
                self.some(model, lets_go).map(Step::Unplug)
            }
            71..=73 => Some(Step::KillService),
            74..=75 => Some(Step::RestartService),
            76..=78 => self.some(model, Domain::runs).map(Step::StopUnseen),
            79..=81 => Some(Step::KillLibvirtd),
            82..=87 => self.make(model),
            88..=89 => self.remove(model),
            90..=91 => self.some(model, |domain| !domain.runs() && is_late(domain)).map(Step::Usurp),
            92 => self.some(model, |domain| domain.runs() && is_late(domain)).map(Step::Yank),
            93..=95 => {
                let used = model.domains.values().any(|domain| domain.runs() && domain.has(Profile::Nic));
                (!used).then(|| Step::Vfs(self.dice.roll(MOST_VFS + 1)))
            }
            96 => self.some(model, |domain| !domain.runs()).map(Step::Redefine),
            97 => self.some(model, |domain| !domain.runs()).map(Step::Rename),
            98 => Some(Step::Events),
            _ => self.has_cuts.then_some(Step::Cut),
        }
    }

    fn some(&mut self, model: &Model, fits: impl Fn(&Domain) -> bool) -> Option<Name> {
        self.dice.some(&model.names(fits))
    }

    fn fault(&mut self, within: usize) -> Fault {
        let after = self.dice.roll(within);
        match self.dice.roll(8) {
            0 => Fault::KillService(after),
            1 => Fault::FreezeService(after),
            2 => Fault::KillLibvirtd(after),
            _ => Fault::None,
        }
    }

    fn attach(&mut self, model: &Model) -> Option<Step> {
        let name = self.some(model, |domain| !domain.runs() && domain.slices.len() < MOST_SLICES)?;
        let profile = self.dice.pick(&[Profile::Small, Profile::Screen, Profile::Screen, Profile::Nic]);
        let guaranteed = profile != Profile::Nic && self.dice.roll(4) == 0;
        let possible = profile != Profile::Nic || model.may_have_nic(name);
        possible.then_some(Step::Attach(name, Slice { profile, guaranteed }))
    }

    fn race(&mut self, model: &Model) -> Option<Step> {
        let starts =
            |domain: &Domain| !domain.runs() && !domain.slices.is_empty() && !domain.has(Profile::Nic);
        let (one, other) = (self.some(model, starts)?, self.some(model, starts)?);
        (one != other).then_some(Step::Race(one, other))
    }

    fn plug(&mut self, model: &Model) -> Option<Step> {
        let name = self.some(model, |domain| domain.runs() && domain.slices.len() < MOST_SLICES)?;
        let profile = self.dice.pick(&[Profile::Small, Profile::Screen, Profile::Nic]);
        let possible = profile != Profile::Nic || model.may_have_nic(name);
        possible.then_some(Step::Plug(name, profile))
    }

    fn make(&mut self, model: &Model) -> Option<Step> {
        let maker = self.dice.pick(&[Maker::Mdevctl, Maker::Hand]);
        let profile = self.dice.pick(&[Profile::Small, Profile::Screen]);
        let possible = model.has_room(profile) && model.foreign.len() < MOST_FOREIGN;
        let uuid = format!("ffffffff-0000-4000-8000-{:012}", model.made);
        possible.then_some(Step::Make(maker, profile, uuid))
    }

    fn remove(&mut self, model: &Model) -> Option<Step> {
        let all: Vec<_> = model.foreign.iter().map(|(uuid, (maker, _))| (uuid, *maker)).collect();
        let (uuid, maker) = self.dice.some(&all)?;
        Some(Step::Remove(maker, uuid.clone()))
    }
}

/// Whether it has an mdev that exists only while it runs.
fn is_late(domain: &Domain) -> bool {
    domain.slices.iter().any(|slice| slice.profile.mdev().is_some() && !slice.guaranteed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walked(seed: u64, steps: usize) -> (Vec<Step>, Model) {
        let (mut walk, mut model) = (Walk::new(seed, true), Model::new(2));
        let mut taken = Vec::new();
        for _ in 0..steps {
            let step = walk.next(&model);
            model.advance(&step);
            taken.push(step);
        }
        (taken, model)
    }

    #[test]
    fn a_seed_is_a_walk() {
        assert_eq!(walked(7, 500).0, walked(7, 500).0);
        assert_ne!(walked(7, 50).0, walked(8, 50).0);
    }

    #[test]
    fn every_kind_of_step_comes() {
        let (steps, _) = walked(1, 3000);
        let kinds: std::collections::BTreeSet<String> = steps
            .iter()
            .map(|step| format!("{step:?}").split(['(', ' ']).next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(kinds.len(), 22, "{kinds:?}");
    }

    #[test]
    fn no_place_is_given_twice_and_the_end_leaves_nothing() {
        for seed in 0..50 {
            let (_, mut model) = walked(seed, 300);
            let held = |profile| {
                let slices =
                    model.domains.values().filter(|domain| domain.runs()).flat_map(|one| &one.slices);
                slices.filter(|slice| slice.profile == profile).count()
            };
            assert!(held(Profile::Screen) <= MDPY_PLACES && held(Profile::Nic) <= model.vfs, "seed {seed}");
            model.ending().iter().for_each(|step| model.advance(step));
            assert!(model.foreign.is_empty() && model.running().is_empty());
            assert!(model.domains.values().all(|domain| domain.slices.is_empty()));
        }
    }
}
