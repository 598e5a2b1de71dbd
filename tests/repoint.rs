//! Standing re-pointing with the real binaries on the fake kernel: which VF a stopped domain's XML names.

#![expect(clippy::disallowed_methods, reason = "a test plays the host's other programs")]
#![expect(clippy::expect_used, reason = "a fact that cannot be had fails the test")]

#[cfg(test)]
mod support;

use serde_json::Value;
use support::spec::HostSpec;
use support::world::{World, stderr, wait};

const PF_A: &str = "0000:01:00.0";
const PF_B: &str = "0000:02:00.0";
const A0: &str = "0000:01:10.0";
const A1: &str = "0000:01:10.2";
const B0: &str = "0000:02:10.0";

/// A host whose PF A has VFs, with domains that name them; then PF B gets some too.
fn two_pfs(on_a: u32, on_b: u32, domains: &[&str]) -> World {
    let mut world = World::new(HostSpec::lab());
    world.host.put("etc/vgpud/vgpud.toml", "[devices]\ninclude = [\"8086:10c9\"]\n");
    world.serve();
    world.ok("profile create nic --vf 8086:10ca");
    world.ok(&format!("vfs set {PF_A} {on_a}"));
    for (place, name) in (100..).zip(domains) {
        world.define(name, place);
        world.ok(&format!("attach {name} --profile nic"));
    }
    world.ok(&format!("vfs set {PF_B} {on_b}"));
    world
}

/// Lets libvirt's directory run the hook, so that it can start domains.
fn with_hook(world: &World) {
    world.install_hook();
}

fn allocation(world: &World, domain: &str) -> Value {
    let all = world.json("allocations");
    let mut own = all["allocations"].as_array().expect("a list").iter();
    own.find(|one| one["domain"]["name"] == domain).cloned().expect("an allocation")
}

/// What the ledger says that a domain names.
fn booked(world: &World, domain: &str) -> String {
    allocation(world, domain)["device"]["vf"].as_str().expect("a VF").to_owned()
}

fn named(world: &World, domain: &str) -> String {
    world.devices(domain).pop().expect("a VF")
}

/// Waits until the definition and the ledger agree on a VF.
fn becomes(world: &World, domain: &str, vf: &str) {
    wait(&format!("{domain} names {vf}"), || (named(world, domain) == vf).then_some(()));
    let settled = || {
        let one = allocation(world, domain);
        (one["device"]["vf"] == vf && one["pointing"]["next"].is_null()).then_some(())
    };
    wait(&format!("the ledger has {vf} for {domain}"), settled);
}

fn history(world: &World, domain: &str, verb: &str) -> Vec<String> {
    let all = world.json(&format!("history --domain {domain}"));
    let entries = all["entries"].as_array().expect("a list").iter().filter(|entry| entry["verb"] == verb);
    entries.map(|entry| entry["outcome"].as_str().expect("text").to_owned()).collect()
}

fn owned(world: &World) -> String {
    std::fs::read_to_string(world.host.root().join("run/vgpud/owned")).expect("a list")
}

/// The text with the source address of its one hostdev as libvirt writes another.
fn with_vf(xml: &str, from: &str, to: &str) -> String {
    let number = |address: &str, at: std::ops::Range<usize>| address[at].to_owned();
    let text = |address: &str| {
        format!(
            "bus=\"0x{}\" slot=\"0x{}\" function=\"0x{}\"",
            number(address, 5..7),
            number(address, 8..10),
            number(address, 11..12)
        )
    };
    let single = |text: String| text.replace('"', "'");
    let new = xml.replace(&text(from), &text(to)).replace(&single(text(from)), &single(text(to)));
    assert_ne!(new, xml, "no such address: {xml}");
    new
}

#[test]
fn a_stopped_domain_whose_vf_was_taken_is_pointed_at_a_free_one_and_nothing_else_changes() {
    let world = two_pfs(1, 2, &["web1", "web2", "web3"]);
    for name in ["web1", "web2", "web3"] {
        assert_eq!(named(&world, name), A0, "there was no other");
    }
    let before: Vec<String> = ["web2", "web3"].map(|name| world.xml(name)).to_vec();
    world.start("web1").expect("free");
    wait("both moved", || ["web2", "web3"].iter().all(|name| named(&world, name) != A0).then_some(()));
    let mut now = [named(&world, "web2"), named(&world, "web3")];
    for (name, (vf, before)) in ["web2", "web3"].iter().zip(now.iter().zip(&before)) {
        assert_eq!(world.xml(name), with_vf(before, A0, vf), "only the address");
        becomes(&world, name, vf);
        assert!(owned(&world).contains(vf.as_str()));
        let told = history(&world, name, "repoint");
        assert_eq!(told, [format!("VF {A0} -> {vf}: {A0} is held by domain web1")]);
    }
    now.sort();
    assert_eq!(now, [B0, "0000:02:10.2"], "never two to one");
    assert_eq!(named(&world, "web1"), A0, "a running domain is left alone");
    assert!(world.ok("allocations").contains(&format!("(was {A0})")));
    world.start("web2").expect("plain virsh start works");
    world.stop("web1");
    world.ok("attach web2 --profile nic --dry-run");
    world.start("web3").expect("it stays where it is");
    assert!(named(&world, "web3").starts_with("0000:02"), "never pointed back");
    world.stop("web2");
    world.stop("web3");
}

#[test]
fn a_refused_start_says_what_the_domain_names_next_and_the_second_start_works() {
    let world = two_pfs(1, 1, &["web1"]);
    let before = world.xml("web1");
    assert!(world.host.hold(A0, "foreigner", 77), "somebody opens it, without any event");
    let line = world.start("web1").expect_err("it is held");
    assert!(line.contains(A0) && line.contains("foreigner"), "{line}");
    let promise = format!("domain web1 now names VF {B0} of {PF_B}; start it again");
    assert!(line.ends_with(&promise) && line.lines().count() == 1, "{line}");
    becomes(&world, "web1", B0);
    assert_eq!(world.xml("web1"), with_vf(&before, A0, B0));
    world.start("web1").expect("one message is enough");
    world.stop("web1");
    world.host.unhold(A0);
}

#[test]
fn nothing_is_promised_where_no_other_vf_could_serve() {
    let world = two_pfs(1, 0, &["web1"]);
    assert!(world.host.hold(A0, "foreigner", 77));
    let line = world.start("web1").expect_err("it is held");
    assert!(!line.contains("now names"), "{line}");
    world.host.unhold(A0);
    world.start("web1").expect("it is free again");
    world.stop("web1");
}

#[test]
fn a_vf_that_no_longer_exists_is_exchanged() {
    let world = two_pfs(2, 1, &["web1", "web2"]);
    assert_eq!((named(&world, "web1"), named(&world, "web2")), (A0.to_owned(), A1.to_owned()));
    world.ok(&format!("vfs set {PF_A} 1"));
    becomes(&world, "web2", B0);
    assert_eq!(booked(&world, "web1"), A0);
    world.start("web2").expect("it has another");
    world.stop("web2");
}

#[test]
fn a_domain_with_a_saved_guest_is_left_alone() {
    let world = two_pfs(1, 1, &["web1", "web2", "web3"]);
    std::fs::write(world.file("web2").with_extension("save"), "an image").expect("saved");
    world.start("web1").expect("free");
    becomes(&world, "web3", B0);
    assert_eq!(named(&world, "web2"), A0, "its image names it");
    world.stop("web1");
}

#[test]
fn the_xml_wins_over_the_ledger_at_a_start() {
    let world = two_pfs(1, 2, &["web1"]);
    world.set_xml("web1", &with_vf(&world.xml("web1"), A0, "0000:02:10.2"));
    world.start("web1").expect("it is ours and free");
    assert_eq!(booked(&world, "web1"), "0000:02:10.2");
    assert!(owned(&world).contains("0000:02:10.2"));
    world.stop("web1");
    world.set_xml("web1", &with_vf(&world.xml("web1"), "0000:02:10.2", "0000:09:10.0"));
    let line = world.start("web1").expect_err("there is no such VF");
    assert!(line.contains("0000:09:10.0: does not exist now"), "{line}");
    wait("it is mended", || (named(&world, "web1") != "0000:09:10.0").then_some(()));
    world.start("web1").expect("pointed at one that exists");
    world.stop("web1");
}

#[test]
fn who_rewrites_it_twice_is_left_his_will_until_an_admin_starts_the_domain() {
    let world = two_pfs(1, 1, &["web1", "web2"]);
    with_hook(&world);
    let wanted = world.xml("web2");
    world.start("web1").expect("free");
    for times in 1..=2 {
        becomes(&world, "web2", B0);
        world.set_xml("web2", &wanted);
        // The look sees it; a request makes it look.
        wait("the ledger follows", || {
            world.ok("attach web1 --profile nic");
            (allocation(&world, "web2")["pointing"]["overruled"] == times).then_some(())
        });
    }
    let status = world.ok("status");
    assert!(status.contains("domain web2 is no longer pointed at free VFs"), "{status}");
    assert!(history(&world, "web2", "repoint")[0].contains("written by somebody else; vgpud no longer"));
    let line = world.start("web2").expect_err("it names what web1 has");
    assert!(!line.contains("now names"), "{line}");
    assert_eq!(world.xml("web2"), wanted);
    let told = world.ok("start web2");
    assert!(told.contains(&format!("domain web2 now names VF {B0} instead of {A0}")), "{told}");
    assert!(!world.ok("status").contains("no longer pointed"));
    world.stop("web2");
    world.stop("web1");
}

#[test]
fn start_points_first_and_says_where_it_landed() {
    let world = two_pfs(1, 1, &["web1"]);
    with_hook(&world);
    assert!(world.host.hold(A0, "foreigner", 77));
    let planned = world.ok("start web1 --dry-run");
    assert!(planned.contains(&format!("would name VF {B0} instead of {A0}, which is held by")), "{planned}");
    assert_eq!(named(&world, "web1"), A0, "a dry run changes nothing");
    let told = world.ok("start web1");
    assert!(
        told.contains(&format!("{B0} (was {A0})")) && told.contains(&format!("ready on {PF_B}")),
        "{told}"
    );
    assert!(told.ends_with("started\n"), "{told}");
    assert!(world.live_file("web1").exists());
    assert!(world.ok("start web1").contains("nothing to change"), "it runs already");
    let entries = history(&world, "web1", "start");
    assert_eq!(entries, ["done", "done"]);
    world.stop("web1");
    assert!(world.host.hold(B0, "foreigner", 78));
    let full = world.ctl("start web1");
    assert_eq!(full.status.code(), Some(6), "{}", stderr(&full));
    assert!(stderr(&full).contains("cannot place VF"), "{}", stderr(&full));
    assert!(!world.live_file("web1").exists());
    assert_eq!(world.ctl("start nobody").status.code(), Some(4));
}
