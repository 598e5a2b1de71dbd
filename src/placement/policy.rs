//! The policies: what each makes of one place. Functions of their arguments.
//!
//! A place's [`Score`] is compared by tier, then value, then tie, each the least first; then the parent's name
//! and the GPU's identity decide, so that no two places are equal. The tier comes from rules, not from a policy:
//!
//! | policy | value | tie |
//! |---|---|---|
//! | `most-free` | − left of the type on the parent | − left on the whole GPU |
//! | `first-fit` | 0 | 0 |
//! | `round-robin` | how many GPUs after the last one, in the order of their names | − left of the type |
//! | `least-loaded` | busy share of the GPU, else its used share, in thousandths | − left of the type |
//! | `pack` | − used share of the GPU | left on the whole GPU |
//! | `spread` | slices on the GPU | used share of the GPU |
//! | `best-fit` | what is left on the GPU afterwards: MiB, or slices of the type | left of the type afterwards |
//! | `random` | a hash of the lot and the GPU | a hash of the lot and the parent |
//! | `priority` | place in the profile's order | − left of the type |
//!
//! The *used share* is of the memory, where the driver tells the sizes of its types, else of the slices: those that
//! there are over those and what is left.

use crate::model::{DeviceName, Gpu, GpuId, Policy, Score};
use crate::placement::usage::Usage;

/// A place as a policy sees it.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) parent: &'a DeviceName,
    /// How many of the type the parent can give.
    pub(super) left: u32,
    /// How many all parents of its GPU can give.
    pub(super) of_gpu: u32,
    pub(super) usage: Usage,
    /// MiB of one slice, where the driver says.
    pub(super) each: Option<u64>,
    pub(super) busy: Option<u32>,
    pub(super) tier: u8,
    /// Its GPU's number in the order of names, of how many, and that of the GPU used last.
    pub(super) ring: Ring,
    /// Its number in the profile's order.
    pub(super) rank: usize,
}

/// Where a GPU is in the round of all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ring {
    pub(super) at: usize,
    pub(super) of: usize,
    pub(super) last: Option<usize>,
}

impl Ring {
    /// Returns how many GPUs come between the last one and this one.
    fn steps(self) -> usize {
        let first = self.last.map_or(0, |last| last + 1);
        (self.at + self.of).saturating_sub(first % self.of.max(1)) % self.of.max(1)
    }
}

/// What the same request already put on the GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) slices: u32,
    pub(super) mib: u64,
}

/// Says what a policy makes of a place. `seed` is the lot that is drawn from.
pub(super) fn score(policy: Policy, place: &Place<'_>, placed: Placed, seed: u64) -> Score {
    let left = i64::from(place.left.saturating_sub(placed.slices));
    let of_gpu = i64::from(place.of_gpu.saturating_sub(placed.slices));
    let share = share(place, placed);
    let (value, tie, text) = match policy {
        Policy::Host | Policy::MostFree => (-left, -of_gpu, format!("{left} left, {of_gpu} on its GPU")),
        Policy::FirstFit => (0, 0, "by name".to_owned()),
        Policy::RoundRobin => {
            let steps = number(place.ring.steps());
            (steps, -left, format!("{steps} after the last one"))
        }
        Policy::LeastLoaded => {
            let added = share - self::share(place, Placed::default());
            match place.busy {
                Some(busy) => (i64::from(busy) + added, -left, format!("busy {}", percent(i64::from(busy)))),
                None => (share, -left, format!("used {}, not measured", percent(share))),
            }
        }
        Policy::Pack => (-share, of_gpu, format!("used {}", percent(share))),
        Policy::Spread => {
            let slices = i64::from(place.usage.slices.saturating_add(placed.slices));
            (slices, share, format!("{slices} slices, used {}", percent(share)))
        }
        Policy::BestFit => best_fit(place, placed, left, of_gpu),
        Policy::Random => {
            let lot = |text: &str| i64::try_from(hash(seed, text) >> 1).unwrap_or(i64::MAX);
            let drawn = lot(place.gpu.id.as_str());
            (drawn, lot(place.parent.as_str()), format!("lot {:08x}", drawn >> 31))
        }
        Policy::Priority => {
            let rank = number(place.rank);
            (rank, -left, format!("number {} of the order", rank + 1))
        }
    };
    Score { tier: place.tier, value, tie, text }
}

fn best_fit(place: &Place<'_>, placed: Placed, left: i64, of_gpu: i64) -> (i64, i64, String) {
    match (place.usage.memory, place.each) {
        (Some(memory), Some(each)) => {
            let rest = memory.free().saturating_sub(placed.mib).saturating_sub(each);
            (i64::try_from(rest).unwrap_or(i64::MAX), left - 1, format!("leaves {rest} MiB"))
        }
        _ => (of_gpu - 1, left - 1, format!("leaves {} of the type", (of_gpu - 1).max(0))),
    }
}

/// The used share of a GPU in thousandths.
fn share(place: &Place<'_>, placed: Placed) -> i64 {
    let (used, total) = match place.usage.memory {
        Some(memory) => (memory.used + placed.mib, memory.total),
        None => {
            let slices = u64::from(place.usage.slices) + u64::from(placed.slices);
            (slices, u64::from(place.usage.slices) + u64::from(place.of_gpu))
        }
    };
    i64::try_from(used.saturating_mul(1000) / total.max(1)).unwrap_or(i64::MAX)
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn percent(thousandths: i64) -> String {
    format!("{}.{} %", thousandths / 10, thousandths % 10)
}

/// Makes a lot of what distinguishes one decision from another: the same words, the same lot.
#[must_use]
pub fn seed(allocation: &str, generation: u64) -> u64 {
    hash(generation, allocation)
}

/// FNV-1a over the text, started with `seed`, and mixed as splitmix64 does: it must be the same for ever.
fn hash(seed: u64, text: &str) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let fold = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut mixed = text.bytes().fold(start, fold);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Returns a place's number in an order of GPUs and parents; one that is not named comes after all that are.
pub(super) fn rank(order: &[String], gpu: &Gpu, parent: &DeviceName) -> usize {
    let address = gpu.pci.as_ref().map(|pci| pci.address);
    let means = |name: &String| {
        let text = name.as_str();
        gpu.id.as_str() == text
            || gpu.name.as_str() == text
            || parent.as_str() == text
            || (address.is_some() && text.parse().ok() == address)
    };
    order.iter().position(means).unwrap_or(order.len())
}

/// Returns where a GPU is in the round of those that are sorted here.
pub(super) fn ring(sorted: &[&GpuId], gpu: &GpuId, last: Option<&GpuId>) -> Ring {
    let at = |wanted: &GpuId| sorted.iter().position(|one| *one == wanted);
    Ring { at: at(gpu).unwrap_or(0), of: sorted.len(), last: last.and_then(at) }
}

#[cfg(test)]
mod tests;
