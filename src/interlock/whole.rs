//! Rules about several hostdevs together, of one domain or of all.

use std::collections::BTreeMap;

use crate::model::Device;

use super::{Facts, Found};

/// Whose hostdevs name a device, by the domain's number in the facts.
fn naming(facts: &Facts) -> BTreeMap<Device, Vec<usize>> {
    let mut naming: BTreeMap<Device, Vec<usize>> = BTreeMap::new();
    for (at, domain) in facts.domains.iter().enumerate() {
        let devices = domain.xml.hostdevs.iter().filter_map(|hostdev| hostdev.hostdev.source.device());
        devices.for_each(|device| naming.entry(device).or_default().push(at));
    }
    naming
}

pub(super) fn two_domains(facts: &Facts) -> Vec<Found> {
    let shared = naming(facts).into_iter().filter_map(|(device, mut at)| {
        at.dedup();
        let names: Vec<String> =
            at.iter().filter_map(|at| facts.domains.get(*at)).map(super::Domain::place).collect();
        let text =
            format!("{device} is named by {}: only one of them can run at a time", names.join(" and "));
        (names.len() > 1).then(|| Found::new(names[0].clone(), text))
    });
    shared.collect()
}

pub(super) fn twice(facts: &Facts) -> Vec<Found> {
    let twice = naming(facts).into_iter().filter_map(|(device, at)| {
        let again = at.windows(2).find(|pair| pair[0] == pair[1])?[0];
        let place = facts.domains.get(again)?.place();
        Some(Found::new(place, format!("two of its hostdevs name {device}")))
    });
    twice.collect()
}
