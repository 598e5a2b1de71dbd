//! Writing SVG.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::{COLOURS, put};

/// A place and a size.
pub type Rectangle = ((f64, f64), (f64, f64));

/// Width of a plot in its own units; a browser scales it.
pub const WIDTH: f64 = 720.0;
/// Width of a plot on a telephone, where what is written in it must be as large to its width.
pub const NARROW: f64 = 360.0;

/// Draws a plot twice, wide and narrow; the style shows the one that the window has room for.
#[must_use]
pub fn both(draw: impl Fn(f64) -> String) -> String {
    format!("<div class=\"wide\">\n{}</div>\n<div class=\"narrow\">\n{}</div>\n", draw(WIDTH), draw(NARROW))
}

/// Escapes a text for HTML and SVG; control characters become blanks.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    let odd = |c: char| matches!(c, '<' | '>' | '&' | '"' | '\'') || c.is_control();
    if !text.contains(odd) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// A point or a length with one decimal; what is no number is 0.
#[must_use]
pub fn at(value: f64) -> String {
    let value = if value.is_finite() { value } else { 0.0 };
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// Where a text stands to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// A drawing.
#[derive(Clone, Debug)]
pub struct Canvas {
    title: String,
    width: f64,
    height: f64,
    body: String,
}

impl Canvas {
    /// Creates an empty drawing; `title` is what a reader is told who does not see it.
    #[must_use]
    pub fn new(title: &str, (width, height): (f64, f64)) -> Self {
        Self { title: title.to_owned(), width, height, body: String::new() }
    }

    /// Draws a rectangle of a class of the style; `hint` shows when it is pointed at.
    pub fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), class: &str, hint: &str) {
        let (x, y, width, height) = (at(x), at(y), at(width.max(0.0)), at(height.max(0.0)));
        put(
            &mut self.body,
            format_args!("<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" class=\"{class}\""),
        );
        self.close("rect", hint);
    }

    /// Fills rectangles to a degree between 0 and 1.
    pub fn shade(&mut self, cells: &[Rectangle], degree: f64) {
        let mut path = String::new();
        for ((x, y), (width, height)) in cells {
            let (x, y, width, height) = (at(*x), at(*y), at(*width), at(*height));
            put(&mut path, format_args!("M{x} {y}h{width}v{height}h-{width}z"));
        }
        let degree = degree.clamp(0.0, 1.0);
        put(&mut self.body, format_args!("<path d=\"{path}\" class=\"f0\" fill-opacity=\"{degree:.2}\"/>\n"));
    }

    fn close(&mut self, element: &str, hint: &str) {
        if hint.is_empty() {
            self.body.push_str("/>\n");
        } else {
            put(&mut self.body, format_args!("><title>{}</title></{element}>\n", escaped(hint)));
        }
    }

    /// Draws a straight line of a class of the style.
    pub fn rule(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let (x1, y1, x2, y2) = (at(from.0), at(from.1), at(to.0), at(to.1));
        put(
            &mut self.body,
            format_args!("<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" class=\"{class}\"/>\n"),
        );
    }

    /// Draws a line through points.
    pub fn path(&mut self, points: &[(f64, f64)], class: &str) {
        let mut path = String::new();
        for (number, point) in points.iter().enumerate() {
            let (letter, x, y) = (if number == 0 { 'M' } else { 'L' }, at(point.0), at(point.1));
            put(&mut path, format_args!("{letter}{x} {y}"));
        }
        put(&mut self.body, format_args!("<path d=\"{path}\" class=\"{class}\"/>\n"));
    }

    /// Writes a text.
    pub fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (x, y, text) = (at(x), at(y), escaped(text));
        put(
            &mut self.body,
            format_args!(
                "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" class=\"{class}\">{text}</text>\n"
            ),
        );
    }

    /// Returns the drawing as an element.
    #[must_use]
    pub fn finish(self) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n{}</svg>\n",
            at(self.width),
            at(self.height),
            escaped(&self.title),
            self.body
        )
    }
}

/// The class of a line in the colour of a number; lines beyond the colours, and every second of them, are broken, so
/// that colour is not all that tells them apart.
pub(super) fn line_class(number: usize) -> String {
    let dash = match (number % COLOURS + number / COLOURS) % 4 {
        0 => String::new(),
        dash => format!(" dash{dash}"),
    };
    format!("line l{}{dash}", number % COLOURS)
}

/// The class of a surface in the colour of a number.
pub(super) fn fill_class(number: usize) -> String {
    format!("f{} edge", number % COLOURS)
}

/// A sample of a colour for a legend.
pub(super) fn swatch(number: usize) -> String {
    let mut mark = String::from("<svg viewBox=\"0 0 30 12\" aria-hidden=\"true\">");
    let written = write!(
        mark,
        "<rect x=\"0\" y=\"1\" width=\"10\" height=\"10\" class=\"{}\"/><path d=\"M10 6L30 6\" class=\"{}\"/></svg>",
        fill_class(number),
        line_class(number)
    );
    debug_assert!(written.is_ok(), "a text takes all");
    mark
}
