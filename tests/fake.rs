//! The fake kernel against recordings of the real one.
//!
//! `tests/lab/compare.rs` compares the two directly, in the lab. What it printed there for some seeds is
//! kept in `tests/compare/recorded/KERNEL/COUNT-SEED.txt`, so that the fake is held against the kernel in every run.

#[cfg(test)]
#[path = "compare/fake.rs"]
mod on_fake;
#[cfg(test)]
#[path = "compare/mod.rs"]
mod program;
#[cfg(test)]
mod support;

#[cfg(test)]
mod fake {
    use std::path::Path;

    use crate::on_fake::on_the_fake;
    use crate::support::spec::KernelSpec;
    use crate::support::tree::put;

    #[test]
    fn the_fake_answers_as_the_kernel_did() {
        for (name, kernel) in [("linux-6.12", KernelSpec::Linux6_12), ("linux-6.1", KernelSpec::Linux6_1)] {
            let recordings = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compare/recorded").join(name);
            answers_as_recorded(kernel, name, &recordings);
        }
    }

    fn answers_as_recorded(kernel: KernelSpec, kernel_name: &str, all: &Path) {
        let mut recordings = Vec::new();
        for entry in std::fs::read_dir(all).expect("recordings") {
            let path = entry.expect("an entry").path();
            #[expect(clippy::disallowed_methods, reason = "a recording is no attribute")]
            let recorded = std::fs::read_to_string(&path).expect("a recording");
            let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
            let (count, seed) = name.split_once('-').expect("COUNT-SEED");
            let fake = on_the_fake(kernel, seed.parse().expect("a seed"), count.parse().expect("a count"));
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{kernel_name}-{name}.txt"));
            put(&kept, (fake.join("\n") + "\n").as_bytes());
            recordings.push((path, recorded, fake));
        }
        assert!(!recordings.is_empty());
        for (path, recorded, fake) in &recordings {
            compare(path, recorded, fake);
        }
    }

    #[track_caller]
    fn compare(path: &Path, recorded: &str, fake: &[String]) {
        let mut recorded = recorded.lines();
        let mut context = Vec::new();
        for line in fake {
            let found = recorded.next().unwrap_or("(nothing more)");
            let newest = context.len().saturating_sub(60);
            let before = context[newest..].join("\n");
            assert_eq!(
                found,
                line,
                "{}: left is the kernel, right the fake; before:\n{before}",
                path.display()
            );
            context.push(found);
        }
        assert_eq!(recorded.next(), None, "{}: the kernel did more", path.display());
    }
}

/// Where the fake differed from the kernel once. Each case names what says so in Linux 6.12.
#[cfg(test)]
mod cases {
    use std::io::{Read as _, Write as _};
    use std::path::Path;

    use nix::errno::Errno;

    use crate::support::fake::FakeKernel;
    use crate::support::spec::HostSpec;

    const UUID: &str = "8a1c0e3e-c0de-4000-8000-000000000001";
    const PF: &str = "sys/bus/pci/devices/0000:01:00.0";
    const VF1: &str = "0000:01:10.2";

    fn lab() -> FakeKernel {
        FakeKernel::mount(HostSpec::lab())
    }

    fn write(root: &Path, path: &str, value: &str) -> Result<(), Errno> {
        let file = std::fs::File::options().write(true).open(root.join(path));
        let written = file.and_then(|mut file| file.write_all(value.as_bytes()));
        written.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))
    }

    fn read(root: &Path, path: &str) -> String {
        let mut text = String::new();
        let mut file = std::fs::File::open(root.join(path)).expect("an attribute");
        file.read_to_string(&mut text).expect("its content");
        text.trim_end().to_owned()
    }

    /// The lab with three VFs, the second on vfio-pci and with a guest.
    fn with_a_held_vf() -> FakeKernel {
        let host = lab();
        let ok = |path: &str, value: &str| write(host.root(), path, value).expect("written");
        ok(&format!("{PF}/sriov_numvfs"), "3");
        ok(&format!("sys/bus/pci/devices/{VF1}/driver_override"), "vfio-pci");
        ok("sys/bus/pci/drivers/igbvf/unbind", VF1);
        ok("sys/bus/pci/drivers_probe", VF1);
        assert!(host.hold(VF1, "web1", 4711));
        host
    }

    /// create_store of drivers/vfio/mdev/mdev_sysfs.c lets 37 bytes through, and guid_parse looks at 36.
    #[test]
    fn nobody_looks_at_what_follows_a_uuid() {
        let host = lab();
        let create = "sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1/create";
        assert_eq!(write(host.root(), create, &format!("{UUID}x")), Ok(()));
        assert_eq!(host.mdevs(), [UUID]);
        assert_eq!(write(host.root(), create, &format!("{UUID}xx")), Err(Errno::EINVAL));
    }

    /// mbochs_release_dev of samples/vfio-mdev/mbochs.c runs with the last reference to the device, and an open
    /// group node has none.
    #[test]
    fn an_open_group_node_keeps_nothing_of_a_removed_mdev() {
        let host = lab();
        let types = "sys/class/mdev_bus/mbochs/mdev_supported_types/mbochs-large";
        write(host.root(), &format!("{types}/create"), UUID).expect("made");
        let group = std::fs::read_link(host.root().join(format!("sys/bus/mdev/devices/{UUID}/iommu_group")));
        let group = group.expect("a group");
        let node = host.root().join("dev/vfio").join(group.file_name().expect("a number"));
        let _guard = std::fs::File::options().read(true).write(true).open(node).expect("free");
        write(host.root(), &format!("sys/bus/mdev/devices/{UUID}/remove"), "1").expect("removed");
        assert_eq!(read(host.root(), &format!("{types}/available_instances")), "4");
    }

    /// __device_release_driver of drivers/base/dd.c takes the links away first, and vfio_unregister_group_dev of
    /// drivers/vfio/vfio_main.c the VFIO device, before it waits; the device's lock is held meanwhile.
    #[test]
    fn a_driver_that_waits_for_a_guest_has_no_links_and_the_lock() {
        let host = with_a_held_vf();
        let vf = format!("sys/bus/pci/devices/{VF1}");
        std::thread::scope(|threads| {
            let unbind = threads.spawn(|| write(host.root(), "sys/bus/pci/drivers/vfio-pci/unbind", VF1));
            host.wait_sleeping(1);
            for name in ["driver", "vfio-dev"] {
                assert!(!host.root().join(&vf).join(name).exists(), "{name}");
            }
            // device_attach is not reached while the device has a driver (bus_rescan_devices_helper).
            assert_eq!(write(host.root(), "sys/bus/pci/drivers_probe", VF1), Ok(()));
            assert_eq!(read(host.root(), &format!("{vf}/driver_override")), "vfio-pci");
            let other = threads.spawn(|| write(host.root(), "sys/bus/pci/drivers/vfio-pci/bind", VF1));
            host.wait_sleeping(2);
            host.unhold(VF1);
            assert_eq!((unbind.join().expect("ended"), other.join().expect("ended")), (Ok(()), Ok(())));
        });
    }

    /// kernfs_fop_write_iter of fs/kernfs/file.c locks the open file, not the attribute, so a second `unbind` comes
    /// to the device's lock; when it has it the driver is gone, and device_driver_detach of drivers/base/dd.c has
    /// no answer but success.
    #[test]
    fn a_second_unbind_of_a_held_vf_waits_for_the_first() {
        let host = with_a_held_vf();
        let unbind = || write(host.root(), "sys/bus/pci/drivers/vfio-pci/unbind", VF1);
        std::thread::scope(|threads| {
            let first = threads.spawn(unbind);
            host.wait_sleeping(1);
            let second = threads.spawn(unbind);
            host.wait_sleeping(2);
            host.unhold(VF1);
            assert_eq!((first.join().expect("ended"), second.join().expect("ended")), (Ok(()), Ok(())));
        });
    }

    /// sriov_del_vfs and pci_iov_remove_virtfn of drivers/pci/iov.c: one after the other, links first, and
    /// sriov_numvfs_show waits for the lock.
    #[test]
    fn vfs_before_a_held_one_are_gone_and_those_behind_it_are_not() {
        let host = with_a_held_vf();
        let count = format!("{PF}/sriov_numvfs");
        std::thread::scope(|threads| {
            let disable = threads.spawn(|| write(host.root(), &count, "0"));
            host.wait_sleeping(1);
            let exists = |name: &str| host.root().join("sys/bus/pci/devices").join(name).exists();
            assert_eq!([exists("0000:01:10.0"), exists(VF1), exists("0000:01:10.4")], [false, true, true]);
            assert_eq!(
                ["virtfn0", "virtfn1", "virtfn2"].map(|n| host.root().join(PF).join(n).exists()),
                [false, false, true]
            );
            let reader = threads.spawn(|| read(host.root(), &count));
            host.wait_sleeping(2);
            host.unhold(VF1);
            assert_eq!(disable.join().expect("ended"), Ok(()));
            assert_eq!(reader.join().expect("ended"), "0");
            assert!(!exists("0000:01:10.4"));
        });
    }

    /// kstrtou16 with base 0 and kstrtobool of lib/kstrtox.c; __driver_probe_device of drivers/base/dd.c.
    #[test]
    fn numbers_words_and_a_second_bind_are_answered_as_the_kernel_does() {
        let host = lab();
        let root = host.root();
        let count = format!("{PF}/sriov_numvfs");
        for (value, answer) in [("0x2", Ok(())), ("+2\n", Ok(())), ("02", Ok(())), ("2 ", Err(Errno::EINVAL))]
        {
            assert_eq!(write(root, &count, value), answer, "{value:?}");
        }
        assert_eq!(read(root, &count), "2");
        let autoprobe = format!("{PF}/sriov_drivers_autoprobe");
        assert_eq!(write(root, &autoprobe, "off"), Ok(()));
        assert_eq!(
            (read(root, &autoprobe), write(root, &autoprobe, "o")),
            ("0".to_owned(), Err(Errno::EINVAL))
        );
        assert_eq!(write(root, "sys/bus/pci/drivers/igbvf/bind", "0000:01:10.0\n"), Err(Errno::EBUSY));
    }
}
