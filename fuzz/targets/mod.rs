//! What is fuzzed: each target takes any bytes, gives them to one reader of vgpud, and asserts what must
//! hold whatever they are. Two programs share this: the fuzzer (`fuzz/src/main.rs`), and the replay of
//! all corpora in every test run (`tests/corpora.rs`).

mod api;
mod config;
mod domain_xml;
#[path = "../../tests/support/manifest.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests, which use more of it")]
mod manifest;
mod owned;
mod profile;
mod sysfs;
mod template;
#[path = "../../tests/support/tree.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests, which use more of it")]
mod tree;
mod uevent;

use std::process::ExitCode;

use vgpud::backend::helper;
use vgpud::config::Paths;

/// One target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// Its name, and the name of its corpus.
    pub(crate) name: &'static str,
    /// Panics when something does not hold.
    pub(crate) run: fn(&[u8]),
}

/// All targets.
pub(crate) const ALL: &[Target] = &[
    Target { name: "api", run: api::run },
    Target { name: "config", run: config::run },
    Target { name: "domain_xml", run: domain_xml::run },
    Target { name: "owned", run: owned::run },
    Target { name: "profile", run: profile::run },
    Target { name: "sysfs", run: sysfs::run },
    Target { name: "template", run: template::run },
    Target { name: "uevent", run: uevent::run },
];

/// The engine starts `/proc/self/exe helper` for each change of the host.
pub(crate) fn be_a_helper_if_asked() {
    if std::env::args().nth(1).as_deref() == Some(helper::ARGUMENT) {
        let done = helper::main(&Paths::from_env()) == ExitCode::SUCCESS;
        std::process::exit(i32::from(!done));
    }
}

/// What is told to people and logs is one line without control characters.
#[track_caller]
fn assert_one_line(text: &str) {
    assert!(!text.chars().any(char::is_control), "more than one line, or not printable: {text:?}");
    assert!(text.len() <= 4000, "{} bytes in one line: {text:?}", text.len());
}
