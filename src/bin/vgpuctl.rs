//! The admin's command line; all of it is in [`vgpud::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    vgpud::cli::main()
}
