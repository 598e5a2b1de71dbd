//! A profile's weight becomes the turns of a VF before its guest starts; given back, the VF has the turns it had.
//!
//! A VF carries no mark of who set its turns. So the intent with the turns it had before is stored first, and its
//! record keeps them from then on: whoever finds the record without a run puts them back.

use std::collections::BTreeSet;
use std::time::Instant;

use super::Engine;
use super::admit::Wanted;
use super::round::{CREATE, Made};
use super::work::End;
use crate::ledger::{Book, Change, Intent, Need};
use crate::model::{
    BackendKind, Device, Gpu, GpuId, HostSnapshot, Kind, PciAddress, Profile, Quantum, Realized, Refusal,
    SchedulerPolicy, Step, Weight, Wish,
};

/// The turns that a VF gets, where it has others now.
fn wanted_turns(weight: Option<Weight>, before: Option<Quantum>, now: Quantum) -> Option<Quantum> {
    weight.map(Quantum::of).or(before).filter(|wanted| *wanted != now)
}

/// Returns the turns of a VF; `None` where its driver says none, or there is no such VF.
fn turns_on(snapshot: &HostSnapshot, vf: PciAddress) -> Option<Quantum> {
    snapshot.vf(vf)?.1.quantum
}

impl Engine {
    /// Gives the VFs of a start the turns that their profiles' weights make. What the driver cannot weigh is left.
    ///
    /// # Errors
    /// When the driver says no, or does not end in time. What was begun is in the records of `made`.
    pub(super) fn weigh(
        &self,
        wanted: &[Wanted],
        made: &mut [Made],
        snapshot: &HostSnapshot,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let mut turns = Vec::new();
        for one in made.iter_mut() {
            let Some(want) = wanted.iter().find(|want| want.allocation.id == one.record.allocation) else {
                continue;
            };
            let Some(vf) = one.record.device.vf() else { continue };
            let Some(now) = turns_on(snapshot, vf) else {
                if want.profile.weight.is_some() {
                    tracing::info!(%vf, profile = %want.profile.name, "no turns of a single VF here, its weight means nothing");
                }
                continue;
            };
            let record = &mut one.record;
            let Some(quantum) = wanted_turns(want.profile.weight, record.quantum_before, now) else {
                continue;
            };
            record.quantum_before = Some(record.quantum_before.unwrap_or(now));
            let step = Step::SetQuantum { vf, quantum, before: now };
            let id = Some(record.allocation.clone());
            let intent = self.intent(step, id, record.gpu.clone(), record.run);
            turns.push((intent, want, record));
        }
        let open = turns.iter().map(|(intent, ..)| Change::OpenIntent(intent.clone())).collect::<Vec<_>>();
        if open.is_empty() {
            return Ok(());
        }
        self.commit(open, Need::Promise)?;
        let mut failed = None;
        for (intent, want, record) in turns {
            if failed.is_some() {
                self.defer(vec![Change::CloseIntent(intent.id)]);
            } else if let Err(refusal) = self.set_turns(&intent, record, deadline) {
                failed = Some(Refusal {
                    message: format!(
                        "cannot weigh the slice of profile {} for domain {}: {}",
                        want.profile.name, want.allocation.domain.name, refusal.message
                    ),
                    ..refusal
                });
            } else if want.profile.weight.is_none() {
                record.quantum_before = None;
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// The record goes to the disk with the end of the intent, never after it.
    fn set_turns(&self, intent: &Intent, record: &Realized, deadline: Instant) -> Result<(), Refusal> {
        let ended = || vec![Change::PutRealized(record.clone()), Change::CloseIntent(intent.id)];
        match self.in_thread(intent, deadline.min(Instant::now() + CREATE)) {
            End::Done => {
                self.defer(ended());
                Ok(())
            }
            End::Failed(failure) => {
                // One of the two attributes may be written.
                self.defer(ended());
                Err(failure.refusal)
            }
            End::Overrun => Err(Refusal::new(Kind::Busy, format!("{} did not end in time", intent.step))),
        }
    }

    /// Says of each of `gpus` what it makes of a profile's weight, one sentence each.
    pub(super) fn weighing<'a>(
        &self,
        profile: &Profile,
        gpus: impl Iterator<Item = &'a GpuId>,
        snapshot: &HostSnapshot,
    ) -> Vec<String> {
        let Some(weight) = profile.weight else { return Vec::new() };
        let gpus: BTreeSet<&GpuId> = gpus.collect();
        let ledger = self.ledger();
        let settings = &ledger.book().settings;
        let asked = |gpu: &&Gpu| gpus.contains(&gpu.id);
        let tell = |gpu: &Gpu| {
            let policy = settings.get(&gpu.id).and_then(|wish| wish.setting.scheduler);
            format!("weight {weight}: {} {}", gpu.name, honours(weight, &profile.wish, gpu, policy))
        };
        snapshot.gpus.iter().filter(asked).map(tell).collect()
    }
}

/// Says what a GPU makes of a weight, as a clause. `policy` is the scheduler that is remembered for it.
fn honours(weight: Weight, wish: &Wish, gpu: &Gpu, policy: Option<SchedulerPolicy>) -> String {
    let vfs = || gpu.sriov.iter().flat_map(|sriov| &sriov.vfs);
    let none = "cannot weigh one slice";
    match gpu.backend {
        _ if matches!(wish, Wish::Gpu(_)) => "is given whole: nobody shares its time".to_owned(),
        BackendKind::Xe if vfs().next().is_none() || vfs().any(|vf| vf.quantum.is_some()) => {
            format!("gives the VF {} while its guest runs", Quantum::of(weight))
        }
        BackendKind::Xe => format!("{none}: its driver says no turns of single VFs"),
        _ if is_nvidia(gpu) => {
            format!("{none}: {}", nvidia(policy))
        }
        BackendKind::Mdev if gpu.driver.as_deref() == Some("i915") => {
            format!("{none}: with GVT-g the weight is the type's own, see its description")
        }
        BackendKind::Mdev => format!("{none}: its driver has no such thing for mdevs"),
        _ => format!("{none}: its driver divides the time by itself"),
    }
}

/// Returns whether a GPU is one of NVIDIA's.
pub(super) fn is_nvidia(gpu: &Gpu) -> bool {
    const VENDOR: u16 = 0x10de;
    gpu.is_on_nvidia() || gpu.pci.as_ref().is_some_and(|pci| pci.id.vendor == VENDOR)
}

/// What NVIDIA's schedulers are for the whole GPU (NVIDIA's vGPU guide, "vGPU schedulers").
const fn nvidia(policy: Option<SchedulerPolicy>) -> &'static str {
    match policy {
        Some(SchedulerPolicy::BestEffort) => {
            "its scheduler best-effort lets each vGPU have what the others leave; no policy of NVIDIA's goes by weight"
        }
        Some(SchedulerPolicy::EqualShare) => {
            "its scheduler equal-share gives all running vGPUs the same; no policy of NVIDIA's goes by weight"
        }
        Some(SchedulerPolicy::FixedShare) => {
            "its scheduler fixed-share gives each vGPU the part that its type has of a full GPU, so a larger type has more"
        }
        None => {
            "NVIDIA's schedulers are of the whole GPU, and none goes by weight; with fixed-share a larger type has more"
        }
    }
}

/// What an ended change of turns means for the ledger: put back, the VF is given back; else its record keeps what it
/// had before, so that giving it back puts it right.
pub(super) fn outcome(
    intent: &Intent,
    book: &Book,
    snapshot: &HostSnapshot,
    (vf, quantum, before): (PciAddress, Quantum, Quantum),
) -> Vec<Change> {
    let Some((gpu, found)) = snapshot.vf(vf) else { return super::settle::gone(book, Device::Vf(vf)) };
    let Some(allocation) = &intent.allocation else { return Vec::new() };
    let known = book.realized.get(allocation).filter(|record| record.device == Device::Vf(vf));
    let had = known.and_then(|record| record.quantum_before);
    let is_so = found.quantum.is_some_and(|now| quantum.is_as_written(now));
    if let Some(known) = known.filter(|_| had == Some(quantum) && is_so) {
        return match book.keeps(allocation) {
            true => vec![Change::PutRealized(Realized { quantum_before: None, ..known.clone() })],
            false => super::settle::gone(book, Device::Vf(vf)),
        };
    }
    let record = known.cloned().unwrap_or_else(|| Realized {
        allocation: allocation.clone(),
        device: Device::Vf(vf),
        gpu: intent.gpu.clone(),
        parent: gpu.name.clone(),
        mdev_type: None,
        vf_id: Some(found.id),
        boot_id: intent.boot_id.clone(),
        run: intent.run,
        before: Vec::new(),
        quantum_before: None,
    });
    vec![Change::PutRealized(Realized { quantum_before: Some(had.unwrap_or(before)), ..record })]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::IntentId;
    use crate::model::fixture::{gpu, host, parent, pf, vf};
    use crate::model::{AllocationId, RunId};

    fn weight(number: u32) -> Weight {
        number.try_into().expect("a weight")
    }

    const VF: &str = "0000:03:00.1";
    const OWN: Quantum = Quantum { exec_ms: 7, preempt_us: 70 };

    #[test]
    fn turns_are_set_by_weight_put_back_without_and_never_written_twice() {
        let twenty = Quantum::of(weight(20));
        let none = Quantum::default();
        assert_eq!(wanted_turns(Some(weight(20)), None, none), Some(twenty));
        assert_eq!(wanted_turns(Some(weight(20)), Some(none), twenty), None, "they are so");
        assert_eq!(wanted_turns(Some(weight(21)), Some(none), twenty), Some(Quantum::of(weight(21))));
        assert_eq!(wanted_turns(None, Some(OWN), twenty), Some(OWN), "the weight was taken from the profile");
        assert_eq!(wanted_turns(None, None, OWN), None, "somebody else's turns stay");
    }

    fn after(now: Quantum, record: Option<Option<Quantum>>, step: (Quantum, Quantum)) -> Vec<Change> {
        let address: PciAddress = VF.parse().expect("address");
        let mut found = vf(VF, "8086:e211");
        found.quantum = Some(now);
        let snapshot = host(vec![pf("a", vec![found])]);
        let id = AllocationId::from_bits(1);
        let intent = Intent {
            id: IntentId(1),
            step: Step::SetQuantum { vf: address, quantum: step.0, before: step.1 },
            allocation: Some(id.clone()),
            gpu: "virtual:a".parse().expect("id"),
            run: RunId(1),
            boot_id: "b".parse().expect("boot"),
            helper: None,
        };
        let mut book = Book::default();
        let empty = outcome(&intent, &book, &snapshot, (address, step.0, step.1));
        let Some(quantum_before) = record else { return empty };
        let [Change::PutRealized(known)] = empty.as_slice() else { panic!("{empty:?}") };
        book.realized.insert(id, Realized { quantum_before, ..known.clone() });
        outcome(&intent, &book, &snapshot, (address, step.0, step.1))
    }

    fn kept(changes: &[Change]) -> Option<Quantum> {
        match changes {
            [Change::PutRealized(record)] => record.quantum_before,
            _ => None,
        }
    }

    #[test]
    fn a_change_that_was_cut_short_keeps_what_was_before_and_one_put_back_is_forgotten() {
        let twenty = Quantum::of(weight(20));
        for now in [OWN, Quantum { exec_ms: twenty.exec_ms, ..OWN }, twenty] {
            assert_eq!(kept(&after(now, None, (twenty, OWN))), Some(OWN), "the record was not stored");
            assert_eq!(kept(&after(now, Some(Some(OWN)), (twenty, OWN))), Some(OWN));
        }
        let back = (OWN, twenty);
        assert_eq!(kept(&after(twenty, Some(Some(OWN)), back)), Some(OWN), "not put back yet");
        let gone = after(OWN, Some(Some(OWN)), back);
        assert!(matches!(gone.as_slice(), [Change::DeleteRealized(_)]), "{gone:?}");
    }

    #[test]
    fn each_road_says_what_it_makes_of_a_weight() {
        let any = Wish::Framebuffer(crate::model::Framebuffer::from_mib(1));
        let told = |gpu: &Gpu, policy| honours(weight(20), &any, gpu, policy);
        let mut xe = pf("a", vec![vf(VF, "8086:e211")]);
        xe.backend = BackendKind::Xe;
        assert!(told(&xe, None).contains("says no turns"), "{}", told(&xe, None));
        xe.sriov.as_mut().expect("a PF").vfs[0].quantum = Some(OWN);
        assert!(told(&xe, None).starts_with("gives the VF turns of 40 ms"), "{}", told(&xe, None));
        let mut card = gpu("b", vec![parent("b", Vec::new())]);
        assert!(told(&card, None).starts_with("cannot weigh one slice"));
        card.driver = Some("i915".to_owned());
        assert!(told(&card, None).contains("the type's own"));
        card.driver = Some("nvidia".to_owned());
        for (policy, word) in [
            (Some(SchedulerPolicy::BestEffort), "what the others leave"),
            (Some(SchedulerPolicy::EqualShare), "the same"),
            (Some(SchedulerPolicy::FixedShare), "a larger type"),
            (None, "none goes by weight"),
        ] {
            assert!(told(&card, policy).contains(word), "{}", told(&card, policy));
        }
        let whole = Wish::Gpu(crate::model::WhichGpu::Any);
        assert!(honours(weight(20), &whole, &xe, None).contains("nobody shares"));
    }
}
