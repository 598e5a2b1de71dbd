//! Curves over an axis.

use super::axis::{Axis, Unit};
use super::svg::{Anchor, Canvas, both, line_class};

/// A curve.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Its name, which the legend has.
    pub name: String,
    /// Its points, by x.
    pub points: Vec<(f64, f64)>,
}

/// Curves with their axes.
#[derive(Clone, Debug)]
pub struct Lines {
    /// What is told to a reader who does not see it.
    pub title: String,
    /// What x is.
    pub x: (String, Unit),
    /// What y is.
    pub y: (String, Unit),
    /// What y goes to at least.
    pub most: f64,
    /// Where y begins; the least value when it is below.
    pub least: f64,
    /// The curves that stand out, by their number; none: all are alike.
    pub front: Vec<usize>,
    /// The curves; each has the colour of its number.
    pub series: Vec<Series>,
}

const TOP: f64 = 26.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const HEIGHT: f64 = 250.0;

impl Lines {
    /// Returns the plot.
    #[must_use]
    pub fn draw(&self) -> String {
        both(|wide| self.draw_at(wide))
    }

    /// Returns the plot at a width.
    pub(super) fn draw_at(&self, wide: f64) -> String {
        let all = || {
            self.series
                .iter()
                .flat_map(|series| &series.points)
                .filter(|(x, y)| x.is_finite() && y.is_finite())
        };
        let most = |start: f64, values: &mut dyn Iterator<Item = f64>| values.fold(start, f64::max);
        let least_x = all().map(|point| point.0).fold(f64::INFINITY, f64::min);
        let xs = (least_x, most(f64::NEG_INFINITY, &mut all().map(|point| point.0)));
        let ys = (
            all().map(|point| point.1).fold(self.least, f64::min),
            most(self.most, &mut all().map(|point| point.1)),
        );
        let (x, y) = (Axis::new(self.x.1, xs, wide / 90.0, true), Axis::new(self.y.1, ys, 5.0, false));
        let width = wide - LEFT - RIGHT;
        let place =
            |point: &(f64, f64)| (LEFT + x.part(point.0) * width, TOP + (1.0 - y.part(point.1)) * HEIGHT);
        let mut canvas = Canvas::new(&self.title, (wide, TOP + HEIGHT + 44.0));
        canvas.rect((LEFT, TOP), (width, HEIGHT), "frame", "");
        canvas.text((LEFT, TOP - 10.0), Anchor::Start, "faint", &self.y.0);
        for (value, text) in y.marks() {
            let at = TOP + (1.0 - y.part(value)) * HEIGHT;
            canvas.rule((LEFT, at), (wide - RIGHT, at), "grid");
            canvas.text((LEFT - 6.0, at + 4.0), Anchor::End, "", &text);
        }
        frame_x(&mut canvas, (&x, &self.x.0), (LEFT, width), TOP + HEIGHT);
        if all().next().is_none() {
            canvas.text((LEFT + width / 2.0, TOP + HEIGHT / 2.0), Anchor::Middle, "faint", "nothing to show");
        }
        for (number, series) in self.series.iter().enumerate() {
            let points: Vec<(f64, f64)> = series.points.iter().map(place).collect();
            if !points.is_empty() {
                canvas.path(&points, &self.class(number));
            }
        }
        canvas.finish()
    }

    /// Returns the class of a curve. Among many, those that are not in front are paler.
    fn class(&self, number: usize) -> String {
        let class = line_class(number);
        if self.front.is_empty() || self.front.contains(&number) { class } else { format!("{class} back") }
    }
}

/// Draws marks below a plot, and what they are.
pub(super) fn frame_x(
    canvas: &mut Canvas,
    (axis, name): (&Axis, &str),
    (left, width): (f64, f64),
    bottom: f64,
) {
    for (value, text) in axis.marks() {
        let at = left + axis.part(value) * width;
        canvas.rule((at, bottom), (at, bottom + 5.0), "grid");
        // The last text ends with the plot; the first begins with it where nothing is left of it.
        let (anchor, at) = match axis.part(value) {
            part if part > 0.97 => (Anchor::End, at + 10.0),
            part if part < 0.03 && left < 20.0 => (Anchor::Start, at - 4.0),
            _ => (Anchor::Middle, at),
        };
        canvas.text((at, bottom + 18.0), anchor, "", &text);
    }
    canvas.text((left + width / 2.0, bottom + 36.0), Anchor::Middle, "faint", name);
}
