//! Axes: where the marks are and what is written at them.

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number.
    Number,
    /// Percent.
    Percent,
    /// Seconds, written as people read them.
    Seconds,
}

/// Steps of time between marks, in seconds.
const TIMES: [f64; 18] = [
    1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0,
    28_800.0, 86_400.0, 172_800.0, 604_800.0,
];

impl Unit {
    /// Writes a value; `step` is the distance to the next one.
    #[must_use]
    pub fn write(self, value: f64, step: f64) -> String {
        match self {
            Self::Percent => format!("{} %", plain(value, step)),
            Self::Number => plain(value, step),
            Self::Seconds => {
                let (unit, name) = match step {
                    step if step < 60.0 => (1.0, "s"),
                    step if step < 3_600.0 => (60.0, "min"),
                    step if step < 86_400.0 => (3_600.0, "h"),
                    _ => (86_400.0, "d"),
                };
                format!("{} {name}", plain(value / unit, step / unit))
            }
        }
    }

    /// Returns the distance of about `marks` marks up to `most`.
    fn step(self, most: f64, marks: f64) -> f64 {
        let raw = (most / marks).max(1e-9);
        let found = TIMES.iter().copied().find(|time| *time >= raw);
        if let (Self::Seconds, Some(time)) = (self, found.filter(|_| raw >= 0.5)) {
            return time;
        }
        let scale = if self == Self::Seconds && raw > 604_800.0 { 86_400.0 } else { 1.0 };
        let raw = raw / scale;
        let ten = 10_f64.powf(raw.log10().floor());
        let nice =
            [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|nice| nice * ten).find(|step| *step >= raw * 0.999);
        nice.unwrap_or(10.0 * ten) * scale
    }
}

/// Writes a number with the decimals that its step needs.
fn plain(value: f64, step: f64) -> String {
    let text = match step {
        step if step >= 1.0 && (step - step.round()).abs() < 1e-9 => format!("{value:.0}"),
        step if step >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    };
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text.as_str() };
    let whole = text.split('.').next().unwrap_or(text).len();
    if whole > 4 && !text.contains('.') { grouped(text) } else { text.to_owned() }
}

fn grouped(digits: &str) -> String {
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// An axis from `least` to `most`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) least: f64,
    pub(super) most: f64,
    unit: Unit,
    step: f64,
}

impl Axis {
    /// Creates an axis that begins at `least` and holds `most`. Where `tight`, it ends there; else at the next mark.
    pub(super) fn new(unit: Unit, (least, most): (f64, f64), marks: f64, tight: bool) -> Self {
        let least = if least.is_finite() { least } else { 0.0 };
        let most = if most.is_finite() && most > least { most } else { least + 1.0 };
        let step = unit.step(most - least, marks);
        let (low, high) = if tight {
            (least, most)
        } else {
            ((least / step).floor() * step, (most / step - 1e-9).ceil() * step)
        };
        Self { least: low, most: high, unit, step }
    }

    /// Returns where a value is, from 0 to 1.
    pub(super) fn part(&self, value: f64) -> f64 {
        ((value - self.least) / (self.most - self.least)).clamp(0.0, 1.0)
    }

    /// Returns the marks with their texts.
    pub(super) fn marks(&self) -> Vec<(f64, String)> {
        let first = (self.least / self.step).ceil();
        let marks = (0..40_u32).map(|at| (first + f64::from(at)) * self.step);
        let within = marks.take_while(|mark| *mark <= self.most + self.step * 1e-6);
        within.map(|mark| (mark, self.unit.write(mark, self.step))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(unit: Unit, most: f64) -> Vec<String> {
        Axis::new(unit, (0.0, most), 6.0, true).marks().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn marks_are_round_and_say_their_unit() {
        assert_eq!(texts(Unit::Percent, 100.0), ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]);
        assert_eq!(texts(Unit::Number, 0.7), ["0", "0.2", "0.4", "0.6"]);
        assert_eq!(texts(Unit::Number, 25_000.0)[..3], ["0", "5000", "10,000"]);
        assert_eq!(texts(Unit::Seconds, 36_060.0), ["0 h", "2 h", "4 h", "6 h", "8 h", "10 h"]);
        assert_eq!(texts(Unit::Seconds, 14.0 * 86_400.0), ["0 d", "7 d", "14 d"]);
        assert_eq!(texts(Unit::Seconds, 60.0), ["0 s", "10 s", "20 s", "30 s", "40 s", "50 s", "60 s"]);
    }

    #[test]
    fn what_is_no_range_still_has_an_axis() {
        for (least, most) in [(0.0, 0.0), (5.0, f64::NAN), (f64::NAN, f64::INFINITY), (3.0, -1.0)] {
            let axis = Axis::new(Unit::Number, (least, most), 5.0, false);
            assert!(
                axis.most > axis.least && (2..40).contains(&axis.marks().len()),
                "{least} {most}: {axis:?}"
            );
            assert!((0.0..=1.0).contains(&axis.part(1.0)));
        }
    }
}
