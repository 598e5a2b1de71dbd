//! What a host still holds: for each profile, on each GPU.

use serde::{Deserialize, Serialize};

use crate::model::{Device, DeviceName, GpuId, MdevTypeId, ProfileName};

/// What a host still holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// By name.
    pub profiles: Vec<ProfileCapacity>,
    /// By name.
    pub gpus: Vec<GpuCapacity>,
    /// The largest slice that can still be made, by framebuffer; `None` when no size is told or nothing fits.
    pub largest: Option<LargestSlice>,
    /// Framebuffer that nobody has, in MiB, on the GPUs of which it is known.
    pub free_mib: u64,
    /// Of that, what is in no slice of any type that could still be made.
    pub stranded_mib: u64,
    /// Of the free framebuffer, in MiB, what is of no use to the host's own mix of requests, in the mean over the mix.
    pub fragmented_mib: u64,
    /// Its share of the free framebuffer, in thousandths; `None` when nothing is free or known.
    pub fragmentation: Option<u32>,
    /// Where the weights of the mix come from, as a clause.
    pub mix: String,
}

/// What one profile can still have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileCapacity {
    /// Which.
    pub profile: ProfileName,
    /// What it asks for.
    pub wish: String,
    /// How many can be made now, each alone: profiles share the GPUs' memory.
    pub possible: u32,
    /// How many if nobody had anything; `None` where a driver does not tell.
    pub if_emptied: Option<u32>,
    /// What stands in the way of the rest, one clause for each GPU or several alike.
    pub blocked: Vec<String>,
    /// Its weight in the host's mix of requests, in thousandths.
    pub weight: u32,
}

/// What one GPU still holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuCapacity {
    /// Its identity.
    pub gpu: GpuId,
    /// Its name now.
    pub name: DeviceName,
    /// Framebuffer that slices have, in MiB; `None` where the driver does not tell sizes.
    pub used_mib: Option<u64>,
    /// All of it.
    pub total_mib: Option<u64>,
    /// Of what is free, what is in no slice that could be made.
    pub stranded_mib: Option<u64>,
    /// Of what is free, what the mix cannot use, in the mean.
    pub fragmented_mib: Option<u64>,
    /// Slices on it, in the order in which they are drawn.
    pub slices: Vec<SliceShare>,
    /// How many more slices of the type with the most room; counts where sizes are not told.
    pub more: u32,
}

/// One slice on a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceShare {
    /// Which.
    pub device: Device,
    /// Its type, for an mdev.
    pub mdev_type: Option<MdevTypeId>,
    /// Its framebuffer in MiB, where the driver tells.
    pub mib: Option<u64>,
    /// Whose it is, for people.
    pub owner: String,
}

/// The largest slice that can still be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargestSlice {
    /// On which GPU.
    pub gpu: DeviceName,
    /// Of which type.
    pub mdev_type: MdevTypeId,
    /// Its framebuffer in MiB.
    pub mib: u64,
}
