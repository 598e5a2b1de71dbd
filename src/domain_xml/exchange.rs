//! Exchanging the VF address of one hostdev in a definition, byte by byte.
//!
//! Only the digits of the source address change. Quotes, the order of attributes, white space, comments and
//! entities elsewhere stay as they are, and so does each number that is the same in both addresses. What is
//! not exactly one place is refused.

use std::ops::Range;

use roxmltree::{Attribute, Node};

use crate::domain_xml::read::{hostdev, parse};
use crate::domain_xml::{DomainXmlError, Hostdev, Source, read};
use crate::model::{AllocationId, Kind, PciAddress, one_line};

/// One address to be exchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Whose hostdev: by our alias, or where no hostdev has it, by the address alone.
    pub allocation: AllocationId,
    /// The VF that it must name.
    pub from: PciAddress,
    /// The VF that it shall name.
    pub to: PciAddress,
}

/// Why an address cannot be exchanged. The text is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// It is no domain.
    #[error(transparent)]
    Xml(#[from] DomainXmlError),
    /// No hostdev, or more than one, could be meant.
    #[error("{found} hostdevs name VF {from} for allocation {allocation}, not one")]
    NotOne {
        /// Whose hostdev was looked for.
        allocation: AllocationId,
        /// Where it should point.
        from: PciAddress,
        /// How many there are.
        found: usize,
    },
    /// The hostdev with our alias names something else.
    #[error("the hostdev of allocation {allocation} no longer names VF {from}")]
    NamesOther {
        /// Whose hostdev.
        allocation: AllocationId,
        /// What it should have named.
        from: PciAddress,
    },
    /// The domain names the new VF already.
    #[error("the domain names VF {0} already")]
    NamedAlready(PciAddress),
    /// Its source is written in a way that has no single place for the address.
    #[error("the hostdev of allocation {allocation} cannot be changed: {why}")]
    Odd {
        /// Whose hostdev.
        allocation: AllocationId,
        /// A clause.
        why: String,
    },
}

impl ExchangeError {
    /// Returns what kind of no this is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind::Conflict
    }
}

/// Returns the definition with the addresses exchanged, all or none.
///
/// # Errors
/// See [`ExchangeError`].
pub fn exchange(xml: &str, exchanges: &[Exchange]) -> Result<String, ExchangeError> {
    let before = read(xml.as_bytes())?;
    let mut patches: Vec<(Range<usize>, String)> = Vec::new();
    for one in exchanges {
        let taken = before.hostdevs.iter().any(|other| other.source == Source::Pci(one.to));
        if taken || exchanges.iter().filter(|other| other.to == one.to).count() > 1 {
            return Err(ExchangeError::NamedAlready(one.to));
        }
        patches.extend(patches_of(xml, one)?);
    }
    patches.sort_by_key(|(range, _)| range.start);
    let mut text = String::with_capacity(xml.len() + 16);
    let mut at = 0;
    for (range, digits) in patches {
        text.push_str(xml.get(at..range.start).unwrap_or_default());
        text.push_str(&digits);
        at = range.end;
    }
    text.push_str(xml.get(at..).unwrap_or_default());
    verified(text, &before.hostdevs, exchanges)
}

/// Reads the result again: everything but the exchanged sources must be as it was.
fn verified(text: String, before: &[Hostdev], exchanges: &[Exchange]) -> Result<String, ExchangeError> {
    let after = read(text.as_bytes())?;
    let wanted = before.iter().map(|old| {
        let exchanged = exchanges.iter().find(|one| old.source == Source::Pci(one.from));
        exchanged.map_or_else(|| old.clone(), |one| Hostdev { source: Source::Pci(one.to), ..old.clone() })
    });
    match exchanges.first() {
        Some(one) if !wanted.eq(after.hostdevs.iter().cloned()) => Err(ExchangeError::Odd {
            allocation: one.allocation.clone(),
            why: "the result does not read as it should".to_owned(),
        }),
        _ => Ok(text),
    }
}

/// Finds the one hostdev and the digits to be written.
fn patches_of(xml: &str, one: &Exchange) -> Result<Vec<(Range<usize>, String)>, ExchangeError> {
    let document = parse(xml).map_err(DomainXmlError::Malformed)?;
    let root = document.root_element();
    let hostdevs: Vec<Node<'_, '_>> = elements(root, "devices")
        .flat_map(|devices| elements(devices, "hostdev").collect::<Vec<_>>())
        .collect();
    let alias = one.allocation.alias();
    let names_from = |node: &Node<'_, '_>| hostdev(*node).source == Source::Pci(one.from);
    let has_alias = |node: &Node<'_, '_>| {
        elements(*node, "alias").any(|alias_of| alias_of.attribute("name") == Some(&alias))
    };
    let not_one = |found| ExchangeError::NotOne { allocation: one.allocation.clone(), from: one.from, found };
    let ours: Vec<Node<'_, '_>> = hostdevs.iter().copied().filter(has_alias).collect();
    let named: Vec<Node<'_, '_>> = hostdevs.iter().copied().filter(names_from).collect();
    match (ours.as_slice(), named.as_slice()) {
        ([ours], [named]) if ours == named => digits(*ours, one),
        // The alias is gone, as after an edit by hand: the address tells.
        ([], [named]) if !is_of_another(*named) => digits(*named, one),
        ([_], [] | [_]) => {
            Err(ExchangeError::NamesOther { allocation: one.allocation.clone(), from: one.from })
        }
        (ours, named) => Err(not_one(ours.len().max(named.len()))),
    }
}

fn is_of_another(node: Node<'_, '_>) -> bool {
    hostdev(node).alias.is_some_and(|alias| alias.starts_with(AllocationId::ALIAS_PREFIX))
}

fn elements<'a, 'i>(node: Node<'a, 'i>, name: &'static str) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(move |child| child.has_tag_name(name))
}

/// Returns the places of the four numbers in a hostdev's source with what they become.
fn digits(hostdev: Node<'_, '_>, one: &Exchange) -> Result<Vec<(Range<usize>, String)>, ExchangeError> {
    let odd = |why: String| ExchangeError::Odd { allocation: one.allocation.clone(), why };
    let sources: Vec<Node<'_, '_>> = elements(hostdev, "source").collect();
    let addresses: Vec<Node<'_, '_>> =
        sources.iter().flat_map(|source| elements(*source, "address").collect::<Vec<_>>()).collect();
    let ([_], [address]) = (sources.as_slice(), addresses.as_slice()) else {
        let text = format!("it has {} sources with {} addresses", sources.len(), addresses.len());
        return Err(odd(text));
    };
    if elements(hostdev, "alias").count() > 1 {
        return Err(odd("it has several aliases".to_owned()));
    }
    let (from, to) = (one.from, one.to);
    let numbers = [
        ("domain", from.segment, to.segment),
        ("bus", from.bus.into(), to.bus.into()),
        ("slot", from.device.into(), to.device.into()),
        ("function", from.function.into(), to.function.into()),
    ];
    let mut patches = Vec::new();
    for (name, before, after) in numbers.into_iter().filter(|(_, before, after)| before != after) {
        let found = address.attributes().find(|attribute| attribute.name() == name);
        let attribute = found.ok_or_else(|| odd(format!("its source address has no {name}")))?;
        let style = Style::of(&attribute, before)
            .ok_or_else(|| odd(format!("its {name} is written as {:?}", one_line(attribute.value(), 40))))?;
        patches.push((attribute.range_value(), style.write(after)));
    }
    Ok(patches)
}

/// How a number is written, so that another is written alike.
enum Style {
    Hex { digits: usize, upper: bool, prefix: String },
    Octal,
    Decimal,
}

impl Style {
    /// Reads the style of an attribute whose value is `number`.
    fn of(attribute: &Attribute<'_, '_>, number: u32) -> Option<Self> {
        let text = attribute.value();
        if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            let upper = digits.bytes().any(|byte| byte.is_ascii_uppercase());
            let prefix = text.get(..2).unwrap_or("0x").to_owned();
            let same = u32::from_str_radix(digits, 16) == Ok(number);
            return same.then_some(Self::Hex { digits: digits.len(), upper, prefix });
        }
        let octal = text.len() > 1 && text.starts_with('0');
        let same = u32::from_str_radix(text, if octal { 8 } else { 10 }) == Ok(number);
        same.then_some(if octal { Self::Octal } else { Self::Decimal })
    }

    fn write(&self, number: u32) -> String {
        match self {
            Self::Hex { digits, upper: true, prefix } => format!("{prefix}{number:0digits$X}"),
            Self::Hex { digits, upper: false, prefix } => format!("{prefix}{number:0digits$x}"),
            Self::Octal if number > 0 => format!("0{number:o}"),
            Self::Octal => "00".to_owned(),
            Self::Decimal => number.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
