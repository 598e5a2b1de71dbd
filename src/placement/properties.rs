//! Placement against a second, dumber implementation.

use proptest::prelude::*;

use super::*;
use crate::model::fixture::{gpu, holder, host, mdev, mdev_type, parent, pci, pci_id, pf, profile, uuid, vf};
use crate::model::{BackendKind, Framebuffer, Gpu, MdevParent, MdevType, Vf};

/// Types that every host mixes from: (id, framebuffer).
const TYPES: [(&str, u32); 3] = [("t-1", 1024), ("t-2", 2048), ("t-3", 2048)];

fn any_parent(name: String) -> impl Strategy<Value = MdevParent> {
    let types = proptest::sample::subsequence(TYPES.to_vec(), 0..=3);
    (types, proptest::collection::vec(0u32..3, 3), 0u32..3).prop_map(move |(types, left, made)| {
        let with_left = types.iter().zip(left);
        let types: Vec<MdevType> = with_left.map(|((id, mib), left)| mdev_type(id, *mib, left)).collect();
        let first = types.first().map(|t| t.id.to_string());
        let mut one = parent(&name, types);
        // UUIDs from 1000 up are on the host, those below are wanted.
        let base = 1000 + 10 * u32::from(name.as_bytes()[0]) + u32::from(name.as_bytes()[1]);
        one.mdevs = first.map(|id| (0..made).map(|n| mdev(base * 10 + n, &id)).collect()).unwrap_or_default();
        one
    })
}

fn any_vf(address: String) -> impl Strategy<Value = Vf> {
    (any::<bool>(), proptest::bool::weighted(0.3), proptest::bool::weighted(0.2)).prop_map(
        move |(vfio, held, other)| {
            let mut one = vf(&address, if other { "1af4:1041" } else { "8086:10ca" });
            one.vfio = vfio;
            one.holders = if held { vec![holder(Some("web9"))] } else { vec![] };
            one
        },
    )
}

fn any_gpu(number: usize) -> impl Strategy<Value = Gpu> {
    let parents = (0..=2usize).prop_flat_map(move |count| {
        (0..count).map(|n| any_parent(format!("{number}{n}"))).collect::<Vec<_>>()
    });
    let vfs = (0..=3usize).prop_flat_map(move |count| {
        (0..count).map(|n| any_vf(format!("0000:0{number}:10.{n}"))).collect::<Vec<_>>()
    });
    prop_oneof![
        2 => parents.prop_map(move |parents| gpu(&format!("g{number}"), parents)),
        1 => vfs.prop_map(move |vfs| pf(&format!("g{number}"), vfs)),
    ]
}

fn any_host() -> impl Strategy<Value = HostSnapshot> {
    (0..=3usize).prop_flat_map(|count| (0..count).map(any_gpu).collect::<Vec<_>>()).prop_map(host)
}

/// Hosts that are nearly full and whose parents differ, so that wants get in each other's way.
fn tight_host() -> impl Strategy<Value = HostSnapshot> {
    let types = proptest::sample::subsequence(TYPES.to_vec(), 1..=2);
    let parents = proptest::collection::vec(types, 2..=4);
    parents.prop_map(|parents| {
        let types = |types: Vec<(&str, u32)>| types.iter().map(|(id, mib)| mdev_type(id, *mib, 1)).collect();
        let named = (0..).zip(parents).map(|(n, offered)| (format!("g{n}"), types(offered)));
        host(named.map(|(name, types)| gpu(&name, vec![parent(&name, types)])).collect())
    })
}

/// The same host as read in another order.
fn shuffled(snapshot: &HostSnapshot, seed: u64) -> HostSnapshot {
    let mut other = snapshot.clone();
    let turn = |len: usize| if len == 0 { 0 } else { usize::try_from(seed).unwrap_or(0) % len };
    for gpu in &mut other.gpus {
        let by = turn(gpu.parents.len());
        gpu.parents.rotate_left(by);
        for parent in &mut gpu.parents {
            parent.types.reverse();
            let by = turn(parent.mdevs.len());
            parent.mdevs.rotate_left(by);
        }
        gpu.sriov.iter_mut().for_each(|sriov| sriov.vfs.reverse());
    }
    let by = turn(other.gpus.len());
    other.gpus.rotate_left(by);
    other
}

fn any_profile() -> impl Strategy<Value = Profile> {
    prop_oneof![
        Just(profile("one", Wish::Type("t-1".to_owned()))),
        Just(profile("two", Wish::Type("Driver's t-2".to_owned()))),
        Just(profile("big", Wish::Framebuffer(Framebuffer::from_mib(1500)))),
        Just(profile("any", Wish::Framebuffer(Framebuffer::from_mib(1)))),
        Just(profile("nic", Wish::Vf(pci_id("8086:10ca")))),
    ]
}

fn any_wants() -> impl Strategy<Value = Vec<Want>> {
    let want = (any_profile(), 0u8..3, 0u8..4);
    proptest::collection::vec(want, 0..5).prop_map(|wants| {
        let make = |(number, (profile, bus, function)): (u32, (Profile, u8, u8))| {
            let device = match profile.wish {
                Wish::Vf(_) => Device::Vf(pci(&format!("0000:0{bus}:10.{function}"))),
                _ => Device::Mdev(uuid(number)),
            };
            let (allocation, bounds) = (AllocationId::from_bits(number), Bounds::default());
            Want { allocation, profile, bounds, device }
        };
        (0..).zip(wants).map(make).collect()
    })
}

fn any_barred() -> impl Strategy<Value = Vec<Barred>> {
    let one = ("[0-2][01]|g[0-2]", proptest::option::of("t-[123]")).prop_map(|(parent, mdev_type)| Barred {
        parent: parent.parse().expect("valid"),
        mdev_type: mdev_type.map(|id| id.parse().expect("valid")),
        reason: "answered ENOSPC".to_owned(),
    });
    proptest::collection::vec(one, 0..2)
}

/// What a parent would make for a wish, written again without looking at the room's code.
fn serves(parent: &MdevParent, wish: &Wish) -> Option<MdevType> {
    let mut types = parent.types.clone();
    types.sort_by_key(|t| (t.framebuffer, t.id.clone()));
    types.into_iter().find(|t| match wish {
        Wish::Type(name) => t.id.as_str() == name || &t.name == name,
        Wish::Framebuffer(least) => t.framebuffer >= Some(*least),
        Wish::Vf(_) | Wish::Gpu(_) => false,
    })
}

fn is_barred(barred: &[Barred], parent: &DeviceName, mdev_type: Option<&MdevTypeId>) -> bool {
    barred.iter().any(|b| &b.parent == parent && (b.mdev_type.is_none() || b.mdev_type.as_ref() == mdev_type))
}

/// Returns whether a named VF can be given.
fn vf_can(snapshot: &HostSnapshot, address: crate::model::PciAddress, barred: &[Barred]) -> bool {
    snapshot.vf(address).is_some_and(|(gpu, vf)| {
        gpu.backend == BackendKind::Sriov
            && vf.id == pci_id("8086:10ca")
            && vf.holders.is_empty()
            && !is_barred(barred, &gpu.name, None)
    })
}

/// Tries every parent for every want.
fn possible(
    wants: &[Want],
    snapshot: &HostSnapshot,
    barred: &[Barred],
    taken: &mut Vec<(DeviceName, MdevTypeId)>,
    vfs: &mut BTreeSet<Device>,
) -> bool {
    let Some((want, rest)) = wants.split_first() else { return true };
    if let Device::Vf(address) = want.device {
        return vf_can(snapshot, address, barred)
            && vfs.insert(want.device)
            && possible(rest, snapshot, barred, taken, vfs);
    }
    snapshot.parents().any(|(_, parent)| {
        let Some(t) = serves(parent, &want.profile.wish) else { return false };
        let place = (parent.name.clone(), t.id.clone());
        let used = taken.iter().filter(|one| **one == place).count();
        if is_barred(barred, &parent.name, Some(&t.id)) || used >= usize::try_from(t.available).unwrap_or(0) {
            return false;
        }
        taken.push(place);
        let done = possible(rest, snapshot, barred, taken, &mut vfs.clone());
        taken.pop();
        done
    })
}

/// Checks an answer against the host, one want at a time.
fn check(
    wants: &[Want],
    choices: &[Choice],
    snapshot: &HostSnapshot,
    barred: &[Barred],
) -> Result<(), String> {
    let mut given: BTreeMap<(DeviceName, MdevTypeId), u32> = BTreeMap::new();
    let mut devices = BTreeSet::new();
    for (want, choice) in wants.iter().zip(choices) {
        if (choice.device, &choice.allocation) != (want.device, &want.allocation)
            || !devices.insert(choice.device)
        {
            return Err(format!("{choice:?} is not for {want:?}, or given twice"));
        }
        match choice.device {
            Device::Vf(address) if vf_can(snapshot, address, barred) => {}
            Device::Vf(_) => return Err(format!("{choice:?} is not to be had")),
            Device::Mdev(_) => {
                let id = choice.mdev_type.clone().ok_or("no type")?;
                if is_barred(barred, &choice.parent, Some(&id)) {
                    return Err(format!("{choice:?} is barred"));
                }
                *given.entry((choice.parent.clone(), id)).or_default() += 1;
                let fits = snapshot.parents().any(|(gpu, parent)| {
                    let serves = serves(parent, &want.profile.wish).map(|t| t.id);
                    (&gpu.id, &parent.name, &serves) == (&choice.gpu, &choice.parent, &choice.mdev_type)
                });
                if !fits {
                    return Err(format!("{choice:?} does not serve {want:?}"));
                }
            }
        }
    }
    for ((name, id), count) in given {
        let parent = snapshot.parents().find(|(_, parent)| parent.name == name).ok_or("no parent")?.1;
        if parent.types.iter().any(|t| t.id == id && t.available < count) {
            return Err(format!("{name} gives {count} of {id}"));
        }
    }
    if choices.len() == wants.len() { Ok(()) } else { Err("not one choice per want".to_owned()) }
}

/// Compares the answer with what the dumb checker finds.
fn judge(snapshot: &HostSnapshot, wants: &[Want], barred: &[Barred]) -> Result<(), TestCaseError> {
    let can = possible(wants, snapshot, barred, &mut Vec::new(), &mut BTreeSet::new());
    match choose(wants, snapshot, &Owners::new(), barred) {
        Ok(choices) => {
            prop_assert!(can, "the dumb checker finds no way");
            prop_assert_eq!(check(wants, &choices, snapshot, barred), Ok(()));
        }
        Err(refusal) => {
            prop_assert!(!can, "refused although it can be done: {}", refusal);
            let line = refusal.to_string();
            prop_assert!(!line.contains(char::is_control) && line.chars().count() < 4096);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn answers_are_sound_and_refusals_are_true(
        snapshot in any_host(), wants in any_wants(), barred in any_barred(),
    ) {
        judge(&snapshot, &wants, &barred)?;
    }

    #[test]
    fn refusals_are_true_where_wants_get_in_each_others_way(snapshot in tight_host(), wants in any_wants()) {
        let wants: Vec<Want> = wants.into_iter().filter(|want| matches!(want.device, Device::Mdev(_))).collect();
        judge(&snapshot, &wants, &[])?;
    }

    #[test]
    fn the_order_of_reading_does_not_matter(
        snapshot in any_host(), wants in any_wants(), barred in any_barred(), seed: u64,
    ) {
        let other = shuffled(&snapshot, seed);
        let owners = Owners::new();
        let answer = choose(&wants, &snapshot, &owners, &barred);
        prop_assert_eq!(choose(&wants, &other, &owners, &barred), answer);
        for want in &wants {
            let explained = explain(&want.profile, &want.bounds, &snapshot, &owners, &barred);
            prop_assert_eq!(explain(&want.profile, &want.bounds, &other, &owners, &barred), explained);
        }
    }

    #[test]
    fn the_first_candidate_of_an_explanation_is_the_choice(
        snapshot in any_host(), profile in any_profile(), barred in any_barred(),
    ) {
        let explained = explain(&profile, &Bounds::default(), &snapshot, &Owners::new(), &barred);
        for candidate in &explained {
            prop_assert_eq!(candidate.possible == 0, candidate.reason.is_some());
        }
        if !matches!(profile.wish, Wish::Vf(_)) {
            let (allocation, bounds) = (AllocationId::from_bits(1), Bounds::default());
            let want = Want { allocation, profile, bounds, device: Device::Mdev(uuid(1)) };
            let chosen = choose(&[want], &snapshot, &Owners::new(), &barred).ok();
            let first = explained.into_iter().next().filter(|first| first.possible > 0);
            prop_assert_eq!(
                chosen.map(|choices| (choices[0].parent.clone(), choices[0].mdev_type.clone())),
                first.map(|first| (first.parent, first.mdev_type))
            );
        }
    }

    #[test]
    fn bounds_are_as_if_nothing_else_were_there(
        snapshot in any_host(), profile in any_profile(), barred in any_barred(),
        at in proptest::option::of(0usize..3), exact in proptest::option::of("t-[123]"),
    ) {
        prop_assume!(!matches!(profile.wish, Wish::Vf(_)));
        let gpu = at.map(|number| format!("virtual:g{number}").parse().expect("valid identity"));
        let bounds = Bounds { gpu, exact: exact.map(Wish::Type), ..Bounds::default() };
        let mut only = snapshot.clone();
        only.gpus.retain(|found| bounds.gpu.as_ref().is_none_or(|gpu| *gpu == found.id));
        let (allocation, device) = (AllocationId::from_bits(1), Device::Mdev(uuid(1)));
        let alone = Want { allocation, profile: bounds.narrow(&profile), bounds: Bounds::default(), device };
        let bound = Want { profile: profile.clone(), bounds: bounds.clone(), ..alone.clone() };
        let free = choose(&[alone], &only, &Owners::new(), &barred).ok();
        let answer = choose(&[bound], &snapshot, &Owners::new(), &barred);
        if let Err(refusal) = &answer {
            prop_assert_eq!(refusal.hints()[0].contains("allocation 00000001"), !bounds.is_free());
        }
        prop_assert_eq!(answer.ok(), free.clone());
        let explained = explain(&profile, &bounds, &snapshot, &Owners::new(), &barred);
        let first = explained.into_iter().next().filter(|first| first.possible > 0).map(|first| first.parent);
        prop_assert_eq!(first, free.map(|choices| choices[0].parent.clone()));
    }

    #[test]
    fn no_other_vf_is_named_less(snapshot in any_host(), named in proptest::collection::vec(0u32..3, 9)) {
        let all: Vec<&Vf> = snapshot.vfs().map(|(_, vf)| vf).filter(|vf| vf.id == pci_id("8086:10ca")).collect();
        let named: BTreeMap<_, _> = all.iter().map(|vf| vf.address).zip(named).collect();
        let profile = profile("nic", Wish::Vf(pci_id("8086:10ca")));
        match choose_vf(&profile, &Bounds::default(), &snapshot, &Owners::new(), Naming { named: &named, mine: &BTreeSet::new(), must: Must::Exist }) {
            Err(_) => prop_assert!(all.is_empty()),
            Ok(address) => {
                let chosen = all.iter().find(|vf| vf.address == address).expect("it exists");
                let users = |vf: &Vf| named[&vf.address].max(u32::from(!vf.holders.is_empty()));
                let better = |vf: &&&Vf| users(vf) < users(chosen);
                prop_assert!(all.iter().find(better).is_none());
                let fixed = BTreeSet::from([address]);
                if let Ok(second) = choose_vf(&profile, &Bounds::default(), &snapshot, &Owners::new(), Naming { named: &named, mine: &fixed, must: Must::Exist }) {
                    prop_assert_ne!(second, address);
                }
            }
        }
    }
}
