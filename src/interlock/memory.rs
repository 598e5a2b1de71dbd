//! Rules about a guest's memory, all of which VFIO pins.

use super::{Domain, Facts, Found};

/// What libvirt adds to the guest's memory.
const EXTRA_KIB: u64 = 1 << 20;

pub(super) fn hard_limit(facts: &Facts) -> Vec<Found> {
    let found = facts.domains.iter().filter_map(|domain| {
        let (limit, needed) = (domain.xml.hard_limit_kib?, needed_kib(domain)?);
        let text = format!(
            "memtune hard_limit is {} MiB, and VFIO needs up to {} MiB; raise it or leave it out",
            limit / 1024,
            needed.div_ceil(1024)
        );
        (limit < needed).then(|| Found::new(domain.place(), text))
    });
    found.collect()
}

/// What libvirt would allow by itself: the guest's memory, once or (with an IOMMU in the guest) for each VFIO
/// device, once more for each vDPA and NVMe device, and 1 GiB. `None` without VFIO, where it needs nothing.
fn needed_kib(domain: &Domain) -> Option<u64> {
    let devices = vfio_devices(domain);
    if devices == 0 {
        return None;
    }
    let own = if domain.xml.viommu { devices } else { 1 };
    let factor = own.saturating_add(domain.xml.other_pinning.into());
    Some(domain.xml.memory_kib?.saturating_mul(factor).saturating_add(EXTRA_KIB))
}

fn vfio_devices(domain: &Domain) -> u64 {
    domain.xml.hostdevs.iter().filter(|hostdev| hostdev.is_vfio()).map(|_| 1).sum()
}

pub(super) fn overcommit(facts: &Facts) -> Vec<Found> {
    let with_vfio = facts.domains.iter().filter(|domain| vfio_devices(domain) > 0);
    let found = with_vfio.filter_map(|domain| {
        let text = match (domain.xml.memory_kib, domain.xml.current_kib) {
            (Some(memory), Some(current)) if current < memory => format!(
                "currentMemory is {} MiB of {} MiB: all of it is pinned, and the balloon gives nothing back",
                current / 1024,
                memory / 1024
            ),
            _ if domain.xml.free_page_reporting => {
                "freePageReporting='on' has no effect: all memory is pinned".to_owned()
            }
            _ => return None,
        };
        Some(Found::new(domain.place(), text))
    });
    found.collect()
}
