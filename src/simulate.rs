//! Experiments on the placement engine: what a policy does with a workload, beside its bounds.

pub mod bound;
pub mod openb;
