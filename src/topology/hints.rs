//! What a domain's definition can say so that its memory is near its GPUs. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{GpuPlace, Topology};
use crate::model::DeviceName;

/// The first bus number of the expanders that are proposed: far above what libvirt gives out by itself.
const FIRST_BUS: u32 = 160;

/// Bus numbers between two expanders: room for ports and devices below each.
const BUSES: u32 = 32;

/// What may be put into a definition, by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hints {
    /// The GPUs by the NUMA node that they are on; those of which the host does not say are left out.
    pub nodes: BTreeMap<u32, Vec<DeviceName>>,
    /// `<numatune>`, which takes the guest's memory from these nodes; empty without nodes.
    pub numatune: String,
    /// One `pcie-expander-bus` a node, each for a NUMA cell of the guest; empty unless there are several nodes.
    pub controllers: Vec<String>,
}

/// Says what brings memory near the GPUs with these names.
#[must_use]
pub fn hints(topology: &Topology, names: &[DeviceName]) -> Hints {
    let mut nodes: BTreeMap<u32, Vec<DeviceName>> = BTreeMap::new();
    let own = |gpu: &&GpuPlace| names.contains(&gpu.name);
    for gpu in topology.gpus.iter().filter(own) {
        if let Some(node) = gpu.numa_node {
            nodes.entry(node).or_default().push(gpu.name.clone());
        }
    }
    let set: Vec<String> = nodes.keys().map(ToString::to_string).collect();
    let numatune = match set.as_slice() {
        [] => String::new(),
        [node] => format!("<numatune>\n  <memory mode='strict' nodeset='{node}'/>\n</numatune>\n"),
        several => {
            let cells = several.iter().enumerate();
            let cells = cells
                .map(|(cell, node)| format!("  <memnode cellid='{cell}' mode='strict' nodeset='{node}'/>\n"));
            format!("<numatune>\n{}</numatune>\n", cells.collect::<String>())
        }
    };
    let controller = |cell: u32| {
        let bus = FIRST_BUS + cell * BUSES;
        format!(
            "<controller type='pci' model='pcie-expander-bus'>\n  <model name='pxb-pcie'/>\n  <target busNr='{bus}'>\n    \
             <node>{cell}</node>\n  </target>\n</controller>\n"
        )
    };
    let count = u32::try_from(nodes.len()).unwrap_or(0);
    // A bus number has 8 bits.
    let fits = (2..=(256 - FIRST_BUS) / BUSES).contains(&count);
    let controllers = if fits { (0..count).map(controller).collect() } else { Vec::new() };
    Hints { nodes, numatune, controllers }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(nodes: &[Option<u32>]) -> (Topology, Vec<DeviceName>) {
        let place = |(at, node): (usize, &Option<u32>)| GpuPlace {
            id: format!("virtual:gpu{at}").parse().expect("identity"),
            name: format!("gpu{at}").parse().expect("name"),
            model: String::new(),
            path: Vec::new(),
            numa_node: *node,
            numa_distances: Vec::new(),
            iommu_group: None,
            link: None,
            link_note: None,
        };
        let gpus: Vec<GpuPlace> = nodes.iter().enumerate().map(place).collect();
        let names = gpus.iter().map(|gpu| gpu.name.clone()).collect();
        (Topology { gpus, pairs: Vec::new(), nvml: None }, names)
    }

    #[test]
    fn gpus_of_one_node_want_the_memory_of_that_node() {
        let (topology, names) = topology(&[Some(1), Some(1), Some(0)]);
        let found = hints(&topology, &names[..2]);
        assert!(found.numatune.contains("<memory mode='strict' nodeset='1'/>"), "{}", found.numatune);
        assert_eq!((found.nodes[&1].len(), found.controllers.len()), (2, 0));
    }

    #[test]
    fn gpus_of_two_nodes_want_a_cell_and_an_expander_each() {
        let (topology, names) = topology(&[Some(2), Some(0), None]);
        let found = hints(&topology, &names);
        assert!(found.numatune.contains("cellid='0' mode='strict' nodeset='0'"), "{}", found.numatune);
        assert!(found.numatune.contains("cellid='1' mode='strict' nodeset='2'"), "{}", found.numatune);
        assert!(found.controllers[1].contains("busNr='192'"), "{}", found.controllers[1]);
    }

    #[test]
    fn a_host_that_does_not_say_gets_no_advice() {
        let (topology, names) = topology(&[None]);
        assert_eq!(hints(&topology, &names).numatune, "");
        assert_eq!(hints(&topology, &[]).nodes.len(), 0);
    }
}
