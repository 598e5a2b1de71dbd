//! What others made: shown with its maker, taken over, left to them again; what was changed by hand; and the
//! database damaged or lost.

use serde_json::Value;
use vgpud::domain_xml::{Edited, with_index};

use crate::kit::{allocations, device, domains, lab, look};
use crate::support::world::{World, stderr, wait};

const THEIRS: &str = "ffffffff-0000-4000-8000-000000000001";
const OTHER: &str = "ffffffff-0000-4000-8000-000000000002";
const PF: &str = "0000:01:00.0";
const NUMVFS: &str = "sys/devices/pci0000:00/0000:00:02.0/0000:01:00.0/sriov_numvfs";

/// Defines a domain whose hostdev somebody wrote by hand.
fn with_hostdev(world: &World, name: &str, number: u32, uuid: &str) {
    world.define(name, number);
    let hostdev = format!(
        "    <hostdev mode='subsystem' type='mdev' managed='no' model='vfio-pci'>\n      <source>\n        \
         <address uuid='{uuid}'/>\n      </source>\n    </hostdev>\n  </devices>"
    );
    world.set_xml(name, &world.xml(name).replace("  </devices>", &hostdev));
}

/// A running guest with an mdev that somebody made by hand, and that vgpud knows nothing of.
fn guest_of_others(world: &World) -> String {
    world.host.foreign_mdev("mtty", "mtty-1", THEIRS).expect("room");
    with_hostdev(world, "web1", 100, THEIRS);
    world.start("web1").expect("not ours");
    THEIRS.to_owned()
}

/// A definition without the index of allocations that vgpud keeps in its metadata.
fn plain(world: &World, domain: &str) -> String {
    let xml = world.xml(domain);
    let xml = if let Edited::Changed(bare) = with_index(&xml, &[]) { bare } else { xml };
    xml.replace("\n  <metadata></metadata>", "")
}

fn owner(world: &World, uuid: &str) -> Value {
    let shown = || {
        let gpus = world.json("gpus");
        let slices = gpus["slices"].as_array().expect("slices").clone();
        slices.into_iter().find(|slice| slice["device"]["mdev"] == uuid)
    };
    wait("the mdev is shown", shown)
}

/// Waits until the drift that the service shows is of exactly these kinds; returns it.
fn wait_drift(world: &World, kinds: &[&str]) -> Vec<Value> {
    let mut last = Value::Null;
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait("the drift is as expected", || {
            last = world.json("status")["drift"].clone();
            let drift = last.as_array().cloned().unwrap_or_default();
            let shown: Vec<&str> = drift.iter().filter_map(|one| one["kind"].as_str()).collect();
            (shown == kinds).then(|| drift.clone())
        })
    }));
    found.unwrap_or_else(|_| panic!("wanted {kinds:?}, found {last}\n{}", world.service_log()))
}

/// Overwrites the database of a stopped service.
fn damage(world: &World) -> (std::path::PathBuf, Vec<u8>) {
    let (file, garbage) = (world.host.root().join("var/lib/vgpud/vgpud.db"), vec![0x5a; 20_000]);
    std::fs::write(&file, &garbage).expect("damage");
    // A log that holds every page would make it whole again.
    drop(std::fs::remove_file(file.with_extension("db-wal")));
    (file, garbage)
}

fn read_only(world: &World) -> String {
    world.json("status")["read_only"].as_str().expect("read-only").to_owned()
}

#[test]
fn who_made_a_foreign_mdev_is_told_where_mdevctl_defines_it() {
    let world = lab();
    world.host.put(&format!("etc/mdevctl.d/mdpy/{THEIRS}"), r#"{"mdev_type":"mdpy-hd","start":"auto"}"#);
    for uuid in
        [THEIRS, OTHER, "ffffffff-0000-4000-8000-000000000003", "ffffffff-0000-4000-8000-000000000004"]
    {
        world.host.foreign_mdev("mdpy", "mdpy-hd", uuid).expect("room");
    }
    assert_eq!(owner(&world, THEIRS)["maker"], "mdevctl autostart");
    assert_eq!(owner(&world, OTHER)["owner"], "foreign");
    assert_eq!(owner(&world, OTHER)["maker"], Value::Null, "nothing tells");
    let explained = world.ok("profile explain screen");
    assert!(explained.contains("foreign (mdevctl autostart) 1 x mdpy-hd"), "{explained}");
    domains(&world, "screen", &["web1"]);
    let line = world.start("web1").expect_err("full");
    assert!(
        line.contains("foreign (mdevctl autostart) 1 x mdpy-hd") && line.contains("foreign 3 x"),
        "{line}"
    );
    let refused = stderr(&world.ctl(&format!("mdev remove {THEIRS}")));
    assert!(
        refused.contains("not made by vgpud (mdevctl autostart)") && refused.contains("adopt --uuid"),
        "{refused}"
    );
}

#[test]
fn a_promised_uuid_that_mdevctl_makes_is_told_before_and_at_the_start_and_can_be_taken_over() {
    let world = lab();
    domains(&world, "small", &["web1"]);
    let uuid = device(&world, "web1");
    world.host.put(&format!("etc/mdevctl.d/mtty/{uuid}"), r#"{"mdev_type":"mtty-1","start":"auto"}"#);
    let drift = wait_drift(&world, &["mdevctl_autostart"]);
    assert!(drift[0]["fix"].as_str().expect("text").contains("mdevctl undefine"), "{drift:?}");
    world.host.foreign_mdev("mtty", "mtty-1", &uuid).expect("room");
    let line = world.start("web1").expect_err("theirs");
    assert!(line.contains("(mdevctl autostart)") && line.contains("mdevctl undefine"), "{line}");
    assert_eq!(world.host.mdevs(), [uuid.as_str()], "left alone");
    world.ok("adopt web1");
    world.start("web1").expect("it is ours now");
    world.settles_to(&[uuid], "the same mdev serves");
    world.stop("web1");
    world.settles_to(&[], "given back");
}

#[test]
fn a_running_guests_mdev_is_adopted_without_touching_it_and_given_back_at_its_stop() {
    let mut world = lab();
    let uuid = guest_of_others(&world);
    let (xml, live, writes) = (world.xml("web1"), world.live_xml("web1"), world.host.writes().len());
    let planned = world.ok("adopt web1 --dry-run");
    assert!(planned.contains("small") && planned.contains("dry run"), "{planned}");
    assert_eq!((world.xml("web1"), allocations(&world, "web1").len()), (xml.clone(), 0));

    world.ok("adopt web1");
    let id = allocations(&world, "web1")[0]["id"].as_str().expect("an id").to_owned();
    let mark = format!("\n      <alias name='ua-vgpud-{id}'/>");
    assert_eq!(plain(&world, "web1").replace(&mark, ""), xml, "the alias, and nothing else");
    assert!(world.xml("web1").contains(&mark));
    assert_eq!(world.live_xml("web1"), live);
    assert_eq!(world.host.writes().len(), writes, "no device was written to");
    wait("it is in use", || (allocations(&world, "web1")[0]["status"] == "in_use").then_some(()));
    assert!(world.ok("adopt web1").contains("nothing to change"));
    world.stop_service();
    world.serve();
    world.settles_to(std::slice::from_ref(&uuid), "after a restart");

    world.stop("web1");
    world.settles_to(&[], "its stop gave the slice back");
    world.start("web1").expect("a slice of ours now");
    world.settles_to(std::slice::from_ref(&uuid), "the same UUID, made by us");
    world.stop("web1");
    world.ok("detach web1");
    world.settles_to(&[], "at the end");
}

#[test]
fn what_cannot_be_adopted_is_refused_and_nothing_changes() {
    let world = lab();
    guest_of_others(&world);
    world.ok("profile create tiny --type mtty-1");
    let several = stderr(&world.ctl("adopt web1"));
    assert!(several.contains("several profiles fit: small, tiny"), "{several}");
    let wrong = stderr(&world.ctl("adopt web1 --profile screen"));
    assert!(wrong.contains("does not ask for") && wrong.contains("small, tiny"), "{wrong}");
    with_hostdev(&world, "web2", 101, THEIRS);
    let held = stderr(&world.ctl("adopt web2 --profile small"));
    assert!(held.contains("held by domain web1"), "{held}");
    let none = stderr(&world.ctl("adopt nobody"));
    assert!(none.contains("has no hostdev that vgpud could serve"), "{none}");
    let uuid = stderr(&world.ctl(&format!("adopt --uuid {THEIRS}")));
    assert!(uuid.contains("vgpuctl adopt web1"), "{uuid}");
    assert!(!world.ctl("adopt").status.success() && !world.ctl("adopt web1 --rebuild").status.success());
    assert_eq!(world.json("allocations")["allocations"].to_string(), "[]");
    world.ok("adopt web1 --profile tiny");
    let promised = stderr(&world.ctl("adopt web2 --profile small"));
    assert!(
        promised.contains("held by domain web1") || promised.contains("promised to domain web1"),
        "{promised}"
    );
}

#[test]
fn a_definition_that_cannot_be_marked_costs_nothing() {
    let world = lab();
    guest_of_others(&world);
    world.set_xml(
        "web1",
        &world.xml("web1").replace("      </source>", "      </source><alias name='ua-mine'/>"),
    );
    let before = world.xml("web1");
    let refused = stderr(&world.ctl("adopt web1"));
    assert!(refused.contains("ua-mine"), "{refused}");
    assert_eq!(world.xml("web1"), before);
    assert_eq!(world.json("allocations")["allocations"].to_string(), "[]");
}

#[test]
fn what_is_disowned_is_foreign_from_then_on_and_the_guest_goes_on() {
    let world = lab();
    domains(&world, "small", &["web1", "web2"]);
    world.start("web1").expect("room");
    let uuid = device(&world, "web1");
    let id = allocations(&world, "web1")[0]["id"].as_str().expect("an id").to_owned();
    let (live, writes) = (world.live_xml("web1"), world.host.writes().len());
    assert!(world.ok(&format!("disown {id} --dry-run")).contains("dry run"));
    assert_eq!(allocations(&world, "web1").len(), 1);
    world.ok(&format!("disown {id}"));
    assert!(!world.xml("web1").contains("ua-vgpud"), "{}", world.xml("web1"));
    assert_eq!(world.devices("web1"), [uuid.as_str()], "the hostdev stays");
    assert_eq!((world.live_xml("web1"), world.host.writes().len()), (live, writes));
    assert_eq!(owner(&world, &uuid)["owner"], "foreign");
    world.stop("web1");
    look(&world);
    assert_eq!(world.host.mdevs(), [uuid.as_str()], "nobody takes it away");
    world.start("web1").expect("its mdev is there, and nobody asks us");
    world.stop("web1");
    world.host.foreign_remove("mtty", &uuid).expect("nobody holds it");

    // By the UUID of its device, and of a domain that is off.
    world.ok(&format!("disown {}", device(&world, "web2")));
    assert!(allocations(&world, "web2").is_empty() && !world.xml("web2").contains("ua-vgpud"));
    let again = world.ctl(&format!("disown {id}"));
    assert!(stderr(&again).contains("no allocation"), "{}", stderr(&again));
}

#[test]
fn an_mdev_without_a_domain_becomes_ours_and_theirs_again() {
    let world = lab();
    world.host.foreign_mdev("mtty", "mtty-1", THEIRS).expect("room");
    owner(&world, THEIRS);
    world.ok(&format!("adopt --uuid {THEIRS} --dry-run"));
    assert_eq!(owner(&world, THEIRS)["owner"], "foreign");
    world.ok(&format!("adopt --uuid {THEIRS}"));
    assert_eq!(owner(&world, THEIRS)["owner"], "handmade");
    assert!(world.ok(&format!("adopt --uuid {THEIRS}")).contains("nothing to change"));
    world.ok(&format!("disown {THEIRS}"));
    assert_eq!(owner(&world, THEIRS)["owner"], "foreign");
    assert!(!world.ctl(&format!("mdev remove {THEIRS}")).status.success());
    world.ok(&format!("adopt --uuid {THEIRS}"));
    world.ok(&format!("mdev remove {THEIRS}"));
    world.settles_to(&[], "removed as one of ours");
}

#[test]
fn a_slice_changed_by_hand_is_shown_and_never_corrected() {
    let world = lab();
    world.ok(&format!("mdev create mtty mtty-1 --uuid {THEIRS}"));
    world.host.foreign_remove("mtty", THEIRS).expect("nobody holds it");
    let drift = wait_drift(&world, &["slice_gone"]);
    assert!(drift[0]["text"].as_str().expect("text").contains("removed by hand"), "{drift:?}");
    let shown = world.ok("status");
    assert!(shown.contains("changed by hand:") && shown.contains("vgpuctl mdev remove"), "{shown}");
    assert_eq!(world.host.mdevs(), Vec::<String>::new(), "not corrected");
    world.host.foreign_mdev("mtty", "mtty-1", THEIRS).expect("room");
    wait_drift(&world, &[]);
    world.ok(&format!("mdev remove {THEIRS}"));

    // A domain's, between prepare and QEMU: made again of another type, it is somebody else's.
    domains(&world, "small", &["web1"]);
    let uuid = device(&world, "web1");
    world.set_live_xml("web1", &world.xml("web1"));
    assert!(world.hook("web1", "prepare begin -").status.success());
    world.host.foreign_remove("mtty", &uuid).expect("nobody holds it");
    wait_drift(&world, &["slice_gone"]);
    world.host.foreign_mdev("mtty", "mtty-2", &uuid).expect("room");
    let drift = wait_drift(&world, &["slice_replaced"]);
    assert_eq!(drift[0]["domain"], "web1");
    world.forget_running("web1");
    assert!(world.hook("web1", "release end failed").status.success());
    look(&world);
    assert_eq!(world.host.mdevs(), [uuid.as_str()], "what somebody made again is left to them");
    wait_drift(&world, &[]);
    world.host.foreign_remove("mtty", &uuid).expect("nobody holds it");
    world.start("web1").expect("as before");
    world.settles_to(&[uuid], "a slice of ours again");
}

#[test]
fn a_number_of_vfs_changed_by_hand_is_shown_until_it_is_put_right() {
    let world = lab();
    world.ok(&format!("vfs set {PF} 4"));
    wait_drift(&world, &[]);
    world.host.by_hand(NUMVFS, "0").expect("not held");
    world.host.by_hand(NUMVFS, "2").expect("room");
    let shown = |drift: &[Value]| drift.iter().any(|one| one["kind"] == "vf_count");
    let drift = wait("it is shown", || {
        let drift = world.json("status")["drift"].as_array().cloned().unwrap_or_default();
        shown(&drift).then_some(drift)
    });
    assert!(
        drift
            .iter()
            .any(|one| one["text"].as_str().is_some_and(|text| text.contains("has 2 VFs, 4 were set"))),
        "{drift:?}"
    );
    assert_eq!(world.host.read(NUMVFS).as_deref(), Some("2"), "not corrected");
    world.ok(&format!("vfs set {PF} 2"));
    wait_drift(&world, &[]);
}

#[test]
fn a_hostdev_edited_by_hand_is_shown_and_goes_when_it_is_written_back() {
    let world = lab();
    domains(&world, "small", &["web1"]);
    let (xml, uuid) = (world.xml("web1"), device(&world, "web1"));
    world.set_xml("web1", &xml.replace(&uuid, OTHER));
    look(&world);
    let drift = wait_drift(&world, &["hostdev_edited"]);
    assert!(drift[0]["fix"].as_str().expect("text").contains(&uuid), "{drift:?}");
    let line = world.start("web1").expect_err("another device");
    assert!(line.contains("was promised") && line.contains("vgpuctl disown"), "{line}");
    world.set_xml("web1", &xml);
    look(&world);
    wait_drift(&world, &[]);
    // Taken as it is: what the sentence says works.
    world.set_xml("web1", &xml.replace(&uuid, OTHER));
    world.ok(&format!("disown {}", allocations(&world, "web1")[0]["id"].as_str().expect("an id")));
    world.ok("adopt web1 --profile small");
    wait_drift(&world, &[]);
    world.start("web1").expect("the new device");
    world.settles_to(&[OTHER.to_owned()], "the new one");
}

/// Everything that changes something is refused; reading works; guests and strangers are not concerned.
fn is_closed(world: &World, running: &str, stopped: &str) {
    for words in [
        "profile create more --type mtty-2",
        &format!("attach {stopped} --profile small"),
        &format!("detach {running}"),
        &format!("vfs set {PF} 2"),
        "mdev create mtty mtty-1",
        &format!("adopt {stopped}"),
    ] {
        let refused = stderr(&world.ctl(words));
        assert!(
            refused.contains("vgpud changes nothing now") && refused.contains("adopt --rebuild"),
            "{words}: {refused}"
        );
    }
    for words in ["gpus", "status", "allocations", "profile list"] {
        world.ok(words);
    }
    assert!(world.ok("status").contains("read-only"), "{}", world.ok("status"));
    let line = world.start(stopped).expect_err("nothing can be written down");
    assert!(line.contains("changes nothing now") && line.lines().count() == 1, "{line}");
    assert!(world.hook(running, "reconnect begin -").status.success());
    world.define("stranger", 500);
    world.start("stranger").expect("not ours");
}

#[test]
fn a_damaged_database_is_read_only_until_it_is_rebuilt_from_aliases() {
    let mut world = lab();
    domains(&world, "small", &["web1", "web2"]);
    world.start("web1").expect("room");
    let uuid = device(&world, "web1");
    world.stop_service();
    let (file, garbage) = damage(&world);
    let writes = world.host.writes().len();
    world.serve();
    assert!(read_only(&world).contains("vgpud.db"), "{}", read_only(&world));
    is_closed(&world, "web1", "web2");
    assert_eq!(world.host.writes().len(), writes, "no device was written to");

    let planned = world.ok("adopt --rebuild --dry-run");
    assert!(
        planned.contains("web1") && planned.contains("recovered-mtty-1") && planned.contains("left out"),
        "{planned}"
    );
    assert!(std::fs::read(&file).expect("bytes") == garbage, "a dry run changes nothing");
    let rebuilt = world.json("adopt --rebuild");
    let aside = rebuilt["set_aside"].as_str().expect("set aside");
    assert!(std::fs::read(aside).expect("bytes") == garbage, "kept to the byte");
    assert_eq!(world.json("status")["read_only"], Value::Null);
    wait("in use", || (allocations(&world, "web1")[0]["status"] == "in_use").then_some(()));
    assert_eq!(world.host.writes().len(), writes, "no device was written to");

    // The stopped one says nothing of its type.
    world.ok("profile create desk --type mtty-2");
    world.ok("adopt web2 --profile desk");
    world.start("web2").expect("known again");
    world.stop("web2");
    world.settles_to(std::slice::from_ref(&uuid), "only web1 runs");
    world.kill_once();
    world.settles_to(std::slice::from_ref(&uuid), "after a kill");
    world.stop("web1");
    world.settles_to(&[], "its stop gave the slice back");
    world.start("web1").expect("by the recovered profile");
    world.settles_to(&[uuid], "again");
}

#[test]
fn one_bad_row_costs_that_row_only() {
    let mut world = lab();
    domains(&world, "small", &["web1", "web2"]);
    world.start("web1").expect("room");
    world.stop_service();
    let file = world.host.root().join("var/lib/vgpud/vgpud.db");
    let db = rusqlite::Connection::open(&file).expect("the database");
    db.execute("UPDATE profiles SET body = '{' WHERE key = 'screen'", []).expect("damage");
    drop(db);
    world.serve();
    assert!(read_only(&world).contains("\"screen\" of table profiles"), "{}", read_only(&world));
    assert_eq!(allocations(&world, "web1")[0]["status"], "in_use", "the rest is shown");
    is_closed(&world, "web1", "web2");
    let rebuilt = world.json("adopt --rebuild");
    assert_eq!(
        (rebuilt["profiles"].to_string(), rebuilt["left_out"].to_string()),
        ("[]".to_owned(), "[]".to_owned())
    );
    assert_eq!(allocations(&world, "web2")[0]["profile"], "small");
    world.start("web2").expect("as before");
    world.settles_to(&[device(&world, "web1"), device(&world, "web2")], "both run");
}

#[test]
fn a_slice_whose_guest_stopped_while_it_was_read_only_is_given_back_after_the_rebuild() {
    let mut world = lab();
    domains(&world, "small", &["web1"]);
    world.start("web1").expect("room");
    world.stop_service();
    damage(&world);
    world.serve();
    read_only(&world);
    let uuid = device(&world, "web1");
    world.stop("web1");
    assert_eq!(world.host.mdevs(), [uuid.as_str()], "nothing is given back now");
    world.ok("adopt --rebuild");
    world.settles_to(&[], "its alias told whose it was");
}

#[test]
fn a_lost_database_is_noticed_by_what_was_published_in_this_boot() {
    let mut world = lab();
    domains(&world, "small", &["web1", "web2"]);
    world.start("web1").expect("room");
    world.stop_service();
    std::fs::remove_dir_all(world.host.root().join("var/lib/vgpud")).expect("lost");
    world.serve();
    assert!(read_only(&world).contains("lost"), "{}", read_only(&world));
    is_closed(&world, "web1", "web2");
    world.kill_once();
    assert!(read_only(&world).contains("lost"), "a restart forgets nothing: {}", read_only(&world));
    let rebuilt = world.json("adopt --rebuild");
    assert_eq!(rebuilt["set_aside"], Value::Null, "there was nothing to set aside");
    let uuid = device(&world, "web1");
    world.settles_to(std::slice::from_ref(&uuid), "web1 is ours again");
    world.stop_service();
    world.serve();
    world.settles_to(&[uuid], "after a restart");
    assert_eq!(world.json("status")["read_only"], Value::Null);
}

#[test]
fn aliases_that_nobody_knows_are_shown_and_their_domains_refused() {
    let mut world = lab();
    domains(&world, "small", &["web1"]);
    world.stop_service();
    std::fs::remove_dir_all(world.host.root().join("var/lib/vgpud")).expect("lost");
    std::fs::remove_file(world.host.root().join("run/vgpud/owned")).expect("another boot");
    world.serve();
    assert_eq!(world.json("status")["read_only"], Value::Null, "another host's definitions look the same");
    let drift = wait_drift(&world, &["alias_unknown"]);
    assert_eq!(drift[0]["domain"], "web1");
    let line = world.start("web1").expect_err("unknown");
    assert!(line.contains("no allocation knows it") && line.contains("adopt --rebuild"), "{line}");
    let rebuilt = world.ok("adopt --rebuild");
    assert!(rebuilt.contains("vgpuctl adopt web1 --profile NAME"), "{rebuilt}");
    world.ok("profile create small --type mtty-1");
    world.ok("adopt web1 --profile small");
    wait_drift(&world, &[]);
    world.start("web1").expect("known again");
}
