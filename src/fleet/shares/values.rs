//! The value table: what a GPU in a state will have left unused when the fleet is full.
//!
//! The state is its model, its idle share in hundredths, and the class of its node by free cores per
//! idle GPU. The score of a node is by how much the sum over its GPUs grows; the CPU class of all of them
//! may change with one task.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "means of thousandths, kept in sixteenths"
)]

use serde::{Deserialize, Serialize};

use super::formula::signed;
use super::kind::Kind;
use super::node::{Node, WHOLE};
use super::outlook::{CARES, KNOWN_RATIO, LEVEL_PARTS, Outlook};

/// Borders of the CPU classes in tenths of a core per idle GPU, on a fleet of the known ratio.
const BORDERS: [u32; 11] = [10, 31, 42, 60, 80, 100, 115, 130, 160, 240, 400];
/// CPU classes.
const CLASSES: usize = BORDERS.len() + 1;
/// Idle shares from none to whole, in hundredths.
const LEVELS: usize = 101;
/// Parts of a thousandth that values are kept in.
const PARTS: i32 = 16;
/// The version of the file.
const VERSION: u32 = 1;

/// The value of each state of a GPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Values {
    version: u32,
    models: usize,
    /// Tenths of cores per idle GPU where the classes change.
    borders: Vec<u32>,
    /// Scores are rounded to this many thousandths.
    grain: i32,
    /// Which of the ways to care for free groups of GPUs.
    care: usize,
    /// By model, class and hundredths, in sixteenths of a thousandth.
    table: Vec<i32>,
}

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Not the format.
    #[error("the policy is not in the format of version {VERSION}")]
    Format(#[from] serde_json::Error),
    /// Another version or another number of entries.
    #[error("the policy has version {version} and {entries} values, not version {VERSION} and {wanted}")]
    Shape {
        /// The version found.
        version: u32,
        /// The number of values found.
        entries: usize,
        /// The number of values its models need.
        wanted: usize,
    },
}

impl Values {
    /// Reads a table from its JSON.
    ///
    /// # Errors
    /// The text is not such a table, or of another version.
    pub fn parse(text: &str) -> Result<Self, TableError> {
        let values: Self = serde_json::from_str(text)?;
        let wanted = values.models * CLASSES * LEVELS;
        if values.version != VERSION
            || values.table.len() != wanted
            || values.borders.len() != CLASSES - 1
            || values.care >= CARES.len()
        {
            return Err(TableError::Shape { version: values.version, entries: values.table.len(), wanted });
        }
        Ok(values)
    }

    /// Returns the same table with another way to care for free groups.
    pub(super) fn with_care(self, care: usize) -> Self {
        Self { care, ..self }
    }

    /// Returns the score of a node for a kind that fits; lower is better.
    pub(super) fn score(&self, kind: &Kind, node: &Node, outlook: &Outlook) -> i32 {
        let grain = self.grain * PARTS;
        let gpus = node.tightest(kind);
        let growth = self.growth(kind, node, gpus) + self.prices(kind, node, gpus, outlook) * PARTS;
        (growth + grain / 2).div_euclid(grain)
    }

    /// Returns by how much the node's GPUs lose, in sixteenths of a thousandth.
    fn growth(&self, kind: &Kind, node: &Node, gpus: u8) -> i32 {
        let before = self.row(node.model(), node.cpu(), node.idle());
        let after = self.row(node.model(), node.cpu() - kind.cpu, node.idle() - kind.milli());
        let mut growth = 0;
        for (gpu, &idle) in node.shares().iter().enumerate() {
            let left = idle - if gpus >> gpu & 1 == 1 { kind.share } else { 0 };
            growth += after[usize::from(left) / 10] - before[usize::from(idle) / 10];
        }
        growth
    }

    /// Returns the prices of the model and of lost groups, in thousandths.
    fn prices(&self, kind: &Kind, node: &Node, gpus: u8, outlook: &Outlook) -> i32 {
        let level = 10 * signed(kind.milli()) * outlook.level(node.model()) / LEVEL_PARTS;
        let taken = |(gpu, &idle): (usize, &u16)| u8::from(idle == WHOLE && gpus >> gpu & 1 == 1);
        let taken: u8 = node.shares().iter().enumerate().map(taken).sum();
        let free = node.free_gpus();
        level + outlook.lost_groups(self.care, free, free - taken)
    }

    fn row(&self, model: u8, cpu: u32, idle: u32) -> &[i32] {
        let model = usize::from(model).min(self.models - 1);
        let class: usize = self.borders.iter().map(|border| usize::from(cpu * 10 >= border * idle)).sum();
        let row = model * CLASSES + class;
        &self.table[row * LEVELS..(row + 1) * LEVELS]
    }
}

/// Sums of what GPUs in each state had left at the end, over runs of self-play.
#[derive(Clone, Debug)]
pub(super) struct Lessons {
    models: usize,
    borders: Vec<u32>,
    sums: Vec<f32>,
    counts: Vec<f32>,
    /// Of the run under way: states by node and GPU.
    visits: Vec<(u32, u32)>,
}

impl Lessons {
    pub(super) fn new(models: usize, ratio: f64) -> Self {
        let models = models.max(1);
        let borders =
            BORDERS.iter().map(|&border| (f64::from(border) * ratio / KNOWN_RATIO).round().max(1.0));
        let size = models * CLASSES * LEVELS;
        Self {
            models,
            borders: borders.map(signed_back).collect(),
            sums: vec![0.0; size],
            counts: vec![0.0; size],
            visits: Vec::new(),
        }
    }

    /// Remembers the state of a node's GPUs.
    pub(super) fn visit(&mut self, at: u32, node: &Node) {
        let (cpu, idle) = (node.cpu(), node.idle());
        let class: usize = self.borders.iter().map(|border| usize::from(cpu * 10 >= border * idle)).sum();
        let row = (usize::from(node.model()) * CLASSES + class) * LEVELS;
        for (gpu, &idle) in node.shares().iter().enumerate().take(usize::from(node.gpus())) {
            if idle > 0 {
                let state = row + usize::from(idle) / 10;
                self.visits.push((state as u32, at * 8 + gpu as u32));
            }
        }
    }

    /// Ends a run: each visited state is worth what its GPU has left now.
    pub(super) fn finish(&mut self, nodes: &[Node]) {
        for (state, gpu) in self.visits.drain(..) {
            let left = nodes[gpu as usize / 8].shares()[gpu as usize % 8];
            self.sums[state as usize] += f32::from(left);
            self.counts[state as usize] += 1.0;
        }
    }

    /// Keeps half of what was learned so far.
    pub(super) fn fade(&mut self) {
        self.sums.iter_mut().chain(&mut self.counts).for_each(|sum| *sum *= 0.5);
    }

    /// Returns the table: rare states are pulled to their class over all models, then to the share.
    pub(super) fn values(&self, grain: i32) -> Values {
        let width = CLASSES * LEVELS;
        let mut by_class = vec![(0.0_f32, 0.0_f32); width];
        let mut by_share = vec![(0.0_f32, 0.0_f32); LEVELS];
        for (state, (&sum, &count)) in self.sums.iter().zip(&self.counts).enumerate() {
            for cell in [&mut by_class[state % width], &mut by_share[state % LEVELS]] {
                *cell = (cell.0 + sum, cell.1 + count);
            }
        }
        let pulled = |(sum, count): (f32, f32), to: f32, pull: f32| (sum + pull * to) / (count + pull);
        let table = self.sums.iter().zip(&self.counts).enumerate().map(|(state, (&sum, &count))| {
            let idle = (state % LEVELS) as f32 * 10.0;
            let share = pulled(by_share[state % LEVELS], idle * 0.05, 10.0);
            let class = pulled(by_class[state % width], share, 20.0);
            let value = if idle == 0.0 { 0.0 } else { pulled((sum, count), class, 30.0) };
            (value * PARTS as f32).round() as i32
        });
        let table = table.collect();
        Values { version: VERSION, models: self.models, borders: self.borders.clone(), grain, care: 0, table }
    }
}

#[expect(clippy::cast_sign_loss, reason = "rounded and at least one")]
fn signed_back(border: f64) -> u32 {
    border as u32
}
