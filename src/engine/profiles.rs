//! Profiles: stored, listed, explained, deleted while nobody follows them.

use std::time::Duration;

use super::Engine;
use crate::ledger::{Change, Need};
use crate::model::{Kind, Profile, ProfileName, Refusal};
use crate::placement;
use crate::profile;
use crate::wire;

impl Engine {
    /// Stores a new profile. The same content again changes nothing; another content under a taken name is refused.
    ///
    /// # Errors
    /// When it is not valid, its name is taken, or the disk says no.
    pub fn create_profile(&self, wanted: &Profile) -> Result<wire::Changed, Refusal> {
        profile::validate(wanted).map_err(|error| Refusal::from_error(Kind::Usage, &error))?;
        let existing = self.ledger().book().profiles.get(&wanted.name).cloned();
        match existing {
            Some(existing) if existing == *wanted => {
                Ok(wire::Changed { change: wire::Change::Unchanged, notes: Vec::new() })
            }
            Some(_) => Err(Refusal::new(
                Kind::Conflict,
                format!("profile {} exists with another content", wanted.name),
            )
            .hint(format!(
                "vgpuctl profile show {0}; delete it first with: vgpuctl profile delete {0}",
                wanted.name
            ))),
            None => {
                self.commit(vec![Change::PutProfile(wanted.clone())], Need::Promise)?;
                let notes = self.serves_now(wanted);
                Ok(wire::Changed { change: wire::Change::Done, notes })
            }
        }
    }

    fn serves_now(&self, profile: &Profile) -> Vec<String> {
        let Ok(explanation) = self.explain(&profile.name) else { return Vec::new() };
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
        let users: Vec<String> = {
            let ledger = self.ledger();
            let follow = ledger.book().allocations.values().filter(|allocation| allocation.profile == *name);
            follow.map(|allocation| allocation.domain.name.clone()).collect()
        };
        if !users.is_empty() {
            return Err(Refusal::new(
                Kind::Conflict,
                format!("profile {name} is used by {} allocations: {}", users.len(), users.join(", ")),
            )
            .hint(format!("vgpuctl detach {} --profile {name}", users[0])));
        }
        self.commit(vec![Change::DeleteProfile(name.clone())], Need::GiveBack)?;
        Ok(wire::Changed { change: wire::Change::Done, notes: Vec::new() })
    }

    /// Says which parents can serve a profile now, and for each that cannot, why.
    ///
    /// # Errors
    /// When there is no such profile or the host cannot be read.
    pub fn explain(&self, name: &ProfileName) -> Result<wire::Explanation, Refusal> {
        let profile = self.profile(name)?;
        let (snapshot, _) = self.recent()?;
        let candidates = placement::explain(&profile, &snapshot, &self.owners(), &[]);
        Ok(wire::Explanation { profile, candidates })
    }

    pub(super) fn recent(&self) -> Result<(std::sync::Arc<crate::model::HostSnapshot>, Duration), Refusal> {
        // Long enough for a reading that goes well, short enough that a reader hardly notices one that does not.
        const PATIENCE: Duration = Duration::from_millis(40);
        self.inner.scanner.recent(PATIENCE).ok_or_else(|| {
            Refusal::new(Kind::Busy, "the host's devices are still being read for the first time")
        })
    }
}
