//! One change in the kernel.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::{
    Device, DeviceName, HostDriver, MdevTypeId, MdevUuid, PciAddress, PluginParameters, Quantum,
};

/// One kernel change. Written into an intent before it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Make a mediated device. Reverse: [`Step::RemoveMdev`].
    CreateMdev {
        /// The parent's name in sysfs.
        parent: DeviceName,
        /// The type's directory.
        mdev_type: MdevTypeId,
        /// The new device's name.
        uuid: MdevUuid,
    },
    /// Take a mediated device away. Reverse: [`Step::CreateMdev`] with the type it had.
    RemoveMdev {
        /// The device's name.
        uuid: MdevUuid,
    },
    /// Bring a PF to `count` VFs, through 0 where the kernel demands it, autoprobe off, each VF on
    /// its VFIO driver. Reverse: the same with `before`.
    SetVfs {
        /// The PF.
        pf: PciAddress,
        /// VFs wanted.
        count: u32,
        /// VFs there before.
        before: u32,
        /// The vendor's script that does it, where the PF's driver refuses everybody else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        script: Option<PathBuf>,
    },
    /// Let host drivers take new VFs of a PF, or not: what vgpud found before it first changed the PF. Reverse:
    /// the same with the other value.
    SetAutoprobe {
        /// The PF.
        pf: PciAddress,
        /// Whether they may.
        on: bool,
    },
    /// Make a vGPU of a type on a VF by writing the type's number, or take it away. Reverse: the same with
    /// `before`.
    SetVgpuType {
        /// The VF.
        vf: PciAddress,
        /// The type; `None` takes the vGPU away.
        vgpu_type: Option<MdevTypeId>,
        /// The type it had before.
        before: Option<MdevTypeId>,
    },
    /// Give a VF to its VFIO driver. Reverse: none; a VF of a managed PF stays there.
    BindVf {
        /// The VF.
        vf: PciAddress,
    },
    /// Set how long a VF has the engines at a time. Reverse: the same with `before`.
    SetQuantum {
        /// The VF.
        vf: PciAddress,
        /// Its turns.
        quantum: Quantum,
        /// The turns it had before.
        before: Quantum,
    },
    /// Give a vGPU of NVIDIA's plugin parameters, or take away those that it has. Reverse: none; they go with the vGPU.
    SetParameters {
        /// The vGPU.
        device: Device,
        /// Its parameters; `None` takes them away.
        parameters: Option<PluginParameters>,
    },
    /// Give a whole GPU, with the functions that go with it, to VFIO drivers. Reverse: [`Step::ReturnGpu`].
    TakeGpu {
        /// The GPU's own function.
        gpu: PciAddress,
        /// All functions with the drivers that they had before, the GPU's own first.
        functions: Vec<HostDriver>,
    },
    /// Give the functions of a whole GPU back to the drivers that they had. Reverse: [`Step::TakeGpu`].
    ReturnGpu {
        /// The GPU's own function.
        gpu: PciAddress,
        /// All functions with the drivers that they get, the GPU's own first.
        functions: Vec<HostDriver>,
    },
}

impl Step {
    /// Returns the device that the step makes, takes away or binds.
    #[must_use]
    pub const fn device(&self) -> Option<Device> {
        match self {
            Self::CreateMdev { uuid, .. } | Self::RemoveMdev { uuid } => Some(Device::Mdev(*uuid)),
            Self::BindVf { vf } | Self::SetVgpuType { vf, .. } | Self::SetQuantum { vf, .. } => {
                Some(Device::Vf(*vf))
            }
            Self::SetParameters { device, .. } => Some(*device),
            Self::TakeGpu { gpu, .. } | Self::ReturnGpu { gpu, .. } => Some(Device::Vf(*gpu)),
            Self::SetVfs { .. } | Self::SetAutoprobe { .. } => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateMdev { parent, mdev_type, uuid } => {
                write!(f, "create mdev {uuid} of type {mdev_type} on {parent}")
            }
            Self::RemoveMdev { uuid } => write!(f, "remove mdev {uuid}"),
            Self::SetVfs { pf, count, before, .. } => write!(f, "set VFs of {pf} from {before} to {count}"),
            Self::SetAutoprobe { pf, on } => {
                let word = if *on { "on" } else { "off" };
                write!(f, "turn driver probing of new VFs of {pf} {word}")
            }
            Self::SetVgpuType { vf, vgpu_type: Some(vgpu_type), .. } => {
                write!(f, "make vGPU {vgpu_type} on VF {vf}")
            }
            Self::SetVgpuType { vf, vgpu_type: None, .. } => write!(f, "take the vGPU from VF {vf}"),
            Self::BindVf { vf } => write!(f, "bind VF {vf} to its VFIO driver"),
            Self::SetQuantum { vf, quantum, .. } => write!(f, "give VF {vf} {quantum}"),
            Self::SetParameters { device, parameters: Some(parameters) } => {
                write!(f, "set plugin parameters {parameters} of {device}")
            }
            Self::SetParameters { device, parameters: None } => {
                write!(f, "take the plugin parameters from {device}")
            }
            Self::TakeGpu { gpu, .. } => write!(f, "bind the whole GPU {gpu} to its VFIO driver"),
            Self::ReturnGpu { gpu, .. } => write!(f, "give the whole GPU {gpu} back to the host's driver"),
        }
    }
}
