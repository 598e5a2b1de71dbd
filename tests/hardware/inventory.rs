//! Readings of fake hosts.

use nix::errno::Errno;
use vgpud::inventory::{ScanOptions, scan};
use vgpud::model::{BackendKind, HostSnapshot};
use vgpud::sysfs::Sysfs;

use crate::support::fake::FakeKernel;
use crate::support::spec::HostSpec;

const A: &str = "aaaaaaaa-0000-4000-8000-000000000001";

fn read(host: &FakeKernel) -> HostSnapshot {
    let include = ["8086:10c9".parse().expect("an id")].into();
    scan(&Sysfs::new(host.root()), &ScanOptions { include })
}

#[test]
fn the_lab_shows_its_parents_and_the_listed_pfs() {
    let host = FakeKernel::mount(HostSpec::lab());
    let snapshot = read(&host);
    let names: Vec<&str> = snapshot.gpus.iter().map(|gpu| gpu.name.as_str()).collect();
    assert_eq!(names, ["0000:01:00.0", "0000:02:00.0", "mbochs", "mdpy", "mtty"]);
    assert_eq!(snapshot.problems, []);
    assert_eq!(snapshot.gpus[0].backend, BackendKind::Sriov);
    assert_eq!(snapshot.gpus[0].backend_reason, "has sriov_totalvfs 7 and is listed in devices.include");
    assert_eq!(snapshot.gpus[0].id.as_str(), "pci:0000:01:00.0/8086:10c9/8086:a02b");
    assert_eq!(snapshot.gpus[4].id.as_str(), "virtual:mtty");
    let unlisted = scan(&Sysfs::new(host.root()), &ScanOptions::default());
    assert_eq!(unlisted.gpus.len(), 3, "network functions are shown only when listed");
}

#[test]
fn the_parents_of_vfs_belong_to_their_pf() {
    let host = FakeKernel::mount(HostSpec::dual_gpu());
    let snapshot = read(&host);
    assert_eq!(snapshot.gpus.len(), 2);
    for gpu in &snapshot.gpus {
        assert_eq!((gpu.parents.len(), gpu.parents[0].types.len()), (32, 24));
        assert_eq!(gpu.backend_reason, "32 of its VFs offer mdev types in mdev_supported_types");
        assert!(gpu.parents.iter().all(|parent| parent.types.iter().all(|t| t.framebuffer.is_some())));
    }
    assert_eq!(snapshot.gpus[1].numa_node, Some(1));
    assert_eq!(snapshot.gpus[0].parents[28].name.as_str(), "0000:41:04.0", "functions carry into devices");
}

#[test]
fn a_held_mdev_shows_its_domain() {
    let host = FakeKernel::mount(HostSpec::lab());
    host.foreign_mdev("mtty", "mtty-2", A).expect("made");
    assert!(host.hold(A, "web,1", 4711));
    let snapshot = read(&host);
    let (gpu, parent, mdev) = snapshot.mdev(A.parse().expect("a UUID")).expect("found");
    assert_eq!(
        (gpu.name.as_str(), parent.types[0].available, mdev.mdev_type.as_str()),
        ("mtty", 22, "mtty-2")
    );
    assert_eq!(mdev.holders.len(), 1);
    assert_eq!(mdev.holders[0].pid, 4711);
}

#[test]
fn attributes_that_take_the_device_lock_are_never_read() {
    let host = FakeKernel::mount(HostSpec::dual_gpu());
    host.fail_reads("sriov_numvfs", Errno::EIO);
    host.fail_reads("driver_override", Errno::EIO);
    let before = host.failed_reads();
    let snapshot = read(&host);
    assert_eq!(snapshot.gpus[0].sriov.as_ref().map(|sriov| sriov.enabled), Some(32));
    assert_eq!(host.failed_reads(), before);
}

#[test]
fn a_sick_parent_costs_only_itself() {
    let host = FakeKernel::mount(HostSpec::lab());
    host.fail_reads("mdpy-vga/available_instances", Errno::EIO);
    let snapshot = read(&host);
    assert_eq!(snapshot.gpus.len(), 5);
    let mdpy = snapshot.gpu("mdpy").expect("still shown");
    assert_eq!(mdpy.parents[0].types.len(), 2);
    assert_eq!(snapshot.problems.len(), 1);
    assert_eq!(snapshot.problems[0].device.as_ref().map(|name| name.as_str()), Some("mdpy"));
    assert!(
        snapshot.problems[0].text.ends_with("Input/output error (os error 5)"),
        "{:?}",
        snapshot.problems
    );
}

#[test]
fn a_reboot_is_another_boot_id() {
    let mut host = FakeKernel::mount(HostSpec::lab());
    host.foreign_mdev("mtty", "mtty-2", A).expect("made");
    let first = read(&host);
    host.reboot();
    let second = read(&host);
    assert_ne!(first.boot_id, second.boot_id);
    assert!(first.mdev(A.parse().expect("a UUID")).is_some());
    assert!(second.mdev(A.parse().expect("a UUID")).is_none());
}

#[test]
fn an_empty_host_is_no_error() {
    let host = FakeKernel::mount(HostSpec::default());
    assert_eq!((read(&host).gpus, read(&host).problems), (vec![], vec![]));
    let dir = tempfile::tempdir().expect("temporary directory");
    let nothing = scan(&Sysfs::new(dir.path()), &ScanOptions::default());
    assert_eq!((nothing.gpus, nothing.problems), (vec![], vec![]));
}
