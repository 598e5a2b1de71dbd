//! The one reader of clocks.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::model::RunId;

/// Returns nanoseconds of `CLOCK_BOOTTIME`: orders hook calls within one boot, also across suspend.
#[must_use]
pub fn boottime() -> RunId {
    RunId(u64::try_from(read(ClockId::CLOCK_BOOTTIME).as_nanos()).unwrap_or(u64::MAX))
}

/// Returns seconds since the epoch.
#[must_use]
pub fn epoch_seconds() -> i64 {
    i64::try_from(read(ClockId::CLOCK_REALTIME).as_secs()).unwrap_or(i64::MAX)
}

fn read(clock: ClockId) -> Duration {
    clock_gettime(clock).map(Duration::from).unwrap_or_default()
}
