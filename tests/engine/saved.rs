//! Guests whose memory is kept, and domains that come back under another name, another UUID or another host.

#![expect(clippy::disallowed_methods, reason = "a test plays libvirt, whose files these are")]

use serde_json::{Value, json};

use crate::kit::{allocations, device, domains, lab, look};
use crate::support::world::{World, stderr, wait};

/// The lab with two PFs of four VFs each and the profile `nic`.
fn with_vfs() -> World {
    let world = lab();
    world.ok("vfs set 0000:01:00.0 4");
    world.ok("vfs set 0000:02:00.0 4");
    world.ok("profile create nic --vf 8086:10ca");
    world
}

/// Waits until the service has seen the domain's one allocation so.
fn seen(world: &World, domain: &str, field: &str, value: &Value) {
    look(world);
    wait("the look at the domains", || {
        let found = allocations(world, domain);
        found.first().is_some_and(|one| one[field] == *value).then_some(())
    });
}

/// The XML with another source address, as libvirt writes addresses.
fn readdressed(xml: &str, from: &str, to: &str) -> String {
    let written = |address: &str| {
        let digits: Vec<&str> = address.split([':', '.']).collect();
        format!(
            "domain='0x{}' bus='0x{}' slot='0x{}' function='0x{}'",
            digits[0], digits[1], digits[2], digits[3]
        )
    };
    let quoted = |address: &str| written(address).replace('\'', "\"");
    let exchanged = xml.replace(&written(from), &written(to)).replace(&quoted(from), &quoted(to));
    assert_ne!(exchanged, xml, "{from} is not in {xml}");
    exchanged
}

#[test]
fn a_saved_guest_whose_vf_is_taken_gets_another_and_the_xml_is_right_to_the_byte() {
    let world = with_vfs();
    domains(&world, "nic", &["web1"]);
    let named = device(&world, "web1");
    assert!(world.host.hold(&named, "stranger", 77), "a foreign holder");
    let xml = world.xml("web1");
    let filtered = world.hook("web1", "restore begin -");
    assert!(filtered.status.success(), "{}", stderr(&filtered));
    let printed = String::from_utf8(filtered.stdout).expect("text");
    world.set_xml("web1", &printed);
    let chosen = device(&world, "web1");
    assert_ne!(chosen, named);
    assert_eq!(printed, readdressed(&xml, &named, &chosen));

    world.start("web1").expect("prepare takes what the XML names now");
    world.settles_to(&[], "VFs are no mdevs");
    assert_eq!(allocations(&world, "web1")[0]["device"], json!({ "vf": chosen }));
    world.stop("web1");

    // What can be served is left alone, and nothing is printed then.
    let quiet = world.hook("web1", "restore begin -");
    assert!(quiet.status.success() && quiet.stdout.is_empty(), "{quiet:?}");
}

#[test]
fn a_saved_guest_that_may_not_move_or_finds_no_room_is_refused_in_one_line() {
    let world = lab();
    world.ok("vfs set 0000:01:00.0 1");
    world.ok("profile create nic --vf 8086:10ca");
    domains(&world, "nic", &["web1"]);
    let named = device(&world, "web1");
    assert!(world.host.hold(&named, "stranger", 77));
    for operation in ["restore begin -", "migrate begin -"] {
        let refused = world.hook("web1", operation);
        assert_eq!((refused.status.code(), refused.stdout.len()), (Some(1), 0));
        assert!(stderr(&refused).contains(&named) && stderr(&refused).lines().count() == 1, "{refused:?}");
    }
    world.ok("vfs set 0000:02:00.0 1");
    let moved = world.hook("web1", "restore begin -");
    assert!(moved.status.success() && !moved.stdout.is_empty(), "{moved:?}");

    world.ok("profile create pinned --vf 8086:10ca");
    world.define("web2", 200);
    world.ok("attach web2 --profile pinned --repoint never");
    let own = device(&world, "web2");
    if own != named {
        assert!(world.host.hold(&own, "stranger", 78));
    }
    let refused = world.hook("web2", "restore begin -");
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains(&own), "{refused:?}");
}

/// The profile `free`, whose type may float, asks for a type.
fn asks(world: &World, mdev_type: &str) {
    let file = world.host.root().join("var/free.toml");
    std::fs::write(&file, format!("type = \"{mdev_type}\"\nfloat = \"type\"\n")).expect("a profile file");
    world.ok(&format!("profile create free --file {}", file.display()));
}

#[test]
fn a_saved_guest_keeps_its_exact_type_although_the_profile_asks_for_another() {
    let world = lab();
    asks(&world, "mdpy-hd");
    domains(&world, "free", &["web1"]);
    let uuid = device(&world, "web1");
    let resumed_on = |world: &World| {
        world.start("web1").expect("room");
        let made = std::fs::canonicalize(
            world.host.root().join("sys/bus/mdev/devices").join(&uuid).join("mdev_type"),
        );
        let found = made.expect("a type").file_name().map(|name| name.to_string_lossy().into_owned());
        world.stop("web1");
        found.expect("a name")
    };
    assert_eq!(resumed_on(&world), "mdpy-hd");
    asks(&world, "mdpy-vga");
    assert_eq!(resumed_on(&world), "mdpy-vga", "float = type");

    // By the word of libvirt's list, and again when the image is gone.
    std::fs::write(world.file("web1").with_extension("save"), "").expect("an image");
    seen(&world, "web1", "saved", &json!(true));
    asks(&world, "mdpy-hd");
    assert_eq!(resumed_on(&world), "mdpy-vga", "the image was saved with it");
    std::fs::remove_file(world.file("web1").with_extension("save")).expect("an image");
    seen(&world, "web1", "saved", &json!(null));

    // By the word of the hook alone: an image in a file that libvirt does not list.
    asks(&world, "mdpy-vga");
    assert_eq!(resumed_on(&world), "mdpy-vga");
    asks(&world, "mdpy-hd");
    assert!(world.hook("web1", "restore begin -").status.success());
    assert_eq!(resumed_on(&world), "mdpy-vga");
    assert_eq!(resumed_on(&world), "mdpy-hd", "the next start is an ordinary one");
}

#[test]
fn an_incoming_guest_that_nobody_promised_anything_is_refused_and_one_that_was_here_is_not() {
    let world = lab();
    domains(&world, "small", &["web1"]);
    let known = world.hook("web1", "migrate begin -");
    assert!(known.status.success() && known.stdout.is_empty(), "{known:?}");
    world.define("guest", 300);
    let slice = "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source>\
         <address uuid='aaaaaaaa-0000-4000-8000-000000000001'/></source><alias name='ua-vgpud-0badcafe'/></hostdev>";
    world.set_xml("guest", &world.xml("guest").replace("</devices>", &format!("{slice}</devices>")));
    let refused = world.hook("guest", "migrate begin -");
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(1), 0));
    let line = stderr(&refused);
    assert!(
        line.contains("incoming migration of domain guest is refused") && line.lines().count() == 1,
        "{line}"
    );
    assert_eq!(world.host.mdevs(), Vec::<String>::new());
}

#[test]
fn a_renamed_domain_keeps_its_slice_and_a_clone_is_told_what_to_type() {
    let world = lab();
    domains(&world, "small", &["web1"]);
    let xml = world.xml("web1");
    std::fs::rename(world.file("web1"), world.file("web9")).expect("a rename");
    world.set_xml("web9", &xml.replace("<name>web1</name>", "<name>web9</name>"));
    seen(&world, "web9", "state", &json!("attached"));
    world.start("web9").expect("the promise is of the UUID");
    world.stop("web9");

    let clone = world.xml("web9").replace("<name>web9</name>", "<name>copy</name>");
    world.set_xml("copy", &clone.replace("-000000000100<", "-000000000777<"));
    let line = world.start("copy").expect_err("the slice is the other's");
    assert!(
        line.contains("vgpuctl attach copy --profile small") && line.contains("detach-device-alias"),
        "{line}"
    );
    world.settles_to(&[], "nothing was made");

    // The domain under a new UUID, because its XML has none.
    std::fs::remove_file(world.file("copy")).expect("a definition");
    world.set_xml("web9", &world.xml("web9").replace("-000000000100<", "-000000000888<"));
    let line = world.start("web9").expect_err("another UUID");
    assert!(line.contains("<uuid>00000000-0000-4000-8000-000000000100</uuid>"), "{line}");
}

#[test]
fn an_undefined_domain_that_is_defined_again_or_runs_without_definition_has_its_slice() {
    let world = lab();
    domains(&world, "small", &["web1"]);
    let xml = world.xml("web1");
    std::fs::remove_file(world.file("web1")).expect("a definition");
    seen(&world, "web1", "state", &json!("orphaned"));
    // A transient domain with a fixed UUID: prepare ties it, a look sees it, and no definition can be changed.
    world.set_xml("web1", &xml);
    world.start("web1").expect("the same UUID");
    std::fs::remove_file(world.file("web1")).expect("a definition");
    look(&world);
    seen(&world, "web1", "state", &json!("attached"));
    let refused = world.ctl("attach web1 --profile screen");
    assert!(!refused.status.success());
    let line = stderr(&refused);
    assert!(line.contains("transient") && line.contains("virsh define"), "{line}");
    assert_eq!(allocations(&world, "web1").len(), 1, "no promise is left of it");
    world.set_xml("web1", &xml);
    world.stop("web1");
    world.settles_to(&[], "after the stop");
}
