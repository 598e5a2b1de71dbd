//! A profile that is changed while allocations follow it: who is affected, and guaranteed slices made anew.

use std::collections::BTreeMap;
use std::time::Instant;

use super::guaranteed::is_guaranteed;
use super::profiles::followed;
use super::terms::DomainNow;
use super::{Engine, OPERATION};
use crate::ledger::{Change, Need};
use crate::model::{Allocation, DomainUuid, HostSnapshot, Kind, Profile, Refusal, RunId};
use crate::profile;
use crate::wire::{self, Affected, EditProfile};

/// What libvirt said of its domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    /// Before it was asked.
    pub asked_at: RunId,
    /// Whether each runs; one that is not in here is not defined.
    pub active: BTreeMap<DomainUuid, bool>,
}

impl Activity {
    fn of(&self, domain: DomainUuid) -> DomainNow {
        let active = self.active.get(&domain).copied().unwrap_or(false);
        DomainNow { asked_at: self.asked_at, active }
    }
}

fn check(
    was: &Profile,
    wanted: &Profile,
    current: Option<&Profile>,
    followers: usize,
) -> Result<(), Refusal> {
    match current {
        None => Err(Refusal::new(Kind::NotFound, format!("no profile {}", wanted.name))),
        Some(current) if current != was => Err(Refusal::new(
            Kind::Conflict,
            format!("profile {} was changed by somebody else meanwhile", wanted.name),
        )
        .hint(format!("vgpuctl profile show {}, then edit it again", wanted.name))),
        Some(current) => followed(current, wanted, followers).map(drop),
    }
}

impl Engine {
    /// Changes a profile and says who is affected; `activity` is `None` when libvirt did not answer. A guaranteed slice that is no longer what the profile asks
    /// for is made anew at once when its domain is off, else when it stops.
    ///
    /// # Errors
    /// When the profile is not valid or no longer what the caller saw, when hostdevs that domains have would
    /// become another kind, or when the disk says no: nothing has changed.
    pub fn edit_profile(
        &self,
        edit: &EditProfile,
        activity: Option<&Activity>,
    ) -> Result<wire::Edited, Refusal> {
        let EditProfile { was, wanted, dry_run } = edit;
        profile::validate(wanted).map_err(|error| Refusal::from_error(Kind::Usage, &error))?;
        if was.name != wanted.name {
            return Err(Refusal::new(Kind::Usage, "the name of a profile does not change"));
        }
        let snapshot = self.fresh(Instant::now() + OPERATION)?;
        let followers: Vec<Allocation> = {
            let ledger = self.ledger();
            let book = ledger.book();
            check(was, wanted, book.profiles.get(&wanted.name), book.followers(&wanted.name))?;
            book.allocations.values().filter(|one| one.profile == wanted.name).cloned().collect()
        };
        if was == wanted {
            return Ok(wire::Edited {
                change: wire::Change::Unchanged,
                notes: Vec::new(),
                affected: Vec::new(),
            });
        }
        if !dry_run {
            self.commit_if(vec![Change::PutProfile(wanted.clone())], Need::Promise, |book| {
                check(was, wanted, book.profiles.get(&wanted.name), book.followers(&wanted.name))
            })?;
        }
        let tell = |one: &Allocation| self.affect(one, edit, &snapshot, activity);
        let mut affected: Vec<Affected> = followers.iter().map(tell).collect();
        affected.sort_by(|a, b| (&a.domain, &a.allocation).cmp(&(&b.domain, &b.allocation)));
        let (change, notes) = match dry_run {
            true => (wire::Change::Planned, Vec::new()),
            false => (wire::Change::Done, self.serves_now(wanted)),
        };
        Ok(wire::Edited { change, notes, affected })
    }

    fn affect(
        &self,
        one: &Allocation,
        edit: &EditProfile,
        snapshot: &HostSnapshot,
        activity: Option<&Activity>,
    ) -> Affected {
        let now = activity.map(|activity| activity.of(one.domain.uuid));
        let mut effects = profile::effects(&edit.was, &edit.wanted, one, snapshot);
        if is_guaranteed(one) {
            effects.extend(self.renew_edited(one, edit, snapshot, now));
        }
        Affected {
            allocation: one.id.clone(),
            domain: one.domain.name.clone(),
            running: now.map(|now| now.active),
            effects,
        }
    }

    /// Makes a guaranteed slice anew, or says when that is.
    fn renew_edited(
        &self,
        one: &Allocation,
        edit: &EditProfile,
        snapshot: &HostSnapshot,
        now: Option<DomainNow>,
    ) -> Option<String> {
        let mut want = self.wanted(one).ok()?;
        want.profile.clone_from(&edit.wanted);
        if !self.is_outdated(&want, snapshot) {
            return None;
        }
        if now.is_none_or(|now| now.active) {
            return Some("its guaranteed slice is made anew when the domain stops".to_owned());
        }
        if edit.dry_run {
            return Some("its guaranteed slice would be made anew now".to_owned());
        }
        Some(match self.renew_off(one, now) {
            Ok(true) => "its guaranteed slice was made anew".to_owned(),
            Ok(false) => "its guaranteed slice is made anew when the domain stops".to_owned(),
            Err(refusal) => format!("its guaranteed slice stays as it was until the next start: {refusal}"),
        })
    }

    /// Returns false when the domain was started since libvirt was asked.
    fn renew_off(&self, one: &Allocation, now: Option<DomainNow>) -> Result<bool, Refusal> {
        let deadline = Instant::now() + OPERATION;
        let _turn = self.domain_turn(one.domain.uuid, deadline)?;
        let record = self.records(std::slice::from_ref(&one.id)).into_iter().next();
        match now {
            Some(now) if now.is_off(record.as_ref()) => self.renew_in_turn(one, deadline),
            _ => Ok(false),
        }
    }
}
