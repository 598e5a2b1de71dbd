//! GPUs over time: each slice as a block, or how full groups of GPUs were.

use super::axis::{Axis, Unit};
use super::lines::frame_x;
use super::svg::{Anchor, Canvas, WIDTH, fill_class};

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
    fn axis(&self) -> Axis {
        Axis::new(self.x.1, (0.0, self.end), 8.0, true)
    }

    /// Draws every slice.
    #[must_use]
    pub fn strips(&self, strips: &Strips) -> String {
        let count = strips.gpus.len().max(1);
        let tall = (360.0 / f64::from(u32::try_from(count).unwrap_or(1))).clamp(26.0, 90.0);
        let row = |gpu: usize| (tall + 6.0) * f64::from(u32::try_from(gpu).unwrap_or(0));
        let (axis, width) = (self.axis(), WIDTH - LEFT - RIGHT);
        let mut canvas = Canvas::new(&self.title, row(count) + 44.0);
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

    /// Draws how full rows of GPUs were.
    #[must_use]
    pub fn heat(&self, heat: &Heat) -> String {
        let rows = heat.steps.iter().map(Vec::len).max().unwrap_or(0);
        let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        let tall = (360.0 / number(rows.max(1))).clamp(4.0, 20.0);
        let (axis, width) = (self.axis(), WIDTH - LEFT - RIGHT);
        let height = tall * number(rows.max(1));
        let wide = width / number(heat.steps.len().max(1));
        let mut canvas = Canvas::new(&self.title, height + 44.0);
        canvas.rect((LEFT, 0.0), (width, height), "frame", "");
        for (step, column) in heat.steps.iter().enumerate() {
            for (row, percent) in column.iter().enumerate().filter(|(_, percent)| **percent > 0.0) {
                let place = (LEFT + wide * number(step), tall * number(row));
                canvas.shade(place, (wide, tall), percent / 100.0);
            }
        }
        for (at, row) in [(0, 0), (rows / 2, rows / 2), (rows.saturating_sub(1), rows)] {
            let y = (tall * number(row)).clamp(10.0, height);
            let gpu = (number(at) * heat.gpus_per_row).round();
            canvas.text((LEFT - 6.0, y), Anchor::End, "", &format!("GPU {gpu:.0}"));
        }
        frame_x(&mut canvas, (&axis, &self.x.0), (LEFT, width), height);
        canvas.finish()
    }
}
