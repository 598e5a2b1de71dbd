//! `GET /metrics` of the real service on the fake kernel.

#![expect(clippy::expect_used, reason = "a fact that cannot be had fails the test")]

#[cfg(test)]
mod support;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use support::spec::HostSpec;
use support::world::{World, wait};

fn scrape(world: &World) -> String {
    let mut socket = UnixStream::connect(world.host.root().join("run/vgpud/vgpud.sock")).expect("socket");
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: vgpud\r\nConnection: close\r\n\r\n").expect("is sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("is answered");
    answer
}

#[test]
fn a_start_and_a_refusal_are_counted_and_slices_are_where_they_are() {
    let mut world = World::new(HostSpec::lab());
    world.host.put("etc/vgpud/vgpud.toml", "[devices]\ninclude = [\"8086:10c9\"]\n");
    world.serve();
    world.ok("profile create nic --vf 8086:10ca");
    world.ok("vfs set 0000:01:00.0 2");
    for (number, name) in (100..).zip(["web1", "web2"]) {
        world.define(name, number);
        world.ok(&format!("attach {name} --profile nic"));
    }
    world.start("web1").expect("has room");
    // An answer waits some milliseconds for a new reading of the host, not longer.
    let in_use = "vgpud_slices{profile=\"nic\",state=\"in_use\"} 1\n";
    let answer =
        wait("a reading that shows the guest", || Some(scrape(&world)).filter(|text| text.contains(in_use)));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: application/openmetrics-text"), "{answer}");
    for line in [
        "vgpud_hook_requests_total{operation=\"prepare\",outcome=\"done\"} 1\n",
        "vgpud_hook_seconds_count{operation=\"prepare\"} 1\n",
        "vgpud_slices{profile=\"nic\",state=\"reserved\"} 1\n",
        "vgpud_open_intents 0\n",
        "vgpud_nvml_up 0\n",
    ] {
        assert!(answer.contains(line), "no {line} in {answer}");
    }
    assert!(answer.contains("vgpud_capacity_left{profile=\"nic\"} "), "{answer}");
}

#[test]
fn free_stranded_and_fragmented_framebuffer_are_those_of_capacity() {
    let mut world = World::new(HostSpec::dual_gpu());
    world.serve();
    world.ok("profile create half --type nvidia-564");
    world.define("web1", 100);
    world.ok("attach web1 --profile half");
    world.start("web1").expect("has room");
    let taken = |capacity: &serde_json::Value| {
        let used = |gpu: &serde_json::Value| gpu["used_mib"].as_u64().unwrap_or_default();
        capacity["gpus"].as_array().is_some_and(|gpus| gpus.iter().any(|gpu| used(gpu) > 0))
    };
    let capacity = wait("a reading that shows the slice", || Some(world.json("capacity")).filter(taken));
    let answer = scrape(&world);
    let gpus = capacity["gpus"].as_array().expect("GPUs");
    let mut told = 0;
    for gpu in gpus.iter().filter(|gpu| gpu["total_mib"].is_u64()) {
        let name = gpu["name"].as_str().expect("a name");
        let mib = |field: &str| gpu[field].as_u64().expect("MiB");
        for (metric, value) in [
            ("free", mib("total_mib") - mib("used_mib")),
            ("stranded", mib("stranded_mib")),
            ("fragmented", mib("fragmented_mib")),
        ] {
            let line = format!("vgpud_{metric}_mib{{gpu=\"{name}\"}} {value}\n");
            assert!(answer.contains(&line), "no {line} in {answer}");
            told += value;
        }
    }
    assert!(told > 0, "a GPU of known size: {capacity}");
    let largest = capacity["largest"]["mib"].as_u64().expect("a size");
    assert!(answer.contains("vgpud_largest_slice_mib{gpu="), "{answer}");
    assert!(answer.contains(&format!("}} {largest}\n")), "{answer}");
}
