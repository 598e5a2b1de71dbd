//! Saved guests, snapshots, and domains that come back under another name, another UUID or without a definition.

use super::guest::Guest;
use super::host::{Lab, SHORT, is_debian_12};

const PF: &str = "0000:01:00.0";
const OTHER_PF: &str = "0000:02:00.0";

/// QEMU 10 refuses to save mtty for want of dirty tracking, which the lab's kernel has only the interface of.
const MAKE_SAVABLE: &str = "g=\"<qemu:arg value='-global'/><qemu:arg value='vfio-pci\"
     virsh dumpxml --inactive web1 | sed \"s|<qemu:commandline>|&$g.enable-migration=on'/>$g.x-device-dirty-page-tracking=off'/>|\" |
     virsh define /dev/stdin";

impl Lab {
    /// The profile `free`, whose type may float, asks for a type.
    fn asks(&self, mdev_type: &str) {
        self.ok(&format!(
            "printf 'type = \"{mdev_type}\"\\nfloat = \"type\"\\n' | vgpuctl profile create free --file -"
        ));
    }

    fn mdev_types(&self) -> String {
        self.ok("for d in /sys/bus/mdev/devices/*; do basename \"$(readlink -f $d/mdev_type)\"; done")
    }

    fn states(&self, domain: &str) -> String {
        let query = format!(
            "select json_extract(body, '\\$.state') from allocations where json_extract(body, '\\$.domain.name') = '{domain}'"
        );
        self.ok(&format!("sqlite3 -readonly /var/lib/vgpud/vgpud.db \"{query}\""))
    }

    fn wait_state(&self, domain: &str, state: &str) {
        let query = format!(
            "select json_extract(body, '\\$.state') from allocations where json_extract(body, '\\$.domain.name') = '{domain}'"
        );
        let fact = format!(
            "vgpuctl attach {domain} --profile small --dry-run >/dev/null 2>&1
             test \"$(sqlite3 -readonly /var/lib/vgpud/vgpud.db \"{query}\")\" = '{state}'"
        );
        self.wait(&fact, SHORT);
    }
}

impl Guest<'_> {
    fn uuid(&self) -> String {
        self.lab.ok(&format!("virsh domuuid {}", self.name))
    }

    /// A snapshot of the stopped domain. It has no disk, of which alone libvirt makes one; but it takes back one
    /// that is written down, and reverts to it as to any other.
    fn remember_as(&self, snapshot: &str) {
        self.lab.ok(&format!(
            "{{ echo \"<domainsnapshot><name>{snapshot}</name><state>shutoff</state>\"
                echo \"<creationTime>1</creationTime><memory snapshot='no'/>\"
                virsh dumpxml --inactive {}; echo '</domainsnapshot>'; }} >/tmp/{snapshot}.xml
             virsh snapshot-create {} /tmp/{snapshot}.xml --redefine",
            self.name, self.name
        ));
    }

    fn reason(&self) -> String {
        self.lab.ok(&format!("virsh domstate {} --reason", self.name))
    }
}

#[test]
fn a_saved_guest_whose_vf_is_taken_is_resumed_on_another() {
    let lab = Lab::reset();
    lab.manage_igb();
    lab.ok(&format!(
        "vgpuctl vfs set {PF} 2; vgpuctl vfs set {OTHER_PF} 1; vgpuctl profile create nic --vf 8086:10ca"
    ));
    let web1 = lab.guest("web1");
    // No VF of the lab can be saved: what is saved is the guest without it, and the image is told of it later.
    web1.start();
    lab.ok("virsh save web1 /tmp/web1.img");
    web1.attach("nic");
    let named = web1.named_vfs().remove(0);
    let script = include_str!("put-hostdev.pl");
    lab.ok(&format!(
        "cat >/tmp/put-hostdev.pl <<'EOF'\n{script}\nEOF\n
        virsh dumpxml --inactive web1 | xmllint --xpath '//hostdev' - | perl /tmp/put-hostdev.pl /tmp/web1.img
        virsh save-image-dumpxml /tmp/web1.img | grep -q ua-vgpud-"
    ));
    lab.background("holder", &format!(
        "exec 3<>/dev/vfio/$(basename $(readlink /sys/bus/pci/devices/{named}/iommu_group)); exec sleep 600"
    ));
    lab.wait(&format!("lab-guest holders {named} | grep ' -$'"), SHORT);

    lab.ok("virsh restore /tmp/web1.img");
    assert_eq!(web1.reason(), "running (restored)");
    let line = web1.command_line();
    assert!(!line.contains(&named), "{named} is held by somebody else:\n{line}");
    let vfs = lab.ok("for v in /sys/bus/pci/devices/*/virtfn*; do basename $(readlink $v); done");
    let chosen = vfs.lines().find(|vf| line.contains(*vf)).expect("QEMU names a VF");
    web1.assert_holds(chosen);
    assert_eq!(web1.named_vfs(), [named.as_str()], "the definition is not what the filter changes");
    web1.wait_listed_in_use();
    // Else the definition would be pointed at a VF that is free.
    lab.ok("vgpuctl allocation set web1 --repoint never");
    web1.destroy();

    // The definition names the taken one still; free, it is used.
    web1.try_start().refused(&[&named, "web1"]);
    lab.ok("pkill -x sleep; true");
    lab.wait(&format!("test -z \"$(lab-guest holders {named})\""), SHORT);
    web1.start();
    web1.assert_holds(&named);
    web1.destroy();
    lab.wait_agreement(&[]);
}

#[test]
fn a_managed_save_is_resumed_with_the_type_that_it_was_saved_with() {
    if is_debian_12() {
        println!("left out: QEMU 7.2 and mtty of Linux 6.1 cannot save a guest with an mdev");
        return;
    }
    let lab = Lab::reset();
    let web1 = lab.guest("web1");
    lab.ok(MAKE_SAVABLE);
    lab.asks("mtty-1");
    web1.attach("free");
    let uuid = web1.named_mdevs().remove(0);
    web1.start();
    assert_eq!(lab.mdev_types(), "mtty-1");
    lab.ok("virsh managedsave web1");
    lab.wait_no_mdevs();

    lab.asks("mtty-2");
    web1.start();
    assert_eq!(web1.reason(), "running (restored)");
    assert_eq!(lab.mdev_types(), "mtty-1", "the memory of the guest knows this one");
    web1.assert_holds(&uuid);
    web1.destroy();
    lab.wait_no_mdevs();

    // The image is used up: an ordinary start follows the profile again.
    lab.wait(
        "! sqlite3 -readonly /var/lib/vgpud/vgpud.db 'select body from allocations' | grep '\"saved\":true'",
        SHORT * 3,
    );
    web1.start();
    assert_eq!(lab.mdev_types(), "mtty-2");
    web1.destroy();
    lab.wait_no_mdevs();
    lab.wait_agreement(&[]);
}

#[test]
fn a_domain_keeps_its_slice_under_a_new_name_and_a_new_definition_and_a_copy_has_none() {
    let lab = Lab::reset();
    let web1 = lab.guest("web1");
    lab.ok("vgpuctl profile create small --type mtty-1");
    web1.attach("small");
    let (uuid, domain) = (web1.named_mdevs().remove(0), web1.uuid());
    lab.ok("virsh domrename web1 web9");
    lab.wait_state("web9", "attached");
    let web9 = lab.known_guest("web9");
    web9.start();
    assert_eq!(lab.mdevs(), [uuid.as_str()]);
    web9.assert_holds(&uuid);
    web9.destroy();
    lab.wait_no_mdevs();

    // Undefined and defined again: ordinary editing.
    lab.ok("virsh dumpxml --inactive web9 >/tmp/web9.xml; virsh undefine web9");
    lab.wait_state("web9", "orphaned");
    lab.ok("virsh define /tmp/web9.xml");
    lab.wait_state("web9", "attached");

    // A copy with another name and UUID, as virt-clone writes it.
    lab.ok("sed 's|<name>web9<|<name>copy<|; /<uuid>/d' /tmp/web9.xml >/tmp/copy.xml; virsh define /tmp/copy.xml");
    let copy = lab.known_guest("copy");
    copy.try_start().refused(&[
        "promised to domain web9",
        "vgpuctl attach copy --profile small",
        "detach-device-alias",
    ]);
    assert_eq!(lab.mdevs(), [""; 0]);
    let alias = copy.aliases().remove(0);
    copy.attach("small");
    lab.ok(&format!("virsh detach-device-alias copy {alias} --config"));
    copy.start();
    assert_eq!(lab.mdevs(), copy.named_mdevs());
    assert_ne!(copy.named_mdevs(), [uuid.as_str()]);
    copy.destroy();
    lab.wait_no_mdevs();

    // Without a definition: with its UUID it is the same domain, without one it never is.
    lab.ok("virsh undefine web9; sed '/<uuid>/d' /tmp/web9.xml >/tmp/no-uuid.xml");
    lab.run("virsh create /tmp/no-uuid.xml").refused(&[&domain, "its XML must say <uuid>"]);
    lab.ok("virsh create /tmp/web9.xml");
    assert_eq!(lab.mdevs(), [uuid.as_str()]);
    web9.assert_holds(&uuid);
    lab.run("vgpuctl attach web9 --profile small --count 2").refused(&["web9 is transient", "virsh define"]);
    web9.destroy();
    lab.wait_no_mdevs();
    lab.wait_state("web9", "orphaned");
    lab.wait_agreement(&[]);
}

#[test]
fn after_a_revert_the_definition_counts_as_it_is_then() {
    let lab = Lab::reset();
    let web1 = lab.guest("web1");
    lab.ok("vgpuctl profile create small --type mtty-1");
    web1.remember_as("bare");
    web1.attach("small");
    web1.remember_as("dressed");
    lab.ok("virsh snapshot-revert web1 bare");
    assert_eq!(web1.named_mdevs(), [""; 0]);
    lab.wait_state("web1", "");

    // The promise is gone; what names it again is refused, and nothing is made.
    lab.ok("virsh snapshot-revert web1 dressed");
    assert_eq!(web1.named_mdevs().len(), 1);
    web1.try_start().refused(&["no allocation knows it", "vgpuctl attach web1"]);
    assert_eq!(lab.mdevs(), [""; 0]);
    let alias = web1.aliases().remove(0);
    lab.ok(&format!("virsh detach-device-alias web1 {alias} --config"));
    web1.attach("small");
    web1.start();
    assert_eq!(lab.mdevs(), web1.named_mdevs());
    web1.destroy();
    lab.wait_no_mdevs();
    lab.wait_agreement(&[]);
}

#[test]
fn a_guest_from_another_host_is_refused_unless_this_host_promised_its_slices() {
    let lab = Lab::reset();
    let web1 = lab.guest("web1");
    lab.ok("vgpuctl profile create small --type mtty-1");
    web1.attach("small");
    // As libvirt calls its hooks for a guest that comes.
    let come =
        |xml: &str| lab.run(&format!("{xml} | env -i /etc/libvirt/hooks/qemu.d/vgpud web1 migrate begin -"));
    let known = come("virsh dumpxml --inactive web1");
    assert_eq!((known.code, known.stdout.as_str()), (0, ""), "{known:#?}");
    for other in ["s/ua-vgpud-......../ua-vgpud-0badcafe/", "s|<uuid>........|<uuid>0badcafe|"] {
        let unknown = come(&format!("virsh dumpxml --inactive web1 | sed '{other}'"));
        unknown.refused(&["incoming migration of domain web1 is refused", "vgpuctl attach web1"]);
        assert_eq!((unknown.stdout.as_str(), unknown.stderr.lines().count()), ("", 1), "{unknown:#?}");
    }
    assert_eq!(lab.mdevs(), [""; 0]);
    assert_eq!(lab.states("web1"), "attached");
    lab.wait_agreement(&[]);
}
