//! Whole GPUs: taken from the host's drivers for a start, given back after it, and refused with the reason.

use nix::errno::Errno;

use crate::support::spec::{HostSpec, PciSpec};
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
        (vec![("boot_vga", "1\n"), ("graphics/fb0/name", "amdgpudrmfb\n")], ["console on fb0", "=1002:73bf"]),
        (vec![("drm/card0/card0-DP-1/enabled", "enabled\n")], ["shows a picture on DP-1", "monitor"]),
        (vec![("boot_vga", "1\n")], ["", ""]),
    ];
    for (attributes, said) in shown {
        let mut spec = HostSpec::cards();
        let is_used = !said[0].is_empty();
        spec.pci[0].attributes = attributes;
        let mut world = World::new(spec);
        world.serve();
        world.ok("profile create card --gpu any");
        let explained = world.ok("profile explain card");
        assert!(said.iter().all(|word| explained.contains(word)), "{explained}");
        world.define("web1", 101);
        world.ok("attach web1 --profile card");
        let given = if is_used { OTHER } else { GPU };
        assert_eq!(world.devices("web1")[0], given, "a boot GPU without a console is free to go");
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

/// Three cards: one by itself, two below one switch. Whether the switch's ports redirect requests can be read, or not.
fn switched(id: (u16, u16), readable: bool) -> World {
    const SWITCH: &str = "pci0000:40/0000:40:01.1/0000:41:00.0";
    let mut spec = HostSpec::cards();
    let card = spec.pci[0].clone();
    let at = |address: &str, bridge: &str| {
        let (address, bridge) = (address.to_owned(), bridge.to_owned());
        PciSpec { address, bridge, id, driver: Some("nvidia".to_owned()), ..card.clone() }
    };
    let ports = ["0000:42:00.0", "0000:42:01.0"].map(|port| format!("{SWITCH}/{port}"));
    spec.pci = vec![
        at("0000:3f:00.0", "pci0000:3e/0000:3e:01.0"),
        at("0000:43:00.0", &ports[0]),
        at("0000:44:00.0", &ports[1]),
    ];
    if readable {
        // A configuration space without the capability ACS.
        let bridges = [SWITCH.to_owned()].into_iter().chain(ports);
        spec.files = bridges.map(|at| (format!("sys/devices/{at}/config"), "\0".repeat(512))).collect();
    }
    spec.drivers.push(("nvidia".to_owned(), false));
    let mut world = World::new(spec);
    world.serve();
    world.ok(&format!("profile create pair --gpu {:04x}:{:04x} --peers", id.0, id.1));
    world.define("web1", 101);
    world
}

const H100: (u16, u16) = (0x10de, 0x2330);

#[test]
fn a_pair_that_wants_peers_gets_the_gpus_of_one_switch_and_the_mark() {
    let world = switched(H100, true);
    let before = world.xml("web1");
    world.ok("attach web1 --profile pair -n 2");
    assert_eq!(world.devices("web1"), ["0000:43:00.0", "0000:44:00.0"], "not the first one by itself");
    let xml = world.xml("web1");
    assert_eq!(xml.matches("x-nv-gpudirect-clique' type='unsigned' value='0'").count(), 2, "{xml}");
    world.start("web1").expect("both are free");
    let topology = world.ok("topology");
    assert!(topology.contains("PIX") && topology.contains("no port redirects"), "{topology}");
    assert!(world.ok("topology --hints web1").contains("is not known"), "this host says no node");
    world.stop("web1");
    let one = xml.split("ua-vgpud-").nth(1).and_then(|rest| rest.get(..8)).expect("an alias").to_owned();
    world.ok(&format!("detach web1 --allocation {one}"));
    assert!(!world.xml("web1").contains("gpudirect"), "one alone has no peers: {}", world.xml("web1"));
    world.ok("attach web1 --profile pair -n 2");
    assert_eq!(world.xml("web1").matches("gpudirect").count(), 2);
    world.ok("detach web1");
    assert!(!world.xml("web1").contains("qemu:override") && before.contains("<domain"));
}

#[test]
fn gpus_whose_way_is_not_known_to_be_open_are_no_peers_and_the_reason_is_told() {
    let cases =
        [(H100, false, "read by root only"), ((0x1002, 0x73bf), true, "not both NVIDIA's"), (H100, true, "")];
    for (id, readable, reason) in cases {
        let world = switched(id, readable);
        let count = if reason.is_empty() { 3 } else { 2 };
        let reason = if reason.is_empty() { "not below one PCIe switch" } else { reason };
        let line = stderr(&world.ctl(&format!("attach web1 --profile pair -n {count}")));
        assert!(line.contains("vgpuctl topology"), "{line}");
        assert!(line.contains(reason) || line.contains("not below one PCIe switch"), "{line}");
        assert_eq!(world.devices("web1"), [] as [&str; 0], "{}", world.xml("web1"));
        world.ok("profile edit pair --peers off");
        world.ok("attach web1 --profile pair -n 2");
        assert!(!world.xml("web1").contains("x-nv-gpudirect-clique"));
    }
}
