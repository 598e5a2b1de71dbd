//! Shares of GPUs on nodes with CPU and memory.

use crate::fleet::shares::{Demand, Kind, Node, Place, Placer, Policy, Random, WHOLE};
use crate::simulate::clock::Nanoseconds;
use crate::simulate::scale::{Pace, Times, each, rate, warm_up};

/// Shapes of nodes: thousandths of a core, MiB, GPUs, model, and how many of 16 nodes have it.
const SHAPES: [(u32, u32, u8, u8, usize); 5] = [
    (128_000, 786_432, 8, 0, 7),
    (96_000, 524_288, 8, 1, 3),
    (96_000, 393_216, 4, 1, 2),
    (64_000, 262_144, 2, 2, 3),
    (32_000, 131_072, 1, 2, 1),
];
/// Shares of one GPU that are asked for, in thousandths.
const SHARES: [u16; 12] = [50, 110, 220, 230, 320, 440, 460, 470, 590, 650, 810, 1000];
/// Cores that are asked for with them.
const CORES: [u32; 5] = [2, 4, 6, 8, 12];

/// Returns nodes with `gpus` GPUs in all, mixed from a seed.
fn fleet(gpus: usize, random: &mut Random) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut left = gpus;
    while left > 0 {
        let mut at = random.below(16);
        let shape = SHAPES.iter().find(|shape| {
            let found = at < shape.4;
            at = at.saturating_sub(shape.4);
            found
        });
        let (cpu, memory, of_node, model, _) = *shape.unwrap_or(&SHAPES[0]);
        let of_node = of_node.min(u8::try_from(left).unwrap_or(8));
        nodes.push(Node::new(cpu, memory, of_node, model));
        left -= usize::from(of_node);
    }
    nodes
}

/// Returns 72 kinds of tasks, each asked for less often than the one before.
fn mix() -> Vec<(Kind, u32)> {
    let kind = |cores: u32, gpus: u8, share: u16| Kind {
        cpu: cores * 1000,
        memory: cores * 4096,
        gpus,
        share,
        models: u64::MAX,
    };
    let one = CORES.iter().flat_map(|&cores| SHARES.iter().map(move |&share| kind(cores, 1, share)));
    let cpu = CORES.iter().map(|&cores| kind(cores, 0, 0));
    let several = [2, 4, 8].into_iter().map(|gpus| kind(8 * u32::from(gpus), gpus, WHOLE));
    let models = [0b001, 0b010, 0b110, 0b011].into_iter().map(|models| Kind { models, ..kind(8, 1, WHOLE) });
    let mut kinds: Vec<Kind> = one.chain(cpu).chain(several).chain(models).collect();
    Random::new(5).shuffle(&mut kinds);
    (1..).zip(kinds).map(|(rank, kind)| (kind, 1000 / rank + 1)).collect()
}

/// A fleet that is kept half full.
struct Half {
    placer: Placer,
    live: Vec<(u32, Place)>,
    used: u64,
    capacity: u64,
}

impl Half {
    fn leave(&mut self, kinds: &[(Kind, usize)], random: &mut Random, times: &mut Times) {
        while 2 * self.used >= self.capacity {
            let (at, place) = self.live.swap_remove(random.below(self.live.len()));
            let (kind, number) = kinds[at as usize];
            times.of(|| self.placer.release(number, place));
            self.used -= u64::from(kind.milli());
        }
    }

    fn come(&mut self, at: u32, (kind, number): (Kind, usize), times: &mut Times) {
        if let Some(place) = times.of(|| self.placer.place(number)) {
            self.live.push((at, place));
            self.used += u64::from(kind.milli());
        }
    }
}

/// Measures a fleet of `gpus` GPUs on nodes of several shapes.
#[must_use]
pub fn nodes(policy: Policy, gpus: usize, decisions: usize) -> Pace {
    let mut random = Random::new(7);
    let mix = mix();
    let tasks: Vec<u32> =
        (0..).zip(&mix).flat_map(|(at, &(_, count))| std::iter::repeat_n(at, count as usize)).collect();
    let fleet = fleet(gpus, &mut random);
    let capacity = fleet.iter().map(|node| u64::from(node.idle())).sum();
    let mut placer = Placer::new(fleet, policy, Demand::new(mix.clone()), 1);
    let kinds: Vec<(Kind, usize)> = mix.iter().map(|(kind, _)| (*kind, placer.kind(kind))).collect();
    let mut half = Half { placer, live: Vec::new(), used: 0, capacity };
    let draw = |random: &mut Random| tasks[random.below(tasks.len())];
    let stream: Vec<u32> = (0..decisions).map(|_| draw(&mut random)).collect();
    let mut unheard = Times::default();
    while 2 * half.used < capacity {
        let at = draw(&mut random);
        half.come(at, kinds[at as usize], &mut unheard);
    }
    for &at in stream.iter().cycle().take(warm_up(gpus, decisions)) {
        half.leave(&kinds, &mut random, &mut unheard);
        half.come(at, kinds[at as usize], &mut unheard);
    }
    let (mut decide, mut release) = (Times::default(), Times::default());
    for &at in &stream {
        half.leave(&kinds, &mut random, &mut release);
        half.come(at, kinds[at as usize], &mut decide);
    }
    Pace {
        engine: "shares",
        policy: policy.to_string(),
        gpus,
        held: half.live.len(),
        decisions,
        per_second: rate(decisions, decide.sum),
        ns: Nanoseconds::of(decide.each),
        release_ns: Nanoseconds::of(release.each),
        bytes_per_gpu: each(half.placer.bytes(), gpus),
        // A task is its kind and its place; the caller keeps them.
        bytes_per_held: each(size_of::<(u32, Place)>(), 1),
        table_bytes: 0,
    }
}
