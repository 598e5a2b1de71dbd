//! `vgpuctl explain`: why a slice is where it is, or where it would be.

use clap::Args;

use crate::cli::history::{escaped, time};
use crate::cli::report::{Format, Report};
use crate::cli::table::{Table, printable};
use crate::client::{Client, ClientError};
use crate::wire::{Decision, Explained, Refusal};

/// Say which GPU a slice gets, or got, and why
///
/// Of a profile: where one more slice of it would be made now. Of an allocation: where its slice is, or would
/// be, within everything that binds it. Of an entry of the history, by its number: what was decided then,
/// with the numbers of that time. Every GPU is listed with the reason why it won or lost.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// A profile's name, an allocation's id, or #NUMBER of an entry of the history
    what: String,
}

impl Explain {
    pub(super) fn run(self, client: &Client, format: Format) -> Result<Report, Refusal> {
        let path = format!("/v1/explain?of={}", escaped(&self.what));
        let answer: Explained = client.get(&path).map_err(ClientError::into_refusal)?;
        Report::new(format, &answer, render)
    }
}

fn render(answer: &Explained) -> String {
    let mut text = String::new();
    if let Some(entry) = &answer.entry {
        let domain = entry.domain.as_ref().map(|name| format!(" of domain {name}")).unwrap_or_default();
        text.push_str(&printable(&format!(
            "#{} {}: {}{domain}: {}",
            entry.number,
            time(entry.at),
            entry.verb,
            entry.outcome
        )));
        text.push('\n');
    }
    for note in &answer.notes {
        text.push_str(&format!("{}\n", printable(note)));
    }
    for decision in &answer.decisions {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&decided(decision, answer.now));
    }
    text
}

fn decided(decision: &Decision, now: bool) -> String {
    let whose = decision.allocation.as_ref().map(|id| format!("allocation {id}, ")).unwrap_or_default();
    let mut text = format!(
        "{whose}profile {}: {}, policy {}\n",
        decision.profile,
        printable(&decision.wish),
        decision.policy
    );
    text.push_str(&match (&decision.chosen, now) {
        (Some(parent), true) => format!("now: {parent}\n"),
        (Some(parent), false) => format!("chosen: {parent}\n"),
        (None, true) => "now: nothing has room\n".to_owned(),
        (None, false) => "nothing was chosen\n".to_owned(),
    });
    let mut table =
        Table::new(0, &["PARENT", ">POSSIBLE", ">SLICES", ">MIB USED", ">TIER", ">VALUE", ">TIE", "VERDICT"]);
    for one in &decision.candidates {
        let score = one.score.as_ref();
        table.row([
            one.parent.to_string(),
            one.possible.to_string(),
            one.slices.to_string(),
            one.memory_mib.map(|(used, total)| format!("{used}/{total}")).unwrap_or_default(),
            score.map(|score| score.tier.to_string()).unwrap_or_default(),
            score.map(|score| score.value.to_string()).unwrap_or_default(),
            score.map(|score| score.tie.to_string()).unwrap_or_default(),
            one.verdict.clone(),
        ]);
    }
    text + &table.render()
}
