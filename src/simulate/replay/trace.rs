//! Reading a trace: CSV with a header, one request a line. `docs/simulate.md` describes it.

use jiff::Timestamp;
use thiserror::Error;

use crate::simulate::replay::workload::{Asked, Row};

/// The requests of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// In the file's order.
    pub rows: Vec<Row>,
}

/// Why a trace cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TraceError {
    /// A column is not there.
    #[error("the header has no column {0}")]
    Column(&'static str),
    /// A column that means nothing.
    #[error("the header has a column {0:?}, which means nothing here")]
    Unknown(String),
    /// A column twice.
    #[error("the header has the column {0} twice")]
    Twice(String),
    /// A line with more or fewer fields than the header.
    #[error("line {line} has {found} fields, the header has {wanted}")]
    Fields {
        /// Counted from 1, the header included.
        line: usize,
        /// Its fields.
        found: usize,
        /// Those of the header.
        wanted: usize,
    },
    /// A field cannot be read.
    #[error("line {line}, column {column}: {value:?} is not {wanted}")]
    Value {
        /// Counted from 1, the header included.
        line: usize,
        /// The column's name.
        column: &'static str,
        /// What stands there.
        value: String,
        /// What should.
        wanted: &'static str,
    },
    /// A request that ends before it begins.
    #[error("line {0}: the departure is before the arrival")]
    Backwards(usize),
    /// A request for nothing.
    #[error("line {0} has neither a size nor a profile")]
    Nothing(usize),
    /// No line below the header.
    #[error("there is no request in it")]
    Empty,
}

const COLUMNS: [&str; 8] = ["arrival", "departure", "owner", "size", "profile", "class", "priority", "wait"];

/// A line of fields under the header's names.
struct Line<'a> {
    number: usize,
    fields: Vec<&'a str>,
    columns: &'a [Option<usize>; COLUMNS.len()],
}

impl<'a> Line<'a> {
    /// Returns a field; empty when the trace does not have the column.
    fn field(&self, name: &str) -> &'a str {
        let column = COLUMNS.iter().position(|column| *column == name);
        let at = column.and_then(|column| self.columns[column]);
        at.and_then(|at| self.fields.get(at)).copied().unwrap_or("")
    }

    fn fault(&self, column: &'static str, wanted: &'static str) -> TraceError {
        let value = self.field(column).to_owned();
        TraceError::Value { line: self.number, column, value, wanted }
    }

    /// Reads seconds, or a time of day with date and zone.
    fn time(&self, column: &'static str) -> Result<Option<f64>, TraceError> {
        let text = self.field(column);
        if text.is_empty() {
            return Ok(None);
        }
        let seconds = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite());
        let stamp = || text.parse::<Timestamp>().ok().map(seconds_of);
        let wanted = "a number of seconds or a time such as 2026-01-31T08:00:00Z";
        seconds.or_else(stamp).map(Some).ok_or_else(|| self.fault(column, wanted))
    }

    fn asked(&self) -> Result<Asked, TraceError> {
        let (size, profile) = (self.field("size"), self.field("profile"));
        if size.is_empty() {
            let profile = Some(profile).filter(|profile| !profile.is_empty());
            return profile
                .map(|name| Asked::Profile(name.to_owned()))
                .ok_or(TraceError::Nothing(self.number));
        }
        let wanted = "a size such as 4, 4GiB or 4096MiB";
        gb(size).map(Asked::Gb).ok_or_else(|| self.fault("size", wanted))
    }

    fn row(&self) -> Result<Row, TraceError> {
        let arrival = self.time("arrival")?;
        let arrival = arrival.ok_or_else(|| self.fault("arrival", "a time"))?;
        let departure = self.time("departure")?.unwrap_or(f64::INFINITY);
        if departure < arrival {
            return Err(TraceError::Backwards(self.number));
        }
        let priority = match self.field("priority") {
            "" => 0,
            text => text.parse().map_err(|_| self.fault("priority", "a whole number"))?,
        };
        let wait = match self.field("wait") {
            "" => None,
            "ever" => Some(f64::INFINITY),
            text => {
                let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds >= 0.0);
                Some(seconds.ok_or_else(|| self.fault("wait", "a number of seconds, or ever"))?)
            }
        };
        let or = |name, other: &str| match self.field(name) {
            "" => other.to_owned(),
            text => text.to_owned(),
        };
        Ok(Row {
            line: self.number,
            arrival,
            life: departure - arrival,
            owner: or("owner", "-"),
            asked: self.asked()?,
            class: or("class", "all"),
            priority,
            wait,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of this century are exact")]
fn seconds_of(time: Timestamp) -> f64 {
    time.as_microsecond() as f64 / 1e6
}

/// Reads a size in GB: a number, or one with the unit GiB, GB, MiB or MB.
fn gb(text: &str) -> Option<f64> {
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let number: f64 = text[..end].trim().parse().ok()?;
    let gb = match &text[end..] {
        "" | "GiB" | "GB" | "G" => number,
        "MiB" | "MB" | "M" => number / 1024.0,
        _ => return None,
    };
    Some(gb).filter(|gb| *gb > 0.0 && gb.is_finite())
}

impl Trace {
    /// Reads a trace. Empty lines and lines that begin with `#` are passed over.
    ///
    /// # Errors
    /// With the line and the column of the first fault.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let text = text.trim_start_matches('\u{feff}');
        let split = |line: &'_ str| line.split(',').map(str::trim).map(str::to_owned).collect::<Vec<_>>();
        let mut lines = (1..).zip(text.lines());
        let passed = |line: &str| line.trim().is_empty() || line.starts_with('#');
        let header = lines.find(|(_, line)| !passed(line)).ok_or(TraceError::Empty)?.1;
        let (columns, wanted) = columns(&split(header))?;
        let mut rows = Vec::new();
        for (number, line) in lines.filter(|(_, line)| !passed(line)) {
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            if fields.len() != wanted {
                return Err(TraceError::Fields { line: number, found: fields.len(), wanted });
            }
            rows.push(Line { number, fields, columns: &columns }.row()?);
        }
        if rows.is_empty() { Err(TraceError::Empty) } else { Ok(Self { rows }) }
    }
}

/// Returns where each of [`COLUMNS`] stands, and how many fields there are.
fn columns(header: &[String]) -> Result<([Option<usize>; COLUMNS.len()], usize), TraceError> {
    let mut columns = [None; COLUMNS.len()];
    for (at, name) in header.iter().enumerate() {
        let column = COLUMNS.iter().position(|column| column == name);
        let column = column.ok_or_else(|| TraceError::Unknown(name.clone()))?;
        if columns[column].replace(at).is_some() {
            return Err(TraceError::Twice(name.clone()));
        }
    }
    let has = |name: &str| COLUMNS.iter().position(|column| *column == name).and_then(|at| columns[at]);
    if has("arrival").is_none() {
        return Err(TraceError::Column("arrival"));
    }
    if has("size").is_none() && has("profile").is_none() {
        return Err(TraceError::Column("size"));
    }
    Ok((columns, header.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        Trace::parse(text).expect_err("a fault").to_string()
    }

    #[test]
    fn a_trace_is_read_with_whatever_columns_it_has() {
        let text = "# desks\narrival,departure,owner,size,class,priority,wait\n0,60,ann,4GiB,render,2,30\n\n\
                    5,,bob,2048MiB,,,ever\n";
        let rows = Trace::parse(text).expect("a trace").rows;
        assert_eq!(rows.len(), 2);
        assert_eq!(
            (rows[0].life, &*rows[0].owner, rows[0].priority, rows[0].wait),
            (60.0, "ann", 2, Some(30.0))
        );
        assert_eq!(rows[1].asked, Asked::Gb(2.0));
        assert!(rows[1].life.is_infinite() && rows[1].wait == Some(f64::INFINITY));
        assert_eq!((&*rows[1].class, rows[1].line), ("all", 5));
    }

    #[test]
    fn times_of_day_are_seconds_apart() {
        let text = "arrival,departure,profile\n2026-01-31T08:00:00Z,2026-01-31T09:00:00+01:00,1g\n\
                    2026-01-31T08:00:00Z,2026-01-31T08:00:01.5Z,1g\n";
        let rows = Trace::parse(text).expect("a trace").rows;
        assert_eq!((rows[0].life, rows[1].life), (0.0, 1.5));
    }

    #[test]
    fn faults_are_named_with_their_line() {
        assert_eq!(fault(""), "there is no request in it");
        assert_eq!(fault("arrival,size\n"), "there is no request in it");
        assert_eq!(fault("size\n4\n"), "the header has no column arrival");
        assert_eq!(fault("arrival\n4\n"), "the header has no column size");
        assert_eq!(
            fault("arrival,size,colour\n"),
            "the header has a column \"colour\", which means nothing here"
        );
        assert_eq!(fault("arrival,size,size\n"), "the header has the column size twice");
        assert_eq!(fault("arrival,size\n0,4\n1\n"), "line 3 has 1 fields, the header has 2");
        assert_eq!(fault("arrival,departure,size\n5,4,1\n"), "line 2: the departure is before the arrival");
        assert_eq!(fault("arrival,size,profile\n5,,\n"), "line 2 has neither a size nor a profile");
        let size = "line 3, column size: \"big\" is not a size such as 4, 4GiB or 4096MiB";
        assert_eq!(fault("arrival,size\n0,4\n1,big\n"), size);
        assert!(fault("arrival,size\nnoon,4\n").starts_with("line 2, column arrival: \"noon\""));
        assert!(fault("arrival,size,wait\n0,4,-1\n").starts_with("line 2, column wait: \"-1\""));
        assert!(fault("arrival,size,priority\n0,4,high\n").starts_with("line 2, column priority"));
        assert!(fault("arrival,size\n0,0\n0,NaN\n").starts_with("line 2, column size"));
        assert!(fault("arrival,size\nNaN,4\n").starts_with("line 2, column arrival"));
    }
}
