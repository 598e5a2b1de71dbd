//! Recorded hosts: a manifest each in `tests/fixtures/HOST/host.txt`, read into a snapshot that must equal
//! `snapshot.json` beside it. `VGPUD_BLESS=1 cargo test --test recorded` rewrites those.

#[cfg(test)]
mod support;

#[cfg(test)]
mod recorded {
    use std::path::{Path, PathBuf};

    use vgpud::config::Config;
    use vgpud::inventory::{ScanOptions, scan};
    use vgpud::model::HostSnapshot;
    use vgpud::sysfs::Sysfs;

    use crate::support::manifest;
    use crate::support::spec::HostSpec;
    use crate::support::tree::put;

    #[expect(clippy::disallowed_methods, reason = "fixtures are no attributes")]
    fn text(path: &Path) -> Option<String> {
        std::fs::read_to_string(path).ok()
    }

    fn hosts() -> Vec<PathBuf> {
        let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let mut hosts: Vec<PathBuf> =
            std::fs::read_dir(all).expect("fixtures").map(|entry| entry.expect("an entry").path()).collect();
        hosts.retain(|host| host.join("host.txt").exists());
        hosts.sort();
        hosts
    }

    /// Writes the host out and reads it; `vgpud.toml` beside the manifest says what is included. The
    /// directory it was written to is cut from the texts.
    fn read(host: &Path) -> HostSnapshot {
        let dir = tempfile::tempdir().expect("temporary directory");
        manifest::write_out(&text(&host.join("host.txt")).expect("a manifest"), dir.path());
        let config: Config =
            toml::from_str(&text(&host.join("vgpud.toml")).unwrap_or_default()).expect("a configuration");
        let mut snapshot = scan(&Sysfs::new(dir.path()), &ScanOptions { include: config.devices.include });
        let root = dir.path().to_str().expect("a plain path");
        for problem in &mut snapshot.problems {
            problem.text = problem.text.replace(root, "");
        }
        snapshot
    }

    /// What `vgpuctl` says of a recorded host.
    #[expect(clippy::disallowed_methods, reason = "the program under test")]
    fn vgpuctl(host: &str, words: &[&str]) -> String {
        let dir = tempfile::tempdir().expect("temporary directory");
        let manifest =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(host).join("host.txt");
        manifest::write_out(&text(&manifest).expect("a manifest"), dir.path());
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_vgpuctl"));
        let end = command.env("VGPUD_ROOT", dir.path()).args(words).output().expect("vgpuctl runs");
        assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
        String::from_utf8(end.stdout).expect("text")
    }

    #[test]
    fn the_topology_of_recorded_hosts_is_told() {
        for host in ["nvidia-four-gpus", "desktop-without-vgpu", "nvidia-t4-mdev", "sriov-accelerator"] {
            insta::assert_snapshot!(format!("topology_{host}"), vgpuctl(host, &["topology", "--direct"]));
        }
        let json = vgpuctl("nvidia-four-gpus", &["topology", "--direct", "-o", "json"]);
        let answer: serde_json::Value = serde_json::from_str(&json).expect("json");
        assert_eq!(answer["pairs"].as_array().map(Vec::len), Some(6));
        assert_eq!(
            (&answer["pairs"][0]["level"], &answer["pairs"][2]["level"]),
            (&"PIX".into(), &"SYS".into())
        );
    }

    #[test]
    fn every_recorded_host_reads_as_it_did() {
        let bless = std::env::var_os("VGPUD_BLESS").is_some();
        let hosts = hosts();
        assert!(hosts.len() >= 6, "{} hosts", hosts.len());
        for host in hosts {
            let golden = host.join("snapshot.json");
            let found = serde_json::to_string_pretty(&read(&host)).expect("json") + "\n";
            if bless {
                put(&golden, found.as_bytes());
            }
            assert_eq!(Some(found), text(&golden), "{}", host.display());
        }
    }

    #[test]
    fn every_recorded_host_says_where_it_comes_from() {
        for host in hosts() {
            let manifest = text(&host.join("host.txt")).expect("a manifest");
            for key in ["# host:", "# kernel:", "# date:", "# source:"] {
                assert!(manifest.contains(key), "{}: {key}", host.display());
            }
        }
    }

    #[test]
    fn a_snapshot_survives_the_wire() {
        for host in hosts() {
            let snapshot = read(&host);
            let line = serde_json::to_string(&snapshot).expect("json");
            assert_eq!(serde_json::from_str::<HostSnapshot>(&line).expect("json"), snapshot);
        }
    }

    #[test]
    fn the_bench_host_is_written_as_plain_files_and_read_whole() {
        let dir = tempfile::tempdir().expect("temporary directory");
        HostSpec::dual_gpu().write_to(dir.path());
        let snapshot = scan(&Sysfs::new(dir.path()), &ScanOptions::default());
        let types: usize = snapshot.parents().map(|(_, parent)| parent.types.len()).sum();
        assert_eq!((snapshot.gpus.len(), types), (2, 2 * 32 * 24));
        let start = std::time::Instant::now();
        for _ in 0..20 {
            assert_eq!(scan(&Sysfs::new(dir.path()), &ScanOptions::default()).gpus.len(), 2);
        }
        println!("one reading takes {:?}", start.elapsed() / 20);
    }
}
