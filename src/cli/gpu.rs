//! `vgpuctl gpu`: how a GPU is set.

use clap::Subcommand;

use crate::cli::device::{full_address, sentences};
use crate::cli::report::{Format, Report};
use crate::client::{Client, ClientError, segment};
use crate::model::{MigWish, SchedulerPolicy, SizeMode};
use crate::wire::{Changed, Refusal, SetGpu};

/// Set how a GPU is shared
#[derive(Debug, Subcommand)]
pub(super) enum Gpu {
    /// Set VFs, MIG, size mode and scheduler of a GPU
    ///
    /// What is not named stays as it is. All of it is remembered and brought back after a boot, in the order that
    /// the driver wants: MIG mode, VFs, GPU instances or size mode and scheduler, then slices. Refused while a slice is on
    /// the GPU. VFs of NVIDIA's driver are made by its own script, all or none; MIG, size mode and scheduler need NVIDIA's
    /// management library. Intel's xe divides its memory fairly over the VFs; fewer VFs have more each.
    Set(Set),
    /// Forget how a GPU was to be set
    ///
    /// MIG, size mode and scheduler of a GPU of NVIDIA's stay as they are until the next boot, and no longer come back
    /// then; the number of its VFs is forgotten with `vgpuctl vfs forget`. Of any other GPU the number of VFs is all
    /// that is set, and it is forgotten with this: those that exist stay.
    Forget {
        /// The GPU: PCI address or name, as `vgpuctl gpus` prints it
        gpu: String,
    },
}

/// Arguments of `vgpuctl gpu set`.
#[derive(Debug, clap::Args)]
pub(super) struct Set {
    /// The GPU: PCI address or name, as `vgpuctl gpus` prints it
    gpu: String,
    /// How many VFs; 0 takes all away
    #[arg(long, value_name = "N")]
    vfs: Option<u32>,
    /// Divide it by MIG: off, or GPU instance profiles such as 3g.40gb,1g.10gb
    ///
    /// One profile for each GPU instance, in any order, as `nvidia-smi mig -lgip` names them; they replace those that are
    /// there. MIG mode itself changes only without VFs: with --vfs they are taken away for it and made anew. In MIG mode
    /// there is neither size mode nor scheduler.
    #[arg(long, value_name = "PROFILES")]
    mig: Option<MigWish>,
    /// Whether vGPUs of several framebuffer sizes may share it: equal or mixed
    #[arg(long, value_name = "MODE")]
    mode: Option<SizeMode>,
    /// How vGPUs share its engines: best-effort, equal-share or fixed-share
    ///
    /// Fixed share is not available with mixed sizes.
    #[arg(long, value_name = "POLICY")]
    scheduler: Option<SchedulerPolicy>,
    /// How long one vGPU has the engines, in milliseconds; without it the driver's default
    #[arg(long, value_name = "N")]
    time_slice_ms: Option<u32>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Gpu {
    pub(super) fn run(self, client: &Client, format: Format) -> Result<Report, Refusal> {
        let path_of = |gpu: &str| format!("/v1/gpus/{}", segment(&full_address(gpu)));
        let (changed, done) = match self {
            Self::Set(Set { gpu, vfs, mode, scheduler, time_slice_ms, mig, dry_run }) => {
                let wanted = SetGpu { vfs, mig, mode, scheduler, time_slice_ms, dry_run };
                (client.put(&path_of(&gpu), &wanted), "set")
            }
            Self::Forget { gpu } => (client.delete(&path_of(&gpu)), "forgotten"),
        };
        let changed: Changed = changed.map_err(ClientError::into_refusal)?;
        Report::new(format, &changed, |changed| sentences(changed, done))
    }
}
