//! Many starts at once.

use std::time::Duration;

use super::sim::FIRST;
use crate::guest::Guest;
use crate::host::{Lab, SHORT};

/// More than a T4 has places for 1 GiB.
const DOMAINS: usize = 24;
const PLACES: usize = 16;

/// For all of them under emulation, on a busy machine.
const STORM: Duration = Duration::from_secs(400);

#[test]
fn of_24_starts_at_once_16_run_and_8_are_told_why() {
    let Some(lab) = Lab::with_gpus("t4") else { return };
    lab.ok("vgpuctl profile create desk --framebuffer 1GiB");
    // Firmware alone, and paused: sixteen guests with a kernel each are more than the lab has memory for.
    lab.ok(&format!(
        "lab-guest define s --memory 32
         virsh dumpxml --inactive s | sed '/<kernel>/d; /<initrd>/d; /<cmdline>/d; /<uuid>/d' >/tmp/s.xml
         virsh -q undefine s
         for n in {{1..{DOMAINS}}}; do
             sed \"s#<name>.*#<name>s$n</name>#; s#/s\\.#/s$n.#g\" /tmp/s.xml >/tmp/s$n.xml; echo define /tmp/s$n.xml
         done | virsh -q
         for n in {{1..{DOMAINS}}}; do vgpuctl attach s$n --profile desk || exit; done"
    ));
    let guests: Vec<Guest<'_>> = (1..=DOMAINS).map(|n| lab.known_guest(&format!("s{n}"))).collect();

    lab.background(
        "storm",
        &format!("for n in {{1..{DOMAINS}}}; do virsh start --paused s$n >/tmp/start$n 2>&1 & done; wait"),
    );
    lab.wait("test -s /tmp/storm.code", STORM);
    let running = lab.ok("virsh -q list --name | grep . || true");
    let (up, down): (Vec<_>, Vec<_>) =
        guests.iter().partition(|guest| running.lines().any(|name| name == guest.name));
    let said = |guest: &Guest<'_>| lab.ok(&format!("cat /tmp/start{}", &guest.name[1..]));
    for guest in &down {
        let said = said(guest);
        assert!(said.contains("cannot place") && said.contains("held by"), "{}: {said}", guest.name);
    }
    assert_eq!((up.len(), down.len()), (PLACES, DOMAINS - PLACES), "{running}");
    let mut named: Vec<String> = up.iter().map(|guest| guest.named_mdevs().remove(0)).collect();
    named.sort();
    assert_eq!(lab.mdevs(), named, "one each, and none for who was refused");
    assert_eq!(lab.vgpus_of(FIRST).len(), PLACES);
    lab.wait_agreement(&[]);

    let first = up[0];
    first.assert_holds(&first.named_mdevs()[0]);
    lab.ok(&format!("virsh resume {}", first.name));
    first.wait_firmware_sees("10de:1eb8", 1);

    lab.background("end", "for name in $(virsh -q list --name); do virsh destroy $name & done; wait");
    lab.wait("test -s /tmp/end.code", STORM);
    lab.wait_no_mdevs();
    lab.wait("! virsh -q list --name | grep .", SHORT);
    assert_eq!(lab.vgpus_of(FIRST), [""; 0]);
    lab.wait_agreement(&[]);
    // Who was refused starts now.
    lab.ok(&format!("virsh start --paused {}", down[0].name));
    down[0].assert_holds(&down[0].named_mdevs()[0]);
}
