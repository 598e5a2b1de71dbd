//! Aligned columns of plain text.

use std::borrow::Cow;

/// Space between columns.
const GAP: usize = 2;

/// Rows under a header; each column as wide as its widest cell.
#[derive(Debug)]
pub(super) struct Table {
    indent: usize,
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Creates an empty table. Columns whose header starts with `>` are aligned to the right.
    pub(super) fn new(indent: usize, header: &[&'static str]) -> Self {
        Self { indent, header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with one cell a column; an empty cell prints as `-`.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.row_of(cells.to_vec());
    }

    /// As [`Table::row`], where the number of columns depends on what is shown.
    pub(super) fn row_of(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.header.len(), "a row has one cell a column");
        self.rows.push(cells.into_iter().map(|cell| filled(&cell)).collect());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the text; lines end without trailing blanks. Empty without rows.
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        if self.rows.is_empty() {
            return text;
        }
        let titles = self.header.iter().map(|title| title.trim_start_matches('>'));
        let widths: Vec<usize> = titles
            .clone()
            .enumerate()
            .map(|(at, title)| {
                let cells = self.rows.iter().filter_map(|row| row.get(at));
                cells.map(|cell| cell.chars().count()).fold(title.len(), usize::max)
            })
            .collect();
        self.line(&mut text, &widths, titles);
        for row in &self.rows {
            self.line(&mut text, &widths, row.iter().map(String::as_str));
        }
        text
    }

    fn line<'a>(&self, text: &mut String, widths: &[usize], cells: impl Iterator<Item = &'a str>) {
        let mut line = " ".repeat(self.indent);
        for ((cell, &width), title) in cells.zip(widths).zip(&self.header) {
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            let (before, after) =
                if title.starts_with('>') { (pad.as_str(), "") } else { ("", pad.as_str()) };
            line.push_str(before);
            line.push_str(cell);
            line.push_str(after);
            line.push_str(&" ".repeat(GAP));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// Writes `name: value` lines with the values in one column.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    let mut text = String::new();
    for (name, value) in facts {
        let name = format!("{name}:");
        text.push_str(&format!("{name:width$} {}\n", filled(value)));
    }
    text
}

fn filled(cell: &str) -> String {
    if cell.is_empty() { "-".to_owned() } else { printable(cell).into_owned() }
}

/// Replaces control characters: drivers and other people's domains choose some of these texts.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        Cow::Owned(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_stand_right() {
        let mut table = Table::new(2, &["NAME", ">MAX", "WHY"]);
        table.row(["GRID T4-4Q".into(), "4".into(), String::new()]);
        table.row(["ü".into(), "16".into(), "full".into()]);
        assert_eq!(table.render(), "  NAME        MAX  WHY\n  GRID T4-4Q    4  -\n  ü            16  full\n");
    }

    #[test]
    fn no_text_can_steer_the_terminal() {
        assert_eq!(printable("a\x1b[31m\nb"), "a [31m b");
    }
}
