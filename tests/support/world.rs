//! A host in a box: a fake kernel, domains as files, and the real binaries on it.

#![expect(clippy::disallowed_methods, reason = "a test starts the binaries and plays libvirt")]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::fake::FakeKernel;
use super::spec::HostSpec;

/// Longest that a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The host, its domains and its service.
pub(crate) struct World {
    pub(crate) host: FakeKernel,
    domains: PathBuf,
    service: Option<Service>,
    next_pid: AtomicU32,
    /// Libvirt as `none` instead of the directory of domains.
    pub(crate) without_libvirt: bool,
    /// More of the environment of every command.
    pub(crate) environment: Vec<(String, String)>,
}

/// A service that is started again when it is killed, as systemd does.
struct Service {
    child: Arc<Mutex<Child>>,
    supervisor: JoinHandle<()>,
    deaths: Arc<AtomicU32>,
    stop: Arc<Mutex<bool>>,
}

/// What the environment of a service asks for.
#[derive(Clone, Default)]
pub(crate) struct Rehearsal {
    /// Die at this crash point; the next start does not.
    pub(crate) crash_at: Option<u64>,
    /// Write the crash points that are passed here.
    pub(crate) log: Option<PathBuf>,
}

impl World {
    pub(crate) fn new(spec: HostSpec) -> Self {
        let host = FakeKernel::mount(spec);
        let domains = host.root().join("etc/libvirt/qemu");
        std::fs::create_dir_all(&domains).expect("directory");
        let next_pid = AtomicU32::new(4000);
        Self { host, domains, service: None, next_pid, without_libvirt: false, environment: Vec::new() }
    }

    // Binaries -----------------------------------------------------------------------------------

    /// A command of `binary`, or of its namesake in the directory `VGPUD_TEST_BINARIES`.
    pub(crate) fn command(&self, binary: &str) -> Command {
        let binary = PathBuf::from(binary);
        let other = std::env::var_os("VGPUD_TEST_BINARIES").map(PathBuf::from).zip(binary.file_name());
        let mut command = Command::new(other.map_or(binary.clone(), |(dir, name)| dir.join(name)));
        let uri = match self.without_libvirt {
            true => "none".to_owned(),
            false => format!("dir:{}", self.domains.display()),
        };
        command.env_clear().env("VGPUD_ROOT", self.host.root()).env("VGPUD_LIBVIRT_URI", uri);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn service_command(&self) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_vgpud"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Starts the service and waits until it answers.
    pub(crate) fn serve(&mut self) {
        self.rehearse(&Rehearsal::default());
    }

    /// As [`World::serve`], with crash points. It may die before it answers; its successor answers then.
    pub(crate) fn rehearse(&mut self, rehearsal: &Rehearsal) {
        self.begin(rehearsal);
        self.wait_answering();
    }

    /// Starts the service and does not wait for its answer.
    pub(crate) fn begin(&mut self, rehearsal: &Rehearsal) {
        assert!(self.service.is_none(), "one service at a time");
        let mut first = self.service_command();
        if let Some(at) = rehearsal.crash_at {
            first.env("VGPUD_CRASH_AT", at.to_string());
        }
        if let Some(log) = &rehearsal.log {
            first.env("VGPUD_CRASH_LOG", log);
        }
        let again = self.service_command();
        self.service = Some(Service::start(first, again, &self.host.root().join("var/service.log")));
    }

    pub(crate) fn wait_answering(&self) {
        wait("the service answers", || self.answers().then_some(()));
    }

    /// Whether the service answers now.
    pub(crate) fn answers(&self) -> bool {
        UnixStream::connect(self.host.root().join("run/vgpud/vgpud.sock")).is_ok()
    }

    /// Waits until the service's log says this.
    pub(crate) fn wait_logged(&self, text: &str) {
        wait(text, || self.service_log().contains(text).then_some(()));
    }

    /// How often the service has died.
    pub(crate) fn deaths(&self) -> u32 {
        self.service.as_ref().map_or(0, |service| service.deaths.load(Ordering::SeqCst))
    }

    /// Marks a domain as libvirt does for one that it starts by itself.
    pub(crate) fn autostart(&self, name: &str) {
        let dir = self.domains.join("autostart");
        std::fs::create_dir_all(&dir).expect("directory");
        let target = format!("/etc/libvirt/qemu/{name}.xml");
        std::os::unix::fs::symlink(target, dir.join(format!("{name}.xml"))).expect("link");
    }

    /// The host loses power with the service and its guests, and boots.
    pub(crate) fn lose_power(&mut self) {
        if self.service.is_some() {
            self.kill_service();
        }
        self.host.reboot();
    }

    /// A step of the boot report, by its kind and a text that its place contains.
    pub(crate) fn step(&self, kind: &str, place: &str) -> Value {
        let report = self.json("boot-report");
        let steps = report["steps"].as_array().expect("a list");
        let fits = |step: &&Value| {
            step["step"] == kind && step["place"].as_str().is_some_and(|text| text.contains(place))
        };
        steps.iter().find(fits).cloned().unwrap_or(Value::Null)
    }

    /// Waits until a step of the boot report has this state; returns the step.
    pub(crate) fn wait_step(&self, kind: &str, place: &str, state: &str) -> Value {
        wait(&format!("{kind} on {place} is {state}"), || {
            let step = self.step(kind, place);
            (step["state"] == state).then_some(step)
        })
    }

    /// After a rehearsal: the service that died, or is stopped now, has a successor that answers.
    /// Returns whether it died.
    pub(crate) fn come_back(&mut self) -> bool {
        let mut died = self.service.as_ref().is_some_and(|service| service.deaths.load(Ordering::SeqCst) > 0);
        if !died {
            died = self.stop_service() > 0;
            self.serve();
        }
        self.wait_answering();
        died
    }

    /// Stops the service as systemd does. Returns how often it had died by a signal before.
    pub(crate) fn stop_service(&mut self) -> u32 {
        self.end_service(Signal::SIGTERM)
    }

    /// Kills the service and does not start it again. Returns how often it had died before.
    pub(crate) fn kill_service(&mut self) -> u32 {
        self.end_service(Signal::SIGKILL)
    }

    fn end_service(&mut self, signal: Signal) -> u32 {
        let service = self.service.take().expect("a service");
        service.end(signal)
    }

    /// Kills the service; its supervisor starts it again. Waits until the successor answers.
    pub(crate) fn kill_once(&self) {
        let service = self.service.as_ref().expect("a service");
        let before = service.deaths.load(Ordering::SeqCst);
        let pid = i32::try_from(service.child.lock().expect("lock").id()).expect("pid");
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("a service that runs");
        wait("the service dies", || (service.deaths.load(Ordering::SeqCst) > before).then_some(()));
        self.wait_answering();
    }

    pub(crate) fn service_log(&self) -> String {
        std::fs::read_to_string(self.host.root().join("var/service.log")).unwrap_or_default()
    }

    /// Runs `vgpuctl` with words separated by blanks.
    pub(crate) fn ctl(&self, words: &str) -> Output {
        let output = self.command(env!("CARGO_BIN_EXE_vgpuctl")).args(words.split_whitespace()).output();
        output.expect("vgpuctl runs")
    }

    /// Runs `vgpuctl`, which must succeed; returns its stdout.
    pub(crate) fn ok(&self, words: &str) -> String {
        let output = self.ctl(words);
        assert!(output.status.success(), "vgpuctl {words}: {}\n{}", stderr(&output), self.service_log());
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs `vgpuctl … -o json`, which must succeed.
    pub(crate) fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{words} -o json"))).expect("json")
    }

    /// Runs the hook as libvirt does.
    pub(crate) fn hook(&self, domain: &str, words: &str) -> Output {
        let mut child = self
            .command(env!("CARGO_BIN_EXE_vgpu-hook"))
            .arg(domain)
            .args(words.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("vgpu-hook runs");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(self.xml(domain).as_bytes()).expect("the hook reads");
        drop(stdin);
        child.wait_with_output().expect("the hook ends")
    }

    // Domains ------------------------------------------------------------------------------------

    /// Defines a domain that has no hostdevs yet.
    pub(crate) fn define(&self, name: &str, number: u32) {
        let xml = format!(
            "<domain type='kvm'>\n  <name>{name}</name>\n  <uuid>00000000-0000-4000-8000-{number:012}</uuid>\n  \
             <devices>\n    <emulator>/usr/bin/qemu-system-x86_64</emulator>\n  </devices>\n</domain>\n"
        );
        std::fs::write(self.file(name), xml).expect("domain file");
    }

    /// Lets the service's libvirt run our hook when it starts or stops a domain.
    pub(crate) fn install_hook(&self) {
        let dir = self.domains.join("hooks");
        std::fs::create_dir_all(&dir).expect("directory");
        let program = dir.join("qemu");
        let text = format!("#!/bin/sh\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_vgpu-hook"));
        std::fs::write(&program, text).expect("hook");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("mode");
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.domains.join(format!("{name}.xml"))
    }

    pub(crate) fn live_file(&self, name: &str) -> PathBuf {
        self.domains.join(format!("{name}.live.xml"))
    }

    pub(crate) fn xml(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).expect("a defined domain")
    }

    pub(crate) fn set_xml(&self, name: &str, xml: &str) {
        std::fs::write(self.file(name), xml).expect("domain file");
    }

    pub(crate) fn live_xml(&self, name: &str) -> String {
        std::fs::read_to_string(self.live_file(name)).expect("a running domain")
    }

    pub(crate) fn set_live_xml(&self, name: &str, xml: &str) {
        std::fs::write(self.live_file(name), xml).expect("live file");
    }

    /// The devices that a definition names: UUIDs and PCI addresses.
    pub(crate) fn devices(&self, name: &str) -> Vec<String> {
        let parsed = vgpud::domain_xml::read(self.xml(name).as_bytes()).expect("valid XML");
        parsed.hostdevs.iter().filter_map(|one| one.source.device()).map(|one| one.to_string()).collect()
    }

    /// Starts a domain as libvirt does: it counts as active, then `prepare`, then QEMU opens the devices, then
    /// `started`; when `prepare` fails, `stopped` and `release`. Returns the hook's line on failure.
    pub(crate) fn start(&self, name: &str) -> Result<(), String> {
        std::fs::write(self.live_file(name), self.xml(name)).expect("live file");
        let prepared = self.hook(name, "prepare begin -");
        if !prepared.status.success() {
            self.hook(name, "stopped end -");
            self.hook(name, "release end failed");
            std::fs::remove_file(self.live_file(name)).expect("live file");
            return Err(stderr(&prepared));
        }
        let pid = self.next_pid.fetch_add(1, Ordering::SeqCst);
        for device in self.devices(name) {
            assert!(self.host.hold(&device, name, pid), "QEMU cannot open {device}\n{}", self.service_log());
        }
        self.hook(name, "started begin -");
        Ok(())
    }

    /// The domain was running when the host lost power.
    pub(crate) fn forget_running(&self, name: &str) {
        std::fs::remove_file(self.live_file(name)).expect("a running domain");
    }

    /// Stops a domain as libvirt does.
    pub(crate) fn stop(&self, name: &str) {
        for device in self.devices(name) {
            self.host.unhold(&device);
        }
        std::fs::remove_file(self.live_file(name)).expect("a running domain");
        self.hook(name, "stopped end -");
        let released = self.hook(name, "release end destroyed");
        assert!(released.status.success(), "release: {}", stderr(&released));
    }

    // Judging ------------------------------------------------------------------------------------

    /// Waits until the host's mdevs are exactly these, and the service agrees that all of them are ours.
    pub(crate) fn settles_to(&self, mdevs: &[String], when: &str) {
        let mut wanted = mdevs.to_vec();
        wanted.sort();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let disagreement = self.disagreement(&wanted);
            match disagreement {
                None => return,
                Some(text) if Instant::now() > deadline => {
                    panic!("{when}: {text}\n--- service:\n{}", self.service_log())
                }
                Some(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn disagreement(&self, wanted: &[String]) -> Option<String> {
        let found = self.host.mdevs();
        if found != wanted {
            return Some(format!("mdevs are {found:?}, wanted {wanted:?}"));
        }
        let status = self.json("status");
        if status["unfinished"].as_array().is_none_or(|list| !list.is_empty()) {
            return Some(format!("unfinished changes: {}", status["unfinished"]));
        }
        let gpus = self.json("gpus");
        let slices = gpus["slices"].as_array().expect("slices");
        let mdevs: Vec<&Value> = slices.iter().filter(|slice| slice["mdev_type"].is_string()).collect();
        if mdevs.len() != wanted.len() {
            return Some(format!("the service shows {} mdevs, the host has {}", mdevs.len(), wanted.len()));
        }
        mdevs
            .iter()
            .find(|slice| slice["owner"] != "allocation")
            .map(|slice| format!("a slice without an allocation: {slice}"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(service) = self.service.take() {
            service.end(Signal::SIGKILL);
        }
    }
}

impl Service {
    fn start(mut first: Command, mut again: Command, log: &std::path::Path) -> Self {
        let stderr = || {
            let file = std::fs::File::options().append(true).create(true).open(log).expect("service log");
            Stdio::from(file)
        };
        let child = Arc::new(Mutex::new(first.stderr(stderr()).spawn().expect("vgpud runs")));
        let stop = Arc::new(Mutex::new(false));
        let again_stderr = stderr();
        again.stderr(again_stderr);
        let (watched, stopping) = (Arc::clone(&child), Arc::clone(&stop));
        let deaths = Arc::new(AtomicU32::new(0));
        let died = Arc::clone(&deaths);
        let supervisor = std::thread::spawn(move || supervise(&watched, &stopping, &died, &mut again));
        Self { child, supervisor, deaths, stop }
    }

    fn end(self, signal: Signal) -> u32 {
        *self.stop.lock().expect("lock") = true;
        let pid = i32::try_from(self.child.lock().expect("lock").id()).expect("pid");
        let _ = kill(Pid::from_raw(pid), signal);
        self.supervisor.join().expect("supervisor");
        self.deaths.load(Ordering::SeqCst)
    }
}

/// Starts the service again after each death by signal, and counts them.
fn supervise(child: &Mutex<Child>, stop: &Mutex<bool>, deaths: &AtomicU32, again: &mut Command) {
    loop {
        let mut child = child.lock().expect("lock");
        let stopping = *stop.lock().expect("lock");
        match child.try_wait().expect("wait") {
            Some(status) if stopping => {
                deaths.fetch_add(u32::from(status.signal().is_some()), Ordering::SeqCst);
                return;
            }
            Some(status) if status.signal().is_some() => {
                *child = again.spawn().expect("vgpud runs again");
                deaths.fetch_add(1, Ordering::SeqCst);
            }
            // It refused to start: whoever waits for an answer tells.
            Some(_) => return,
            None => {
                drop(child);
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

/// Waits until `fact` gives something.
pub(crate) fn wait<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = fact() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
