//! When there is no room.

use super::guest::MTTY;
use super::host::Lab;

/// Takes all 24 ports of the mtty parent, as twelve slices by hand.
const FILL: &str = "for n in {1..12}; do vgpuctl mdev create mtty mtty-2 || exit; done";

#[test]
fn a_start_without_room_says_what_was_asked_what_is_left_and_who_has_the_rest() {
    let lab = Lab::reset();
    let web1 = lab.guest("web1");
    lab.ok("vgpuctl profile create small --type mtty-1");
    web1.attach("small");
    let made = lab.ok(FILL);
    assert_eq!(lab.mdevs().len(), 12);

    let refusal = web1.try_start();
    refusal.refused(&["web1", "mtty-1", "profile small", "mtty: has 0", "vgpuctl by hand 12 x mtty-2"]);
    let line = refusal.stderr.lines().find(|line| line.contains("vgpud:")).unwrap_or_default();
    assert!(line.contains("cannot place"), "one line tells it all: {refusal:#?}");
    assert_eq!(lab.mdevs().len(), 12, "nothing is left behind, nothing of others is taken");
    lab.wait_agreement(&[]);
    let explanation = lab.ok("vgpuctl profile explain small");
    assert!(
        explanation.contains("mtty") && explanation.contains("vgpuctl by hand 12 x mtty-2"),
        "{explanation}"
    );

    let first = made.lines().next().unwrap_or_default();
    lab.ok(&format!("vgpuctl mdev remove {first}"));
    web1.start();
    web1.wait_firmware_sees(MTTY, 1);
    web1.assert_holds(&web1.named_mdevs()[0]);
    web1.destroy();
    lab.wait_agreement(&[]);
    assert_eq!(lab.mdevs().len(), 11);
}

#[test]
fn two_starts_race_for_the_last_slice_and_exactly_one_wins() {
    let lab = Lab::reset();
    let guests = [lab.guest("web1"), lab.guest("web2")];
    lab.ok("vgpuctl profile create big --type mtty-2");
    guests.iter().for_each(|guest| drop(guest.attach("big")));
    lab.ok(&FILL.replace("12", "11"));

    let race = lab.ok("virsh start web1 >/tmp/1 2>&1 & one=$!
         virsh start web2 >/tmp/2 2>&1; two=$?
         wait $one; echo \"$? $two\"; cat /tmp/1 /tmp/2");
    let (codes, said) = race.split_once('\n').unwrap_or_default();
    let winner = match codes {
        "0 1" => &guests[0],
        "1 0" => &guests[1],
        _ => panic!("exactly one wins: {race}"),
    };
    let why = format!("held by domain {} 1 x mtty-2, vgpuctl by hand 11 x mtty-2", winner.name);
    assert!(said.contains("cannot place") && said.contains(&why), "the other is told why: {race}");
    winner.wait_firmware_sees(MTTY, 1);
    winner.assert_holds(&winner.named_mdevs()[0]);
    assert_eq!(lab.mdevs().len(), 12);
    lab.wait_agreement(&[]);

    let loser = guests.iter().find(|guest| guest.name != winner.name).expect("two guests");
    assert!(!loser.is_running());
    winner.destroy();
    loser.start();
    loser.wait_firmware_sees(MTTY, 1);
    loser.assert_holds(&loser.named_mdevs()[0]);
}
