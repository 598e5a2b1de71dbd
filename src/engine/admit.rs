//! May this domain start with these hostdevs? Pure: the book and the request in, the wants or a refusal out.

use crate::ledger::Book;
use crate::model::{Allocation, AllocationState, Device, DomainRef, Kind, Profile, Refusal};
use crate::placement::Want;
use crate::profile::{Bounds, SavedImage};
use crate::wire::{Hook, HookDevice};

/// One slice that the start needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The promise, with the domain's name as it is now.
    pub allocation: Allocation,
    /// The profile it follows today.
    pub profile: Profile,
}

impl Wanted {
    /// Says what binds it beside its profile.
    pub(super) fn bounds(&self) -> Bounds {
        let Allocation { terms, settled, saved, .. } = &self.allocation;
        let image = if *saved { SavedImage::Waits } else { SavedImage::None };
        Bounds::of(&self.profile, *terms, settled.as_ref(), image).for_device(self.allocation.device)
    }

    /// Returns it as placement takes it.
    pub(super) fn want(&self) -> Want {
        Want {
            allocation: self.allocation.id.clone(),
            profile: self.profile.clone(),
            bounds: self.bounds(),
            device: self.allocation.device,
        }
    }
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

/// As [`prepare`], for a guest that comes from another host: what this host did not promise is not known here.
pub(super) fn incoming(book: &Book, hook: &Hook) -> Result<Vec<Wanted>, Refusal> {
    let promised = |device: &HookDevice| {
        let own = |one: &Allocation| match &device.allocation {
            Some(id) => one.id == *id,
            None => one.device == device.device,
        };
        book.of_domain(hook.domain_uuid).any(own)
    };
    match hook.devices.iter().find(|device| !promised(device)) {
        None => prepare(book, hook),
        Some(device) => Err(Refusal::new(
            Kind::NotFound,
            format!(
                "incoming migration of domain {} is refused: this host promised it no {}",
                hook.domain, device.device
            ),
        )
        .hint(format!(
            "migrate it without its vGPU hostdevs, then: vgpuctl attach {} --profile NAME",
            hook.domain
        ))),
    }
}

fn admit_one(book: &Book, hook: &Hook, device: &HookDevice) -> Result<Wanted, Refusal> {
    let found = match &device.allocation {
        Some(id) => book.allocations.get(id),
        // Several domains may name one VF: the domain's own promise first.
        None => book
            .of_domain(hook.domain_uuid)
            .find(|own| own.may_name(device.device))
            .or_else(|| book.naming(device.device)),
    };
    let Some(allocation) = found else {
        return Err(unknown(hook, device));
    };
    if allocation.domain.uuid != hook.domain_uuid {
        return Err(of_another(hook, allocation, device));
    }
    // The XML counts: whether a VF that it names can be served is asked of the host, not of the book.
    let exchanged = allocation.device.vf().and(device.device.vf());
    if allocation.device != device.device && exchanged.is_none() {
        return Err(Refusal::new(
            Kind::Conflict,
            format!(
                "hostdev of allocation {} names {}, but {} was promised",
                allocation.id, device.device, allocation.device
            ),
        )
        .hint(format!(
            "write {} back with virsh edit, or take it as it is: vgpuctl disown {}, then vgpuctl adopt {}",
            allocation.device, allocation.id, hook.domain
        )));
    }
    let profile = book.profiles.get(&allocation.profile).cloned().ok_or_else(|| {
        Refusal::new(Kind::Internal, format!("allocation {} follows no profile", allocation.id))
    })?;
    let mut allocation = exchanged.map_or_else(|| allocation.clone(), |vf| allocation.named(vf));
    allocation.domain = DomainRef { uuid: hook.domain_uuid, name: hook.domain.clone() };
    allocation.state = AllocationState::Attached;
    allocation.until = None;
    Ok(Wanted { allocation, profile })
}

/// A copied hostdev, as virt-clone makes it; or the domain itself under a new UUID, because its XML has none.
fn of_another(hook: &Hook, allocation: &Allocation, device: &HookDevice) -> Refusal {
    let owner = &allocation.domain;
    if owner.name == hook.domain {
        return Refusal::new(
            Kind::Conflict,
            format!(
                "hostdev {} is promised to domain {} with UUID {}, and this one has {}",
                device.device, owner.name, owner.uuid, hook.domain_uuid
            ),
        )
        .hint(format!(
            "its XML must say <uuid>{}</uuid>: without it libvirt makes up another one each time",
            owner.uuid
        ));
    }
    let remove = match &device.allocation {
        Some(id) => format!("virsh detach-device-alias {} {} --config", hook.domain, id.alias()),
        None => format!("remove the copied hostdev: virsh edit {}", hook.domain),
    };
    Refusal::new(
        Kind::Conflict,
        format!(
            "hostdev {} of domain {} is promised to domain {} (allocation {})",
            device.device, hook.domain, owner.name, allocation.id
        ),
    )
    .hint(format!(
        "give {0} its own: vgpuctl attach {0} --profile {1}, then {remove}",
        hook.domain, allocation.profile
    ))
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
    .hint(format!(
        "vgpuctl adopt --rebuild makes it known again; or remove that hostdev and type: vgpuctl attach {} --profile NAME",
        hook.domain
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AllocationId, Pointing, RunId, Terms, Wish};
    use crate::wire::HookOp;

    const UUID: &str = "22222222-2222-4222-8222-222222222222";
    const OTHER: &str = "33333333-3333-4333-8333-333333333333";

    fn device(uuid: &str) -> Device {
        Device::Mdev(uuid.parse().expect("uuid"))
    }

    fn book() -> Book {
        let mut book = Book::default();
        let profile = Profile::new("small".parse().expect("name"), Wish::Type("mtty-1".to_owned()));
        let allocation = Allocation {
            companions: Vec::new(),
            id: AllocationId::from_bits(1),
            domain: DomainRef { uuid: OTHER.parse().expect("uuid"), name: "old-name".to_owned() },
            profile: profile.name.clone(),
            device: device(UUID),
            state: AllocationState::Leased,
            until: Some(5),
            saved: false,
            terms: Terms::default(),
            settled: None,
            owner: None,
            pointing: Pointing::default(),
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
            nodes: std::collections::BTreeSet::new(),
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
    fn the_copied_hostdev_is_named_for_its_removal() {
        let refusal = prepare(&book(), &hook(UUID, &[(Some(1), UUID)])).expect_err("a clone");
        assert!(
            refusal.hints[0].contains("virsh detach-device-alias web1 ua-vgpud-00000001 --config"),
            "{refusal:?}"
        );
        let refusal = prepare(&book(), &hook(UUID, &[(None, UUID)])).expect_err("a clone without aliases");
        assert!(refusal.hints[0].contains("virsh edit web1"), "{refusal:?}");
    }

    #[test]
    fn a_domain_of_the_same_name_under_a_new_uuid_is_told_which_uuid_to_write() {
        let same_name = Hook { domain: "old-name".to_owned(), ..hook(UUID, &[(Some(1), UUID)]) };
        let refusal = prepare(&book(), &same_name).expect_err("no fixed UUID");
        assert!(refusal.message.contains(OTHER) && refusal.message.contains(UUID), "{refusal:?}");
        assert!(refusal.hints[0].contains(&format!("<uuid>{OTHER}</uuid>")), "{refusal:?}");
    }

    #[test]
    fn another_vf_under_our_alias_counts_as_the_xml_says() {
        let mut book = book();
        let one = book.allocations.get_mut(&AllocationId::from_bits(1)).expect("it");
        one.device = Device::Vf("0000:01:10.0".parse().expect("address"));
        let mut hook = hook(OTHER, &[(Some(1), UUID)]);
        hook.devices[0].device = Device::Vf("0000:01:10.2".parse().expect("address"));
        let wanted = prepare(&book, &hook).expect("admitted");
        assert_eq!(wanted[0].allocation.device, hook.devices[0].device);
        hook.devices[0].device = device(UUID);
        prepare(&book, &hook).expect_err("a VF never becomes an mdev");
    }

    #[test]
    fn an_incoming_guest_is_only_taken_with_what_was_promised_to_it() {
        for id in [Some(1), None] {
            incoming(&book(), &hook(OTHER, &[(id, UUID)])).expect("it was here before");
        }
        for (domain, id) in [(OTHER, 2), (UUID, 1)] {
            let refusal = incoming(&book(), &hook(domain, &[(Some(id), UUID)])).expect_err("unknown");
            assert!(refusal.message.starts_with("incoming migration of domain web1 is refused"), "{refusal}");
            assert!(refusal.hints[0].contains("vgpuctl attach web1 --profile"), "{refusal:?}");
        }
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
