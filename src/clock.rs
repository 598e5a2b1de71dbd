//! The one reader of clocks.

use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{self, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
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

/// Tells when the host has slept, without asking now and then.
///
/// The kernel ends a wait for an absolute time of the wall clock when that clock is set, and sets it itself
/// after each sleep. Which of the two it was, `CLOCK_BOOTTIME` tells: unlike `CLOCK_MONOTONIC` it goes on during
/// a sleep.
#[derive(Debug)]
pub struct SleepWatch {
    timer: TimerFd,
    slept: Duration,
}

impl SleepWatch {
    /// Starts watching.
    ///
    /// # Errors
    /// When the kernel has no timer for us.
    pub fn start() -> std::io::Result<Self> {
        let timer = TimerFd::new(timerfd::ClockId::CLOCK_REALTIME, TimerFlags::TFD_CLOEXEC)?;
        Ok(Self { timer, slept: slept() })
    }

    /// Waits until the host has slept.
    ///
    /// # Errors
    /// What timerfd_settime(2) and read(2) say.
    pub fn wait(&mut self) -> std::io::Result<()> {
        // Longer than any uptime; the timer is only there to be cancelled.
        const FAR: i64 = 1 << 40;
        /// Less than any sleep, more than the two readings are apart.
        const LEAST: Duration = Duration::from_millis(100);
        loop {
            let far = Expiration::OneShot(TimeSpec::new(FAR, 0));
            let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
            // Says ECANCELED when the clock was set since it was last armed; it is armed all the same.
            match self.timer.set(far, flags) {
                Err(nix::errno::Errno::ECANCELED) | Ok(()) => {}
                Err(error) => return Err(error.into()),
            }
            let before = std::mem::replace(&mut self.slept, slept());
            if self.slept.saturating_sub(before) > LEAST {
                return Ok(());
            }
            self.timer.wait()?;
        }
    }
}

/// How long the host has slept since it booted.
fn slept() -> Duration {
    read(ClockId::CLOCK_BOOTTIME).saturating_sub(read(ClockId::CLOCK_MONOTONIC))
}

fn read(clock: ClockId) -> Duration {
    clock_gettime(clock).map(Duration::from).unwrap_or_default()
}
