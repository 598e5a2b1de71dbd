//! What two GPUs can do with each other.

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{P2pCapabilitiesIndex, P2pStatus};
use nvml_wrapper::error::NvmlError as Given;

use super::NvmlError;
use super::read::{address_of, known};
use super::session::{Session, failed};
use crate::model::{PairState, PciAddress};

/// The most links that are asked for; the library's own number (NVML_NVLINK_MAX_LINKS) is 18.
const MOST_LINKS: u32 = 18;

impl Session {
    pub(super) fn pairs(&mut self) -> Result<Vec<PairState>, NvmlError> {
        let nvml = self.nvml()?;
        let count = nvml.device_count().map_err(|error| failed("count the GPUs", None, &error))?;
        let devices = (0..count).filter_map(|index| nvml.device_by_index(index).ok());
        let devices: Vec<(PciAddress, Device<'_>)> =
            devices.filter_map(|device| Some((address_of(&device).ok()?, device))).collect();
        let mut pairs = Vec::new();
        for (at, (a, one)) in devices.iter().enumerate() {
            for (b, other) in &devices[at + 1..] {
                let state = pair((*a, one), (*b, other));
                pairs.push(
                    state.map_err(|error| failed("read how two GPUs are connected", Some(*a), &error))?,
                );
            }
        }
        Ok(pairs)
    }
}

fn pair(
    (a, one): (PciAddress, &Device<'_>),
    (b, other): (PciAddress, &Device<'_>),
) -> Result<PairState, Given> {
    let status = |index| known(one.p2p_status(other, index)).map(|status| status.map(word));
    Ok(PairState {
        a,
        b,
        read: status(P2pCapabilitiesIndex::Read)?,
        write: status(P2pCapabilitiesIndex::Write)?,
        nvlinks: links(one, b)?,
    })
}

/// Counts the active links of a GPU that end at the other; `None` where the library does not know NVLink. Links of
/// GPUs that meet in an NVSwitch end there, and are not counted.
fn links(device: &Device<'_>, other: PciAddress) -> Result<Option<u32>, Given> {
    let mut count = None;
    for number in 0..MOST_LINKS {
        let link = device.link_wrapper_for(number);
        // A number beyond the card's links is an invalid argument.
        let active = match link.is_active() {
            Err(Given::InvalidArg) => break,
            answer => known(answer)?,
        };
        let Some(active) = active else { continue };
        let count = count.get_or_insert(0);
        let ends_there = |bus: &str| bus.parse::<PciAddress>() == Ok(other);
        if active && known(link.remote_pci_info())?.is_some_and(|remote| ends_there(&remote.bus_id)) {
            *count += 1;
        }
    }
    Ok(count)
}

fn word(status: P2pStatus) -> String {
    match status {
        P2pStatus::Ok => "ok",
        P2pStatus::ChipsetNotSupported => "not on this chipset",
        P2pStatus::GpuNotSupported => "not with this GPU",
        P2pStatus::IohTopologyNotSupported => "not across these host bridges",
        P2pStatus::DisabledByRegkey => "turned off in the driver",
        P2pStatus::NotSupported => "not supported",
        P2pStatus::Unknown => "unknown",
    }
    .to_owned()
}
