//! Whole GPUs: taken from the host's drivers for a start, given back after it, and refused with the reason.

use nix::errno::Errno;

use crate::support::spec::HostSpec;
use crate::support::world::{World, stderr};

const GPU: &str = "0000:05:00.0";
const AUDIO: &str = "0000:05:00.1";
const OTHER: &str = "0000:06:00.0";

fn cards() -> World {
    let mut world = World::new(HostSpec::cards());
    world.serve();
    world.ok("profile create card --gpu 1002:73bf");
    world.define("nobody", 999);
    world
}

fn with_guest() -> World {
    let world = cards();
    world.define("web1", 101);
    world.ok("attach web1 --profile card");
    world
}

/// The driver that a function has now.
fn driver(world: &World, function: &str) -> Option<String> {
    let link = std::fs::read_link(world.host.root().join(format!("sys/bus/pci/devices/{function}/driver")));
    link.ok().and_then(|target| Some(target.file_name()?.to_string_lossy().into_owned()))
}

fn drivers(world: &World) -> [String; 2] {
    [GPU, AUDIO].map(|function| driver(world, function).unwrap_or_else(|| "none".to_owned()))
}

const HOST: [&str; 2] = ["amdgpu", "snd_hda_intel"];
const VFIO: [&str; 2] = ["vfio-pci", "vfio-pci"];

#[test]
fn a_start_takes_all_functions_and_a_stop_gives_each_back_to_its_driver() {
    let world = with_guest();
    assert_eq!(world.devices("web1"), [GPU, AUDIO], "{}", world.xml("web1"));
    assert_eq!(drivers(&world), HOST, "an attach binds nothing");
    for _ in 0..2 {
        world.start("web1").expect("the GPU is free");
        assert_eq!(drivers(&world), VFIO);
        let shown = world.ok("gpus");
        assert!(shown.contains("whole GPU 1002:73bf") && shown.contains("of web1"), "{shown}");
        world.stop("web1");
        assert_eq!(drivers(&world), HOST);
        for function in [GPU, AUDIO] {
            let at = world.host.root().join(format!("sys/bus/pci/devices/{function}/driver_override"));
            let named = std::fs::read_to_string(at).expect("an attribute");
            assert_eq!(named.trim(), "(null)", "nothing stays named");
        }
    }
    assert_eq!(driver(&world, OTHER).as_deref(), Some("amdgpu"), "the other card was not touched");
}

#[test]
fn a_detach_takes_the_hostdevs_of_all_functions_out() {
    let world = with_guest();
    let xml = world.xml("web1");
    let alias = xml.split("ua-vgpud-").nth(1).and_then(|rest| rest.get(..8)).expect("an alias").to_owned();
    assert!(xml.contains(&format!("ua-vgpud-{alias}-1")), "{xml}");
    world.ok("detach web1");
    assert_eq!(world.devices("web1"), [] as [&str; 0], "{}", world.xml("web1"));
    world.ok("attach web1 --profile card");
    assert_eq!(world.devices("web1"), [GPU, AUDIO]);
}

#[test]
fn two_guests_get_two_cards_and_a_third_waits_for_one() {
    let world = cards();
    for (number, name) in ["web1", "web2", "web3"].into_iter().enumerate() {
        world.define(name, 101 + u32::try_from(number).expect("few"));
        world.ok(&format!("attach {name} --profile card"));
    }
    assert_eq!(world.devices("web2")[0], OTHER, "the least named card");
    world.start("web1").expect("free");
    world.start("web2").expect("free");
    let line = world.start("web3").expect_err("both are taken");
    assert!(line.contains("web1"), "{line}");
    let explained = world.ok("profile explain card");
    assert!(explained.contains("is taken, held by domain web1 1 x whole GPU"), "{explained}");
    world.stop("web1");
    world.start("web3").expect("its card is free again");
}

#[test]
fn a_gpu_that_shows_the_hosts_screen_is_refused_with_what_it_shows() {
    let shown = [
        (("boot_vga", "1\n"), ["boot_vga", "vfio-pci.ids=1002:73bf"]),
        (("drm/card0/card0-DP-1/enabled", "enabled\n"), ["shows a picture on DP-1", "monitor"]),
    ];
    for (attribute, said) in shown {
        let mut spec = HostSpec::cards();
        spec.pci[0].attributes = vec![attribute];
        let mut world = World::new(spec);
        world.serve();
        world.ok("profile create card --gpu any");
        let explained = world.ok("profile explain card");
        assert!(said.iter().all(|word| explained.contains(word)), "{explained}");
        world.define("web1", 101);
        world.ok("attach web1 --profile card");
        assert_eq!(world.devices("web1")[0], OTHER);
    }
}

#[test]
fn a_group_with_a_foreign_device_is_refused_with_its_address() {
    let mut spec = HostSpec::cards();
    spec.pci[2].group_of = Some(GPU.to_owned());
    let mut world = World::new(spec);
    world.serve();
    world.ok("profile create card --gpu any");
    world.define("web1", 101);
    let line = stderr(&world.ctl("attach web1 --profile card"));
    assert!(line.contains("shares its IOMMU group with 0000:06:00.0 (class 030000)"), "{line}");
}

#[test]
fn a_gpu_with_slices_is_given_whole_only_after_they_went() {
    let mut world = World::new(HostSpec::xe());
    world.serve();
    world.ok("profile create card --gpu any");
    world.define("web1", 101);
    world.ok("vfs set 0000:03:00.0 2");
    let line = stderr(&world.ctl("attach web1 --profile card"));
    assert!(line.contains("has 2 VFs") && line.contains("vgpuctl vfs set 0000:03:00.0 0"), "{line}");
    world.ok("vfs set 0000:03:00.0 0");
    world.ok("attach web1 --profile card");
    world.start("web1").expect("no slices");
    let line = stderr(&world.ctl("vfs set 0000:03:00.0 2"));
    assert!(line.contains("web1"), "{line}");
    world.stop("web1");
    world.ok("vfs set 0000:03:00.0 2");
}

#[test]
fn a_function_that_does_not_bind_undoes_the_start_and_says_why() {
    for (errno, hint) in [(Errno::ENODEV, "did not take"), (Errno::EACCES, "as root")] {
        let world = with_guest();
        world.host.fail(&format!("{AUDIO}/driver_override"), 1, errno);
        let line = world.start("web1").expect_err("the audio function stays");
        assert!(line.contains(AUDIO) || line.contains(hint), "{errno}: {line}");
        assert_eq!(drivers(&world), HOST, "{errno}: all is as before");
        world.start("web1").unwrap_or_else(|line| panic!("{errno}: the second time: {line}"));
    }
}

#[test]
fn a_driver_that_does_not_take_its_gpu_back_is_told_and_tried_again() {
    let world = with_guest();
    world.start("web1").expect("free");
    world.host.fail("amdgpu/bind", 1, Errno::ENODEV);
    world.stop("web1");
    assert!(world.service_log().contains("give 0000:05:00.0 back to amdgpu"), "{}", world.service_log());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while drivers(&world) != HOST {
        assert!(std::time::Instant::now() < deadline, "{:?}\n{}", drivers(&world), world.service_log());
        crate::kit::look(&world);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn functions_that_an_admin_gave_to_vfio_stay_there() {
    let world = with_guest();
    let dir = format!("sys/devices/pci0000:00/0000:00:03.0/{AUDIO}");
    world.host.by_hand(&format!("{dir}/driver_override"), "vfio-pci").expect("taken");
    world.host.by_hand("sys/bus/pci/drivers/snd_hda_intel/unbind", AUDIO).expect("unbound");
    world.host.by_hand("sys/bus/pci/drivers_probe", AUDIO).expect("probed");
    world.start("web1").expect("free");
    world.stop("web1");
    assert_eq!(drivers(&world), ["amdgpu", "vfio-pci"]);
}

#[test]
fn a_guaranteed_gpu_stays_with_vfio_while_its_domain_is_off() {
    let world = cards();
    world.define("web1", 101);
    world.ok("attach web1 --profile card --mode guaranteed");
    assert_eq!(drivers(&world), VFIO, "it is kept for the domain");
    world.start("web1").expect("its own");
    world.stop("web1");
    assert_eq!(drivers(&world), VFIO);
    world.ok("detach web1");
    assert_eq!(drivers(&world), HOST, "the drivers of before the promise");
}

#[test]
fn live_plugging_of_a_whole_gpu_is_refused_with_what_to_do() {
    let world = cards();
    world.define("web1", 101);
    world.start("web1").expect("nothing of ours");
    let line = stderr(&world.ctl("attach web1 --profile card --live"));
    assert!(line.contains("whole GPU") && line.contains("without --live"), "{line}");
}

#[test]
fn a_profile_names_a_gpu_in_its_file() {
    let world = cards();
    world.host.put("p.toml", "gpu = \"1002:73bf\"\nclass = \"ai\"\n");
    let file = world.host.root().join("p.toml");
    world.ok(&format!("profile create two --file {}", file.display()));
    assert!(world.ok("profile show two").contains("whole GPU 1002:73bf"));
    world.host.put("p.toml", "gpu = \"any\"\nvf = \"1002:73bf\"\n");
    let line = stderr(&world.ctl(&format!("profile create three --file {}", file.display())));
    assert!(line.contains("`vf` and `gpu`"), "{line}");
}
