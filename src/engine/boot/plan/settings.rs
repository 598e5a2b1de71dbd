//! The steps of how GPUs are set, and what waits for them.

use std::collections::BTreeMap;

use super::{Facts, Planned, Verdict, Work, absent};
use crate::engine::boot::road::{self, Ground, Stage};
use crate::ledger::SettingWish;
use crate::model::{GpuId, GpuInstance, GpuState, Restored, instances_text, mig_text};

/// One thing that is wished of how a GPU is set, beside how it is found.
struct Wished {
    what: Restored,
    wanted: String,
    found: String,
    so: bool,
}

impl Wished {
    /// What a step of a road has to do with a wish; `None` when that is nothing.
    fn at(stage: Stage, wish: &SettingWish, state: Option<&GpuState>) -> Option<Self> {
        let (gpu, setting) = (wish.gpu.clone(), &wish.setting);
        let unknown = || "not known".to_owned();
        let on = state.map(|state| state.mig.is_some_and(|mig| mig.on));
        Some(match stage {
            Stage::Mig => {
                let mig = setting.mig.as_ref()?;
                let word = |on: bool| format!("MIG mode {}", if on { "on" } else { "off" });
                let (wanted, found) = (word(mig.is_on()), on.map_or_else(unknown, word));
                Self { what: Restored::Mig { gpu }, wanted, found, so: on == Some(mig.is_on()) }
            }
            Stage::Instances => {
                let mig = setting.mig.as_ref().filter(|mig| mig.is_on())?;
                let there = state.map(|state| state.instances.as_slice());
                let names =
                    |there: &[GpuInstance]| there.iter().map(|one| one.profile.clone()).collect::<Vec<_>>();
                let found = there.map_or_else(unknown, |there| match instances_text(&names(there)) {
                    text if text.is_empty() => "none".to_owned(),
                    text => text,
                });
                let so = on == Some(true) && there.is_some_and(|there| mig.is_met_by(there));
                Self { what: Restored::Instances { gpu }, wanted: mig_text(mig), found, so }
            }
            Stage::Mode => {
                let mode = setting.mode?;
                let found = state.and_then(|state| state.size_mode);
                let text = found.map_or_else(unknown, |mode| format!("{mode}-size mode"));
                let wanted = format!("{mode}-size mode");
                Self { what: Restored::Mode { gpu }, wanted, found: text, so: found == Some(mode) }
            }
            Stage::Scheduler => {
                setting.scheduler?;
                let found = state.and_then(|state| state.scheduler.as_ref());
                let text = found.and_then(|found| found.policy).map_or("not known", |policy| policy.name());
                let so = found.is_some_and(|found| setting.is_scheduled_by(found));
                let wanted = setting.scheduler_text();
                Self { what: Restored::Scheduler { gpu }, wanted, found: text.to_owned(), so }
            }
            Stage::Vfs | Stage::Binding | Stage::Quanta | Stage::Slices => return None,
        })
    }
}

/// The steps of a remembered setting, in the order of the GPU's road.
pub(super) fn setting(wish: &SettingWish, facts: &Facts<'_>) -> Vec<Planned> {
    let gpu = facts.snapshot.gpus.iter().find(|gpu| gpu.id == wish.gpu);
    let place = gpu.map_or_else(|| wish.gpu.to_string(), |gpu| gpu.name.to_string());
    let nvml = facts.nvml.get(&wish.gpu);
    let state = nvml.and_then(|said| said.as_ref().ok());
    let asked = road::NVIDIA.iter().filter_map(|leg| Some((leg, Wished::at(leg.stage, wish, state)?)));
    asked
        .map(|(leg, Wished { what, wanted, found, so })| {
            let verdict = match gpu {
                None => absent(&wish.gpu, facts),
                Some(gpu) => set_verdict(
                    leg.stage,
                    wish,
                    so,
                    leg.missing(&Ground { gpu, count: None, vf: None, nvml }),
                    state,
                    facts,
                ),
            };
            Planned { what, place: place.clone(), wanted, found, verdict, within: Some(leg.within) }
        })
        .collect()
}

fn set_verdict(
    stage: Stage,
    wish: &SettingWish,
    so: bool,
    missing: Option<String>,
    state: Option<&GpuState>,
    facts: &Facts<'_>,
) -> Verdict {
    let is_new = wish.boot_id.as_ref() != Some(facts.boot_id);
    let no_vfs = facts.book.wishes.get(&wish.gpu).is_some_and(|wish| wish.count == 0);
    let others = state.filter(|_| stage == Stage::Instances).and_then(|state| others_instances(wish, state));
    let is_mig = stage == Stage::Mig;
    // The other steps take the wish for this boot's own.
    let is_first = is_mig && !wish.setting.is_only_mig_off();
    let work = match is_mig && !so {
        true => Work::Mig(wish.gpu.clone()),
        false => Work::Setting(wish.gpu.clone()),
    };
    match missing {
        _ if so && (!is_new || is_first) => Verdict::Done,
        // Nothing to change, but this boot has not yet taken the wish for its own.
        _ if so => Verdict::Do(work),
        _ if !wish.setting.is_divided() && !is_mig && is_divided(state) => {
            Verdict::Left("the GPU is in MIG mode, where vGPUs are not time-sliced".to_owned())
        }
        _ if no_vfs && !is_mig => Verdict::Left("no VFs are wanted on it".to_owned()),
        _ if others.is_some() => Verdict::Left(others.unwrap_or_default()),
        Some(missing) => Verdict::Waits(missing),
        None if is_new || facts.renewed.contains(&wish.gpu) => Verdict::Do(work),
        None => Verdict::Left("it was set otherwise by hand in this boot".to_owned()),
    }
}

fn is_divided(state: Option<&GpuState>) -> bool {
    state.and_then(|state| state.mig).is_some_and(|mig| mig.on)
}

/// Says which GPU instances of somebody else's are in the way of those that come back. A request that was cut short takes
/// them away; a boot does not.
fn others_instances(wish: &SettingWish, state: &GpuState) -> Option<String> {
    let (_, surplus) =
        wish.setting.mig.as_ref().filter(|_| wish.boot_id.is_some())?.compare(&state.instances);
    let one = surplus.first()?;
    Some(format!(
        "GPU instance {} ({}) was made by somebody else; vgpuctl gpu set {} --mig takes it away",
        one.id, one.profile, state.address
    ))
}

/// Returns the GPU of a setting that is still to come, and what slices on it wait for.
pub(super) fn unset(step: &Planned, facts: &Facts<'_>) -> Option<(GpuId, String)> {
    let (Restored::Mig { gpu }
    | Restored::Instances { gpu }
    | Restored::Mode { gpu }
    | Restored::Scheduler { gpu }) = &step.what
    else {
        return None;
    };
    let open =
        matches!(step.verdict, Verdict::Do(_) | Verdict::Waits(_)) && !facts.overdue.contains(&step.what);
    open.then(|| (gpu.clone(), format!("{} on {}", step.wanted, step.place)))
}

/// Has a step wait for what is to come first on its GPU.
pub(super) fn behind(mut step: Planned, first: &BTreeMap<GpuId, String>) -> Planned {
    if let (Verdict::Do(_), Some(what)) = (&step.verdict, step.what.gpu().and_then(|gpu| first.get(gpu))) {
        step.verdict = Verdict::Waits(what.clone());
    }
    step
}
