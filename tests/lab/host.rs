//! The lab as tests see it: run a command, wait for a fact, ask a guest.
//!
//! Each test starts from the snapshot `installed` and is judged at its end by the kernel's log and the
//! service's journal too. What a test asserts, it reads from the guest, QEMU or sysfs; our own reports are
//! compared with those, never taken for them.

use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::guest::Guest;

/// The marker that the lab's image sets.
const MARKER: &str = "/etc/vgpud-lab";

/// How long one command in the lab may take; a hang fails the test instead of the whole run.
const COMMAND: Duration = Duration::from_secs(420);

/// There is one lab, whatever `--test-threads` says.
static ONE: Mutex<()> = Mutex::new(());

/// What a command in the lab came to.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: i32,
}

impl Output {
    /// Both streams, for looking for a word.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Requires a refusal that says all of `words`, and no panic.
    #[track_caller]
    pub(crate) fn refused(&self, words: &[&str]) {
        assert_ne!(self.code, 0, "this should have been refused: {self:#?}");
        for word in words {
            assert!(self.text().contains(word), "the refusal does not say {word:?}: {self:#?}");
        }
    }
}

/// The lab, at the snapshot `installed` when the test begins.
#[derive(Debug)]
pub(crate) struct Lab {
    began: Instant,
    _alone: MutexGuard<'static, ()>,
}

impl Lab {
    /// Goes back to the snapshot `installed`.
    pub(crate) fn reset() -> Self {
        let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let back = tool(&["reset", "installed"]);
        assert!(
            back.code == 0,
            "the lab cannot go back to the snapshot \"installed\"; make it: \
             cargo build && scripts/lab up && scripts/install-lab\n{}",
            back.stderr
        );
        let lab = Self { began: Instant::now(), _alone: alone };
        let marked = lab.run(&format!("test -f {MARKER} && dmesg --clear"));
        assert_eq!(marked.code, 0, "what answers is not a lab: no {MARKER}");
        if is_confined() {
            let confinement = lab.ok("cat /proc/$(pidof libvirtd)/attr/current");
            assert_eq!(confinement, "libvirtd (enforce)", "type: scripts/lab confine && scripts/install-lab");
        }
        if is_split() {
            let split = lab.run("pidof virtqemud && ! pidof libvirtd");
            assert_eq!(split.code, 0, "type: scripts/lab split && scripts/install-lab");
        }
        lab
    }

    /// Runs a shell command as root.
    pub(crate) fn run(&self, command: &str) -> Output {
        tool(&["run", "bash", "-c", command])
    }

    /// Runs a shell command that must succeed; returns what it printed, without the last line's end.
    #[track_caller]
    pub(crate) fn ok(&self, command: &str) -> String {
        let output = self.run(command);
        assert_eq!(output.code, 0, "$ {command}\n{output:#?}");
        output.stdout.trim_end().to_owned()
    }

    /// Waits until a shell command succeeds; returns what it printed then. The loop runs in the lab, and
    /// asks less and less often: what it waits for needs the one processor too.
    #[track_caller]
    pub(crate) fn wait(&self, fact: &str, limit: Duration) -> String {
        let script = r#"
            exec {never}<> <(:)
            pauses=(0.1 0.2 0.4 0.7)
            while ! said="$(eval "$1" 2>&1)"; do
                ((SECONDS < $2)) || { printf '%s' "$said" >&2; exit 1; }
                read -r -t "${pauses[0]}" -u "$never"
                ((${#pauses[@]} == 1)) || pauses=("${pauses[@]:1}")
            done
            printf '%s' "$said""#;
        let seconds = limit.as_secs().to_string();
        let output = tool(&["run", "bash", "-c", script, "wait", fact, &seconds]);
        assert_eq!(output.code, 0, "not so after {seconds} s: {fact}\n{output:#?}");
        output.stdout.trim_end().to_owned()
    }

    /// Starts a shell command and does not wait for it; `end_of` does.
    #[track_caller]
    pub(crate) fn background(&self, name: &str, command: &str) {
        let script = r#"rm -f "/tmp/$1."*
            setsid bash -c 'bash -c "$2" >"/tmp/$1.out" 2>"/tmp/$1.err"; echo $? >"/tmp/$1.code"' job "$1" "$2" \
                </dev/null >/dev/null 2>&1 &"#;
        let output = tool(&["run", "bash", "-c", script, "background", name, command]);
        assert_eq!(output.code, 0, "{output:#?}");
    }

    /// Waits until a command in the background has ended.
    #[track_caller]
    pub(crate) fn end_of(&self, name: &str) -> Output {
        let code = self.wait(&format!("test -s /tmp/{name}.code && cat /tmp/{name}.code"), SHORT * 2);
        let read = |stream: &str| self.ok(&format!("cat /tmp/{name}.{stream}"));
        Output { stdout: read("out"), stderr: read("err"), code: code.parse().expect("an exit code") }
    }

    /// The service's process.
    #[track_caller]
    pub(crate) fn service_pid(&self) -> String {
        self.ok("systemctl show -P MainPID vgpud")
    }

    /// Waits until systemd has started another process of the service, by itself, and that is ready.
    #[track_caller]
    pub(crate) fn wait_service_other_than(&self, pid: &str) {
        let fact = format!(
            "systemctl is-active vgpud && test \"$(systemctl show -P MainPID vgpud)\" != {pid} && vgpuctl status"
        );
        self.wait(&fact, SHORT);
    }

    /// A clean reboot.
    pub(crate) fn reboot(&self) {
        let output = tool(&["reboot"]);
        assert_eq!(output.code, 0, "{output:#?}");
    }

    /// Power cut and cold boot.
    pub(crate) fn cut(&self) {
        let output = tool(&["cut"]);
        assert_eq!(output.code, 0, "{output:#?}");
    }

    /// Hot-plugs the lab's NVMe function, another SR-IOV PF.
    pub(crate) fn plug_nvme(&self) {
        let output = tool(&["plug", "nvme"]);
        assert_eq!(output.code, 0, "{output:#?}");
    }

    /// Defines a small guest; nothing of ours is in its XML yet.
    pub(crate) fn guest(&self, name: &str) -> Guest<'_> {
        self.ok(&format!("lab-guest define {name}"));
        self.known_guest(name)
    }

    /// A guest that is defined already.
    pub(crate) fn known_guest(&self, name: &str) -> Guest<'_> {
        Guest { lab: self, name: name.to_owned() }
    }

    /// The mdevs that the kernel has, sorted.
    pub(crate) fn mdevs(&self) -> Vec<String> {
        self.ok("ls /sys/bus/mdev/devices").lines().map(str::to_owned).collect()
    }

    /// Waits until the kernel has no mdev.
    #[track_caller]
    pub(crate) fn wait_no_mdevs(&self) {
        self.wait("! ls /sys/bus/mdev/devices | grep .", SHORT);
    }

    /// Waits until nothing is under way and the ledger knows exactly the mdevs that the kernel has,
    /// `foreign` ones aside. Read from the database and sysfs, not from an answer of the service.
    #[track_caller]
    pub(crate) fn wait_agreement(&self, foreign: &[&str]) {
        let foreign = foreign.join("|");
        let fact = format!(
            "db() {{ sqlite3 -readonly /var/lib/vgpud/vgpud.db \"$1\"; }}
             test -z \"$(db 'select body from intents' | tee /dev/stderr)\" &&
             diff <({{ db \"select json_extract(body, '\\$.device.mdev') from realized\"
                       db 'select key from handmade'; }} | grep . | sort) \
                  <(ls /sys/bus/mdev/devices | grep -vxE '{foreign}' | sort)"
        );
        self.wait(&fact, SHORT);
    }

    /// Adds the igb functions to the managed devices.
    pub(crate) fn manage_igb(&self) {
        self.ok(
            "mkdir -p /etc/vgpud && printf '[devices]\\ninclude = [\"8086:10c9\"]\\n' >/etc/vgpud/vgpud.toml && sync
                 systemctl restart vgpud",
        );
    }
}

/// Whether the lab is one with AppArmor and libvirt's stock confinement (`scripts/lab confine`).
pub(crate) fn is_confined() -> bool {
    std::env::var_os("VGPUD_LAB_APPARMOR").is_some_and(|value| !value.is_empty())
}

/// Whether libvirt's QEMU driver runs in a daemon of its own (`scripts/lab split`).
pub(crate) fn is_split() -> bool {
    std::env::var_os("VGPUD_LAB_SPLIT").is_some_and(|value| !value.is_empty())
}

/// The name of libvirt's daemon, which is that of its unit too.
pub(crate) fn daemon() -> &'static str {
    if is_split() { "virtqemud" } else { "libvirtd" }
}

/// Whether the host inside is a Debian 12, whose kernel is too old for the simulated GPUs.
pub(crate) fn is_debian_12() -> bool {
    std::env::var_os("VGPUD_LAB_DEBIAN").is_some_and(|value| value == "12")
}

/// For what takes the service, libvirt or the kernel a moment.
pub(crate) const SHORT: Duration = Duration::from_secs(30);

/// For what a guest does by itself.
pub(crate) const LONG: Duration = Duration::from_secs(150);

impl Drop for Lab {
    /// Judges the end of a test, or tells what there was when it failed.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let state = "vgpuctl status; vgpuctl allocations; ls /sys/bus/mdev/devices; virsh list --all
                 journalctl -u vgpud -b --no-pager -o cat | tail -30; dmesg | tail -15";
            eprintln!("--- the lab when the test failed\n{}", self.run(state).text());
            return;
        }
        let faults = self.ok("dmesg | grep -E 'WARNING|BUG|Oops|Call Trace'
             journalctl -u vgpud -b --no-pager -o cat | grep -E 'panicked at|PANIC' || true");
        assert_eq!(faults, "", "the kernel warned, or vgpud panicked");
        if is_confined() {
            let denied = self.ok("dmesg | grep -F 'apparmor=\"DENIED\"' || true");
            assert_eq!(denied, "", "AppArmor denied something");
        }
        println!("{} s", self.began.elapsed().as_secs());
    }
}

/// Runs `scripts/lab` with these arguments.
fn tool(arguments: &[&str]) -> Output {
    #[expect(clippy::disallowed_methods, reason = "the lab is reached through its own tool")]
    let output = Command::new("timeout")
        .args(["--kill-after=5", &COMMAND.as_secs().to_string()])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/lab"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("timeout(1) can be started");
    Output {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}

/// Copies a file into a directory of the lab.
#[track_caller]
pub(crate) fn put(file: &std::path::Path, directory: &str) {
    let output = tool(&["put", file.to_str().expect("a plain path"), directory]);
    assert_eq!(output.code, 0, "{output:#?}");
}
