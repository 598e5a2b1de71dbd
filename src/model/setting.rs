//! How an admin wants a GPU to be set, beside the number of its VFs.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{SchedulerPolicy, SchedulerState, SizeMode};

/// What is wished of a GPU of NVIDIA's; what is `None` is left as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GpuSetting {
    /// Whether vGPUs of several framebuffer sizes may share it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<SizeMode>,
    /// How time-sliced vGPUs share its engines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<SchedulerPolicy>,
    /// The time slice in milliseconds; `None` is the driver's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_slice_ms: Option<u32>,
}

/// What NVML counts time slices in.
const NS_PER_MS: u32 = 1_000_000;

impl GpuSetting {
    /// Returns it with what `newer` wishes in its place. Another policy does not keep the time slice of the one before.
    #[must_use]
    pub fn with(&self, newer: &Self) -> Self {
        let scheduler = newer.scheduler.or(self.scheduler);
        let kept = self.time_slice_ms.filter(|_| scheduler == self.scheduler);
        Self { mode: newer.mode.or(self.mode), scheduler, time_slice_ms: newer.time_slice_ms.or(kept) }
    }

    /// Returns whether nothing is wished.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the time slice as NVML takes it: nanoseconds, 0 for the driver's default.
    #[must_use]
    pub fn time_slice_ns(&self) -> u32 {
        self.time_slice_ms.unwrap_or(0).saturating_mul(NS_PER_MS)
    }

    /// Returns whether a GPU's scheduler is as wished. Without a wish for a time slice any will do.
    #[must_use]
    pub fn is_scheduled_by(&self, found: &SchedulerState) -> bool {
        let slice = self.time_slice_ms.is_none() || found.time_slice_ns == self.time_slice_ns();
        self.scheduler.is_none_or(|policy| found.policy == Some(policy)) && slice
    }

    /// Says the scheduler, with its time slice.
    #[must_use]
    pub fn scheduler_text(&self) -> String {
        let policy = self.scheduler.map_or("the scheduler as it is", SchedulerPolicy::name);
        match self.time_slice_ms {
            None => format!("scheduler {policy}"),
            Some(slice) => format!("scheduler {policy} with {slice} ms"),
        }
    }
}

impl fmt::Display for GpuSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = self.mode.map(|mode| format!("{mode}-size mode"));
        let scheduler = self.scheduler.is_some().then(|| self.scheduler_text());
        let parts: Vec<String> = [mode, scheduler].into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_wish_keeps_what_it_does_not_name() {
        let first = GpuSetting {
            mode: Some(SizeMode::Mixed),
            scheduler: Some(SchedulerPolicy::EqualShare),
            time_slice_ms: Some(3),
        };
        assert_eq!(first.to_string(), "mixed-size mode, scheduler equal-share with 3 ms");
        let equal = GpuSetting { mode: Some(SizeMode::Equal), ..GpuSetting::default() };
        assert_eq!(first.with(&equal), GpuSetting { mode: Some(SizeMode::Equal), ..first });
        let best = GpuSetting { scheduler: Some(SchedulerPolicy::BestEffort), ..GpuSetting::default() };
        let both = first.with(&best);
        assert_eq!((both.scheduler, both.time_slice_ns()), (Some(SchedulerPolicy::BestEffort), 0));
    }
}
