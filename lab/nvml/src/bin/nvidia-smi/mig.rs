//! `nvidia-smi mig`: `-lgip`, `-lgi`, `-cgi PROFILE[,PROFILE…] [-C]`, `-dgi [-gi ID[,ID…]]`, each with `-i GPU`.
//! A profile is named by its number or its name. Compute instances (`-C`) come with their GPU instance here and
//! are not told apart from it.

use nvidia_ml::partition::free;
use nvidia_ml::state::{self, Gpu, Instance, Kind};

use super::{IN_USE, NO_ROOM, NOT_FOUND, USAGE, chosen, code_of, usage};

#[derive(Debug)]
enum Verb {
    Profiles,
    List,
    Create(Vec<String>),
    Destroy,
}

pub(super) fn run(arguments: &[String]) -> Result<(), u8> {
    let (mut gpu, mut verb, mut ids) = (None, None, Vec::new());
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(word) = rest.next() {
        match word {
            "-i" => gpu = Some(rest.next().ok_or_else(usage)?),
            "-lgip" => verb = Some(Verb::Profiles),
            "-lgi" => verb = Some(Verb::List),
            "-cgi" => verb = Some(Verb::Create(list(rest.next().ok_or_else(usage)?))),
            "-dgi" => verb = Some(Verb::Destroy),
            "-gi" => ids = list(rest.next().ok_or_else(usage)?),
            "-C" => {}
            _ => return Err(usage()),
        }
    }
    let verb = verb.ok_or_else(usage)?;
    let gpus: Vec<(usize, Gpu)> = chosen(gpu)?.into_iter().filter(|(_, gpu)| gpu.mig).collect();
    if gpus.is_empty() {
        println!("No MIG-enabled devices found.");
        return Err(NOT_FOUND);
    }
    match verb {
        Verb::Profiles => profiles(&gpus),
        Verb::List => instances(&gpus),
        Verb::Create(names) => {
            return gpus
                .iter()
                .try_for_each(|(index, gpu)| names.iter().try_for_each(|name| create(*index, gpu, name)));
        }
        Verb::Destroy => return gpus.iter().try_for_each(|(index, gpu)| destroy(*index, gpu, &ids)),
    }
    Ok(())
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

const LINE: &str = "+-------------------------------------------------------+";

fn profiles(gpus: &[(usize, Gpu)]) {
    println!("{LINE}\n| GPU instance profiles:                                |");
    println!("| GPU   Name               ID    Instances              |");
    println!("|                                Free/Total             |\n{LINE}");
    for (index, gpu) in gpus {
        for kind in gpu.kinds.iter().filter(|kind| kind.gi_profile.is_some()) {
            let (name, id) = (format!("MIG {}", kind.gi_name), kind.gi_profile.unwrap_or_default());
            println!("| {index:>3}  {name:<18} {id:>3} {:>5}/{:<17}   |", free(gpu, kind), kind.gis);
        }
    }
    println!("{LINE}");
}

fn instances(gpus: &[(usize, Gpu)]) {
    println!("{LINE}\n| GPU instances:                                        |");
    println!("| GPU   Name             Profile  Instance   Placement  |");
    println!("|                          ID       ID       Start:Size |\n{LINE}");
    let all = gpus.iter().flat_map(|(index, gpu)| gpu.instances.iter().map(move |one| (index, one)));
    for (index, Instance { id, profile, name, start, size }) in all.clone() {
        let (name, place) = (format!("MIG {name}"), format!("{start}:{size}"));
        println!("| {index:>3}  {name:<18} {profile:>4} {id:>8}   {place:>10}     |");
    }
    if all.count() == 0 {
        println!("| No GPU instances found                                |");
    }
    println!("{LINE}");
}

fn create(index: usize, gpu: &Gpu, wanted: &str) -> Result<(), u8> {
    let is_wanted = |kind: &&Kind| {
        kind.gi_profile.is_some_and(|id| id.to_string() == wanted)
            || kind.gi_name == wanted && !wanted.is_empty()
    };
    let Some(kind) = gpu.kinds.iter().find(is_wanted) else {
        println!("Unable to parse GPU instance profile {wanted}: Invalid Argument");
        return Err(USAGE);
    };
    let (name, id) = (&kind.gi_name, kind.gi_profile.unwrap_or_default());
    let done = state::control(&gpu.address, &format!("gi_create={name}")).map_err(code_of);
    match done {
        Ok(()) => println!(
            "Successfully created GPU instance on GPU {index:>2} using profile MIG {name} (ID {id:>2})"
        ),
        Err(code) => {
            let why = if code == NO_ROOM { "Insufficient Resources" } else { "Not Supported" };
            println!("Unable to create a GPU instance on GPU {index:>2} using profile {id}: {why}");
        }
    }
    done
}

fn destroy(index: usize, gpu: &Gpu, ids: &[String]) -> Result<(), u8> {
    let chosen: Vec<&Instance> =
        gpu.instances.iter().filter(|one| ids.is_empty() || ids.contains(&one.id.to_string())).collect();
    if chosen.is_empty() {
        println!("No GPU instances found: Not Found");
        return Err(NOT_FOUND);
    }
    for Instance { id, .. } in chosen {
        let used = gpu.vgpus.iter().any(|vgpu| vgpu.gi == Some(*id));
        let done = match used {
            true => Err(IN_USE),
            false => state::control(&gpu.address, &format!("gi_destroy={id}")).map_err(code_of),
        };
        match done {
            Ok(()) => println!("Successfully destroyed GPU instance ID {id:>2} from GPU {index:>2}"),
            Err(code) => {
                println!(
                    "Unable to destroy GPU instance ID {id:>2} from GPU {index:>2}: In use by another client"
                );
                return Err(code);
            }
        }
    }
    Ok(())
}
