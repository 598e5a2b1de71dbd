//! The fake kernel held against the real one: the same operations on both, and the same answers.
//!
//! A run takes seeds whose texts were seen to be equal, so it fails when the fake changes or the kernel does.
//! `VGPUD_COMPARE_SEED=N` is how to look for new differences: it compares one seed more, before the others. What
//! that finds becomes a case of `tests/fake.rs`, and the kernel's text of the seed goes to
//! `tests/compare/recorded/KERNEL/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::host::{Lab, is_debian_12, put};
use crate::on_fake::on_the_fake;
use crate::support::spec::KernelSpec;

/// Seeds that every run takes. With [`COUNT`] their texts are in `tests/compare/recorded/KERNEL/`, and equal.
const SEEDS: [u64; 2] = [1, 2];
/// Operations that each seed draws, at least.
const COUNT: usize = 300;
/// After this long no further seed is begun; the first always is.
const ENOUGH: Duration = Duration::from_secs(90);

/// Builds the program with the cargo that has built this test, and strips it under its plain name.
#[expect(clippy::disallowed_methods, reason = "programs are made by the tools that make everything here")]
fn program(dir: &Path) -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["test", "--no-run", "--quiet", "--test", "compare", "--message-format=json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo can be started");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let messages = String::from_utf8_lossy(&built.stdout);
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut programs = messages.filter(|message| message["target"]["name"] == "compare");
    let built = programs.find_map(|message| Some(message["executable"].as_str()?.to_owned()));
    let program = dir.join("compare");
    let stripped =
        Command::new("strip").arg("-o").arg(&program).arg(built.expect("cargo says where it is")).status();
    assert!(stripped.expect("strip can be started").success());
    program
}

/// The seed that somebody wants compared besides.
fn wanted() -> Option<u64> {
    let given = std::env::var("VGPUD_COMPARE_SEED").ok()?;
    Some(given.parse().expect("VGPUD_COMPARE_SEED is a number"))
}

#[test]
fn the_fake_kernel_answers_as_the_real_one() {
    let lab = Lab::reset();
    let dir = tempfile::tempdir().expect("temporary directory");
    put(&program(dir.path()), "/root");
    // udev and libvirt look at what comes and goes, and would keep the one processor busy.
    lab.ok("systemctl stop vgpud libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd
         systemctl stop systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udevd
         modprobe igbvf
         echo 0 >/proc/sys/kernel/hung_task_timeout_secs");
    let kernel = if is_debian_12() { KernelSpec::Linux6_1 } else { KernelSpec::Linux6_12 };
    let began = Instant::now();
    let mut compared = 0;
    for seed in wanted().into_iter().chain(SEEDS) {
        if began.elapsed() > ENOUGH {
            println!("seed {seed} is left out: this machine is slow");
            continue;
        }
        let real = lab.ok(&format!("/root/compare {COUNT} {seed}"));
        let fake = on_the_fake(kernel, seed, COUNT);
        let here = compare(seed, &real, &fake);
        println!("seed {seed}: {here} operations compared, {} s", began.elapsed().as_secs());
        compared += here;
    }
    println!("{compared} operations compared with the real kernel");
}

/// Requires that both texts are equal; returns how many operations they tell of.
fn compare(seed: u64, real: &str, fake: &[String]) -> usize {
    let real: Vec<&str> = real.lines().collect();
    let differs = (0..real.len().max(fake.len()))
        .find(|at| real.get(*at).copied() != fake.get(*at).map(String::as_str));
    if let Some(at) = differs {
        let before = real[at.saturating_sub(40)..at.min(real.len())].join("\n");
        panic!(
            "seed {seed}, after\n{before}\nthe kernel says {:?}, and the fake {:?}; VGPUD_COMPARE_SEED={seed} repeats it",
            real.get(at),
            fake.get(at)
        );
    }
    real.iter().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).count()
}
