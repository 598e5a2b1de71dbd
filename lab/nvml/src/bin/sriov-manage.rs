//! The stand-in for `/usr/lib/nvidia/sriov-manage`: `-e|-d ALL|<address>`.
//!
//! What is publicly established of the real one is kept: it takes the GPU's unbind lock and fails while any
//! client has the driver, `-e` twice is harmless, all VFs are enabled. That both directions lose mixed-size mode, GPU
//! instances and the scheduler's settings is the simulation's doing. It does not ask whether a VF is in a guest: its callers must.

use std::process::ExitCode;

use nvidia_ml::lock::Unbind;
use nvidia_ml::state::{self, Gpu};

const USAGE: &str = "Usage: sriov-manage <-e|-d> <ssss:bb:dd.f|ALL>\n\
                     -e  enable the virtual functions of a GPU\n\
                     -d  disable them";

/// VFs of the boards whose number is not said by the simulation.
const DEFAULT_VFS: u32 = 32;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [way @ ("-e" | "-d"), which] = &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] else {
        eprintln!("{USAGE}");
        return ExitCode::from(if arguments.iter().any(|one| one == "-h") { 0 } else { 1 });
    };
    let known = state::addresses();
    let chosen: Vec<&String> =
        known.iter().filter(|address| *which == "ALL" || address.eq_ignore_ascii_case(which)).collect();
    if chosen.is_empty() {
        eprintln!("No NVIDIA GPU found at {which}");
        return ExitCode::FAILURE;
    }
    let results: Vec<bool> = chosen.into_iter().map(|address| manage(*way == "-e", address)).collect();
    if results.contains(&false) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Does one GPU; says what went wrong.
fn manage(enable: bool, address: &str) -> bool {
    let Some(gpu) = state::load(address).filter(Gpu::has_vfs) else {
        eprintln!("{address}: SR-IOV is not supported");
        return false;
    };
    println!("{} VFs on {address}", if enable { "Enabling" } else { "Disabling" });
    if enable && gpu.vfs > 0 {
        return true;
    }
    let Some(_unbind) = Unbind::of(address) else {
        eprintln!("Cannot obtain unbindLock for {address}");
        return false;
    };
    let count = if enable { gpu.total_vfs.unwrap_or(DEFAULT_VFS) } else { 0 };
    match state::control(address, &format!("numvfs={count}")) {
        Ok(()) => true,
        Err(refused) => {
            eprintln!("Cannot {} VFs on {address}: {refused:?}", if enable { "enable" } else { "disable" });
            false
        }
    }
}
