//! The index of a definition: a metadata element that lists the allocations its hostdevs show, for people and for
//! tools that do not know the aliases. Hostdevs decide and the index explains: nothing here is read as the truth.
//!
//! ```xml
//! <metadata>
//!   <vgpud:allocations xmlns:vgpud="urn:vgpud:allocations:1">
//!     <vgpud:allocation id="5f0c2a91" profile="ai-large"/>
//!   </vgpud:allocations>
//! </metadata>
//! ```

use std::fmt::Write as _;

use roxmltree::Node;

use crate::domain_xml::mark::{Edited, indent_before, replace};
use crate::domain_xml::read::{self, children};
use crate::model::{AllocationId, ProfileName};

/// The namespace of the element. libvirt keeps one element a namespace.
pub const INDEX_NAMESPACE: &str = "urn:vgpud:allocations:1";

/// The prefix of the namespace.
pub const INDEX_PREFIX: &str = "vgpud";

/// One allocation in the index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Indexed {
    /// Which.
    pub id: AllocationId,
    /// The profile it was asked for by.
    pub profile: ProfileName,
}

/// Reads the index of a definition, sorted. `None` when it has none, or one that says anything else than
/// allocations: to be written anew.
#[must_use]
pub fn index(xml: &str) -> Option<Vec<Indexed>> {
    let document = read::parse(xml).ok()?;
    let element = children(document.root_element(), "metadata").next().and_then(ours)?;
    let mut found = element.children().filter(Node::is_element).map(indexed).collect::<Option<Vec<_>>>()?;
    found.sort();
    Some(found)
}

fn indexed(node: Node<'_, '_>) -> Option<Indexed> {
    let named = node.tag_name().name() == "allocation";
    let id = node.attribute("id").filter(|_| named)?;
    Some(Indexed { id: id.parse().ok()?, profile: node.attribute("profile")?.parse().ok()? })
}

/// Writes the element without its namespace, which libvirt adds; `None` when there is nothing to list.
#[must_use]
pub fn index_element(indexed: &[Indexed]) -> Option<String> {
    let mut text = String::from("<allocations>");
    for one in indexed {
        // Neither can hold anything that XML would have to escape.
        write!(text, "<allocation id='{}' profile='{}'/>", one.id, one.profile).ok()?;
    }
    text.push_str("</allocations>");
    (!indexed.is_empty()).then_some(text)
}

/// Puts the index into a definition, in place of the one it has, or takes that out; every other byte stays.
#[must_use]
pub fn with_index(xml: &str, indexed: &[Indexed]) -> Edited {
    if index(xml).unwrap_or_default() == indexed {
        return Edited::Same;
    }
    let Ok(document) = read::parse(xml) else { return Edited::Same };
    let metadata = children(document.root_element(), "metadata").next();
    let element = index_element(indexed).map(|text| {
        let text = text.replace("</", "</vgpud:").replace("<allocation", "<vgpud:allocation");
        text.replacen("<vgpud:allocations", &format!("<vgpud:allocations xmlns:vgpud='{INDEX_NAMESPACE}'"), 1)
    });
    let element = element.unwrap_or_default();
    if let Some(old) = metadata.and_then(ours) {
        let mut range = old.range();
        if element.is_empty() {
            range.start -= indent_before(xml, range.start).len();
        }
        return Edited::Changed(replace(xml, range, &element));
    }
    match (metadata, children(document.root_element(), "uuid").next()) {
        (Some(metadata), _) => match metadata.last_child() {
            Some(last) => Edited::Changed(replace(xml, last.range().end..last.range().end, &element)),
            None => {
                Edited::Changed(replace(xml, metadata.range(), &format!("<metadata>{element}</metadata>")))
            }
        },
        (None, Some(uuid)) => {
            let end = uuid.range().end;
            let indent = indent_before(xml, uuid.range().start);
            Edited::Changed(replace(xml, end..end, &format!("{indent}<metadata>{element}</metadata>")))
        }
        (None, None) => Edited::Same,
    }
}

fn ours<'a, 'i>(metadata: Node<'a, 'i>) -> Option<Node<'a, 'i>> {
    metadata.children().find(|node| node.has_tag_name((INDEX_NAMESPACE, "allocations")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<Indexed> {
        let one = |bits, profile: &str| Indexed {
            id: AllocationId::from_bits(bits),
            profile: profile.parse().expect("a name"),
        };
        vec![one(1, "small"), one(2, "ai-large")]
    }

    fn changed(edited: Edited) -> String {
        match edited {
            Edited::Changed(xml) => xml,
            Edited::Same => panic!("nothing changed"),
        }
    }

    #[test]
    fn an_index_comes_changes_and_goes_and_what_others_wrote_stays() {
        for metadata in ["", "<metadata/>", "<metadata>\n    <x:a xmlns:x='urn:x'>1</x:a>\n  </metadata>"] {
            let before = format!("<domain>\n  <name>a</name>\n  <uuid>u</uuid>\n  {metadata}\n</domain>\n");
            let one = changed(with_index(&before, &two()[..1]));
            assert_eq!(index(&one), Some(two()[..1].to_vec()), "{one}");
            let both = changed(with_index(&one, &two()));
            assert_eq!(index(&both), Some(two()), "{both}");
            assert_eq!(with_index(&both, &two()), Edited::Same);
            assert_eq!(both.matches(INDEX_NAMESPACE).count(), 1, "{both}");
            assert_eq!(both.contains("<x:a xmlns:x='urn:x'>1</x:a>"), metadata.contains("x:a"), "{both}");
            let none = changed(with_index(&both, &[]));
            assert_eq!(index(&none), None, "{none}");
            let bare = |xml: &str| xml.replace("<metadata></metadata>", "").replace("<metadata/>", "");
            let words = |xml: &str| bare(xml).split_whitespace().collect::<String>();
            assert_eq!(words(&none), words(&before));
        }
    }

    #[test]
    fn an_index_that_says_anything_else_is_none() {
        let with = |inner: &str| {
            format!(
                "<domain><metadata><v:allocations xmlns:v='{INDEX_NAMESPACE}'>{inner}</v:allocations></metadata></domain>"
            )
        };
        assert_eq!(index(&with("")), Some(Vec::new()));
        for odd in ["<v:allocation/>", "<v:other id='1' profile='a'/>", "<v:allocation id='x' profile='a'/>"]
        {
            assert_eq!(index(&with(odd)), None, "{odd}");
        }
        assert_eq!(index("<domain><metadata><allocations/></metadata></domain>"), None, "of no namespace");
        assert_eq!(index("no xml"), None);
        assert_eq!(with_index("no xml", &two()), Edited::Same);
    }
}
