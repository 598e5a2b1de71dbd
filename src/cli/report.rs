//! What a command has to say, before it is printed.

use clap::ValueEnum;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::cli::indent::indent;
use crate::wire::{Kind, Refusal};

/// How an answer is printed: for people, or as the API gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
}

/// The outcome of a command that worked.
#[derive(Debug)]
pub(super) struct Report {
    /// For stdout, with its last newline.
    pub(super) text: String,
    /// For stderr, one sentence each.
    pub(super) notes: Vec<String>,
    /// Whether a look found errors: exit code 1.
    pub(super) found_errors: bool,
}

impl Report {
    /// Creates a report of `answer`: as JSON, or by `table` for people.
    pub(super) fn new<T: Serialize>(
        format: Format,
        answer: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<Self, Refusal> {
        let text = match format {
            Format::Table => table(answer),
            Format::Json => {
                let json = serde_json::to_string_pretty(answer);
                json.map_err(|error| Refusal::from_error(Kind::Internal, &error))? + "\n"
            }
        };
        Ok(Self { text, notes: Vec::new(), found_errors: false })
    }

    /// Creates a report of an answer as the API gave it, without reading it.
    pub(super) fn as_given(answer: &RawValue) -> Self {
        Self { text: indent(answer.get()) + "\n", notes: Vec::new(), found_errors: false }
    }

    /// Adds notes for people; JSON carries them inside.
    pub(super) fn notes(self, format: Format, notes: &[String]) -> Self {
        match format {
            Format::Table => Self { notes: notes.to_vec(), ..self },
            Format::Json => self,
        }
    }
}
