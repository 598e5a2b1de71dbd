//! What the tests share: a fake kernel that reacts to writes as the real one does, and recorded hosts.
#![expect(dead_code, reason = "each test crate uses its own part of this")]

pub(crate) mod dice;
pub(crate) mod fake;
mod fuse;
mod kernel;
pub(crate) mod manifest;
pub(crate) mod nvidia;
mod presets;
pub(crate) mod spec;
pub(crate) mod tree;
pub(crate) mod world;
