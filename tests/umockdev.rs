//! A recording of the lab's host, shown to `vgpuctl gpus --direct` by umockdev.
//!
//! `tests/fixtures/lab.md` says how the recording was made. Where umockdev is not installed, there is
//! nothing to show it with, and each test says so and passes.

#![expect(clippy::expect_used, reason = "a recording that cannot be shown fails the test")]
#![expect(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::process::Command;

use serde_json::Value;

const VGPUCTL: &str = env!("CARGO_BIN_EXE_vgpuctl");
const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/lab.umockdev");

/// umockdev's own directory as the root, so that there can be a configuration beside the recorded `/sys`.
const WITH_IGB: &str = r#"mkdir -p "$UMOCKDEV_DIR/etc/vgpud"
    echo 'devices.include = ["8086:10c9"]' >"$UMOCKDEV_DIR/etc/vgpud/vgpud.toml"
    VGPUD_ROOT="$UMOCKDEV_DIR" exec "$0" gpus --direct --output json"#;

/// Nothing of vgpud is told where it is: `/sys` itself is another.
const AS_IT_IS: &str = r#"exec "$0" gpus --direct --output json"#;

/// Runs a shell line, whose `$0` is `vgpuctl`, on the recorded host; `None` without umockdev.
fn on_recorded_host(line: &str) -> Option<Value> {
    #[expect(clippy::disallowed_methods, reason = "the program under test, below umockdev")]
    let started = Command::new("umockdev-run")
        .args(["--device", RECORDING, "--", "sh", "-c", line, VGPUCTL])
        .env_remove("VGPUD_ROOT")
        .output();
    let output = match started {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: umockdev is not installed");
            return None;
        }
        other => other.expect("umockdev-run can be started"),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}

fn gpu<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let gpus = answer["gpus"].as_array().expect("a list");
    gpus.iter().find(|gpu| gpu["name"] == name).unwrap_or_else(|| panic!("no {name} in {gpus:#?}"))
}

/// The types that the one parent of a device offers, with what is left of each.
fn left(gpu: &Value) -> Vec<(&str, u64)> {
    let types = gpu["parents"][0]["types"].as_array().expect("a list");
    types
        .iter()
        .map(|one| (one["id"].as_str().expect("id"), one["available"].as_u64().expect("number")))
        .collect()
}

#[test]
fn recorded_mdev_parents_are_read_with_types_and_slices() {
    let Some(answer) = on_recorded_host(AS_IT_IS) else { return };
    let names: Vec<&Value> =
        answer["gpus"].as_array().expect("a list").iter().map(|gpu| &gpu["name"]).collect();
    assert_eq!(names, ["mbochs", "mdpy", "mtty"], "igb is no GPU and nobody listed it");
    assert_eq!(left(gpu(&answer, "mtty")), [("mtty-1", 23), ("mtty-2", 11)]);
    assert_eq!(
        left(gpu(&answer, "mbochs")),
        [("mbochs-large", 4), ("mbochs-medium", 16), ("mbochs-small", 64)]
    );
    assert_eq!(gpu(&answer, "mbochs")["parents"][0]["types"][1]["framebuffer"], "16MiB");
    let slices = answer["slices"].as_array().expect("a list");
    assert_eq!(slices.len(), 1, "{slices:#?}");
    assert_eq!(slices[0]["device"]["mdev"], "8a1c0e3e-0000-4000-8000-000000000003");
    assert_eq!((&slices[0]["parent"], &slices[0]["mdev_type"]), (&"mtty".into(), &"mtty-1".into()));
    assert_eq!(answer["problems"], Value::Array(Vec::new()));
}

#[test]
fn recorded_functions_are_read_with_their_vfs_and_drivers() {
    let Some(answer) = on_recorded_host(WITH_IGB) else { return };
    let pf = gpu(&answer, "0000:01:00.0");
    assert_eq!((&pf["backend"], &pf["driver"]), (&"sriov".into(), &"igb".into()));
    assert_eq!((&pf["sriov"]["total"], &pf["sriov"]["enabled"]), (&7.into(), &4.into()));
    let vfs = pf["sriov"]["vfs"].as_array().expect("a list");
    assert_eq!(vfs.len(), 4);
    for vf in vfs {
        assert_eq!(
            (&vf["id"], &vf["driver"], &vf["vfio"]),
            (&"8086:10ca".into(), &"vfio-pci".into(), &true.into())
        );
        assert!(vf["iommu_group"].is_u64(), "{vf}");
    }
    let other = gpu(&answer, "0000:02:00.0");
    assert_eq!((&other["sriov"]["total"], &other["sriov"]["enabled"]), (&7.into(), &0.into()));
    assert_eq!(answer["problems"], Value::Array(Vec::new()));
}
