//! What a task asks for.

use super::node::WHOLE;

/// What a task asks for; tasks that ask alike are of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// Thousandths of a core.
    pub cpu: u32,
    /// MiB of the host's memory.
    pub memory: u32,
    /// Number of GPUs, 0 to 8.
    pub gpus: u8,
    /// Thousandths of each GPU, 1 to 1000; 0 without GPU.
    pub share: u16,
    /// The GPU models that will do, bit by model number; all bits when any will.
    pub models: u64,
}

/// The classes by which refusals are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// No GPU.
    Cpu,
    /// A part of one GPU.
    Share,
    /// One whole GPU.
    One,
    /// Several GPUs.
    Several,
}

impl Class {
    /// All classes, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Share, Self::One, Self::Several];

    /// Returns the class's word in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu_only",
            Self::Share => "share",
            Self::One => "one_gpu",
            Self::Several => "several_gpus",
        }
    }
}

impl Kind {
    /// Returns the class.
    #[must_use]
    pub fn class(&self) -> Class {
        match self.gpus {
            0 => Class::Cpu,
            1 if self.share < WHOLE => Class::Share,
            1 => Class::One,
            _ => Class::Several,
        }
    }

    /// Returns the thousandths of GPUs in all.
    #[must_use]
    pub fn milli(&self) -> u32 {
        u32::from(self.gpus) * u32::from(self.share)
    }

    /// Returns whether it asks for a part of a GPU.
    #[must_use]
    pub fn is_share(&self) -> bool {
        self.gpus == 1 && self.share < WHOLE
    }

    /// Returns the number of this kind of GPU use, by which `clustering` tells nodes apart.
    pub(super) fn affinity(&self) -> Option<usize> {
        match self.gpus {
            0 => None,
            1 if self.share < WHOLE => Some(0),
            1 => Some(1),
            2 => Some(2),
            3..=4 => Some(3),
            _ => Some(4),
        }
    }
}
