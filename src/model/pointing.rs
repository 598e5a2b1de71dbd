//! What became of the VF address in a domain's definition: which one vgpud writes into it, and who else does.

use serde::{Deserialize, Serialize};

use crate::model::{Allocation, Device, PciAddress};

/// The story of an allocation's VF address, as far as it decides about the next change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pointing {
    /// The VF that is being written into the definition. Whether it was, only the definition tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<PciAddress>,
    /// The VF that the definition named before vgpud wrote the present one; `None` when it wrote none, or
    /// somebody else exchanged it since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<PciAddress>,
    /// How often somebody else exchanged an address that vgpud had written.
    pub overruled: u32,
}

impl Pointing {
    /// After so many times vgpud no longer exchanges the address by itself.
    pub const MOST_OVERRULED: u32 = 2;

    /// Returns whether nothing was ever exchanged.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether somebody else wants the address otherwise, so that vgpud leaves it alone.
    #[must_use]
    pub const fn is_given_up(&self) -> bool {
        self.overruled >= Self::MOST_OVERRULED
    }
}

impl Allocation {
    /// Returns the allocation as it is when its domain's definition names `vf`, whoever wrote that.
    #[must_use]
    pub fn named(&self, vf: PciAddress) -> Self {
        let before = self.device.vf();
        let pointing = match (before, self.pointing) {
            (Some(own), pointing) if own == vf => Pointing { next: None, ..pointing },
            (_, pointing) if pointing.next == Some(vf) => Pointing { next: None, was: before, ..pointing },
            (_, pointing) => {
                let ours = u32::from(pointing.was.is_some());
                Pointing { next: None, was: None, overruled: pointing.overruled.saturating_add(ours) }
            }
        };
        Self { device: Device::Vf(vf), pointing, ..self.clone() }
    }

    /// Returns the allocation as it is while `vf` is being written into the definition.
    #[must_use]
    pub fn to_be_named(&self, vf: PciAddress) -> Self {
        Self { pointing: Pointing { next: Some(vf), ..self.pointing }, ..self.clone() }
    }

    /// Returns the devices that the definition may name: two while a VF's address is being exchanged.
    pub fn may_be_named(&self) -> impl Iterator<Item = Device> {
        [self.device].into_iter().chain(self.pointing.next.map(Device::Vf))
    }

    /// Returns whether the definition may name `device`.
    #[must_use]
    pub fn may_name(&self, device: Device) -> bool {
        self.may_be_named().any(|own| own == device)
    }

    /// Returns the VFs that the definition may name.
    pub fn named_vfs(&self) -> impl Iterator<Item = PciAddress> {
        self.may_be_named().filter_map(Device::vf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::{pci, vf_allocation};

    const A: &str = "0000:01:10.0";
    const B: &str = "0000:02:10.0";
    const C: &str = "0000:02:10.2";

    #[test]
    fn what_vgpud_wrote_is_remembered_with_what_was_there_before() {
        let one = vf_allocation(1, 7, A);
        let during = one.to_be_named(pci(B));
        assert_eq!(during.device, one.device);
        assert_eq!(during.named_vfs().collect::<Vec<_>>(), [pci(A), pci(B)]);
        let after = during.named(pci(B));
        assert_eq!(after.device, Device::Vf(pci(B)));
        assert_eq!(after.pointing, Pointing { next: None, was: Some(pci(A)), overruled: 0 });
        assert_eq!(after.named(pci(B)), after, "seen again it is the same");
        assert_eq!(during.named(pci(A)), one, "it was not written");
    }

    #[test]
    fn only_an_exchange_of_what_vgpud_wrote_counts_as_overruling() {
        let edited = vf_allocation(1, 7, A).named(pci(C));
        assert_eq!((edited.device, edited.pointing), (Device::Vf(pci(C)), Pointing::default()));
        let written = edited.to_be_named(pci(B)).named(pci(B));
        let once = written.named(pci(A));
        assert_eq!(once.pointing, Pointing { next: None, was: None, overruled: 1 });
        assert_eq!(once.named(pci(C)).pointing.overruled, 1, "that one was not ours");
        let twice = once.to_be_named(pci(B)).named(pci(B)).named(pci(A));
        assert!(twice.pointing.is_given_up() && !once.pointing.is_given_up());
        let between = vf_allocation(1, 7, A).to_be_named(pci(B)).named(pci(C));
        assert_eq!(between.pointing, Pointing::default(), "it came in between and overruled nothing");
    }

    #[test]
    fn rows_of_before_load_and_nothing_is_added_to_them() {
        let one = vf_allocation(1, 7, A);
        let text = serde_json::to_string(&one).expect("json");
        assert!(!text.contains("pointing"), "{text}");
        assert_eq!(serde_json::from_str::<Allocation>(&text).expect("a row"), one);
        let during = one.to_be_named(pci(B));
        let text = serde_json::to_string(&during).expect("json");
        assert_eq!(serde_json::from_str::<Allocation>(&text).expect("a row"), during);
    }
}
