use super::*;
use crate::ledger::SettingWish;
use crate::model::fixture::{
    gpu, host, mdev_type, name_of, parent, pci, pci_id, pf, profile, type_id, uuid, vf,
};
use crate::model::{AllocationState, CapacityMode, MdevType, Pointing, Realized, RunId, Terms, Wish};

const SLOT: &str = "pci:0000:01:00.0/8086:10c9/8086:a02b";

/// A host as a plan sees it, with room for everything that a plan is made from.
struct Scene {
    book: Book,
    boot_id: BootId,
    snapshot: HostSnapshot,
    occupants: BTreeMap<GpuId, GpuId>,
    renewed: BTreeSet<GpuId>,
    seen: BTreeSet<AllocationId>,
    starting: Vec<Starting>,
    nvml: BTreeMap<GpuId, Result<GpuState, String>>,
    overdue: BTreeSet<Restored>,
}

impl Scene {
    fn new(gpus: Vec<Gpu>) -> Self {
        Self {
            book: Book::default(),
            boot_id: "now".parse().expect("boot id"),
            snapshot: host(gpus),
            occupants: BTreeMap::new(),
            renewed: BTreeSet::new(),
            seen: BTreeSet::new(),
            starting: Vec::new(),
            nvml: BTreeMap::new(),
            overdue: BTreeSet::new(),
        }
    }

    fn wish(mut self, count: u32, boot_id: &str) -> Self {
        let boot_id = boot_id.parse().expect("boot id");
        let wish = VfWish { gpu: slot(), count, autoprobe_before: None, boot_id };
        self.book.wishes.insert(slot(), wish);
        self
    }

    fn promise(mut self, device: Device, mode: CapacityMode, settled: Option<Settled>) -> Self {
        let wish = match device {
            Device::Mdev(_) => Wish::Type("t".to_owned()),
            Device::Vf(_) => Wish::Vf(pci_id("8086:10ca")),
        };
        let profile = profile("small", wish);
        let allocation = Allocation {
            companions: Vec::new(),
            id: AllocationId::from_bits(1),
            domain: domain(),
            profile: profile.name.clone(),
            device,
            state: AllocationState::Attached,
            until: None,
            terms: Terms { mode, ..Terms::default() },
            settled,
            owner: None,
            pointing: Pointing::default(),
            saved: false,
        };
        self.book.profiles.insert(profile.name.clone(), profile);
        self.book.allocations.insert(allocation.id.clone(), allocation);
        self
    }

    fn starts(mut self) -> Self {
        let device = self.book.allocations.values().next().expect("a promise").device;
        let devices = vec![HookDevice { allocation: Some(AllocationId::from_bits(1)), device }];
        self.starting.push(Starting { domain: domain(), devices });
        self
    }

    fn made(mut self, device: Device) -> Self {
        let known = self.book.allocations.values().next().and_then(|one| one.settled.clone());
        let place = known.expect("a promise that has settled");
        let record = Realized {
            before: Vec::new(),
            quantum_before: None,
            allocation: AllocationId::from_bits(1),
            device,
            gpu: place.gpu,
            parent: name_of("a"),
            mdev_type: place.mdev_type,
            vf_id: place.vf_id,
            boot_id: self.boot_id.clone(),
            run: RunId(1),
        };
        self.book.realized.insert(record.allocation.clone(), record);
        self
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let facts = Facts {
            book: &self.book,
            boot_id: &self.boot_id,
            snapshot: &self.snapshot,
            occupants: &self.occupants,
            renewed: &self.renewed,
            seen: &self.seen,
            starting: &self.starting,
            nvml: &self.nvml,
            overdue: &self.overdue,
        };
        plan(&facts).into_iter().map(|step| step.verdict).collect()
    }

    #[track_caller]
    fn all_wait_for(&self, text: &str) {
        for verdict in self.verdicts() {
            assert!(matches!(&verdict, Verdict::Waits(for_) if for_.contains(text)), "{verdict:?}");
        }
    }

    #[track_caller]
    fn all_are_left(&self, text: &str) {
        for verdict in self.verdicts() {
            assert!(matches!(&verdict, Verdict::Left(why) if why.contains(text)), "{verdict:?}");
        }
    }
}

fn slot() -> GpuId {
    SLOT.parse().expect("id")
}

fn domain() -> DomainRef {
    let uuid = "11111111-1111-4111-8111-111111111111".parse().expect("uuid");
    DomainRef { uuid, name: "web1".to_owned() }
}

fn igb(vfs: usize) -> Gpu {
    let addresses = ["0000:01:10.0", "0000:01:10.2", "0000:01:10.4"];
    let vfs = addresses[..vfs].iter().map(|address| vf(address, "8086:10ca")).collect();
    Gpu { id: slot(), driver: Some("igb".to_owned()), ..pf("0000:01:00.0", vfs) }
}

fn unbound(mut gpu: Gpu) -> Gpu {
    let vfs = gpu.sriov.iter_mut().flat_map(|sriov| &mut sriov.vfs);
    vfs.for_each(|vf| (vf.vfio, vf.driver) = (false, Some("igbvf".to_owned())));
    gpu
}

fn set() -> Verdict {
    Verdict::Do(Work::Vfs(slot()))
}

fn make() -> Verdict {
    Verdict::Do(Work::Slice(AllocationId::from_bits(1)))
}

fn sample(available: u32) -> Gpu {
    gpu("a", vec![parent("a", vec![mdev_type("t", 0, available)])])
}

fn settled() -> Option<Settled> {
    Some(Settled { gpu: "virtual:a".parse().expect("id"), mdev_type: Some(type_id("t")), vf_id: None })
}

fn guaranteed(gpus: Vec<Gpu>) -> Scene {
    Scene::new(gpus).promise(Device::Mdev(uuid(1)), CapacityMode::Guaranteed, settled())
}

#[test]
fn a_count_of_an_earlier_boot_is_set_where_there_are_no_vfs_yet() {
    assert_eq!(Scene::new(vec![igb(0)]).wish(3, "before").verdicts(), [set(), set()]);
    let there = Scene::new(vec![igb(3)]).wish(3, "before").verdicts();
    assert_eq!(there, [set(), set()], "to take it for this boot's");
    let half = Scene::new(vec![unbound(igb(3))]).wish(3, "before").verdicts();
    assert_eq!(half, [set(), set()], "to bind them");
}

#[test]
fn each_fact_is_waited_for_in_its_order() {
    Scene::new(Vec::new()).wish(3, "before").all_wait_for("not here (yet)");
    let bare = Gpu { driver: None, ..igb(0) };
    Scene::new(vec![bare]).wish(3, "before").all_wait_for("a driver on 0000:01:00.0");
    let plain = Gpu { sriov: None, ..igb(0) };
    Scene::new(vec![plain]).wish(3, "before").all_wait_for("sriov_totalvfs on 0000:01:00.0");
}

#[test]
fn another_card_in_the_slot_is_left_alone_and_named() {
    let mut scene = Scene::new(Vec::new()).wish(3, "before");
    scene.occupants.insert(slot(), "pci:0000:01:00.0/8086:1572/8086:0001".parse().expect("id"));
    scene.all_are_left("another card is in its place: pci:0000:01:00.0/8086:1572");
    scene.occupants.insert(slot(), slot());
    scene.all_wait_for("devices.include");
}

#[test]
fn what_this_boot_has_seen_is_corrected_only_when_nobody_wished_the_change() {
    let mut scene = Scene::new(vec![igb(0)]).wish(3, "now");
    scene.all_are_left("by hand");
    scene.renewed.insert(slot());
    assert_eq!(scene.verdicts(), [set(), set()]);
    let mut scene = Scene::new(vec![unbound(igb(3))]).wish(3, "now");
    assert!(matches!(scene.verdicts()[1], Verdict::Left(_)));
    scene.renewed.insert(slot());
    assert_eq!(scene.verdicts(), [Verdict::Done, set()]);
    assert_eq!(Scene::new(vec![igb(3)]).wish(3, "now").verdicts(), [Verdict::Done, Verdict::Done]);
}

#[test]
fn vfs_of_somebody_else_are_never_replaced() {
    for boot in ["before", "now"] {
        let mut scene = Scene::new(vec![igb(2)]).wish(3, boot);
        scene.renewed.insert(slot());
        scene.all_are_left("2 VFs already");
    }
}

#[test]
fn a_guaranteed_slice_waits_for_its_gpu_its_type_and_room() {
    guaranteed(Vec::new()).all_wait_for("virtual:a");
    guaranteed(vec![gpu("a", Vec::new())]).all_wait_for("mdev types on a");
    let other = |types: Vec<MdevType>| gpu("a", vec![parent("a", types)]);
    guaranteed(vec![other(vec![mdev_type("u", 0, 3)])]).all_wait_for("type t on a");
    guaranteed(vec![sample(0)]).all_wait_for("0 available");
    assert_eq!(guaranteed(vec![sample(1)]).verdicts(), [make()]);
    let elsewhere = gpu("b", vec![parent("b", vec![mdev_type("t", 0, 9)])]);
    guaranteed(vec![elsewhere]).all_wait_for("virtual:a");
}

#[test]
fn a_slice_that_is_there_is_ours_only_when_the_ledger_made_it() {
    let device = Device::Mdev(uuid(1));
    let mut there = sample(1);
    there.parents[0].mdevs = vec![crate::model::fixture::mdev(1, "t")];
    guaranteed(vec![there.clone()]).all_are_left("made by somebody else");
    assert_eq!(guaranteed(vec![there]).made(device).verdicts(), [Verdict::Done]);
    let mut gone = guaranteed(vec![sample(1)]).made(device);
    gone.all_are_left("removed by hand");
    gone.renewed.insert("virtual:a".parse().expect("id"));
    assert_eq!(gone.verdicts(), [make()], "it went with its parent");
    let mut gone = guaranteed(vec![sample(1)]);
    gone.seen.insert(AllocationId::from_bits(1));
    gone.all_are_left("removed by hand");
}

#[test]
fn a_guaranteed_vf_waits_for_the_count_that_makes_it() {
    let device = Device::Vf(pci("0000:01:10.2"));
    let settled = Some(Settled { gpu: slot(), mdev_type: None, vf_id: Some(pci_id("8086:10ca")) });
    let scene = |vfs, boot| {
        Scene::new(vec![igb(vfs)]).wish(3, boot).promise(device, CapacityMode::Guaranteed, settled.clone())
    };
    assert!(
        matches!(&scene(0, "before").verdicts()[2], Verdict::Waits(text) if text.contains("0000:01:10.2"))
    );
    assert!(matches!(&scene(0, "now").verdicts()[2], Verdict::Left(_)), "nothing is to come");
    assert_eq!(scene(3, "now").verdicts()[2], make());
    assert_eq!(scene(3, "now").made(device).verdicts()[2], Verdict::Done);
}

#[test]
fn a_domain_that_starts_with_libvirt_waits_for_a_place() {
    let promised =
        |gpus| Scene::new(gpus).promise(Device::Mdev(uuid(1)), CapacityMode::OnStart, None).starts();
    promised(Vec::new()).all_wait_for("a parent with room for profile small");
    promised(vec![sample(0)]).all_wait_for("a parent with room for profile small");
    assert_eq!(promised(vec![sample(1)]).verdicts(), [Verdict::Done]);
}

#[test]
fn hostdevs_that_nobody_promised_are_not_ours_to_wait_for() {
    let mut scene = Scene::new(Vec::new());
    let devices = vec![HookDevice { allocation: None, device: Device::Mdev(uuid(9)) }];
    scene.starting.push(Starting { domain: domain(), devices });
    assert_eq!(scene.verdicts(), []);
}

#[test]
fn nothing_promised_is_nothing_to_do() {
    assert!(is_empty(&Book::default(), &[]));
    assert!(!is_empty(&Scene::new(Vec::new()).wish(1, "now").book, &[]));
    assert!(!is_empty(&guaranteed(Vec::new()).book, &[]));
}

// How GPUs are set --------------------------------------------------------------------------------

fn state(mode: crate::model::SizeMode) -> GpuState {
    GpuState {
        address: "0000:41:00.0".parse().expect("an address"),
        name: "NVIDIA L40S".to_owned(),
        uuid: "GPU-1".to_owned(),
        framebuffer_mib: 49152,
        used_mib: 0,
        size_mode: Some(mode),
        can_mix: true,
        scheduler: None,
        mig: None,
        instances: Vec::new(),
        profiles: Vec::new(),
        computing: Vec::new(),
        ecc: None,
        vgpus: Vec::new(),
    }
}

/// A GPU of NVIDIA's that shall be in mixed-size mode, as set in `boot_id`.
fn wished(current: &[Option<&str>], boot_id: Option<&str>) -> Scene {
    let mut gpu = crate::model::fixture::vgpu_gpu("a", &[("nvidia-8", 8)], current, &["nvidia-8"]);
    gpu.driver = Some("nvidia".to_owned());
    let setting =
        crate::model::GpuSetting { mode: Some(crate::model::SizeMode::Mixed), ..Default::default() };
    let boot_id = boot_id.map(|id| id.parse().expect("boot id"));
    let wish = SettingWish { gpu: gpu.id.clone(), setting, boot_id };
    let mut scene = Scene::new(vec![gpu]);
    scene.nvml.insert(wish.gpu.clone(), Ok(state(crate::model::SizeMode::Equal)));
    scene.book.settings.insert(wish.gpu.clone(), wish);
    scene
}

#[test]
fn a_setting_is_due_in_another_boot_and_theirs_when_changed_by_hand_in_this() {
    let due = wished(&[None, None], Some("before"));
    let gpu = due.snapshot.gpus[0].id.clone();
    assert_eq!(due.verdicts(), [Verdict::Do(Work::Setting(gpu.clone()))]);
    let unmet = wished(&[None, None], None);
    assert_eq!(unmet.verdicts(), [Verdict::Do(Work::Setting(gpu.clone()))], "a request that was cut short");
    wished(&[None, None], Some("now")).all_are_left("by hand");
    let mut renewed = wished(&[None, None], Some("now"));
    renewed.renewed.insert(gpu.clone());
    assert_eq!(renewed.verdicts(), [Verdict::Do(Work::Setting(gpu.clone()))], "its VFs were made anew");
    let mut met = wished(&[None, None], Some("now"));
    met.nvml.insert(gpu, Ok(state(crate::model::SizeMode::Mixed)));
    assert_eq!(met.verdicts(), [Verdict::Done]);
}

#[test]
fn a_setting_waits_for_the_facts_of_its_road() {
    let mut scene = wished(&[None], Some("before"));
    let gpu = scene.snapshot.gpus[0].id.clone();
    scene.nvml.insert(gpu.clone(), Err("NVML is absent: none".to_owned()));
    scene.all_wait_for("NVIDIA's library to know a: NVML is absent");
    scene.nvml.remove(&gpu);
    let sriov = scene.snapshot.gpus[0].sriov.as_mut().expect("a PF");
    sriov.vfs.clear();
    sriov.total = 8;
    scene.all_wait_for("VFs of a");
    let taken = wished(&[Some("nvidia-8")], Some("before"));
    taken.all_wait_for("a to have no vGPU");
}

#[test]
fn a_guaranteed_slice_waits_for_how_its_gpu_is_set_unless_that_failed() {
    let mut scene = wished(&[None, None], Some("before"));
    let (gpu, address) = {
        let gpu = &scene.snapshot.gpus[0];
        (gpu.id.clone(), gpu.sriov.as_ref().expect("a PF").vfs[0].address)
    };
    let settled = Settled { gpu: gpu.clone(), mdev_type: Some(type_id("nvidia-8")), vf_id: None };
    scene = scene.promise(Device::Vf(address), CapacityMode::Guaranteed, Some(settled));
    let slice = |scene: &Scene| scene.verdicts().pop().expect("the slice is last");
    assert_eq!(slice(&scene), Verdict::Waits("mixed-size mode on a".to_owned()));
    scene.overdue.insert(Restored::Mode { gpu });
    assert_eq!(slice(&scene), Verdict::Do(Work::Slice(AllocationId::from_bits(1))));
}

/// A GPU of NVIDIA's without VFs, of which eight are wanted, to be divided by MIG as it was in an earlier boot.
fn divided(mig: &str, boot_id: Option<&str>, on: bool, instances: &[&str]) -> Scene {
    let mut scene = wished(&[], boot_id);
    let gpu = scene.snapshot.gpus[0].id.clone();
    let setting = crate::model::GpuSetting { mig: mig.parse().ok(), ..Default::default() };
    scene.book.settings.get_mut(&gpu).expect("a wish").setting = setting;
    let before = "before".parse().expect("boot id");
    let wish = VfWish { gpu: gpu.clone(), count: 8, autoprobe_before: None, boot_id: before };
    scene.book.wishes.insert(gpu.clone(), wish);
    let sriov = scene.snapshot.gpus[0].sriov.as_mut().expect("a PF");
    (sriov.vfs, sriov.total, sriov.enabled) = (Vec::new(), 8, 0);
    scene.find(on, instances);
    scene
}

impl Scene {
    /// What the library says of MIG.
    fn find(&mut self, on: bool, instances: &[&str]) {
        let instance = |(id, profile): (u32, &&str)| crate::model::GpuInstance {
            id,
            profile: (*profile).to_owned(),
            profile_id: 19,
            start: id,
            size: 1,
        };
        let found = GpuState {
            mig: Some(crate::model::MigMode { on, pending: on }),
            instances: (1..).zip(instances).map(instance).collect(),
            ..state(crate::model::SizeMode::Equal)
        };
        self.nvml.insert(self.snapshot.gpus[0].id.clone(), Ok(found));
    }

    /// Its VFs came.
    fn with_vfs(mut self) -> Self {
        let mut sriov = wished(&[None, None], None).snapshot.gpus.remove(0).sriov.expect("a PF");
        sriov.enabled = 8;
        let gpu = &mut self.snapshot.gpus[0];
        gpu.sriov = Some(sriov);
        let wish = self.book.wishes.values_mut().next().expect("a count");
        wish.boot_id = self.boot_id.clone();
        self
    }
}

#[test]
fn mig_mode_comes_before_vfs_and_gpu_instances_after_them() {
    let scene = divided("3g.40gb,1g.10gb", Some("before"), false, &[]);
    let gpu = scene.snapshot.gpus[0].id.clone();
    let waits = |text: &str| Verdict::Waits(text.to_owned());
    let first = [
        Verdict::Do(Work::Mig(gpu.clone())),
        waits("MIG mode on on a"),
        waits("MIG mode on on a"),
        waits("VFs of a"),
    ];
    assert_eq!(scene.verdicts(), first);
    let mut scene = divided("3g.40gb,1g.10gb", Some("before"), true, &[]);
    let vfs = Verdict::Do(Work::Vfs(gpu.clone()));
    assert_eq!(
        scene.verdicts(),
        [Verdict::Done, vfs.clone(), vfs, waits("VFs of a")],
        "the mode is persistent"
    );
    scene = scene.with_vfs();
    let work = Verdict::Do(Work::Setting(gpu.clone()));
    assert_eq!(scene.verdicts(), [Verdict::Done, Verdict::Done, Verdict::Done, work.clone()]);
    scene.find(true, &["1g.10gb", "3g.40gb"]);
    assert_eq!(scene.verdicts().pop(), Some(work), "this boot takes the wish for its own");
    scene.find(true, &["1g.10gb", "2g.20gb"]);
    let others = "GPU instance 2 (2g.20gb) was made by somebody else";
    assert!(matches!(scene.verdicts().pop(), Some(Verdict::Left(why)) if why.starts_with(others)));
    scene.book.settings.get_mut(&gpu).expect("a wish").boot_id = None;
    assert_eq!(scene.verdicts().pop(), Some(Verdict::Do(Work::Setting(gpu))), "a request that was cut short");
}

#[test]
fn vfs_go_on_without_mig_mode_when_its_time_is_up() {
    let mut scene = divided("1g.10gb", Some("before"), false, &[]);
    let gpu = scene.snapshot.gpus[0].id.clone();
    scene.nvml.insert(gpu.clone(), Err("NVML is absent: none".to_owned()));
    assert!(matches!(&scene.verdicts()[1], Verdict::Waits(what) if what == "MIG mode on on a"));
    scene.overdue.insert(Restored::Mig { gpu: gpu.clone() });
    assert_eq!(scene.verdicts()[1], Verdict::Do(Work::Vfs(gpu)));
}

#[test]
fn mig_mode_that_is_wanted_off_is_settled_by_its_own_step() {
    let mut scene = divided("off", Some("before"), false, &[]);
    let gpu = scene.snapshot.gpus[0].id.clone();
    assert_eq!(scene.verdicts()[0], Verdict::Do(Work::Setting(gpu.clone())), "this boot takes the wish");
    scene.find(true, &[]);
    assert_eq!(scene.verdicts()[0], Verdict::Do(Work::Mig(gpu.clone())));
    scene.book.settings.get_mut(&gpu).expect("a wish").boot_id = Some(scene.boot_id.clone());
    assert!(matches!(&scene.verdicts()[0], Verdict::Left(why) if why.contains("by hand")));
    scene = scene.with_vfs();
    scene.book.settings.get_mut(&gpu).expect("a wish").boot_id = None;
    assert!(matches!(&scene.verdicts()[0], Verdict::Waits(what) if what.starts_with("a to have no VFs")));
}

/// A guaranteed VF of an Intel GPU that has `turns`, with a weight of 40; `made` in this boot.
fn weighed(turns: Option<Quantum>, made: bool) -> Vec<Verdict> {
    let mut function = vf("0000:01:10.0", "8086:10ca");
    function.quantum = turns;
    let mut intel = pf("a", vec![function]);
    (intel.id, intel.backend, intel.driver) = (slot(), crate::model::BackendKind::Xe, Some("xe".to_owned()));
    let place = Settled { gpu: slot(), mdev_type: None, vf_id: Some(pci_id("8086:10ca")) };
    let device = Device::Vf(pci("0000:01:10.0"));
    let scene = Scene::new(vec![intel]).promise(device, CapacityMode::Guaranteed, Some(place));
    let mut scene = if made { scene.made(device) } else { scene };
    for profile in scene.book.profiles.values_mut() {
        profile.weight = "40".parse().ok();
    }
    scene.verdicts()
}

#[test]
fn turns_are_made_with_the_slice_and_left_when_somebody_changed_them_since() {
    let forty = Quantum { exec_ms: 80, preempt_us: 160_000 };
    assert_eq!(
        weighed(Some(Quantum::default()), false),
        [make(), make()],
        "the turns' line, then the slice's"
    );
    assert_eq!(weighed(Some(forty), true), [Verdict::Done, Verdict::Done]);
    let others = weighed(Some(Quantum::default()), true);
    assert!(
        matches!(&others[..], [Verdict::Left(why), Verdict::Done] if why.contains("next start")),
        "{others:?}"
    );
    let unreadable = weighed(None, true);
    assert!(
        matches!(&unreadable[..], [Verdict::Waits(fact), Verdict::Done] if fact.contains("turns of VF")),
        "{unreadable:?}"
    );
}
