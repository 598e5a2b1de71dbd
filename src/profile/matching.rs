//! Which parents of a host could serve a profile, whatever is free now.

mod vgpu;

use crate::model::{
    BackendKind, DeviceKind, DeviceName, Framebuffer, Gpu, HostSnapshot, MdevParent, MdevType, MdevTypeId,
    PciId, Profile, Vf, VgpuType, WhichGpu, Whole, Wish, one_line,
};

/// The device API of the hostdevs that are written.
const DEVICE_API: &str = "vfio-pci";

/// What of a parent serves a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit<'a> {
    /// This type of an mdev parent.
    Type(&'a MdevType),
    /// These VFs of a PF, sorted by address; never empty.
    Vfs(Vec<&'a Vf>),
    /// The GPU itself, by its own function.
    Whole([&'a Vf; 1]),
    /// This vGPU type on one of these VFs of a PF, sorted by address.
    Vgpu {
        /// The type.
        vgpu_type: &'a VgpuType,
        /// All VFs of the PF that take types, also those that have one.
        vfs: Vec<&'a Vf>,
    },
}

impl<'a> Fit<'a> {
    /// Returns the VFs; none when a mediated device serves.
    #[must_use]
    pub fn vfs(&self) -> &[&'a Vf] {
        match self {
            Self::Type(_) => &[],
            Self::Whole(function) => function,
            Self::Vfs(vfs) | Self::Vgpu { vfs, .. } => vfs,
        }
    }

    /// Returns the type that would be made; `None` for a bare VF.
    #[must_use]
    pub fn type_id(&self) -> Option<&'a MdevTypeId> {
        match self {
            Self::Type(mdev_type) => Some(&mdev_type.id),
            Self::Vgpu { vgpu_type, .. } => Some(&vgpu_type.id),
            Self::Vfs(_) | Self::Whole(_) => None,
        }
    }

    /// Returns the kind of hostdev that gives it to a domain.
    #[must_use]
    pub const fn device_kind(&self) -> DeviceKind {
        match self {
            Self::Type(_) => DeviceKind::Mdev,
            Self::Vfs(_) | Self::Whole(_) | Self::Vgpu { .. } => DeviceKind::Pci,
        }
    }
}

/// One mdev parent or PF against a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match<'a> {
    /// The GPU.
    pub gpu: &'a Gpu,
    /// The mdev parent or PF by name; the GPU itself when it has no parent.
    pub parent: &'a DeviceName,
    /// The mdev parent itself; `None` when slices are VFs or nothing can be made.
    pub mdev_parent: Option<&'a MdevParent>,
    /// What serves, or one clause that says why nothing does.
    pub fit: Result<Fit<'a>, String>,
}

/// Matches a profile against everything on the host. Sorted by parent name whatever the snapshot's
/// order; a GPU without parents is there too, with its reason.
#[must_use]
pub fn candidates<'a>(profile: &Profile, snapshot: &'a HostSnapshot) -> Vec<Match<'a>> {
    let mut matches: Vec<Match<'a>> = match &profile.wish {
        Wish::Vf(id) => snapshot.gpus.iter().map(|gpu| vf_match(gpu, *id)).collect(),
        Wish::Gpu(which) => snapshot.gpus.iter().map(|gpu| whole_match(gpu, *which)).collect(),
        wish => snapshot.gpus.iter().flat_map(|gpu| type_matches(gpu, profile, wish)).collect(),
    };
    matches.sort_by(|a, b| (a.parent, &a.gpu.id).cmp(&(b.parent, &b.gpu.id)));
    matches
}

fn type_matches<'a>(gpu: &'a Gpu, profile: &Profile, wish: &Wish) -> Vec<Match<'a>> {
    match gpu.backend {
        BackendKind::NvidiaVfio => vec![vgpu::vgpu_match(gpu, profile)],
        BackendKind::Xe => vec![share_match(gpu, profile)],
        BackendKind::Mdev | BackendKind::Sriov | BackendKind::Passthrough | BackendKind::None => {
            mdev_matches(gpu, wish)
        }
    }
}

/// Matches a wish against a PF whose VFs have shares of its memory.
fn share_match<'a>(gpu: &'a Gpu, profile: &Profile) -> Match<'a> {
    let fit = match &profile.wish {
        _ if profile.display => {
            Err("gives VFs, and display is for the hostdev of a mediated device".to_owned())
        }
        Wish::Framebuffer(least) => vfs_with(gpu, *least),
        Wish::Type(_) | Wish::Vf(_) | Wish::Gpu(_) => {
            Err("has no types: ask for a framebuffer or for a VF".to_owned())
        }
    };
    Match { gpu, parent: &gpu.name, mdev_parent: None, fit: fit.map(Fit::Vfs) }
}

/// The VFs with the smallest share that is enough.
fn vfs_with(gpu: &Gpu, least: Framebuffer) -> Result<Vec<&Vf>, String> {
    let vfs = || gpu.sriov.iter().flat_map(|sriov| &sriov.vfs);
    let share = vfs().filter_map(|vf| vf.framebuffer).filter(|size| *size >= least).min();
    if let Some(share) = share {
        let mut found: Vec<&Vf> = vfs().filter(|vf| vf.framebuffer == Some(share)).collect();
        found.sort_by_key(|vf| vf.address);
        return Ok(found);
    }
    let total = gpu.sriov.as_ref().map_or(0, |sriov| sriov.total);
    Err(match vfs().filter_map(|vf| vf.framebuffer).max() {
        Some(most) => {
            format!("its VFs have {most} each: fewer of them have more (vgpuctl vfs set {} N)", gpu.name)
        }
        None if vfs().next().is_none() => {
            format!("has 0 of {total} VFs enabled: `vgpuctl vfs set {} N` makes them", gpu.name)
        }
        None => "its VFs have no memory of their own".to_owned(),
    })
}

fn mdev_matches<'a>(gpu: &'a Gpu, wish: &Wish) -> Vec<Match<'a>> {
    if gpu.parents.is_empty() {
        let reason = format!("offers no mdev types: {}", one_line(&gpu.backend_reason, 200));
        return vec![Match { gpu, parent: &gpu.name, mdev_parent: None, fit: Err(reason) }];
    }
    let one = |parent: &'a MdevParent| Match {
        gpu,
        parent: &parent.name,
        mdev_parent: Some(parent),
        fit: match_type(parent, wish).map(Fit::Type),
    };
    gpu.parents.iter().map(one).collect()
}

fn match_type<'a>(parent: &'a MdevParent, wish: &Wish) -> Result<&'a MdevType, String> {
    match wish {
        Wish::Type(name) => named_type(parent, name),
        Wish::Framebuffer(least) => smallest_type(parent, *least),
        Wish::Vf(_) | Wish::Gpu(_) => Err("offers mdev types, not VFs".to_owned()),
    }
}

fn named_type<'a>(parent: &'a MdevParent, name: &str) -> Result<&'a MdevType, String> {
    let by_id = parent.types.iter().find(|t| t.id.as_str() == name);
    let called = |t: &&MdevType| vgpu::is_called(&t.id, &t.name, name);
    let by_name = || parent.types.iter().filter(called).min_by(|a, b| a.id.cmp(&b.id));
    match by_id.or_else(by_name) {
        Some(found) if found.device_api == DEVICE_API => Ok(found),
        Some(found) => Err(wrong_api(found)),
        None => Err(format!("does not offer it, only {}", offered(parent))),
    }
}

fn smallest_type(parent: &MdevParent, least: Framebuffer) -> Result<&MdevType, String> {
    let sized = || parent.types.iter().filter_map(|t| Some((t.framebuffer?, t)));
    let enough = sized().filter(|(size, _)| *size >= least);
    let smallest = enough
        .filter(|(_, t)| t.device_api == DEVICE_API)
        .min_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.id.cmp(&b.1.id)));
    if let Some((_, found)) = smallest {
        return Ok(found);
    }
    Err(match sized().max_by_key(|(size, _)| *size) {
        Some((size, found)) if size >= least => wrong_api(found),
        Some((size, found)) => format!("its largest type, {}, has {size}", found.id),
        None => format!("its types do not say their framebuffer ({})", offered(parent)),
    })
}

fn wrong_api(found: &MdevType) -> String {
    format!("its type {} is for {}, not {DEVICE_API}", found.id, one_line(&found.device_api, 40))
}

/// Names the types of a parent, the first few.
fn offered(parent: &MdevParent) -> String {
    some_of(parent.types.iter().map(|t| t.id.as_str()).collect())
}

fn some_of(mut ids: Vec<&str>) -> String {
    const MOST: usize = 4;
    ids.sort_unstable();
    match ids.len() {
        0 => "nothing".to_owned(),
        n if n <= MOST => ids.join(", "),
        n => format!("{} and {} more", ids[..MOST].join(", "), n - MOST),
    }
}

fn whole_match(gpu: &Gpu, which: WhichGpu) -> Match<'_> {
    let fit = match (&gpu.whole, &gpu.pci) {
        (None, Some(_)) if gpu.iommu_group.is_none() => Err(
            "has no IOMMU group, without which no guest can have it: vgpuctl doctor says how to turn it on"
                .to_owned(),
        ),
        (None, _) => Err("is no GPU that a guest could have whole".to_owned()),
        (Some(whole), _) if !which.takes(whole.function.id) => Err(format!("is a {}", whole.function.id)),
        (Some(Whole { refusal: Some(reason), .. }), _) => Err(reason.clone()),
        (Some(whole), _) => Ok(Fit::Whole([&whole.function])),
    };
    Match { gpu, parent: &gpu.name, mdev_parent: None, fit }
}

fn vf_match(gpu: &Gpu, id: PciId) -> Match<'_> {
    Match { gpu, parent: &gpu.name, mdev_parent: None, fit: vfs_of(gpu, id).map(Fit::Vfs) }
}

fn vfs_of(gpu: &Gpu, id: PciId) -> Result<Vec<&Vf>, String> {
    let Some(sriov) = &gpu.sriov else {
        return Err("has no SR-IOV".to_owned());
    };
    if !gpu.backend.gives_bare_vfs() {
        return Err(format!("does not give out VFs: {}", one_line(&gpu.backend_reason, 200)));
    }
    let mut vfs: Vec<&Vf> = sriov.vfs.iter().filter(|vf| vf.id == id).collect();
    if !vfs.is_empty() {
        vfs.sort_by_key(|vf| vf.address);
        return Ok(vfs);
    }
    Err(match (sriov.vfs.first(), sriov.vf_id) {
        (Some(vf), _) => format!("its VFs are {}", vf.id),
        (None, Some(vf_id)) if vf_id != id => format!("its VFs would be {vf_id}"),
        (None, _) => {
            format!("has 0 of {} VFs enabled: `vgpuctl vfs set {} N` makes them", sriov.total, gpu.name)
        }
    })
}
