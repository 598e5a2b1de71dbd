//! Files that a command reads and writes.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::wire::{Kind, Refusal};

/// The most bytes of a file that are read, unpacked.
const MOST_BYTES: u64 = 1 << 30;

/// Reads a file, unpacked when it is gzipped.
pub(super) fn text(path: &Path) -> Result<String, Refusal> {
    let file = File::open(path).map_err(|error| unusable("read", path, &error))?;
    let mut bytes = Vec::new();
    let read = file.take(MOST_BYTES).read_to_end(&mut bytes);
    read.map_err(|error| unusable("read", path, &error))?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut unpacked = Vec::new();
        let read = MultiGzDecoder::new(bytes.as_slice()).take(MOST_BYTES).read_to_end(&mut unpacked);
        read.map_err(|error| unusable("unpack", path, &error))?;
        bytes = unpacked;
    }
    String::from_utf8(bytes)
        .map_err(|_| Refusal::new(Kind::Usage, format!("cannot read {}: it is no text", path.display())))
}

/// Writes a new file; one that is there is not replaced unless `replace` says so.
pub(super) fn write(path: &Path, text: &str, replace: bool) -> Result<(), Refusal> {
    let mut options = File::options();
    let file = if replace {
        options.write(true).create(true).truncate(true).open(path)
    } else {
        options.write(true).create_new(true).open(path)
    };
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| unusable("write", path, &error))
}

fn unusable(act: &str, path: &Path, error: &std::io::Error) -> Refusal {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => Kind::NotFound,
        std::io::ErrorKind::AlreadyExists => Kind::Conflict,
        _ => Kind::HostFault,
    };
    Refusal::new(kind, format!("cannot {act} {}: {error}", path.display()))
}
