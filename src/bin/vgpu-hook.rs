//! What libvirt runs at each step of a domain's life; all of it is in [`vgpud::hook`].

use std::process::ExitCode;

fn main() -> ExitCode {
    vgpud::hook::main()
}
