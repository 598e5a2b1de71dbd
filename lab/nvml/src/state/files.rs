//! What a kernel would do about a `control`, where the simulation is mere files.

use std::path::Path;

use super::{Gpu, Kind, Refused, parse};
use crate::partition;

/// What each change of VFs loses.
const LOST: [(&str, &str); 3] = [("mode", "equal"), ("scheduler", "best-effort"), ("time_slice_ns", "0")];

/// Takes a setting into the text of a GPU.
pub(super) fn apply(address: &str, state: &Path, setting: &str) -> Result<(), Refused> {
    let Some((key, value)) = setting.split_once('=') else { return Ok(()) };
    let mut text = std::fs::read_to_string(state).map_err(|_| Refused::Lost)?;
    let gpu = parse(address, &text);
    match key {
        "mig" if gpu.mig != (value == "1") && !may_switch(&gpu) => return Err(Refused::InUse),
        "mode" | "mig" | "scheduler" | "time_slice_ns" | "process" => put(&mut text, key, value),
        "gi_create" => text.push_str(&created(&gpu, value)?),
        "gi_destroy" => {
            let id = destroyed(&gpu, value)?;
            let keeps = |line: &&str| !line.starts_with(&format!("gi id={id} "));
            text = text.lines().filter(keeps).flat_map(|line| [line, "\n"]).collect();
        }
        "numvfs" => {
            put(&mut text, "vfs", value);
            LOST.iter().for_each(|(key, value)| put(&mut text, key, value));
            let keeps = |line: &&str| !line.starts_with("gi ") && !line.starts_with("vgpu ");
            text = text.lines().filter(keeps).flat_map(|line| [line, "\n"]).collect();
        }
        _ => return Ok(()),
    }
    // As the simulation is read line by line and by many, it is never half there.
    let beside = state.with_extension("new");
    std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, state)).map_err(|_| Refused::Failed)
}

/// Nothing may be on a GPU whose MIG mode changes.
fn may_switch(gpu: &Gpu) -> bool {
    gpu.vfs == 0 && gpu.process.is_none() && gpu.instances.is_empty()
}

/// Returns the record of a new GPU instance.
fn created(gpu: &Gpu, profile: &str) -> Result<String, Refused> {
    if !gpu.mig {
        return Err(Refused::NotSupported);
    }
    let kind = gpu.kinds.iter().find(|kind| kind.gi_name == profile).ok_or(Refused::Invalid)?;
    let start = *partition::starts(gpu, kind).first().ok_or(Refused::NoRoom)?;
    let taken = |id: &u32| gpu.instances.iter().any(|one| one.id == *id);
    let id = (1..).find(|id| !taken(id)).unwrap_or_default();
    let Kind { gi_profile, gi_name, .. } = kind;
    let (_, size) = partition::slices(gi_name).ok_or(Refused::Invalid)?;
    let profile = gi_profile.unwrap_or_default();
    Ok(format!("gi id={id} profile={profile} start={start} size={size} name={gi_name}\n"))
}

fn destroyed(gpu: &Gpu, id: &str) -> Result<u32, Refused> {
    let instance = gpu.instances.iter().find(|one| one.id.to_string() == id).ok_or(Refused::Lost)?;
    let carries = gpu.vgpus.iter().any(|vgpu| vgpu.gi == Some(instance.id));
    if carries || gpu.process.is_some() { Err(Refused::InUse) } else { Ok(instance.id) }
}

fn put(text: &mut String, key: &str, value: &str) {
    let is_it = |line: &str| line.split_once('=').is_some_and(|(name, _)| name == key);
    let wanted = format!("{key}={value}");
    if !text.lines().any(is_it) {
        text.insert_str(0, &format!("{wanted}\n"));
        return;
    }
    *text = text.lines().flat_map(|line| [if is_it(line) { &wanted } else { line }, "\n"]).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_vfs_loses_what_was_set_at_run_time() {
        let dir = tempfile::tempdir().expect("directory");
        let state = dir.path().join("state");
        std::fs::write(&state, "board=X\nmode=mixed\nmig=1\nvfs=32\ngi id=1\nvgpu id=1 sm=2\n")
            .expect("state");
        let apply = |setting| super::apply("0000:40:00.0", &state, setting);
        apply("scheduler=equal-share").expect("is taken");
        let text = || std::fs::read_to_string(&state).expect("state");
        assert!(text().contains("scheduler=equal-share\n") && text().contains("mode=mixed\n"), "{}", text());
        assert_eq!(apply("mig=0"), Err(Refused::InUse), "it has VFs");
        apply("numvfs=0").expect("is taken");
        let expected = "time_slice_ns=0\nscheduler=best-effort\nboard=X\nmode=equal\nmig=1\nvfs=0\n";
        assert_eq!(text(), expected);
    }

    #[test]
    fn instances_are_made_where_they_fit_and_go_when_nothing_is_on_them() {
        let dir = tempfile::tempdir().expect("directory");
        let state = dir.path().join("state");
        let kinds = "type id=1 gi_profile=9 gis=2 gi=3g.40gb name=A\ntype id=2 gi_profile=19 gis=7 gi=1g.10gb name=B\n";
        std::fs::write(&state, format!("mig=1\nvfs=8\n{kinds}")).expect("state");
        let apply = |setting| super::apply("0000:40:00.0", &state, setting);
        for (setting, said) in [
            ("gi_create=3g.40gb", Ok(())),
            ("gi_create=3g.40gb", Ok(())),
            ("gi_create=1g.10gb", Err(Refused::NoRoom)),
            ("gi_create=9g.90gb", Err(Refused::Invalid)),
            ("gi_destroy=1", Ok(())),
            ("gi_create=1g.10gb", Ok(())),
            ("process=7", Ok(())),
            ("gi_destroy=2", Err(Refused::InUse)),
            ("process=0", Ok(())),
            ("gi_destroy=7", Err(Refused::Lost)),
        ] {
            assert_eq!(apply(setting), said, "{setting}");
        }
        let text = std::fs::read_to_string(&state).expect("state");
        let places: Vec<&str> = text.lines().filter(|line| line.starts_with("gi ")).collect();
        let expected = [
            "gi id=2 profile=9 start=4 size=4 name=3g.40gb",
            "gi id=1 profile=19 start=0 size=1 name=1g.10gb",
        ];
        assert_eq!(places, expected);
    }
}
