//! Placement for whole fleets: pure state and pure policies, shared by the simulator and the service.
//!
//! No I/O and no clock; what is random comes from a seed that is passed in.

pub mod shares;
