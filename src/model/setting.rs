//! How an admin wants a GPU to be set, beside the number of its VFs.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{MigWish, SchedulerPolicy, SchedulerState, SizeMode, instances_text};

/// What is wished of a GPU of NVIDIA's; what is `None` is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GpuSetting {
    /// How it is divided by MIG.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mig: Option<MigWish>,
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
    /// Returns it with what `newer` wishes in its place. Another policy does not keep the time slice of the one before, and
    /// a GPU that is divided by MIG from now on keeps neither size mode nor scheduler: it has none.
    #[must_use]
    pub fn with(&self, newer: &Self) -> Self {
        if newer.is_divided() {
            return newer.clone();
        }
        let scheduler = newer.scheduler.or(self.scheduler);
        let kept = self.time_slice_ms.filter(|_| scheduler == self.scheduler);
        Self {
            mig: newer.mig.clone().or_else(|| self.mig.clone()),
            mode: newer.mode.or(self.mode),
            scheduler,
            time_slice_ms: newer.time_slice_ms.or(kept),
        }
    }

    /// Returns whether the GPU is to be in MIG mode.
    #[must_use]
    pub fn is_divided(&self) -> bool {
        self.mig.as_ref().is_some_and(MigWish::is_on)
    }

    /// Returns whether nothing is wished.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether MIG mode that is off is all that is wished.
    #[must_use]
    pub fn is_only_mig_off(&self) -> bool {
        *self == Self { mig: Some(MigWish::Off), ..Self::default() }
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
        let mig = self.mig.as_ref().map(|mig| match mig {
            MigWish::Off => "MIG mode off".to_owned(),
            MigWish::Divided(_) => format!("MIG mode, {}", mig_text(mig)),
        });
        let mode = self.mode.map(|mode| format!("{mode}-size mode"));
        let scheduler = self.scheduler.is_some().then(|| self.scheduler_text());
        let parts: Vec<String> = [mig, mode, scheduler].into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}

/// Says the GPU instances of a wish.
#[must_use]
pub fn mig_text(wish: &MigWish) -> String {
    let names: Vec<String> = wish.profiles().iter().map(ToString::to_string).collect();
    format!("GPU instances {}", instances_text(&names))
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
            mig: None,
        };
        assert_eq!(first.to_string(), "mixed-size mode, scheduler equal-share with 3 ms");
        let equal = GpuSetting { mode: Some(SizeMode::Equal), ..GpuSetting::default() };
        assert_eq!(first.with(&equal), GpuSetting { mode: Some(SizeMode::Equal), ..first.clone() });
        let best = GpuSetting { scheduler: Some(SchedulerPolicy::BestEffort), ..GpuSetting::default() };
        let both = first.with(&best);
        assert_eq!((both.scheduler, both.time_slice_ns()), (Some(SchedulerPolicy::BestEffort), 0));
        let divided = GpuSetting { mig: "1g.10gb,1g.10gb".parse().ok(), ..GpuSetting::default() };
        assert_eq!(first.with(&divided), divided, "time-sliced no more");
        assert_eq!(divided.to_string(), "MIG mode, GPU instances 2 × 1g.10gb");
        assert_eq!(divided.with(&equal).mig, divided.mig, "what contradicts is for others to refuse");
    }
}
