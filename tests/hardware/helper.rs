//! Changes that sleep in the kernel, in a process of their own.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid};
use vgpud::backend::helper::{Helper, Outcome};
use vgpud::backend::{StepError, execute};
use vgpud::config::Paths;
use vgpud::inventory::{ScanOptions, scan};
use vgpud::model::HelperId;
use vgpud::model::{Kind, Step};
use vgpud::sysfs::{Sysfs, wait_until};

use crate::support::fake::FakeKernel;
use crate::support::spec::HostSpec;

const A: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const PATIENCE: Duration = Duration::from_secs(20);

fn remove() -> Step {
    Step::RemoveMdev { uuid: A.parse().expect("a UUID") }
}

fn host_with_mdev() -> (FakeKernel, Paths) {
    let host = FakeKernel::mount(HostSpec::lab());
    host.foreign_mdev("mtty", "mtty-1", A).expect("made");
    let paths = Paths::new(Some(host.root().to_owned()), None, None);
    (host, paths)
}

fn spawn(paths: &Paths) -> Helper {
    Helper::spawn_program(Path::new(env!("CARGO_BIN_EXE_vgpud")), paths).expect("a helper")
}

fn pid(helper: &Helper) -> Pid {
    Pid::from_raw(i32::try_from(helper.id().pid).expect("a pid"))
}

#[test]
fn a_helper_does_its_step_and_ends() {
    let (host, paths) = host_with_mdev();
    let helper = spawn(&paths);
    let id = helper.id();
    assert!(id.is_alive());
    assert_eq!(getpgid(Some(pid(&helper))), Ok(pid(&helper)), "its own process group");
    assert!(matches!(helper.go(&remove()).wait(PATIENCE), Outcome::Done));
    assert!(host.mdevs().is_empty());
    assert!(!id.is_alive());
}

#[test]
fn a_helper_that_is_dismissed_or_dropped_does_nothing() {
    let (host, paths) = host_with_mdev();
    let helper = spawn(&paths);
    let id = helper.id();
    helper.dismiss();
    assert!(!id.is_alive());
    let dropped = spawn(&paths);
    let id = dropped.id();
    drop(dropped);
    assert!(wait_until(PATIENCE, || !id.is_alive()));
    assert_eq!((host.mdevs(), host.writes()), (vec![A.to_owned()], vec![]));
}

#[test]
fn an_error_arrives_whole() {
    let (host, paths) = host_with_mdev();
    assert!(host.hold(A, "web1", 4711));
    let Outcome::Failed(error) = spawn(&paths).go(&remove()).wait(PATIENCE) else { panic!("held") };
    assert_eq!(error, execute(&Sysfs::new(host.root()), &remove()).expect_err("held"));
    assert_eq!((error.kind(), error.hints()), (Kind::Busy, vec!["stop domain web1 first".to_owned()]));
}

#[test]
fn errno_survives_the_way_through_a_helper() {
    let (host, paths) = host_with_mdev();
    host.fail("/remove", 1, Errno::EAGAIN);
    let Outcome::Failed(error) = spawn(&paths).go(&remove()).wait(PATIENCE) else { panic!("refused") };
    assert_eq!(error.errno(), Some(Errno::EAGAIN));
}

#[test]
fn a_helper_that_is_killed_is_no_answer() {
    let (host, paths) = host_with_mdev();
    host.delay("/remove", Duration::from_millis(300));
    let running = {
        let helper = spawn(&paths);
        let target = pid(&helper);
        kill(target, Signal::SIGKILL).expect("killed");
        helper.go(&remove())
    };
    let Outcome::Failed(error) = running.wait(PATIENCE) else { panic!("no answer") };
    assert!(matches!(error, StepError::NoAnswer { .. }), "{error:?}");
    assert!(error.to_string().contains("signal: 9"), "{error}");
}

/// The remove sleeps as it does when a guest took the device between the look and the write.
#[test]
fn an_overrun_is_told_goes_on_and_does_not_slow_readers() {
    let (host, paths) = host_with_mdev();
    host.hang("/remove");
    let started = Instant::now();
    let Outcome::Overrun(running) = spawn(&paths).go(&remove()).wait(Duration::from_millis(200)) else {
        panic!("it hangs")
    };
    assert!(started.elapsed() < Duration::from_secs(5));
    host.wait_sleeping(1);
    let id = running.id();
    assert!(id.is_alive());
    assert_eq!(running.step(), &remove());

    let sysfs = Sysfs::new(host.root());
    let mut times: Vec<Duration> = (0..100)
        .map(|_| {
            let start = Instant::now();
            assert!(!scan(&sysfs, &ScanOptions::default()).gpus.is_empty());
            start.elapsed()
        })
        .collect();
    times.sort();
    // The aim is 50 ms; shared machines get some room.
    assert!(times[98] < Duration::from_millis(250), "p99 of reading is {:?}", times[98]);

    // SIGKILL does not end a process that sleeps in the kernel.
    kill(Pid::from_raw(i32::try_from(id.pid).expect("a pid")), Signal::SIGTERM).expect("signalled");
    let reaper = std::thread::spawn(move || running.finish());
    host.unhang("/remove");
    let result = reaper.join().expect("no panic");
    assert!(result.is_ok() || matches!(result, Err(StepError::NoAnswer { .. })), "{result:?}");
    assert!(wait_until(PATIENCE, || host.mdevs().is_empty()), "the write took place");
    assert!(!id.is_alive());
}

#[test]
fn an_overrun_can_be_waited_for_again() {
    let (host, paths) = host_with_mdev();
    host.hang("/remove");
    let Outcome::Overrun(running) = spawn(&paths).go(&remove()).wait(Duration::from_millis(50)) else {
        panic!("it hangs")
    };
    let Outcome::Overrun(running) = running.wait(Duration::from_millis(50)) else { panic!("it still hangs") };
    host.unhang("/remove");
    assert!(matches!(running.wait(PATIENCE), Outcome::Done));
}

#[test]
fn a_group_node_taken_by_a_guest_keeps_set_vfs_from_sleeping() {
    let host = FakeKernel::mount(HostSpec::lab());
    let paths = Paths::new(Some(host.root().to_owned()), None, None);
    let set = |count| Step::SetVfs {
        pf: "0000:01:00.0".parse().expect("an address"),
        count,
        before: 0,
        script: None,
    };
    assert!(matches!(spawn(&paths).go(&set(2)).wait(PATIENCE), Outcome::Done));
    assert!(host.hold("0000:01:10.0", "web1", 4711));
    assert!(matches!(spawn(&paths).go(&set(0)).wait(PATIENCE), Outcome::Failed(StepError::Held { .. })));
    host.unhold("0000:01:10.0");
    assert!(matches!(spawn(&paths).go(&set(0)).wait(PATIENCE), Outcome::Done));
}

/// Runs a helper by hand for a service that is a mere `sleep`, killed at the given fail point.
fn rehearse_crash(host: &FakeKernel, at: u32) -> (std::process::Child, std::process::ExitStatus, String) {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    #[expect(clippy::disallowed_methods, reason = "stands for the service")]
    let service = Command::new("sleep").arg("60").spawn().expect("a process");
    let id = HelperId::of(service.id()).expect("it runs");
    let log = host.root().join("var/crash.log");
    #[expect(clippy::disallowed_methods, reason = "a helper with an environment of its own")]
    let mut helper = Command::new(env!("CARGO_BIN_EXE_vgpud"))
        .arg("helper")
        .env("VGPUD_ROOT", host.root())
        .env("VGPUD_CRASH_AT", at.to_string())
        .env("VGPUD_CRASH_LOG", &log)
        .stdin(Stdio::piped())
        .spawn()
        .expect("a helper");
    let order = serde_json::json!({ "step": remove(), "hits": 10, "service": id });
    let mut stdin = helper.stdin.take().expect("a pipe");
    stdin.write_all(format!("{order}\n").as_bytes()).expect("told");
    let status = helper.wait().expect("it ended");
    let mut text = String::new();
    std::fs::File::open(log).and_then(|mut log| log.read_to_string(&mut text)).expect("a log");
    (service, status, text)
}

#[test]
fn a_rehearsed_crash_takes_the_service_along_and_counts_on() {
    use std::os::unix::process::ExitStatusExt;

    for (at, left) in [(11, 1), (12, 0)] {
        let (host, _) = host_with_mdev();
        let (mut service, status, log) = rehearse_crash(&host, at);
        assert_eq!(status.signal(), Some(9));
        assert_eq!(service.wait().expect("it ended").signal(), Some(9), "the service died, too");
        assert_eq!(host.mdevs().len(), left, "before the write at 11, after it at 12");
        assert!(log.starts_with("11 before a kernel write\n"), "{log}");
    }
}
