//! MIG mode and GPU instances, as NVIDIA's driver has them: seven compute and eight memory slices of a GPU with 80 GB
//! (NVIDIA's MIG user guide, A100 and H100).

use std::collections::BTreeMap;

use nix::errno::Errno;

use super::{Answer, Kernel};

/// How a GPU is divided.
#[derive(Default)]
pub(super) struct Partition {
    pub(super) is_on: bool,
    /// By number: profile, first memory slice, number of them.
    pub(super) instances: BTreeMap<u32, (String, u32, u32)>,
}

impl Partition {
    /// Where one more may begin, first fit.
    fn start(&self, profile: &str) -> Option<(u32, u32)> {
        let (compute, rest) = profile.split_once("g.")?;
        let compute: u32 = compute.parse().ok()?;
        let size = rest.split_once("gb")?.0.parse::<u32>().ok()? / 10;
        let free =
            |start: u32| self.instances.values().all(|(_, at, of)| start + size <= *at || at + of <= start);
        let mut starts = (0..8).step_by(usize::try_from(size).ok()?);
        starts
            .find(|start| start + compute <= 7 && start + size <= 8 && free(*start))
            .map(|start| (start, size))
    }
}

impl Kernel {
    /// Nobody's file but of NVIDIA's library: what it tells the driver of the PF in `dir`.
    pub(super) fn set_partition(&mut self, dir: &str, value: &str) -> Answer {
        let pf = dir.rsplit('/').next().unwrap_or_default().to_owned();
        let (key, value) = value.trim_end().split_once('=').ok_or(Errno::EINVAL)?;
        let partition = self.partitions.entry(pf.clone()).or_default();
        match key {
            "mig" => partition.is_on = value == "1",
            "gi_create" => {
                let (start, size) = partition.start(value).ok_or(Errno::ENOSPC)?;
                let id = (1..).find(|id| !partition.instances.contains_key(id)).expect("numbers are endless");
                partition.instances.insert(id, (value.to_owned(), start, size));
            }
            "gi_destroy" => {
                let id = value.parse().map_err(|_| Errno::EINVAL)?;
                partition.instances.remove(&id).ok_or(Errno::ENOENT)?;
            }
            // What else is set of a GPU is nothing of the kernel's.
            _ => return Ok(()),
        }
        self.list_all(&pf);
        Ok(())
    }

    /// GPU instances go with each change of VFs; MIG mode stays.
    pub(super) fn lose_instances(&mut self, pf: &str) {
        if let Some(partition) = self.partitions.get_mut(pf) {
            partition.instances.clear();
        }
    }
}
