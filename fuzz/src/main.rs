//! One program for all targets; the environment says which: `VGPUD_FUZZ=domain_xml`. See `scripts/fuzz`.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

#[path = "../targets/mod.rs"]
mod targets;

static TARGET: OnceLock<targets::Target> = OnceLock::new();

/// Before anything else. The service starts its helpers from its own program, which is this one here.
fn begin() {
    targets::be_a_helper_if_asked();
    let name = std::env::var("VGPUD_FUZZ").expect("VGPUD_FUZZ names the target");
    let found = targets::ALL.iter().find(|target| target.name == name);
    let _ = TARGET.set(*found.unwrap_or_else(|| panic!("no target {name:?}")));
}

fuzz_target!(init: begin(), |data: &[u8]| {
    let target = TARGET.get().expect("libFuzzer initializes first");
    (target.run)(data);
});
