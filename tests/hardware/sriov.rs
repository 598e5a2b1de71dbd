//! VF counts and bindings.

use nix::errno::Errno;
use vgpud::backend::{StepError, execute};
use vgpud::inventory::{ScanOptions, scan};
use vgpud::model::{HostSnapshot, Kind, Sriov, Step};
use vgpud::sysfs::Sysfs;

use crate::support::fake::FakeKernel;
use crate::support::spec::HostSpec;

const PF: &str = "0000:01:00.0";
const VF0: &str = "0000:01:10.0";
const PF_DIR: &str = "sys/devices/pci0000:00/0000:00:02.0/0000:01:00.0";

fn set(count: u32) -> Step {
    Step::SetVfs { pf: PF.parse().expect("an address"), count, before: 0, script: None }
}

fn bind(vf: &str) -> Step {
    Step::BindVf { vf: vf.parse().expect("an address") }
}

fn mount(change: impl FnOnce(&mut HostSpec)) -> (FakeKernel, Sysfs) {
    let mut spec = HostSpec::lab();
    change(&mut spec);
    let host = FakeKernel::mount(spec);
    let sysfs = Sysfs::new(host.root());
    (host, sysfs)
}

fn lab() -> (FakeKernel, Sysfs) {
    mount(|_| {})
}

fn snapshot(sysfs: &Sysfs) -> HostSnapshot {
    let include = ["8086:10c9".parse().expect("an id")].into();
    scan(sysfs, &ScanOptions { include })
}

fn sriov(sysfs: &Sysfs) -> Sriov {
    snapshot(sysfs).gpu(PF).expect("the PF").sriov.clone().expect("a PF")
}

#[test]
fn vfs_are_made_bound_and_counted() {
    let (host, sysfs) = lab();
    execute(&sysfs, &set(4)).expect("made");
    let state = sriov(&sysfs);
    assert_eq!((state.total, state.enabled, state.autoprobe), (7, 4, Some(false)));
    assert_eq!(state.vf_id, Some("8086:10ca".parse().expect("an id")));
    for vf in &state.vfs {
        assert_eq!((vf.driver.as_deref(), vf.vfio), (Some("vfio-pci"), true), "{}", vf.address);
        assert!(vf.iommu_group.is_some() && vf.holders.is_empty());
    }
    let values: Vec<String> =
        host.writes().into_iter().filter(|w| w.path.ends_with("numvfs")).map(|w| w.value).collect();
    assert_eq!(values, ["4"], "from 0 there is no need to pass through it");
}

#[test]
fn a_change_goes_through_zero_and_a_repetition_writes_nothing() {
    let (host, sysfs) = lab();
    execute(&sysfs, &set(4)).expect("made");
    execute(&sysfs, &set(2)).expect("changed");
    assert_eq!(sriov(&sysfs).enabled, 2);
    let written = host.writes().len();
    execute(&sysfs, &set(2)).expect("so already");
    assert_eq!(host.writes().len(), written);
    execute(&sysfs, &set(0)).expect("none");
    assert_eq!(sriov(&sysfs).vfs, []);
}

#[test]
fn a_held_vf_refuses_every_change_before_anything_is_written() {
    let (host, sysfs) = lab();
    execute(&sysfs, &set(4)).expect("made");
    assert!(host.hold(VF0, "web1", 4711));
    let before = host.state();
    let written = host.writes().len();
    for count in [0, 2, 7] {
        let error = execute(&sysfs, &set(count)).expect_err("held");
        assert_eq!(error.to_string(), format!("VF {VF0} is in use by domain web1 (pid 4711)"));
        assert_eq!(error.kind(), Kind::Busy);
    }
    execute(&sysfs, &set(4)).expect("the count is right: nothing to refuse");
    assert_eq!((host.state(), host.writes().len()), (before, written));
    host.unhold(VF0);
    execute(&sysfs, &set(0)).expect("free now");
}

#[test]
fn a_vf_whose_network_interface_is_up_is_in_use_by_the_host() {
    let (host, sysfs) = lab();
    host.by_hand(&format!("{PF_DIR}/sriov_numvfs"), "2").expect("made by hand, probed by igbvf");
    let holders = sriov(&sysfs).vfs[0].holders.clone();
    assert!(holders[0].to_string().contains("which is up"), "{holders:?}");
    for step in [set(4), set(0), bind(VF0)] {
        let error = execute(&sysfs, &step).expect_err("in use by the host");
        assert_eq!(error.kind(), Kind::Busy, "{error}");
        assert!(error.hints()[0].starts_with("take it out of use"), "{:?}", error.hints());
    }
    for vf in [VF0, "0000:01:10.2"] {
        host.set_link_up(vf, false);
    }
    execute(&sysfs, &set(2)).expect("rebound");
    assert!(sriov(&sysfs).vfs.iter().all(|vf| vf.vfio));
}

#[test]
fn more_than_total_is_refused_before_the_present_vfs_are_lost() {
    let (host, sysfs) = lab();
    execute(&sysfs, &set(4)).expect("made");
    let before = host.state();
    let error = execute(&sysfs, &set(8)).expect_err("too many");
    assert_eq!(
        (error.kind(), error.to_string()),
        (Kind::Usage, format!("{PF} can have at most 7 VFs, not 8"))
    );
    assert_eq!(host.state(), before);
}

#[test]
fn a_count_that_is_refused_after_the_old_vfs_went_is_brought_back_or_told() {
    let (host, sysfs) = lab();
    execute(&sysfs, &set(4)).expect("four VFs");
    // The first write is the way through 0, the second the new count.
    host.fail("sriov_numvfs", 2, Errno::ENOMEM);
    let refused = execute(&sysfs, &set(6)).expect_err("no room for six");
    assert_eq!(refused.errno(), Some(Errno::ENOMEM));
    let after = sriov(&sysfs);
    assert_eq!(after.enabled, 4, "as before");
    assert!(after.vfs.iter().all(|vf| vf.driver.as_deref() == Some("vfio-pci")));
    host.unhang("sriov_numvfs");
    host.fail("sriov_numvfs", 2, Errno::ENOMEM);
    // Counts the writes that the fault above lets pass.
    host.fail("sriov_numvfs", 2, Errno::EIO);
    let lost = execute(&sysfs, &set(6)).expect_err("neither six nor four");
    assert!(lost.to_string().ends_with("had 4 VFs and has 0 now"), "{lost}");
    assert_eq!(lost.errno(), Some(Errno::ENOMEM));
}

#[test]
fn a_driver_that_makes_fewer_is_noticed() {
    let (_host, sysfs) = mount(|spec| spec.pci[0].sriov.as_mut().expect("a PF").makes = Some(3));
    let error = execute(&sysfs, &set(5)).expect_err("fewer");
    assert_eq!(
        error.to_string(),
        format!("could not set the VFs of {PF} to 5: reading back shows 3 VFs; the PF's driver made no more")
    );
    assert!(sriov(&sysfs).vfs.iter().all(|vf| vf.vfio), "those that exist are bound");
}

#[test]
fn a_pf_without_a_driver_that_can_is_told_so() {
    let (_host, sysfs) = mount(|spec| spec.pci[0].driver = None);
    let error = execute(&sysfs, &set(1)).expect_err("no driver");
    assert!(error.to_string().ends_with("no driver is bound to the PF"), "{error}");
    let (_host, sysfs) = mount(|spec| spec.pci[0].sriov.as_mut().expect("a PF").configure = false);
    let error = execute(&sysfs, &set(1)).expect_err("no sriov_configure");
    assert!(error.to_string().contains("driver igb of the PF"), "{error}");
    assert!(error.hints()[0].contains("sriov_configure"), "{:?}", error.hints());
}

#[test]
fn drivers_with_a_way_of_their_own_are_left_alone_and_the_way_is_told() {
    for (driver, count, reason, hint) in [
        ("gim", 1, "when it is loaded", "/etc/gim_config"),
        ("nvidia", 7, "its own script, sriov-manage", "[nvidia] sriov_manage"),
        ("nvidia", 1, "all 7 VFs", "7"),
    ] {
        let (host, sysfs) = mount(|spec| {
            spec.pci[0].driver = Some(driver.to_owned());
            spec.drivers.push((driver.to_owned(), false));
        });
        let before = host.state();
        let error = execute(&sysfs, &set(count)).expect_err("another way");
        assert!(error.to_string().contains(reason), "{error}");
        assert!(error.hints()[0].contains(hint), "{:?}", error.hints());
        assert_eq!(host.state(), before, "{driver}");
    }
}

#[test]
fn errors_of_the_kernel_are_told_with_what_to_do() {
    let cases = [
        (Errno::EIO, "MMIO"),
        (Errno::ENOSYS, "MMIO"),
        (Errno::EBUSY, "another tool"),
        (Errno::ENOMEM, "memory"),
    ];
    for (errno, hint) in cases {
        let (host, sysfs) = lab();
        host.fail("sriov_numvfs", 1, errno);
        let error = execute(&sysfs, &set(3)).expect_err("refused");
        assert_eq!((error.kind(), error.errno()), (Kind::HostFault, Some(errno)));
        assert!(error.hints()[0].contains(hint), "{errno}: {:?}", error.hints());
    }
}

#[test]
fn a_function_without_sriov_and_one_that_is_gone_are_told_apart() {
    let (host, sysfs) = mount(|spec| spec.pci[0].sriov = None);
    assert!(execute(&sysfs, &set(1)).expect_err("no PF").to_string().contains("it is no PF"));
    host.pull_out(PF);
    assert_eq!(execute(&sysfs, &set(1)).expect_err("gone").kind(), Kind::NotFound);
    assert_eq!(execute(&sysfs, &bind(VF0)).expect_err("gone").kind(), Kind::NotFound);
}

#[test]
fn binding_verifies_and_refuses_what_a_guest_has() {
    let (host, sysfs) = lab();
    host.by_hand(&format!("{PF_DIR}/sriov_drivers_autoprobe"), "0").expect("off");
    host.by_hand(&format!("{PF_DIR}/sriov_numvfs"), "1").expect("made by hand");
    execute(&sysfs, &bind(VF0)).expect("bound");
    let written = host.writes().len();
    assert!(host.hold(VF0, "web1", 4711));
    execute(&sysfs, &bind(VF0)).expect("bound already, and not touched");
    assert_eq!(host.writes().len(), written);
}

#[test]
fn a_driver_that_does_not_take_the_vf_is_noticed() {
    let (host, sysfs) = lab();
    host.by_hand(&format!("{PF_DIR}/sriov_drivers_autoprobe"), "0").expect("off");
    host.by_hand(&format!("{PF_DIR}/sriov_numvfs"), "1").expect("made by hand");
    host.ignore_writes("drivers_probe");
    let error = execute(&sysfs, &bind(VF0)).expect_err("not bound");
    assert_eq!(error.to_string(), format!("could not bind {VF0} to vfio-pci: reading back shows no driver"));
}

#[test]
fn a_missing_vfio_driver_is_named() {
    let (host, sysfs) = mount(|spec| spec.drivers.retain(|(name, _)| name != "vfio-pci"));
    host.by_hand(&format!("{PF_DIR}/sriov_drivers_autoprobe"), "0").expect("off");
    host.by_hand(&format!("{PF_DIR}/sriov_numvfs"), "1").expect("made by hand");
    let error = execute(&sysfs, &bind(VF0)).expect_err("no driver");
    assert!(matches!(error, StepError::NoDriver { .. }), "{error:?}");
    assert_eq!(error.hints(), ["load it: modprobe vfio-pci"]);
}

#[test]
fn a_variant_driver_is_preferred() {
    let (_host, sysfs) = mount(|spec| {
        spec.drivers.push(("igb-vfio-pci".to_owned(), true));
        spec.aliases.push_str("alias vfio_pci:v00008086d000010CAsv*sd*bc*sc*i* igb_vfio_pci\n");
    });
    execute(&sysfs, &set(1)).expect("made");
    assert_eq!(sriov(&sysfs).vfs[0].driver.as_deref(), Some("igb-vfio-pci"));
}

#[test]
fn errors_while_binding_keep_errno() {
    for (attribute, errno, hint) in [
        ("driver_override", Errno::ENOMEM, "memory"),
        ("drivers_probe", Errno::EINVAL, "IOMMU"),
        ("igbvf/unbind", Errno::EBUSY, "another driver"),
    ] {
        let (host, sysfs) = lab();
        host.by_hand(&format!("{PF_DIR}/sriov_numvfs"), "1").expect("made by hand");
        host.set_link_up(VF0, false);
        host.fail(attribute, 1, errno);
        let error = execute(&sysfs, &bind(VF0)).expect_err("refused");
        assert_eq!(error.errno(), Some(errno), "{attribute}: {error:?}");
        assert!(error.hints()[0].contains(hint), "{attribute}: {:?}", error.hints());
    }
}

#[test]
fn vfs_that_carry_mdevs_are_not_taken_away() {
    let host = FakeKernel::mount(HostSpec::dual_gpu());
    let sysfs = Sysfs::new(host.root());
    let uuid = "aaaaaaaa-0000-4000-8000-000000000001";
    host.foreign_mdev("0000:41:00.5", "nvidia-560", uuid).expect("made by somebody else");
    let before = host.state();
    let step =
        Step::SetVfs { pf: "0000:41:00.0".parse().expect("an address"), count: 0, before: 32, script: None };
    let error = execute(&sysfs, &step).expect_err("its mdev would go");
    assert_eq!(error.to_string(), format!("VF 0000:41:00.5 is in use by mdev {uuid}, which exists on it"));
    assert_eq!(host.state(), before);
}
