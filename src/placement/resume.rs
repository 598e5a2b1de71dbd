//! Which VFs a guest gets whose memory waits in an image: the XML in the image names some, and that is long
//! ago. Its addresses may still be exchanged, so a VF that cannot be served now is no reason to refuse.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::model::{AllocationId, HostSnapshot, PciAddress, Vf};
use crate::placement::offer::vf_is_free;
use crate::placement::{Barred, NoPlacement, Owners, Want, vf};
use crate::profile::candidates;

/// One slice of a guest that is resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// What it wants; the device is what the image names.
    pub want: Want,
    /// Whether its VF may be another one.
    pub may_move: bool,
}

/// Chooses another VF for each want whose VF cannot be served now: one that the fewest allocations name, on
/// the PF with the most left, then one that is on its VFIO driver already; ties by address. `named` counts
/// the allocations that name each VF. Wants that are not in the answer keep what they name.
///
/// # Errors
/// When a VF cannot be served, and no other one may or can: then none is exchanged.
pub fn resume(
    resumed: &[Resumed],
    snapshot: &HostSnapshot,
    owners: &Owners,
    barred: &[Barred],
    named: &BTreeMap<PciAddress, u32>,
) -> Result<BTreeMap<AllocationId, PciAddress>, NoPlacement> {
    let serves = |want: &Want, address: PciAddress| vf::take(want, address, snapshot, owners, barred).is_ok();
    let keeps = |one: &&Resumed| one.want.device.vf().is_none_or(|address| serves(&one.want, address));
    let (kept, moved): (Vec<&Resumed>, Vec<&Resumed>) = resumed.iter().partition(keeps);
    let mut taken: BTreeSet<PciAddress> = kept.iter().filter_map(|one| one.want.device.vf()).collect();
    let options = |one: &Resumed| -> Vec<(PciAddress, Key)> {
        let profile = one.want.bounds.narrow(&one.want.profile);
        let mut options = Vec::new();
        for matched in candidates(&profile, snapshot) {
            let Ok(fit) = &matched.fit else { continue };
            let vfs = fit.vfs();
            let users = |vf: &Vf| named.get(&vf.address).copied().unwrap_or(0);
            let left = vfs.iter().filter(|vf| users(vf) == 0 && vf_is_free(vf, owners)).count();
            let open = vfs.iter().filter(|vf| serves(&one.want, vf.address));
            options.extend(
                open.map(|vf| (vf.address, (users(vf), Reverse(left), Reverse(vf.vfio), vf.address))),
            );
        }
        options.sort_by_key(|(_, key)| *key);
        options
    };
    let mut movable: Vec<(&Resumed, Vec<(PciAddress, Key)>)> =
        moved.iter().filter(|one| one.may_move).map(|one| (*one, options(one))).collect();
    // Who has the least to choose from chooses first.
    movable.sort_by_key(|(one, options)| (options.len(), one.want.allocation.clone()));
    let mut chosen = BTreeMap::new();
    for (one, options) in movable {
        let free = options.into_iter().map(|(address, _)| address).find(|address| !taken.contains(address));
        if let Some(address) = free {
            taken.insert(address);
            chosen.insert(one.want.allocation.clone(), address);
        }
    }
    if chosen.len() == moved.len() {
        return Ok(chosen);
    }
    let wants: Vec<Want> = resumed.iter().map(|one| one.want.clone()).collect();
    // What was chosen for the others does not matter: the refusal tells of the VFs that the image names.
    match vf::named(&wants, snapshot, owners, barred) {
        Err(no) => Err(no),
        Ok(_) => Ok(BTreeMap::new()),
    }
}

/// What decides between VFs: users, left on the PF, bound, address.
type Key = (u32, Reverse<usize>, Reverse<bool>, PciAddress);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::{holder, host, pci, pci_id, pf, profile, uuid, vf};
    use crate::model::{Device, Kind, Wish};
    use crate::profile::Bounds;

    const NIC: &str = "8086:10ca";
    const A: &str = "0000:01:10.0";
    const B: &str = "0000:01:10.2";
    const C: &str = "0000:02:10.0";

    fn want(number: u32, device: Device) -> Resumed {
        let profile = match device {
            Device::Vf(_) => profile("nic", Wish::Vf(pci_id(NIC))),
            Device::Mdev(_) => profile("small", Wish::Type("mtty-1".to_owned())),
        };
        let allocation = AllocationId::from_bits(number);
        Resumed { want: Want { allocation, profile, bounds: Bounds::default(), device }, may_move: true }
    }

    fn named_vf(number: u32, address: &str) -> Resumed {
        want(number, Device::Vf(pci(address)))
    }

    fn held(address: &str) -> Vf {
        Vf { holders: vec![holder(Some("other"))], ..vf(address, NIC) }
    }

    fn answer(
        resumed: &[Resumed],
        snapshot: &HostSnapshot,
    ) -> Result<Vec<(AllocationId, PciAddress)>, NoPlacement> {
        resume(resumed, snapshot, &Owners::new(), &[], &BTreeMap::new())
            .map(|found| found.into_iter().collect())
    }

    #[test]
    fn what_can_be_served_stays_and_mdevs_have_no_address() {
        let snapshot = host(vec![pf("a", vec![vf(A, NIC), vf(B, NIC)])]);
        let resumed = [named_vf(1, A), want(2, Device::Mdev(uuid(1)))];
        assert_eq!(answer(&resumed, &snapshot), Ok(vec![]));
    }

    #[test]
    fn a_vf_that_is_held_or_gone_becomes_one_of_the_pf_with_the_most_left() {
        let snapshot = host(vec![
            pf("a", vec![held(A), vf(B, NIC)]),
            pf("b", vec![vf(C, NIC), vf("0000:02:10.2", NIC)]),
        ]);
        for gone in [A, "0000:09:10.0"] {
            let expected = vec![(AllocationId::from_bits(1), pci(C))];
            assert_eq!(answer(&[named_vf(1, gone)], &snapshot), Ok(expected), "{gone}");
        }
    }

    #[test]
    fn no_vf_is_given_twice_nor_one_that_the_domain_keeps() {
        let snapshot = host(vec![pf("a", vec![held(A), vf(B, NIC), vf("0000:01:10.4", NIC)])]);
        let resumed = [named_vf(1, A), named_vf(2, "0000:09:10.0"), named_vf(3, B)];
        let refusal = answer(&resumed, &snapshot).expect_err("two are wanted and one is left");
        assert_eq!(refusal.kind(), Kind::NoCapacity);
        let resumed = [named_vf(1, A), named_vf(3, B)];
        assert_eq!(answer(&resumed, &snapshot), Ok(vec![(AllocationId::from_bits(1), pci("0000:01:10.4"))]));
    }

    #[test]
    fn one_that_others_name_is_the_last_choice() {
        let snapshot = host(vec![pf("a", vec![held(A), vf(B, NIC), vf("0000:01:10.4", NIC)])]);
        let named = BTreeMap::from([(pci(B), 1)]);
        let found = resume(&[named_vf(1, A)], &snapshot, &Owners::new(), &[], &named).expect("room");
        assert_eq!(found.values().collect::<Vec<_>>(), [&pci("0000:01:10.4")]);
    }

    #[test]
    fn what_may_not_move_is_refused_with_the_reason() {
        let snapshot = host(vec![pf("a", vec![held(A), vf(B, NIC)])]);
        let bound = Resumed { may_move: false, ..named_vf(1, A) };
        let refusal = answer(&[bound], &snapshot).expect_err("held").to_string();
        assert!(refusal.contains(A) && refusal.contains("held"), "{refusal}");
    }

    #[test]
    fn a_pin_keeps_it_on_its_gpu_and_the_id_stays_what_was_settled() {
        let snapshot =
            host(vec![pf("a", vec![held(A)]), pf("b", vec![vf(C, NIC), vf("0000:02:10.2", "1af4:1041")])]);
        let mut pinned = named_vf(1, A);
        pinned.want.bounds.gpu = Some("virtual:a".parse().expect("id"));
        answer(&[pinned], &snapshot).expect_err("the other GPU is out of bounds");
        let mut settled = named_vf(1, A);
        settled.want.profile = profile("nic", Wish::Vf(pci_id("1af4:1041")));
        settled.want.bounds.exact = Some(Wish::Vf(pci_id(NIC)));
        assert_eq!(answer(&[settled], &snapshot), Ok(vec![(AllocationId::from_bits(1), pci(C))]));
    }
}
