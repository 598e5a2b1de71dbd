use super::learn::{Effort, learn};
use super::*;

/// A small fleet of three shapes, and kinds of every class.
fn fleet(random: &mut Random) -> (Vec<Node>, Vec<(Kind, u32)>) {
    let shapes = [(96_000, 400_000, 8, 0), (104_000, 500_000, 2, 1), (32_000, 130_000, 4, 2)];
    let shape = |(cpu, memory, gpus, model)| Node::new(cpu, memory, gpus, model);
    let nodes = (0..40).map(|_| shape(shapes[random.below(3)])).collect();
    let kind = |cpu, gpus, share, models| Kind { cpu, memory: 5000, gpus, share, models };
    let mix = vec![
        (kind(8000, 0, 0, u64::MAX), 10),
        (kind(3000, 1, 810, u64::MAX), 20),
        (kind(8000, 1, 470, u64::MAX), 15),
        (kind(4000, 1, 230, 0b10), 8),
        (kind(11_000, 1, WHOLE, u64::MAX), 25),
        (kind(16_000, 2, WHOLE, u64::MAX), 3),
        (kind(48_000, 8, WHOLE, u64::MAX), 2),
    ];
    (nodes, mix)
}

/// A second, dumber book: what each GPU and node has promised.
struct Book {
    free: Vec<(u32, u32, Vec<u32>)>,
}

impl Book {
    fn new(nodes: &[Node]) -> Self {
        let row = |node: &Node| (node.cpu(), node.memory(), vec![1000; usize::from(node.gpus())]);
        Self { free: nodes.iter().map(row).collect() }
    }

    fn has_room(&self, nodes: &[Node], kind: &Kind) -> bool {
        self.free.iter().zip(nodes).any(|((cpu, memory, gpus), node)| {
            let good = gpus.iter().filter(|free| **free >= u32::from(kind.share)).count();
            let model = kind.gpus == 0 || kind.models >> node.model() & 1 == 1;
            *cpu >= kind.cpu && *memory >= kind.memory && model && good >= usize::from(kind.gpus)
        })
    }

    fn take(&mut self, kind: &Kind, place: Place) {
        let (cpu, memory, gpus) = &mut self.free[place.node as usize];
        *cpu = cpu.checked_sub(kind.cpu).expect("CPU is promised once");
        *memory = memory.checked_sub(kind.memory).expect("memory is promised once");
        assert_eq!(place.gpus.count_ones(), u32::from(kind.gpus));
        for gpu in (0..8).filter(|gpu| place.gpus >> gpu & 1 == 1) {
            gpus[gpu] = gpus[gpu].checked_sub(u32::from(kind.share)).expect("a share is promised once");
        }
    }

    fn give(&mut self, kind: &Kind, place: Place) {
        let (cpu, memory, gpus) = &mut self.free[place.node as usize];
        *cpu += kind.cpu;
        *memory += kind.memory;
        (0..8).filter(|gpu| place.gpus >> gpu & 1 == 1).for_each(|gpu| gpus[gpu] += u32::from(kind.share));
    }
}

#[test]
fn every_policy_promises_once_refuses_truly_and_answers_as_a_scan_does() {
    for policy in Policy::all() {
        let mut random = Random::new(11);
        let (nodes, mix) = fleet(&mut random);
        let mut placer = Placer::new(nodes.clone(), policy, Demand::new(mix.clone()), 5);
        let mut book = Book::new(&nodes);
        let mut held: Vec<(usize, Kind, Place)> = Vec::new();
        for _ in 0..1500 {
            if random.below(100) < 35 && !held.is_empty() {
                let (number, kind, place) = held.swap_remove(random.below(held.len()));
                placer.release(number, place);
                book.give(&kind, place);
                continue;
            }
            let kind = mix[random.below(mix.len())].0;
            let number = placer.kind(&kind);
            let by_scan = placer.clone().decide_by_scan(number);
            let place = placer.place(number);
            assert_eq!(place, by_scan, "{policy}");
            assert_eq!(place.is_some(), book.has_room(placer.nodes(), &kind), "{policy}: a refusal is true");
            if let Some(place) = place {
                book.take(&kind, place);
                held.push((number, kind, place));
            }
        }
        for (number, _, place) in held {
            placer.release(number, place);
        }
        assert_eq!(placer.nodes(), nodes, "{policy}: giving everything back restores the fleet");
    }
}

#[test]
fn the_order_in_which_kinds_are_made_known_changes_nothing() {
    for policy in Policy::all() {
        let mut random = Random::new(2);
        let (nodes, mut mix) = fleet(&mut random);
        let stream: Vec<Kind> = (0..400).map(|_| mix[random.below(mix.len())].0).collect();
        let run = |mix: &[(Kind, u32)]| {
            let mut placer = Placer::new(nodes.clone(), policy, Demand::new(mix.to_vec()), 9);
            for (kind, _) in mix {
                placer.kind(kind);
            }
            let place = |kind| {
                let number = placer.kind(kind);
                placer.place(number)
            };
            stream.iter().map(place).collect::<Vec<_>>()
        };
        let before = run(&mix);
        random.shuffle(&mut mix);
        assert_eq!(before, run(&mix), "{policy}");
    }
}

#[test]
fn what_is_learned_survives_its_file_and_decides_alike() {
    let (nodes, mix) = fleet(&mut Random::new(4));
    let effort = Effort { rounds: 4, runs: 2, trials: 4, ..Effort::default() };
    let lesson = learn(&nodes, &Demand::new(mix.clone()), 1, effort);
    assert!(lesson.trials[2] > 0.0, "a table was tried");
    let again = learn(&nodes, &Demand::new(mix), 1, effort);
    assert_eq!(lesson.values, again.values, "the same seed learns the same");
    if let Some(values) = lesson.values {
        let text = serde_json::to_string(&values).unwrap();
        assert_eq!(Values::parse(&text).unwrap(), values);
        assert!(Values::parse(&text.replace("\"version\":1", "\"version\":9")).is_err());
    }
}

#[test]
fn fragmentation_is_what_the_paper_defines() {
    let (nodes, mix) = fleet(&mut Random::new(8));
    let fragments = Fragments::new(&mix, 3);
    // The rarest kind is outside the typical ones only where the rest makes up 95 %.
    let total: u32 = 81;
    assert_eq!(fragments.total(), i64::from(total));
    let mut node = nodes[0].clone();
    let share = mix[1].0;
    node.take(&share, 1);
    let naive: i64 = mix[..mix.len() - 1]
        .iter()
        .map(|(kind, count)| {
            let idle = i64::from(node.idle());
            let runs = node.cpu() >= kind.cpu
                && kind.models >> node.model() & 1 == 1
                && node.shares().iter().filter(|idle| **idle >= kind.share).count() >= usize::from(kind.gpus);
            let small = node.shares().iter().filter(|idle| **idle < kind.share).map(|idle| i64::from(*idle));
            i64::from(*count) * if kind.gpus == 0 || !runs { idle } else { small.sum() }
        })
        .sum();
    assert_eq!(fragments.of(&node), naive);
}

/// Whether any single move makes room, by trying all of them.
fn any_move_helps(book: &Book, nodes: &[Node], held: &[(usize, Kind, Place)], kind: &Kind) -> bool {
    held.iter().any(|(_, moved, from)| {
        let mut book = Book { free: book.free.clone() };
        book.give(moved, *from);
        let good = |book: &Book, kind: &Kind, node: usize, set: u8| {
            let (cpu, memory, gpus) = &book.free[node];
            let model = kind.gpus == 0 || kind.models >> nodes[node].model() & 1 == 1;
            let free = |gpu: usize| gpus.get(gpu).is_some_and(|free| *free >= u32::from(kind.share));
            *cpu >= kind.cpu
                && *memory >= kind.memory
                && model
                && (0..8).filter(|gpu| set >> gpu & 1 == 1).all(free)
        };
        let sets = (0..=u8::MAX).filter(|set| set.count_ones() == u32::from(kind.gpus));
        let mut places = sets.filter(|&gpus| good(&book, kind, from.node as usize, gpus));
        // Nothing but the node that is left can have room now, as the kind was refused.
        places.any(|gpus| {
            let mut book = Book { free: book.free.clone() };
            book.take(kind, Place { gpus, ..*from });
            book.has_room(nodes, moved)
        })
    })
}

#[test]
fn a_rescue_loses_nothing_places_nothing_twice_and_finds_a_move_if_there_is_one() {
    let mut rescued = 0;
    let mut hopeless = 0;
    let policies = [Policy::FirstFit, Policy::Fgd, Policy::Formula, Policy::Spread];
    for (policy, seed) in policies.into_iter().flat_map(|policy| (0..25).map(move |seed| (policy, seed))) {
        let mut random = Random::new(seed);
        let (mut nodes, _) = fleet(&mut random);
        nodes.truncate(5);
        let kind = |cpu, gpus, share| Kind { cpu, memory: 5000, gpus, share, models: u64::MAX };
        let mix: Vec<(Kind, u32)> = [
            kind(2000, 0, 0),
            kind(6000, 1, 200),
            kind(9000, 1, 550),
            kind(3000, 1, WHOLE),
            kind(24_000, 2, WHOLE),
        ]
        .map(|kind| (kind, 1))
        .to_vec();
        let mut placer = Placer::new(nodes.clone(), policy, Demand::new(mix.clone()), 5);
        let mut tenants = Tenants::new(nodes.len());
        let mut book = Book::new(&nodes);
        let mut held: Vec<(usize, Kind, Place)> = Vec::new();
        for _ in 0..90 {
            let kind = mix[random.below(mix.len())].0;
            let number = placer.kind(&kind);
            if let Some(place) = placer.place(number) {
                tenants.add(number, place);
                book.take(&kind, place);
                held.push((number, kind, place));
                continue;
            }
            let before = placer.nodes().to_vec();
            let found = placer.rescue(number, &tenants);
            assert_eq!(placer.nodes(), before, "{policy}: looking changes nothing");
            assert_eq!(found.is_some(), any_move_helps(&book, &nodes, &held, &kind), "{policy}: {kind:?}");
            let Some(rescue) = found else {
                hopeless += 1;
                continue;
            };
            rescued += 1;
            placer.walk(number, &rescue, &mut tenants);
            let (_, moved, from) = held[rescue.tenant as usize];
            assert_ne!(from, rescue.to, "{policy}: it moves");
            book.give(&moved, from);
            book.take(&moved, rescue.to);
            book.take(&kind, rescue.place);
            held[rescue.tenant as usize].2 = rescue.to;
            held.push((number, kind, rescue.place));
        }
        let listed: Vec<(usize, Place)> = held.iter().map(|(number, _, place)| (*number, *place)).collect();
        assert_eq!(tenants.all(), listed, "{policy}: every task is where the book has it");
        for (number, _, place) in held {
            placer.release(number, place);
        }
        assert_eq!(placer.nodes(), nodes, "{policy}: giving everything back restores the fleet");
    }
    assert!(rescued > 20 && hopeless > 20, "{rescued} {hopeless}");
}
