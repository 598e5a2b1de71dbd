//! The rooms of the library and the arrows between them: who may use whom.
//!
//! A room is a top-level module of `src/`. Code depends downwards only. A new arrow is a decision: it
//! is added to the table here, with the drawing in `docs/architecture.md`, or it does not come in.

#![expect(clippy::expect_used, reason = "a tree that cannot be read fails the test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each room and the rooms it may use, from the ground up: a room stands below those that use it.
const ROOMS: &[(&str, &[&str])] = &[
    // Ground floor.
    ("model", &[]),
    ("failpoint", &[]),
    ("clock", &["model"]),
    ("config", &["model"]),
    // Hardware tower: reads and changes the kernel's devices.
    ("sysfs", &["model", "failpoint"]),
    ("vfio", &["model", "sysfs"]),
    ("nvml", &["model"]),
    ("uevent", &["model"]),
    ("backend", &["model", "failpoint", "config", "sysfs", "vfio", "nvml"]),
    ("inventory", &["model", "sysfs", "vfio", "backend"]),
    // Pure tower: decides.
    ("profile", &["model"]),
    ("fleet", &[]),
    ("simulate", &["fleet"]),
    ("page", &[]),
    ("placement", &["model", "profile"]),
    ("plan", &["model", "placement"]),
    ("domain_xml", &["model"]),
    ("interlock", &["model", "domain_xml"]),
    // Looks of their own, without the service: a reader and a pure judgement.
    ("doctor", &["model", "sysfs", "inventory", "domain_xml"]),
    ("topology", &["model", "sysfs"]),
    // State tower: remembers.
    ("ledger", &["model", "failpoint"]),
    // The other daemon.
    ("libvirt", &["model", "domain_xml"]),
    // What travels.
    ("wire", &["model"]),
    ("metrics", &[]),
    // The one driver; sees all three towers, and never libvirt: it must not wait for it.
    (
        "engine",
        &[
            "model",
            "failpoint",
            "clock",
            "config",
            "sysfs",
            "vfio",
            "nvml",
            "uevent",
            "backend",
            "inventory",
            "profile",
            "placement",
            "plan",
            "domain_xml",
            "topology",
            "ledger",
            "wire",
        ],
    ),
    // Where engine and libvirt meet, and nowhere else.
    ("desk", &["model", "clock", "domain_xml", "interlock", "libvirt", "wire", "engine"]),
    // Faces of the service.
    ("api", &["model", "clock", "config", "nvml", "topology", "metrics", "wire", "engine", "desk"]),
    ("service", &["model", "clock", "config", "uevent", "libvirt", "engine", "desk", "api"]),
    // Faces of the callers.
    ("client", &["model", "config", "wire"]),
    (
        "cli",
        &[
            "model",
            "clock",
            "config",
            "sysfs",
            "inventory",
            "profile",
            "domain_xml",
            "fleet",
            "simulate",
            "page",
            "interlock",
            "doctor",
            "topology",
            "wire",
            "client",
        ],
    ),
    ("hook", &["model", "clock", "config", "domain_xml", "wire", "client"]),
];

/// Crates that only some rooms may use.
const OWNED_CRATES: &[(&str, &[&str])] = &[
    ("virt", &["libvirt"]),
    ("virt_sys", &["libvirt"]),
    ("nvml_wrapper", &["nvml"]),
    ("nvml_wrapper_sys", &["nvml"]),
    ("prometheus_client", &["metrics"]),
    ("rusqlite", &["ledger"]),
    ("axum", &["api"]),
    ("clap", &["cli"]),
    // `page` reads its plots again in its tests.
    ("roxmltree", &["domain_xml", "libvirt", "page"]),
    ("quick_xml", &["domain_xml"]),
    ("microlp", &["simulate"]),
    ("flate2", &["cli"]),
];

/// Where `unsafe` may be written: modules by their path below `src/`.
const UNSAFE: &[&str] = &["vfio", "libvirt/events", "nvml/raw"];

/// One source file.
struct File {
    path: PathBuf,
    room: String,
    text: String,
}

impl File {
    /// Returns the lines of code with their numbers: comments are left out.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }

    fn is_in(&self, module: &str) -> bool {
        let path = self.path.with_extension("");
        path.strip_prefix("src").is_ok_and(|path| path.starts_with(module))
    }
}

/// Returns the library's files, without `lib.rs` and the binaries.
fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut directories = vec![root.join("src")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("a readable directory") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(file(root, &path));
            }
        }
    }
    files.retain(|file| file.room != "bin" && file.room != "lib");
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn file(root: &Path, path: &Path) -> File {
    #[expect(clippy::disallowed_methods, reason = "source files are no state")]
    let text = std::fs::read_to_string(path).expect("a source file is text");
    let path = path.strip_prefix(root).expect("below the root").to_owned();
    let first = path.components().nth(1).expect("below src").as_os_str().to_string_lossy();
    File { room: first.trim_end_matches(".rs").to_owned(), path, text }
}

/// Returns the first names of all `crate::` paths of a line: `crate::a::b` and `crate::{a::b, c}`.
fn targets(text: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for (at, start) in text.match_indices("crate::") {
        if text[..at].ends_with("$") || text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &text[at + start.len()..];
        match rest.strip_prefix('{') {
            Some(list) => found.extend(list_heads(list)),
            None => found.extend(name(rest)),
        }
    }
    found
}

/// Returns the first names of the members of a `use` list, whose nested lists do not count.
fn list_heads(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut heads) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                heads.extend(name(list[start..at].trim_start()));
                return heads;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                heads.extend(name(list[start..at].trim_start()));
                start = at + 1;
            }
            _ => {}
        }
    }
    heads
}

fn name(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    Some(&text[..end]).filter(|name| !name.is_empty())
}

/// Returns the identifiers of a line, each with what follows it.
fn words(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let starts = line.char_indices().filter(move |&(at, c)| is_part(c) && !line[..at].ends_with(is_part));
    starts.filter_map(move |(at, _)| name(&line[at..]).map(|word| (word, &line[at + word.len()..])))
}

fn assert_none(faults: &[String], law: &str) {
    assert!(faults.is_empty(), "{law}:\n{}", faults.join("\n"));
}

#[test]
fn each_room_stands_above_the_rooms_it_uses() {
    let mut below = BTreeSet::new();
    for (room, uses) in ROOMS {
        for used in *uses {
            assert!(below.contains(used), "{room} uses {used}, which does not stand below it");
        }
        assert!(below.insert(room), "{room} is listed twice");
    }
}

#[test]
fn rooms_use_only_what_the_table_lists() {
    let mut faults = Vec::new();
    for file in files() {
        let Some((_, uses)) = ROOMS.iter().find(|(room, _)| *room == file.room) else {
            faults.push(format!("{}: room {} is not in the table", file.path.display(), file.room));
            continue;
        };
        let code: Vec<&str> = file.code().map(|(_, line)| line).collect();
        for target in targets(&code.join("\n")) {
            let is_room = ROOMS.iter().any(|(room, _)| *room == target);
            if target != file.room && is_room && !uses.contains(&target) {
                faults.push(format!("{}: {} uses {target}", file.path.display(), file.room));
            }
        }
    }
    assert_none(&faults, "an arrow that the table does not list");
}

#[test]
fn no_room_leaves_by_its_roof() {
    let mut faults = Vec::new();
    for file in files().iter().filter(|file| file.path.components().count() == 2) {
        let outside = file.code().filter(|(_, line)| line.starts_with("use super::"));
        faults.extend(outside.map(|(number, _)| file.place(number)));
    }
    assert_none(&faults, "a room names its neighbours by `crate::`, where the table sees it");
}

#[test]
fn a_crate_with_an_owner_is_used_by_its_room_only() {
    let mut faults = Vec::new();
    for file in files() {
        for (number, line) in file.code() {
            for (word, rest) in words(line) {
                let owners = OWNED_CRATES.iter().find(|(name, _)| *name == word).map(|(_, owners)| owners);
                let path = rest.starts_with("::") || line.trim_start().starts_with("use ");
                if let Some(owners) = owners.filter(|owners| path && !owners.contains(&&*file.room)) {
                    faults.push(format!("{}: {word} belongs to {}", file.place(number), owners.join(", ")));
                }
            }
        }
    }
    assert_none(&faults, "a crate outside its room");
}

#[test]
fn unsafe_is_written_in_its_modules_only() {
    let mut faults = Vec::new();
    for file in files().iter().filter(|file| !UNSAFE.iter().any(|module| file.is_in(module))) {
        let used = file.code().filter(|(_, line)| words(line).any(|(word, _)| word == "unsafe"));
        faults.extend(used.map(|(number, _)| file.place(number)));
    }
    assert_none(&faults, "unsafe outside its modules");
}

#[test]
fn each_file_says_what_lives_in_it() {
    let is_test = |file: &File| file.path.ends_with("tests.rs");
    let silent = files().into_iter().filter(|file| !is_test(file) && !file.text.starts_with("//! "));
    let faults: Vec<String> = silent.map(|file| file.path.display().to_string()).collect();
    assert_none(&faults, "a file without a `//!` header");
}

#[test]
fn paths_are_found_in_every_form() {
    let text = "use crate::{model::{A, B}, wire::C,\n    config};\nlet x = crate::sysfs::read(mycrate::y);";
    assert_eq!(targets(text), BTreeSet::from(["config", "model", "sysfs", "wire"]));
}
