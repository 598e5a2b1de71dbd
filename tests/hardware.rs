//! The hardware tower against a fake kernel: every step, every errno, guards, helpers, hangs.

#[cfg(test)]
mod support;

#[cfg(test)]
#[path = "hardware/mdev.rs"]
mod mdev;

#[cfg(test)]
#[path = "hardware/sriov.rs"]
mod sriov;

#[cfg(test)]
#[path = "hardware/helper.rs"]
mod helper;

#[cfg(test)]
#[path = "hardware/inventory.rs"]
mod inventory;
