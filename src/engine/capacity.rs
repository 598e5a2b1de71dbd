//! What the host still holds, for its own mix of requests; and why slices are where they are.

use std::collections::BTreeMap;

use super::history::Wanted as WantedHistory;
use super::{Engine, plugin, rules::Ground};
use crate::ledger::Book;
use crate::model::{
    AllocationId, Capacity, Decision, Device, HistoryEntry, Kind, MdevUuid, Profile, ProfileName, Refusal,
};
use crate::placement::{self, Want, Weighted};
use crate::topology;
use crate::wire::Explained;

/// How far back requests are counted.
const MOST_HISTORY: usize = 10_000;

/// Counts the slices that starts made, by profile. Pure.
fn started(entries: &[HistoryEntry], book: &Book) -> BTreeMap<ProfileName, u64> {
    let mut counts = BTreeMap::new();
    let mut add = |profile: &ProfileName| *counts.entry(profile.clone()).or_insert(0) += 1;
    for entry in entries.iter().filter(|entry| entry.verb == "prepare" && entry.outcome == "done") {
        if entry.decisions.is_empty() {
            let known = entry.allocations.iter().filter_map(|id| book.allocations.get(id));
            known.for_each(|one| add(&one.profile));
        } else {
            entry.decisions.iter().for_each(|decision| add(&decision.profile));
        }
    }
    counts
}

impl Engine {
    /// Reads how the GPUs are connected.
    ///
    /// # Errors
    /// When the host cannot be read.
    pub fn topology(&self) -> Result<topology::Observations, Refusal> {
        let (snapshot, _) = self.recent()?;
        Ok(topology::read(&self.inner.sysfs, &snapshot))
    }

    /// Says what the host still holds.
    ///
    /// # Errors
    /// When host or history cannot be read.
    pub fn capacity(&self) -> Result<Capacity, Refusal> {
        let (snapshot, _) = self.recent()?;
        let owners = self.owners(&snapshot);
        let ground = self.ground(&snapshot);
        let book = self.book();
        let (weights, source) = self.mix(&book)?;
        let mix = weights_of(&book, &weights, &ground);
        Ok(placement::capacity(&mix, &source, &snapshot, &owners))
    }

    /// Returns how often each profile was asked for, and how that is known.
    pub(super) fn mix(&self, book: &Book) -> Result<(BTreeMap<ProfileName, u64>, String), Refusal> {
        let wanted = WantedHistory { limit: MOST_HISTORY, ..WantedHistory::default() };
        let asked = match self.read_only() {
            None => started(&self.history(&wanted)?, book),
            Some(_) => BTreeMap::new(),
        };
        let mut followers = BTreeMap::new();
        for allocation in book.allocations.values() {
            *followers.entry(allocation.profile.clone()).or_insert(0) += 1;
        }
        Ok(placement::weights(book.profiles.keys(), &asked, &followers))
    }

    /// Explains a profile, an allocation, or (with `#` before its number) an entry of the history.
    ///
    /// # Errors
    /// When there is no such thing, or host or history cannot be read.
    pub fn explain_anything(&self, what: &str) -> Result<Explained, Refusal> {
        if let Some(number) = what.strip_prefix('#') {
            return self.explain_entry(number);
        }
        if let Ok(id) = what.parse::<AllocationId>()
            && self.ledger().book().allocations.contains_key(&id)
        {
            return self.explain_allocation(&id);
        }
        match what.parse::<ProfileName>() {
            Ok(name) if self.ledger().book().profiles.contains_key(&name) => self.explain_profile(&name),
            _ => Err(Refusal::new(
                Kind::NotFound,
                format!("no profile, allocation or entry {:?}", crate::model::one_line(what, 80)),
            )
            .hint("vgpuctl profile list, vgpuctl allocations and vgpuctl history list them; an entry is #NUMBER")),
        }
    }

    fn explain_entry(&self, number: &str) -> Result<Explained, Refusal> {
        let number: i64 = number.parse().ok().filter(|number| *number > 0).ok_or_else(|| {
            Refusal::new(
                Kind::Usage,
                format!("#{} is no number of an entry", crate::model::one_line(number, 20)),
            )
        })?;
        // What was only just recorded has no number before it is stored.
        self.flush();
        let found = self.find_entry(|entry| entry.number == number)?;
        let entry = found.ok_or_else(|| {
            Refusal::new(Kind::NotFound, format!("the history has no entry {number}"))
                .hint("vgpuctl history lists the newest")
        })?;
        let mut notes = Vec::new();
        if entry.decisions.is_empty() {
            notes.push("it placed nothing".to_owned());
        }
        Ok(Explained { decisions: entry.decisions.clone(), entry: Some(entry), notes, now: false })
    }

    fn find_entry(&self, wanted: impl Fn(&HistoryEntry) -> bool) -> Result<Option<HistoryEntry>, Refusal> {
        let history = self.ledger().history();
        let read = history.and_then(|history| history.newest(1, wanted));
        let mut found = read.map_err(|error| Refusal::from_error(Kind::HostFault, &error))?;
        Ok(found.pop())
    }

    fn explain_profile(&self, name: &ProfileName) -> Result<Explained, Refusal> {
        let profile = self.profile(name)?;
        let (snapshot, _) = self.recent()?;
        let ground = self.ground(&snapshot);
        let want = self.any_want(&profile, &ground);
        let owners = self.owners(&snapshot);
        let closed = self.bars_of_unfinished(&snapshot);
        let decision = placement::weigh(&want, None, &snapshot, &owners, &closed);
        let mut notes = placement::maps(&decision, &snapshot, &owners);
        notes.extend(self.weighing(&profile, decision.candidates.iter().map(|one| &one.gpu), &snapshot));
        notes.extend(plugin::told(&profile, decision.candidates.iter().map(|one| &one.gpu), &snapshot));
        let decisions = vec![Decision { allocation: None, ..decision }];
        Ok(Explained { entry: None, decisions, notes, now: true })
    }

    /// A want of a profile that nobody follows.
    pub(super) fn any_want(&self, profile: &Profile, ground: &Ground<'_>) -> Want {
        Want {
            allocation: AllocationId::from_bits(0),
            profile: profile.clone(),
            bounds: ground.bounds_of_profile(profile),
            device: Device::Mdev(MdevUuid(uuid::Uuid::nil())),
        }
    }

    fn explain_allocation(&self, id: &AllocationId) -> Result<Explained, Refusal> {
        let (allocation, record) = {
            let ledger = self.ledger();
            let book = ledger.book();
            (book.allocations.get(id).cloned(), book.realized.get(id).cloned())
        };
        let gone = || Refusal::new(Kind::NotFound, format!("no allocation {id}"));
        let wanted = self.wanted(&allocation.ok_or_else(gone)?)?;
        let (snapshot, _) = self.recent()?;
        let ground = self.ground(&snapshot);
        let want = ground.want(&wanted);
        let owners = self.owners(&snapshot);
        let parent = record.as_ref().map(|record| &record.parent);
        let closed = self.bars_of_unfinished(&snapshot);
        let mut decision = placement::weigh(&want, parent, &snapshot, &owners, &closed);
        let tell = |reason| format!("allocation {id} {reason}");
        let mut notes: Vec<String> = want.bounds.reasons().into_iter().map(tell).collect();
        if let Some(record) = &record {
            decision.chosen = Some(record.parent.clone());
            for one in decision.candidates.iter_mut().filter(|one| one.gpu == record.gpu) {
                one.verdict = format!("has its slice now; {}", one.verdict);
            }
        }
        let about = |entry: &HistoryEntry| {
            entry.decisions.iter().any(|decision| decision.allocation.as_ref() == Some(id))
        };
        if let Some(entry) = self.find_entry(about)? {
            notes.push(match entry.number {
                0 => "it was placed just now".to_owned(),
                number => format!("how it was placed last: vgpuctl explain #{number}"),
            });
        }
        notes.extend(placement::maps(&decision, &snapshot, &owners));
        let gpus = decision.candidates.iter().map(|one| &one.gpu);
        notes.extend(self.weighing(&wanted.profile, gpus.clone(), &snapshot));
        notes.extend(plugin::told(&wanted.profile, gpus, &snapshot));
        Ok(Explained { entry: None, decisions: vec![decision], notes, now: true })
    }
}

/// Joins every profile with what binds it and its weight.
pub(super) fn weights_of(
    book: &Book,
    weights: &BTreeMap<ProfileName, u64>,
    ground: &Ground<'_>,
) -> Vec<Weighted> {
    let one = |profile: &Profile| Weighted {
        profile: profile.clone(),
        bounds: ground.bounds_of_profile(profile),
        weight: weights.get(&profile.name).copied().unwrap_or(0),
    };
    book.profiles.values().map(one).collect()
}
