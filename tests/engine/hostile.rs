//! Requests that nobody well-meaning sends: a clear refusal, and nothing changes, in the ledger or the kernel.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::kit::{Answer, device, domains, hook, lab, now, post_hook, promises, request};
use crate::support::world::{World, stderr, wait};

/// Sends something and requires a refusal that changes nothing. Returns its line.
fn refused(world: &World, what: &str, ask: impl FnOnce() -> Answer) -> String {
    let (before, writes) = (promises(world), world.host.writes().len());
    let answer = ask();
    assert!((400..=599).contains(&answer.status), "{what}: {answer:?}");
    let line = answer.body["message"].as_str().unwrap_or_else(|| panic!("{what}: no refusal: {answer:?}"));
    assert!(!line.is_empty() && line.lines().count() == 1 && line.len() < 3000, "{what}: {line}");
    assert_eq!(promises(world), before, "{what} changed the ledger");
    assert_eq!(world.host.writes().len(), writes, "{what} reached the kernel");
    line.to_owned()
}

#[test]
fn bodies_that_are_no_hook_requests_are_refused() {
    let world = lab();
    domains(&world, "small", &["web1"]);
    let good = hook(&world, "prepare", now(), "web1");
    let with = |key: &str, value: Value| {
        let mut changed = good.clone();
        changed[key] = value;
        changed.to_string().into_bytes()
    };
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes();
    let deep = format!("{{\"op\":{}1{}}}", "{\"a\":".repeat(2000), "}".repeat(2000)).into_bytes();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("garbage", b"\x00\xff\xfe{{{{".to_vec()),
        ("half a request", good.to_string().into_bytes()[..40].to_vec()),
        ("10 MB", with("domain", json!("x".repeat(10_000_000)))),
        ("10 MB of white space", [vec![b' '; 10_000_000], good.to_string().into_bytes()].concat()),
        ("deep nesting", nested),
        ("deep objects", deep),
        ("an unknown field", with("extra", json!(1))),
        ("an unknown operation", with("op", json!("explode"))),
        ("a number for the domain", with("domain", json!(7))),
        ("no UUID", with("domain_uuid", json!("../../etc/passwd"))),
        ("a run id below zero", with("at", json!(-1))),
        ("a run id that is no number", with("at", json!("now"))),
        ("devices that are no list", with("devices", json!({"mdev": "x"}))),
        ("a device of no kind", with("devices", json!([{"allocation": null, "device": {"gpu": "x"}}]))),
        (
            "a device with a path for its name",
            with("devices", json!([{"allocation": null, "device": {"mdev": "../../../tmp/x"}}])),
        ),
        (
            "an unknown field in a device",
            with(
                "devices",
                json!([{"allocation": null, "device": {"mdev": device(&world, "web1")}, "force": true}]),
            ),
        ),
        (
            "an allocation that is no id",
            with(
                "devices",
                json!([{"allocation": "../x", "device": {"mdev": "11111111-2222-4333-8444-555555555555"}}]),
            ),
        ),
    ];
    for (what, body) in cases {
        let line = refused(&world, what, || request(&world, "POST", "/v1/hook", &body));
        assert!(line.is_ascii() || what == "garbage", "{what}: {line}");
    }
    assert_eq!(post_hook(&world, &good).status, 200, "the service is as well as before");
}

#[test]
fn paths_and_methods_that_are_none_are_refused() {
    let world = lab();
    domains(&world, "small", &["web1"]);
    let long = format!("/v1/{}", "x".repeat(5000));
    let paths = [
        ("GET", "/"),
        ("GET", "/v1/hook"),
        ("GET", "/v2/gpus"),
        ("PUT", "/v1/profiles/..%2f..%2fx"),
        ("DELETE", "/v1/mdevs/..%2f..%2fetc"),
        ("GET", "/v1/profiles/%00"),
        ("PATCH", "/v1/allocations"),
        ("GET", &long),
    ];
    for (method, path) in paths {
        refused(&world, path, || request(&world, method, path, b""));
    }
}

#[test]
fn devices_that_were_not_promised_to_this_domain_are_refused_by_name() {
    let world = lab();
    domains(&world, "small", &["web1", "web2"]);
    let (mine, theirs) = (device(&world, "web1"), device(&world, "web2"));
    let id = |name: &str| {
        let one = crate::kit::allocations(&world, name);
        one[0]["id"].as_str().expect("an id").to_owned()
    };
    let prepare = |devices: Value| {
        let mut request = hook(&world, "prepare", now(), "web1");
        request["devices"] = devices;
        move |world: &World| post_hook(world, &request)
    };
    let stranger = "11111111-2222-4333-8444-555555555555";
    let cases = [
        (
            "another domain's alias",
            json!([{"allocation": id("web2"), "device": {"mdev": theirs}}]),
            "promised to domain web2",
        ),
        (
            "another domain's UUID without its alias",
            json!([{"allocation": null, "device": {"mdev": theirs}}]),
            "promised to domain web2",
        ),
        (
            "another UUID under our alias",
            json!([{"allocation": id("web1"), "device": {"mdev": stranger}}]),
            "was promised",
        ),
        (
            "an alias that nobody knows",
            json!([{"allocation": "ffffffff", "device": {"mdev": mine}}]),
            "no allocation knows it",
        ),
        (
            "one allocation twice",
            json!([{"allocation": id("web1"), "device": {"mdev": mine}}, {"allocation": null, "device": {"mdev": mine}}]),
            "twice",
        ),
        (
            "its own and another's",
            json!([{"allocation": id("web1"), "device": {"mdev": mine}}, {"allocation": id("web2"), "device": {"mdev": theirs}}]),
            "promised to domain web2",
        ),
    ];
    for (what, devices, word) in cases {
        let ask = prepare(devices);
        let line = refused(&world, what, || ask(&world));
        assert!(line.contains(word), "{what}: {line}");
    }
}

#[test]
fn a_cloned_domain_is_refused_with_the_command_to_type() {
    let world = lab();
    domains(&world, "small", &["web1"]);
    let clone =
        world.xml("web1").replace("<name>web1<", "<name>copy<").replace("000000000100<", "000000000200<");
    world.set_xml("copy", &clone);
    let line = world.start("copy").expect_err("a clone names the original's slice");
    assert!(line.contains("vgpuctl attach copy --profile small"), "{line}");
    world.start("web1").expect("the original is not concerned");
    world.settles_to(&world.devices("web1"), "the original's slice");
}

#[test]
fn hook_requests_of_a_user_who_is_not_root_are_refused() {
    let world = lab();
    domains(&world, "small", &["web1"]);
    let root = world.host.root();
    let hook = root.join("vgpu-hook");
    std::fs::copy(env!("CARGO_BIN_EXE_vgpu-hook"), &hook).expect("a copy that everybody may run");
    for path in ["", "run", "run/vgpud", "run/vgpud/vgpud.sock"] {
        std::fs::set_permissions(root.join(path), std::fs::Permissions::from_mode(0o777)).expect("mode");
    }
    let (before, writes) = (promises(&world), world.host.writes().len());
    for words in ["prepare begin -", "release end -"] {
        let mut command = world.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&hook).arg("web1");
        command.args(words.split(' ')).env("PATH", "/usr/bin:/bin");
        let xml = std::fs::File::open(world.file("web1")).expect("a definition");
        let output = command.stdin(Stdio::from(xml)).output().expect("setpriv runs");
        let line = stderr(&output);
        assert!(line.contains("root only, not from uid 65534"), "{words}: {line}");
        assert_eq!(output.status.success(), words.starts_with("release"), "{words}");
    }
    assert_eq!((promises(&world), world.host.writes().len()), (before, writes));
    world.start("web1").expect("root may");
}

#[test]
fn profiles_that_make_no_sense_are_refused() {
    let world = lab();
    let put = |body: Value| {
        let world = &world;
        move || request(world, "PUT", "/v1/profiles/odd", body.to_string().as_bytes())
    };
    let base = json!({"name": "odd", "wish": {"type": "mtty-1"}, "policy": "most-free", "display": false, "ramfb": false});
    let with = |key: &str, value: Value| {
        let mut changed = base.clone();
        changed[key] = value;
        changed
    };
    let cases = [
        ("an unknown key", with("colour", json!("red")), "colour"),
        ("another name", with("name", json!("even")), "even"),
        ("a name with a path", with("name", json!("../odd")), "name"),
        ("an unknown policy", with("policy", json!("best")), "most-free"),
        ("an empty type", with("wish", json!({"type": ""})), "type"),
        ("a type of 1 MB", with("wish", json!({"type": "x".repeat(100_000)})), "most"),
        ("an absurd size", with("wish", json!({"framebuffer": "900000TiB"})), ""),
        ("no size", with("wish", json!({"framebuffer": "0MiB"})), ""),
        ("two wishes", with("wish", json!({"type": "a", "vf": "8086:10ca"})), ""),
        ("ramfb without a display", with("ramfb", json!(true)), "display"),
    ];
    for (what, body, word) in cases {
        let line = refused(&world, what, put(body));
        assert!(line.contains(word), "{what}: {line}");
    }
    domains(&world, "small", &["web1"]);
    let line = refused(&world, "delete while used", || request(&world, "DELETE", "/v1/profiles/small", b""));
    assert!(line.contains("web1"), "{line}");
    let body = json!({"name": "small", "wish": {"vf": "8086:10ca"}, "policy": "most-free", "display": false, "ramfb": false});
    let line = refused(&world, "another kind while followed", || {
        request(&world, "PUT", "/v1/profiles/small", body.to_string().as_bytes())
    });
    assert!(line.contains("cannot become"), "{line}");
    for words in
        ["profile create odd --type mtty-1 --policy best", "profile create odd --framebuffer 9e99GiB"]
    {
        assert_eq!(world.ctl(words).status.code(), Some(2), "{words}");
    }
}

#[test]
fn attaching_what_cannot_be_is_refused() {
    let world = lab();
    world.define("web1", 100);
    let cases = [
        ("attach ghost --profile small", 4),
        ("attach web1 --profile ghost", 4),
        ("attach web1 --profile small --count 17", 2),
        ("attach web1 --profile small --count 0", 2),
        ("xml --profile small --domain web1 --live", 5),
        ("detach web1 --allocation ffffffff", 4),
        ("vfs set 0000:01:00.0 8", 2),
        ("vfs set mtty 1", 5),
        ("mdev create mtty mtty-9", 4),
        ("mdev create ghost mtty-1", 4),
        ("mdev remove 11111111-2222-4333-8444-555555555555", 4),
    ];
    let (before, writes) = (promises(&world), world.host.writes().len());
    for (words, code) in cases {
        let output = world.ctl(words);
        assert_eq!(output.status.code(), Some(code), "{words}: {}", stderr(&output));
    }
    assert_eq!((promises(&world), world.host.writes().len()), (before, writes));
    wait("nothing was written", || world.host.mdevs().is_empty().then_some(()));
}
