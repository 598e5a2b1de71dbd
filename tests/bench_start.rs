//! A tool of `scripts/bench`, no test: what a start and a boot cost on a fake kernel whose ledger lies on a real disk.
//!
//! `cargo test --test bench_start -- ROUNDS`, with the programs of `VGPUD_TEST_BINARIES`. Times are in ms. Prints
//! `path PREPARE BARE SYNC READING`, medians, then `least` and the same as minima (they come in turns; the last is what
//! one reading of this host costs: `vgpuctl gpus --direct` less `vgpuctl --version`), and
//! `crowd AT_ONCE IN_TURN FIRST`: medians, the last how many of the first that asked were served; and
//! `restore OURS BARE`: medians for 256 guaranteed slices after a boot, from the start of the service, and for their
//! 256 writes alone.

mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use support::spec::HostSpec;
use support::world::{Rehearsal, World};
use vgpud::clock;
use vgpud::model::HookDevice;
use vgpud::wire::{Hook, HookOp};

/// Rounds that fill caches.
const WARM_UP: usize = 3;
/// Places of the fake host, and domains that want one at the same time.
const PLACES: u32 = 16;
const CROWD: u32 = 24;
/// Slices that come back after a boot: so many domains with so many each.
const HOLDERS: u32 = 16;
const SLICES: u32 = 16;
/// What a commit of one intent writes: a page of the table and one of its neighbours.
const COMMIT: usize = 8 << 10;

fn main() -> ExitCode {
    let Some(rounds) = std::env::args().nth(1).and_then(|text| text.parse().ok()) else {
        return ExitCode::from(2);
    };
    let mut spec = HostSpec::samples();
    spec.pools[0].total = PLACES;
    let mut world = World::new(spec);
    world.serve();
    world.ok("profile create small --type mtty-1");
    let names: Vec<String> = (0..CROWD).map(|number| format!("web{number}")).collect();
    for (name, number) in names.iter().zip(0..) {
        world.define(name, number);
        world.ok(&format!("attach {name} --profile small"));
        // Else a look, once a minute, would find no run that needs its slice.
        world.set_live_xml(name, &world.xml(name));
    }
    print_path(&world, &names[0], rounds);
    print_crowd(&world, &names, rounds.div_ceil(4));
    drop(world);
    print_restore(rounds.div_ceil(10));
    ExitCode::SUCCESS
}

fn print_restore(rounds: usize) {
    let all = (HOLDERS * SLICES) as usize;
    let mut spec = HostSpec::samples();
    spec.pools[0].total = HOLDERS * SLICES;
    let mut world = World::new(spec);
    world.serve();
    world.ok("profile create small --type mtty-1");
    for number in 0..HOLDERS {
        let name = format!("held{number}");
        world.define(&name, number);
        world.ok(&format!("attach {name} --profile small --count {SLICES} --mode guaranteed"));
    }
    let uuids = world.host.mdevs();
    assert_eq!(uuids.len(), all);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        world.lose_power();
        bare.push(timed(|| uuids.iter().for_each(|uuid| create_bare(&world, uuid))));
        world.host.reboot();
        ours.push(timed(|| {
            world.begin(&Rehearsal::default());
            wait_for(|| world.host.mdevs().len() == all && world.answers());
        }));
        let told = world.json("boot-report");
        assert_eq!(told["gave_up"], serde_json::json!([]), "{told}");
    }
    println!("restore {:.3} {:.3}", median(ours), median(bare));
}

/// Looks often, for the sake of the figure.
fn wait_for(fact: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !fact() {
        assert!(Instant::now() < deadline, "not so within two minutes");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

fn create_bare(world: &World, uuid: &str) {
    let path = world.host.root().join("sys/devices/virtual/mtty/mtty/mdev_supported_types/mtty-1/create");
    let written = std::fs::File::options().write(true).open(path);
    written.and_then(|mut file| file.write_all(uuid.as_bytes())).expect("create");
}

fn print_path(world: &World, name: &str, rounds: usize) {
    let (mut prepare, mut bare, mut sync, mut reading) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..WARM_UP + rounds {
        prepare
            .push(timed(|| assert!(receive(ask(world, HookOp::Prepare, name)), "{}", world.service_log())));
        receive(ask(world, HookOp::Release, name));
        bare.push(write_bare(world));
        sync.push(write_durably(world));
        let direct = timed(|| drop(world.ok("gpus --direct -o json")));
        reading.push(direct - timed(|| drop(world.ok("--version"))));
    }
    let least = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
    let least = [&prepare, &bare, &sync, &reading].map(|times| least(times));
    let [prepare, bare, sync, reading] = [prepare, bare, sync, reading].map(median);
    println!("path {prepare:.3} {bare:.3} {sync:.3} {reading:.3}");
    println!("least {:.3} {:.3} {:.3} {:.3}", least[0], least[1], least[2], least[3]);
}

/// The write that makes the slice, by itself.
fn write_bare(world: &World) -> f64 {
    let uuid = "c0ffee00-0000-4000-8000-00000000000a";
    let took = timed(|| create_bare(world, uuid));
    let remove = format!("sys/devices/virtual/mtty/mtty/{uuid}/remove");
    let written = std::fs::File::options().write(true).open(world.host.root().join(remove));
    written.and_then(|mut file| file.write_all(b"1")).expect("remove");
    took
}

/// What no durable change can do without: some bytes more in a file beside the ledger, and fdatasync.
fn write_durably(world: &World) -> f64 {
    let path = world.host.root().join("var/lib/vgpud/bench");
    let mut file = std::fs::File::options().append(true).create(true).open(path).expect("file");
    timed(|| file.write_all(&[1; COMMIT]).and_then(|()| file.sync_data()).expect("written"))
}

fn print_crowd(world: &World, names: &[String], rounds: usize) {
    let (mut at_once, mut in_turn, mut first) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut served = Vec::new();
        at_once.push(timed(|| {
            let asked: Vec<_> = names.iter().map(|name| ask(world, HookOp::Prepare, name)).collect();
            served = asked.into_iter().map(receive).collect();
        }));
        assert_eq!(count(&served), u64::from(PLACES), "{}", world.service_log());
        first.push(f64::from(u32::try_from(count(&served[..PLACES as usize])).expect("few")));
        release(world, names);
        in_turn.push(timed(|| {
            served = names.iter().map(|name| receive(ask(world, HookOp::Prepare, name))).collect();
        }));
        assert_eq!(count(&served), u64::from(PLACES), "{}", world.service_log());
        release(world, names);
    }
    println!("crowd {:.3} {:.3} {:.1}", median(at_once), median(in_turn), median(first));
}

fn count(served: &[bool]) -> u64 {
    served.iter().map(|one| u64::from(*one)).sum()
}

fn release(world: &World, names: &[String]) {
    let asked: Vec<_> = names.iter().map(|name| ask(world, HookOp::Release, name)).collect();
    assert!(asked.into_iter().map(receive).all(|yes| yes));
    assert_eq!(world.host.mdevs(), Vec::<String>::new(), "{}", world.service_log());
}

/// Asks as the hook does, and does not wait for the answer.
fn ask(world: &World, op: HookOp, name: &str) -> UnixStream {
    let domain = vgpud::domain_xml::read(world.xml(name).as_bytes()).expect("valid XML");
    let devices = domain.hostdevs.iter().filter_map(|hostdev| {
        let allocation = hostdev.alias.as_deref().and_then(vgpud::model::AllocationId::from_alias);
        Some(HookDevice { allocation, device: hostdev.source.device()? })
    });
    let devices = devices.collect();
    let (at, nodes) = (clock::boottime(), domain.nodes);
    let hook = Hook { op, at, domain_uuid: domain.uuid, domain: domain.name, devices, nodes };
    let body = serde_json::to_vec(&hook).expect("JSON");
    let mut stream = UnixStream::connect(world.host.root().join("run/vgpud/vgpud.sock")).expect("a service");
    let head = format!(
        "POST /v1/hook HTTP/1.1\r\nhost: vgpud\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).expect("the service reads");
    stream
}

/// Returns whether the answer is yes.
fn receive(mut stream: UnixStream) -> bool {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text.starts_with("HTTP/1.1 200 ")
}

fn timed(act: impl FnOnce()) -> f64 {
    let began = Instant::now();
    act();
    began.elapsed().as_secs_f64() * 1e3
}

fn median(mut times: Vec<f64>) -> f64 {
    times.drain(..WARM_UP.min(times.len() / 2));
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
