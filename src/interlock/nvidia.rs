//! Rules of NVIDIA's vGPU software.

use std::collections::{BTreeMap, BTreeSet};

use super::{Domain, Facts, Found, GpuFacts, Scheduler, SizeMode, Vgpu};

/// vGPUs in one GPU instance at most.
const MOST_IN_INSTANCE: usize = 12;

/// Time-sliced vGPUs on one GPU at most.
const MOST_ON_GPU: usize = 32;

pub(super) fn fixed_share_mixed(facts: &Facts) -> Vec<Found> {
    let both =
        |gpu: &&GpuFacts| gpu.scheduler == Some(Scheduler::FixedShare) && gpu.mode == Some(SizeMode::Mixed);
    let found = facts.gpus.iter().filter(both).map(|gpu| {
        Found::new(
            gpu.place(),
            "it has the fixed share scheduler and is in mixed-size mode; choose best effort or equal share",
        )
    });
    found.collect()
}

pub(super) fn one_size(facts: &Facts) -> Vec<Found> {
    let equal = facts.gpus.iter().filter(|gpu| gpu.mode == Some(SizeMode::Equal));
    equal
        .filter_map(|gpu| {
            let sizes: BTreeSet<u32> = gpu.made.iter().map(|vgpu| vgpu.name.gb).collect();
            let text = format!("it is in equal-size mode, and its vGPUs have {} GB", list(&sizes));
            (sizes.len() > 1).then(|| Found::new(gpu.place(), text))
        })
        .collect()
}

pub(super) fn exclusive_type(facts: &Facts) -> Vec<Found> {
    sharing(facts, |one, other| one.exclusive_type == Some(true) && one.name != other.name, "types")
}

pub(super) fn exclusive_size(facts: &Facts) -> Vec<Found> {
    sharing(facts, |one, other| one.exclusive_size == Some(true) && one.name.gb != other.name.gb, "sizes")
}

fn sharing(facts: &Facts, clash: fn(&Vgpu, &Vgpu) -> bool, what: &str) -> Vec<Found> {
    let found = facts.gpus.iter().filter_map(|gpu| {
        let all = &gpu.made;
        let pair = all.iter().find_map(|one| Some((one, all.iter().find(|other| clash(one, other))?)));
        pair.map(|(one, other)| {
            let text =
                format!("{} shares no GPU with other {what}, and {} is there too", one.name, other.name);
            Found::new(gpu.place(), text)
        })
    });
    found.collect()
}

pub(super) fn too_many(facts: &Facts) -> Vec<Found> {
    let mut found = Vec::new();
    for gpu in &facts.gpus {
        let all = &gpu.made;
        let mut instances: BTreeMap<u32, usize> = BTreeMap::new();
        all.iter().filter_map(|vgpu| vgpu.gpu_instance).for_each(|id| *instances.entry(id).or_default() += 1);
        for (id, count) in instances.into_iter().filter(|(_, count)| *count > MOST_IN_INSTANCE) {
            let text = format!("GPU instance {id} has {count} vGPUs, and at most {MOST_IN_INSTANCE} fit");
            found.push(Found::new(gpu.place(), text));
        }
        let sliced = all.iter().filter(|vgpu| vgpu.name.mig_slices.is_none()).count();
        if sliced > MOST_ON_GPU {
            let text = format!("it has {sliced} time-sliced vGPUs, and at most {MOST_ON_GPU} fit");
            found.push(Found::new(gpu.place(), text));
        }
    }
    found
}

pub(super) fn mig_scheduler(facts: &Facts) -> Vec<Found> {
    let set = facts.gpus.iter().filter(|gpu| gpu.mig == Some(true));
    set.filter_map(|gpu| {
        let scheduler = gpu.scheduler.filter(|scheduler| *scheduler != Scheduler::BestEffort)?;
        Some(Found::new(
            gpu.place(),
            format!("it is in MIG mode, where the {scheduler} scheduler has no effect"),
        ))
    })
    .collect()
}

pub(super) fn mig_without_instance(facts: &Facts) -> Vec<Found> {
    let found = facts.gpus.iter().flat_map(|gpu| {
        let wrong = |vgpu: &Vgpu| gpu.mig.is_some_and(|mig| mig != vgpu.name.mig_slices.is_some());
        let all: BTreeSet<String> =
            gpu.made.iter().filter(|vgpu| wrong(vgpu)).map(|vgpu| vgpu.name.to_string()).collect();
        let state = if gpu.mig == Some(true) { "on" } else { "off" };
        all.into_iter().map(move |name| {
            Found::new(gpu.place(), format!("MIG is {state}, and {name} needs it otherwise"))
        })
    });
    found.collect()
}

pub(super) fn ecc_series(facts: &Facts) -> Vec<Found> {
    let ecc = facts.gpus.iter().filter(|gpu| gpu.ecc == Some(true));
    let found = ecc.flat_map(|gpu| {
        let names: BTreeSet<String> = gpu
            .made
            .iter()
            .filter(|vgpu| matches!(vgpu.name.series, 'A' | 'B'))
            .map(|vgpu| vgpu.name.to_string())
            .collect();
        let text = |name| format!("ECC is on, and {name} runs without it: only C and Q series have ECC");
        names.into_iter().map(move |name| Found::new(gpu.place(), text(name)))
    });
    found.collect()
}

pub(super) fn same_board(facts: &Facts) -> Vec<Found> {
    let found = facts.domains.iter().filter_map(|domain| {
        let all = domain.vgpus();
        let first = all.first()?;
        let other = all
            .iter()
            .find(|one| (&one.name.board, one.name.series) != (&first.name.board, first.name.series))?;
        let text = format!(
            "{} and {} are of two boards or series; only the framebuffer may differ within a domain",
            first.name, other.name
        );
        Some(Found::new(domain.place(), text))
    });
    found.collect()
}

pub(super) fn exclusive_in_domain(facts: &Facts) -> Vec<Found> {
    let found = facts.domains.iter().filter_map(|domain| {
        let all = domain.vgpus();
        let one = all.iter().find(|one| {
            one.exclusive_in_domain == Some(true) && all.iter().any(|other| other.name != one.name)
        })?;
        let text = format!("{} stands beside no other type in a domain, and there is one", one.name);
        Some(Found::new(domain.place(), text))
    });
    found.collect()
}

pub(super) fn p2p(facts: &Facts) -> Vec<Found> {
    let found = several(facts).filter_map(|(domain, all)| {
        let reason = all.iter().find_map(|vgpu| {
            if vgpu.name.mig_slices.is_some() {
                return Some(format!("{} is MIG-backed", vgpu.name));
            }
            if vgpu.is_whole() == Some(false) {
                return Some(format!("{} is not its GPU's whole framebuffer", vgpu.name));
            }
            (vgpu.nvlink == Some(false)).then(|| format!("{} has no NVLink", vgpu.name))
        })?;
        let text = format!("its vGPUs cannot reach each other's memory: {reason}");
        Some(Found::new(domain.place(), text))
    });
    found.collect()
}

pub(super) fn uvm_several(facts: &Facts) -> Vec<Found> {
    let found = several(facts).filter(|(_, all)| all.iter().any(|one| one.has("enable_uvm") == Some(true)));
    let a100 = found.filter(|(_, all)| all.iter().any(|one| one.name.board.starts_with("A100")));
    a100.map(|(domain, _)| {
        Found::new(
            domain.place(),
            "it has several vGPUs with unified memory, which turns peer to peer off on A100",
        )
    })
    .collect()
}

pub(super) fn uvm_migration(facts: &Facts) -> Vec<Found> {
    const KEYS: [&str; 3] = ["enable_uvm", "enable_debugging", "enable_profiling"];
    let mut found = Vec::new();
    for domain in &facts.domains {
        for (place, _, slice) in domain.hostdevs() {
            let on = |key: &&str| slice.vgpu.as_ref().and_then(|vgpu| vgpu.has(key)) == Some(true);
            let set: Vec<&str> = KEYS.into_iter().filter(on).collect();
            if !set.is_empty() {
                let text = format!("with {} it may refuse to be saved or migrated", set.join(", "));
                found.push(Found::new(place, text));
            }
        }
    }
    found
}

fn several(facts: &Facts) -> impl Iterator<Item = (&Domain, Vec<&Vgpu>)> {
    facts.domains.iter().map(|domain| (domain, domain.vgpus())).filter(|(_, all)| all.len() > 1)
}

fn list(numbers: &BTreeSet<u32>) -> String {
    let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    texts.join(" and ")
}
