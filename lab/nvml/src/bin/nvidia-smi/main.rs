//! The stand-in for `nvidia-smi`, as far as vGPU hosts need it: `vgpu -q`, `vgpu -s|-c [-v]`, `vgpu -ss`,
//! `vgpu -i N -shm 1|0`, `-i N -mig 1|0`, `-L` and `mig` (`mig.rs`). Field names are those of NVIDIA's guides; the layout around
//! them is not promised.

mod mig;
mod session;

use std::process::ExitCode;

use nvidia_ml::placement;
use nvidia_ml::state::{self, Gpu, Kind, Refused};

/// Exit codes of the real one: bad arguments, no such GPU, a GPU that is in use, not supported.
const USAGE: u8 = 2;
const NOT_FOUND: u8 = 6;
const IN_USE: u8 = 19;
const NOT_SUPPORTED: u8 = 3;
const NO_ROOM: u8 = 23;

/// What is asked for, from the arguments.
#[derive(Debug, Default)]
struct Asked {
    gpu: Option<String>,
    verbose: bool,
    verb: Option<Verb>,
}

#[derive(Clone, Copy, Debug)]
enum Verb {
    List,
    Query,
    Supported,
    Creatable,
    Scheduler,
    SetMixed(bool),
    SetMig(bool),
}

/// Returns the exit code for what the simulation refused.
const fn code_of(refused: Refused) -> u8 {
    match refused {
        Refused::InUse => IN_USE,
        Refused::Lost => NOT_FOUND,
        Refused::NoRoom => NO_ROOM,
        Refused::Invalid | Refused::NotSupported | Refused::Forbidden | Refused::Failed => NOT_SUPPORTED,
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = session::Session::begin().and_then(|_session| match arguments.split_first() {
        Some((first, rest)) if first == "mig" => mig::run(rest),
        _ => run(&arguments),
    });
    done.map_or_else(ExitCode::from, |()| ExitCode::SUCCESS)
}

/// Returns the GPUs that an `-i` names, with their numbers.
fn chosen(gpu: Option<&str>) -> Result<Vec<(usize, Gpu)>, u8> {
    let all = state::addresses().into_iter().filter_map(|address| state::load(&address));
    let named = |(index, one): &(usize, Gpu)| match gpu {
        None => true,
        Some(name) if name.contains(':') => one.bus_id().ends_with(&name.to_ascii_uppercase()),
        Some(name) => *name == index.to_string() || *name == one.uuid,
    };
    let found: Vec<(usize, Gpu)> = all.enumerate().filter(named).collect();
    if found.is_empty() {
        println!("No devices were found");
        return Err(NOT_FOUND);
    }
    Ok(found)
}

/// Says that the arguments are nothing.
fn usage() -> u8 {
    println!("Invalid combination of input arguments. Please run 'nvidia-smi -h' for help.");
    USAGE
}

fn run(arguments: &[String]) -> Result<(), u8> {
    let (asked, verb) = parse(arguments).ok_or_else(usage)?;
    for (index, gpu) in &chosen(asked.gpu.as_deref())? {
        let index = *index;
        match verb {
            Verb::SetMixed(on) => {
                set(gpu, gpu.can_mix(), !gpu.vgpus.is_empty(), "mode", if on { "mixed" } else { "equal" })
            }
            Verb::SetMig(on) => set(gpu, has_mig(gpu), !on && gpu.vfs > 0, "mig", if on { "1" } else { "0" }),
            _ => show(index, gpu, verb, asked.verbose),
        }?;
    }
    Ok(())
}

fn parse(arguments: &[String]) -> Option<(Asked, Verb)> {
    let mut asked = Asked::default();
    let mut rest = arguments.iter().map(String::as_str).peekable();
    let vgpu = rest.next_if_eq(&"vgpu").is_some();
    while let Some(word) = rest.next() {
        let mut switch = || match rest.next() {
            Some("1") => Some(true),
            Some("0") => Some(false),
            _ => None,
        };
        match (vgpu, word) {
            (true, "-q") => asked.verb = Some(Verb::Query),
            (true, "-s") => asked.verb = Some(Verb::Supported),
            (true, "-c") => asked.verb = Some(Verb::Creatable),
            (true, "-ss") => asked.verb = Some(Verb::Scheduler),
            (true, "-shm") => asked.verb = Some(Verb::SetMixed(switch()?)),
            (false, "-mig") => asked.verb = Some(Verb::SetMig(switch()?)),
            (false, "-L") => asked.verb = Some(Verb::List),
            (true, "-v") => asked.verbose = true,
            (_, "-i") => asked.gpu = Some(rest.next()?.to_owned()),
            _ => return None,
        }
    }
    let verb = asked.verb?;
    Some((asked, verb))
}

fn has_mig(gpu: &Gpu) -> bool {
    gpu.kinds.iter().any(|kind| kind.gi_profile.is_some())
}

/// Changes one setting, by the rules of the real one.
fn set(gpu: &Gpu, possible: bool, in_the_way: bool, key: &str, value: &str) -> Result<(), u8> {
    let refused = match (possible, in_the_way) {
        (false, _) => Err(NOT_SUPPORTED),
        (true, true) => Err(IN_USE),
        (true, false) => state::control(&gpu.address, &format!("{key}={value}")).map_err(code_of),
    };
    match refused {
        Ok(()) => println!("Set {key} to {value} for GPU {}", gpu.bus_id()),
        Err(IN_USE) => println!("Unable to set {key} for GPU {}: In use by another client", gpu.bus_id()),
        Err(_) => println!("Unable to set {key} for GPU {}: Not Supported", gpu.bus_id()),
    }
    refused
}

fn show(index: usize, gpu: &Gpu, verb: Verb, verbose: bool) -> Result<(), u8> {
    match verb {
        Verb::List => println!("GPU {index}: {} (UUID: {})", gpu.board, gpu.uuid),
        Verb::Query => query(gpu),
        Verb::Supported | Verb::Creatable => {
            println!("GPU {}", gpu.bus_id());
            let supported = matches!(verb, Verb::Supported);
            for kind in gpu.kinds.iter().filter(|kind| supported || placement::fits(gpu, kind)) {
                if verbose { details(gpu, kind, supported) } else { println!("    {}", kind.name) }
            }
        }
        Verb::Scheduler => {
            println!("GPU {}", gpu.bus_id());
            field(4, "vGPU scheduler policy", &gpu.scheduler);
            field(4, "Time Slice(ns)", &gpu.time_slice_ns.to_string());
        }
        Verb::SetMixed(_) | Verb::SetMig(_) => {}
    }
    Ok(())
}

fn query(gpu: &Gpu) {
    println!("GPU {}", gpu.bus_id());
    let running: Vec<_> = gpu.vgpus.iter().filter(|vgpu| vgpu.running).collect();
    field(4, "Active vGPUs", &running.len().to_string());
    for vgpu in running {
        println!("    vGPU ID                               : {}", vgpu.id);
        let kind = gpu.kind(vgpu.kind);
        field(8, "VM UUID", vgpu.vm().as_deref().unwrap_or("N/A"));
        field(8, "vGPU Name", kind.map_or("N/A", |kind| &kind.name));
        field(8, "vGPU Type", &vgpu.kind.to_string());
        field(8, "Placement ID", &vgpu.placement.map_or("N/A".to_owned(), |id| id.to_string()));
        let total = kind.map_or(0, |kind| kind.fb_mib);
        field(8, "FB Memory Usage", &format!("{} MiB of {total} MiB", vgpu.fb_used_mib));
    }
}

fn details(gpu: &Gpu, kind: &Kind, supported: bool) {
    println!("    vGPU Type ID                          : {:#x}", kind.id);
    field(8, "Name", &kind.name);
    field(8, "FB Memory", &format!("{} MiB", kind.fb_mib));
    field(8, "Max Instances", &kind.max.to_string());
    let profile = kind.gi_profile.map_or("N/A".to_owned(), |profile| profile.to_string());
    field(8, "GPU Instance Profile ID", &profile);
    field(8, "Placement Size", &placement::size(gpu, kind).to_string());
    let (name, ids) = if supported {
        ("Supported Placement IDs", placement::supported(gpu, kind, gpu.mixed))
    } else {
        ("Creatable Placement IDs", placement::creatable(gpu, kind, gpu.mixed))
    };
    let ids = ids.map(|ids| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    field(8, name, ids.as_deref().unwrap_or("N/A"));
}

fn field(indent: usize, name: &str, value: &str) {
    let width = 38_usize.saturating_sub(indent);
    println!("{:indent$}{name:width$}: {value}", "");
}
