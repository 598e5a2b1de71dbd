//! Who could be restarted or stopped to make room on this host, and where they are to start then.

use std::collections::BTreeMap;
use std::time::Instant;

use super::admit::Wanted;
use super::capacity::weights_of;
use super::guaranteed::is_guaranteed;
use super::rules::Ground;
use super::{Engine, OPERATION};
use crate::ledger::Book;
use crate::model::{
    Allocation, AllocationId, AllocationState, BackendKind, DeviceName, DomainUuid, Gpu, GpuId, HostSnapshot,
    Kind, ProfileName, Realized, Refusal,
};
use crate::placement::{self, Party, RoomPlan, Site, Tenant};

pub use crate::placement::{Disturbance, Disturbed};

/// While this lives, a domain starts only where it says.
#[derive(Debug)]
pub struct Steering {
    engine: Engine,
    domain: DomainUuid,
}

impl Drop for Steering {
    fn drop(&mut self) {
        self.engine.steer(self.domain, None);
    }
}

/// Says why a running domain must not be touched. Pure.
fn stays(own: &[(&Allocation, Option<&Realized>)]) -> Option<&'static str> {
    let any = |fault: fn(&Allocation) -> bool| own.iter().any(|(one, _)| fault(one));
    let has_vgpu_on_vf = |(one, record): &(&Allocation, Option<&Realized>)| {
        one.device.vf().is_some() && record.is_some_and(|record| record.mdev_type.is_some())
    };
    if own.iter().any(has_vgpu_on_vf) {
        return Some("has vGPUs on VFs, whose place its definition names: no plan moves them");
    }
    if any(|one| one.device.vf().is_some()) {
        return Some("has VFs, which all have one size: restarting it makes no room");
    }
    if any(is_guaranteed) {
        return Some("has a guaranteed slice, which stays while it is off");
    }
    if any(|one| one.state != AllocationState::Attached) {
        return Some("has a slice that its definition does not show");
    }
    own.iter().any(|(_, record)| record.is_none()).then_some("does not have all of its slices now")
}

/// What is known of the running domains.
#[derive(Debug, Default)]
struct Running {
    tenants: Vec<Tenant>,
    /// Those that must not be touched, a sentence each.
    kept: Vec<String>,
}

fn running(book: &Book, ground: &Ground<'_>) -> Running {
    let mut found = Running::default();
    let mut domains: BTreeMap<DomainUuid, Vec<(&Allocation, Option<&Realized>)>> = BTreeMap::new();
    for one in book.allocations.values() {
        domains.entry(one.domain.uuid).or_default().push((one, book.realized.get(&one.id)));
    }
    for own in domains.into_values().filter(|own| own.iter().any(|(_, record)| record.is_some())) {
        let Some((first, _)) = own.first() else { continue };
        if let Some(why) = stays(&own) {
            found.kept.push(format!("domain {} is left alone: it {why}", first.domain.name));
            continue;
        }
        let wanted: Vec<Wanted> = own
            .iter()
            .filter_map(|(one, _)| {
                let profile = book.profiles.get(&one.profile)?.clone();
                Some(Wanted { allocation: (*one).clone(), profile })
            })
            .collect();
        found.tenants.push(Tenant {
            domain: first.domain.clone(),
            priority: wanted.iter().map(|one| one.profile.rules.priority).max().unwrap_or(0),
            party: party(&wanted, ground),
            slices: own.iter().map(|(one, _)| one.device).collect(),
            parents: own
                .iter()
                .filter_map(|(_, record)| record.map(|record| record.parent.clone()))
                .collect(),
        });
    }
    found
}

fn party(wanted: &[Wanted], ground: &Ground<'_>) -> Party {
    Party {
        wants: wanted.iter().map(|one| ground.want(one)).collect(),
        ties: wanted.iter().map(|one| ground.tie(one)).collect(),
    }
}

/// A plan with what else is to be known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The plan.
    pub plan: RoomPlan,
    /// The PF that has room already, where the slice would be a VF or a whole GPU: which one, an attach decides.
    pub fits_on: Option<DeviceName>,
    /// One sentence each.
    pub notes: Vec<String>,
    /// What the mix cannot use, before and after, in MiB.
    pub fragmented_mib: Option<(u64, u64)>,
}

/// Returns the device on which a VF or a whole GPU can be had now. Plans choose for devices that have a kind already, and
/// a slice that nobody has has none.
fn has_room(want: &placement::Want, site: Site<'_>) -> Option<DeviceName> {
    let decision = placement::weigh(want, None, site.snapshot, site.owners, site.barred);
    let chosen = decision.chosen?;
    let by_vf = |gpu: &&Gpu| gpu.name == chosen && gpu.backend != BackendKind::Mdev;
    site.snapshot.gpus.iter().find(by_vf).map(|gpu| gpu.name.clone())
}

impl Engine {
    /// Plans restarts after which one slice of a profile fits.
    ///
    /// # Errors
    /// When there is no such profile, the host cannot be read, or no plan makes it fit.
    pub fn plan_room(&self, name: &ProfileName) -> Result<Planned, Refusal> {
        let profile = self.profile(name)?;
        self.plan(|engine, ground, running, site| {
            let request = Party {
                wants: vec![engine.any_want(&profile, ground)],
                ties: vec![placement::Tie::default()],
            };
            let plan = placement::make_room(&request, &running.tenants, Disturbance::Restart, site);
            let fits_on = if plan.is_none() { has_room(&request.wants[0], site) } else { None };
            if fits_on.is_some() {
                return Ok(Planned {
                    plan: RoomPlan::default(),
                    fits_on,
                    notes: Vec::new(),
                    fragmented_mib: None,
                });
            }
            let plan = plan.ok_or_else(|| {
                no_plan(&format!("one more slice of profile {name}"), "restarts", &running.kept)
            })?;
            Ok(Planned { plan, fits_on: None, notes: running.kept, fragmented_mib: None })
        })
    }

    /// Plans restarts that make the host less fragmented for its mix of requests.
    ///
    /// # Errors
    /// When host or history cannot be read.
    pub fn plan_defrag(&self) -> Result<Planned, Refusal> {
        let book = self.book();
        let (weights, _) = self.mix(&book)?;
        self.plan(|_, ground, running, site| {
            let mix = weights_of(&book, &weights, ground);
            let (plan, before, after) = placement::defragment(&mix, &running.tenants, site);
            Ok(Planned { plan, fits_on: None, notes: running.kept, fragmented_mib: Some((before, after)) })
        })
    }

    /// Plans which domains of preemptible profiles and lesser priority to stop, so that a domain can start.
    ///
    /// # Errors
    /// When no such plan makes it fit.
    pub fn plan_preemption(&self, domain: DomainUuid) -> Result<Planned, Refusal> {
        let wanted = self.wanted_of(domain);
        let priority = wanted.iter().map(|one| one.profile.rules.priority).max().unwrap_or(0);
        let book = self.book();
        let may_end = |tenant: &Tenant| {
            let mut own =
                book.of_domain(tenant.domain.uuid).filter_map(|one| book.profiles.get(&one.profile));
            tenant.priority < priority && own.all(|profile| profile.rules.preemptible)
        };
        self.plan(|_, ground, mut running, site| {
            running.tenants.retain(|tenant| may_end(tenant));
            let request = party(&wanted, ground);
            let plan = placement::make_room(&request, &running.tenants, Disturbance::Stop, site);
            let asked = format!("a start of priority {priority}");
            let what = "stops of domains whose profiles are preemptible and of lesser priority";
            let plan = plan.ok_or_else(|| no_plan(&asked, what, &[]))?;
            Ok(Planned { plan, fits_on: None, notes: Vec::new(), fragmented_mib: None })
        })
    }

    fn plan(
        &self,
        decide: impl FnOnce(&Self, &Ground<'_>, Running, Site<'_>) -> Result<Planned, Refusal>,
    ) -> Result<Planned, Refusal> {
        let snapshot = self.fresh(Instant::now() + OPERATION)?;
        let (owners, barred) = (self.owners(&snapshot), self.bars_of_unfinished(&snapshot));
        let ground = self.ground(&snapshot);
        let running = running(&self.book(), &ground);
        decide(self, &ground, running, Site { snapshot: &snapshot, owners: &owners, barred: &barred })
    }

    /// Says that the next start of a domain is to be on these GPUs only.
    #[must_use]
    pub fn steering(&self, domain: DomainUuid, to: &[placement::Choice]) -> Steering {
        let gpus = to.iter().map(|choice| (choice.allocation.clone(), choice.gpu.clone())).collect();
        self.steer(domain, Some(gpus));
        Steering { engine: self.clone(), domain }
    }

    /// Returns whether slices of these allocations exist.
    #[must_use]
    pub fn has_slices(&self, domain: DomainUuid) -> bool {
        let ledger = self.ledger();
        let book = ledger.book();
        book.of_domain(domain).any(|one| book.realized.contains_key(&one.id))
    }

    /// Returns where the slices of a domain are.
    #[must_use]
    pub fn parents_of(&self, domain: DomainUuid) -> Vec<crate::model::DeviceName> {
        let ledger = self.ledger();
        let book = ledger.book();
        let records = book.of_domain(domain).filter_map(|one| book.realized.get(&one.id));
        records.map(|record| record.parent.clone()).collect()
    }
}

fn no_plan(asked: &str, what: &str, kept: &[String]) -> Refusal {
    let most = placement::MOST_DISTURBED;
    let refusal =
        Refusal::new(Kind::NoCapacity, format!("no {what} make room for {asked}, at most {most} of them"))
            .hint("vgpuctl capacity says what is in the way");
    kept.iter().take(4).fold(refusal, |refusal, one| refusal.hint(one.clone()))
}

/// Shuts every GPU but the one where an allocation is to start.
pub(super) fn steer_gates(gates: &mut crate::profile::Gates, to: Option<&GpuId>, snapshot: &HostSnapshot) {
    let Some(to) = to else { return };
    for gpu in snapshot.gpus.iter().filter(|gpu| gpu.id != *to) {
        let gate = gates.entry(gpu.id.clone()).or_default();
        gate.shut.get_or_insert_with(|| "is not where the plan under way puts it".to_owned());
    }
}

/// Where the allocations of domains are to start.
pub(super) type Steered = BTreeMap<DomainUuid, BTreeMap<AllocationId, GpuId>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::vf_allocation;
    use crate::model::{CapacityMode, Device, MdevUuid, Terms};

    #[test]
    fn what_a_restart_would_not_move_is_left_alone() {
        let nic = vf_allocation(1, 1, "0000:01:10.0");
        let device = Device::Mdev(MdevUuid(uuid::Uuid::from_u128(1)));
        let plain = Allocation { device, ..nic.clone() };
        let terms = Terms { mode: CapacityMode::Guaranteed, ..Terms::default() };
        let guaranteed = Allocation { terms, ..plain.clone() };
        let leased = Allocation { state: AllocationState::Leased, ..plain.clone() };
        for (one, says) in
            [(&nic, "VFs"), (&guaranteed, "guaranteed"), (&leased, "definition"), (&plain, "all of its")]
        {
            assert!(stays(&[(one, None)]).is_some_and(|why| why.contains(says)), "{says}");
        }
    }
}
