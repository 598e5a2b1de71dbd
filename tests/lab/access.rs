//! Who may ask, and what is installed.

use super::host::Lab;

/// Not root, but in the group that may use the socket.
const MEMBER: &str = "setpriv --reuid=65534 --regid=vgpud --clear-groups";
const STRANGER: &str = "setpriv --reuid=65534 --regid=65534 --clear-groups";

#[test]
fn the_socket_is_for_root_and_its_group_and_the_hook_for_root_alone() {
    let lab = Lab::reset();
    let web1 = lab.guest("web1");
    lab.ok("vgpuctl profile create small --type mtty-1");
    web1.attach("small");
    assert_eq!(lab.ok("stat -c '%U:%G %a' /run/vgpud/vgpud.sock"), "root:vgpud 660");
    assert_eq!(lab.ok("stat -c '%U %a' /var/lib/vgpud"), "root 700");

    lab.ok(&format!("{MEMBER} vgpuctl status"));
    let stranger = lab.run(&format!("{STRANGER} vgpuctl status"));
    assert_eq!(stranger.code, 3, "{stranger:#?}");

    let domain = lab.ok("virsh domuuid web1");
    let body = format!(
        r#"{{"op":"prepare","at":9,"domain_uuid":"{domain}","domain":"web1","devices":[{{"allocation":null,"device":{{"mdev":"{}"}}}}]}}"#,
        web1.named_mdevs()[0]
    );
    let post = r#"use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0); connect(S, pack_sockaddr_un("/run/vgpud/vgpud.sock")) or die $!;
         my $b = shift; syswrite S, "POST /v1/hook HTTP/1.1\r\nHost: lab\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ".length($b)."\r\n\r\n$b";
         print <S>;"#;
    let answer = lab.ok(&format!("{MEMBER} perl -e '{post}' '{body}'"));
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let hook = lab.run(&format!(
        "virsh dumpxml --inactive web1 >/tmp/web1.xml; {MEMBER} vgpu-hook web1 prepare begin - </tmp/web1.xml"
    ));
    hook.refused(&["only domains of qemu:///system get"]);
    assert_eq!(lab.mdevs(), [""; 0]);
}

#[test]
fn a_second_service_on_the_same_database_refuses() {
    let lab = Lab::reset();
    let pid = lab.service_pid();
    lab.run("timeout 20 vgpud").refused(&["/var/lib/vgpud", "another vgpud"]);
    assert_eq!(lab.service_pid(), pid);
    lab.ok("vgpuctl status");
}

#[test]
fn udev_and_systemd_accept_what_is_installed() {
    let lab = Lab::reset();
    // udev of systemd 254 and later; what an older one has to say, it says when it reads the rules.
    if lab.run("udevadm verify --version").code == 0 {
        lab.ok("udevadm verify --no-summary /usr/lib/udev/rules.d/*vgpud*.rules");
    } else {
        lab.ok("udevadm control --reload");
        println!("LEFT OUT: this udevadm has no verify (systemd 254 has)");
    }
    let said = lab.ok("journalctl -b -u systemd-udevd --no-pager -o cat | grep -F vgpud.rules || true");
    assert_eq!(said, "");
    let verified = lab.ok("systemd-analyze verify --man=no vgpud.service 2>&1");
    assert!(!verified.contains("vgpud.service:"), "{verified}");
}
