//! A tool of `scripts/bench`, no test: writes the host that is measured as plain files.
//!
//! `cargo test --test bench_tree -- DIRECTORY`: two GPUs with 32 VFs of 24 types each.

mod support;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else { return ExitCode::from(2) };
    support::spec::HostSpec::dual_gpu().write_to(Path::new(&directory));
    ExitCode::SUCCESS
}
