//! Rules about options of hostdevs and profiles.

use crate::domain_xml::{HostdevDetails, Source};

use super::{Facts, Found, Slice};

/// Collects what is wrong with single hostdevs.
pub(super) fn each(facts: &Facts, wrong: impl Fn(&HostdevDetails, &Slice) -> Option<String>) -> Vec<Found> {
    let all = facts.domains.iter().flat_map(super::Domain::hostdevs);
    all.filter_map(|(place, hostdev, slice)| Some(Found::new(place, wrong(hostdev, slice)?))).collect()
}

pub(super) fn ramfb_display(facts: &Facts) -> Vec<Found> {
    let mut found = each(facts, |hostdev, _| {
        (hostdev.ramfb && !hostdev.display).then(|| "it has ramfb='on' without display='on'".to_owned())
    });
    let profiles = facts.profiles.iter().filter(|profile| profile.ramfb && !profile.display);
    let text = "it asks for ramfb without display";
    found.extend(profiles.map(|profile| Found::new(format!("profile {}", profile.name), text)));
    found
}

pub(super) fn display_graphics(facts: &Facts) -> Vec<Found> {
    let without = facts.domains.iter().filter(|domain| !domain.xml.graphics);
    let shown = without.filter_map(|domain| {
        let (place, ..) = domain.hostdevs().find(|(_, hostdev, _)| hostdev.display)?;
        Some(Found::new(place, "it has display='on', and the domain has no <graphics>"))
    });
    shown.collect()
}

pub(super) fn second_ramfb(facts: &Facts) -> Vec<Found> {
    let second = facts.domains.iter().filter_map(|domain| {
        let (place, ..) = domain.hostdevs().filter(|(_, hostdev, _)| hostdev.ramfb).nth(1)?;
        Some(Found::new(place, "another hostdev of the domain has ramfb='on' already"))
    });
    second.collect()
}

pub(super) fn mdev_model(facts: &Facts) -> Vec<Found> {
    each(facts, |hostdev, slice| {
        let Source::Mdev(_) = hostdev.hostdev.source else { return None };
        let Some(model) = &hostdev.model else { return Some("an mdev needs model='...'".to_owned()) };
        let api = slice.device_api.as_ref()?.replace('_', "-");
        (*model != api).then(|| format!("it has model='{model}', and its type is {api}"))
    })
}

pub(super) fn managed_vendor_vf(facts: &Facts) -> Vec<Found> {
    each(facts, |hostdev, slice| {
        (hostdev.hostdev.managed && slice.vendor_vf).then(|| {
            "it has managed='yes', so libvirt would take the VF from its vendor's driver, which loses it"
                .to_owned()
        })
    })
}

pub(super) fn managed_own_vf(facts: &Facts) -> Vec<Found> {
    each(facts, |hostdev, slice| {
        let pci = matches!(hostdev.hostdev.source, Source::Pci(_));
        (hostdev.hostdev.managed && pci && slice.ours && !slice.vendor_vf).then(|| {
            "it has managed='yes', so libvirt and vgpud would both bind the VF; write managed='no'".to_owned()
        })
    })
}

pub(super) fn unmanaged_host_driver(facts: &Facts) -> Vec<Found> {
    each(facts, |hostdev, slice| {
        let pci = matches!(hostdev.hostdev.source, Source::Pci(_));
        let wrong = pci && !hostdev.hostdev.managed && !slice.ours && slice.vfio == Some(false);
        let driver = slice.driver.as_deref().unwrap_or("no driver");
        wrong.then(|| format!("it has managed='no', and the device is on {driver}, which is no VFIO driver"))
    })
}

pub(super) fn absent(facts: &Facts) -> Vec<Found> {
    each(facts, |hostdev, slice| {
        let device = hostdev.hostdev.source.device()?;
        (slice.exists == Some(false) && !slice.ours).then(|| {
            format!("{device} is not there and is no promise of vgpud's: whoever makes it must do so before the start")
        })
    })
}
