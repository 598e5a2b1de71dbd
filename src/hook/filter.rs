//! The answer to `restore` and `migrate`: the XML with other VF addresses, on stdout.
//!
//! libvirt takes whatever is on stdout for the domain's new XML, so it is the whole text or nothing: one that
//! is cut short would be a broken image to libvirt, and nothing leaves the XML as it is.

use std::io::Write as _;

use crate::domain_xml::{Exchange, exchange};
use crate::wire::Exchanged;

/// Returns the XML with the addresses exchanged; `None` when nothing changes. The fault is a line.
pub(super) fn apply(xml: &[u8], guest: &str, exchanges: Vec<Exchanged>) -> Result<Option<String>, String> {
    if exchanges.is_empty() {
        return Ok(None);
    }
    let exchanges: Vec<Exchange> = exchanges
        .into_iter()
        .map(|Exchanged { allocation, from, to }| Exchange { allocation, from, to })
        .collect();
    let text =
        str::from_utf8(xml).map_err(|error| format!("domain {guest}: its XML is not UTF-8: {error}"))?;
    exchange(text, &exchanges)
        .map(Some)
        .map_err(|error| format!("domain {guest} cannot get another VF: {error}"))
}

/// Writes the XML for libvirt. A text that was cut short by the hard cap does no harm: libvirt does not read
/// the output of a filter that failed.
pub(super) fn print(xml: Option<String>) -> Result<(), String> {
    let Some(xml) = xml else { return Ok(()) };
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(xml.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| format!("the XML with the exchanged addresses cannot be written: {error}"))
}
