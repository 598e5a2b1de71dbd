//! The simulated GPUs: `<base>/<pci address>/state` to read, `<base>/<pci address>/control` to write.
//!
//! `state` has one record a line: `key=value`, `type key=value …`, `gi key=value …` or `vgpu key=value …`. Unknown
//! keys and records are skipped, so that the simulation may say more. `control` takes one `key=value` a write.

mod files;

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

/// Where the kernel module shows its GPUs.
const DEBUGFS: &str = "/sys/kernel/debug/vgpu_sim";

/// The errno of a setting that is refused because vGPUs exist.
const EBUSY: i32 = 16;

/// A kind of vGPU that a GPU offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kind {
    /// NVIDIA's number of it.
    pub id: u32,
    /// Framebuffer in MiB.
    pub fb_mib: u64,
    /// Most of them on one GPU.
    pub max: u32,
    /// The GPU instance profile that carries it; `None` when it is time-sliced.
    pub gi_profile: Option<u32>,
    /// The name of that profile, such as `3g.40gb`; empty when it is time-sliced.
    pub gi_name: String,
    /// Most instances of that profile on one GPU.
    pub gis: u32,
    /// Such as `NVIDIA L40S-1B`.
    pub name: String,
}

/// A GPU instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// Number within its GPU.
    pub id: u32,
    /// The number of its profile.
    pub profile: u32,
    /// Such as `3g.40gb`.
    pub name: String,
    /// Where it begins, in memory slices.
    pub start: u32,
    /// How many memory slices it has.
    pub size: u32,
}

/// A vGPU that was created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vgpu {
    /// Number within its GPU.
    pub id: u32,
    /// The VF, or what else carries it.
    pub vf: String,
    /// Its [`Kind`].
    pub kind: u32,
    /// Where it sits on the GPU; `None` when it has no placement id.
    pub placement: Option<u32>,
    /// The VM that it runs in.
    pub vm_uuid: Option<String>,
    /// Whether a VM has it open.
    pub running: bool,
    /// Framebuffer in use, in MiB.
    pub fb_used_mib: u64,
    /// The process that has it open, while it runs.
    pub pid: Option<u32>,
    /// The GPU instance that carries it.
    pub gi: Option<u32>,
    /// Percent of the last sampling period: SM, memory, encoder, decoder.
    pub busy: [u32; 4],
}

/// A GPU as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gpu {
    /// PCI address, `0000:40:00.0`.
    pub address: String,
    /// The board's name.
    pub board: String,
    /// What it was made from.
    pub preset: String,
    /// `GPU-…`.
    pub uuid: String,
    /// Framebuffer in MiB.
    pub framebuffer_mib: u64,
    /// Whether it may carry vGPUs of several sizes.
    pub mixed: bool,
    /// Whether it is in MIG mode.
    pub mig: bool,
    /// `best-effort`, `equal-share` or `fixed-share`.
    pub scheduler: String,
    /// Time slice in nanoseconds; 0 means the default.
    pub time_slice_ns: u32,
    /// Whether ECC is on, where the simulation says.
    pub ecc: Option<bool>,
    /// VFs that are enabled.
    pub vfs: u32,
    /// VFs that it can have, where the simulation says (`total_vfs`).
    pub total_vfs: Option<u32>,
    /// A process that computes on the GPU itself.
    pub process: Option<u32>,
    /// What it offers.
    pub kinds: Vec<Kind>,
    /// Its GPU instances, by number.
    pub instances: Vec<Instance>,
    /// What exists on it.
    pub vgpus: Vec<Vgpu>,
}

/// Why a GPU's setting was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// vGPUs exist on it.
    InUse,
    /// The value is nothing for this GPU.
    Invalid,
    /// There is no room for it.
    NoRoom,
    /// Not on this GPU, or not as it is set now.
    NotSupported,
    /// The caller may not.
    Forbidden,
    /// The GPU is no longer there.
    Lost,
    /// Anything else.
    Failed,
}

/// Returns the directory that holds the GPUs: `VGPU_SIM_STATE`, or that of the kernel module.
#[must_use]
pub fn base() -> PathBuf {
    std::env::var_os("VGPU_SIM_STATE").map_or_else(|| DEBUGFS.into(), PathBuf::from)
}

/// Returns whether the GPUs are those of files that a test wrote, without a kernel.
#[must_use]
pub fn is_files() -> bool {
    std::env::var_os("VGPU_SIM_STATE").is_some()
}

/// Returns the addresses of NVIDIA's GPUs, in order.
#[must_use]
pub fn addresses() -> Vec<String> {
    let entries = std::fs::read_dir(base()).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut found: Vec<String> =
        names.filter(|name| load(name).is_some_and(|gpu| gpu.uuid.starts_with("GPU-"))).collect();
    found.sort();
    found
}

/// Reads a GPU; `None` when it is not there.
#[must_use]
pub fn load(address: &str) -> Option<Gpu> {
    let text = std::fs::read_to_string(base().join(address).join("state")).ok()?;
    Some(parse(address, &text))
}

/// Reads the text of a `state`.
#[must_use]
pub fn parse(address: &str, text: &str) -> Gpu {
    let mut gpu = Gpu { address: address.to_owned(), ..Gpu::default() };
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("type ") {
            gpu.kinds.push(parse_kind(rest));
        } else if let Some(rest) = line.strip_prefix("gi ") {
            gpu.instances.push(parse_instance(rest));
        } else if let Some(rest) = line.strip_prefix("vgpu ") {
            gpu.vgpus.push(parse_vgpu(rest));
        } else if let Some((key, value)) = line.split_once('=') {
            set(&mut gpu, key.trim(), value.trim());
        }
    }
    gpu
}

fn set(gpu: &mut Gpu, key: &str, value: &str) {
    match key {
        "board" => value.clone_into(&mut gpu.board),
        "preset" => value.clone_into(&mut gpu.preset),
        "uuid" => value.clone_into(&mut gpu.uuid),
        "framebuffer_mib" => gpu.framebuffer_mib = number(value),
        "mode" => gpu.mixed = value == "mixed",
        "mig" => gpu.mig = value == "1",
        "scheduler" => value.clone_into(&mut gpu.scheduler),
        "time_slice_ns" => gpu.time_slice_ns = small(value),
        "ecc" => gpu.ecc = Some(value == "1"),
        "vfs" => gpu.vfs = small(value),
        "total_vfs" => gpu.total_vfs = value.parse().ok(),
        "process" => gpu.process = value.parse().ok().filter(|pid| *pid > 0),
        _ => {}
    }
}

fn parse_kind(rest: &str) -> Kind {
    // The name has blanks and ends the line.
    let (fields, name) = rest.split_once("name=").unwrap_or((rest, ""));
    let mut kind = Kind { name: name.trim().to_owned(), ..Kind::default() };
    for (key, value) in pairs(fields) {
        match key {
            "id" => kind.id = small(value),
            "fb_mib" => kind.fb_mib = number(value),
            "max" => kind.max = small(value),
            "gi_profile" => kind.gi_profile = value.parse().ok(),
            "gi" => value.clone_into(&mut kind.gi_name),
            "gis" => kind.gis = small(value),
            _ => {}
        }
    }
    kind
}

fn parse_instance(rest: &str) -> Instance {
    let mut instance = Instance::default();
    for (key, value) in pairs(rest) {
        match key {
            "id" => instance.id = small(value),
            "profile" => instance.profile = small(value),
            "name" => value.clone_into(&mut instance.name),
            "start" => instance.start = small(value),
            "size" => instance.size = small(value),
            _ => {}
        }
    }
    instance
}

fn parse_vgpu(rest: &str) -> Vgpu {
    let mut vgpu = Vgpu::default();
    for (key, value) in pairs(rest) {
        match key {
            "id" => vgpu.id = small(value),
            "vf" => value.clone_into(&mut vgpu.vf),
            "type" => vgpu.kind = small(value),
            "placement" => vgpu.placement = value.parse().ok(),
            "vm_uuid" => vgpu.vm_uuid = Some(value.to_owned()).filter(|uuid| uuid != "-"),
            "running" => vgpu.running = value == "1",
            "fb_used_mib" => vgpu.fb_used_mib = number(value),
            "pid" => vgpu.pid = value.parse().ok(),
            "gi" => vgpu.gi = value.parse().ok(),
            "sm" => vgpu.busy[0] = small(value),
            "mem" => vgpu.busy[1] = small(value),
            "enc" => vgpu.busy[2] = small(value),
            "dec" => vgpu.busy[3] = small(value),
            _ => {}
        }
    }
    vgpu
}

fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split_whitespace().filter_map(|field| field.split_once('='))
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}

fn small(text: &str) -> u32 {
    text.parse().unwrap_or_default()
}

/// Changes a setting of a GPU: one write of `key=value`.
///
/// # Errors
/// When the simulation refuses.
pub fn control(address: &str, setting: &str) -> Result<(), Refused> {
    let path = base().join(address).join("control");
    let file = OpenOptions::new().append(true).open(path);
    let written = file.and_then(|mut file| file.write_all(format!("{setting}\n").as_bytes()));
    if is_files() && written.is_ok() {
        return files::apply(address, &base().join(address).join("state"), setting);
    }
    written.map_err(|error| match (error.raw_os_error(), error.kind()) {
        (Some(EBUSY), _) => Refused::InUse,
        (_, ErrorKind::InvalidInput) => Refused::Invalid,
        (_, ErrorKind::StorageFull) => Refused::NoRoom,
        (_, ErrorKind::Unsupported) => Refused::NotSupported,
        (_, ErrorKind::PermissionDenied) => Refused::Forbidden,
        (_, ErrorKind::NotFound) => Refused::Lost,
        _ => Refused::Failed,
    })
}

impl Vgpu {
    /// Returns the VM that it runs in: as the simulation says, else the `-uuid` of the QEMU that has it open.
    #[must_use]
    pub fn vm(&self) -> Option<String> {
        self.vm_uuid.clone().or_else(|| {
            let arguments = std::fs::read(format!("/proc/{}/cmdline", self.pid?)).ok()?;
            let mut words = arguments.split(|byte| *byte == 0).skip_while(|word| *word != b"-uuid");
            String::from_utf8(words.nth(1)?.to_vec()).ok()
        })
    }
}

impl Gpu {
    /// Finds what it offers by number.
    #[must_use]
    pub fn kind(&self, id: u32) -> Option<&Kind> {
        self.kinds.iter().find(|kind| kind.id == id)
    }

    /// Returns whether its vGPUs are carried by VFs.
    #[must_use]
    pub fn has_vfs(&self) -> bool {
        self.preset != "t4"
    }

    /// Returns its address as NVIDIA's tools print it: eight digits of segment, upper case.
    #[must_use]
    pub fn bus_id(&self) -> String {
        format!("{:0>16}", self.address.to_ascii_uppercase())
    }

    /// Returns the board's name without NVIDIA's.
    #[must_use]
    pub fn model(&self) -> &str {
        let board = self.board.trim_start_matches("NVIDIA ").trim_start_matches("GRID ");
        board.trim_start_matches("Tesla ")
    }

    /// Returns whether vGPUs of several sizes may be allowed on it now. On KVM only with VFs, and not in MIG mode.
    #[must_use]
    pub fn can_mix(&self) -> bool {
        self.has_vfs() && self.vfs > 0 && !self.mig
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_of_the_contract_is_read() {
        let text = "board=NVIDIA L40S\npreset=l40s-vfio\nuuid=GPU-1\nframebuffer_mib=49152\nmode=mixed\nmig=0\n\
                    scheduler=equal-share\ntime_slice_ns=2000000\nvfs=32\nnew=1\n\
                    type id=1145 fb_mib=1024 max=32 gi_profile=- name=NVIDIA L40S-1B\n\
                    type id=1414 fb_mib=18432 max=7 gi_profile=19 gis=7 gi=1g.18gb name=NVIDIA H200X-1-18C\n\
                    gi id=2 profile=9 start=4 size=4 name=3g.40gb\n\
                    vgpu id=1 vf=0000:40:00.5 type=1145 placement=5 vm_uuid=- running=0 fb_used_mib=0\n";
        let gpu = parse("0000:40:00.0", text);
        assert_eq!((gpu.model(), gpu.framebuffer_mib, gpu.mixed, gpu.vfs), ("L40S", 49152, true, 32));
        assert_eq!((gpu.scheduler.as_str(), gpu.time_slice_ns), ("equal-share", 2_000_000));
        assert_eq!(gpu.kind(1145).map(|kind| (kind.max, kind.gi_profile)), Some((32, None)));
        assert_eq!(gpu.kind(1414).and_then(|kind| kind.gi_profile), Some(19));
        assert_eq!(gpu.kinds[1].name, "NVIDIA H200X-1-18C");
        assert_eq!((gpu.kinds[1].gis, gpu.kinds[1].gi_name.as_str()), (7, "1g.18gb"));
        let half = Instance { id: 2, profile: 9, name: "3g.40gb".to_owned(), start: 4, size: 4 };
        assert_eq!(gpu.instances, [half]);
        let vgpu =
            Vgpu { id: 1, vf: "0000:40:00.5".to_owned(), kind: 1145, placement: Some(5), ..Vgpu::default() };
        assert_eq!(gpu.vgpus, [vgpu]);
    }
}
