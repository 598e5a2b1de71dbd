//! A full disk below the database.

use super::guest::MTTY;
use super::host::Lab;

#[test]
fn a_full_disk_refuses_starts_and_lets_stops_through() {
    let lab = Lab::reset();
    let [web1, web2] = ["web1", "web2"].map(|name| lab.guest(name));
    lab.ok("systemctl stop vgpud
         mount -t tmpfs -o size=8m,mode=0700 none /var/lib/vgpud
         systemctl start vgpud
         vgpuctl profile create small --type mtty-1");
    web1.attach("small");
    web2.attach("small");
    web1.start();
    web1.wait_firmware_sees(MTTY, 1);
    lab.wait_agreement(&[]);
    lab.ok("cat /dev/zero >/var/lib/vgpud/fill; df /var/lib/vgpud | grep '100%'");

    web2.try_start().refused(&["no space left under /var/lib/vgpud", "stops are not affected"]);
    assert_eq!(lab.mdevs(), web1.named_mdevs(), "the refused start made nothing");
    web1.destroy();
    lab.wait_no_mdevs();
    web1.wait_listed("reserved", "");

    lab.ok("rm /var/lib/vgpud/fill");
    web2.start();
    web2.wait_firmware_sees(MTTY, 1);
    web2.assert_holds(&web2.named_mdevs()[0]);
    lab.wait_agreement(&[]);
}
