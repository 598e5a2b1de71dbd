//! Recorded hosts: one text file each, written out as plain files for a test.
//!
//! ```text
//! # header: kernel, driver, card, date, who may publish it
//! d sys/bus/pci/devices
//! l sys/bus/pci/devices/0000:41:00.0 -> ../../../devices/pci0000:40/0000:41:00.0
//! f sys/devices/pci0000:40/0000:41:00.0/class 0444 "0x030200\n"
//! ```

use std::path::Path;

use super::tree::Tree;

/// Reads a manifest. Panics with the line's number on a line that makes no sense.
pub(crate) fn parse(text: &str) -> Tree {
    let mut tree = Tree::new(0);
    for (number, line) in text.lines().enumerate() {
        if !line.is_empty() && !line.starts_with('#') {
            add(&mut tree, line).unwrap_or_else(|| panic!("line {}: {line:?}", number + 1));
        }
    }
    tree
}

/// Writes a manifest's files below `dir`.
pub(crate) fn write_out(text: &str, dir: &Path) {
    parse(text).write_to(dir);
}

fn add(tree: &mut Tree, line: &str) -> Option<()> {
    let (kind, rest) = line.split_once(' ')?;
    match kind {
        "d" => tree.dir(rest),
        "l" => {
            let (path, target) = rest.split_once(" -> ")?;
            tree.raw_link(path, target);
        }
        "f" => {
            let (head, content) = rest.split_once(" \"")?;
            let (path, mode) = head.rsplit_once(' ')?;
            tree.file(path, u16::from_str_radix(mode, 8).ok()?, unescape(content.strip_suffix('"')?)?);
        }
        _ => return None,
    }
    Some(())
}

/// Reads the escapes of Rust's string literals.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match rest.next()? {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            '0' => out.push('\0'),
            'u' => {
                let digits: String = rest.by_ref().take_while(|c| *c != '}').filter(|c| *c != '{').collect();
                out.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
            }
            c => out.push(c),
        }
    }
    Some(out)
}
