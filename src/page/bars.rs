//! Bars that lie one below another, in groups.

use super::axis::{Axis, Unit};
use super::lines::frame_x;
use super::svg::{Anchor, Canvas, WIDTH, both, fill_class};

/// One bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What it is.
    pub name: String,
    /// How long it is; `None`: there is nothing to tell.
    pub value: Option<f64>,
}

/// Bars of one kind.
#[derive(Clone, Debug)]
pub struct Group {
    /// What they have in common.
    pub name: String,
    /// The bars, from above.
    pub bars: Vec<Bar>,
}

/// Groups of bars over one axis.
#[derive(Clone, Debug)]
pub struct Bars {
    /// What is told to a reader who does not see it.
    pub title: String,
    /// What the length is.
    pub x: (String, Unit),
    /// The groups, from above. Bars of the same place in their group have the same colour.
    pub groups: Vec<Group>,
}

const BAR: f64 = 15.0;
const HEAD: f64 = 22.0;
const RIGHT: f64 = 74.0;
/// The most letters of a name that stands before its bar; longer ones are cut.
const LETTERS: usize = 26;

/// How bars lie: with their names before them, or above them where a plot is narrow.
struct Layout {
    left: f64,
    above: f64,
}

impl Layout {
    fn step(&self) -> f64 {
        BAR + 4.0 + self.above
    }

    fn rows(&self, group: &Group) -> f64 {
        HEAD + self.step() * f64::from(u32::try_from(group.bars.len()).unwrap_or(0)) + 8.0
    }
}

impl Bars {
    /// Returns the plot.
    #[must_use]
    pub fn draw(&self) -> String {
        both(|wide| self.draw_at(wide))
    }

    fn bars(&self) -> impl Iterator<Item = &Bar> {
        self.groups.iter().flat_map(|group| &group.bars)
    }

    fn layout(&self, wide: f64) -> Layout {
        if wide < WIDTH {
            return Layout { left: 8.0, above: 15.0 };
        }
        let longest = self.bars().map(|bar| bar.name.chars().count().min(LETTERS)).max().unwrap_or(0);
        Layout { left: 16.0 + 6.6 * f64::from(u32::try_from(longest).unwrap_or(0)), above: 0.0 }
    }

    pub(super) fn draw_at(&self, wide: f64) -> String {
        let values = self.bars().filter_map(|bar| bar.value).filter(|value| value.is_finite());
        let axis = Axis::new(self.x.1, (0.0, values.fold(0.0, f64::max)), wide / 120.0, false);
        let layout = self.layout(wide);
        let (left, width) = (layout.left, wide - layout.left - RIGHT);
        let height: f64 = self.groups.iter().map(|group| layout.rows(group)).sum::<f64>() + 4.0;
        let mut canvas = Canvas::new(&self.title, (wide, height + 44.0));
        canvas.rect((left, 0.0), (width, height), "frame", "");
        for (value, _) in axis.marks() {
            let at = left + axis.part(value) * width;
            canvas.rule((at, 0.0), (at, height), "grid");
        }
        let mut top = 0.0;
        for group in &self.groups {
            canvas.text((left + 6.0, top + 16.0), Anchor::Start, "head", &cut(&group.name, 46));
            for (number, bar) in group.bars.iter().enumerate() {
                let y = top + HEAD + layout.step() * f64::from(u32::try_from(number).unwrap_or(0));
                self.bar(&mut canvas, (number, bar), (&layout, y), |value| axis.part(value) * width);
            }
            top += layout.rows(group);
        }
        frame_x(&mut canvas, (&axis, &self.x.0), (left, width), height);
        canvas.finish()
    }

    /// Draws one bar with its name and its value.
    fn bar(
        &self,
        canvas: &mut Canvas,
        (number, bar): (usize, &Bar),
        (layout, y): (&Layout, f64),
        long: impl Fn(f64) -> f64,
    ) {
        let left = layout.left;
        if layout.above > 0.0 {
            canvas.text((left + 6.0, y + 11.0), Anchor::Start, "", &cut(&bar.name, 2 * LETTERS));
        } else {
            canvas.text((left - 6.0, y + 12.0), Anchor::End, "", &cut(&bar.name, LETTERS));
        }
        let y = y + layout.above;
        let long = bar.value.map_or(0.0, long);
        let text = bar.value.map_or_else(|| "-".to_owned(), |value| written(self.x.1, value));
        canvas.rect((left, y), (long, BAR), &fill_class(number), &format!("{}: {text}", bar.name));
        canvas.text((left + long + 5.0, y + 12.0), Anchor::Start, "", &text);
    }
}

/// A value by itself, with three digits or so.
fn written(unit: Unit, value: f64) -> String {
    let step = match unit {
        Unit::Seconds => {
            return match value {
                value if value < 120.0 => format!("{value:.0} s"),
                value if value < 7_200.0 => format!("{:.0} min", value / 60.0),
                value if value < 172_800.0 => format!("{:.1} h", value / 3_600.0),
                value => format!("{:.1} d", value / 86_400.0),
            };
        }
        Unit::Number | Unit::Percent if value.abs() >= 100.0 => 1.0,
        Unit::Number | Unit::Percent => 0.5,
    };
    unit.write(value, step)
}

fn cut(text: &str, letters: usize) -> String {
    if text.chars().count() <= letters {
        return text.to_owned();
    }
    text.chars().take(letters.saturating_sub(1)).chain(['…']).collect()
}
