//! What Intel's xe driver says of its VFs' shares, in `sriov_admin/` of the PF.
//!
//! Without quotas written by hand the driver divides the memory when VFs are made, and so the road is that of
//! [`super::sriov`]: a number of VFs, each bound to its VFIO driver. Interface: the kernel's
//! Documentation/ABI/testing/sysfs-driver-intel-xe-sriov.

use crate::model::Framebuffer;
use crate::sysfs::Sysfs;

/// The directory below the PF that tells the road.
pub const ADMIN: &str = "sriov_admin";

/// Reads the share of memory of VF number `index` of the PF in `dir`. `None` without the attribute (an
/// integrated GPU has no memory of its own), while nothing is provisioned, and where the driver finds that tiles
/// differ (EUCLEAN). The driver counts its VFs from 1.
pub(super) fn vram_of(sysfs: &Sysfs, dir: &str, index: u32) -> Option<Framebuffer> {
    let vf = index.checked_add(1)?;
    let text = sysfs.read_optional(&format!("{dir}/{ADMIN}/vf{vf}/profile/vram_quota")).ok()??;
    let mib = text.trim().parse::<u64>().ok()? >> 20;
    u32::try_from(mib).ok().filter(|mib| *mib > 0).map(Framebuffer::from_mib)
}
