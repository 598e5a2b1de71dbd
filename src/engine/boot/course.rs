//! What is remembered between two looks: what is under way, what failed and when it is tried again, how
//! long each step took. Decides what of a plan is begun now. Times come in as arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::plan::{Planned, REMOVED, Verdict, Work};
use crate::model::{AllocationId, BootId, BootReport, BootStep, GpuId, Progress, Restored};

/// How soon a step that failed is tried again, and how late at most.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// Why a step failed, and when it may be tried again.
#[derive(Clone, Debug)]
struct Failure {
    why: String,
    pause: Duration,
    not_before: Instant,
}

/// How bringing things back goes in this boot.
#[derive(Debug)]
pub(super) struct Course {
    report: BootReport,
    began: Instant,
    /// Since when each step that is not done is wanted.
    since: BTreeMap<Restored, Instant>,
    working: BTreeSet<Work>,
    failures: BTreeMap<Work, Failure>,
    renewed: BTreeSet<GpuId>,
    /// Steps that were not done in time.
    overdue: BTreeSet<Restored>,
}

/// How things stand after a look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// What is being done. One sentence each.
    pub under_way: Vec<String>,
    /// What guaranteed slices and domains that start with libvirt lack. One sentence each.
    pub missing: Vec<String>,
    /// Whether any step waits for a fact that could come without a word of the kernel.
    pub waits: bool,
    /// When a step that failed is due again.
    pub retry_in: Option<Duration>,
}

impl Course {
    /// Begins, or goes on with what an earlier service of the same boot had reported.
    pub(super) fn new(stored: Option<BootReport>, boot_id: &BootId, epoch: i64, now: Instant) -> Self {
        let report = stored.filter(|report| report.boot_id == *boot_id).unwrap_or_else(|| BootReport {
            boot_id: boot_id.clone(),
            began_at: epoch,
            ready_ms: None,
            gave_up: Vec::new(),
            steps: Vec::new(),
        });
        Self {
            report,
            began: now,
            since: BTreeMap::new(),
            working: BTreeSet::new(),
            failures: BTreeMap::new(),
            renewed: BTreeSet::new(),
            overdue: BTreeSet::new(),
        }
    }

    /// Returns whether nothing was ever to be brought back in this boot.
    pub(super) const fn is_empty(&self) -> bool {
        self.report.steps.is_empty()
    }

    /// Returns the slices that were there at an earlier look of this boot.
    pub(super) fn seen(&self) -> BTreeSet<AllocationId> {
        let there = |step: &&BootStep| match &step.progress {
            Progress::Done => true,
            Progress::Left { why } => why == REMOVED,
            Progress::Working | Progress::Waiting { .. } | Progress::Failed { .. } => false,
        };
        let steps = self.report.steps.iter().filter(there);
        let slices = steps.filter_map(|step| match &step.what {
            Restored::Slice { allocation, .. } => Some(allocation.clone()),
            Restored::Mig { .. }
            | Restored::Instances { .. }
            | Restored::Vfs { .. }
            | Restored::Binding { .. }
            | Restored::Mode { .. }
            | Restored::Scheduler { .. }
            | Restored::Quantum { .. }
            | Restored::Start { .. } => None,
        });
        slices.collect()
    }

    /// Returns the steps that were not done in time: what comes after them waits no longer.
    pub(super) fn overdue(&self) -> BTreeSet<Restored> {
        self.overdue.clone()
    }

    /// Returns the GPUs whose counts and slices are due again in this boot.
    pub(super) fn renewed(&self) -> BTreeSet<GpuId> {
        self.renewed.clone()
    }

    /// The driver of a GPU was loaded anew: what was on it went with the old one, and nobody wished that. What
    /// failed may work now.
    pub(super) fn renew(&mut self, gpu: GpuId) {
        self.failures.retain(|work, _| match work {
            Work::Mig(failed) | Work::Vfs(failed) | Work::Setting(failed) => *failed != gpu,
            Work::Slice(_) => false,
        });
        self.renewed.insert(gpu);
    }

    /// The host slept: what was there before is due, and what failed may work now.
    pub(super) fn renew_all(&mut self) {
        self.failures.clear();
        let done = self.report.steps.iter().filter(|step| step.progress == Progress::Done);
        let gpus: Vec<GpuId> = done.filter_map(|step| step.what.gpu().cloned()).collect();
        self.renewed.extend(gpus);
    }

    /// Takes a new plan in: updates the report, and returns what is to be begun now.
    pub(super) fn take(&mut self, plan: Vec<Planned>, now: Instant) -> Vec<Work> {
        let mut begin = Vec::new();
        for step in &plan {
            if let Verdict::Do(work) = &step.verdict
                && self.is_due(work, now)
                && self.working.insert(work.clone())
            {
                begin.push(work.clone());
            }
        }
        self.renew_waiting(&plan);
        self.forget_met(&plan);
        let steps = plan.into_iter().map(|step| self.reported(step, now)).collect();
        self.report.steps = steps;
        begin
    }

    fn is_due(&self, work: &Work, now: Instant) -> bool {
        self.failures.get(work).is_none_or(|failure| failure.not_before <= now)
    }

    /// What was on a GPU that went, or lost its driver, is due when that is back: no hand took it away. The
    /// event of the driver may come later than a look, or be lost.
    fn renew_waiting(&mut self, plan: &[Planned]) {
        for step in plan {
            if let (
                Restored::Vfs { gpu }
                | Restored::Instances { gpu }
                | Restored::Mode { gpu }
                | Restored::Scheduler { gpu }
                | Restored::Slice { gpu, .. },
                Verdict::Waits(_),
            ) = (&step.what, &step.verdict)
            {
                self.renewed.insert(gpu.clone());
            }
        }
    }

    /// Where all is back, nothing is due any more because of what happened before.
    fn forget_met(&mut self, plan: &[Planned]) {
        let is_open = |step: &Planned| matches!(step.verdict, Verdict::Do(_) | Verdict::Waits(_));
        let open = |gpu: &GpuId| plan.iter().any(|step| step.what.gpu() == Some(gpu) && is_open(step));
        self.renewed.retain(open);
        let wanted = |work: &Work| plan.iter().any(|step| step.verdict == Verdict::Do(work.clone()));
        self.failures.retain(|work, _| wanted(work));
    }

    /// Says that a fact did not come in time. The step goes on when it comes.
    fn in_time(&mut self, step: &Planned, progress: Progress, now: Instant) -> Progress {
        let waited = self.since.get(&step.what).map_or(Duration::ZERO, |since| now - *since);
        let is_over = step.within.is_some_and(|within| waited > within);
        match progress {
            Progress::Waiting { waits_for } if is_over => {
                self.overdue.insert(step.what.clone());
                let within = step.within.unwrap_or_default().as_secs();
                Progress::Failed { why: format!("waited {within} s in vain for {waits_for}") }
            }
            Progress::Failed { why } if is_over => {
                self.overdue.insert(step.what.clone());
                Progress::Failed { why }
            }
            progress => {
                self.overdue.remove(&step.what);
                progress
            }
        }
    }

    fn reported(&mut self, step: Planned, now: Instant) -> BootStep {
        let progress = self.progress(step.verdict.clone());
        let progress = self.in_time(&step, progress, now);
        let before = self.report.steps.iter().find(|one| one.what == step.what);
        let settled = |progress: &Progress| matches!(progress, Progress::Done | Progress::Left { .. });
        let was_settled = before.is_some_and(|one| settled(&one.progress));
        let took_ms = match (before, settled(&progress)) {
            (Some(before), true) if was_settled => before.took_ms,
            (_, true) => millis(self.since.remove(&step.what).map_or(Duration::ZERO, |since| now - since)),
            (_, false) => {
                // Wanted since the service began, unless it was there and went.
                let first = if before.is_some() { now } else { self.began };
                let since = *self.since.entry(step.what.clone()).or_insert(first);
                millis(now.saturating_duration_since(since))
            }
        };
        if before.is_none_or(|one| one.progress != progress) {
            tell(&step.place, &step.wanted, &progress);
        }
        let Planned { what, place, wanted, found, .. } = step;
        BootStep { what, place, wanted, found, progress, took_ms }
    }

    fn progress(&self, verdict: Verdict) -> Progress {
        match verdict {
            Verdict::Done => Progress::Done,
            Verdict::Waits(waits_for) => Progress::Waiting { waits_for },
            Verdict::Left(why) => Progress::Left { why },
            Verdict::Do(work) if self.working.contains(&work) => Progress::Working,
            Verdict::Do(work) => match self.failures.get(&work) {
                Some(failure) => Progress::Failed { why: failure.why.clone() },
                None => Progress::Working,
            },
        }
    }

    /// Something that was begun has ended. Returns whether that is news: a failure repeated is none.
    pub(super) fn ended(&mut self, work: &Work, outcome: Result<(), String>, now: Instant) -> bool {
        self.working.remove(work);
        let Err(why) = outcome else {
            self.failures.remove(work);
            return true;
        };
        let before = self.failures.get(work);
        let pause = before.map_or(FIRST_RETRY, |failure| (failure.pause * 2).min(LAST_RETRY));
        let is_news = before.is_none_or(|failure| failure.why != why);
        self.failures.insert(work.clone(), Failure { why, pause, not_before: now + pause });
        is_news
    }

    /// Returns whether anything that was begun has not ended.
    pub(super) fn is_working(&self) -> bool {
        !self.working.is_empty()
    }

    /// Returns how things stand.
    pub(super) fn outlook(&self, now: Instant) -> Outlook {
        let steps = self.report.steps.iter();
        let is_under_way = |step: &&BootStep| step.progress == Progress::Working;
        let waits = |step: &&BootStep| matches!(step.progress, Progress::Waiting { .. });
        let is_needed =
            |step: &&BootStep| matches!(step.what, Restored::Slice { .. } | Restored::Start { .. });
        let due = self.failures.values().map(|failure| failure.not_before.saturating_duration_since(now));
        Outlook {
            under_way: steps.clone().filter(is_under_way).map(sentence).collect(),
            missing: steps.clone().filter(waits).filter(is_needed).map(sentence).collect(),
            waits: !self.overdue.is_empty() || steps.clone().any(|step| waits(&step)),
            retry_in: due.min(),
        }
    }

    /// Returns the report, with the time that unfinished steps take by now.
    pub(super) fn report(&self, now: Instant) -> BootReport {
        let mut report = self.report.clone();
        for step in &mut report.steps {
            if let Some(since) = self.since.get(&step.what) {
                step.took_ms = millis(now.saturating_duration_since(*since));
            }
        }
        report
    }

    /// The service is ready for the first time in this boot, with `gave_up` still missing. Returns whether it was.
    pub(super) fn ready(&mut self, gave_up: Vec<String>, now: Instant) -> bool {
        if self.report.ready_ms.is_some() {
            return false;
        }
        self.report.ready_ms = Some(millis(now - self.began));
        self.report.gave_up = gave_up;
        true
    }

    /// Returns whether the service has been ready in this boot, now or before it was started again.
    pub(super) const fn was_ready(&self) -> bool {
        self.report.ready_ms.is_some()
    }
}

/// Says a step that is not done in one sentence.
pub(super) fn sentence(step: &BootStep) -> String {
    format!("{} on {}: {}", step.wanted, step.place, step.progress)
}

fn tell(place: &str, wanted: &str, progress: &Progress) {
    match progress {
        Progress::Done => tracing::info!(place, wanted, "restored"),
        Progress::Working => tracing::info!(place, wanted, "restoring"),
        Progress::Waiting { waits_for } => tracing::info!(place, wanted, waits_for, "not restored yet"),
        Progress::Failed { why } => tracing::warn!(place, wanted, why, "not restored, trying again"),
        Progress::Left { why } => tracing::warn!(place, wanted, why, "not restored"),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu() -> GpuId {
        "pci:a".parse().expect("id")
    }

    fn step(verdict: Verdict) -> Vec<Planned> {
        vec![Planned {
            what: Restored::Vfs { gpu: gpu() },
            place: "0000:01:00.0".to_owned(),
            wanted: "3 VFs".to_owned(),
            found: "0 VFs".to_owned(),
            verdict,
            within: Some(Duration::from_secs(120)),
        }]
    }

    fn course(now: Instant) -> Course {
        Course::new(None, &"boot".parse().expect("boot id"), 0, now)
    }

    fn work() -> Work {
        Work::Vfs(gpu())
    }

    #[test]
    fn work_is_begun_once_and_again_only_after_its_pause() {
        let now = Instant::now();
        let mut course = course(now);
        assert_eq!(course.take(step(Verdict::Do(work())), now), [work()]);
        assert_eq!(course.take(step(Verdict::Do(work())), now), [], "it is under way");
        assert_eq!(course.outlook(now).under_way.len(), 1);
        assert!(course.ended(&work(), Err("EIO".to_owned()), now));
        assert_eq!(course.take(step(Verdict::Do(work())), now), [], "it has just failed");
        assert_eq!(course.report(now).steps[0].progress, Progress::Failed { why: "EIO".to_owned() });
        let outlook = course.outlook(now);
        assert_eq!((outlook.under_way.len(), outlook.retry_in), (0, Some(FIRST_RETRY)));
        let later = now + FIRST_RETRY;
        assert_eq!(course.take(step(Verdict::Do(work())), later), [work()]);
        assert!(!course.ended(&work(), Err("EIO".to_owned()), later), "no news");
        assert_eq!(course.outlook(later).retry_in, Some(FIRST_RETRY * 2));
    }

    #[test]
    fn a_step_says_how_long_it_took_and_keeps_that() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut course = course(now);
        course.take(step(Verdict::Waits("a driver".to_owned())), at(1));
        assert_eq!(course.report(at(5)).steps[0].took_ms, 5000);
        course.take(step(Verdict::Done), at(7));
        course.take(step(Verdict::Done), at(9));
        assert_eq!(course.report(at(11)).steps[0].took_ms, 7000);
        course.take(step(Verdict::Waits("a driver".to_owned())), at(20));
        course.take(step(Verdict::Done), at(23));
        assert_eq!(course.report(at(30)).steps[0].took_ms, 3000, "it went, and came back");
    }

    #[test]
    fn a_pf_that_was_gone_is_due_without_the_event_of_its_driver() {
        let now = Instant::now();
        let mut course = course(now);
        course.take(step(Verdict::Done), now);
        assert!(course.renewed().is_empty());
        course.take(step(Verdict::Waits("a driver".to_owned())), now);
        assert!(course.renewed().contains(&gpu()));
        course.take(step(Verdict::Do(work())), now);
        assert!(course.renewed().contains(&gpu()), "not met yet");
        course.take(step(Verdict::Done), now);
        assert!(course.renewed().is_empty(), "it is met again");
    }

    #[test]
    fn a_fact_that_does_not_come_in_time_is_a_failure_that_mends_itself() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut course = course(now);
        course.take(step(Verdict::Waits("a driver".to_owned())), at(1));
        course.take(step(Verdict::Waits("a driver".to_owned())), at(121));
        let why = "waited 120 s in vain for a driver".to_owned();
        assert_eq!(course.report(at(121)).steps[0].progress, Progress::Failed { why });
        assert!(course.outlook(at(121)).waits, "it is still looked for");
        assert!(course.overdue().contains(&Restored::Vfs { gpu: gpu() }));
        assert_eq!(course.take(step(Verdict::Do(work())), at(130)), [work()], "it goes on when it comes");
        assert!(course.overdue().is_empty());
    }

    #[test]
    fn a_missing_fact_holds_libvirt_only_for_what_needs_it() {
        let now = Instant::now();
        let mut course = course(now);
        course.take(step(Verdict::Waits("a driver".to_owned())), now);
        let outlook = course.outlook(now);
        assert!(outlook.missing.is_empty() && outlook.waits, "{outlook:?}");
        let mut plan = step(Verdict::Waits("a driver".to_owned()));
        plan[0].what = Restored::Slice { allocation: AllocationId::from_bits(1), gpu: gpu() };
        course.take(plan, now);
        assert_eq!(course.outlook(now).missing.len(), 1);
    }

    #[test]
    fn ready_is_of_the_first_service_of_a_boot() {
        let now = Instant::now();
        let mut course = course(now);
        assert!(course.ready(vec!["a".to_owned()], now + Duration::from_secs(2)));
        assert!(!course.ready(Vec::new(), now + Duration::from_secs(3)));
        let again = Course::new(Some(course.report(now)), &"boot".parse().expect("boot id"), 9, now);
        assert!(again.was_ready());
        assert_eq!(again.report(now).ready_ms, Some(2000));
        let other = Course::new(Some(course.report(now)), &"next".parse().expect("boot id"), 9, now);
        assert!(!other.was_ready());
    }
}
