//! Fragmentation as Weng, Yang et al. define it (USENIX ATC 2023), in whole numbers.
//!
//! For a kind m, F(m) of a node is all its idle share when m asks for no GPU or cannot run there, and
//! otherwise the idle shares that are too small for m; F is their mean by the kinds' popularity. All
//! kinds that ask for the same share differ only in the CPU they need, so F of a node is a sum over its
//! GPUs of a table by model, CPU and idle share, and one more by the number of wholly free GPUs.
//! Popularity is counted in tasks, so that F times the number of tasks is a whole number, and two nodes
//! that are alike get the same score to the last bit.

use super::kind::Kind;
use super::node::{Node, WHOLE};

/// The part of all tasks whose kinds count.
const TYPICAL: f64 = 0.95;

/// Numbers of free GPUs, none to eight.
const FREE: usize = 9;

/// Fragmentation for one mix of tasks.
#[derive(Clone, Debug)]
pub struct Fragments {
    total: i64,
    /// The CPU needs of the kinds, ascending; a node's CPU class is the number of those it meets.
    cpus: Vec<u32>,
    /// First class to try by CPU in units of 1024.
    hint: Vec<u8>,
    /// The number of share sizes that an idle share serves.
    steps: Vec<u8>,
    sizes: usize,
    /// By model, CPU class and number of sizes: tasks that can use an idle share of that size.
    usable: Vec<i64>,
    /// By model, CPU class and free GPUs: tasks times free GPUs that several-GPU kinds can use.
    whole: Vec<i64>,
}

impl Fragments {
    /// Creates the measure for a mix: each kind with its number of tasks, in any order.
    #[must_use]
    pub fn new(mix: &[(Kind, u32)], models: usize) -> Self {
        let kinds = typical(mix);
        let mut cpus: Vec<u32> = kinds.iter().map(|(kind, _)| kind.cpu).collect();
        cpus.sort_unstable();
        cpus.dedup();
        cpus.truncate(250);
        let mut shares: Vec<u16> =
            kinds.iter().filter(|(kind, _)| kind.gpus == 1).map(|(kind, _)| kind.share).collect();
        shares.sort_unstable();
        shares.dedup();
        shares.truncate(250);
        let served = |idle: u16| shares.iter().filter(|&&share| share <= idle).count();
        let steps = (0..=WHOLE).map(|idle| u8::try_from(served(idle)).unwrap_or(u8::MAX)).collect();
        let hint = (0..1024_u32).map(|at| cpu_class(&cpus, at << 10)).collect();
        let rows = models.max(1) * (cpus.len() + 1);
        let mut made = Self {
            total: kinds.iter().map(|&(_, count)| i64::from(count)).sum::<i64>().max(1),
            sizes: shares.len() + 1,
            usable: vec![0; rows * (shares.len() + 1)],
            whole: vec![0; rows * FREE],
            cpus,
            hint,
            steps,
        };
        for (kind, count) in &kinds {
            made.count(kind, i64::from(*count), models.max(1));
        }
        made
    }

    /// Adds a kind to the tables.
    fn count(&mut self, kind: &Kind, count: i64, models: usize) {
        let classes = self.cpus.len() + 1;
        for row in 0..models * classes {
            let (model, class) = (row / classes, row % classes);
            let runs = class > self.cpus.iter().filter(|&&cpu| cpu < kind.cpu).count();
            if kind.gpus == 0 || !runs || kind.models >> model & 1 == 0 {
                continue;
            }
            if kind.gpus == 1 {
                let first = usize::from(self.steps[usize::from(kind.share)]);
                for size in first..self.sizes {
                    self.usable[row * self.sizes + size] += count;
                }
            } else {
                for free in usize::from(kind.gpus)..FREE {
                    let free_gpus = i64::try_from(free).unwrap_or(0);
                    self.whole[row * FREE + free] += count * free_gpus;
                }
            }
        }
    }

    /// Returns the number of tasks, by which the sums are multiplied.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.total
    }

    /// Returns F of a node in thousandths of a GPU, times [`Self::total`].
    #[must_use]
    pub fn of(&self, node: &Node) -> i64 {
        self.of_state(node.model(), node.cpu(), node.shares())
    }

    fn of_state(&self, model: u8, cpu: u32, shares: &[u16; 8]) -> i64 {
        let row = usize::from(model) * (self.cpus.len() + 1) + self.class(cpu);
        let usable = &self.usable[row * self.sizes..(row + 1) * self.sizes];
        let mut sum = 0;
        let mut free = 0;
        for &idle in shares {
            let size = usize::from(self.steps[usize::from(idle)]);
            sum += i64::from(idle) * (self.total - usable[size]);
            free += usize::from(idle == WHOLE);
        }
        sum - i64::from(WHOLE) * self.whole[row * FREE + free]
    }

    fn class(&self, cpu: u32) -> usize {
        let mut class = self.hint.get((cpu >> 10) as usize).map_or(0, |&hint| usize::from(hint));
        while self.cpus.get(class).is_some_and(|&need| need <= cpu) {
            class += 1;
        }
        class
    }

    /// Returns by how much F grows when `kind` is placed, times [`Self::total`], and the GPUs it takes:
    /// for a share the GPU with the least growth, the lowest number on ties.
    #[must_use]
    pub fn growth(&self, kind: &Kind, node: &Node) -> (i64, u8) {
        let before = self.of(node);
        let cpu = node.cpu() - kind.cpu;
        let gpus = node.tightest(kind);
        let mut shares = *node.shares();
        if !kind.is_share() {
            for (gpu, idle) in shares.iter_mut().enumerate() {
                *idle -= if gpus >> gpu & 1 == 1 { kind.share } else { 0 };
            }
            return (self.of_state(node.model(), cpu, &shares) - before, gpus);
        }
        let mut best = (i64::MAX, gpus);
        for gpu in 0..usize::from(node.gpus()) {
            let idle = shares[gpu];
            // A GPU like one before it gives the same.
            if idle < kind.share || shares[..gpu].contains(&idle) {
                continue;
            }
            shares[gpu] = idle - kind.share;
            let growth = self.of_state(node.model(), cpu, &shares) - before;
            shares[gpu] = idle;
            if growth < best.0 {
                best = (growth, 1 << gpu);
            }
        }
        best
    }
}

/// Returns the most frequent kinds, memory left out, that make up [`TYPICAL`] of the tasks.
fn typical(mix: &[(Kind, u32)]) -> Vec<(Kind, u32)> {
    let mut kinds: Vec<(Kind, u32)> =
        mix.iter().map(|&(kind, count)| (Kind { memory: 0, ..kind }, count)).collect();
    kinds.sort_unstable();
    kinds.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        kept.1 += if same { next.1 } else { 0 };
        same
    });
    kinds.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let all: u32 = kinds.iter().map(|&(_, count)| count).sum();
    let mut seen = 0;
    kinds.retain(|&(_, count)| {
        let kept = f64::from(seen) < TYPICAL * f64::from(all);
        seen += count;
        kept
    });
    kinds
}

fn cpu_class(cpus: &[u32], cpu: u32) -> u8 {
    u8::try_from(cpus.iter().filter(|&&need| need <= cpu).count()).unwrap_or(u8::MAX)
}
