//! Whole GPUs of one domain that shall reach each other: drawn so that they may be told to the guest's driver as peers.

use std::collections::BTreeSet;

use super::Engine;
use crate::model::{
    Allocation, AllocationId, Device, DomainRef, DomainUuid, Kind, PciAddress, Profile, Refusal, Terms,
};
use crate::topology::Clique;

impl Engine {
    /// Draws GPUs that are peers of each other and of those that the domain has by this profile. Tries each GPU as the
    /// first one.
    ///
    /// # Errors
    /// The first reason why two of them are no peers; or that there are not enough.
    pub(super) fn draw_peers(
        &self,
        domain: &DomainRef,
        profile: &Profile,
        missing: usize,
        terms: Terms,
        promise: &dyn Fn(AllocationId, Device) -> Result<Allocation, Refusal>,
    ) -> Result<Vec<Allocation>, Refusal> {
        let seen = self.topology()?;
        let given = self.peers_of(domain.uuid, profile);
        let mut first: BTreeSet<PciAddress> = BTreeSet::new();
        let mut why: Option<Refusal> = None;
        loop {
            let (mut new, mut shut): (Vec<Allocation>, _) = (Vec::new(), first.clone());
            while new.len() < missing {
                let mut named = self.named_vfs();
                let address = match self.draw_vf(domain, profile, &mut named, &new, terms, &shut) {
                    Ok(address) => address,
                    Err(none) => match (given.is_empty(), new.first().and_then(|one| one.device.vf())) {
                        (true, Some(began)) => {
                            why.get_or_insert(none);
                            first.insert(began);
                            break;
                        }
                        _ => return Err(why.unwrap_or(none)),
                    },
                };
                let mut others = given.iter().copied().chain(new.iter().filter_map(|one| one.device.vf()));
                let apart = others.find_map(|other| match Clique::of(&seen, other, address) {
                    Clique::Peers => None,
                    Clique::No(reason) => Some(refusal(profile, other, address, &reason)),
                });
                match apart {
                    None => new.push(promise(self.free_id(&new), Device::Vf(address))?),
                    Some(refusal) => {
                        shut.insert(address);
                        why.get_or_insert(refusal);
                    }
                }
            }
            if new.len() == missing {
                return Ok(new);
            }
        }
    }

    fn peers_of(&self, domain: DomainUuid, profile: &Profile) -> Vec<PciAddress> {
        let ledger = self.ledger();
        let own = ledger.book().of_domain(domain).filter(|one| one.profile == profile.name);
        own.filter_map(|one| one.device.vf()).collect()
    }

    /// Returns the allocations of a domain whose GPUs are peers.
    #[must_use]
    pub fn cliques_of(&self, domain: DomainUuid) -> Vec<AllocationId> {
        let ledger = self.ledger();
        let book = ledger.book();
        let peers = |one: &&Allocation| book.profiles.get(&one.profile).is_some_and(|profile| profile.peers);
        book.of_domain(domain).filter(peers).map(|one| one.id.clone()).collect()
    }
}

fn refusal(profile: &Profile, a: PciAddress, b: PciAddress, reason: &str) -> Refusal {
    let text = format!("profile {} wants peers, and GPUs {a} and {b} {reason}", profile.name);
    Refusal::new(Kind::NoCapacity, text)
        .hint("vgpuctl topology shows how the GPUs are connected")
        .hint(format!("vgpuctl profile edit {} --peers off gives them without the mark", profile.name))
}
