//! The engine with the real binaries on the fake kernel: late binding, races, runs, hangs, bad input, bad disks.

#![expect(clippy::disallowed_methods, reason = "a test plays the host's other programs")]

#[cfg(test)]
mod support;

#[cfg(test)]
#[path = "engine/kit.rs"]
mod kit;

#[cfg(test)]
#[path = "engine/binding.rs"]
mod binding;

#[cfg(test)]
#[path = "engine/runs.rs"]
mod runs;

#[cfg(test)]
#[path = "engine/hang.rs"]
mod hang;

#[cfg(test)]
#[path = "engine/hostile.rs"]
mod hostile;

#[cfg(test)]
#[path = "engine/disk.rs"]
mod disk;

#[cfg(test)]
#[path = "engine/foreign.rs"]
mod foreign;

#[cfg(test)]
#[path = "engine/life.rs"]
mod life;

#[cfg(test)]
#[path = "engine/walk.rs"]
mod walk;

#[cfg(test)]
#[path = "engine/index.rs"]
mod index;

#[cfg(test)]
#[path = "engine/saved.rs"]
mod saved;

#[cfg(test)]
#[cfg(feature = "nvml")]
#[path = "engine/gpu_set.rs"]
mod gpu_set;

#[cfg(test)]
#[cfg(feature = "nvml")]
#[path = "engine/mig.rs"]
mod mig;

#[cfg(test)]
#[path = "engine/passthrough.rs"]
mod passthrough;

#[cfg(test)]
#[path = "engine/xe.rs"]
mod xe;

#[cfg(test)]
#[path = "engine/vgpu.rs"]
mod vgpu;

#[cfg(test)]
#[path = "engine/plugin.rs"]
mod plugin;

#[cfg(test)]
#[path = "engine/terms.rs"]
mod terms;

#[cfg(test)]
#[path = "engine/rules.rs"]
mod rules;

#[cfg(test)]
#[path = "engine/interlocks.rs"]
mod interlocks;

#[cfg(test)]
#[path = "engine/queue.rs"]
mod queue;

#[cfg(test)]
#[path = "engine/room.rs"]
mod room;
