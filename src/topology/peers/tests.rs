use super::*;
use crate::model::IommuGroupId;

/// A GPU below bridges, each with whether it redirects; the last word of a bridge is its address.
fn gpu(address: &str, root: &str, bridges: &[(&str, Option<bool>)], group: u32) -> Seen {
    Seen {
        id: format!("pci:{address}").parse().expect("identity"),
        name: address.parse().expect("name"),
        address: address.parse().expect("address"),
        pci: "10de:2330".parse().expect("id"),
        class: 0x03_0200,
        model: "H100".to_owned(),
        root: root.to_owned(),
        bridges: bridges
            .iter()
            .map(|(address, redirects)| Bridge {
                address: address.parse().expect("address"),
                redirects: *redirects,
            })
            .collect(),
        numa_node: Some(0),
        iommu_group: Some(IommuGroupId(group)),
        link: None,
    }
}

const PORT: &str = "0000:40:01.1";
const UP: &str = "0000:41:00.0";

/// Two GPUs below one switch, whose ports redirect or do not.
fn switched(redirects: Option<bool>) -> Observations {
    let below = |address: &str, port: &str, group| {
        gpu(address, "pci0000:40", &[(PORT, Some(true)), (UP, Some(false)), (port, redirects)], group)
    };
    Observations {
        gpus: vec![below("0000:43:00.0", "0000:42:00.0", 1), below("0000:44:00.0", "0000:42:01.0", 2)],
        ..Observations::default()
    }
}

fn only_pair(seen: &Observations) -> Pair {
    describe(seen, Err("absent")).pairs.remove(0)
}

fn clique(seen: &Observations) -> Clique {
    Clique::of(seen, seen.gpus[0].address, seen.gpus[1].address)
}

#[test]
fn levels_are_those_of_nvidia_smi() {
    let near = switched(None).gpus.remove(0);
    let level_to = |bridges: &[(&str, Option<bool>)], root: &str, node: Option<u32>| {
        let other = Seen { numa_node: node, ..gpu("0000:99:00.0", root, bridges, 9) };
        level(&near, &other)
    };
    let at = |address| (address, None);
    let root = "pci0000:40";
    assert_eq!(level_to(&[at(PORT), at(UP), at("0000:42:03.0")], root, Some(0)), Level::Switch);
    let deeper = [at(PORT), at(UP), at("0000:42:03.0"), at("0000:50:00.0"), at("0000:51:00.0")];
    assert_eq!(level_to(&deeper, root, Some(0)), Level::Switches);
    assert_eq!(level_to(&[at("0000:40:03.1")], root, Some(0)), Level::HostBridge);
    assert_eq!(level_to(&[at("0000:80:01.1")], "pci0000:80", Some(0)), Level::Node);
    assert_eq!(level_to(&[at("0000:c0:01.1")], "pci0000:c0", Some(1)), Level::System);
}

#[test]
fn a_switch_that_redirects_nothing_makes_peers() {
    let seen = switched(Some(false));
    assert_eq!(only_pair(&seen).vm[0].possible, Some(true));
    assert_eq!(clique(&seen), Clique::Peers);
}

#[test]
fn a_switch_that_redirects_makes_peers_only_where_the_root_complex_is_known_to_pass_requests_on() {
    let mut seen = switched(Some(true));
    let way = only_pair(&seen).vm.remove(0);
    assert_eq!(way.possible, None);
    assert!(way.reason.contains("pci=disable_acs_redir=0000:42:00.0"), "{}", way.reason);
    assert!(matches!(clique(&seen), Clique::No(why) if why.contains("ACS")));
    seen.host_bridge_forwards = Some(true);
    assert_eq!(clique(&seen), Clique::Peers);
}

#[test]
fn what_is_not_read_is_not_promised() {
    let seen = switched(None);
    assert_eq!(only_pair(&seen).vm[0].possible, None);
    assert!(matches!(clique(&seen), Clique::No(why) if why.contains("root only")));
}

#[test]
fn gpus_of_other_vendors_and_gpus_apart_are_no_clique() {
    let mut seen = switched(Some(false));
    seen.gpus[1].pci = "1002:73bf".parse().expect("id");
    assert!(matches!(clique(&seen), Clique::No(why) if why.contains("NVIDIA")));
    let mut seen = switched(Some(false));
    seen.gpus[1] = gpu("0000:c1:00.0", "pci0000:c0", &[("0000:c0:01.1", Some(false))], 2);
    assert!(matches!(clique(&seen), Clique::No(why) if why.contains("NODE")));
    let gone = "0000:01:00.0".parse().expect("address");
    assert!(matches!(Clique::of(&seen, seen.gpus[0].address, gone), Clique::No(_)));
}

#[test]
fn one_group_is_one_vms_and_no_group_is_nobodys() {
    let mut seen = switched(Some(true));
    seen.gpus[1].iommu_group = Some(IommuGroupId(1));
    let way = only_pair(&seen).vm.remove(0);
    assert!(way.possible == Some(true) && way.reason.contains("only one VM"), "{way:?}");
    seen.gpus[1].iommu_group = None;
    assert_eq!(only_pair(&seen).vm[0].possible, Some(false));
}

#[test]
fn nvlink_is_what_the_library_says_and_unknown_without_it() {
    let seen = switched(Some(false));
    let state = |nvlinks| PairState {
        a: seen.gpus[1].address,
        b: seen.gpus[0].address,
        read: Some("ok".to_owned()),
        write: None,
        nvlinks,
    };
    let ways = |nvlinks| {
        let all = [state(nvlinks)];
        describe(&seen, Ok(&all)).pairs.remove(0).vm.iter().map(|one| one.possible).collect::<Vec<_>>()
    };
    assert_eq!(ways(Some(4)), [Some(true), Some(true), Some(true)]);
    assert_eq!(ways(Some(0)), [Some(true), Some(false), Some(false)]);
    assert_eq!(ways(None), [Some(true), None, None]);
    assert_eq!(describe(&seen, Err("absent")).nvml.as_deref(), Some("absent"));
}

#[test]
fn a_narrow_link_and_a_resting_one_are_told_apart() {
    let link = |speed: &str, width| Link {
        speed: speed.to_owned(),
        width,
        max_speed: "16.0 GT/s PCIe".to_owned(),
        max_width: 16,
    };
    assert!(link_note(&link("16.0 GT/s PCIe", 8)).is_some_and(|note| note.contains("8 of 16 lanes")));
    assert!(link_note(&link("2.5 GT/s PCIe", 16)).is_some_and(|note| note.contains("idle")));
    assert_eq!(link_note(&link("16.0 GT/s PCIe", 16)), None);
}
