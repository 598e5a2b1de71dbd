//! What the caller's binaries need at run time: not libvirt, not NVML. A host without either must still
//! start its domains and show its devices.

#![expect(clippy::expect_used, reason = "a binary that cannot be read fails the test")]

const PT_DYNAMIC: u64 = 2;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;

/// A 64-bit little-endian ELF file.
struct Elf(Vec<u8>);

impl Elf {
    fn open(path: &str) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a binary is no state")]
        let bytes = std::fs::read(path).expect("the binary is there");
        assert_eq!(bytes[..6], [0x7f, b'E', b'L', b'F', 2, 1], "64 bit, little endian");
        Self(bytes)
    }

    fn number(&self, at: u64, width: usize) -> u64 {
        let at = usize::try_from(at).expect("an offset in the file");
        self.0[at..at + width].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn long(&self, at: u64) -> u64 {
        self.number(at, 8)
    }

    /// Returns the offsets of the program headers.
    fn segments(&self) -> impl Iterator<Item = u64> {
        let (start, size, count) = (self.long(32), self.number(54, 2), self.number(56, 2));
        (0..count).map(move |index| start + index * size)
    }

    /// Returns where in the file an address is.
    fn offset(&self, address: u64) -> u64 {
        let mut holding = self.segments().filter(|at| {
            let (start, size) = (self.long(at + 16), self.long(at + 32));
            self.number(*at, 4) == 1 && (start..start + size).contains(&address)
        });
        let at = holding.next().expect("an address in a loaded segment");
        address - self.long(at + 16) + self.long(at + 8)
    }

    /// Returns the libraries that the loader brings in for this file.
    fn needed(&self) -> Vec<String> {
        let dynamic =
            self.segments().find(|at| self.number(*at, 4) == PT_DYNAMIC).expect("linked dynamically");
        let (start, size) = (self.long(dynamic + 8), self.long(dynamic + 32));
        let entries = || (start..start + size).step_by(16).map(|at| (self.long(at), self.long(at + 8)));
        let strings = entries().find(|(tag, _)| *tag == DT_STRTAB).expect("a string table").1;
        let needed = entries().filter(|(tag, _)| *tag == DT_NEEDED);
        needed.map(|(_, name)| self.text(self.offset(strings) + name)).collect()
    }

    fn text(&self, at: u64) -> String {
        let at = usize::try_from(at).expect("an offset in the file");
        let bytes = self.0[at..].iter().take_while(|byte| **byte != 0);
        bytes.map(|byte| char::from(*byte)).collect()
    }
}

#[test]
fn the_callers_binaries_need_only_the_c_library() {
    for path in [env!("CARGO_BIN_EXE_vgpu-hook"), env!("CARGO_BIN_EXE_vgpuctl")] {
        let needed = Elf::open(path).needed();
        assert!(needed.iter().any(|name| name.starts_with("libc.so")), "{path}: {needed:?}");
        let foreign: Vec<&String> = needed
            .iter()
            .filter(|name| {
                !["libc.so", "libm.so", "libgcc_s.so", "ld-linux"].iter().any(|ours| name.starts_with(ours))
            })
            .collect();
        assert!(foreign.is_empty(), "{path} needs {foreign:?}");
    }
}
