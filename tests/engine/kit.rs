//! Worlds that the engine's tests start from, and a client that may say anything.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::spec::HostSpec;
use crate::support::world::World;

/// Longest that a raw request waits for its answer: beyond the hook's own cap.
const ANSWER: Duration = Duration::from_secs(30);

/// A type of which a GPU of the `dual_gpu` host has two.
pub(crate) const HALF: &str = "nvidia-564";

/// The host of the lab with a service and the profiles `small` (24 fit) and `screen` (4 fit).
pub(crate) fn lab() -> World {
    let mut world = World::new(HostSpec::lab());
    world.host.put("etc/vgpud/vgpud.toml", "[devices]\ninclude = [\"8086:10c9\"]\n");
    world.serve();
    world.ok("profile create small --type mtty-1");
    world.ok("profile create screen --type mdpy-hd");
    world.define("nobody", 999);
    world
}

/// Two GPUs with a service and the profile `half`, of which each has room for two.
pub(crate) fn two_gpus() -> World {
    let mut world = World::new(HostSpec::dual_gpu());
    world.serve();
    world.ok(&format!("profile create half --type {HALF}"));
    world.define("nobody", 999);
    world
}

/// Defines domains with one slice of `profile` each.
pub(crate) fn domains(world: &World, profile: &str, names: &[&str]) {
    for (place, name) in names.iter().enumerate() {
        world.define(name, 100 + u32::try_from(place).expect("few domains"));
        world.ok(&format!("attach {name} --profile {profile}"));
    }
}

/// The one device of a domain.
pub(crate) fn device(world: &World, name: &str) -> String {
    world.devices(name).first().expect("a hostdev").clone()
}

/// Where the host says that an mdev is: the names of its GPU and of its parent.
pub(crate) fn place(world: &World, uuid: &str) -> String {
    let link = world.host.root().join("sys/bus/mdev/devices").join(uuid);
    std::fs::canonicalize(link).expect("an mdev").display().to_string()
}

/// Makes the service look at libvirt's domains.
pub(crate) fn look(world: &World) {
    let profile = world.json("profile list")["profiles"][0]["profile"]["name"].clone();
    let profile = profile.as_str().expect("a profile");
    world.ok(&format!("attach nobody --profile {profile} --dry-run"));
}

/// The allocations of a domain, by its name.
pub(crate) fn allocations(world: &World, domain: &str) -> Vec<Value> {
    let all = world.json("allocations");
    let all = all["allocations"].as_array().expect("a list").iter();
    all.filter(|one| one["domain"]["name"] == domain).cloned().collect()
}

/// What the ledger promised, without what changes by itself.
pub(crate) fn promises(world: &World) -> String {
    format!("{}{}", world.ok("profile list -o json"), world.ok("allocations -o json"))
}

// A client that may say anything -----------------------------------------------------------------

/// An answer: its status, and its body, `null` when that is no JSON.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// Sends a request and does not wait for the answer.
pub(crate) fn send(world: &World, method: &str, path: &str, body: &[u8]) -> UnixStream {
    let socket = world.host.root().join("run/vgpud/vgpud.sock");
    let mut stream = UnixStream::connect(socket).expect("a service");
    stream.set_read_timeout(Some(ANSWER)).expect("a time-out");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: vgpud\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    // A service that refuses by the head alone may close before the body is over.
    drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)));
    stream
}

/// Reads the answer to the end.
pub(crate) fn receive(mut stream: UnixStream) -> Answer {
    let mut bytes = Vec::new();
    // A reset after the answer does not matter.
    drop(stream.read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    let status = text.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or(0);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Answer { status, body: serde_json::from_str(body).unwrap_or(Value::Null) }
}

pub(crate) fn request(world: &World, method: &str, path: &str, body: &[u8]) -> Answer {
    receive(send(world, method, path, body))
}

/// A hook request as `vgpu-hook` sends it for a domain of [`domains`] or [`World::define`].
pub(crate) fn hook(world: &World, op: &str, at: u64, domain: &str) -> Value {
    let parsed = vgpud::domain_xml::read(world.xml(domain).as_bytes()).expect("valid XML");
    let devices: Vec<Value> = world
        .devices(domain)
        .iter()
        .map(|uuid| json!({ "allocation": null, "device": { "mdev": uuid } }))
        .collect();
    json!({ "op": op, "at": at, "domain_uuid": parsed.uuid, "domain": domain, "devices": devices })
}

pub(crate) fn post_hook(world: &World, hook: &Value) -> Answer {
    request(world, "POST", "/v1/hook", hook.to_string().as_bytes())
}

/// The clock that run ids are read from.
pub(crate) fn now() -> u64 {
    vgpud::clock::boottime().0
}

/// Attribute `name` below `nvidia/` of the VF `vf`.
pub(crate) fn vgpu_attribute(world: &World, vf: &str, name: &str) -> String {
    let path = world.host.root().join(format!("sys/bus/pci/devices/{vf}/nvidia/{name}"));
    std::fs::read_to_string(path).expect("an attribute").trim_end().to_owned()
}

/// The number of the vGPU type that the VF `vf` has; "0": none.
pub(crate) fn vgpu_type(world: &World, vf: &str) -> String {
    vgpu_attribute(world, vf, "current_vgpu_type")
}
