//! GPU instances: what there can be, what there is, and making and taking away.

use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError as Given;
use nvml_wrapper_sys::bindings::NVML_GPU_INSTANCE_PROFILE_COUNT;

use super::read::known;
use super::session::{Session, device, failed};
use super::{Fault, NvmlError, raw};
use crate::model::{GpuInstance, InstanceProfile, MigProfile, PciAddress, one_line};

/// Most characters of a profile's name.
const MOST_NAME: usize = 32;

/// A GPU instance profile of a GPU in MIG mode.
#[derive(Clone, Debug)]
struct Profile {
    id: u32,
    /// Without the `MIG ` before it; its id where the library is too old to tell names.
    name: String,
    /// Most instances of it.
    most: u32,
}

/// Lists the profiles of a GPU in MIG mode.
fn profiles(nvml: &nvml_wrapper::Nvml, device: &Device<'_>) -> Result<Vec<Profile>, Given> {
    let mut all = Vec::new();
    for number in 0..NVML_GPU_INSTANCE_PROFILE_COUNT {
        // A library may know fewer than there are now, and a GPU has few of them.
        let told = match raw::instance_profile(nvml, device, number) {
            Err(Given::InvalidArg) => None,
            told => known(told)?,
        };
        all.extend(told.map(|told| Profile {
            id: told.id,
            name: match one_line(told.name.trim_start_matches("MIG "), MOST_NAME) {
                name if name.is_empty() => told.id.to_string(),
                name => name,
            },
            most: told.most,
        }));
    }
    Ok(all)
}

/// Lists the profiles of a GPU in MIG mode, and its GPU instances by number.
pub(super) fn read(
    nvml: &nvml_wrapper::Nvml,
    device: &Device<'_>,
) -> Result<(Vec<InstanceProfile>, Vec<GpuInstance>), Given> {
    let mut all = Vec::new();
    let mut known_profiles = Vec::new();
    for Profile { id, name, most } in profiles(nvml, device)? {
        known_profiles.push(InstanceProfile { name: name.clone(), most });
        for found in known(raw::instances(nvml, device, id, most))?.unwrap_or_default() {
            all.push(GpuInstance {
                id: found.id,
                profile: name.clone(),
                profile_id: id,
                start: found.start,
                size: found.size,
            });
        }
    }
    all.sort_by_key(|one| one.id);
    Ok((known_profiles, all))
}

impl Session {
    /// Returns whether the change is in force; otherwise it waits for a reset of the GPU.
    pub(super) fn set_mig(&mut self, gpu: PciAddress, on: bool) -> Result<bool, NvmlError> {
        let nvml = self.nvml()?;
        let device = device(nvml, gpu)?;
        let word = if on { "on" } else { "off" };
        let set = device
            .set_mig_mode(on)
            .map_err(|error| failed(format!("switch MIG mode {word}"), Some(gpu), &error));
        set.map(|activation| activation == 0)
    }

    pub(super) fn create_instance(&mut self, gpu: PciAddress, profile: &MigProfile) -> Result<(), NvmlError> {
        let nvml = self.nvml()?;
        let device = device(nvml, gpu)?;
        let what = format!("make a GPU instance {profile}");
        let fail = |error: Given| failed(what.clone(), Some(gpu), &error);
        let all = profiles(nvml, &device).map_err(fail)?;
        let name = profile.to_string();
        let Some(found) = all.iter().find(|one| one.name == name) else {
            let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
            let fault = match names.is_empty() {
                true => Fault::TooOld("name GPU instance profiles".to_owned()),
                false => Fault::Other(format!("it has no such profile, but {}", names.join(", "))),
            };
            return Err(NvmlError::Failed { what, gpu: Some(gpu), fault });
        };
        match raw::create_instance(nvml, &device, found.id).map_err(fail)? {
            true => Ok(()),
            false => Err(NvmlError::Failed { what, gpu: Some(gpu), fault: Fault::NoRoom }),
        }
    }

    pub(super) fn destroy_instance(&mut self, gpu: PciAddress, id: u32) -> Result<(), NvmlError> {
        let nvml = self.nvml()?;
        let device = device(nvml, gpu)?;
        let fail = |error: Given| failed(format!("take GPU instance {id} away"), Some(gpu), &error);
        raw::destroy_instance(nvml, &device, id).map_err(fail)
    }
}
