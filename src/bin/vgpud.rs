//! The service.

use std::process::ExitCode;

use vgpud::backend::helper;
use vgpud::config::Paths;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(helper::ARGUMENT) {
        return helper::main(&Paths::from_env());
    }
    ExitCode::SUCCESS
}
