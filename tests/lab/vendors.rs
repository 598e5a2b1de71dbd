//! Vendors' roads on simulated GPUs (`vgpu-sim`): the PCI core, VFIO, libvirt and QEMU are real, the silicon is
//! not. What a guest got, its slice's own BAR says from inside.

#[path = "vendors/binding.rs"]
mod binding;
#[path = "vendors/both.rs"]
mod both;
#[path = "vendors/differential.rs"]
mod differential;
#[path = "vendors/faults.rs"]
mod faults;
#[path = "vendors/imaging.rs"]
mod imaging;
#[path = "vendors/mig.rs"]
mod mig;
#[path = "vendors/reboot.rs"]
mod reboot;
#[path = "vendors/sim.rs"]
mod sim;
#[path = "vendors/storm.rs"]
mod storm;
#[path = "vendors/theirs.rs"]
mod theirs;
#[path = "vendors/together.rs"]
mod together;
#[path = "vendors/weight.rs"]
mod weight;
