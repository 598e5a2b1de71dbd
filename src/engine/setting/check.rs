//! What a GPU cannot be, and why.

use crate::model::{
    Gpu, GpuSetting, GpuState, HostSnapshot, InstanceProfile, Kind, MigWish, PciAddress, Refusal,
    SchedulerPolicy, SizeMode,
};

/// Shortest and longest time slice that NVIDIA documents, in milliseconds; the library may say others.
const SLICE_MS: (u32, u32) = (1, 30);

pub(super) fn find<'a>(snapshot: &'a HostSnapshot, name: &str) -> Result<&'a Gpu, Refusal> {
    snapshot.gpu(name).ok_or_else(|| {
        Refusal::new(Kind::NotFound, format!("no device {name}")).hint("vgpuctl gpus lists the devices")
    })
}

/// Returns the address of a GPU that NVIDIA's library can set.
pub(super) fn settable(gpu: &Gpu) -> Result<PciAddress, Refusal> {
    match &gpu.pci {
        Some(pci) if gpu.is_on_nvidia() => Ok(pci.address),
        _ => {
            let driver =
                gpu.driver.as_ref().map_or_else(|| "no driver".to_owned(), |one| format!("driver {one}"));
            Err(Refusal::new(
                Kind::Conflict,
                format!("{} has no size mode and no scheduler to set: it has {driver}, not nvidia", gpu.name),
            ))
        }
    }
}

pub(super) fn is_scheduled(setting: &GpuSetting, state: &GpuState) -> bool {
    let found = state.scheduler.as_ref();
    setting.scheduler.is_none() || found.is_some_and(|found| setting.is_scheduled_by(found))
}

/// Says which GPU instances of a wish there cannot be on the GPU, whatever else is on it. `profiles` is empty outside MIG
/// mode: nobody knows them then.
fn impossible(wish: &MigWish, profiles: &[InstanceProfile]) -> Option<String> {
    let names: Vec<String> = wish.profiles().iter().map(ToString::to_string).collect();
    let most = |name: &String| profiles.iter().find(|one| one.name == **name).map(|one| one.most);
    let count = |name: &String| names.iter().filter(|other| *other == name).count();
    let known = || profiles.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ");
    names.iter().filter(|_| !profiles.is_empty()).find_map(|name| match most(name) {
        None => Some(format!("it has no GPU instance profile {name}, but {}", known())),
        Some(most) if count(name) > most as usize => {
            Some(format!("it has room for {most} GPU instances {name}, not {}", count(name)))
        }
        Some(_) => None,
    })
}

/// Returns whether MIG mode is as wished, on or off.
pub(super) fn is_mig_mode(setting: &GpuSetting, state: &GpuState) -> bool {
    let on = state.mig.is_some_and(|mig| mig.on);
    setting.mig.as_ref().is_none_or(|wish| wish.is_on() == on)
}

/// Returns whether the GPU instances are those that are wished, if any are.
pub(super) fn is_divided_so(setting: &GpuSetting, state: &GpuState) -> bool {
    let wish = setting.mig.as_ref().filter(|wish| wish.is_on());
    wish.is_none_or(|wish| is_mig_mode(setting, state) && wish.is_met_by(&state.instances))
}

fn is_met(setting: &GpuSetting, state: &GpuState) -> bool {
    (setting.mode.is_none() || setting.mode == state.size_mode)
        && is_scheduled(setting, state)
        && is_mig_mode(setting, state)
        && is_divided_so(setting, state)
}

/// Refuses what no GPU can be.
pub(super) fn together(gpu: &Gpu, setting: &GpuSetting) -> Result<(), Refusal> {
    let timed = setting.mode.is_some() || setting.scheduler.is_some() || setting.time_slice_ms.is_some();
    if setting.is_divided() && timed {
        return Err(no_time_slices(gpu));
    }
    let both = (setting.mode, setting.scheduler);
    if both == (Some(SizeMode::Mixed), Some(SchedulerPolicy::FixedShare)) {
        return Err(Refusal::new(
            Kind::Conflict,
            format!("{}: the fixed share scheduler is not available in mixed-size mode", gpu.name),
        )
        .hint("choose best-effort or equal-share, or --mode equal"));
    }
    match (setting.time_slice_ms, setting.scheduler) {
        (Some(_), None | Some(SchedulerPolicy::BestEffort)) => Err(Refusal::new(
            Kind::Usage,
            "a time slice belongs to the equal-share and fixed-share schedulers",
        )
        .hint("name one with --scheduler")),
        _ => Ok(()),
    }
}

fn no_time_slices(gpu: &Gpu) -> Refusal {
    let text = format!("{}: in MIG mode there is neither a size mode nor a scheduler of the GPU", gpu.name);
    Refusal::new(Kind::Conflict, text).hint("name --mig off as well")
}

/// A request to set a GPU, beside what it is now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    pub(super) gpu: &'a Gpu,
    /// What it is to be, with what is remembered.
    pub(super) setting: &'a GpuSetting,
    pub(super) state: &'a GpuState,
    /// How many VFs were asked for; `None` when none were named.
    pub(super) vfs: Option<u32>,
}

impl Ask<'_> {
    pub(super) fn vfs_now(&self) -> u32 {
        self.gpu.sriov.as_ref().map_or(0, |sriov| sriov.enabled)
    }

    /// How many VFs there are to be.
    pub(super) fn vfs(&self) -> u32 {
        self.vfs.unwrap_or_else(|| self.vfs_now())
    }

    /// Returns whether their number stays.
    pub(super) fn keeps_vfs(&self) -> bool {
        self.gpu.sriov.is_none() || self.vfs() == self.vfs_now()
    }

    pub(super) fn is_met(&self) -> bool {
        is_met(self.setting, self.state)
    }

    /// Returns whether MIG mode is to change, which it does not beside VFs.
    pub(super) fn switches_mig(&self) -> bool {
        !is_mig_mode(self.setting, self.state)
    }

    /// Says what is to be done, one clause a step.
    pub(super) fn steps(&self) -> Vec<String> {
        let name = &self.gpu.name;
        let (now, then, switches) = (self.vfs_now(), self.vfs(), self.switches_mig());
        let away = (switches && now > 0).then(|| format!("{name}: 0 VFs"));
        let made = if switches { then > 0 } else { !self.keeps_vfs() };
        let vfs = made.then(|| format!("{name}: {then} VFs"));
        let setting = Some(format!("{name}: {}", self.setting));
        let steps = if switches { [away, setting, vfs] } else { [vfs, setting, None] };
        steps.into_iter().flatten().collect()
    }

    /// Refuses what this GPU cannot be now.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        self.check_mig()?;
        self.check_scheduler()?;
        self.check_vfs()
    }

    fn no(&self, text: &str) -> Refusal {
        Refusal::new(Kind::Conflict, format!("{}: {text}", self.gpu.name))
    }

    fn check_mig(&self) -> Result<(), Refusal> {
        let Self { gpu, setting, state, .. } = self;
        let Some(wish) = &setting.mig else {
            return match state.mig.is_some_and(|mig| mig.on) {
                true => Err(no_time_slices(gpu)),
                false => Ok(()),
            };
        };
        if state.mig.is_none() && wish.is_on() {
            return Err(self.no("it knows no MIG, or its driver does not"));
        }
        if is_mig_mode(setting, state) && is_divided_so(setting, state) {
            return Ok(());
        }
        if let Some(text) = impossible(wish, &state.profiles) {
            return Err(self.no(&text));
        }
        if let Some(pid) = state.computing.first() {
            let text = format!("{} cannot be divided otherwise now: process {pid} computes on it", gpu.name);
            return Err(Refusal::new(Kind::Busy, text).hint("end it first; nvidia-smi lists such processes"));
        }
        let now = self.vfs_now();
        if self.switches_mig() && now > 0 && self.vfs.is_none() {
            return Err(self.no(&format!("MIG mode does not change beside VFs, and it has {now}")).hint(format!(
                "take them away and make them anew in the same step: --vfs {now}; or leave it without: --vfs 0"
            )));
        }
        Ok(())
    }

    fn check_scheduler(&self) -> Result<(), Refusal> {
        let Self { gpu, setting, state, .. } = self;
        let scheduler = state.scheduler.as_ref();
        let supported = scheduler.map(|one| one.supported.as_slice()).unwrap_or_default();
        if let Some(policy) =
            setting.scheduler.filter(|one| !supported.is_empty() && !supported.contains(one))
        {
            return Err(self.no(&format!("it has no {policy} scheduler")));
        }
        let ms = |ns: u32, default: u32| if ns == 0 { default } else { ns / 1_000_000 };
        let shortest = scheduler.map_or(SLICE_MS.0, |one| ms(one.shortest_ns, SLICE_MS.0).max(1));
        let longest = scheduler.map_or(SLICE_MS.1, |one| ms(one.longest_ns, SLICE_MS.1));
        match setting.time_slice_ms.filter(|slice| !(shortest..=longest).contains(slice)) {
            Some(slice) => {
                let text = format!("{}: a time slice has {shortest} to {longest} ms, not {slice}", gpu.name);
                Err(Refusal::new(Kind::Usage, text))
            }
            None => Ok(()),
        }
    }

    fn check_vfs(&self) -> Result<(), Refusal> {
        let Self { gpu, setting, state, .. } = self;
        let total = gpu.sriov.as_ref().map_or(0, |sriov| sriov.total);
        let mixed = setting.mode == Some(SizeMode::Mixed);
        if total == 0 && (mixed || setting.is_divided()) {
            let what = if mixed { "mixed sizes need VFs" } else { "vGPUs of GPU instances need VFs" };
            return Err(self.no(&format!("{what}, and it can have none")));
        }
        if total > 0 && self.vfs() == 0 && !setting.is_only_mig_off() {
            // What is set before is lost when they are made.
            let what = match (mixed, setting.is_divided()) {
                (true, _) => "mixed sizes need",
                (_, true) => "GPU instances need",
                _ => "it needs",
            };
            return Err(self
                .no(&format!("{what} VFs, and it has none"))
                .hint(format!("make them in the same step: --vfs {total}")));
        }
        if mixed && self.vfs_now() > 0 && !self.switches_mig() && !state.can_mix {
            return Err(self.no("its driver cannot mix sizes on it"));
        }
        Ok(())
    }
}
