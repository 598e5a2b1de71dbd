//! Experiments that measure placement: the engine of `fleet` under workloads drawn from seeds or read from
//! files, beside bounds that no placement can pass.

pub mod bound;
pub mod clock;
pub mod openb;
pub mod replay;
pub mod scale;
pub mod scenarios;
pub mod slots;
pub mod workloads;
