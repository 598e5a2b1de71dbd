//! Crash points of operations on what others made, and on a database that is damaged.

use super::{BYSTANDER, Operation, allocations_of, kill_everywhere, profiled, running, slices_of};
use crate::support::world::World;

const FOREIGN: &[Operation] = &[
    Operation {
        name: "adopt",
        arrange: runs_with_theirs,
        act: |w| drop(w.ctl("adopt web1")),
        check: adopted,
    },
    Operation {
        name: "disown",
        arrange: running,
        act: |w| drop(w.ctl(&format!("disown {}", w.devices("web1")[0]))),
        check: disowned,
    },
    Operation {
        name: "adopt --rebuild",
        arrange: damaged,
        act: |w| drop(w.ctl("adopt --rebuild")),
        check: rebuilt,
    },
];

const THEIRS: &str = "eeeeeeee-0000-4000-8000-000000000001";

fn runs_with_theirs(world: &mut World) {
    profiled(world);
    world.host.foreign_mdev("mtty", "mtty-1", THEIRS).expect("room");
    let hostdev = format!(
        "  <hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='{THEIRS}'/></source></hostdev>\n  \
         </devices>"
    );
    world.set_xml("web1", &world.xml("web1").replace("</devices>", &hostdev));
    world.start("web1").expect("not ours");
}

fn damaged(world: &mut World) {
    running(world);
    world.stop_service();
    let file = world.host.root().join("var/lib/vgpud/vgpud.db");
    std::fs::write(&file, vec![0x5a; 20_000]).expect("damage");
    drop(std::fs::remove_file(file.with_extension("db-wal")));
    world.serve();
}

fn adopted(world: &mut World) {
    world.ok("adopt web1");
    let allocations = allocations_of(world, "web1");
    assert_eq!(allocations.len(), 1, "one promise: {allocations:?}");
    assert_eq!(world.xml("web1").matches("ua-vgpud-").count(), 1, "{}", world.xml("web1"));
    assert!(world.xml("web1").contains(&allocations[0].0), "the XML names that promise");
    world.settles_to(&slices_of(world, &[BYSTANDER, "web1"]), "after the adoption");
    world.stop("web1");
    world.settles_to(&slices_of(world, &[BYSTANDER]), "its stop gave the slice back");
    world.start("web1").expect("the same domain starts again");
    world.settles_to(&slices_of(world, &[BYSTANDER, "web1"]), "after starting again");
}

fn disowned(world: &mut World) {
    drop(world.ctl(&format!("disown {}", world.devices("web1")[0])));
    assert!(allocations_of(world, "web1").is_empty());
    assert!(!world.xml("web1").contains("ua-vgpud-"), "{}", world.xml("web1"));
    assert_eq!(world.host.mdevs().len(), 2, "it was left alone");
    adopted(world);
}

fn rebuilt(world: &mut World) {
    if world.json("status")["read_only"].is_string() {
        world.ok("adopt --rebuild");
    }
    world.settles_to(&slices_of(world, &[BYSTANDER, "web1"]), "after the rebuild");
    let kept = std::fs::read_dir(world.host.root().join("var/lib/vgpud")).expect("directory");
    let kept = kept.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    assert!(kept.filter(|name| name.contains("damaged")).count() >= 1, "the damaged one was set aside");
    world.stop("web1");
    world.settles_to(&slices_of(world, &[BYSTANDER]), "its stop gave the slice back");
    world.start("web1").expect("the same domain starts again");
    world.settles_to(&slices_of(world, &[BYSTANDER, "web1"]), "after starting again");
}

#[test]
fn a_kill_at_any_write_of_an_adoption_or_a_rebuild_loses_nothing() {
    kill_everywhere(&FOREIGN.iter().collect::<Vec<_>>());
}
