//! What of its profile an allocation may still be given: what its first start settled and where it is
//! pinned bind it more than the profile does. Drivers, licences and hibernation in the guest depend on it.

use std::fmt;

use crate::model::{
    AllocationId, Device, DeviceKind, Float, GpuId, Profile, ProfileName, Settled, Terms, WhichGpu, Wish,
};
use crate::profile::{Fit, Gates, Match, Taste};

/// Whether a saved image of the domain waits to be resumed: it needs the type it was saved with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SavedImage {
    /// There is none.
    #[default]
    None,
    /// The domain's next start resumes it.
    Waits,
}

/// Whose slices these are, as far as a guest's driver cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// The driver that offers an mdev type; the kernel begins the type's id with its name.
    Driver(String),
    /// The PCI vendor of a VF.
    Pci(u16),
}

impl fmt::Display for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver(name) => f.pad(name),
            Self::Pci(id) => write!(f, "PCI vendor {id:04x}"),
        }
    }
}

impl Vendor {
    fn of_type(id: &str) -> Self {
        Self::Driver(id.split('-').next().unwrap_or(id).to_owned())
    }
}

/// Says that a place gives slices of another kind than the domain's XML has.
fn other_kind(given: DeviceKind) -> String {
    let (given, named) = match given {
        DeviceKind::Mdev => ("mediated devices", "a VF"),
        DeviceKind::Pci => ("VFs", "a mediated device"),
    };
    format!("gives {given}, and this allocation is {named}: detach it and attach it again to change that")
}

/// What binds one allocation. The default binds nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Only this GPU.
    pub gpu: Option<GpuId>,
    /// Exactly this type or VF, whatever the profile asks for.
    pub exact: Option<Wish>,
    /// Only slices of this vendor.
    pub vendor: Option<Vendor>,
    /// Whether a saved image is why.
    pub image: SavedImage,
    /// What rules say of single GPUs.
    pub gates: Gates,
    /// What the policy goes by.
    pub taste: Taste,
    /// The kind of hostdev that the domain's XML has; it never becomes another.
    pub kind: Option<DeviceKind>,
}

impl Bounds {
    /// Says what binds an allocation on these terms, with what its first start settled.
    #[must_use]
    pub fn of(profile: &Profile, terms: Terms, settled: Option<&Settled>, image: SavedImage) -> Self {
        let Some(settled) = settled else { return Self::default() };
        let gpu = terms.pin.then(|| settled.gpu.clone());
        let exact = match (&settled.mdev_type, settled.vf_id) {
            (Some(id), _) => Some(Wish::Type(id.to_string())),
            (None, Some(id)) if matches!(profile.wish, Wish::Gpu(_)) => Some(Wish::Gpu(WhichGpu::Id(id))),
            (None, Some(id)) => Some(Wish::Vf(id)),
            (None, None) => None,
        };
        let vendor = exact.as_ref().and_then(|exact| match exact {
            Wish::Type(id) => Some(Vendor::of_type(id)),
            Wish::Vf(id) | Wish::Gpu(WhichGpu::Id(id)) => Some(Vendor::Pci(id.vendor)),
            Wish::Framebuffer(_) | Wish::Gpu(WhichGpu::Any) => None,
        });
        // What was settled of a VF with a share of memory is the vendor: its PCI id says nothing of the share.
        let shares = settled.mdev_type.is_none() && matches!(profile.wish, Wish::Framebuffer(_));
        match (image, profile.float) {
            (SavedImage::None, Float::Parent) if shares => Self { gpu, vendor, image, ..Self::default() },
            (SavedImage::Waits, _) | (SavedImage::None, Float::Parent) => {
                Self { gpu, exact, image, ..Self::default() }
            }
            (SavedImage::None, Float::Type) => Self { gpu, vendor, image, ..Self::default() },
            (SavedImage::None, Float::Vendor) => Self { gpu, ..Self::default() },
        }
    }

    /// Binds it to the kind of hostdev that names `device`.
    #[must_use]
    pub const fn for_device(mut self, device: Device) -> Self {
        self.kind = Some(device.kind());
        self
    }

    /// Returns whether nothing but the profile binds.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.gpu.is_none() && self.exact.is_none() && self.vendor.is_none()
    }

    /// Returns the profile with the wish that counts.
    #[must_use]
    pub fn narrow(&self, profile: &Profile) -> Profile {
        let mut narrowed = profile.clone();
        narrowed.wish.clone_from(self.exact.as_ref().unwrap_or(&profile.wish));
        narrowed
    }

    /// Says why a place that serves the wish is out of bounds, as a clause that follows its name.
    #[must_use]
    pub fn excludes(&self, matched: &Match<'_>) -> Option<String> {
        if let Some(gpu) = self.gpu.as_ref().filter(|gpu| **gpu != matched.gpu.id) {
            return Some(format!("is not on GPU {gpu}, to which this allocation is pinned"));
        }
        if let Some(reason) = self.shut(&matched.gpu.id) {
            return Some(reason.to_owned());
        }
        let fit = matched.fit.as_ref().ok()?;
        if self.kind.is_some_and(|kind| kind != fit.device_kind()) {
            return Some(other_kind(fit.device_kind()));
        }
        let vendor = self.vendor.as_ref()?;
        let found = match fit {
            Fit::Type(offered) => Vendor::of_type(offered.id.as_str()),
            Fit::Vgpu { vgpu_type, .. } => Vendor::of_type(vgpu_type.id.as_str()),
            Fit::Vfs(_) | Fit::Whole(_) => Vendor::Pci(fit.vfs().first()?.id.vendor),
        };
        (found != *vendor).then(|| format!("is of {found}, and the first start settled {vendor}"))
    }

    /// Says what binds, one clause each, to follow the name of the allocation.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let gpu = self.gpu.as_ref().map(|gpu| format!("is pinned to GPU {gpu}"));
        let exact = self.exact.as_ref().map(|exact| match self.image {
            SavedImage::None => format!("was settled as {exact} at its first start"),
            SavedImage::Waits => {
                format!("stays {exact} while a saved image or a snapshot of its domain waits")
            }
        });
        let vendor = self.vendor.as_ref().map(|vendor| format!("was settled on {vendor} at its first start"));
        [gpu, exact, vendor].into_iter().flatten().collect()
    }

    /// Says what to type for fewer bounds.
    #[must_use]
    pub fn lifts(&self, allocation: &AllocationId, profile: &ProfileName) -> Vec<String> {
        let mut lifts = Vec::new();
        if self.gpu.is_some() {
            lifts.push(format!("vgpuctl allocation set {allocation} --no-pin lets it start on any GPU"));
        }
        match (self.image, &self.exact, &self.vendor) {
            (SavedImage::Waits, Some(_), _) => {
                lifts.push("the image is used up by the domain's next start, or thrown away with: virsh managedsave-remove (a snapshot: virsh snapshot-delete)".to_owned());
            }
            (SavedImage::None, Some(_), _) => lifts.push(format!(
                "vgpuctl allocation unsettle {allocation} forgets what was settled; vgpuctl profile edit {profile} --float type lets the type change"
            )),
            (SavedImage::None, None, Some(_)) => lifts.push(format!(
                "vgpuctl allocation unsettle {allocation} forgets what was settled; vgpuctl profile edit {profile} --float vendor lets the vendor change"
            )),
            (_, None, _) => {}
        }
        lifts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Framebuffer;
    use crate::model::fixture::{gpu, host, mdev_type, parent, pci_id, pf, profile, type_id, vf};
    use crate::profile::candidates;

    fn settled() -> Settled {
        let gpu = "virtual:a".parse().expect("id");
        Settled { gpu, mdev_type: Some(type_id("nvidia-558")), vf_id: None }
    }

    fn wish(float: Float) -> Profile {
        Profile { float, ..profile("desk", Wish::Framebuffer(Framebuffer::from_mib(1024))) }
    }

    fn bounds(float: Float, pin: bool, image: SavedImage) -> Bounds {
        let terms = Terms { pin, ..Terms::default() };
        Bounds::of(&wish(float), terms, Some(&settled()), image)
    }

    #[test]
    fn before_the_first_start_nothing_binds() {
        let terms = Terms { pin: true, ..Terms::default() };
        assert!(Bounds::of(&wish(Float::Parent), terms, None, SavedImage::None).is_free());
    }

    #[test]
    fn only_the_parent_floats_unless_the_profile_says_more() {
        let parent = bounds(Float::Parent, false, SavedImage::None);
        assert_eq!(parent.exact, Some(Wish::Type("nvidia-558".to_owned())));
        assert_eq!((parent.gpu, parent.vendor), (None, None));
        let of_type = bounds(Float::Type, false, SavedImage::None);
        assert_eq!((of_type.exact, of_type.vendor), (None, Some(Vendor::Driver("nvidia".to_owned()))));
        assert!(bounds(Float::Vendor, false, SavedImage::None).is_free());
    }

    #[test]
    fn a_saved_image_keeps_the_exact_type_whatever_may_float() {
        for float in [Float::Parent, Float::Type, Float::Vendor] {
            let kept = bounds(float, false, SavedImage::Waits);
            assert_eq!(kept.exact, Some(Wish::Type("nvidia-558".to_owned())), "{float}");
            assert!(kept.reasons()[0].contains("saved image"), "{:?}", kept.reasons());
        }
    }

    #[test]
    fn a_pin_holds_the_gpu_whatever_may_float() {
        for float in [Float::Parent, Float::Type, Float::Vendor] {
            let pinned = bounds(float, true, SavedImage::None);
            assert_eq!(pinned.gpu, Some(settled().gpu));
            assert!(pinned.reasons()[0].contains("pinned to GPU virtual:a"));
            let id = AllocationId::from_bits(1);
            assert!(pinned.lifts(&id, &wish(float).name)[0].contains("--no-pin"));
        }
    }

    #[test]
    fn other_gpus_and_other_vendors_are_out_of_bounds_with_the_reason() {
        let of = |name: &str, id: &str| gpu(name, vec![parent(name, vec![mdev_type(id, 2048, 1)])]);
        let snapshot = host(vec![of("a", "nvidia-559"), of("b", "nvidia-560"), of("c", "i915-GVTg_V5_4")]);
        let verdicts = |bounds: &Bounds| -> Vec<Option<String>> {
            candidates(&wish(Float::Type), &snapshot).iter().map(|one| bounds.excludes(one)).collect()
        };
        let floating = verdicts(&bounds(Float::Type, false, SavedImage::None));
        assert_eq!((&floating[0], &floating[1]), (&None, &None));
        assert!(floating[2].as_ref().is_some_and(|why| why.contains("settled nvidia")), "{floating:?}");
        let pinned = verdicts(&bounds(Float::Type, true, SavedImage::None));
        assert_eq!(pinned[0], None);
        assert!(pinned[1].as_ref().is_some_and(|why| why.contains("pinned")), "{pinned:?}");
    }

    #[test]
    fn a_vf_keeps_its_id_or_its_vendor() {
        let id = pci_id("8086:10ca");
        let settled = Settled { mdev_type: None, vf_id: Some(id), ..settled() };
        let other = Profile { float: Float::Type, ..profile("nic", Wish::Vf(pci_id("1af4:1041"))) };
        let bounds = Bounds::of(&other, Terms::default(), Some(&settled), SavedImage::None);
        let snapshot = host(vec![pf("a", vec![vf("0000:01:10.0", "1af4:1041")])]);
        let verdict = bounds.excludes(&candidates(&other, &snapshot)[0]);
        assert!(verdict.is_some_and(|why| why.contains("PCI vendor 1af4")));
        let sticky = Profile { float: Float::Parent, ..other };
        let bounds = Bounds::of(&sticky, Terms::default(), Some(&settled), SavedImage::None);
        assert_eq!(bounds.narrow(&sticky).wish, Wish::Vf(id), "the profile asks for another one now");
    }
}
