//! Who asked for what, and what came of it.

use super::{Engine, Peer};
use crate::clock;
use crate::ledger::Change;
use crate::model::{AllocationId, Decision, HistoryEntry, Kind, Refusal};

/// What a history entry is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Happened {
    /// What was asked.
    pub verb: &'static str,
    /// On what.
    pub object: String,
    /// The domain it is about.
    pub domain: Option<String>,
    /// The allocations it is about, as far as they are known.
    pub allocations: Vec<AllocationId>,
    /// Why their slices are where they are.
    pub decisions: Vec<Decision>,
}

/// Which entries are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only those about this domain.
    pub domain: Option<String>,
    /// Only those about this allocation.
    pub allocation: Option<AllocationId>,
    /// At most so many, the newest.
    pub limit: usize,
}

impl Engine {
    /// Appends to the history with the next commit. Without a peer it is the service's own doing.
    pub fn record(&self, peer: Option<Peer>, happened: Happened, outcome: &str) {
        self.defer(vec![Change::Record(HistoryEntry {
            number: 0,
            at: clock::epoch_seconds(),
            uid: peer.map(|peer| peer.uid),
            pid: peer.and_then(|peer| peer.pid),
            verb: happened.verb.to_owned(),
            object: happened.object,
            domain: happened.domain,
            allocations: happened.allocations,
            outcome: outcome.to_owned(),
            decisions: happened.decisions,
        })]);
    }

    /// Records what the service did to an allocation of a domain by itself.
    pub(super) fn record_own(
        &self,
        verb: &'static str,
        allocation: &AllocationId,
        domain: String,
        outcome: &str,
    ) {
        let object = allocation.to_string();
        self.record(
            None,
            Happened {
                verb,
                object,
                domain: Some(domain),
                allocations: vec![allocation.clone()],
                decisions: Vec::new(),
            },
            outcome,
        );
    }

    /// Reads the newest entries, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn history(&self, wanted: &Wanted) -> Result<Vec<HistoryEntry>, Refusal> {
        let takes = |entry: &HistoryEntry| wanted.domain.is_none() || entry.domain == wanted.domain;
        let about =
            |entry: &HistoryEntry| wanted.allocation.as_ref().is_none_or(|id| entry.allocations.contains(id));
        // Fifty thousand entries are read aside: nobody waits for the ledger meanwhile.
        let history = self.ledger().history();
        let read =
            history.and_then(|history| history.newest(wanted.limit, |entry| takes(entry) && about(entry)));
        read.map_err(|error| Refusal::from_error(Kind::HostFault, &error))
    }
}
