//! What the service counts, in the text form of OpenMetrics. One place declares every metric with its help;
//! `docs/metrics.md` lists them all, and a test holds the two together.
//!
//! Requests are counted as they end ([`Metrics::request`]). Everything else is what [`Seen`] says at the moment
//! of the scrape, so that nothing here can differ from what the other answers show. Labels are few and never UUIDs.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper ends of the buckets of durations, in seconds: a hook has eight and a half.
const SECONDS: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 2.5, 8.5];

/// Names of labels and their values.
type Labels = Vec<(&'static str, String)>;
type Values = Family<Labels, Gauge>;
type Durations = Family<Labels, Histogram, fn() -> Histogram>;

/// A value with its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Names and values of the labels, in the order of the documentation.
    pub labels: Labels,
    /// The value.
    pub value: u64,
}

impl Sample {
    /// Creates a sample.
    #[must_use]
    pub const fn new(labels: Labels, value: u64) -> Self {
        Self { labels, value }
    }
}

/// What the service shows at the moment of a scrape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Devices by `backend`.
    pub gpus: Vec<Sample>,
    /// Allocations by `profile` and `state`.
    pub slices: Vec<Sample>,
    /// Slices that could be started now, by `profile`.
    pub capacity_left: Vec<Sample>,
    /// Framebuffer that no slice has, by `gpu`, in MiB.
    pub free_mib: Vec<Sample>,
    /// Of that, what no type could have, by `gpu`, in MiB.
    pub stranded_mib: Vec<Sample>,
    /// Of that, what is of no use to the host's own mix of requests, by `gpu`, in MiB.
    pub fragmented_mib: Vec<Sample>,
    /// The largest slice that can still be made, with the `gpu` that can, in MiB.
    pub largest_mib: Vec<Sample>,
    /// Kernel changes that were announced and have not ended.
    pub open_intents: u64,
    /// Steps of the boot report by `state`.
    pub restores: Vec<Sample>,
    /// What NVIDIA's library said; `None` without it.
    pub nvml: Option<NvmlSeen>,
}

/// What NVIDIA's library said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NvmlSeen {
    /// Framebuffer by `gpu`, in MiB.
    pub framebuffer_mib: Vec<Sample>,
    /// What of it is in use, by `gpu`, in MiB.
    pub used_mib: Vec<Sample>,
    /// vGPUs that run, by `gpu` and `type`.
    pub running: Vec<Sample>,
    /// Framebuffer that guests use, by `gpu` and `domain`, in MiB.
    pub guest_used_mib: Vec<Sample>,
    /// How busy guests keep an engine, by `gpu`, `domain` and `engine`, in percent.
    pub guest_busy_percent: Vec<Sample>,
}

/// All metrics of the service.
pub struct Metrics {
    /// Held for the whole of a scrape, so that two never mix their values.
    registry: Mutex<Registry>,
    requests: Family<Labels, Counter>,
    seconds: Durations,
    gpus: Values,
    slices: Values,
    capacity_left: Values,
    free_mib: Values,
    stranded_mib: Values,
    fragmented_mib: Values,
    largest_mib: Values,
    open_intents: Gauge<u64, AtomicU64>,
    restores: Values,
    nvml_up: Gauge,
    framebuffer_mib: Values,
    used_mib: Values,
    running: Values,
    guest_used_mib: Values,
    guest_busy_percent: Values,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Mutex::default(),
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            gpus: Family::default(),
            slices: Family::default(),
            capacity_left: Family::default(),
            free_mib: Family::default(),
            stranded_mib: Family::default(),
            fragmented_mib: Family::default(),
            largest_mib: Family::default(),
            open_intents: Gauge::default(),
            restores: Family::default(),
            nvml_up: Gauge::default(),
            framebuffer_mib: Family::default(),
            used_mib: Family::default(),
            running: Family::default(),
            guest_used_mib: Family::default(),
            guest_busy_percent: Family::default(),
        };
        metrics.declare();
        metrics
    }
}

impl Metrics {
    /// Declares every metric: its name and help.
    fn declare(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let r = &mut *registry;
        r.register(
            "vgpud_hook_requests",
            "Requests of libvirt's hook, by operation and outcome",
            self.requests.clone(),
        );
        r.register(
            "vgpud_hook_seconds",
            "How long requests of libvirt's hook took, by operation",
            self.seconds.clone(),
        );
        r.register("vgpud_gpus", "Devices that slices can be made on, by backend", self.gpus.clone());
        r.register("vgpud_slices", "Promised slices, by profile and state", self.slices.clone());
        let help = "Slices of a profile that could be made now, each profile alone";
        r.register("vgpud_capacity_left", help, self.capacity_left.clone());
        r.register("vgpud_free_mib", "Framebuffer of a GPU that no slice has", self.free_mib.clone());
        let help = "Free framebuffer of a GPU that no type could have";
        r.register("vgpud_stranded_mib", help, self.stranded_mib.clone());
        let help = "Free framebuffer of a GPU that the host's own mix of requests cannot use, in the mean";
        r.register("vgpud_fragmented_mib", help, self.fragmented_mib.clone());
        let help = "Framebuffer of the largest slice that can still be made";
        r.register("vgpud_largest_slice_mib", help, self.largest_mib.clone());
        let help = "Kernel changes that were announced and have not ended";
        r.register("vgpud_open_intents", help, self.open_intents.clone());
        let help = "Steps of bringing things back since the boot, by state";
        r.register("vgpud_restores", help, self.restores.clone());
        let help = "Whether NVIDIA's library answered at this scrape";
        r.register("vgpud_nvml_up", help, self.nvml_up.clone());
        r.register("vgpud_gpu_framebuffer_mib", "Framebuffer of a GPU", self.framebuffer_mib.clone());
        r.register(
            "vgpud_gpu_framebuffer_used_mib",
            "Framebuffer of a GPU that is in use",
            self.used_mib.clone(),
        );
        r.register("vgpud_gpu_running_vgpus", "vGPUs that run, by GPU and type", self.running.clone());
        let help = "Framebuffer that a domain's guest uses on a GPU";
        r.register("vgpud_guest_framebuffer_used_mib", help, self.guest_used_mib.clone());
        let help = "How busy a domain keeps an engine of a GPU in percent of the last sampling period";
        r.register("vgpud_guest_busy_percent", help, self.guest_busy_percent.clone());
    }

    /// Counts a request of the hook that ended: `outcome` is `done` or the kind of the refusal.
    pub fn request(&self, operation: &'static str, outcome: &str, took: Duration) {
        let operation = ("operation", operation.to_owned());
        self.requests.get_or_create(&vec![operation.clone(), ("outcome", outcome.to_owned())]).inc();
        self.seconds.get_or_create(&vec![operation]).observe(took.as_secs_f64());
    }

    /// Returns the text of a scrape.
    ///
    /// # Errors
    /// When the text cannot be written, which nothing of ours causes.
    pub fn scrape(&self, seen: &Seen) -> Result<String, fmt::Error> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        self.open_intents.set(seen.open_intents);
        self.nvml_up.set(i64::from(seen.nvml.is_some()));
        let nothing = NvmlSeen::default();
        let nvml = seen.nvml.as_ref().unwrap_or(&nothing);
        for (values, samples) in [
            (&self.gpus, &seen.gpus),
            (&self.slices, &seen.slices),
            (&self.capacity_left, &seen.capacity_left),
            (&self.free_mib, &seen.free_mib),
            (&self.stranded_mib, &seen.stranded_mib),
            (&self.fragmented_mib, &seen.fragmented_mib),
            (&self.largest_mib, &seen.largest_mib),
            (&self.restores, &seen.restores),
            (&self.framebuffer_mib, &nvml.framebuffer_mib),
            (&self.used_mib, &nvml.used_mib),
            (&self.running, &nvml.running),
            (&self.guest_used_mib, &nvml.guest_used_mib),
            (&self.guest_busy_percent, &nvml.guest_busy_percent),
        ] {
            // What is no longer there must not stay.
            values.clear();
            for sample in samples {
                // Samples with the same labels add up.
                let value = i64::try_from(sample.value).unwrap_or(i64::MAX);
                values.get_or_create(&sample.labels).inc_by(value);
            }
        }
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const DOCS: &str = include_str!("../docs/metrics.md");

    fn sample(labels: &[&'static str]) -> Vec<Sample> {
        vec![Sample::new(labels.iter().map(|name| (*name, "x".to_owned())).collect(), 1)]
    }

    fn everything() -> Seen {
        Seen {
            gpus: sample(&["backend"]),
            slices: sample(&["profile", "state"]),
            capacity_left: sample(&["profile"]),
            free_mib: sample(&["gpu"]),
            stranded_mib: sample(&["gpu"]),
            fragmented_mib: sample(&["gpu"]),
            largest_mib: sample(&["gpu"]),
            open_intents: 2,
            restores: sample(&["state"]),
            nvml: Some(NvmlSeen {
                framebuffer_mib: sample(&["gpu"]),
                used_mib: sample(&["gpu"]),
                running: sample(&["gpu", "type"]),
                guest_used_mib: sample(&["gpu", "domain"]),
                guest_busy_percent: sample(&["gpu", "domain", "engine"]),
            }),
        }
    }

    /// Names that are declared, and those that have a value.
    fn names(text: &str) -> (BTreeSet<&str>, BTreeSet<&str>) {
        let declared = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        let values = text.lines().filter(|line| !line.starts_with('#'));
        let name = |line: &str| line.find(['{', ' ']).unwrap_or(line.len());
        let plain = |line| -> &str {
            let whole: &str = line;
            let mut base = &whole[..name(whole)];
            for end in ["_total", "_bucket", "_sum", "_count"] {
                base = base.strip_suffix(end).unwrap_or(base);
            }
            base
        };
        (declared.collect(), values.map(plain).collect())
    }

    #[test]
    fn every_metric_is_set_and_documented() {
        let metrics = Metrics::default();
        metrics.request("prepare", "done", Duration::from_millis(12));
        let text = metrics.scrape(&everything()).expect("is written");
        let (declared, set) = names(&text);
        assert_eq!(declared, set, "a metric that nothing sets");
        let listed = DOCS.lines().filter_map(|line| line.strip_prefix("| `vgpud_")?.split('`').next());
        let listed: BTreeSet<String> =
            listed.map(|rest| format!("vgpud_{}", rest.trim_end_matches("_total"))).collect();
        assert_eq!(listed, declared.iter().map(|name| (*name).to_owned()).collect(), "docs/metrics.md");
    }

    #[test]
    fn what_is_gone_is_not_told_any_more_and_counters_stay() {
        let metrics = Metrics::default();
        metrics.request("prepare", "no_capacity", Duration::from_millis(12));
        metrics.scrape(&everything()).expect("is written");
        let text = metrics.scrape(&Seen::default()).expect("is written");
        assert!(!text.contains("vgpud_slices{"), "{text}");
        assert!(text.contains("vgpud_nvml_up 0\n"));
        assert!(
            text.contains("vgpud_hook_requests_total{operation=\"prepare\",outcome=\"no_capacity\"} 1\n"),
            "{text}"
        );
        assert!(text.contains("vgpud_hook_seconds_bucket{le=\"0.025\",operation=\"prepare\"} 1\n"), "{text}");
    }

    #[test]
    fn samples_of_the_same_labels_add_up() {
        let twice = [sample(&["backend"]), sample(&["backend"])].concat();
        let text = Metrics::default().scrape(&Seen { gpus: twice, ..Seen::default() }).expect("is written");
        assert!(text.contains("vgpud_gpus{backend=\"x\"} 2\n"), "{text}");
    }
}
