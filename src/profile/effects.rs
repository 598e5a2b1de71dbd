//! What a changed profile means for an allocation that follows it.

use std::collections::BTreeSet;

use crate::model::{Allocation, HostSnapshot, Profile};
use crate::profile::{Bounds, Fit, SavedImage, candidates};

/// The types that a profile can have within bounds on this host.
fn types(profile: &Profile, bounds: &Bounds, snapshot: &HostSnapshot) -> BTreeSet<String> {
    let within = candidates(&bounds.narrow(profile), snapshot);
    let within = within.iter().filter(|matched| bounds.excludes(matched).is_none());
    let name = |fit: &Fit<'_>| match fit {
        Fit::Type(offered) => offered.id.to_string(),
        Fit::Vgpu { vgpu_type, .. } => vgpu_type.id.to_string(),
        Fit::Whole([function]) => format!("whole GPU {}", function.id),
        Fit::Vfs(vfs) => vfs.first().map_or_else(String::new, |vf| format!("VF {}", vf.id)),
    };
    within.filter_map(|matched| matched.fit.as_ref().ok().map(name)).collect()
}

/// Says what changes for an allocation when `was` becomes `is`, one clause each; nothing changes when there
/// is none. Pure.
#[must_use]
pub fn effects(was: &Profile, is: &Profile, allocation: &Allocation, snapshot: &HostSnapshot) -> Vec<String> {
    let image = if allocation.saved { SavedImage::Waits } else { SavedImage::None };
    let bounds = |of: &Profile| Bounds::of(of, allocation.terms, allocation.settled.as_ref(), image);
    let (before, after) = (bounds(was), bounds(is));
    let mut effects = Vec::new();
    match (&before.exact, &after.exact) {
        (_, Some(exact)) if was.wish != is.wish => {
            effects.push(format!("sticky: stays {exact}, settled at its first start"));
        }
        (None, Some(exact)) => effects.push(format!("from now on it stays {exact}")),
        (_, Some(_)) => {}
        (_, None) if before.narrow(was).wish != after.narrow(is).wish => {
            let wish = after.narrow(is).wish;
            let found = types(is, &after, snapshot);
            effects.push(if found.is_empty() {
                format!("next start: {wish}, which nothing on this host can serve")
            } else {
                let found: Vec<String> = found.into_iter().collect();
                format!("next start: {wish} ({})", found.join(" or "))
            });
        }
        (_, None) if before.vendor != after.vendor => effects.push(match &after.vendor {
            Some(vendor) => format!("from now on it stays on {vendor}"),
            None => "next start: any vendor".to_owned(),
        }),
        (_, None) => {}
    }
    if was.weight != is.weight {
        effects.push(match is.weight {
            Some(weight) => format!("next start: weight {weight}, where its GPU can weigh one slice"),
            None => "next start: no weight".to_owned(),
        });
    }
    if was.parameters != is.parameters {
        effects.push(match &is.parameters {
            Some(parameters) => format!("next start: plugin parameters {parameters}, on NVIDIA's GPUs"),
            None => "next start: no plugin parameters".to_owned(),
        });
    }
    if (was.display, was.ramfb) != (is.display, is.ramfb) {
        effects.push("its hostdev keeps the display it has until it is detached and attached".to_owned());
    }
    effects
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::{gpu, host, mdev_type, parent, profile, type_id, uuid};
    use crate::model::{
        AllocationId, AllocationState, Device, DomainRef, Float, Pointing, Settled, Terms, Wish,
    };

    fn allocation(settled: bool) -> Allocation {
        Allocation {
            companions: Vec::new(),
            id: AllocationId::from_bits(1),
            domain: DomainRef {
                uuid: "11111111-1111-4111-8111-111111111111".parse().expect("uuid"),
                name: "web1".to_owned(),
            },
            profile: "desk".parse().expect("name"),
            device: Device::Mdev(uuid(1)),
            state: AllocationState::Attached,
            until: None,
            saved: false,
            terms: Terms::default(),
            settled: settled.then(|| Settled {
                gpu: "virtual:a".parse().expect("id"),
                mdev_type: Some(type_id("t-1")),
                vf_id: None,
            }),
            owner: None,
            pointing: Pointing::default(),
        }
    }

    fn of_type(id: &str, float: Float) -> Profile {
        Profile { float, ..profile("desk", Wish::Type(id.to_owned())) }
    }

    fn told(was: &Profile, is: &Profile, settled: bool) -> String {
        let types = vec![mdev_type("t-1", 1024, 1), mdev_type("t-2", 2048, 1)];
        let snapshot = host(vec![gpu("a", vec![parent("a", types)])]);
        effects(was, is, &allocation(settled), &snapshot).join("; ")
    }

    #[test]
    fn what_was_settled_stays_and_what_was_not_follows() {
        let (one, two) = (of_type("t-1", Float::Parent), of_type("t-2", Float::Parent));
        assert!(told(&one, &two, true).starts_with("sticky: stays type t-1"), "{}", told(&one, &two, true));
        assert_eq!(told(&one, &two, false), "next start: type t-2 (t-2)");
        let nowhere = of_type("t-9", Float::Parent);
        assert!(told(&one, &nowhere, false).contains("nothing on this host"));
        assert_eq!(told(&one, &one, true), "");
    }

    #[test]
    fn a_profile_that_lets_the_type_float_changes_it() {
        let (one, two) = (of_type("t-1", Float::Parent), of_type("t-2", Float::Type));
        assert_eq!(told(&one, &two, true), "next start: type t-2 (t-2)");
        assert_eq!(told(&two, &of_type("t-2", Float::Parent), true), "from now on it stays type t-1");
        let any = of_type("t-2", Float::Vendor);
        assert_eq!(told(&two, &any, true), "next start: any vendor");
    }

    #[test]
    fn a_hostdev_that_is_written_keeps_its_display() {
        let one = of_type("t-1", Float::Parent);
        let shown = Profile { display: true, ..one.clone() };
        assert!(told(&one, &shown, true).contains("keeps the display"));
        let weighed = Profile { weight: Some(20.try_into().expect("a weight")), ..one.clone() };
        assert!(told(&one, &weighed, true).starts_with("next start: weight 20"));
        assert_eq!(told(&weighed, &one, true), "next start: no weight");
        let uvm = Profile { parameters: "enable_uvm=1".parse().ok(), ..one.clone() };
        assert!(told(&one, &uvm, true).starts_with("next start: plugin parameters enable_uvm=1"));
        assert_eq!(told(&uvm, &one, true), "next start: no plugin parameters");
    }
}
