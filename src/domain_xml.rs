//! A domain's XML: which hostdevs it has, which of them are ours, and the hostdev that is written into it.
//!
//! XML that comes in is hostile: it has a size, a depth and a number of nodes, DTDs are refused, and every
//! fault is one line. XML that goes out is written by a writer that escapes, from templates that an admin
//! can read and replace.

mod details;
mod exchange;
mod guard;
mod index;
mod mark;
mod numa;
mod ours;
mod owned;
mod peers;
mod read;
mod template;

pub use details::{Details, HostdevDetails, details, hostdev_details};
pub use exchange::{Exchange, ExchangeError, exchange};
pub use index::{INDEX_NAMESPACE, INDEX_PREFIX, Indexed, index, index_element, with_index};
pub use mark::{Edited, mark, unmark};
pub use ours::{OursError, ours};
pub use owned::OwnedSet;
pub use peers::set_peers;
pub use read::{DomainXml, DomainXmlError, Hostdev, MAX_XML, Source, hostdev_range, mentions_hostdev, read};
pub use template::{Options, TemplateError, Templates};

#[cfg(test)]
mod tests;
