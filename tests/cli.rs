//! What `vgpuctl` prints: both streams and the exit code, on the real binary, against canned answers.

#![expect(clippy::expect_used, reason = "a canned answer that is wrong fails the test")]

#[allow(dead_code, reason = "the hook's tests use the rest")]
mod service;

use serde_json::{Value, json};
use service::{Act, Asked, Host, run};

const VGPUCTL: &str = env!("CARGO_BIN_EXE_vgpuctl");
const UUID: &str = "9d4f2f4e-0f67-4a4e-8d5e-1f2b3c4d5e6f";
const DOMAIN: &str = "11111111-2222-3333-4444-555555555555";

/// Runs `vgpuctl` with the words of `line`; returns what a terminal would show.
fn show(host: &Host, line: &str) -> String {
    show_with(host, line, "")
}

fn show_with(host: &Host, line: &str, stdin: &str) -> String {
    let mut command = host.command(VGPUCTL);
    command.args(line.split_whitespace());
    let end = run(command, stdin.into());
    let root = host.path().display().to_string();
    let mut text = format!("$ vgpuctl {line}\n{}", end.stdout);
    if !end.stderr.is_empty() {
        text.push_str(&format!("stderr:\n{}", end.stderr));
    }
    text.push_str(&format!("exit code {}\n", end.code.unwrap_or(-1)));
    text.replace(&root, "ROOT")
}

/// A service that answers every request with `body`.
fn answering(body: Value) -> Host {
    Host::with(move |_, _| Act::Answer(200, body.to_string()))
}

/// A service that refuses every request.
fn refusing(status: u16, body: Value) -> Host {
    Host::with(move |_, _| Act::Answer(status, body.to_string()))
}

fn asked(host: &Host) -> Asked {
    let mut asked = host.asked();
    assert_eq!(asked.len(), 1, "one request a command");
    asked.remove(0)
}

fn mdev_type(id: &str, name: &str, framebuffer: &str, most: u32, available: u32) -> Value {
    json!({"id": id, "name": name, "device_api": "vfio-pci", "description": null, "framebuffer": framebuffer,
           "heads": 4, "max_instances": most, "available": available})
}

/// A GPU with 32 VFs as mdev parents, of which one has an mdev.
fn a40() -> Value {
    let parent = |index: u32| {
        let name = format!("0000:41:{:02x}.{}", index / 8, index % 8);
        let free = u32::from(index != 4);
        json!({"name": name, "path": format!("sys/devices/pci0000:40/{name}"),
               "types": [mdev_type("nvidia-557", "NVIDIA A40-2Q", "2GiB", 24, free),
                         mdev_type("nvidia-558", "NVIDIA A40-4Q", "4GiB", 12, free)],
               "mdevs": []})
    };
    json!({
        "id": "pci:0000:41:00.0/10de:2235/10de:145a", "name": "0000:41:00.0",
        "path": "sys/devices/pci0000:40/0000:41:00.0",
        "pci": {"address": "0000:41:00.0", "id": "10de:2235", "subsystem": "10de:145a", "class": 0x03_02_00,
                "vendor_name": "NVIDIA Corporation", "device_name": "GA102GL [A40]",
                "link": {"speed": "2.5 GT/s PCIe", "width": 16, "max_speed": "16.0 GT/s PCIe", "max_width": 16}},
        "driver": "nvidia", "numa_node": 1, "iommu_group": 27, "backend": "mdev",
        "backend_reason": "its VFs have mdev_supported_types",
        "sriov": {"total": 32, "enabled": 32, "vf_id": "10de:2235", "autoprobe": true, "vfs": []},
        "parents": (4..36).map(parent).collect::<Vec<_>>(),
    })
}

/// A network card that the admin listed, with three VFs.
fn igb() -> Value {
    let vf = |index: u32, held: bool| {
        let holders = if held {
            json!([{"pid": 4711, "domain": "web2", "name": "qemu-system-x86"}])
        } else {
            json!([])
        };
        json!({"index": index, "address": format!("0000:01:10.{index}"), "id": "8086:10ca", "driver": "vfio-pci",
               "vfio": true, "iommu_group": 40 + index, "numa_node": null, "holders": holders})
    };
    json!({
        "id": "pci:0000:01:00.0/8086:10c9/8086:0000", "name": "0000:01:00.0", "path": "sys/devices/x",
        "pci": {"address": "0000:01:00.0", "id": "8086:10c9", "subsystem": "8086:0000", "class": 0x02_00_00,
                "vendor_name": "Intel Corporation", "device_name": "82576 Gigabit Network Connection", "link": null},
        "driver": "igb", "numa_node": null, "iommu_group": 14, "backend": "sriov",
        "backend_reason": "it has sriov_totalvfs and is listed in devices.include",
        "sriov": {"total": 7, "enabled": 3, "vf_id": "8086:10ca", "autoprobe": false,
                  "vfs": [vf(0, true), vf(1, false), vf(2, false)]},
        "parents": [],
    })
}

/// A card on which nothing can be made, with a name that tries to steer the terminal.
fn odd() -> Value {
    json!({
        "id": "pci:0000:00:02.0/1234:1111/1af4:1100", "name": "0000:00:02.0", "path": "sys/devices/y",
        "pci": {"address": "0000:00:02.0", "id": "1234:1111", "subsystem": "1af4:1100", "class": 0x03_00_00,
                "vendor_name": "1234", "device_name": "\u{1b}[31m1111", "link": null},
        "driver": null, "numa_node": null, "iommu_group": null, "backend": "none",
        "backend_reason": "it has neither mdev_supported_types nor sriov_totalvfs", "sriov": null, "parents": [],
    })
}

fn gpus() -> Value {
    let vf = |index: u32, owner: Value, holders: Value| {
        let mut slice = json!({"device": {"vf": format!("0000:01:10.{index}")}, "parent": "0000:01:00.0",
            "gpu": "pci:0000:01:00.0/8086:10c9/8086:0000", "mdev_type": null, "holders": holders});
        let fields = slice.as_object_mut().expect("an object");
        fields.extend(owner.as_object().expect("an object").clone());
        slice
    };
    json!({
        "gpus": [odd(), igb(), a40()],
        "slices": [
            vf(0, json!({"owner": "allocation", "allocation": "0a1b2c3d", "domain": "web2"}),
               json!([{"pid": 4711, "domain": "web2", "name": "qemu-system-x86"}])),
            vf(1, json!({"owner": "free"}), json!([])),
            vf(2, json!({"owner": "free"}), json!([])),
            {"device": {"mdev": UUID}, "gpu": "pci:0000:41:00.0/10de:2235/10de:145a", "parent": "0000:41:00.4",
             "mdev_type": "nvidia-558", "owner": "foreign", "holders": [{"pid": 99, "name": "cloud-hypervisor"}]},
        ],
        "problems": [{"device": "0000:81:00.0", "text": "cannot read sys/bus/pci/devices/0000:81:00.0/class: \
                      no such device (os error 19)"}],
        "age_ms": 3,
    })
}

fn allocation(id: &str, state: &str, until: Value, status: Value) -> Value {
    let mut view = json!({"id": id, "domain": {"uuid": DOMAIN, "name": "web1"}, "profile": "desk",
                          "device": {"mdev": UUID}, "state": state, "until": until});
    let fields = view.as_object_mut().expect("an object");
    fields.extend(status.as_object().expect("an object").clone());
    view
}

fn allocated(change: &str) -> Value {
    json!({
        "change": change,
        "allocations": [allocation("0a1b2c3d", "attached", Value::Null, json!({"status": "reserved"}))],
        "xml": ["<hostdev mode='subsystem' type='mdev' managed='no' model='vfio-pci'>\n  <source>\n    \
                 <address uuid='9d4f2f4e-0f67-4a4e-8d5e-1f2b3c4d5e6f'/>\n  </source>\n</hostdev>"],
        "notes": ["domain web1 runs: it gets the slice at its next start"],
    })
}

fn profile(name: &str) -> Value {
    json!({"name": name, "wish": {"framebuffer": "4GiB"}, "class": "graphics", "policy": "most-free",
           "display": true, "ramfb": false})
}

#[test]
fn help() {
    let host = Host::new();
    let lines = [
        "--help",
        "-h",
        "gpus --help",
        "status --help",
        "boot-report --help",
        "capacity --help",
        "start --help",
        "queue --help",
        "make-room --help",
        "defrag --help",
        "explain --help",
        "profile --help",
        "profile create --help",
        "profile edit --help",
        "profile explain --help",
        "attach --help",
        "detach --help",
        "allocations --help",
        "allocation --help",
        "allocation set --help",
        "xml --help",
        "vfs set --help",
        "vfs forget --help",
        "gpu set --help",
        "gpu forget --help",
        "mdev create --help",
    ];
    insta::assert_snapshot!("help", lines.map(|line| show(&host, line)).join("\n"));
}

#[test]
fn wrong_arguments() {
    let host = Host::new();
    let lines = [
        "",
        "gpuz",
        "gpu set 41:00.0 --mode odd",
        "profile create desk",
        "profile create desk --framebuffer 4",
        "profile create desk --framebuffer 4GiB --type x",
        "profile create desk --type x --policy fgd",
        "profile create desk --type x --priority 1001",
        "profile create desk --file x --overflow on",
        "attach web1 --profile desk --together --apart",
        "profile create desk --type x --ramfb",
        "profile create de/sk --type x",
        "attach web1",
        "attach web1 --profile desk --count 17",
        "xml --profile desk --domain web1 --lease 10",
        "detach web1 --profile desk --allocation 0a1b2c3d",
        "detach web1 --allocation 0A1B2C3D",
        "attach web1 --profile desk --mode always",
        "allocation set web1",
        "allocation set web1 --pin --no-pin",
        "profile edit desk --type x --framebuffer 4GiB",
        "profile edit desk --file x --float type",
        "profile edit desk --display yes",
        "mdev remove 9d4f2f4e",
        "vfs set 0000:41:00.0 -1",
        "vfs forget",
        "vfs forget 0000:41:00.0 --all",
    ];
    insta::assert_snapshot!("wrong_arguments", lines.map(|line| show(&host, line)).join("\n"));
    assert!(host.asked().is_empty());
}

#[test]
fn gpus_for_people() {
    insta::assert_snapshot!("gpus", show(&answering(gpus()), "gpus"));
}

#[test]
fn gpus_with_each_parent() {
    let text = show(&answering(gpus()), "gpus --all");
    assert_eq!(text.lines().filter(|line| line.contains("NVIDIA A40-4Q")).count(), 32);
    assert!(text.contains("  0000:01:10.2 "), "{text}");
}

#[test]
fn gpus_on_a_host_without_any() {
    let empty = json!({"gpus": [], "slices": [], "problems": [], "age_ms": 0});
    insta::assert_snapshot!("gpus_empty", show(&answering(empty), "gpus"));
    insta::assert_snapshot!("gpus_direct_empty", show(&Host::new(), "gpus --direct"));
}

#[test]
fn json_is_the_answer_of_the_api() {
    let answers = [
        ("gpus", gpus()),
        ("allocations", json!({"allocations": [allocated("done")["allocations"][0]]})),
        ("attach web1 --profile desk", allocated("done")),
        ("xml --profile desk --domain web1", allocated("done")),
        ("profile list", json!({"profiles": [{"profile": profile("desk"), "allocations": 2}]})),
        ("vfs set 0000:01:00.0 7", json!({"change": "done", "notes": ["7 VFs"]})),
        ("mdev create mtty mtty-2", json!({"uuid": UUID})),
    ];
    for (line, answer) in answers {
        let host = answering(answer.clone());
        let mut command = host.command(VGPUCTL);
        command.args(line.split_whitespace()).args(["-o", "json"]);
        let end = run(command, Vec::new());
        let mut printed: Value = serde_json::from_str(&end.stdout).expect("JSON on stdout");
        strip_nulls(&mut printed);
        let mut answer = answer;
        strip_nulls(&mut answer);
        assert_eq!(printed, answer, "{line}");
        assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{line}");
    }
}

/// An absent field and `null` are the same answer.
fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn status() {
    let well = json!({"version": "0.1.0", "generation": 12, "libvirt_uri": "qemu:///system",
        "libvirt": "connected", "libvirt_version": "11.3.0", "nvml": "absent: libnvidia-ml.so.1 was not found",
        "unfinished": [], "warnings": []});
    let mut ill = well.clone();
    ill["libvirt"] = json!("cannot connect to qemu:///system: no such file or directory (os error 2)");
    ill["unfinished"] = json!(["remove mdev 9d4f2f4e-0f67-4a4e-8d5e-1f2b3c4d5e6f: under way for 40 s"]);
    ill["warnings"] = json!(["mdevctl autostarts 9d4f2f4e-0f67-4a4e-8d5e-1f2b3c4d5e6f as well"]);
    ill["boot"] = json!(steps());
    ill["drift"] = json!([{"kind": "vf_count", "object": "0000:01:00.0", "domain": null, "allocation": null,
        "text": "0000:01:00.0 has 2 VFs, 4 were set: changed by hand",
        "fix": "vgpuctl vfs set 0000:01:00.0 4 brings them back"}]);
    let mut shut = well.clone();
    shut["read_only"] = json!("database /var/lib/vgpud/vgpud.db is damaged: malformed");
    let text = [well, ill, shut].map(|body| show(&answering(body), "status")).join("\n");
    insta::assert_snapshot!("status", text);
}

/// A step of each state.
fn steps() -> Value {
    let pf = "pci:0000:01:00.0/8086:10c9/8086:a02b";
    json!([
        {"step": "vfs", "gpu": pf, "place": "0000:01:00.0", "wanted": "3 VFs", "found": "3 VFs",
            "state": "done", "took_ms": 1840},
        {"step": "binding", "gpu": pf, "place": "0000:01:00.0", "wanted": "3 VFs on VFIO",
            "found": "1 on VFIO", "state": "working", "took_ms": 2100},
        {"step": "vfs", "gpu": "pci:0000:02:00.0/8086:10c9/8086:a02b", "place": "0000:02:00.0",
            "wanted": "2 VFs", "found": "0 VFs", "state": "failed", "why": "cannot set 2 VFs: EIO", "took_ms": 65_000},
        {"step": "slice", "allocation": "0a1b2c3d", "gpu": "virtual:mtty", "place": "virtual:mtty",
            "wanted": "mtty-1 of domain web1", "found": "nothing", "state": "waiting",
            "waits_for": "the device virtual:mtty, which is not here (yet)", "took_ms": 65_000},
        {"step": "start", "domain": "11111111-1111-4111-8111-111111111111", "place": "domain web2",
            "wanted": "a place for 1 slice", "found": "0 slices", "state": "left",
            "why": "VF 0000:02:10.0 does not exist, and no remembered count is to come", "took_ms": 0},
    ])
}

#[test]
fn boot_report() {
    let mut report = json!({"boot_id": "dbbead2f-3f40-4771-8bdf-6e167b898823", "began_at": 1_790_000_000,
        "ready_ms": null, "gave_up": [], "steps": []});
    let none = show(&answering(report.clone()), "boot-report");
    report["ready_ms"] = json!(60_120);
    report["gave_up"] = json!(["mtty-1 of domain web1 on virtual:mtty: waiting for the device"]);
    report["steps"] = steps();
    insta::assert_snapshot!("boot_report", [none, show(&answering(report), "boot-report")].join("\n"));
}

#[test]
fn profiles() {
    let none = show(&answering(json!({"profiles": []})), "profile list");
    let two = json!({"profiles": [
        {"profile": profile("desk"), "allocations": 2},
        {"profile": {"name": "nic", "wish": {"vf": "8086:10ca"}}, "allocations": 0},
    ]});
    let list = show(&answering(two.clone()), "profile list");
    let one = show(&answering(two.clone()), "profile show desk");
    let absent = show(&answering(two), "profile show dekk");
    let explanation = json!({"profile": profile("desk"), "candidates": [
        {"parent": "0000:41:00.4", "gpu": "pci:a", "mdev_type": "nvidia-558", "possible": 3, "reason": null},
        {"parent": "mtty", "gpu": "virtual:mtty", "mdev_type": null, "possible": 0,
         "reason": "no type says how much framebuffer it has"},
    ]});
    let explain = show(&answering(explanation), "profile explain desk");
    let changed = |change: &str| answering(json!({"change": change, "notes": []}));
    let create = show(&changed("done"), "profile create desk --framebuffer 4GiB");
    let again = show(&changed("unchanged"), "profile create desk --framebuffer 4GiB");
    let delete = show(&changed("done"), "profile delete desk");
    insta::assert_snapshot!("profiles", [none, list, one, absent, explain, create, again, delete].join("\n"));
}

#[test]
fn a_profile_is_sent_as_it_was_said() {
    let host = answering(json!({"change": "done", "notes": []}));
    show(&host, "profile create desk --framebuffer 4096MiB --class graphics --display");
    let asked = asked(&host);
    assert_eq!(asked.line, "PUT /v1/profiles/desk");
    let sent: Value = serde_json::from_str(&asked.body).expect("JSON");
    let mut said = profile("desk");
    said["policy"] = json!("default");
    assert_eq!(sent, said);
}

#[test]
fn capacity_and_explanations() {
    let gpu = |name: &str, used: Value, slices: Value| {
        json!({"gpu": format!("pci:{name}"), "name": name, "used_mib": used, "total_mib": used.as_u64().map(|_| 49_152),
               "stranded_mib": used.as_u64().map(|_| 0), "fragmented_mib": used.as_u64().map(|_| 1024),
               "slices": slices, "more": 3})
    };
    let slice = |owner: &str, mib: Value| json!({"device": {"mdev": UUID}, "mdev_type": "nvidia-558", "mib": mib, "owner": owner});
    let profile = |name: &str, if_emptied: Value, blocked: Value| {
        json!({"profile": name, "wish": "framebuffer 4GiB", "possible": 3, "if_emptied": if_emptied,
               "blocked": blocked, "weight": 667})
    };
    let slices = json!([slice("domain web1", json!(24_576)), slice("foreign (mdevctl)", json!(4096))]);
    let answer = json!({
        "profiles": [profile("desk", json!(12), json!(["0000:41:00.0: has 0 of nvidia-558 left"])),
                     profile("nic", Value::Null, json!([]))],
        "gpus": [gpu("0000:41:00.0", json!(28_672), slices),
                 gpu("mtty", Value::Null, json!([slice("vgpuctl by hand", Value::Null)]))],
        "largest": {"gpu": "0000:41:00.0", "mdev_type": "nvidia-564", "mib": 12_288},
        "free_mib": 20_480, "stranded_mib": 0, "fragmented_mib": 1024, "fragmentation": 50,
        "mix": "7 slices that were started",
    });
    let capacity = show(&answering(answer), "capacity");
    let nothing = json!({"profiles": [], "gpus": [], "largest": null, "free_mib": 0, "stranded_mib": 0,
                         "fragmented_mib": 0, "fragmentation": null, "mix": "all profiles alike"});
    let empty = show(&answering(nothing), "capacity");
    let candidate = |parent: &str, possible: u32, verdict: &str| {
        let score = json!({"tier": 0, "value": -3, "tie": -9, "text": "3 left, 9 on its GPU"});
        json!({"gpu": "pci:a", "parent": parent, "possible": possible, "slices": 2, "memory_mib": [4096, 49_152],
               "score": (possible > 0).then_some(score), "verdict": verdict})
    };
    let decision = |chosen: Value| {
        json!({"allocation": "0a1b2c3d", "profile": "desk", "wish": "framebuffer 4GiB", "policy": "most-free",
               "seed": 7, "chosen": chosen,
               "candidates": [candidate("0000:41:00.4", 9, "won: 3 left, 9 on its GPU"),
                              candidate("mtty", 0, "no type says how much framebuffer it has")]})
    };
    let now = json!({"decisions": [decision(json!("0000:41:00.4"))], "notes": ["allocation 0a1b2c3d is pinned to GPU pci:a"],
                     "now": true});
    let now = show(&answering(now), "explain 0a1b2c3d");
    let entry = json!({"number": 41, "at": 1_750_000_000, "uid": 0, "pid": 7, "verb": "prepare", "object": DOMAIN,
                       "domain": "web1", "outcome": "cannot place it"});
    let then = json!({"entry": entry, "decisions": [decision(Value::Null)], "notes": [], "now": false});
    let host = answering(then);
    let then = show(&host, "explain #41");
    assert_eq!(asked(&host).line, "GET /v1/explain?of=%2341");
    insta::assert_snapshot!("capacity_and_explanations", [capacity, empty, now, then].join("\n"));
}

#[test]
fn starts_that_wait() {
    let none = show(&answering(json!({"waiting": []})), "queue");
    let one = json!({"domain": "web1", "priority": 5, "aged": 11, "waited_s": 61, "until": 0, "holds": true,
                     "why": "cannot place 1 x type nvidia-564 (profile half)"});
    let waiting = show(&answering(json!({"waiting": [one]})), "queue");
    let cancelled = json!({"change": "done", "notes": ["the start of domain web1 waits no longer"]});
    let cancel = show(&answering(cancelled), "queue cancel web1");
    let host = answering(json!({"change": "done", "domain": "web1", "repointed": [], "allocations": [],
                                "notes": ["domain web1 waited 7 s for room"]}));
    let start = show(&host, "start web1 --wait --timeout 2m");
    let sent: Value = serde_json::from_str(&asked(&host).body).expect("JSON");
    assert_eq!(sent, json!({"domain": "web1", "dry_run": false, "wait_s": 120}));
    let alone = show(&Host::new(), "start web1 --timeout 2m");
    insta::assert_snapshot!("starts_that_wait", [none, waiting, cancel, start, alone].join("\n"));
}

#[test]
fn making_room() {
    let answer = |change: &str, steps: Value, fragmented: Value| {
        answering(
            json!({"change": change, "steps": steps, "to": ["0000:41:00.4"], "fragmented_mib": fragmented,
                         "notes": ["domain g1 is left alone: it has a guaranteed slice, which stays while it is off"]}),
        )
    };
    let step = json!([{"domain": "q1", "what": "restart", "from": ["0000:41:00.5"], "to": ["0000:c1:00.4"]}]);
    let plan = show(&answer("planned", step.clone(), Value::Null), "make-room half");
    let fits = show(&answer("unchanged", json!([]), Value::Null), "make-room half");
    let host = answer("done", step, json!([24_576, 8192]));
    let done = show(&host, "defrag --apply --save");
    let sent: Value = serde_json::from_str(&asked(&host).body).expect("JSON");
    assert_eq!(sent, json!({"profile": null, "apply": true, "save": true}));
    let both = show(&Host::new(), "defrag --plan --apply");
    let save = show(&Host::new(), "make-room half --save");
    insta::assert_snapshot!("making_room", [plan, fits, done, both, save].join("\n"));
}

#[test]
fn profile_files() {
    let done = || answering(json!({"change": "done", "notes": []}));
    let good = show_with(&done(), "profile create desk --file -", "framebuffer = \"4GiB\"\n");
    let unknown = show_with(&done(), "profile create desk --file -", "type = \"a\"\nframebufer = \"4GiB\"\n");
    let absurd = show_with(&done(), "profile create desk --file -", "framebuffer = \"9999TiB\"\n");
    let huge = show_with(&done(), "profile create desk --file -", &"# much\n".repeat(100_000));
    let absent = show(&done(), "profile create desk --file /nowhere");
    insta::assert_snapshot!("profile_files", [good, unknown, absurd, huge, absent].join("\n"));
}

#[test]
fn attach_and_detach() {
    let attach = show(&answering(allocated("done")), "attach web1 --profile desk");
    let dry = show(&answering(allocated("planned")), "attach web1 --profile desk --dry-run");
    let again = show(&answering(allocated("unchanged")), "attach web1 --profile desk");
    let notes = json!({"change": "done", "notes": ["detached 0a1b2c3d from domain web1"]});
    let detach = show(&answering(notes), "detach web1");
    insta::assert_snapshot!("attach_and_detach", [attach, dry, again, detach].join("\n"));
}

#[test]
fn allocate_requests_say_how_the_slice_reaches_the_domain() {
    let lines = [
        ("attach web1 --profile desk --count 2", "definition", 2, Value::Null),
        ("xml --profile desk --domain web1 --lease 90s", "xml", 1, json!(90)),
        ("xml --profile desk --domain web1 --live", "live_xml", 1, Value::Null),
    ];
    for (line, through, count, lease) in lines {
        let host = answering(allocated("done"));
        show(&host, line);
        let asked = asked(&host);
        assert_eq!(asked.line, "POST /v1/allocations");
        let sent: Value = serde_json::from_str(&asked.body).expect("JSON");
        let wanted = json!({"domain": "web1", "profile": "desk", "count": count, "through": through,
                            "lease_s": lease, "dry_run": false});
        assert_eq!(sent, wanted, "{line}");
    }
}

#[test]
fn terms_are_sent_as_they_were_said() {
    let terms = json!({"mode": "guaranteed", "pin": true, "repoint": "never"});
    for line in [
        "attach web1 --profile desk --mode guaranteed --pin --repoint never",
        "xml --domain web1 --profile desk --mode guaranteed --pin --repoint never",
    ] {
        let host = answering(allocated("done"));
        show(&host, line);
        let sent: Value = serde_json::from_str(&asked(&host).body).expect("JSON");
        assert_eq!(sent["terms"], terms, "{line}");
    }
    let lines = [
        ("allocation set web1 --mode on-start --no-pin", json!(["on-start", false, null, false])),
        ("allocation set 0a1b2c3d --pin --repoint on-refusal", json!([null, true, "on-refusal", false])),
        ("allocation unsettle web1", json!([null, null, null, true])),
    ];
    for (line, wanted) in lines {
        let host = answering(json!({"change": "done", "notes": []}));
        show(&host, line);
        let asked = asked(&host);
        assert_eq!(asked.line, "POST /v1/terms");
        let sent: Value = serde_json::from_str(&asked.body).expect("JSON");
        assert_eq!(json!([sent["mode"], sent["pin"], sent["repoint"], sent["unsettle"]]), wanted, "{line}");
    }
}

#[test]
fn changed_terms_and_profiles_say_who_is_affected() {
    let notes = json!(["allocation 0a1b2c3d of domain web1: guaranteed", "its slice is kept on mtty"]);
    let set = answering(json!({"change": "done", "notes": notes}));
    let set = show(&set, "allocation set web1 --mode guaranteed");
    let affected = json!([
        {"allocation": "00000001", "domain": "web1", "running": true,
         "effects": ["sticky: stays type nvidia-557, settled at its first start"]},
        {"allocation": "00000002", "domain": "web2", "running": false,
         "effects": ["next start: framebuffer 4GiB (nvidia-558)", "its guaranteed slice was made anew"]},
        {"allocation": "00000003", "domain": "web3", "running": null, "effects": []},
    ]);
    let edited = |change: &str| {
        let answer = json!({"change": change, "notes": ["1 parent can serve it now"], "affected": affected});
        Host::with(move |_, asked| match asked.line.starts_with("GET") {
            true => Act::Answer(200, profile("desk").to_string()),
            false => Act::Answer(200, answer.to_string()),
        })
    };
    let done = show(&edited("done"), "profile edit desk --framebuffer 4GiB --float type");
    let dry = show(&edited("planned"), "profile edit desk --no-class --display off --dry-run");
    let nothing = show(&edited("done"), "profile edit desk");
    let absurd = show(&edited("done"), "profile edit desk --vf 8086:10ca");
    let bound = answering(json!({"profile": profile("desk"), "candidates": [], "bounds":
        ["allocation 0a1b2c3d is pinned to GPU pci:a", "vgpuctl allocation set 0a1b2c3d --no-pin lets it start on any GPU"]}));
    let bound = show(&bound, "profile explain desk --allocation 0a1b2c3d");
    insta::assert_snapshot!("terms", [set, done, dry, nothing, absurd, bound].join("\n"));
}

#[test]
fn an_edit_sends_the_profile_as_it_was_and_as_it_shall_be() {
    let host = Host::with(|_, asked| match asked.line.starts_with("GET") {
        true => Act::Answer(200, profile("desk").to_string()),
        false => Act::Answer(200, json!({"change": "done", "notes": [], "affected": []}).to_string()),
    });
    show(&host, "profile edit desk --type nvidia-558 --float vendor --display off --dry-run");
    let sent = host.asked();
    let lines: Vec<&str> = sent.iter().map(|one| one.line.as_str()).collect();
    assert_eq!(lines, ["GET /v1/profiles/desk", "POST /v1/profiles/desk/edit"]);
    let body: Value = serde_json::from_str(&sent[1].body).expect("JSON");
    let wanted = json!({"name": "desk", "wish": {"type": "nvidia-558"}, "class": "graphics",
                        "policy": "most-free", "float": "vendor", "display": false, "ramfb": false});
    assert_eq!(body, json!({"was": profile("desk"), "wanted": wanted, "dry_run": true}));
}

#[test]
fn xml_prints_only_xml_on_stdout() {
    insta::assert_snapshot!("xml", show(&answering(allocated("done")), "xml -p desk -d web1"));
}

#[test]
fn allocations() {
    let holders = json!([{"pid": 4711, "domain": "web1", "name": "qemu-system-x86"}]);
    let mut other = allocation("00000004", "orphaned", json!(1), json!({"status": "reserved"}));
    other["domain"] = json!({"uuid": "22222222-2222-3333-4444-555555555555", "name": "web2"});
    let answer = json!({"allocations": [
        allocation("00000001", "attached", Value::Null,
                   json!({"status": "in_use", "parent": "0000:41:00.4", "holders": holders})),
        allocation("00000002", "attached", Value::Null,
                   json!({"status": "ready", "parent": "mtty", "terms": {"mode": "guaranteed", "pin": true}})),
        allocation("00000005", "attached", Value::Null,
                   json!({"status": "missing", "terms": {"mode": "guaranteed"}})),
        allocation("00000003", "leased", json!(1),
                   json!({"status": "unfinished", "what": "remove mdev: under way for 40 s"})),
        other,
    ]});
    let all = show(&answering(answer.clone()), "allocations");
    let by_name = show(&answering(answer.clone()), "allocations --domain web2");
    let by_uuid = show(&answering(answer), "allocations --domain 22222222-2222-3333-4444-555555555555");
    let none = show(&answering(json!({"allocations": []})), "allocations");
    insta::assert_snapshot!("allocations", [all, by_name, by_uuid, none].join("\n"));
}

#[test]
fn adopt_and_disown() {
    let body = |change: &str| {
        json!({"change": change, "notes": ["mdevctl still defines it"],
               "allocations": [allocation("0a1b2c3d", "attached", Value::Null, json!({"status": "reserved"}))]})
    };
    let host = answering(body("done"));
    let done = show(&host, "adopt web1 --profile desk");
    assert_eq!(
        asked(&host),
        Asked {
            line: "POST /v1/adopt".into(),
            body: r#"{"domain":"web1","profile":"desk","device":null,"dry_run":false}"#.into()
        }
    );
    let planned = show(&answering(body("planned")), "adopt web1 --dry-run");
    let host = answering(json!({"change": "done", "notes": []}));
    let mdev = show(&host, &format!("adopt --uuid {UUID}"));
    assert_eq!(asked(&host).line, format!("POST /v1/mdevs/{UUID}/adopt"));
    let host = answering(json!({"change": "planned", "notes": ["it is foreign"]}));
    let disowned = show(&host, "disown 0a1b2c3d --dry-run");
    assert_eq!(asked(&host).body, r#"{"allocation":"0a1b2c3d","mdev":null,"dry_run":true}"#);
    let wrong = ["adopt", "adopt web1 --rebuild", "adopt --uuid 7", "disown web1"]
        .map(|line| show(&Host::new(), line));
    insta::assert_snapshot!(
        "adopt_and_disown",
        [[done, planned, mdev, disowned].join("\n"), wrong.join("\n")].join("\n")
    );
}

#[test]
fn rebuild() {
    let some = json!({"change": "planned", "notes": ["4 VFs of 0000:01:00.0 are remembered for the next boot"],
        "allocations": [allocation("0a1b2c3d", "attached", Value::Null, json!({"status": "reserved"}))],
        "profiles": [{"name": "recovered-nvidia-558", "wish": {"type": "nvidia-558"}}],
        "left_out": ["allocation 00000001 of domain web2: its type cannot be told"], "set_aside": null});
    let host = answering(some.clone());
    let planned = show(&host, "adopt --rebuild --dry-run");
    assert_eq!(asked(&host), Asked { line: "POST /v1/rebuild".into(), body: r#"{"dry_run":true}"#.into() });
    let mut done = some;
    done["change"] = json!("done");
    done["set_aside"] = json!("/var/lib/vgpud/vgpud.db.damaged-1790000000");
    let empty = json!({"change": "done", "notes": [], "allocations": [], "profiles": [], "left_out": [],
        "set_aside": null});
    let (done, empty) =
        (show(&answering(done), "adopt --rebuild"), show(&answering(empty), "adopt --rebuild"));
    insta::assert_snapshot!("rebuild", [planned, done, empty].join("\n"));
}

#[test]
fn devices_by_hand() {
    let host = answering(json!({"change": "done", "notes": ["0000:01:00.0 has 7 VFs, it had 0"]}));
    let vfs = show(&host, "vfs set 01:00.0 7");
    assert_eq!(
        asked(&host),
        Asked { line: "PUT /v1/vfs/0000:01:00.0".into(), body: r#"{"count":7}"#.into() }
    );
    let made = show(&answering(json!({"uuid": UUID})), "mdev create mtty mtty-2");
    let host = answering(json!({"change": "done", "notes": []}));
    let removed = show(&host, &format!("mdev remove {UUID}"));
    assert_eq!(asked(&host).line, format!("DELETE /v1/mdevs/{UUID}"));
    insta::assert_snapshot!("devices_by_hand", [vfs, made, removed].join("\n"));
}

#[test]
fn refusals_end_with_the_code_of_their_kind() {
    let kinds = [
        ("usage", 400, 2),
        ("forbidden", 403, 3),
        ("not_found", 404, 4),
        ("conflict", 409, 5),
        ("no_capacity", 507, 6),
        ("busy", 503, 7),
        ("host_fault", 502, 8),
        ("internal", 500, 70),
    ];
    for (kind, status, code) in kinds {
        let body = json!({"kind": kind, "message": "no\nway \u{1b}[31m", "hints": ["one", "two"]});
        let text = show(&refusing(status, body), "status");
        assert_eq!(
            text,
            format!(
                "$ vgpuctl status\nstderr:\nvgpuctl: no way  [31m\nhint: one\nhint: two\nexit code {code}\n"
            )
        );
    }
}

#[test]
fn a_service_that_does_not_answer() {
    let down = show(&Host::new(), "gpus");
    let cut = show(&Host::with(|_, _| Act::HangUp), "gpus");
    let strange = show(&answering(json!({"gpus": 7})), "gpus");
    let plain = show(&Host::with(|_, _| Act::Answer(418, "teapot".into())), "gpus");
    insta::assert_snapshot!("no_answer", [down, cut, strange, plain].join("\n"));
}

#[test]
fn check() {
    let finding = json!({"severity": "error", "rule": "second-ramfb", "place": "domain web1, hostdev 2",
        "sentence": "another hostdev of the domain has ramfb='on' already", "source": "libvirt, formatdomain"});
    let host = answering(json!({"findings": [finding], "domains": 1, "profiles": 0}));
    let mut text = show(&host, "check web1");
    text.push_str(&show(
        &answering(
            json!({"findings": [], "domains": 2, "profiles": 3, "notes": ["domain x was not looked at"]}),
        ),
        "check",
    ));
    let xml = format!(
        "<domain><name>web1</name><devices><hostdev mode='subsystem' type='mdev' ramfb='on'>\
        <source><address uuid='{UUID}'/></source></hostdev></devices></domain>"
    );
    text.push_str(&show_with(&Host::new(), "check --direct -", &xml));
    text.push_str(&show(&Host::new(), "check --direct web1"));
    text.push_str(&show(&Host::new(), "check missing.xml"));
    insta::assert_snapshot!(text);
}

#[test]
fn top() {
    let vgpu = |instance: u32, vm: &str| {
        json!({"instance": instance, "type_id": 1150, "type_name": "NVIDIA L40S-4Q", "vm": vm, "placement": 8,
               "framebuffer_mib": 4096, "used_mib": 700,
               "busy": {"sm": 40, "memory": 12, "encoder": 7, "decoder": 0}})
    };
    let usage = json!({
        "gpus": [{"address": "0000:41:00.0", "name": "NVIDIA L40S", "uuid": "GPU-1", "framebuffer_mib": 49152,
                  "used_mib": 8192, "size_mode": "mixed", "can_mix": true, "mig": null,
                  "scheduler": {"policy": "equal-share", "round_robin": false, "time_slice_ns": 2_000_000,
                                "supported": ["best-effort"], "shortest_ns": 1, "longest_ns": 2},
                  "vgpus": [vgpu(1, DOMAIN), vgpu(2, UUID)]}],
        "owners": [{"gpu": "0000:41:00.0", "instance": 1, "domain": "web1", "allocations": ["0000007f"]}],
    });
    let mut text = show(&answering(usage), "top");
    let absent =
        json!({"absent": "NVML is absent: libnvidia-ml.so.1 cannot be loaded", "gpus": [], "owners": []});
    text.push_str(&show(&answering(absent), "top"));
    insta::assert_snapshot!(text);
}
