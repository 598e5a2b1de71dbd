//! The index of allocations in a domain's metadata: it follows the hostdevs, whoever changes them, and is never
//! believed.

use vgpud::domain_xml::{Edited, Indexed, index, with_index};
use vgpud::model::AllocationId;

use crate::kit::{allocations, domains, lab, look};
use crate::support::world::{World, wait};

/// The allocations of the index of a definition, and their profiles.
fn indexed(world: &World, domain: &str) -> Vec<(String, String)> {
    let found = index(&world.xml(domain)).unwrap_or_default();
    found.into_iter().map(|one| (one.id.to_string(), one.profile.to_string())).collect()
}

/// What the ledger promised to a domain, sorted as an index is.
fn promised(world: &World, domain: &str) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let all = allocations(world, domain);
    let mut all: Vec<_> = all.iter().map(|one| (text(&one["id"]), text(&one["profile"]))).collect();
    all.sort();
    all
}

fn is_mended(world: &World, domain: &str) {
    look(world);
    wait("the index is as the hostdevs", || {
        (indexed(world, domain) == promised(world, domain)).then_some(())
    });
}

#[test]
fn the_index_follows_attach_and_detach_and_goes_with_the_last() {
    let world = lab();
    world.define("web1", 100);
    let before = world.xml("web1");
    world.ok("attach web1 --profile small");
    world.ok("attach web1 --profile screen");
    assert_eq!(indexed(&world, "web1"), promised(&world, "web1"));
    assert_eq!(indexed(&world, "web1").len(), 2);
    world.ok("detach web1 --profile small");
    assert_eq!(indexed(&world, "web1"), promised(&world, "web1"));
    world.ok("detach web1");
    let words = |xml: &str| xml.replace("<metadata></metadata>", "").split_whitespace().collect::<String>();
    assert_eq!(words(&world.xml("web1")), words(&before), "nothing of ours is left");
}

#[test]
fn an_index_that_somebody_edits_is_written_anew_and_never_believed() {
    let world = lab();
    domains(&world, "small", &["web1", "web2"]);
    let claims = vec![Indexed { id: AllocationId::from_bits(7), profile: "small".parse().expect("name") }];
    let Edited::Changed(xml) = with_index(&world.xml("web1"), &claims) else { panic!("nothing to edit") };
    world.set_xml("web1", &xml);
    world.start("web1").expect("its hostdev says what it is");
    assert_eq!(promised(&world, "web1").len(), 1, "no promise came of a claim");
    is_mended(&world, "web1");
    // A definition that lost its hostdev has lost its place in the index, whatever the metadata says.
    let bare = world.xml("web2");
    let (head, tail) = (bare.find("<hostdev").expect("one"), bare.find("</hostdev>").expect("its end"));
    world.set_xml("web2", &format!("{}{}", &bare[..head], &bare[tail + "</hostdev>".len()..]));
    look(&world);
    wait("the index is empty", || indexed(&world, "web2").is_empty().then_some(()));
}

#[test]
fn adopted_hostdevs_are_listed_and_disowned_ones_are_not() {
    const THEIRS: &str = "ffffffff-0000-4000-8000-000000000001";
    let world = lab();
    world.host.foreign_mdev("mtty", "mtty-1", THEIRS).expect("room");
    world.define("web1", 100);
    let hostdev = format!(
        "    <hostdev mode='subsystem' type='mdev' managed='no' model='vfio-pci'>\n      <source>\n        \
         <address uuid='{THEIRS}'/>\n      </source>\n    </hostdev>\n  </devices>"
    );
    world.set_xml("web1", &world.xml("web1").replace("  </devices>", &hostdev));
    world.ok("adopt web1 --profile small");
    assert_eq!(indexed(&world, "web1"), promised(&world, "web1"));
    assert_eq!(indexed(&world, "web1").len(), 1);
    world.ok(&format!("disown {}", indexed(&world, "web1")[0].0));
    assert!(indexed(&world, "web1").is_empty());
}
