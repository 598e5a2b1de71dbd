//! A whole GPU, seen from inside the guest that has it, and from the host before and after.

use super::host::{LONG, Lab, SHORT, is_debian_12};

const GPU: &str = "0000:40:00.0";
const AUDIO: &str = "0000:40:00.1";

impl Lab {
    /// The drivers of the GPU and of its audio function.
    #[track_caller]
    fn drivers_of_card(&self) -> String {
        self.ok(&format!(
            "for f in {GPU} {AUDIO}; do basename $(readlink /sys/bus/pci/devices/$f/driver); done | paste -sd' '"
        ))
    }
}

#[test]
fn a_whole_gpu_goes_to_a_guest_by_plain_virsh_start_and_comes_back() {
    if is_debian_12() {
        return;
    }
    let lab = Lab::reset();
    lab.ok("modprobe vgpu-sim gpus=gpu");
    lab.wait(&format!("vgpuctl gpus -o json | grep -F {GPU}"), SHORT);
    assert_eq!(lab.drivers_of_card(), "amdgpu snd_hda_intel");

    lab.ok("vgpuctl profile create card --gpu 1002:73bf");
    let web = lab.guest("web");
    web.attach("card");
    assert_eq!(web.named_vfs(), [GPU, AUDIO]);
    let other = lab.guest("other");
    other.attach("card");

    web.start();
    assert_eq!(lab.drivers_of_card(), "vfio-pci vfio-pci");
    web.assert_holds(GPU);
    web.wait_sees("1002:73bf", 1);
    web.wait_sees("1002:ab28", 1);
    let slices = lab.ok("lab-guest slices web --timeout 400");
    assert!(slices.contains("preset=gpu") && slices.contains(&format!("pf={GPU}")), "{slices}");
    other.try_start().refused(&[GPU, "web"]);

    web.destroy();
    let home = format!("test \"$(basename $(readlink /sys/bus/pci/devices/{GPU}/driver))\" = amdgpu");
    lab.wait(&home, SHORT);
    assert_eq!(lab.drivers_of_card(), "amdgpu snd_hda_intel");
    for function in [GPU, AUDIO] {
        assert_eq!(lab.ok(&format!("cat /sys/bus/pci/devices/{function}/driver_override")), "(null)");
    }

    other.start();
    other.wait_sees("1002:73bf", 1);
    // The service dies while the guest runs, and gives back what the domain's stop leaves.
    let pid = lab.service_pid();
    lab.ok(&format!("kill -KILL {pid}"));
    lab.wait_service_other_than(&pid);
    other.wait_listed_in_use();
    other.destroy();
    lab.wait(&home, LONG);
    assert_eq!(lab.drivers_of_card(), "amdgpu snd_hda_intel");
    other.ok_detach();
    lab.ok("rmmod vgpu-sim");
}

impl super::guest::Guest<'_> {
    /// All hostdevs of ours leave the definition.
    #[track_caller]
    fn ok_detach(&self) {
        self.lab.ok(&format!("vgpuctl detach {}", self.name));
        assert_eq!(self.named_vfs(), [] as [&str; 0]);
    }
}
