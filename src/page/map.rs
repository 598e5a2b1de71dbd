//! GPUs over time: each slice as a block, or how full groups of GPUs were.

use super::axis::{Axis, Unit};
use super::lines::frame_x;
use super::svg::{Anchor, Canvas, both, fill_class};

/// A slice for a while.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// Which GPU.
    pub gpu: usize,
    /// From where to where on the GPU, in slots.
    pub slots: (f64, f64),
    /// From when to when.
    pub time: (f64, f64),
    /// Its colour.
    pub colour: usize,
}

/// Every slice of a few GPUs.
#[derive(Clone, Debug)]
pub struct Strips {
    /// The slots of each GPU.
    pub gpus: Vec<f64>,
    /// The slices.
    pub blocks: Vec<Block>,
}

/// How full rows of GPUs were, in equal steps of time.
#[derive(Clone, Debug)]
pub struct Heat {
    /// By step: percent in use of each row.
    pub steps: Vec<Vec<f64>>,
    /// How many GPUs a row stands for, in the mean.
    pub gpus_per_row: f64,
}

/// A map.
#[derive(Clone, Debug)]
pub struct Map {
    /// What is told to a reader who does not see it.
    pub title: String,
    /// What the time is.
    pub x: (String, Unit),
    /// When it ends.
    pub end: f64,
}

const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;

impl Map {
    fn axis(&self, wide: f64) -> Axis {
        Axis::new(self.x.1, (0.0, self.end), wide / 90.0, true)
    }

    /// Draws every slice.
    #[must_use]
    pub fn strips(&self, strips: &Strips) -> String {
        both(|wide| self.strips_at(strips, wide))
    }

    pub(super) fn strips_at(&self, strips: &Strips, wide: f64) -> String {
        let count = strips.gpus.len().max(1);
        let tall = (360.0 / f64::from(u32::try_from(count).unwrap_or(1))).clamp(26.0, 90.0);
        let row = |gpu: usize| (tall + 6.0) * f64::from(u32::try_from(gpu).unwrap_or(0));
        let (axis, width) = (self.axis(wide), wide - LEFT - RIGHT);
        let mut canvas = Canvas::new(&self.title, (wide, row(count) + 44.0));
        for gpu in 0..strips.gpus.len() {
            canvas.rect((LEFT, row(gpu)), (width, tall), "frame", "");
            canvas.text((LEFT - 6.0, row(gpu) + tall / 2.0 + 4.0), Anchor::End, "", &format!("GPU {gpu}"));
        }
        for block in &strips.blocks {
            let slots = strips.gpus.get(block.gpu).copied().unwrap_or(1.0).max(1.0);
            let x = |time: f64| LEFT + axis.part(time) * width;
            // The first slot is below.
            let y = row(block.gpu) + tall * (1.0 - block.slots.1 / slots);
            let size = (x(block.time.1) - x(block.time.0), tall * (block.slots.1 - block.slots.0) / slots);
            canvas.rect((x(block.time.0), y), size, &fill_class(block.colour), "");
        }
        frame_x(&mut canvas, (&axis, &self.x.0), (LEFT, width), row(count));
        canvas.finish()
    }

    /// Draws how full rows of GPUs were, with the scale of its shades above.
    #[must_use]
    pub fn heat(&self, heat: &Heat) -> String {
        both(|wide| self.heat_at(heat, wide))
    }

    pub(super) fn heat_at(&self, heat: &Heat, wide: f64) -> String {
        let rows = heat.steps.iter().map(Vec::len).max().unwrap_or(0);
        let tall = (360.0 / number(rows.max(1))).clamp(4.0, 20.0);
        let (axis, width) = (self.axis(wide), wide - LEFT - RIGHT);
        let height = tall * number(rows.max(1));
        let step = width / number(heat.steps.len().max(1));
        let mut canvas = Canvas::new(&self.title, (wide, SCALE + height + 44.0));
        scale(&mut canvas, width);
        canvas.rect((LEFT, SCALE), (width, height), "frame", "");
        for (shade, runs) in runs(&heat.steps).iter().enumerate().skip(1).filter(|(_, runs)| !runs.is_empty())
        {
            let place = |run: &Run| {
                let (x, y) = (LEFT + step * number(run.from), SCALE + tall * number(run.row));
                ((x, y), (step * number(run.to - run.from), tall))
            };
            let cells: Vec<_> = runs.iter().map(place).collect();
            canvas.shade(&cells, number(shade) / number(SHADES));
        }
        for (at, row) in [(0, 0), (rows / 2, rows / 2), (rows.saturating_sub(1), rows)] {
            let y = SCALE + (tall * number(row)).clamp(10.0, height);
            let gpu = (number(at) * heat.gpus_per_row).round();
            canvas.text((LEFT - 6.0, y), Anchor::End, "", &format!("GPU {gpu:.0}"));
        }
        frame_x(&mut canvas, (&axis, &self.x.0), (LEFT, width), SCALE + height);
        canvas.finish()
    }
}

/// Shades that are told apart; none at all is one more.
const SHADES: usize = 20;
/// Height of the scale above a map of shades.
const SCALE: f64 = 40.0;

/// Steps of time in which a row had one shade.
struct Run {
    row: usize,
    from: usize,
    to: usize,
}

/// Returns by shade where it is: neighbours in time that have the same one are one run.
fn runs(steps: &[Vec<f64>]) -> Vec<Vec<Run>> {
    let mut runs: Vec<Vec<Run>> = (0..=SHADES).map(|_| Vec::new()).collect();
    let rows = steps.iter().map(Vec::len).max().unwrap_or(0);
    for row in 0..rows {
        let shades: Vec<usize> =
            steps.iter().map(|column| shade(column.get(row).copied().unwrap_or(0.0))).collect();
        let mut from = 0;
        for same in shades.chunk_by(PartialEq::eq) {
            let to = from + same.len();
            runs[same[0]].push(Run { row, from, to });
            from = to;
        }
    }
    runs
}

/// Returns the nearest shade; only what is idle has none.
fn shade(percent: f64) -> usize {
    let part = (percent / 100.0).clamp(0.0, 1.0) * number(SHADES);
    let above = (1..=SHADES).find(|shade| part <= number(*shade) + 0.5).unwrap_or(SHADES);
    if percent > 0.0 { above } else { 0 }
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Draws what the shades mean.
fn scale(canvas: &mut Canvas, width: f64) {
    let wide = (width / 2.0).min(200.0) / number(SHADES);
    canvas.rect((LEFT, 2.0), (wide * number(SHADES), 12.0), "frame", "");
    for shade in 1..=SHADES {
        canvas
            .shade(&[((LEFT + wide * number(shade - 1), 2.0), (wide, 12.0))], number(shade) / number(SHADES));
    }
    let end = LEFT + wide * number(SHADES);
    canvas.text((LEFT, 28.0), Anchor::Start, "", "0 %");
    canvas.text((end, 28.0), Anchor::End, "", "100 %");
    canvas.text((end + 8.0, 12.0), Anchor::Start, "faint", "of the memory in use");
}
