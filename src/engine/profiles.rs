//! Profiles: stored, listed, explained, deleted while nobody follows them.

use std::time::Duration;

use super::Engine;
use super::admit::Wanted;
use super::plugin;
use crate::ledger::{Book, Change, Need};
use crate::model::{AllocationId, BackendKind, Gpu, Kind, Profile, ProfileName, Refusal, Wish};
use crate::placement;
use crate::profile;
use crate::wire;

impl Engine {
    /// Stores a profile, new or changed. The same content again changes nothing. Allocations follow a changed
    /// profile at their domain's next start.
    ///
    /// # Errors
    /// When it is not valid, when it would turn hostdevs that domains have already into another kind, or
    /// when the disk says no.
    pub fn create_profile(&self, wanted: &Profile) -> Result<wire::Changed, Refusal> {
        profile::validate(wanted).map_err(|error| Refusal::from_error(Kind::Usage, &error))?;
        let (existing, followers) = {
            let ledger = self.ledger();
            let book = ledger.book();
            (book.profiles.get(&wanted.name).cloned(), book.followers(&wanted.name))
        };
        if existing.as_ref() == Some(wanted) {
            return Ok(wire::Changed { change: wire::Change::Unchanged, notes: Vec::new() });
        }
        let mut notes: Vec<String> = match existing {
            Some(existing) => followed(&existing, wanted, followers)?.into_iter().collect(),
            None => Vec::new(),
        };
        self.commit_if(vec![Change::PutProfile(wanted.clone())], Need::Promise, |book| {
            match book.profiles.get(&wanted.name) {
                Some(existing) => followed(existing, wanted, book.followers(&wanted.name)).map(drop),
                None => Ok(()),
            }
        })?;
        notes.extend(self.serves_now(wanted));
        Ok(wire::Changed { change: wire::Change::Done, notes })
    }

    pub(super) fn serves_now(&self, profile: &Profile) -> Vec<String> {
        let Ok(explanation) = self.explain(&profile.name, None) else { return Vec::new() };
        let serving = explanation.candidates.iter().filter(|candidate| candidate.possible > 0).count();
        match serving {
            0 => vec![format!(
                "nothing on this host can serve it now; vgpuctl profile explain {} says why",
                profile.name
            )],
            1 => vec!["1 parent can serve it now".to_owned()],
            many => vec![format!("{many} parents can serve it now")],
        }
    }

    /// Lists all profiles.
    #[must_use]
    pub fn profiles(&self) -> wire::Profiles {
        let ledger = self.ledger();
        let book = ledger.book();
        let profiles = book.profiles.values().map(|profile| wire::ProfileUse {
            profile: profile.clone(),
            allocations: u32::try_from(book.followers(&profile.name)).unwrap_or(u32::MAX),
        });
        wire::Profiles { profiles: profiles.collect() }
    }

    /// Finds one profile.
    ///
    /// # Errors
    /// [`Kind::NotFound`] with the names there are.
    pub fn profile(&self, name: &ProfileName) -> Result<Profile, Refusal> {
        let ledger = self.ledger();
        let profiles = &ledger.book().profiles;
        profiles.get(name).cloned().ok_or_else(|| {
            let names: Vec<&str> = profiles.keys().map(ProfileName::as_str).take(20).collect();
            let refusal = Refusal::new(Kind::NotFound, format!("no profile {name}"));
            match names.as_slice() {
                [] => refusal.hint("make one: vgpuctl profile create NAME --type TYPE"),
                names => refusal.hint(format!("there are: {}", names.join(", "))),
            }
        })
    }

    /// Forgets a profile.
    ///
    /// # Errors
    /// [`Kind::Conflict`] while allocations follow it, with the domains.
    pub fn delete_profile(&self, name: &ProfileName) -> Result<wire::Changed, Refusal> {
        self.profile(name)?;
        self.commit_if(vec![Change::DeleteProfile(name.clone())], Need::GiveBack, |book| unused(book, name))?;
        Ok(wire::Changed { change: wire::Change::Done, notes: Vec::new() })
    }

    /// Says which parents can serve a profile now, and for each that cannot, why; for one allocation that
    /// follows it, within what binds that.
    ///
    /// # Errors
    /// When there is no such profile or allocation or the host cannot be read.
    pub fn explain(
        &self,
        name: &ProfileName,
        allocation: Option<&AllocationId>,
    ) -> Result<wire::Explanation, Refusal> {
        let profile = self.profile(name)?;
        let (snapshot, _) = self.recent()?;
        let ground = self.ground(&snapshot);
        let policy = ground.policy(&profile);
        let bounds = match allocation {
            None => ground.bounds_of_profile(&profile),
            Some(id) => ground.want(&self.follower(name, id)?).bounds,
        };
        let candidates = placement::explain(&profile, &bounds, &snapshot, &self.owners(&snapshot), &[]);
        let bounds = match allocation {
            None => Vec::new(),
            Some(id) => {
                let tell = |reason| format!("allocation {id} {reason}");
                bounds.reasons().into_iter().map(tell).chain(bounds.lifts(id, name)).collect()
            }
        };
        let mut notes = self.weighing(&profile, candidates.iter().map(|one| &one.gpu), &snapshot);
        notes.extend(plugin::told(&profile, candidates.iter().map(|one| &one.gpu), &snapshot));
        notes.extend(snapshot.gpus.iter().filter_map(|gpu| share_needed(&profile.wish, gpu)));
        Ok(wire::Explanation { profile, policy, candidates, bounds, notes })
    }

    fn follower(&self, name: &ProfileName, id: &AllocationId) -> Result<Wanted, Refusal> {
        let found = self.ledger().book().allocations.get(id).filter(|one| one.profile == *name).cloned();
        match found {
            Some(allocation) => self.wanted(&allocation),
            None => Err(Refusal::new(Kind::NotFound, format!("no allocation {id} follows profile {name}"))
                .hint("vgpuctl allocations lists them")),
        }
    }

    pub(super) fn recent(&self) -> Result<(std::sync::Arc<crate::model::HostSnapshot>, Duration), Refusal> {
        // Long enough for a reading that goes well, short enough that a reader hardly notices one that does not.
        const PATIENCE: Duration = Duration::from_millis(40);
        self.inner.scanner.recent(PATIENCE).ok_or_else(|| {
            Refusal::new(Kind::Busy, "the host's devices are still being read for the first time")
        })
    }
}

/// Says what a VF of an Intel GPU would need for a framebuffer that the driver's fair division does not give.
fn share_needed(wish: &Wish, gpu: &Gpu) -> Option<String> {
    let (Wish::Framebuffer(wanted), BackendKind::Xe, Some(sriov)) = (wish, gpu.backend, &gpu.sriov) else {
        return None;
    };
    let shares = || sriov.vfs.iter().filter_map(|vf| vf.framebuffer);
    let largest = shares().max().filter(|largest| largest < wanted)?;
    let all: u64 = shares().map(|share| u64::from(share.mib())).sum();
    let needed = u64::from(wanted.mib());
    let instead = match all / needed {
        0 => format!("it has only {all} MiB for all VFs together"),
        most => format!("at most {most} VFs have that: vgpuctl gpu set {} --vfs {most}", gpu.name),
    };
    Some(format!(
        "framebuffer {wanted}: {} has divided its memory into shares of at most {largest}, and a vram_quota of {} bytes would be needed; {instead}",
        gpu.name,
        needed << 20
    ))
}

fn unused(book: &Book, name: &ProfileName) -> Result<(), Refusal> {
    let follow = book.allocations.values().filter(|allocation| allocation.profile == *name);
    let users: Vec<&str> = follow.map(|allocation| allocation.domain.name.as_str()).collect();
    let Some(first) = users.first() else { return Ok(()) };
    let who = allocations(users.len(), "uses", "use");
    Err(Refusal::new(Kind::Conflict, format!("{who} profile {name}: {}", users.join(", ")))
        .hint(format!("vgpuctl detach {first} --profile {name}")))
}

/// Says what a change means for the allocations that follow the profile, or why it cannot be.
pub(super) fn followed(
    existing: &Profile,
    wanted: &Profile,
    followers: usize,
) -> Result<Option<String>, Refusal> {
    if followers == 0 {
        return Ok(None);
    }
    let who = allocations(followers, "follows it", "follow it");
    if existing.wish.device_kind() == wanted.wish.device_kind() {
        return Ok(Some(format!(
            "{who} at the next start of the domain, but for what its first start settled; vgpuctl profile edit says who is affected"
        )));
    }
    Err(Refusal::new(
        Kind::Conflict,
        format!(
            "profile {} is {}, and {who} with such a hostdev: it cannot become {}",
            wanted.name, existing.wish, wanted.wish
        ),
    )
    .hint("make another profile, then detach the domains and attach that one"))
}

/// Writes a number of allocations and what they do.
fn allocations(count: usize, does: &str, do_: &str) -> String {
    if count == 1 { format!("1 allocation {does}") } else { format!("{count} allocations {do_}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Framebuffer;
    use crate::model::fixture::{pf, vf};

    fn profile(wish: Wish) -> Profile {
        let name = "desk".parse().expect("name");
        Profile::new(name, wish)
    }

    #[test]
    fn a_share_that_the_division_does_not_give_is_told_in_bytes_and_in_vfs() {
        let gib = |gib: u32| Framebuffer::from_mib(gib * 1024);
        let share = |index: u32| {
            let found = vf(&format!("0000:03:00.{}", index + 1), "8086:e211");
            crate::model::Vf { index, framebuffer: Some(gib(6)), ..found }
        };
        let gpu = Gpu { backend: BackendKind::Xe, ..pf("a", (0..4).map(share).collect()) };
        let told = |size: u32| share_needed(&Wish::Framebuffer(gib(size)), &gpu);
        assert_eq!(told(6), None);
        let eight = told(8).expect("more than a share");
        assert!(eight.contains("8589934592 bytes") && eight.contains("gpu set a --vfs 3"), "{eight}");
        assert!(told(25).expect("more than all").contains("only 24576 MiB for all VFs"));
        assert_eq!(share_needed(&Wish::Framebuffer(gib(8)), &pf("b", Vec::new())), None, "another road");
    }

    #[test]
    fn allocations_follow_a_changed_wish_of_the_same_kind() {
        let [small, large] = [1024, 2048].map(|mib| profile(Wish::Framebuffer(Framebuffer::from_mib(mib))));
        assert_eq!(followed(&small, &large, 0), Ok(None));
        let note = followed(&small, &large, 1).expect("it can change").expect("a note");
        assert!(note.starts_with("1 allocation follows"), "{note}");
        let exact = profile(Wish::Type("nvidia-558".to_owned()));
        assert!(followed(&small, &exact, 2).expect("it can change").is_some());
    }

    #[test]
    fn a_followed_profile_cannot_ask_for_another_kind_of_hostdev() {
        let mdev = profile(Wish::Type("nvidia-558".to_owned()));
        let vf = profile(Wish::Vf("8086:10ca".parse().expect("id")));
        let refusal = followed(&mdev, &vf, 2).expect_err("an mdev hostdev never becomes a PCI one");
        assert_eq!(refusal.kind, Kind::Conflict);
        assert!(refusal.message.contains("2 allocations follow it"), "{refusal}");
        assert_eq!(followed(&mdev, &vf, 0), Ok(None));
    }
}
