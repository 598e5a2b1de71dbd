//! What a start that worked settles: from then on kind, vendor and type of the allocation stay, as far as
//! its profile does not let them float.

use super::Engine;
use crate::ledger::{Book, Change, Need};
use crate::model::{Allocation, DomainUuid, Realized, RunId, Settled};
use crate::wire::Hook;

/// Returns what a guest that runs on this slice settles; `None` when it is settled so already. Pure.
pub(super) fn settled_by(allocation: &Allocation, record: &Realized) -> Option<Settled> {
    let before = allocation.settled.as_ref();
    let pinned = before.filter(|_| allocation.terms.pin).map(|settled| settled.gpu.clone());
    let now = Settled {
        gpu: pinned.unwrap_or_else(|| record.gpu.clone()),
        mdev_type: record.mdev_type.clone(),
        vf_id: record.vf_id,
    };
    (before != Some(&now)).then_some(now)
}

/// Returns the allocations of a domain with what its run, begun before `at`, settled. Pure.
fn settle_run(book: &Book, domain: DomainUuid, at: RunId) -> Vec<Change> {
    let one = |allocation: &Allocation| {
        let record = book.realized.get(&allocation.id).filter(|record| record.run < at)?;
        let settled = settled_by(allocation, record)?;
        Some(Change::PutAllocation(Allocation { settled: Some(settled), ..allocation.clone() }))
    };
    book.of_domain(domain).filter_map(one).collect()
}

impl Engine {
    /// Serves `started begin`: the guest runs on its slices. What this cannot store, the next look at the
    /// running domain does.
    pub fn started(&self, hook: &Hook) {
        self.guests_changed();
        let mut ledger = self.ledger();
        let changes = settle_run(ledger.book(), hook.domain_uuid, hook.at);
        if changes.is_empty() {
            return;
        }
        if let Err(error) = ledger.commit(changes, Need::GiveBack) {
            tracing::warn!(domain = %hook.domain, %error, "cannot store what this start settled, the next look does");
        }
    }
}
