//! Who made what is not ours, where it can be told.

use crate::inventory::Definitions;
use crate::ledger::Book;
use crate::model::{Device, DeviceName, HostSnapshot, MdevUuid};
use crate::placement;

/// Says who made an mdev that is not ours; `None` when nothing tells: by hand, with `mdevctl start` and with
/// `virsh nodedev-create` they look the same.
pub(super) fn maker(definitions: &Definitions, parent: &DeviceName, uuid: MdevUuid) -> Option<String> {
    let all = definitions.of(uuid);
    let here = all.iter().find(|definition| definition.parent == *parent);
    match (here, all.first()) {
        (Some(definition), _) if definition.auto => Some("mdevctl autostart".to_owned()),
        (Some(_), _) => Some("mdevctl".to_owned()),
        (None, Some(other)) => Some(format!("defined in mdevctl for {}", other.parent)),
        (None, None) => None,
    }
}

/// What somebody does to keep mdevctl from making an mdev.
pub(super) fn undefine(uuid: MdevUuid) -> String {
    format!("mdevctl undefine --uuid {uuid} keeps mdevctl from making it")
}

/// Returns the owners of foreign mdevs whose maker is known.
pub(super) fn owners(
    book: &Book,
    snapshot: &HostSnapshot,
    definitions: &Definitions,
) -> Vec<(Device, placement::Owner)> {
    let ours = |uuid| {
        let device = Device::Mdev(uuid);
        book.handmade.contains_key(&uuid) || book.realized.values().any(|record| record.device == device)
    };
    let mdevs =
        snapshot.parents().flat_map(|(_, parent)| parent.mdevs.iter().map(move |mdev| (parent, mdev)));
    let foreign = mdevs.filter(|(_, mdev)| !definitions.of(mdev.uuid).is_empty() && !ours(mdev.uuid));
    foreign
        .filter_map(|(parent, mdev)| {
            let maker = maker(definitions, &parent.name, mdev.uuid)?;
            Some((Device::Mdev(mdev.uuid), placement::Owner::Foreign(maker)))
        })
        .collect()
}
