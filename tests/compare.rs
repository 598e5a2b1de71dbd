//! The program that performs operations on the real kernel of the lab, for `tests/lab/compare.rs`:
//!
//!     compare COUNT SEED...
//!
//! It changes the host it runs on, and refuses any but the lab.

#![expect(clippy::expect_used, clippy::disallowed_methods, reason = "a program of the tests")]

#[path = "compare/mod.rs"]
mod program;
#[path = "compare/real.rs"]
mod real;

use std::io::{BufWriter, Write as _};
use std::path::Path;

fn main() {
    assert!(Path::new("/etc/vgpud-lab").exists(), "this is not the lab");
    let numbers = std::env::args().skip(1).map(|word| word.parse::<u64>().expect("numbers"));
    let numbers: Vec<u64> = numbers.collect();
    let [count, seeds @ ..] = &numbers[..] else { panic!("compare COUNT SEED...") };
    let mut out = BufWriter::new(std::io::stdout().lock());
    for seed in seeds {
        writeln!(out, "seed {seed}").expect("stdout");
        let ops = program::sequence(*seed, usize::try_from(*count).expect("few"));
        let mut host = real::Real::default();
        let mut tell = |line: String| writeln!(out, "{line}").expect("stdout");
        let performed = program::perform(&mut host, &ops, &mut tell);
        writeln!(out, "performed {performed}").expect("stdout");
        out.flush().expect("stdout");
    }
}
