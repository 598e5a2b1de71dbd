//! Slices that others made.

use super::guest::MTTY;
use super::host::{Lab, SHORT};

const FOREIGN: &str = "8a1c0e3e-0000-4000-8000-000000000002";

#[test]
fn what_others_made_is_shown_counted_and_left_alone() {
    let lab = Lab::reset();
    let web1 = lab.guest("web1");
    lab.ok("vgpuctl profile create small --type mtty-1");
    web1.attach("small");
    let uuid = web1.named_mdevs().remove(0);

    lab.ok(&format!("mdevctl start --uuid {FOREIGN} --parent mtty --type mtty-1"));
    lab.wait(&format!("vgpuctl gpus | grep {FOREIGN} | grep foreign"), SHORT);
    let left = lab.ok(
        "vgpuctl gpus -o json | jq '.gpus[] | select(.name == \"mtty\").parents[].types[] | select(.id == \"mtty-1\").available'",
    );
    assert_eq!(left, "23");
    lab.run(&format!("vgpuctl mdev remove {FOREIGN}")).refused(&["was not made by vgpud"]);

    // Our UUID made by somebody else.
    lab.ok(&format!("mdevctl start --uuid {uuid} --parent mtty --type mtty-1"));
    web1.try_start().refused(&[&uuid, "exists already on mtty", "mdevctl"]);
    assert_eq!(lab.mdevs().len(), 2, "both are still there");
    lab.ok(&format!("mdevctl stop --uuid {uuid}"));

    web1.start();
    web1.wait_firmware_sees(MTTY, 1);
    web1.assert_holds(&uuid);
    web1.destroy();
    lab.wait_agreement(&[FOREIGN]);
    lab.ok("systemctl restart vgpud");
    lab.wait_agreement(&[FOREIGN]);
    assert_eq!(lab.mdevs(), [FOREIGN], "stop, sweep and restart left it alone");
}
