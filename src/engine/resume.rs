//! Guests whose memory comes from an image or another host: which devices they get, before libvirt prepares
//! them. Their XML may still be changed here, and nowhere later.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::Engine;
use super::admit::{self, Wanted};
use crate::model::{
    AllocationId, CapacityMode, DomainUuid, HostSnapshot, Kind, PciAddress, Refusal, Repoint, RunId, Wish,
};
use crate::placement::{self, Barred, Resumed};
use crate::wire::{Exchanged, Hook, HookOp};

/// libvirt runs `prepare` right after `restore` and `migrate`.
const PREPARE_FOLLOWS: Duration = Duration::from_secs(60);

/// A guest whose XML was just decided.
#[derive(Debug)]
pub(super) struct Resuming {
    at: RunId,
    vfs: Vec<PciAddress>,
}

impl Engine {
    /// Serves `restore begin` and `migrate begin`: returns the VFs that the guest gets instead of those that
    /// its XML names. Nothing is made or held: `prepare` follows, and judges again.
    ///
    /// # Errors
    /// When a hostdev is not this domain's, or its slice cannot be had in any way: the image stays as it is.
    pub fn resume(&self, hook: &Hook, deadline: Instant) -> Result<Vec<Exchanged>, Refusal> {
        self.writable()?;
        let _domain = self.domain_turn(hook.domain_uuid, deadline)?;
        let _lane = self.capacity_turn(deadline)?;
        let wanted = match hook.op {
            HookOp::Migrate => admit::incoming(self.ledger().book(), hook)?,
            _ => admit::prepare(self.ledger().book(), hook)?,
        };
        let snapshot = self.fresh(deadline)?;
        let chosen = self.chosen(hook, &wanted, &snapshot)?;
        let exchanges = exchanges(&wanted, &chosen);
        for one in &exchanges {
            tracing::info!(domain = %hook.domain, allocation = %one.allocation, from = %one.from, to = %one.to, "a resumed guest gets another VF");
        }
        self.resuming()
            .insert(hook.domain_uuid, Resuming { at: hook.at, vfs: chosen.into_values().collect() });
        Ok(exchanges)
    }

    /// Chooses the VF of each slice that names one.
    fn chosen(
        &self,
        hook: &Hook,
        wanted: &[Wanted],
        snapshot: &HostSnapshot,
    ) -> Result<BTreeMap<AllocationId, PciAddress>, Refusal> {
        let resumed: Vec<Resumed> = wanted
            .iter()
            .map(|want| Resumed { want: resuming(want).want(), may_move: may_move(want) })
            .collect();
        let mut barred = self.bars_of_unfinished(snapshot);
        barred.extend(self.bars_of_resuming(hook));
        let chosen =
            placement::resume(&resumed, snapshot, &self.owners(snapshot), &barred, &self.named_vfs());
        let exchanged = chosen.map_err(|no| hinted(Refusal::from(no), wanted))?;
        let vf_of = |want: &Wanted| {
            let named = want.allocation.device.vf()?;
            let id = want.allocation.id.clone();
            let vf = exchanged.get(&id).copied().unwrap_or(named);
            Some((id, vf))
        };
        Ok(wanted.iter().filter_map(vf_of).collect())
    }

    /// Nothing is held between the filter and `prepare`: what another guest was just told is kept for it.
    fn bars_of_resuming(&self, hook: &Hook) -> Vec<Barred> {
        let resuming = self.resuming();
        let others = resuming.iter().filter(|(domain, one)| {
            **domain != hook.domain_uuid && hook.at.0.saturating_sub(one.at.0) < nanos(PREPARE_FOLLOWS)
        });
        let vfs = others.flat_map(|(_, one)| &one.vfs);
        let bar = |vf: &PciAddress| {
            let reason = "is about to go to another guest that is being resumed".to_owned();
            Some(Barred { parent: vf.to_string().parse().ok()?, mdev_type: None, reason })
        };
        vfs.filter_map(bar).collect()
    }

    /// Returns whether this `prepare` is of a guest that is being resumed.
    pub(super) fn is_resuming(&self, hook: &Hook) -> bool {
        let began = self.resuming().remove(&hook.domain_uuid);
        began.is_some_and(|began| hook.at.0.saturating_sub(began.at.0) < nanos(PREPARE_FOLLOWS))
    }

    fn resuming(&self) -> std::sync::MutexGuard<'_, BTreeMap<DomainUuid, Resuming>> {
        self.inner.resuming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn exchanges(wanted: &[Wanted], chosen: &BTreeMap<AllocationId, PciAddress>) -> Vec<Exchanged> {
    let exchanged = wanted.iter().filter_map(|want| {
        let (from, to) = (want.allocation.device.vf()?, *chosen.get(&want.allocation.id)?);
        (from != to).then(|| Exchanged { allocation: want.allocation.id.clone(), from, to })
    });
    exchanged.collect()
}

/// Returns the want with the bounds of a saved image: it needs the type it was saved with.
pub(super) fn resuming(want: &Wanted) -> Wanted {
    let mut want = want.clone();
    want.allocation.saved = true;
    want
}

/// Returns whether the promise's terms let the service choose another VF.
fn may_move(want: &Wanted) -> bool {
    let terms = &want.allocation.terms;
    let whole = matches!(want.profile.wish, Wish::Gpu(_));
    !whole && !terms.pin && terms.mode == CapacityMode::OnStart && terms.repoint != Repoint::Never
}

fn hinted(refusal: Refusal, wanted: &[Wanted]) -> Refusal {
    let bound = wanted.iter().find(|want| want.allocation.device.vf().is_some() && !may_move(want));
    match bound {
        Some(want) if refusal.kind == Kind::NoCapacity => refusal.hint(format!(
            "allocation {} is pinned, guaranteed, a whole GPU or never re-pointed, so its saved guest waits for VF {}",
            want.allocation.id, want.allocation.device
        )),
        Some(_) | None => refusal,
    }
}
