//! Curves over an axis.

use super::axis::{Axis, Unit};
use super::svg::{Anchor, Canvas, WIDTH, line_class};

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
        let (x, y) = (Axis::new(self.x.1, xs, 8.0, true), Axis::new(self.y.1, ys, 5.0, false));
        let width = WIDTH - LEFT - RIGHT;
        let place =
            |point: &(f64, f64)| (LEFT + x.part(point.0) * width, TOP + (1.0 - y.part(point.1)) * HEIGHT);
        let mut canvas = Canvas::new(&self.title, TOP + HEIGHT + 44.0);
        canvas.rect((LEFT, TOP), (width, HEIGHT), "frame", "");
        canvas.text((LEFT, TOP - 10.0), Anchor::Start, "faint", &self.y.0);
        for (value, text) in y.marks() {
            let at = TOP + (1.0 - y.part(value)) * HEIGHT;
            canvas.rule((LEFT, at), (WIDTH - RIGHT, at), "grid");
            canvas.text((LEFT - 6.0, at + 4.0), Anchor::End, "", &text);
        }
        frame_x(&mut canvas, (&x, &self.x.0), (LEFT, width), TOP + HEIGHT);
        if all().next().is_none() {
            canvas.text((LEFT + width / 2.0, TOP + HEIGHT / 2.0), Anchor::Middle, "faint", "nothing to show");
        }
        for (number, series) in self.series.iter().enumerate() {
            let points: Vec<(f64, f64)> = series.points.iter().map(place).collect();
            if !points.is_empty() {
                canvas.path(&points, &line_class(number));
            }
        }
        canvas.finish()
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
        // The last text ends with the plot.
        let anchor = if axis.part(value) > 0.97 { Anchor::End } else { Anchor::Middle };
        let at = if anchor == Anchor::End { (at + 10.0).min(WIDTH - 2.0) } else { at };
        canvas.text((at, bottom + 18.0), anchor, "", &text);
    }
    canvas.text((left + width / 2.0, bottom + 36.0), Anchor::Middle, "faint", name);
}
