//! Doing one step of the walk in the lab, and whether it came to what it had to.

use super::steps::{Fault, Maker, Model, Profile, Step};
use crate::host::{LONG, Lab, Output, daemon};

const PF: &str = "0000:01:00.0";

/// A boot under emulation.
const BOOTED: std::time::Duration = std::time::Duration::from_secs(200);

/// How often a start may be tried that is to succeed in the end: a fault costs one, a VF that somebody else has
/// another, until the definition names a free one.
const TRIES: usize = 4;

/// The mdev of a domain that is made at its start.
const LATE: &str = r#"late() { vgpuctl allocations --domain "$1" -o json | jq -er \
     '[.allocations[] | select(.device.mdev and .terms.mode != "guaranteed") | .device.mdev][0]'; }"#;

/// Waits for both to answer after a fault.
const ANSWER: &str =
    "for n in {1..150}; do virsh list && vgpuctl status && break; sleep 0.2; done >/dev/null 2>&1";

/// Does a step. `model` is from before it.
pub(crate) fn perform(lab: &Lab, model: &Model, step: &Step) {
    match step {
        Step::Attach(name, slice) => {
            let mode = if slice.guaranteed { "guaranteed" } else { "on-start" };
            let count = model.count(name, slice.profile) + 1;
            let said = lab.run(&format!(
                "vgpuctl attach {name} --profile {} --count {count} --mode {mode}",
                slice.profile.name()
            ));
            came_to(&said, !slice.guaranteed || model.has_room(slice.profile));
        }
        Step::Detach(name) => drop(lab.ok(&format!("vgpuctl detach {name}"))),
        Step::Start(name, fault) => start(lab, name, *fault, model.can_start(name)),
        Step::Stop(name, fault) => stop(lab, name, *fault),
        Step::Race(one, other) => race(lab, model, [one, other]),
        Step::Plug(name, profile) => plug(lab, model, name, *profile),
        Step::Unplug(name) => drop(lab.ok(&format!("vgpuctl detach {name} --live"))),
        Step::Wake(name) => {
            lab.ok(&format!("virsh resume {name} && lab-guest pci {name} --timeout {}", LONG.as_secs()));
        }
        Step::Reboot(name) => {
            let boots: u32 = lab.ok(&format!("lab-guest boots {name}")).parse().expect("a number");
            lab.ok(&format!("lab-guest tell {name} reboot"));
            let again =
                format!("test $(lab-guest boots {name}) -gt {boots} && lab-guest pci {name} --timeout 1");
            lab.wait(&again, LONG);
        }
        Step::Make(maker, profile, uuid) => make(lab, *maker, *profile, uuid),
        Step::Remove(Maker::Mdevctl, uuid) => drop(lab.ok(&format!("mdevctl stop --uuid {uuid}"))),
        Step::Remove(Maker::Hand, uuid) => {
            lab.ok(&format!("echo 1 >/sys/bus/mdev/devices/{uuid}/remove"));
        }
        Step::Usurp(name) => usurp(lab, name),
        Step::Vfs(count) => drop(lab.ok(&format!("vgpuctl vfs set {PF} {count}"))),
        Step::Cut => {
            lab.cut();
            lab.wait(&format!("systemctl is-active vgpud {} && virsh list", daemon()), BOOTED);
            quiet_kernel(lab);
        }
        Step::KillService
        | Step::RestartService
        | Step::KillLibvirtd
        | Step::StopUnseen(_)
        | Step::Yank(_)
        | Step::Redefine(_)
        | Step::Rename(_)
        | Step::Events => drop(lab.ok(&script(step))),
    }
}

/// Steps that are one script which succeeds.
fn script(step: &Step) -> String {
    match step {
        Step::KillService => format!("systemctl kill --signal KILL vgpud; {ANSWER}"),
        Step::RestartService => "systemctl restart vgpud".to_owned(),
        Step::KillLibvirtd => format!("kill -KILL $(pidof {}); {ANSWER}", daemon()),
        Step::StopUnseen(name) => {
            format!("systemctl stop vgpud && virsh destroy {name}; systemctl start vgpud")
        }
        Step::Yank(name) => format!(
            "{LATE}\nuuid=\"$(late {name})\" && (echo 1 >/sys/bus/mdev/devices/$uuid/remove) & sleep 1
             virsh destroy {name} && wait"
        ),
        Step::Redefine(name) => format!(
            "virsh dumpxml --inactive {name} >/tmp/{name}.xml && virsh undefine {name} && virsh define /tmp/{name}.xml"
        ),
        Step::Rename(name) => format!("virsh domrename {name} other && virsh domrename other {name}"),
        _ => "udevadm trigger && udevadm settle".to_owned(),
    }
}

/// The kernel reports a removal that hangs as a fault after two minutes.
pub(crate) fn quiet_kernel(lab: &Lab) {
    lab.ok("echo 0 >/proc/sys/kernel/hung_task_timeout_secs");
}

#[track_caller]
fn came_to(said: &Output, wanted: bool) {
    assert_eq!(
        said.code == 0,
        wanted,
        "it should have {}: {said:#?}",
        if wanted { "worked" } else { "been refused" }
    );
    assert!(!said.text().contains("panicked"), "{said:#?}");
}

/// An operation, and what goes wrong beside it. Exits as the operation did, once all answer again.
fn beside(operation: &str, fault: Fault) -> String {
    let (after, act) = match fault {
        Fault::None => return operation.to_owned(),
        Fault::KillService(after) => (after, "systemctl kill --signal KILL vgpud".to_owned()),
        Fault::FreezeService(after) => {
            let freeze = "pid=$(systemctl show -P MainPID vgpud); kill -STOP $pid; sleep 2; kill -CONT $pid";
            (after, freeze.to_owned())
        }
        Fault::KillLibvirtd(after) => (after, format!("kill -KILL $(pidof {})", daemon())),
    };
    format!(
        "({operation}) & operation=$!
         sleep {}.{:03}; {act} >&2
         wait $operation; code=$?
         {ANSWER}
         exit $code",
        after / 1000,
        after % 1000
    )
}

fn runs(lab: &Lab, name: &str) -> bool {
    lab.ok(&format!("virsh domstate {name}")) != "shut off"
}

fn start(lab: &Lab, name: &str, fault: Fault, wanted: bool) {
    let operation = format!("virsh start {name} --paused");
    let said = lab.run(&beside(&operation, fault));
    if !wanted {
        return came_to(&said, false);
    }
    let mut tries = vec![said];
    let has_reason = |said: &Output| fault != Fault::None || said.text().contains("now names VF");
    while !runs(lab, name) {
        let last = tries.last().expect("one at least");
        assert!(tries.len() < TRIES && has_reason(last), "{name} does not start: {tries:#?}");
        tries.push(lab.run(&operation));
    }
}

fn stop(lab: &Lab, name: &str, fault: Fault) {
    let operation = format!("virsh destroy {name}");
    let said = lab.run(&beside(&operation, fault));
    assert!(said.code == 0 || fault != Fault::None, "{said:#?}");
    if runs(lab, name) {
        lab.ok(&operation);
    }
}

fn race(lab: &Lab, model: &Model, names: [&'static str; 2]) {
    let starts = names.map(|name| format!("virsh start {name} --paused >/tmp/race-{name} 2>&1 &"));
    let said = lab.ok(&format!("{} wait; tail /tmp/race-*", starts.concat()));
    let running: Vec<&str> = names.into_iter().filter(|name| runs(lab, name)).collect();
    let possible = model.race(names);
    assert!(possible.contains(&running.len()), "{running:?} run, {possible:?} can: {said}");
    running.iter().for_each(|name| stop(lab, name, Fault::None));
}

fn plug(lab: &Lab, model: &Model, name: &'static str, profile: Profile) {
    let count = model.count(name, profile) + 1;
    let said = lab.run(&format!("vgpuctl attach {name} --profile {} --count {count} --live", profile.name()));
    came_to(&said, model.has_room(profile));
}

fn make(lab: &Lab, maker: Maker, profile: Profile, uuid: &str) {
    let (parent, kind) = profile.mdev().expect("mdevs only");
    let command = match maker {
        Maker::Mdevctl => format!("mdevctl start --uuid {uuid} --parent {parent} --type {kind}"),
        Maker::Hand => {
            format!("echo {uuid} >/sys/class/mdev_bus/{parent}/mdev_supported_types/{kind}/create")
        }
    };
    lab.ok(&command);
}

fn usurp(lab: &Lab, name: &str) {
    let said = lab.run(&format!(
        "{LATE}\nuuid=\"$(late {name})\" && echo $uuid >/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1/create &&
         virsh start {name} --paused; code=$?
         echo 1 >/sys/bus/mdev/devices/$uuid/remove || exit 99
         exit $code"
    ));
    assert_ne!(said.code, 99, "the foreign mdev is gone: {said:#?}");
    came_to(&said, false);
}
