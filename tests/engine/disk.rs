//! The ledger's file: one service, one schema, damage, and a disk without space.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::kit::{device, domains, lab, promises};
use crate::support::spec::HostSpec;
use crate::support::world::{World, stderr, wait};

/// Starts a service that must refuse to start, and returns what it said.
fn refuses(world: &World) -> String {
    let mut command = world.service_command();
    let mut child = command.stderr(Stdio::piped()).spawn().expect("vgpud runs");
    wait("it gives up", || child.try_wait().expect("a child"));
    let output: Output = child.wait_with_output().expect("its end");
    assert_eq!(output.status.signal(), None, "{output:?}");
    assert!(!output.status.success(), "{output:?}");
    let text = stderr(&output);
    assert!(!text.contains("panicked"), "{text}");
    text
}

fn database(world: &World) -> PathBuf {
    world.host.root().join("var/lib/vgpud/vgpud.db")
}

#[test]
fn a_second_service_on_the_same_database_refuses_and_the_first_goes_on() {
    let world = lab();
    domains(&world, "small", &["web1"]);
    let text = refuses(&world);
    assert!(text.contains("another vgpud holds"), "{text}");
    world.start("web1").expect("the first service is not concerned");
}

#[test]
fn a_database_of_a_newer_schema_is_refused_and_left_as_it_is() {
    let mut world = lab();
    world.stop_service();
    let db = rusqlite::Connection::open(database(&world)).expect("the database");
    db.pragma_update(None, "user_version", 99).expect("a schema");
    db.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(())).expect("one file");
    drop(db);
    let before = std::fs::read(database(&world)).expect("bytes");
    let text = refuses(&world);
    assert!(text.contains("schema 99") && text.contains("knows 2"), "{text}");
    assert!(std::fs::read(database(&world)).expect("bytes") == before, "the newer database was changed");
}

#[test]
fn a_damaged_database_is_read_only_and_left_as_it_is() {
    let mut world = lab();
    domains(&world, "small", &["web1"]);
    world.start("web1").expect("room");
    world.stop_service();
    let file = database(&world);
    let db = rusqlite::Connection::open(&file).expect("the database");
    db.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(())).expect("one file");
    drop(db);
    let whole = std::fs::read(&file).expect("bytes");
    let garbage = vec![0x5a; 20_000];
    let cut = whole[..whole.len() / 2].to_vec();
    for (what, bytes) in [("garbage", garbage), ("half of it", cut)] {
        std::fs::write(&file, &bytes).expect("damage");
        world.serve();
        let why = world.json("status")["read_only"].to_string();
        assert!(why.contains("vgpud.db"), "{what}: {why}");
        world.stop_service();
        assert!(std::fs::read(&file).expect("bytes") == bytes, "{what}: it was written to");
    }
    std::fs::write(&file, &whole).expect("repair");
    world.serve();
    world.settles_to(&world.devices("web1"), "the guest kept its slice through all of it");
}

/// A small file system for the database, gone at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(world: &World) -> Option<Self> {
        let path = world.host.root().join("var/lib/vgpud");
        std::fs::create_dir_all(&path).expect("directory");
        let options = Some("size=3m,mode=700");
        match mount(Some("small"), &path, Some("tmpfs"), MsFlags::empty(), options) {
            Ok(()) => Some(Self(path)),
            Err(errno) => {
                println!("skipped: cannot mount a small file system here: {errno}");
                None
            }
        }
    }

    fn fill(&self) {
        let file = std::fs::File::create(self.0.join("filler")).expect("a file");
        let mut file = std::io::BufWriter::with_capacity(4096, file);
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
        let (_, left) = file.into_parts();
        drop(left);
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("the filler");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(errno) = umount2(&self.0, MntFlags::MNT_DETACH) {
            eprintln!("cannot unmount {}: {errno}", self.0.display());
        }
    }
}

#[test]
fn a_full_disk_refuses_starts_and_still_lets_slices_go() {
    let mut world = World::new(HostSpec::samples());
    let Some(disk) = SmallDisk::mount(&world) else { return };
    world.serve();
    world.ok("profile create small --type mtty-1");
    domains(&world, "small", &["web1", "web2", "web3"]);
    world.start("web1").expect("room");
    world.start("web2").expect("room");
    disk.fill();
    let line = loop {
        // Some space inside the database's own files may be left for the first few.
        match world.start("web3") {
            Err(line) => break line,
            Ok(()) => world.stop("web3"),
        }
    };
    assert!(line.contains("no space left") && line.lines().count() == 1, "{line}");
    world.settles_to(&[&["web1", "web2"].map(|name| device(&world, name))[..]].concat(), "after refusals");
    let before = promises(&world);
    for words in ["profile create more --type mtty-2", "attach web3 --profile small --count 9"] {
        let output = world.ctl(words);
        assert!(stderr(&output).contains("no space left"), "{words}: {}", stderr(&output));
    }
    assert_eq!(promises(&world), before);
    world.stop("web1");
    assert_eq!(world.host.mdevs(), world.devices("web2"), "its slice is gone although the disk is full");
    world.kill_once();
    world.settles_to(&world.devices("web2"), "after a restart on a full disk");
    world.stop("web2");
    world.settles_to(&[], "after the last stop");
    let warnings = world.json("status")["warnings"].to_string();
    assert!(warnings.contains("full"), "{warnings}");
    world.start("web3").expect_err("still full");
    disk.free();
    world.start("web3").expect("there is space again");
    assert_eq!(world.json("status")["warnings"].to_string(), "[]");
    world.stop("web3");
    world.settles_to(&[], "at the end");
}
