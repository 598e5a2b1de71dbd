//! Why a request cannot be served, in one line that a person can act on.

use std::collections::BTreeMap;
use std::fmt;

use crate::model::{Device, HostSnapshot, Kind, Profile, Refusal, Wish, one_line};
use crate::placement::offer::{Offer, held_text, offers};
use crate::placement::{Barred, Owners, Want};
use crate::profile::Bounds;

/// The most places that one line names.
const MOST_PLACES: usize = 8;

/// The most characters that one place takes in the line.
const MOST_TEXT: usize = 240;

/// A place that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// A parent, several parents of one GPU, or a named device.
    pub place: String,
    /// What it has left and who holds the rest, or why it gives none; a clause that follows the place.
    pub text: String,
}

/// No placement for a request. Prints as one line of bounded length.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct NoPlacement {
    /// What was asked.
    pub asked: String,
    /// Every place that was considered, best first; the line shows the first few.
    pub passed: Vec<Passed>,
    kind: Kind,
    hints: Vec<String>,
}

impl fmt::Display for NoPlacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot place {}: ", one_line(&self.asked, MOST_TEXT))?;
        for (index, Passed { place, text }) in self.passed.iter().take(MOST_PLACES).enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", one_line(place, MOST_TEXT), one_line(text, MOST_TEXT))?;
        }
        match self.passed.len().checked_sub(MOST_PLACES) {
            None if self.passed.is_empty() => write!(f, "this host has no device that makes slices"),
            None | Some(0) => Ok(()),
            Some(more) => write!(f, "; and {more} more"),
        }
    }
}

impl NoPlacement {
    pub(super) const fn new(asked: String, passed: Vec<Passed>, kind: Kind) -> Self {
        Self { asked, passed, kind, hints: Vec::new() }
    }

    /// Creates the refusal of wants that fit each for itself, and not all together.
    pub(super) fn of_wants(
        wants: &[Want],
        snapshot: &HostSnapshot,
        owners: &Owners,
        barred: &[Barred],
    ) -> Self {
        let listed = |want: &Want| places(&want.profile, &want.bounds, snapshot, owners, barred);
        Self::new(asked(wants), wants.first().map(listed).unwrap_or_default(), Kind::NoCapacity)
    }

    pub(super) fn hint(mut self, hint: String) -> Self {
        self.hints.push(hint);
        self
    }

    /// Returns what kind of no this is: no capacity, or a request that contradicts what is there.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns what the reader can do, one sentence each.
    #[must_use]
    pub fn hints(&self) -> &[String] {
        &self.hints
    }
}

impl From<NoPlacement> for Refusal {
    fn from(no: NoPlacement) -> Self {
        Self { kind: no.kind, message: no.to_string(), hints: no.hints }
    }
}

/// Says what a request asks for: `2 x type nvidia-558 (profile big) and VF 0000:41:10.0 (profile nic)`.
pub(super) fn asked(wants: &[Want]) -> String {
    // What names its VF is asked for once.
    let mut counts: BTreeMap<(String, bool), u32> = BTreeMap::new();
    for want in wants {
        let Profile { name, wish, .. } = &want.bounds.narrow(&want.profile);
        let what = match (wish, want.device) {
            (Wish::Vf(_), device) => (format!("VF {device} (profile {name})"), true),
            (wish, Device::Vf(vf)) => (format!("{wish} on VF {vf} (profile {name})"), true),
            (wish, Device::Mdev(_)) => (format!("{wish} (profile {name})"), false),
        };
        *counts.entry(what).or_insert(0) += 1;
    }
    let one = |((what, named), count): ((String, bool), u32)| {
        if named { what } else { format!("{count} x {what}") }
    };
    counts.into_iter().map(one).collect::<Vec<_>>().join(" and ")
}

/// Says what binds a want more than its profile, and what to type for fewer bounds.
pub(super) fn bound(want: &Want) -> Option<String> {
    let reasons = want.bounds.reasons();
    if reasons.is_empty() {
        return None;
    }
    let binds = format!("allocation {} {}", want.allocation, reasons.join(" and "));
    let lifts = want.bounds.lifts(&want.allocation, &want.profile.name);
    Some(format!("{binds}: {}", lifts.join("; ")))
}

/// Creates the refusal of a request in which `want` has no room.
pub(super) fn full(
    wants: &[Want],
    want: &Want,
    snapshot: &HostSnapshot,
    owners: &Owners,
    barred: &[Barred],
) -> NoPlacement {
    let mut no = of_profile(asked(wants), &want.profile, &want.bounds, snapshot, owners, barred);
    no.hints.splice(0..0, bound(want));
    if wants.len() < 2 {
        return no;
    }
    no.hint("all slices of a domain are placed together or none is; fewer may fit".to_owned())
}

/// Creates a refusal that lists what every parent could give `profile`.
pub(super) fn of_profile(
    asked: String,
    profile: &Profile,
    bounds: &Bounds,
    snapshot: &HostSnapshot,
    owners: &Owners,
    barred: &[Barred],
) -> NoPlacement {
    let refusal =
        NoPlacement::new(asked, places(profile, bounds, snapshot, owners, barred), Kind::NoCapacity)
            .hint(format!("`vgpuctl profile explain {}` shows what every parent can give", profile.name));
    match snapshot.problems.first() {
        None => refusal,
        Some(problem) => refusal.hint(format!(
            "{} could not be read on this host, the first: {}",
            if snapshot.problems.len() == 1 {
                "1 thing".to_owned()
            } else {
                format!("{} things", snapshot.problems.len())
            },
            one_line(&problem.text, MOST_TEXT)
        )),
    }
}

/// Lists what every parent could give `profile`, best first.
pub(super) fn places(
    profile: &Profile,
    bounds: &Bounds,
    snapshot: &HostSnapshot,
    owners: &Owners,
    barred: &[Barred],
) -> Vec<Passed> {
    let mut all = offers(profile, bounds, snapshot, owners, barred);
    all.sort_by(Offer::best_first);
    groups(&all, owners)
}

/// Makes one place of the parents of one GPU that say the same, so that a GPU whose VFs are 32 parents
/// takes one place. Keeps the order of the first of each.
fn groups(all: &[Offer<'_>], owners: &Owners) -> Vec<Passed> {
    let mut groups: Vec<(String, Vec<&Offer<'_>>)> = Vec::new();
    for offer in all {
        let left = offer.left();
        let same = |group: &&mut (String, Vec<&Offer<'_>>)| {
            group.0 == left
                && group.1.first().is_some_and(|first| first.matched.gpu.id == offer.matched.gpu.id)
        };
        match groups.iter_mut().find(same) {
            Some((_, members)) => members.push(offer),
            None => groups.push((left, vec![offer])),
        }
    }
    let place = |(left, members): (String, Vec<&Offer<'_>>)| {
        let mut held = BTreeMap::new();
        for (key, count) in members.iter().flat_map(|offer| offer.holders(owners)) {
            *held.entry(key).or_insert(0) += count;
        }
        let place = match members.as_slice() {
            [one] => one.matched.parent.to_string(),
            many => format!(
                "each of {} parents on {}",
                many.len(),
                many.first().map_or("", |first| first.matched.gpu.name.as_str())
            ),
        };
        Passed { place, text: left + &held_text(&held) }
    };
    groups.into_iter().map(place).collect()
}
