//! The rule of placement ids, as NVIDIA's open kernel modules state it (`_kvgpumgrSetHeterogeneousResources`)
//! and as the user guide's tables show it. The unit is a GiB of nominal framebuffer.

use crate::state::{Gpu, Kind, Vgpu};

/// Partitions beyond this count are not made.
const MOST_PARTITIONS: u32 = 24;

/// What decides about the rule's exceptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Before Ada: no ids in equal-size mode.
    Ampere,
    /// Ada and Hopper.
    Ada,
    /// Blackwell and later: one rule for both modes.
    Blackwell,
}

impl Family {
    /// Tells the family by the board's name.
    #[must_use]
    pub fn of(gpu: &Gpu) -> Self {
        let model = gpu.model();
        let starts = |names: &[&str]| names.iter().any(|name| model.starts_with(name));
        if model.contains("Blackwell") || starts(&["B200", "B300"]) {
            Self::Blackwell
        } else if model.contains("Ada") || starts(&["L4", "L20", "L2", "H100", "H200", "H800", "H20"]) {
            Self::Ada
        } else {
            Self::Ampere
        }
    }
}

fn gib(mib: u64) -> u32 {
    u32::try_from(mib.div_ceil(1024)).unwrap_or(u32::MAX)
}

/// Returns how much of the GPU one vGPU of a kind takes.
#[must_use]
pub fn size(gpu: &Gpu, kind: &Kind) -> u32 {
    match (Family::of(gpu), gib(gpu.framebuffer_mib), gib(kind.fb_mib)) {
        (Family::Blackwell, 96, 2) => 3,
        (_, _, size) => size,
    }
}

/// Returns the ids where a kind can sit, in order, in mixed-size or equal-size mode. `None` where the
/// GPU knows no ids in that mode, or not for that kind.
#[must_use]
pub fn supported(gpu: &Gpu, kind: &Kind, mixed: bool) -> Option<Vec<u32>> {
    if kind.gi_profile.is_some() || kind.max == 0 {
        return None;
    }
    let (region, size) = (gib(gpu.framebuffer_mib), size(gpu, kind));
    match (Family::of(gpu), mixed) {
        (Family::Blackwell, _) => Some((0..kind.max).map(|at| region * at / kind.max).collect()),
        (Family::Ampere, false) => None,
        (Family::Ada, false) => Some((0..kind.max).map(|at| at * size).collect()),
        (family, true) => Some(mixed_ids(region, size, kind.max, family)),
    }
}

fn mixed_ids(region: u32, size: u32, max: u32, family: Family) -> Vec<u32> {
    let mut ids = Vec::new();
    if max == 1 {
        ids.push(0);
    } else {
        halve(0..region, 1, true, (size, max), &mut ids);
    }
    ids.sort_unstable();
    ids.dedup();
    if region == 48 && size == 1 {
        ids.retain(|id| !denied(*id, family));
    }
    ids
}

/// Adds the ids of one partition, then those of its halves. `kind` is size and most instances.
fn halve(part: std::ops::Range<u32>, count: u32, left: bool, kind: (u32, u32), ids: &mut Vec<u32>) {
    let (size, max) = kind;
    if count > MOST_PARTITIONS || part.len() < size as usize {
        return;
    }
    if max == 2 * count {
        ids.extend([part.start, part.end - size]);
    } else if !max.is_power_of_two() && max.next_power_of_two() / 2 == count {
        ids.push(if left { part.start } else { part.end - size });
    }
    let middle = part.start + (part.end - part.start) / 2;
    halve(part.start..middle, count * 2, true, kind, ids);
    halve(middle..part.end, count * 2, false, kind, ids);
}

/// Ids of 1 GiB on boards of 48 GiB that are not used.
fn denied(id: u32, family: Family) -> bool {
    match family {
        Family::Ampere => matches!(id, 8 | 32),
        Family::Ada => matches!(id % 6, 2 | 3),
        Family::Blackwell => false,
    }
}

/// Returns the ids where one more of a kind can be made now.
#[must_use]
pub fn creatable(gpu: &Gpu, kind: &Kind, mixed: bool) -> Option<Vec<u32>> {
    let size_here = size(gpu, kind);
    let taken = |vgpu: &Vgpu| {
        let other = gpu.kind(vgpu.kind)?;
        let start = vgpu.placement?;
        Some(start..start + size(gpu, other))
    };
    let taken: Vec<_> = gpu.vgpus.iter().filter_map(taken).collect();
    let free = |id: &u32| !taken.iter().any(|taken| *id < taken.end && taken.start < id + size_here);
    let ids = supported(gpu, kind, mixed)?;
    Some(if is_creatable(gpu, kind) { ids.into_iter().filter(free).collect() } else { Vec::new() })
}

/// Returns whether one more of a kind can be made now, placement ids apart.
#[must_use]
pub fn is_creatable(gpu: &Gpu, kind: &Kind) -> bool {
    let made = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let same_kind = gpu.vgpus.iter().filter(|vgpu| vgpu.kind == kind.id).count();
    let others = || gpu.vgpus.iter().filter_map(|vgpu| gpu.kind(vgpu.kind));
    if gpu.mig != kind.gi_profile.is_some() || (gpu.has_vfs() && made(gpu.vgpus.len()) >= gpu.vfs) {
        return false;
    }
    if gpu.mig {
        // Each GPU instance of its profile carries one.
        let instances = gpu.instances.iter().filter(|one| Some(one.profile) == kind.gi_profile).count();
        return same_kind < instances;
    }
    if !gpu.mixed {
        let count = made(others().count());
        return others().all(|other| other.fb_mib == kind.fb_mib) && count < kind.max;
    }
    made(same_kind) < kind.max
}

/// Returns whether a kind can be made now, all rules taken together.
#[must_use]
pub fn fits(gpu: &Gpu, kind: &Kind) -> bool {
    is_creatable(gpu, kind) && (!gpu.mixed || creatable(gpu, kind, true).is_none_or(|ids| !ids.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(name: &str, gib: u64) -> Gpu {
        Gpu { board: format!("NVIDIA {name}"), framebuffer_mib: gib * 1024, vfs: 32, ..Gpu::default() }
    }

    fn kind(mib: u64, max: u32) -> Kind {
        Kind { id: u32::try_from(mib).expect("small"), fb_mib: mib, max, ..Kind::default() }
    }

    fn ids(gpu: &Gpu, gib: u64, max: u32) -> Vec<u32> {
        supported(gpu, &kind(gib * 1024, max), true).expect("has ids")
    }

    #[test]
    fn ids_of_48_gib_boards_are_those_of_the_table() {
        let ada = board("L40S", 48);
        assert_eq!(ids(&ada, 48, 1), [0]);
        assert_eq!(ids(&ada, 24, 2), [0, 24]);
        assert_eq!(ids(&ada, 16, 3), [0, 32]);
        assert_eq!(ids(&ada, 12, 4), [0, 12, 24, 36]);
        assert_eq!(ids(&ada, 8, 6), [0, 16, 24, 40]);
        assert_eq!(ids(&ada, 6, 8), [0, 6, 12, 18, 24, 30, 36, 42]);
        assert_eq!(ids(&ada, 4, 12), [0, 8, 12, 20, 24, 32, 36, 44]);
        assert_eq!(ids(&ada, 3, 16), (0..16).map(|at| at * 3).collect::<Vec<_>>());
        assert_eq!(ids(&ada, 2, 24), [0, 4, 6, 10, 12, 16, 18, 22, 24, 28, 30, 34, 36, 40, 42, 46]);
        assert_eq!(ids(&ada, 1, 32), [0, 5, 6, 11, 12, 17, 18, 23, 24, 29, 30, 35, 36, 41, 42, 47]);
        let ampere = ids(&board("A40", 48), 1, 32);
        assert_eq!(ampere.len(), 30);
        assert_eq!(ampere[..8], [0, 2, 3, 5, 6, 9, 11, 12]);
    }

    #[test]
    fn ids_of_other_boards_are_those_of_the_table() {
        let h100 = board("H100 80GB", 80);
        assert_eq!(ids(&h100, 16, 5), [0, 24, 40, 64]);
        assert_eq!(ids(&h100, 8, 10), [0, 12, 20, 32, 40, 52, 60, 72]);
        assert_eq!(ids(&h100, 4, 20), [0, 6, 10, 16, 20, 26, 30, 36, 40, 46, 50, 56, 60, 66, 70, 76]);
        let nvl = Gpu { framebuffer_mib: 96246, ..board("H100 NVL", 0) };
        let at = |mib, max| supported(&nvl, &kind(mib, max), true).expect("has ids");
        assert_eq!(at(23552, 4), [0, 24, 47, 71]);
        assert_eq!(at(15360, 6), [0, 32, 47, 79]);
        assert_eq!(at(11264, 8), [0, 12, 23, 36, 47, 59, 70, 83]);
        assert_eq!(at(6144, 15), [0, 17, 23, 41, 47, 64, 70, 88]);
        assert_eq!(ids(&board("L4", 24), 1, 24), [0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, 20, 21, 23]);
        let blackwell = board("RTX Pro 6000 Blackwell DC", 96);
        assert_eq!(ids(&blackwell, 2, 32)[..3], [0, 3, 6]);
        assert_eq!(ids(&blackwell, 32, 3), [0, 32, 64]);
    }

    #[test]
    fn equal_size_ids_are_known_from_ada_on() {
        let four = kind(4096, 12);
        assert_eq!(supported(&board("A40", 48), &four, false), None);
        let ids = supported(&board("L40S", 48), &four, false).expect("has ids");
        assert_eq!((ids.len(), ids[11]), (12, 44));
    }

    #[test]
    fn what_overlaps_is_not_creatable() {
        let mut gpu = Gpu { mixed: true, kinds: vec![kind(8192, 6), kind(16384, 3)], ..board("L40S", 48) };
        gpu.vgpus.push(Vgpu { kind: 16384, placement: Some(0), ..Vgpu::default() });
        assert_eq!(creatable(&gpu, &gpu.kinds[0], true), Some(vec![16, 24, 40]));
        gpu.vgpus.push(Vgpu { kind: 16384, placement: Some(32), ..Vgpu::default() });
        assert_eq!(creatable(&gpu, &gpu.kinds[0], true), Some(vec![16, 24]));
        assert!(!fits(&gpu, &gpu.kinds[1]));
    }

    #[test]
    fn in_equal_size_mode_the_first_vgpu_settles_the_size() {
        let mut gpu = Gpu { kinds: vec![kind(8192, 6), kind(16384, 3)], ..board("L40S", 48) };
        gpu.vgpus.push(Vgpu { kind: 8192, placement: Some(0), ..Vgpu::default() });
        assert!(is_creatable(&gpu, &gpu.kinds[0]));
        assert!(!is_creatable(&gpu, &gpu.kinds[1]));
    }
}
