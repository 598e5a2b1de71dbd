//! Why a place was chosen and the others not, for people and for the history.

use crate::model::{Decision, DeviceName, GpuId, HostSnapshot, Weighed, one_line};
use crate::placement::offer::{Offer, held_text, offers, policy_of};
use crate::placement::{Barred, Owners, Want};

/// The most GPUs that a decision keeps: it is stored with each start.
const MOST: usize = 16;

/// The most characters of a verdict.
const MOST_TEXT: usize = 240;

/// Weighs every GPU for a want, as the policy sees them before anything of the request is placed; one line for
/// each GPU, by its best parent. `chosen` is the parent that was chosen; `None` takes the best.
#[must_use]
pub fn weigh(
    want: &Want,
    chosen: Option<&DeviceName>,
    snapshot: &HostSnapshot,
    owners: &Owners,
    barred: &[Barred],
) -> Decision {
    let mut all = offers(&want.profile, &want.bounds, snapshot, owners, barred);
    all.sort_by(Offer::best_first);
    let winner = all.iter().find(|offer| match chosen {
        Some(parent) => offer.matched.parent == parent,
        None => offer.possible() > 0,
    });
    let mut seen: Vec<&GpuId> = Vec::new();
    let mut candidates = Vec::new();
    for offer in &all {
        if seen.contains(&&offer.matched.gpu.id) || candidates.len() >= MOST {
            continue;
        }
        seen.push(&offer.matched.gpu.id);
        candidates.push(weighed(offer, winner, want, owners));
    }
    Decision {
        allocation: Some(want.allocation.clone()),
        profile: want.profile.name.clone(),
        wish: want.bounds.narrow(&want.profile).wish.to_string(),
        policy: policy_of(&want.profile, &want.bounds),
        seed: want.bounds.taste.seed,
        chosen: winner.map(|offer| offer.matched.parent.clone()),
        candidates,
    }
}

fn weighed(offer: &Offer<'_>, winner: Option<&Offer<'_>>, want: &Want, owners: &Owners) -> Weighed {
    let possible = offer.possible();
    let won = winner.is_some_and(|winner| winner.matched.gpu.id == offer.matched.gpu.id);
    let note = want.bounds.tier(&offer.matched.gpu.id).1;
    let verdict = match (possible, winner) {
        (0, _) => offer.left() + &held_text(&offer.holders(owners)),
        (_, _) if won => match note {
            Some(note) => format!("won, although it {note}: {}", offer.score.text),
            None => format!("won: {}", offer.score.text),
        },
        (_, Some(winner)) => lost(offer, winner, note),
        (_, None) => format!("could: {}", offer.score.text),
    };
    Weighed {
        gpu: offer.matched.gpu.id.clone(),
        parent: offer.matched.parent.clone(),
        possible: offer.of_gpu,
        slices: offer.place.usage.slices,
        memory_mib: offer.place.usage.memory.map(|memory| (memory.used, memory.total)),
        score: (possible > 0).then(|| offer.score.clone()),
        verdict: one_line(&verdict, MOST_TEXT),
    }
}

fn lost(offer: &Offer<'_>, winner: &Offer<'_>, note: Option<&str>) -> String {
    let (own, best) = (&offer.score, &winner.score);
    let name = winner.matched.parent;
    if own.tier > best.tier {
        return format!("lost: {}", note.unwrap_or("rules put it behind others"));
    }
    if own < best && (own.tier, own.value, own.tie) != (best.tier, best.value, best.tie) {
        return format!("was better ({}), but other slices of the request had to fit too", own.text);
    }
    if (own.tier, own.value, own.tie) == (best.tier, best.value, best.tie) {
        return format!("lost to {name}, which comes first by name: {}", own.text);
    }
    format!("lost to {name}: {} against {}", own.text, best.text)
}
