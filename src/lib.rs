//! vgpud: declare a vGPU profile, attach it to a libvirt domain, start the domain; the slice is made
//! on the best of the host's GPUs at that moment and given back when the domain stops.
//!
//! Three towers stand on one ground floor. The hardware tower ([`sysfs`], [`vfio`], [`uevent`],
//! [`nvml`], [`backend`], [`inventory`]) reads and changes the kernel's devices. The pure tower
//! ([`profile`], [`placement`], [`plan`], [`domain_xml`]) decides. The state tower ([`ledger`])
//! remembers what was promised. They do not know each other; only [`engine`] sees all three. The
//! ground floor is [`model`]. Above the engine are the faces: [`api`], [`cli`] and [`hook`], which
//! speak [`wire`].
//!
//! `docs/architecture.md` holds the drawing and the laws; `tests/rooms.rs` checks the arrows.

pub mod api;
pub mod backend;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod desk;
pub mod doctor;
pub mod domain_xml;
pub mod engine;
pub mod failpoint;
pub mod fleet;
pub mod hook;
pub mod interlock;
pub mod inventory;
pub mod ledger;
pub mod libvirt;
pub mod metrics;
pub mod model;
pub mod nvml;
pub mod page;
pub mod placement;
pub mod plan;
pub mod profile;
pub mod service;
pub mod simulate;
pub mod sysfs;
pub mod topology;
pub mod uevent;
pub mod vfio;
pub mod wire;
