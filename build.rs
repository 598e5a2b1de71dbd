//! Writes the names of PCI vendors and devices as one text that is searched where it lies: see
//! `src/inventory/names.rs`. A table of strings would be a pointer to relocate for each name, at every
//! start of every program, and that memory would be its own.

#![expect(clippy::expect_used, reason = "a build that cannot write fails")]

use std::fmt::Write as _;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let mut lines = Vec::new();
    for vendor in pci_ids::Vendors::iter() {
        lines.push(format!("{:04x}\t{}", vendor.id(), plain(vendor.name())));
        let device = |device: &pci_ids::Device| {
            format!("{:04x}{:04x}\t{}", vendor.id(), device.id(), plain(device.name()))
        };
        lines.extend(vendor.devices().map(device));
    }
    // By bytes: a tab sorts before every digit, so a vendor stands before its devices.
    lines.sort_unstable();
    let mut text = String::new();
    for line in &lines {
        writeln!(text, "{line}").expect("writing to a string");
    }
    let directory = std::env::var_os("OUT_DIR").expect("cargo says where to write");
    let path = Path::new(&directory).join("pci-names.txt");
    #[expect(clippy::disallowed_methods, reason = "what a build makes is no state")]
    std::fs::write(path, text).expect("a file in OUT_DIR");
}

/// Keeps a name on its line.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
