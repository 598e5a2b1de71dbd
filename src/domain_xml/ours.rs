//! Which hostdevs of a domain are ours.

use std::collections::BTreeSet;

use crate::domain_xml::{DomainXml, Hostdev, OwnedSet, Source};
use crate::model::{AllocationId, Device, HookDevice, Kind, one_line};

/// A domain whose hostdevs of ours make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OursError {
    /// An alias with our prefix and no allocation id.
    #[error("hostdev {alias:?} has an alias of vgpud, but {rest:?} is no allocation id")]
    BadAlias {
        /// The alias, cut when long.
        alias: String,
        /// What follows the prefix, cut when long.
        rest: String,
    },
    /// An alias of ours on something that is neither mdev nor VF.
    #[error("hostdev {alias:?} has an alias of vgpud, but names no mdev or VF: {why}")]
    NoDevice {
        /// The alias.
        alias: String,
        /// What it names instead.
        why: String,
    },
    /// One device in two hostdevs.
    #[error("{0} is named by two hostdevs of the domain")]
    DeviceTwice(Device),
    /// One alias on two hostdevs.
    #[error("the alias {0:?} is on two hostdevs of the domain")]
    AliasTwice(String),
}

impl OursError {
    /// Returns what kind of no this is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind::Usage
    }
}

/// Returns the hostdevs that are ours, in the order of the XML: those with our alias, and those without
/// it whose device is in `owned`. The functions that go with a whole GPU follow it and are left out.
///
/// # Errors
/// When a hostdev claims to be ours and names nothing that can be, or the same device or alias is there twice.
pub fn ours(domain: &DomainXml, owned: &OwnedSet) -> Result<Vec<HookDevice>, OursError> {
    let mut found = Vec::new();
    let mut allocations = BTreeSet::new();
    for hostdev in &domain.hostdevs {
        let Some(device) = claim(hostdev, owned)? else { continue };
        if let Some(id) = device.allocation.as_ref().filter(|id| !allocations.insert((*id).clone())) {
            return Err(OursError::AliasTwice(id.alias()));
        }
        found.push(device);
    }
    let ours: BTreeSet<Device> = found.iter().map(|device| device.device).collect();
    let mut seen = BTreeSet::new();
    let mut named = domain.hostdevs.iter().filter_map(|hostdev| hostdev.source.device());
    match named.find(|device| ours.contains(device) && !seen.insert(*device)) {
        Some(device) => Err(OursError::DeviceTwice(device)),
        None => Ok(found),
    }
}

fn claim(hostdev: &Hostdev, owned: &OwnedSet) -> Result<Option<HookDevice>, OursError> {
    let mark = hostdev.alias.as_deref().and_then(|alias| alias.strip_prefix(AllocationId::ALIAS_PREFIX));
    let Some(rest) = mark else {
        let device = hostdev.source.device().filter(|device| owned.contains(*device));
        return Ok(device.map(|device| HookDevice { allocation: None, device }));
    };
    if hostdev.alias.as_deref().is_some_and(AllocationId::is_companion_alias) {
        return Ok(None);
    }
    let alias = || one_line(hostdev.alias.as_deref().unwrap_or_default(), 60);
    let Ok(allocation) = rest.parse::<AllocationId>() else {
        return Err(OursError::BadAlias { alias: alias(), rest: one_line(rest, 60) });
    };
    match &hostdev.source {
        Source::Other(why) => Err(OursError::NoDevice { alias: alias(), why: why.clone() }),
        source => Ok(source.device().map(|device| HookDevice { allocation: Some(allocation), device })),
    }
}
