//! What can go wrong with a step, and what to do about it.

use std::fmt;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::model::{
    Device, DeviceName, Holder, Kind, MdevTypeId, MdevUuid, PciAddress, PluginParameters, Quantum, Refusal,
    Step,
};
use crate::sysfs::SysfsError;

/// The kernel's answer behind a [`StepError`]: can travel between processes, keeps errno.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Cause {
    /// What was tried on which attribute with which value, and the kernel's words.
    pub text: String,
    /// The kernel's number.
    pub errno: Option<i32>,
}

impl Cause {
    /// Returns errno.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        self.errno.map(Errno::from_raw)
    }
}

impl From<SysfsError> for Cause {
    fn from(error: SysfsError) -> Self {
        let errno = error.errno().map(|errno| errno as i32);
        Self { text: Refusal::from_error(Kind::HostFault, &error).message, errno }
    }
}

/// What a step was doing when the kernel answered something that has no variant of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum Act {
    /// Making an mdev.
    Create {
        /// On this parent.
        parent: DeviceName,
        /// Of this type.
        mdev_type: MdevTypeId,
        /// With this name.
        uuid: MdevUuid,
    },
    /// Taking an mdev away.
    Remove {
        /// Its name.
        uuid: MdevUuid,
    },
    /// Changing the number of VFs.
    SetVfs {
        /// Of this PF.
        pf: PciAddress,
        /// To this number.
        count: u32,
    },
    /// Changing whether host drivers take new VFs.
    SetAutoprobe {
        /// Of this PF.
        pf: PciAddress,
    },
    /// Making a vGPU on a VF, or taking it away.
    SetVgpuType {
        /// The VF.
        vf: PciAddress,
        /// The type; `None` takes the vGPU away.
        vgpu_type: Option<MdevTypeId>,
    },
    /// Giving a VF, or a function of a whole GPU, to its VFIO driver.
    Bind {
        /// The function.
        vf: PciAddress,
        /// The driver.
        driver: String,
    },
    /// Setting how long a VF has the engines at a time.
    SetQuantum {
        /// The VF.
        vf: PciAddress,
        /// Its turns.
        quantum: Quantum,
    },
    /// Setting the plugin parameters of a vGPU, or taking them away.
    SetParameters {
        /// The vGPU.
        device: Device,
        /// Its parameters; `None` takes them away.
        parameters: Option<PluginParameters>,
    },
    /// Giving a whole GPU to its VFIO driver.
    TakeGpu {
        /// The GPU's own function.
        gpu: PciAddress,
    },
    /// Giving a function of a whole GPU back to the host.
    ReturnGpu {
        /// The GPU's own function.
        gpu: PciAddress,
        /// The function.
        function: PciAddress,
        /// The driver that it had.
        driver: Option<String>,
    },
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { parent, mdev_type, uuid } => {
                write!(f, "create mdev {uuid} of type {mdev_type} on {parent}")
            }
            Self::Remove { uuid } => write!(f, "remove mdev {uuid}"),
            Self::SetVfs { pf, count } => write!(f, "set the VFs of {pf} to {count}"),
            Self::SetAutoprobe { pf } => write!(f, "change the driver probing of new VFs of {pf}"),
            Self::SetVgpuType { vf, vgpu_type: Some(vgpu_type) } => {
                write!(f, "make vGPU {vgpu_type} on VF {vf}")
            }
            Self::SetVgpuType { vf, vgpu_type: None } => write!(f, "take the vGPU from VF {vf}"),
            Self::Bind { vf, driver } => write!(f, "bind {vf} to {driver}"),
            Self::SetQuantum { vf, quantum } => write!(f, "give VF {vf} {quantum}"),
            Self::SetParameters { device, parameters: Some(parameters) } => {
                write!(f, "set plugin parameters {parameters} of {device}")
            }
            Self::SetParameters { device, parameters: None } => {
                write!(f, "take the plugin parameters from {device}")
            }
            Self::TakeGpu { gpu } => write!(f, "bind the whole GPU {gpu} to its VFIO driver"),
            Self::ReturnGpu { function, driver: Some(driver), .. } => {
                write!(f, "give {function} back to {driver}")
            }
            Self::ReturnGpu { function, driver: None, .. } => {
                write!(f, "take {function} from its VFIO driver")
            }
        }
    }
}

/// A step that was not done. Each variant is a different thing for the reader to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", rename_all = "snake_case")]
pub enum StepError {
    /// The UUID is taken, on this or another parent, or by a device whose removal has not ended.
    #[error("mdev {uuid} exists already, or its removal has not ended")]
    Exists {
        /// The UUID.
        uuid: MdevUuid,
        /// The kernel's answer.
        source: Cause,
    },
    /// The parent has no room for one more of the type.
    #[error("{parent} has no room for another {mdev_type}")]
    NoRoom {
        /// The parent.
        parent: DeviceName,
        /// The type.
        mdev_type: MdevTypeId,
        /// The kernel's answer.
        source: Cause,
    },
    /// The GPU runs vGPUs of one framebuffer size, and the type has another.
    #[error("the GPU of {vf} makes no {vgpu_type} now: {running}")]
    OtherSize {
        /// The VF.
        vf: PciAddress,
        /// The type that was asked for.
        vgpu_type: MdevTypeId,
        /// What runs there, as a clause.
        running: String,
        /// The kernel's answer.
        source: Cause,
    },
    /// The VF is a vGPU already, and not one of ours.
    #[error("VF {vf} is a vGPU of type {found} already")]
    HasType {
        /// The VF.
        vf: PciAddress,
        /// The type it has.
        found: MdevTypeId,
    },
    /// The device, parent, type or PF is not there.
    #[error("cannot {act}: {what} does not exist")]
    Gone {
        /// What was tried.
        act: Act,
        /// What is missing.
        what: String,
    },
    /// A guest has it open, or the host itself uses it. Nothing was changed.
    #[error("{device} is in use by {}", list(.holders))]
    Held {
        /// The mdev or VF.
        device: String,
        /// Who; empty when that could not be found out.
        holders: Vec<Holder>,
    },
    /// The GPU cannot be given to a guest as it is. Nothing was changed.
    #[error("GPU {gpu} cannot be given whole: it {reason}")]
    NotWhole {
        /// The GPU's own function.
        gpu: PciAddress,
        /// Why, as a clause.
        reason: String,
    },
    /// The number of VFs is more than the PF has.
    #[error("{pf} can have at most {total} VFs, not {count}")]
    TooManyVfs {
        /// The PF.
        pf: PciAddress,
        /// VFs wanted.
        count: u32,
        /// VFs it can have.
        total: u32,
    },
    /// Some VFs were given memory by hand: then the driver divides nothing, and others would have none.
    #[error(
        "VF {missing} of {pf} would have no memory: others were given theirs by hand, and then the driver divides nothing"
    )]
    Undivided {
        /// The PF.
        pf: PciAddress,
        /// The number, from 1, of the first VF without.
        missing: u32,
    },
    /// NVIDIA's driver makes all VFs that a PF can have.
    #[error("driver nvidia makes all {total} VFs of {pf} or none, not {count}")]
    AllOrNone {
        /// The PF.
        pf: PciAddress,
        /// VFs wanted.
        count: u32,
        /// VFs it can have.
        total: u32,
    },
    /// The vendor's script did not do it.
    #[error("cannot set the VFs of {pf} to {count}: {how}{}", after(.said))]
    Script {
        /// The PF.
        pf: PciAddress,
        /// VFs wanted.
        count: u32,
        /// Which script, and how it ended.
        how: String,
        /// What it said, in one line.
        said: String,
    },
    /// No driver that could do it.
    #[error("cannot {act}: {reason}")]
    NoDriver {
        /// What was tried.
        act: Act,
        /// Which driver is missing or cannot.
        reason: String,
    },
    /// All writes went well and reading back shows something else.
    #[error("could not {act}: reading back shows {found}")]
    NotSo {
        /// What was tried.
        act: Act,
        /// What is so instead.
        found: String,
    },
    /// The kernel refused for another reason.
    #[error("cannot {act}")]
    Kernel {
        /// What was tried.
        act: Act,
        /// The kernel's answer.
        source: Cause,
    },
    /// A change of VFs that had taken the old ones away was refused, and the old count could not be brought back.
    #[error("{cause}; {pf} had {before} VFs and has {left} now")]
    CutShort {
        /// The PF.
        pf: PciAddress,
        /// Why the change was refused.
        cause: Box<StepError>,
        /// VFs before.
        before: u32,
        /// VFs now.
        left: u32,
    },
    /// The helper process ended without an answer.
    #[error("cannot tell whether it was done: {step}: the helper process {how}")]
    NoAnswer {
        /// What it was asked to do.
        step: String,
        /// How it ended.
        how: String,
    },
}

fn after(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

/// NVIDIA's script says so when a process has the GPU open.
fn is_locked(said: &str) -> bool {
    said.contains("unbindLock")
}

fn list(holders: &[Holder]) -> String {
    if holders.is_empty() {
        return "a process that could not be identified".to_owned();
    }
    holders.iter().map(Holder::to_string).collect::<Vec<_>>().join(", ")
}

impl StepError {
    /// Returns what kind of no this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::CutShort { cause, .. } => cause.kind(),
            Self::Exists { .. } | Self::HasType { .. } | Self::NotWhole { .. } | Self::Undivided { .. } => {
                Kind::Conflict
            }
            Self::NoRoom { .. } | Self::OtherSize { .. } => Kind::NoCapacity,
            Self::Gone { .. } => Kind::NotFound,
            Self::Held { .. } => Kind::Busy,
            Self::Script { said, .. } if is_locked(said) => Kind::Busy,
            Self::Script { .. } => Kind::HostFault,
            Self::TooManyVfs { .. } | Self::AllOrNone { .. } => Kind::Usage,
            Self::NoDriver { .. } | Self::NotSo { .. } | Self::Kernel { .. } | Self::NoAnswer { .. } => {
                Kind::HostFault
            }
        }
    }

    /// Returns the kernel's number behind it.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::CutShort { cause, .. } => cause.errno(),
            Self::Exists { source, .. }
            | Self::NoRoom { source, .. }
            | Self::OtherSize { source, .. }
            | Self::Kernel { source, .. } => source.errno(),
            Self::Gone { .. }
            | Self::HasType { .. }
            | Self::Held { .. }
            | Self::NotWhole { .. }
            | Self::TooManyVfs { .. }
            | Self::Undivided { .. }
            | Self::AllOrNone { .. }
            | Self::Script { .. }
            | Self::NoDriver { .. }
            | Self::NotSo { .. }
            | Self::NoAnswer { .. } => None,
        }
    }

    /// Returns whether the same slice may be made on another parent: this one is full, refused, or
    /// went away, and nothing was left behind.
    #[must_use]
    pub fn retry_elsewhere(&self) -> bool {
        match self {
            Self::NoRoom { .. } => true,
            Self::Kernel { act: Act::Create { .. }, source } => source.errno() == Some(Errno::EIO),
            Self::Gone { act, .. } => matches!(act, Act::Create { .. }),
            // Which VF it is was settled by the domain's XML.
            Self::OtherSize { .. } | Self::HasType { .. } => false,
            Self::Kernel { .. }
            | Self::Exists { .. }
            | Self::Held { .. }
            | Self::NotWhole { .. }
            | Self::TooManyVfs { .. }
            | Self::Undivided { .. }
            | Self::AllOrNone { .. }
            | Self::Script { .. }
            | Self::NoDriver { .. }
            | Self::NotSo { .. }
            | Self::CutShort { .. }
            | Self::NoAnswer { .. } => false,
        }
    }

    /// Returns what the reader can do, one sentence each.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::CutShort { cause, .. } => cause.hints(),
            Self::Exists { uuid, .. } => vec![format!(
                "look who made it: vgpuctl gpus, or mdevctl list; if it starts by itself at boot, mdevctl undefine -u {uuid} ends that"
            )],
            Self::NoRoom { parent, .. } => vec![format!(
                "types of one parent share its resources: remove an mdev on {parent} or choose a smaller type"
            )],
            Self::OtherSize { .. } => vec![
                "a GPU in equal-size mode makes one framebuffer size at a time: take a type of that size, another GPU, or, while it has no vGPU, mixed-size mode"
                    .to_owned(),
            ],
            Self::HasType { vf, .. } => vec![format!(
                "whoever made it takes it away: echo 0 > /sys/bus/pci/devices/{vf}/nvidia/current_vgpu_type; vgpuctl adopt makes it vgpud's"
            )],
            Self::Gone { act, .. } => vec![gone_hint(act)],
            Self::Held { holders, .. } => holders.iter().map(held_hint).collect(),
            Self::NotWhole { .. } => vec!["vgpuctl gpus says of each GPU whether a guest can have it whole".to_owned()],
            Self::TooManyVfs { total, .. } => vec![format!("ask for {total} or fewer")],
            Self::Undivided { pf, missing } => vec![format!(
                "let the driver divide it: echo 0 > /sys/bus/pci/devices/{pf}/sriov_admin/.bulk_profile/vram_quota; or give VF {missing} its own: sriov_admin/vf{missing}/profile/vram_quota, in bytes"
            )],
            Self::AllOrNone { total, .. } => vec![format!("ask for {total}, or for 0")],
            Self::Script { said, .. } if is_locked(said) => vec![
                "a process has the GPU open: nvidia-persistenced, DCGM, an exporter, nvidia-smi; end it and try again (fuser -v /dev/nvidia* lists them)"
                    .to_owned(),
            ],
            Self::Script { .. } => vec!["the kernel log says more: dmesg | grep NVRM".to_owned()],
            Self::NoDriver { act, reason } => vec![driver_hint(act, reason)],
            Self::NotSo { .. } => vec!["the kernel log says why: dmesg".to_owned()],
            Self::Kernel { act, source } => vec![kernel_hint(act, source.errno())],
            Self::NoAnswer { .. } => vec!["the next look at the host shows what is so".to_owned()],
        }
    }

    /// Returns it as it travels to the caller.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let mut refusal = Refusal::from_error(self.kind(), self);
        refusal.hints = self.hints();
        refusal
    }

    /// Returns the error of a helper that ended without an answer.
    pub(crate) fn no_answer(step: &Step, how: String) -> Self {
        Self::NoAnswer { step: step.to_string(), how }
    }
}

fn gone_hint(act: &Act) -> String {
    match act {
        Act::Create { .. } => "vgpuctl gpus lists the parents and types that exist now".to_owned(),
        Act::Remove { .. } => "nothing is left to remove".to_owned(),
        Act::SetVfs { .. } | Act::SetAutoprobe { .. } => {
            "vgpuctl gpus lists the PFs that exist now".to_owned()
        }
        Act::SetVgpuType { .. } => {
            "VFs go with their PF's driver and with each change of their number: vgpuctl gpus lists those that exist"
                .to_owned()
        }
        Act::Bind { .. } | Act::SetQuantum { .. } => {
            "the VF went away with its PF's VF count: vgpuctl vfs set makes it again".to_owned()
        }
        Act::SetParameters { .. } => "it was taken away meanwhile: start the domain again".to_owned(),
        Act::TakeGpu { .. } | Act::ReturnGpu { .. } => {
            "the function is not on the bus now: vgpuctl gpus lists what is; echo 1 > /sys/bus/pci/rescan looks again"
                .to_owned()
        }
    }
}

fn held_hint(holder: &Holder) -> String {
    match (&holder.domain, holder.pid) {
        (Some(domain), _) => format!("stop domain {domain} first"),
        (None, 0) => format!("take it out of use on the host first: {}", holder.name),
        (None, pid) => format!("end process {pid} ({}) first", holder.name),
    }
}

fn driver_hint(act: &Act, reason: &str) -> String {
    match act {
        Act::SetVfs { .. } if reason.contains("sriov-manage") => {
            "it comes with NVIDIA's vGPU host driver, as /usr/lib/nvidia/sriov-manage; where it lies elsewhere, say so in /etc/vgpud/vgpud.toml, [nvidia] sriov_manage"
                .to_owned()
        }
        Act::SetVfs { .. } if reason.contains(super::sriov::GIM) => {
            "write vf_num=N in /etc/gim_config, then, with no guest on any of its VFs: modprobe -r gim && modprobe gim"
                .to_owned()
        }
        Act::SetVfs { pf, .. } | Act::SetAutoprobe { pf } => {
            format!("bind {pf} to a driver that can make VFs (its sriov_configure is missing)")
        }
        Act::SetVgpuType { .. } => {
            "VFs that take vGPU types stay on driver nvidia; after another driver had one, only making all VFs anew brings it back: sriov-manage -d, then -e"
                .to_owned()
        }
        Act::SetQuantum { .. } => {
            "turns of single VFs need Intel's xe of Linux 6.19 or later on the PF; without it, take the weight from the profile: vgpuctl profile edit NAME --no-weight"
                .to_owned()
        }
        Act::SetParameters { .. } => {
            "this driver takes no plugin parameters: vgpuctl profile edit NAME --no-parameters".to_owned()
        }
        Act::Bind { driver, .. } => format!("load it: modprobe {driver}"),
        Act::TakeGpu { .. } => "load it: modprobe vfio-pci".to_owned(),
        Act::ReturnGpu { driver, .. } => {
            format!("load it: modprobe {}", driver.as_deref().unwrap_or("DRIVER"))
        }
        Act::Create { parent, .. } => format!("load the vGPU driver of {parent}"),
        Act::Remove { .. } => "load the mdev module".to_owned(),
    }
}

/// What to do about an errno, by what was tried. The causes are those of the kernel's own sources:
/// drivers/vfio/mdev, drivers/pci/iov.c, drivers/pci/pci-sysfs.c, drivers/base/bus.c.
fn kernel_hint(act: &Act, errno: Option<Errno>) -> String {
    match (act, errno) {
        (Act::SetVgpuType { .. }, _) => {
            "NVIDIA's driver refused; the kernel log says why in its lines of NVRM: dmesg, and journalctl -b -u nvidia-vgpu-mgr"
                .to_owned()
        }
        (Act::SetParameters { .. }, Some(Errno::EINVAL)) => {
            "the driver knows no such parameter or value: vgpuctl profile edit NAME --parameters LIST, or --no-parameters"
                .to_owned()
        }
        (Act::SetParameters { .. }, _) => {
            "NVIDIA's driver takes them while nothing uses the vGPU; the kernel log says more: dmesg, and journalctl -b -u nvidia-vgpu-mgr"
                .to_owned()
        }
        (Act::SetQuantum { .. }, Some(Errno::EPERM)) => {
            "this GPU or its firmware has no turns of single VFs: take the weight from the profile (vgpuctl profile edit NAME --no-weight), or attach one without"
                .to_owned()
        }
        (Act::SetQuantum { .. }, Some(Errno::EIO)) => {
            "the GPU's firmware refused it; the kernel log says more: dmesg | grep -i guc".to_owned()
        }
        (Act::SetQuantum { .. }, Some(Errno::EINVAL | Errno::ERANGE | Errno::EOVERFLOW)) => {
            "the driver takes no turns of that length: give the profile a smaller weight".to_owned()
        }
        (Act::SetQuantum { .. }, Some(Errno::ENODEV | Errno::ENOENT | Errno::ENXIO)) => {
            "the driver is letting the GPU go: vgpuctl gpus shows what is there".to_owned()
        }
        (Act::SetQuantum { .. }, Some(Errno::EUCLEAN)) => {
            "the tiles of the GPU differ: write the attribute by hand once, 0 is the default; dmesg says more"
                .to_owned()
        }
        (_, Some(Errno::EACCES | Errno::EPERM)) => {
            "the service must run as root, and a vendor's driver can refuse with the same number: the kernel log tells"
                .to_owned()
        }
        (Act::Create { .. }, Some(Errno::EINVAL)) => {
            "the driver refused the type on this parent now; the kernel log says why: dmesg".to_owned()
        }
        (Act::Create { .. }, Some(Errno::EIO)) => {
            "the vGPU driver refused; its own log says why: journalctl -b -g vmiop_log, and dmesg".to_owned()
        }
        (_, Some(Errno::ENOMEM)) => "the kernel has no memory for it: free some and try again".to_owned(),
        (Act::Remove { .. }, Some(Errno::EAGAIN)) => "its creation has not ended: try again".to_owned(),
        (Act::SetVfs { .. }, Some(Errno::EBUSY)) => {
            "another tool changed the number of VFs meanwhile: look again, then try again".to_owned()
        }
        (Act::SetVfs { .. }, Some(Errno::EIO | Errno::ENODEV | Errno::EINVAL | Errno::ENOSYS)) => {
            "the kernel log says why; \"not enough MMIO resources\" means that the firmware must give more: \
             turn on SR-IOV and \"above 4G decoding\" there, or boot with pci=realloc"
                .to_owned()
        }
        (Act::Bind { driver, .. }, Some(Errno::EINVAL)) => {
            format!("{driver} refuses functions without an IOMMU: turn it on (intel_iommu=on, or the firmware's switch)")
        }
        (Act::ReturnGpu { function, driver, .. }, Some(Errno::ENODEV)) => format!(
            "driver {} did not take it, mostly because the card needs a reset: echo 1 > /sys/bus/pci/devices/{function}/reset, \
             then the next look tries again; else reboot; dmesg says more",
            driver.as_deref().unwrap_or("of the host")
        ),
        (Act::ReturnGpu { function, .. }, Some(Errno::EBUSY)) => {
            format!("another driver took it meanwhile: lspci -k -s {function} shows which")
        }
        (Act::ReturnGpu { .. }, Some(Errno::EINVAL)) => {
            "its IOMMU group is still owned by a guest: the next look tries again".to_owned()
        }
        (Act::Bind { .. }, Some(Errno::EBUSY)) => "another driver holds a part of it: dmesg".to_owned(),
        (Act::Bind { driver, .. }, Some(Errno::ENODEV)) => {
            format!("{driver} did not take it; dmesg says why (a bridge, or a card that does not answer)")
        }
        _ => "the kernel log says why: dmesg".to_owned(),
    }
}
