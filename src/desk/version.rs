//! What an older libvirt cannot do is refused with a word, before anything is promised.

use super::Desk;
use crate::libvirt::Version;
use crate::model::{Allocation, Device, HostSnapshot, Kind, Refusal};
use crate::wire;

impl Desk {
    /// Says how the service is.
    #[must_use]
    pub fn status(&self) -> wire::Status {
        let mut status = self.engine.status(self.link.state());
        let version = self.link.version();
        status.libvirt_version = version.map(|version| version.to_string());
        if let Some(version) = version {
            status.warnings.extend(too_old(version, self.engine.newest().as_deref()));
        }
        status
    }

    /// Refuses VFs that this libvirt would not give to a guest.
    pub(super) fn refuse_too_old(&self, new: &[Allocation]) -> Result<(), Refusal> {
        let (Some(version), Some(snapshot)) = (self.link.version(), self.engine.newest()) else {
            return Ok(());
        };
        let mut drivers = new.iter().filter_map(|one| match one.device {
            Device::Vf(address) => Some((address, snapshot.vf(address)?.1.driver.clone()?)),
            Device::Mdev(_) => None,
        });
        match drivers.find(|(_, driver)| !version.takes_vf_on(driver)) {
            None => Ok(()),
            Some((address, driver)) => Err(Refusal::new(
                Kind::HostFault,
                format!(
                    "VF {address} is on driver {driver}, and libvirt {version} gives guests VFs on vfio-pci only; \
                     it needs libvirt {} or newer",
                    Version::VARIANT_DRIVERS
                ),
            )
            .hint("Debian 13 has a newer libvirt, and so have the backports of Debian 12")),
        }
    }
}

/// What this libvirt cannot do on this host, one sentence each. Pure.
fn too_old(version: Version, snapshot: Option<&HostSnapshot>) -> Vec<String> {
    let mut sentences = Vec::new();
    if version < Version::HOOK_DIRECTORY {
        sentences.push(format!(
            "libvirt {version} does not look into hooks/qemu.d, so no slice is made when a domain starts; {} does",
            Version::HOOK_DIRECTORY
        ));
    }
    let vfs = snapshot.into_iter().flat_map(|snapshot| &snapshot.gpus).flat_map(|gpu| &gpu.sriov);
    let mut drivers =
        vfs.flat_map(|sriov| &sriov.vfs).filter(|vf| vf.vfio).filter_map(|vf| vf.driver.as_deref());
    if let Some(driver) = drivers.find(|driver| !version.takes_vf_on(driver)) {
        sentences.push(format!(
            "libvirt {version} gives guests VFs on vfio-pci only, and VFs here are on driver {driver}; {} takes them",
            Version::VARIANT_DRIVERS
        ));
    }
    sentences
}
