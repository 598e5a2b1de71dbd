//! An allocation's life, as libvirt's definitions come and go.

use serde_json::Value;

use crate::kit::{allocations, device, domains, lab, look, promises};
use crate::support::world::{World, wait};

fn field(world: &World, domain: &str, field: &str) -> String {
    let all = allocations(world, domain);
    all.first().map_or_else(|| "none".to_owned(), |one| one[field].as_str().unwrap_or_default().to_owned())
}

fn becomes(world: &World, domain: &str, state: &str) {
    wait(&format!("the allocation of {domain} is {state}"), || {
        look(world);
        (field(world, domain, "state") == state).then_some(())
    });
}

/// What `virsh attach-device DOMAIN FILE --config` does.
fn plug(world: &World, domain: &str, hostdev: &str) {
    let xml = world.xml(domain).replace("</devices>", &format!("{hostdev}</devices>"));
    world.set_xml(domain, &xml);
}

#[test]
fn attach_counts_and_asking_again_changes_nothing() {
    let world = lab();
    world.define("web1", 100);
    let before = promises(&world);
    let xml = world.xml("web1");
    let plan = world.ok("attach web1 --profile small --count 2 --dry-run");
    assert!(plan.contains("<hostdev"), "{plan}");
    assert_eq!((promises(&world), world.xml("web1")), (before, xml), "a dry run changes nothing");
    world.ok("attach web1 --profile small");
    let one = (allocations(&world, "web1"), world.xml("web1"));
    world.ok("attach web1 --profile small");
    assert_eq!((allocations(&world, "web1"), world.xml("web1")), one, "asked for one, has one");
    world.ok("attach web1 --profile small --count 3");
    assert_eq!(allocations(&world, "web1").len(), 3);
    assert_eq!(world.devices("web1").len(), 3);
    world.ok("attach web1 --profile small --count 2");
    assert_eq!(world.devices("web1").len(), 3, "attach never takes away");
    world.ok("attach web1 --profile screen");
    assert_eq!(world.devices("web1").len(), 4, "another profile counts for itself");
    world.ok("detach web1 --profile small");
    assert_eq!(world.devices("web1").len(), 1);
    world.ok("detach web1");
    assert_eq!(allocations(&world, "web1"), Vec::<Value>::new());
}

#[test]
fn xml_is_tied_when_the_definition_shows_it_and_asking_again_prints_the_same() {
    let world = lab();
    world.define("web1", 100);
    let hostdev = world.ok("xml --profile small --domain web1");
    assert_eq!(world.ok("xml --profile small --domain web1"), hostdev, "what is only leased is kept");
    assert_eq!(field(&world, "web1", "state"), "leased");
    plug(&world, "web1", &hostdev);
    becomes(&world, "web1", "attached");
    world.start("web1").expect("room");
    world.stop("web1");
}

#[test]
fn a_start_ties_what_no_look_has_seen_yet() {
    let world = lab();
    world.define("web1", 100);
    let hostdev = world.ok("xml --profile small --domain web1 --lease 1h");
    plug(&world, "web1", &hostdev);
    world.start("web1").expect("the XML shows it");
    assert_eq!(field(&world, "web1", "state"), "attached");
}

#[test]
fn a_lease_that_nobody_uses_ends() {
    let world = lab();
    world.define("web1", 100);
    world.ok("xml --profile small --domain web1 --lease 1s");
    wait("the lease is over", || allocations(&world, "web1").is_empty().then_some(()));
    let owned = std::fs::read_to_string(world.host.root().join("run/vgpud/owned")).expect("a list");
    assert!(!owned.contains('-'), "the hook's list has it still: {owned}");
}

#[test]
fn a_live_slice_is_made_at_once_and_goes_when_it_is_unplugged_by_hand() {
    let world = lab();
    domains(&world, "small", &["web1"]);
    world.start("web1").expect("room");
    let first = device(&world, "web1");
    let hostdev = world.ok("xml --profile screen --domain web1 --live --lease 1h");
    assert_eq!(world.host.mdevs().len(), 2, "libvirt runs no hook on hot-plug");
    let live = std::fs::read_to_string(world.live_file("web1")).expect("live XML");
    let plugged = live.replace("</devices>", &format!("{hostdev}</devices>"));
    std::fs::write(world.live_file("web1"), plugged).expect("live XML");
    becomes(&world, "web1", "attached");
    wait("both are attached", || {
        look(&world);
        allocations(&world, "web1").iter().all(|one| one["state"] == "attached").then_some(())
    });
    std::fs::write(world.live_file("web1"), live).expect("live XML");
    look(&world);
    world.settles_to(&[first], "after unplugging by hand");
    assert_eq!(allocations(&world, "web1").len(), 1);
}

#[test]
fn a_hostdev_that_is_taken_out_by_hand_ends_its_allocation() {
    let world = lab();
    domains(&world, "small", &["web1"]);
    world.define("web1", 100);
    wait("the promise is gone", || {
        look(&world);
        allocations(&world, "web1").is_empty().then_some(())
    });
}

#[test]
fn undefine_orphans_and_define_again_attaches() {
    let world = lab();
    domains(&world, "small", &["web1"]);
    let xml = world.xml("web1");
    std::fs::remove_file(world.file("web1")).expect("undefine");
    becomes(&world, "web1", "orphaned");
    world.set_xml("web1", &xml);
    becomes(&world, "web1", "attached");
    world.start("web1").expect("the same promise");
    assert_eq!(world.devices("web1"), world.host.mdevs());
}

#[test]
fn a_domain_defined_again_can_start_before_any_look() {
    let world = lab();
    domains(&world, "small", &["web1"]);
    let xml = world.xml("web1");
    std::fs::remove_file(world.file("web1")).expect("undefine");
    becomes(&world, "web1", "orphaned");
    world.set_xml("web1", &xml);
    world.start("web1").expect("the same promise");
    assert_eq!(field(&world, "web1", "state"), "attached");
}

#[test]
fn an_orphan_is_freed_when_its_grace_is_over() {
    let mut world = lab();
    domains(&world, "small", &["web1"]);
    std::fs::remove_file(world.file("web1")).expect("undefine");
    becomes(&world, "web1", "orphaned");
    world.stop_service();
    let file = world.host.root().join("var/lib/vgpud/vgpud.db");
    let db = rusqlite::Connection::open(file).expect("the database");
    let sql = "UPDATE allocations SET body = json_set(body, '$.until', 1)";
    assert_eq!(db.execute(sql, []).expect("an orphan"), 1);
    drop(db);
    world.serve();
    wait("the grace is over", || allocations(&world, "web1").is_empty().then_some(()));
}

#[test]
fn a_domain_that_is_renamed_keeps_its_slices() {
    let world = lab();
    domains(&world, "small", &["web1"]);
    let xml = world.xml("web1").replace("<name>web1<", "<name>shop<");
    std::fs::remove_file(world.file("web1")).expect("rename");
    world.set_xml("shop", &xml);
    becomes(&world, "shop", "attached");
    assert_eq!(allocations(&world, "web1"), Vec::<Value>::new());
    world.start("shop").expect("the same promise");
    world.settles_to(&world.devices("shop"), "under its new name");
    world.ok("detach shop");
}

#[test]
fn a_detach_while_the_domain_runs_takes_effect_when_it_stops() {
    let world = lab();
    domains(&world, "small", &["web1"]);
    world.start("web1").expect("room");
    let uuid = device(&world, "web1");
    let said = world.ok("detach web1");
    assert!(said.contains("until it stops"), "{said}");
    assert_eq!(world.host.mdevs(), [uuid.as_str()]);
    world.host.unhold(&uuid);
    std::fs::remove_file(world.live_file("web1")).expect("it stops");
    wait("nothing is left", || {
        look(&world);
        (world.host.mdevs().is_empty() && allocations(&world, "web1").is_empty()).then_some(())
    });
}
