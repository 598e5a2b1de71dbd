//! What a kernel would do about a `control`, where the simulation is mere files.

use std::path::Path;

/// What each change of VFs loses.
const LOST: [(&str, &str); 3] = [("mode", "equal"), ("scheduler", "best-effort"), ("time_slice_ns", "0")];

/// Takes a setting into the text of a GPU.
pub(super) fn apply(state: &Path, setting: &str) {
    let Some((key, value)) = setting.split_once('=') else { return };
    let Ok(mut text) = std::fs::read_to_string(state) else { return };
    match key {
        "mode" | "mig" | "scheduler" | "time_slice_ns" => put(&mut text, key, value),
        "numvfs" => {
            put(&mut text, "vfs", value);
            LOST.iter().for_each(|(key, value)| put(&mut text, key, value));
            let keeps = |line: &&str| !line.starts_with("gi ") && !line.starts_with("vgpu ");
            text = text.lines().filter(keeps).flat_map(|line| [line, "\n"]).collect();
        }
        _ => return,
    }
    // As the simulation is read line by line and by many, it is never half there.
    let beside = state.with_extension("new");
    if std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, state)).is_err() {
        eprintln!("cannot write {}", state.display());
    }
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
        apply(&state, "scheduler=equal-share");
        let text = || std::fs::read_to_string(&state).expect("state");
        assert!(text().contains("scheduler=equal-share\n") && text().contains("mode=mixed\n"), "{}", text());
        apply(&state, "numvfs=0");
        let expected = "time_slice_ns=0\nscheduler=best-effort\nboard=X\nmode=equal\nmig=1\nvfs=0\n";
        assert_eq!(text(), expected);
    }
}
