//! The service.

use std::process::ExitCode;

use vgpud::backend::helper;
use vgpud::config::Paths;
use vgpud::service;

fn main() -> ExitCode {
    let paths = Paths::from_env();
    match std::env::args().nth(1).as_deref() {
        Some(helper::ARGUMENT) => helper::main(&paths),
        Some(_) => ExitCode::from(service::usage()),
        None => service::main(&paths),
    }
}
