//! May this domain start with these hostdevs? Pure: the book and the request in, the wants or a refusal out.

use crate::ledger::Book;
use crate::model::{Allocation, AllocationState, Device, DomainRef, Kind, Profile, Refusal};
use crate::wire::{Hook, HookDevice};

/// One slice that the start needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The promise, with the domain's name as it is now.
    pub allocation: Allocation,
    /// The profile it follows today.
    pub profile: Profile,
}

/// Checks each hostdev of a `prepare` against what was promised. Hostdevs decide: an allocation that
/// the XML does not name is left out, one that it names must be this domain's and name the same device.
pub(super) fn prepare(book: &Book, hook: &Hook) -> Result<Vec<Wanted>, Refusal> {
    let mut wanted: Vec<Wanted> = Vec::with_capacity(hook.devices.len());
    for device in &hook.devices {
        let one = admit_one(book, hook, device)?;
        if wanted.iter().any(|other| other.allocation.id == one.allocation.id) {
            return Err(Refusal::new(
                Kind::Conflict,
                format!("domain {} names allocation {} twice", hook.domain, one.allocation.id),
            ));
        }
        wanted.push(one);
    }
    Ok(wanted)
}

fn admit_one(book: &Book, hook: &Hook, device: &HookDevice) -> Result<Wanted, Refusal> {
    let found = match &device.allocation {
        Some(id) => book.allocations.get(id),
        // Several domains may name one VF: the domain's own promise first.
        None => book
            .of_domain(hook.domain_uuid)
            .find(|own| own.device == device.device)
            .or_else(|| book.naming(device.device)),
    };
    let Some(allocation) = found else {
        return Err(unknown(hook, device));
    };
    if allocation.domain.uuid != hook.domain_uuid {
        return Err(Refusal::new(
            Kind::Conflict,
            format!(
                "hostdev {} of domain {} is promised to domain {} (allocation {})",
                device.device, hook.domain, allocation.domain.name, allocation.id
            ),
        )
        .hint(format!(
            "give {0} its own: vgpuctl attach {0} --profile {1}, then remove the copied hostdev",
            hook.domain, allocation.profile
        )));
    }
    if allocation.device != device.device {
        return Err(Refusal::new(
            Kind::Conflict,
            format!(
                "hostdev of allocation {} names {}, but {} was promised",
                allocation.id, device.device, allocation.device
            ),
        )
        .hint(format!("vgpuctl detach {0} and vgpuctl attach {0} make it right", hook.domain)));
    }
    let profile = book.profiles.get(&allocation.profile).cloned().ok_or_else(|| {
        Refusal::new(Kind::Internal, format!("allocation {} follows no profile", allocation.id))
    })?;
    let mut allocation = allocation.clone();
    allocation.domain = DomainRef { uuid: hook.domain_uuid, name: hook.domain.clone() };
    allocation.state = AllocationState::Attached;
    allocation.until = None;
    Ok(Wanted { allocation, profile })
}

fn unknown(hook: &Hook, device: &HookDevice) -> Refusal {
    let kind = match device.device {
        Device::Mdev(_) => "mdev",
        Device::Vf(_) => "VF",
    };
    Refusal::new(
        Kind::NotFound,
        format!("domain {} names {kind} {} as ours, but no allocation knows it", hook.domain, device.device),
    )
    .hint(format!("remove that hostdev and type: vgpuctl attach {} --profile NAME", hook.domain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AllocationId, Policy, RunId, Wish};
    use crate::wire::HookOp;

    const UUID: &str = "22222222-2222-4222-8222-222222222222";
    const OTHER: &str = "33333333-3333-4333-8333-333333333333";

    fn device(uuid: &str) -> Device {
        Device::Mdev(uuid.parse().expect("uuid"))
    }

    fn book() -> Book {
        let mut book = Book::default();
        let profile = Profile {
            name: "small".parse().expect("name"),
            wish: Wish::Type("mtty-1".to_owned()),
            class: None,
            policy: Policy::MostFree,
            display: false,
            ramfb: false,
        };
        let allocation = Allocation {
            id: AllocationId::from_bits(1),
            domain: DomainRef { uuid: OTHER.parse().expect("uuid"), name: "old-name".to_owned() },
            profile: profile.name.clone(),
            device: device(UUID),
            state: AllocationState::Leased,
            until: Some(5),
        };
        book.profiles.insert(profile.name.clone(), profile);
        book.allocations.insert(allocation.id.clone(), allocation);
        book
    }

    fn hook(domain: &str, devices: &[(Option<u32>, &str)]) -> Hook {
        Hook {
            op: HookOp::Prepare,
            at: RunId(1),
            domain_uuid: domain.parse().expect("uuid"),
            domain: "web1".to_owned(),
            devices: devices
                .iter()
                .map(|(id, uuid)| HookDevice {
                    allocation: id.map(AllocationId::from_bits),
                    device: device(uuid),
                })
                .collect(),
        }
    }

    #[test]
    fn a_promised_device_is_wanted_under_the_domains_name_of_today() {
        for id in [Some(1), None] {
            let wanted = prepare(&book(), &hook(OTHER, &[(id, UUID)])).expect("admitted");
            assert_eq!(wanted.len(), 1);
            assert_eq!(wanted[0].allocation.domain.name, "web1");
            assert_eq!(wanted[0].allocation.state, AllocationState::Attached);
        }
    }

    #[test]
    fn another_domains_alias_is_refused_with_the_command_to_type() {
        let refusal = prepare(&book(), &hook(UUID, &[(Some(1), UUID)])).expect_err("a clone");
        assert_eq!(refusal.kind, Kind::Conflict);
        assert!(refusal.hints[0].contains("vgpuctl attach web1 --profile small"), "{refusal:?}");
    }

    #[test]
    fn another_uuid_under_our_alias_is_refused() {
        let refusal = prepare(&book(), &hook(OTHER, &[(Some(1), OTHER)])).expect_err("edited");
        assert!(refusal.message.contains(OTHER) && refusal.message.contains(UUID), "{refusal}");
    }

    #[test]
    fn one_allocation_named_twice_is_refused() {
        let refusal = prepare(&book(), &hook(OTHER, &[(Some(1), UUID), (None, UUID)])).expect_err("twice");
        assert!(refusal.message.contains("twice"), "{refusal}");
    }

    #[test]
    fn an_alias_that_nobody_promised_is_not_found() {
        let refusal = prepare(&book(), &hook(OTHER, &[(Some(2), UUID)])).expect_err("unknown");
        assert_eq!(refusal.kind, Kind::NotFound);
    }
}
