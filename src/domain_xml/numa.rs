//! On which NUMA nodes a domain's memory is, as far as its XML says.

use std::collections::BTreeSet;

use roxmltree::Node;

/// The most nodes that are kept; Linux has at most 1024.
const MOST: u32 = 1024;

/// Reads the nodes of `<numatune>`: of the whole memory, else of all of its parts. Empty when nothing is said, or
/// nothing that makes sense: then nothing is known.
pub(super) fn nodes(domain: Node<'_, '_>) -> BTreeSet<u32> {
    let plain = |node: &Node<'_, '_>| node.is_element() && node.tag_name().namespace().is_none();
    let tunes = domain.children().filter(plain).filter(|child| child.has_tag_name("numatune"));
    let parts: Vec<Node<'_, '_>> = tunes.flat_map(|tune| tune.children()).filter(plain).collect();
    let named = |name: &str| -> BTreeSet<u32> {
        let sets =
            parts.iter().filter(|part| part.has_tag_name(name)).filter_map(|part| part.attribute("nodeset"));
        sets.filter_map(nodeset).flatten().collect()
    };
    let whole = named("memory");
    if whole.is_empty() { named("memnode") } else { whole }
}

/// Reads libvirt's form of a set: `0-3,^2,5`; `None` when it is not one.
fn nodeset(text: &str) -> Option<BTreeSet<u32>> {
    let mut nodes = BTreeSet::new();
    for part in text.split(',') {
        let part = part.trim();
        if let Some(without) = part.strip_prefix('^') {
            nodes.remove(&number(without)?);
            continue;
        }
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        nodes.extend(first..=last);
    }
    Some(nodes)
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|number| *number < MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(inside: &str) -> Vec<u32> {
        let xml = format!("<domain>{inside}</domain>");
        let document = roxmltree::Document::parse(&xml).expect("XML");
        nodes(document.root_element()).into_iter().collect()
    }

    #[test]
    fn the_memory_of_the_domain_counts_and_else_that_of_its_cells() {
        let memory = "<memory mode='strict' nodeset='0-3,^2,5'/>";
        let cells = "<memnode cellid='0' nodeset='1'/><memnode cellid='1' nodeset='3'/>";
        assert_eq!(read(&format!("<numatune>{cells}{memory}</numatune>")), [0, 1, 3, 5]);
        assert_eq!(read(&format!("<numatune>{cells}</numatune>")), [1, 3]);
    }

    #[test]
    fn what_makes_no_sense_is_not_known() {
        for nodeset in ["", "a", "1-", "-1", "9999999999", "0-99999", "1,,2", "3-1"] {
            assert!(
                read(&format!("<numatune><memory nodeset='{nodeset}'/></numatune>")).is_empty(),
                "{nodeset}"
            );
        }
        assert!(read("<numatune><memory mode='strict'/></numatune>").is_empty());
        assert!(read("<metadata><numatune><memory nodeset='1'/></numatune></metadata>").is_empty());
    }
}
