//! Where GPU instances may sit: seven compute and eight memory slices of a GPU with 80 GB, as NVIDIA's MIG user guide
//! shows them for A100 and H100.

use crate::state::{Gpu, Kind};

/// Compute and memory slices of a GPU.
const COMPUTE: u32 = 7;
const MEMORY: u32 = 8;
/// GB of a memory slice.
const SLICE_GB: u32 = 10;

/// Returns compute and memory slices of a profile such as `1g.10gb+me`.
#[must_use]
pub fn slices(profile: &str) -> Option<(u32, u32)> {
    let (compute, rest) = profile.split_once("g.")?;
    let gigabytes: u32 = rest.split_once("gb")?.0.parse().ok()?;
    Some((compute.parse().ok()?, gigabytes / SLICE_GB))
}

/// Returns the memory slices where one more instance of a kind's profile could begin, in order; none when as many as there
/// may be exist.
#[must_use]
pub fn starts(gpu: &Gpu, kind: &Kind) -> Vec<u32> {
    let Some((compute, memory)) = slices(&kind.gi_name).filter(|(_, memory)| *memory > 0) else {
        return Vec::new();
    };
    let made = gpu.instances.iter().filter(|one| Some(one.profile) == kind.gi_profile).count();
    if !u32::try_from(made).is_ok_and(|made| made < kind.gis) {
        return Vec::new();
    }
    let is_free = |start: u32| {
        gpu.instances.iter().all(|one| start + memory <= one.start || one.start + one.size <= start)
    };
    let all = (0..MEMORY / memory).map(|at| at * memory);
    all.filter(|start| start + compute <= COMPUTE && is_free(*start)).collect()
}

/// Returns how many more instances of a kind's profile fit.
#[must_use]
pub fn free(gpu: &Gpu, kind: &Kind) -> u32 {
    let made = gpu.instances.iter().filter(|one| Some(one.profile) == kind.gi_profile).count();
    let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    count(starts(gpu, kind).len()).min(kind.gis.saturating_sub(count(made)))
}

/// Returns the number by which the library's calls ask for a profile (`NVML_GPU_INSTANCE_PROFILE_*`), which is not the
/// profile's id.
#[must_use]
pub fn number(gpu: &Gpu, kind: &Kind) -> Option<u32> {
    let (compute, memory) = slices(&kind.gi_name)?;
    let of_one = gpu.kinds.iter().filter_map(|one| slices(&one.gi_name)).filter(|(compute, _)| *compute == 1);
    let least = of_one.map(|(_, memory)| memory).min();
    Some(match (compute, kind.gi_name.split_once('+')) {
        (1, Some((_, "me"))) => 7,
        (1, None) if Some(memory) != least => 9,
        (1, None) => 0,
        (2, None) => 1,
        (3, None) => 2,
        (4, None) => 3,
        (7, None) => 4,
        _ => return None,
    })
}
