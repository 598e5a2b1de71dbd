//! `vgpuctl history` and `vgpuctl log`: who asked for what, and what came of it.

use clap::Args;
use jiff::Timestamp;

use crate::cli::report::{Format, Report};
use crate::cli::table::Table;
use crate::client::{Client, ClientError};
use crate::model::{AllocationId, HistoryEntry};
use crate::wire::{History as Answer, Refusal};

/// Show what was asked for and what came of it
///
/// Every request that changes something and every call of libvirt's hook, with who asked (user id and
/// process), what, on which domain, and the outcome: done, or why it was refused. The newest come last.
/// `vgpuctl explain #NUMBER` says why the slices of an entry were made where they were.
#[derive(Debug, Args)]
pub(super) struct History {
    /// Only what is about this domain, by the name it had then
    #[arg(short, long)]
    domain: Option<String>,
    /// At most so many entries, the newest
    #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// Show the history of one allocation
///
/// From the attach that made it, over each start and stop of its domain, to the end. The newest come last.
#[derive(Debug, Args)]
pub(super) struct Log {
    /// The allocation; see `vgpuctl allocations`
    allocation: AllocationId,
    /// At most so many entries, the newest
    #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

impl History {
    pub(super) fn run(self, client: &Client, format: Format) -> Result<Report, Refusal> {
        let filter = self.domain.map(|name| format!("&domain={}", escaped(&name))).unwrap_or_default();
        fetch(client, &format!("limit={}{filter}", self.limit), format)
    }
}

impl Log {
    pub(super) fn run(self, client: &Client, format: Format) -> Result<Report, Refusal> {
        fetch(client, &format!("limit={}&allocation={}", self.limit, self.allocation), format)
    }
}

fn fetch(client: &Client, query: &str, format: Format) -> Result<Report, Refusal> {
    let answer: Answer = client.get(&format!("/v1/history?{query}")).map_err(ClientError::into_refusal)?;
    Report::new(format, &answer, render)
}

/// Escapes a query value: everything but letters, digits, `.`, `_` and `-`.
pub(super) fn escaped(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    value.bytes().map(one).collect()
}

fn render(answer: &Answer) -> String {
    if answer.entries.is_empty() {
        return "no history\n".to_owned();
    }
    let mut table = Table::new(0, &[">#", "TIME", "BY", "WHAT", "DOMAIN", "OBJECT", "OUTCOME"]);
    for entry in answer.entries.iter().rev() {
        table.row([
            Some(entry.number)
                .filter(|number| *number > 0)
                .map(|number| number.to_string())
                .unwrap_or_default(),
            time(entry.at),
            who(entry),
            entry.verb.clone(),
            entry.domain.clone().unwrap_or_else(|| "-".to_owned()),
            entry.object.clone(),
            entry.outcome.clone(),
        ]);
    }
    table.render()
}

pub(super) fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

fn who(entry: &HistoryEntry) -> String {
    match (entry.uid, entry.pid) {
        (Some(uid), Some(pid)) => format!("uid {uid}, pid {pid}"),
        (Some(uid), None) => format!("uid {uid}"),
        (None, _) => "vgpud".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_do_not_leave_their_parameter() {
        assert_eq!(escaped("web-1.x_y"), "web-1.x_y");
        assert_eq!(escaped("a b&limit=1#é"), "a%20b%26limit%3D1%23%C3%A9");
    }
}
