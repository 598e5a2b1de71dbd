//! Creating and removing mdevs.

use nix::errno::Errno;
use vgpud::backend::{StepError, execute};
use vgpud::model::{Holder, IommuGroupId, Kind, Step};
use vgpud::sysfs::Sysfs;
use vgpud::vfio::{GroupGuard, GuardError};

use crate::support::fake::FakeKernel;
use crate::support::spec::HostSpec;

const A: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const B: &str = "bbbbbbbb-0000-4000-8000-000000000002";

fn create(parent: &str, mdev_type: &str, uuid: &str) -> Step {
    Step::CreateMdev {
        parent: parent.parse().expect("a name"),
        mdev_type: mdev_type.parse().expect("a type"),
        uuid: uuid.parse().expect("a UUID"),
    }
}

fn remove(uuid: &str) -> Step {
    Step::RemoveMdev { uuid: uuid.parse().expect("a UUID") }
}

fn lab() -> (FakeKernel, Sysfs) {
    let host = FakeKernel::mount(HostSpec::lab());
    let sysfs = Sysfs::new(host.root());
    (host, sysfs)
}

#[test]
fn create_then_remove_leaves_the_host_as_it_was() {
    let (host, sysfs) = lab();
    let before = host.state();
    for (parent, mdev_type) in [("mtty", "mtty-2"), ("mdpy", "mdpy-vga")] {
        execute(&sysfs, &create(parent, mdev_type, A)).expect("created");
        assert_eq!(host.mdevs(), [A]);
        execute(&sysfs, &remove(A)).expect("removed");
        assert_eq!(host.state(), before);
    }
}

#[test]
fn mbochs_gives_its_memory_back_when_the_guard_closes() {
    let (host, sysfs) = lab();
    let before = host.state();
    execute(&sysfs, &create("mbochs", "mbochs-large", A)).expect("created");
    execute(&sysfs, &remove(A)).expect("removed");
    // The closing of the group's node reaches the kernel after close(2) has returned.
    assert!(vgpud::sysfs::wait_until(std::time::Duration::from_secs(5), || host.state() == before));
}

#[test]
fn both_ways_of_being_full_are_no_room() {
    let (_host, sysfs) = lab();
    let uuid = |n: u32| format!("aaaaaaaa-0000-4000-8000-{n:012}");
    for (parent, mdev_type, most, errno) in
        [("mdpy", "mdpy-vga", 4, Errno::EUSERS), ("mtty", "mtty-2", 12, Errno::ENOSPC)]
    {
        for n in 0..most {
            execute(&sysfs, &create(parent, mdev_type, &uuid(n))).expect("room");
        }
        let error = execute(&sysfs, &create(parent, mdev_type, &uuid(99))).expect_err("full");
        assert!(matches!(error, StepError::NoRoom { .. }), "{error:?}");
        assert_eq!((error.kind(), error.errno()), (Kind::NoCapacity, Some(errno)));
        assert!(error.retry_elsewhere());
        assert!(error.hints()[0].contains(parent), "{:?}", error.hints());
        for n in 0..most {
            execute(&sysfs, &remove(&uuid(n))).expect("removed");
        }
    }
}

#[test]
fn a_taken_uuid_is_a_conflict_on_any_parent_and_while_its_removal_sleeps() {
    let (host, sysfs) = lab();
    host.foreign_mdev("mtty", "mtty-1", A).expect("made by somebody else");
    let error = execute(&sysfs, &create("mdpy", "mdpy-vga", A)).expect_err("taken");
    assert!(matches!(error, StepError::Exists { .. }), "{error:?}");
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(!error.retry_elsewhere());

    assert!(host.hold(A, "web1", 4711));
    assert_eq!(host.foreign_remove("mtty", A), Err(Errno::EINTR), "the writer sleeps");
    assert!(host.mdevs().is_empty(), "it has left the bus");
    let error = execute(&sysfs, &create("mdpy", "mdpy-vga", A)).expect_err("not free yet");
    assert!(matches!(error, StepError::Exists { .. }), "{error:?}");
    host.unhold(A);
    execute(&sysfs, &create("mdpy", "mdpy-vga", A)).expect("free now");
}

#[test]
fn each_errno_of_create_has_its_own_meaning() {
    let cases = [
        (Errno::EUSERS, Kind::NoCapacity, true, "mtty has no room for another mtty-1"),
        (Errno::ENOSPC, Kind::NoCapacity, true, "mtty has no room for another mtty-1"),
        (Errno::EEXIST, Kind::Conflict, false, "exists already"),
        (Errno::ENODEV, Kind::NotFound, true, "mdev parent mtty (it is unregistering) does not exist"),
        (Errno::EIO, Kind::HostFault, true, "cannot create mdev"),
        (Errno::EINVAL, Kind::HostFault, false, "cannot create mdev"),
        (Errno::ENOMEM, Kind::HostFault, false, "cannot create mdev"),
        (Errno::EPERM, Kind::HostFault, false, "cannot create mdev"),
    ];
    for (errno, kind, elsewhere, text) in cases {
        let (host, sysfs) = lab();
        let before = host.state();
        host.fail("mtty-1/create", 1, errno);
        let error = execute(&sysfs, &create("mtty", "mtty-1", A)).expect_err("refused");
        assert_eq!((error.kind(), error.retry_elsewhere()), (kind, elsewhere), "{errno}: {error}");
        let refusal = error.refusal();
        assert!(refusal.message.contains(text), "{errno}: {}", refusal.message);
        assert!(!refusal.hints.is_empty() && !refusal.hints[0].is_empty(), "{errno}");
        assert_eq!(host.state(), before, "{errno} changes nothing");
    }
}

#[test]
fn the_message_names_act_object_place_and_value() {
    let (host, sysfs) = lab();
    host.fail("mtty-1/create", 1, Errno::EIO);
    let refusal = execute(&sysfs, &create("mtty", "mtty-1", A)).expect_err("refused").refusal();
    let root = host.root().display();
    assert_eq!(
        refusal.message,
        format!(
            "cannot create mdev {A} of type mtty-1 on mtty: cannot write \"{A}\" to {root}/sys/devices/virtual/mtty/mtty/\
             mdev_supported_types/mtty-1/create: Input/output error (os error 5)"
        )
    );
}

#[test]
fn unknown_parents_and_types_are_not_found() {
    let (host, sysfs) = lab();
    for step in [create("none", "mtty-1", A), create("mtty", "none", A)] {
        let error = execute(&sysfs, &step).expect_err("absent");
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
    }
    host.vanish("mtty");
    assert_eq!(execute(&sysfs, &create("mtty", "mtty-1", A)).expect_err("gone").kind(), Kind::NotFound);
}

#[test]
fn removing_what_is_gone_is_success() {
    let (host, sysfs) = lab();
    execute(&sysfs, &remove(A)).expect("nothing to do");
    assert!(host.writes().is_empty());
    host.foreign_mdev("mtty", "mtty-1", A).expect("made");
    for errno in [Errno::ENOENT, Errno::ENODEV] {
        // The other remover wins between our look and our write.
        host.fail("/remove", 1, errno);
    }
    host.vanish("mtty");
    execute(&sysfs, &remove(A)).expect("gone with its parent");
}

#[test]
fn a_held_mdev_is_refused_by_name_and_not_touched() {
    let (host, sysfs) = lab();
    host.foreign_mdev("mtty", "mtty-1", A).expect("made");
    assert!(host.hold(A, "web1", 4711));
    let before = host.state();
    let error = execute(&sysfs, &remove(A)).expect_err("held");
    let holder = Holder { pid: 4711, domain: Some("web1".to_owned()), name: "qemu-system-x86".to_owned() };
    assert_eq!(error, StepError::Held { device: A.to_owned(), holders: vec![holder] });
    assert_eq!(error.kind(), Kind::Busy);
    assert_eq!(error.to_string(), format!("{A} is in use by domain web1 (pid 4711)"));
    assert_eq!(error.hints(), ["stop domain web1 first"]);
    assert_eq!(host.state(), before);
    assert!(host.writes().is_empty(), "no write was tried");
}

#[test]
fn without_a_group_node_the_open_files_decide() {
    let (host, sysfs) = lab();
    host.foreign_mdev("mtty", "mtty-1", A).expect("made");
    host.foreign_mdev("mtty", "mtty-1", B).expect("made");
    host.use_device_node(A);
    host.use_device_node(B);
    assert!(host.hold(A, "web1", 4711));
    let error = execute(&sysfs, &remove(A)).expect_err("held");
    assert!(matches!(&error, StepError::Held { holders, .. } if holders[0].pid == 4711), "{error:?}");
    execute(&sysfs, &remove(B)).expect("nobody has it");
    assert_eq!(host.mdevs(), [A]);
}

#[test]
fn other_errors_of_remove_are_told_with_what_to_do() {
    for (errno, hint) in [(Errno::EAGAIN, "try again"), (Errno::EPERM, "root"), (Errno::EINVAL, "dmesg")] {
        let (host, sysfs) = lab();
        host.foreign_mdev("mtty", "mtty-1", A).expect("made");
        host.fail("/remove", 1, errno);
        let error = execute(&sysfs, &remove(A)).expect_err("refused");
        assert_eq!(error.errno(), Some(errno));
        assert!(error.hints()[0].contains(hint), "{errno}: {:?}", error.hints());
        assert_eq!(host.mdevs(), [A]);
    }
}

#[test]
fn a_remove_that_did_nothing_is_noticed() {
    let (host, sysfs) = lab();
    host.foreign_mdev("mtty", "mtty-1", A).expect("made");
    // ENOENT says that somebody else removes it; here nobody does.
    host.fail("/remove", 1, Errno::ENOENT);
    let error = execute(&sysfs, &remove(A)).expect_err("still there");
    assert!(matches!(error, StepError::NotSo { .. }), "{error:?}");
}

#[test]
fn the_guard_keeps_guests_out_while_it_lives() {
    let (host, sysfs) = lab();
    host.foreign_mdev("mtty", "mtty-1", A).expect("made");
    let group = sysfs.link_name(&format!("sys/bus/mdev/devices/{A}/iommu_group")).expect("a group");
    let group = IommuGroupId(group.parse().expect("a number"));
    let guard = GroupGuard::open(&sysfs, group).expect("free");
    assert_eq!(guard.is_viable(), None, "the fake node has no ioctls");
    assert!(!host.hold(A, "web1", 4711));
    assert!(matches!(GroupGuard::open(&sysfs, group), Err(GuardError::Held(_))));
    drop(guard);
    assert!(host.hold(A, "web1", 4711));
    assert!(matches!(GroupGuard::open(&sysfs, group), Err(GuardError::Held(_))));
}

#[test]
fn nvidia_like_gpus_take_one_size_at_a_time_over_all_their_vfs() {
    let host = FakeKernel::mount(HostSpec::dual_gpu());
    let sysfs = Sysfs::new(host.root());
    execute(&sysfs, &create("0000:41:00.4", "nvidia-560", A)).expect("created");
    let other_size = execute(&sysfs, &create("0000:41:00.5", "nvidia-559", B)).expect_err("another size");
    assert_eq!(other_size.kind(), Kind::NoCapacity);
    let same_vf = execute(&sysfs, &create("0000:41:00.4", "nvidia-560", B)).expect_err("one to a VF");
    assert_eq!(same_vf.kind(), Kind::NoCapacity);
    execute(&sysfs, &create("0000:c1:00.4", "nvidia-559", B)).expect("the other GPU is free");
}
