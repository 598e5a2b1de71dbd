//! NVIDIA's management library for the lab: the C interface that `vgpud` and its tests meet, answered
//! from the text files of simulated GPUs. Nothing here knows real hardware; the rules it keeps are those
//! that NVIDIA's documents and the source of its open kernel modules state.
//!
//! `state` reads and writes the simulated GPUs, `lock` is who has their driver in use, `placement` is the rule of
//! placement ids, `partition` that of GPU instances, `abi` is the border to C, the rest are the functions by what they are about.

mod abi;
mod device;
mod gpu_instance;
mod instance;
mod kind;
mod placements;
mod session;
mod settings;
mod system;
mod usage;

pub mod lock;
pub mod partition;
pub mod placement;
pub mod state;
