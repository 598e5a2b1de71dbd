//! Which VF a stopped domain's definition names, with real libvirt: QEMU's igb twice, and its NVMe function.

use super::guest::{Guest, IGB_VF};
use super::host::{LONG, Lab, SHORT};

const PF: &str = "0000:01:00.0";
const OTHER_PF: &str = "0000:02:00.0";
const VF: &str = "0000:01:10.0";
const OTHER_VF: &str = "0000:02:10.0";

/// As libvirt writes the two.
const SOURCE: &str = "<address domain='0x0000' bus='0x01' slot='0x10' function='0x0'/>";
const OTHER_SOURCE: &str = "<address domain='0x0000' bus='0x02' slot='0x10' function='0x0'/>";

/// Holds a VF as QEMU does, without any event that would tell.
const HOLD: &str = "exec 8<>/dev/vfio/$(basename $(readlink /sys/bus/pci/devices/0000:01:10.0/iommu_group))
     exec 9<> <(:); touch /tmp/held; read -t 600 -u 9";

impl Lab {
    /// Guests that all name the one VF of the first PF; then the other gets some too.
    fn guests_on_one_vf(&self, names: &[&str], others: u32) -> Vec<Guest<'_>> {
        self.manage_igb();
        self.ok(&format!("vgpuctl vfs set {PF} 1; vgpuctl profile create nic --vf {IGB_VF}"));
        let guests: Vec<Guest<'_>> = names.iter().map(|name| self.guest(name)).collect();
        guests.iter().for_each(|guest| drop(guest.attach("nic")));
        guests.iter().for_each(|guest| assert_eq!(guest.named_vfs(), [VF]));
        self.ok(&format!("vgpuctl vfs set {OTHER_PF} {others}"));
        guests
    }
}

impl Guest<'_> {
    /// The definition with its secrets, to the byte.
    fn definition(&self) -> String {
        self.lab.ok(&format!("virsh dumpxml --inactive --security-info {}", self.name))
    }

    #[track_caller]
    fn wait_names(&self, source: &str) {
        let fact = format!("virsh dumpxml --inactive {} | grep -F \"{source}\"", self.name);
        self.lab.wait(&fact, SHORT);
    }

    /// Requires that the ledger, read from the database, has the VF, and nothing is under way.
    #[track_caller]
    fn wait_booked(&self, vf: &str) {
        let fact = format!(
            "body=\"$(sqlite3 -readonly /var/lib/vgpud/vgpud.db \"select body from allocations\" |
                 jq -c 'select(.domain.name == \"{}\")')\"; echo \"$body\"
             jq -e '.device.vf == \"{vf}\" and .pointing.next == null' <<<\"$body\" && grep -x {vf} /run/vgpud/owned",
            self.name
        );
        self.lab.wait(&fact, SHORT);
    }
}

#[test]
fn a_stopped_domain_follows_the_room_and_nothing_but_its_address_changes() {
    let lab = Lab::reset();
    let guests = lab.guests_on_one_vf(&["web1", "web2"], 1);
    let [web1, web2] = guests.as_slice() else { unreachable!("two guests") };
    lab.ok("virsh dumpxml --inactive web2 |
         sed \"s|</devices>|<graphics type='vnc' autoport='yes' passwd='s3cret'/></devices>|
             s|<devices>|<!-- a remark --><devices>|\" | virsh define /dev/stdin");
    // libvirt 9.0 sorts the controllers of a definition that it is given anew, once.
    lab.ok("virsh dumpxml --inactive --security-info web2 | virsh define /dev/stdin");
    let before = web2.definition();
    assert!(before.contains("passwd='s3cret'") && before.matches(SOURCE).count() == 1, "{before}");
    let aliases = web2.aliases();

    web1.start();
    web2.wait_names(OTHER_SOURCE);
    assert_eq!(web2.definition(), before.replace(SOURCE, OTHER_SOURCE), "only the address, byte by byte");
    assert_eq!(web2.aliases(), aliases);
    web2.wait_booked(OTHER_VF);
    let told = lab.ok("vgpuctl history --domain web2; vgpuctl allocations");
    assert!(told.contains(&format!("VF {VF} -> {OTHER_VF}: {VF} is held by domain web1")), "{told}");
    assert!(told.contains(&format!("{OTHER_VF} (was {VF})")), "{told}");
    assert_eq!(web1.named_vfs(), [VF], "a running domain is left alone");

    web2.start();
    web2.wait_firmware_sees(IGB_VF, 1);
    web2.assert_holds(OTHER_VF);
    web1.assert_holds(VF);
    web2.wait_listed_in_use();
    web1.destroy();
    web2.destroy();
    web2.wait_listed("reserved", "");
    assert_eq!(web2.definition(), before.replace(SOURCE, OTHER_SOURCE), "never pointed back");
    lab.wait_agreement(&[]);
}

#[test]
fn a_refused_start_is_mended_and_vgpuctl_start_needs_no_second_try() {
    let lab = Lab::reset();
    let guests = lab.guests_on_one_vf(&["web1", "web2"], 2);
    let [web1, web2] = guests.as_slice() else { unreachable!("two guests") };
    let before = web1.definition();
    lab.background("hold", HOLD);
    lab.wait("test -e /tmp/held", SHORT);

    let promise = format!("domain web1 now names VF {OTHER_VF} of {OTHER_PF}; start it again");
    web1.try_start().refused(&["is held by", &promise]);
    web1.wait_names(OTHER_SOURCE);
    assert_eq!(web1.definition(), before.replace(SOURCE, OTHER_SOURCE));
    web1.start();
    web1.wait_firmware_sees(IGB_VF, 1);
    web1.assert_holds(OTHER_VF);

    // The second one in one go; it may have been pointed elsewhere by itself meanwhile.
    let told = lab.ok("vgpuctl start web2");
    assert!(told.contains("0000:02:10.2") && told.ends_with("started"), "{told}");
    web2.wait_firmware_sees(IGB_VF, 1);
    web2.assert_holds("0000:02:10.2");
    lab.run("vgpuctl start nobody").refused(&["libvirt knows no domain"]);
    assert!(lab.ok("vgpuctl start web2").contains("nothing to change"));
    guests.iter().for_each(Guest::destroy);

    // Nothing left: one line, and the domain stays off.
    lab.ok("vgpuctl vfs set 0000:02:00.0 0");
    let full = lab.run("vgpuctl start web2");
    assert_eq!(full.code, 6, "{full:#?}");
    full.refused(&["cannot place VF", "does not exist now"]);
    assert!(!web2.is_running());
    lab.wait_agreement(&[]);
}

#[test]
fn other_writers_of_the_definition_are_respected() {
    let lab = Lab::reset();
    let guests = lab.guests_on_one_vf(&["web1", "web2"], 1);
    let [web1, web2] = guests.as_slice() else { unreachable!("two guests") };
    let wanted = web2.definition();

    // An editor that is open while the address is exchanged: libvirt's own client sees that it changed.
    lab.ok("cat >/tmp/editor <<'EOF'
#!/bin/bash
virsh start web1 >/dev/null
for n in {1..300}; do virsh dumpxml --inactive web2 | grep -q \"bus='0x02' slot='0x10'\" && break; done
sed -i 's|</name>|</name><title>edited</title>|' \"$1\"
EOF
         chmod 755 /tmp/editor");
    let edited = lab.run("EDITOR=/tmp/editor virsh edit web2 </dev/null");
    assert!(edited.stderr.contains("changed by another user"), "{edited:#?}");
    web2.wait_names(OTHER_SOURCE);
    // One that ends in between is kept whole.
    lab.ok("EDITOR='sed -i \"s|</name>|</name><title>edited</title>|\"' virsh edit web2");
    assert!(web2.definition().contains("<title>edited</title>"));
    web2.wait_booked(OTHER_VF);

    // A tool with a will of its own, twice.
    lab.ok(&format!("cat >/tmp/wanted.xml <<'EOF'\n{wanted}\nEOF\nvirsh define /tmp/wanted.xml"));
    web2.wait_names(OTHER_SOURCE);
    web2.wait_booked(OTHER_VF);
    lab.ok("virsh define /tmp/wanted.xml");
    lab.wait("vgpuctl status | grep 'web2 is no longer pointed at free VFs'", SHORT);
    web2.wait_booked(VF);
    let refused = web2.try_start();
    refused.refused(&["is held by domain web1"]);
    assert!(!refused.text().contains("now names"), "{refused:#?}");
    assert_eq!(web2.definition(), wanted, "left as its tool wants it");
    let told = lab.ok("vgpuctl history --domain web2");
    assert!(told.contains("written by somebody else; vgpud no longer exchanges it"), "{told}");

    // An admin's word ends it.
    lab.ok("vgpuctl start web2");
    web2.wait_firmware_sees(IGB_VF, 1);
    web2.assert_holds(OTHER_VF);
    assert!(!lab.ok("vgpuctl status").contains("no longer pointed"));
    web1.destroy();
    web2.destroy();
    lab.wait_agreement(&[]);
}

#[test]
fn functions_of_another_kind_are_no_way_out() {
    let lab = Lab::reset();
    let guests = lab.guests_on_one_vf(&["web1", "web2"], 0);
    let [web1, web2] = guests.as_slice() else { unreachable!("two guests") };
    lab.plug_nvme();
    let pf = lab.wait("basename $(ls -d /sys/bus/pci/drivers/nvme/*:* | head -1)", LONG);
    lab.ok("printf '[devices]\\ninclude = [\"8086:10c9\", \"1b36:0010\"]\\n' >/etc/vgpud/vgpud.toml
         systemctl restart vgpud");
    lab.ok(&format!("vgpuctl vfs set {pf} 1; vgpuctl profile create disk --vf 1b36:0010"));
    let (web3, web4) = (lab.guest("web3"), lab.guest("web4"));
    web3.attach("disk");
    web4.attach("disk");
    assert_eq!(web3.named_vfs(), web4.named_vfs());
    lab.ok(&format!("vgpuctl vfs set {pf} 2"));

    web1.start();
    web3.start();
    web3.wait_listed_in_use();
    let source = |name: &str| format!("virsh dumpxml --inactive {name} | grep -A1 '<source>'");
    lab.wait(&format!("test \"$({})\" != \"$({})\"", source("web3"), source("web4")), SHORT);
    let (named, other) = (web4.named_vfs().remove(0), web3.named_vfs().remove(0));
    let kind =
        lab.ok(&format!("cat /sys/bus/pci/devices/{named}/vendor /sys/bus/pci/devices/{named}/device"));
    assert_eq!(kind.split_whitespace().collect::<Vec<_>>(), ["0x1b36", "0x0010"]);
    assert_ne!(named, other);
    web4.start();
    web4.assert_holds(&named);
    assert_eq!(web2.named_vfs(), [VF], "an NVMe function is no network card");
    let refused = web2.try_start();
    refused.refused(&["is held by domain web1"]);
    assert!(!refused.text().contains("now names"), "{refused:#?}");
    [web1, &web3, &web4].into_iter().for_each(Guest::destroy);
    lab.wait_agreement(&[]);
}
