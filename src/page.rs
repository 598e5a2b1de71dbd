//! A page with plots for a browser: one HTML file that needs nothing else, light or dark as the reader has it.
//!
//! Pure: figures in, text out. Plots are SVG inside the page, drawn by [`svg`]; everything that comes from
//! outside is escaped. A plot never carries its meaning by colour alone.

mod axis;
mod bars;
mod lines;
mod map;
pub mod svg;

pub use axis::Unit;
pub use bars::{Bar, Bars, Group};
pub use lines::{Lines, Series};
pub use map::{Block, Heat, Map, Strips};

use std::fmt::Write as _;

use svg::escaped;

/// The colours that a plot tells apart.
pub const COLOURS: usize = 8;

/// What is told beside a plot, and the plot.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What is to be seen, as a title.
    pub title: String,
    /// How to read it, for people who see such a plot for the first time.
    pub text: String,
    /// The names of its colours, in order; empty when it needs none.
    pub legend: Vec<String>,
    /// The plot.
    pub plot: String,
}

/// Rows of figures under a header.
#[derive(Clone, Debug, Default)]
pub struct Sheet {
    /// What is to be seen.
    pub title: String,
    /// The columns.
    pub header: Vec<String>,
    /// The rows; the first cell names the row.
    pub rows: Vec<Vec<String>>,
}

/// One thing of a page after another.
#[derive(Clone, Debug)]
pub enum Part {
    /// A plot.
    Figure(Figure),
    /// A table.
    Sheet(Sheet),
    /// A heading with sentences under it.
    Text(String, Vec<String>),
}

/// A page.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Its title.
    pub title: String,
    /// What it is about, in a sentence or two.
    pub lead: String,
    /// Its parts.
    pub parts: Vec<Part>,
    /// The command that makes it again.
    pub command: String,
}

const STYLE: &str = include_str!("page/style.css");

impl Page {
    /// Returns the page as HTML.
    #[must_use]
    pub fn html(&self) -> String {
        let mut body =
            format!("<h1>{}</h1>\n<p class=\"lead\">{}</p>\n", escaped(&self.title), escaped(&self.lead));
        for part in &self.parts {
            match part {
                Part::Figure(figure) => figure.write(&mut body),
                Part::Sheet(sheet) => sheet.write(&mut body),
                Part::Text(title, lines) => {
                    let items: String =
                        lines.iter().map(|line| format!("<li>{}</li>\n", escaped(line))).collect();
                    put(&mut body, format_args!("<h2>{}</h2>\n<ul>\n{items}</ul>\n", escaped(title)));
                }
            }
        }
        let made = if self.command.is_empty() {
            String::new()
        } else {
            format!("<p class=\"made\">Made by <code>{}</code></p>\n", escaped(&self.command))
        };
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta name=\"viewport\" \
             content=\"width=device-width, initial-scale=1\"/>\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n\
             <body>\n<main>\n{body}{made}</main>\n</body>\n</html>\n",
            escaped(&self.title)
        )
    }
}

impl Figure {
    fn write(&self, body: &mut String) {
        put(
            body,
            format_args!("<section>\n<h2>{}</h2>\n<p>{}</p>\n", escaped(&self.title), escaped(&self.text)),
        );
        if !self.legend.is_empty() {
            body.push_str("<ul class=\"legend\">\n");
            for (at, name) in self.legend.iter().enumerate() {
                let mark = svg::swatch(at);
                put(body, format_args!("<li>{mark} {}</li>\n", escaped(name)));
            }
            body.push_str("</ul>\n");
        }
        put(body, format_args!("<div class=\"plot\">\n{}</div>\n</section>\n", self.plot));
    }
}

impl Sheet {
    fn write(&self, body: &mut String) {
        put(
            body,
            format_args!("<section>\n<h2>{}</h2>\n<div class=\"plot\"><table>\n<tr>", escaped(&self.title)),
        );
        self.header
            .iter()
            .for_each(|cell| put(body, format_args!("<th scope=\"col\">{}</th>", escaped(cell))));
        body.push_str("</tr>\n");
        for row in &self.rows {
            body.push_str("<tr>");
            for (at, cell) in row.iter().enumerate() {
                let cell = escaped(cell);
                let cell = if at == 0 {
                    format!("<th scope=\"row\">{cell}</th>")
                } else {
                    format!("<td>{cell}</td>")
                };
                body.push_str(&cell);
            }
            body.push_str("</tr>\n");
        }
        body.push_str("</table></div>\n</section>\n");
    }
}

/// Appends; a text takes whatever is written to it.
fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let written = text.write_fmt(arguments);
    debug_assert!(written.is_ok(), "a text takes all");
}

#[cfg(test)]
mod tests;
