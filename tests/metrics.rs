//! `GET /metrics` of the real service on the fake kernel.

#![expect(clippy::expect_used, reason = "a fact that cannot be had fails the test")]

#[cfg(test)]
mod support;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use support::spec::HostSpec;
use support::world::World;

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
    let answer = scrape(&world);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: application/openmetrics-text"), "{answer}");
    for line in [
        "vgpud_hook_requests_total{operation=\"prepare\",outcome=\"done\"} 1\n",
        "vgpud_hook_seconds_count{operation=\"prepare\"} 1\n",
        "vgpud_slices{profile=\"nic\",state=\"in_use\"} 1\n",
        "vgpud_slices{profile=\"nic\",state=\"reserved\"} 1\n",
        "vgpud_open_intents 0\n",
        "vgpud_nvml_up 0\n",
    ] {
        assert!(answer.contains(line), "no {line} in {answer}");
    }
    assert!(answer.contains("vgpud_capacity_left{profile=\"nic\"} "), "{answer}");
}
