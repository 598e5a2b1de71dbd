//! Reading node and task lists.

use crate::fleet::shares::{Kind, Node, Random, WHOLE};

/// Nodes and tasks as their files have them.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Nodes, empty, in the file's order.
    pub nodes: Vec<Node>,
    /// Tasks in the file's order.
    pub tasks: Vec<Kind>,
    /// Names of the GPU models, by number.
    pub models: Vec<String>,
}

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// A column is not there.
    #[error("the list has no column {0}")]
    Column(&'static str),
    /// A line cannot be read.
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
    /// There is nothing in it.
    #[error("the list is empty")]
    Empty,
}

/// A list with a header, whose fields hold neither commas nor quotes.
struct List<'a> {
    header: Vec<&'a str>,
    rows: Vec<(usize, Vec<&'a str>)>,
}

impl<'a> List<'a> {
    fn parse(text: &'a str) -> Result<Self, TraceError> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let split = |line: &'a str| line.split(',').map(str::trim).collect::<Vec<_>>();
        let header = split(lines.next().ok_or(TraceError::Empty)?.1);
        let rows: Vec<_> = lines.map(|(at, line)| (at + 1, split(line))).collect();
        if rows.is_empty() { Err(TraceError::Empty) } else { Ok(Self { header, rows }) }
    }

    fn column(&self, name: &'static str) -> Result<usize, TraceError> {
        let at = self.header.iter().position(|column| *column == name);
        at.ok_or(TraceError::Column(name))
    }
}

fn number(
    (line, row): (usize, &[&str]),
    at: usize,
    column: &'static str,
    most: u32,
) -> Result<u32, TraceError> {
    let text = row.get(at).copied().unwrap_or("");
    let value = if text.is_empty() { Ok(0.0) } else { text.parse::<f64>() };
    let whole = value.ok().filter(|value| *value >= 0.0 && *value <= f64::from(most));
    let wanted = "a number in its range";
    whole.and_then(|value| format!("{:.0}", value.floor()).parse().ok()).ok_or_else(|| TraceError::Value {
        line,
        column,
        value: text.to_owned(),
        wanted,
    })
}

impl Trace {
    /// Reads a list of nodes and a list of tasks.
    ///
    /// # Errors
    /// A column is missing or a field is no number in its range.
    pub fn parse(nodes: &str, tasks: &str) -> Result<Self, TraceError> {
        let mut models = Vec::new();
        let nodes = read_nodes(&List::parse(nodes)?, &mut models)?;
        let tasks = read_tasks(&List::parse(tasks)?, &models)?;
        Ok(Self { nodes, tasks, models })
    }

    /// Returns each kind with its number of tasks, in the order of kinds.
    #[must_use]
    pub fn mix(&self) -> Vec<(Kind, u32)> {
        count(&self.tasks)
    }

    /// Splits the tasks in two halves by lot: what the first has says nothing of the second but what they have in common.
    #[must_use]
    pub fn halves(&self, seed: u64) -> (Vec<Kind>, Self) {
        let mut known = self.tasks.clone();
        Random::new(seed).shuffle(&mut known);
        let tasks = known.split_off(known.len() / 2);
        (known, Self { nodes: self.nodes.clone(), tasks, models: self.models.clone() })
    }

    /// Returns the thousandths of all GPUs.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.nodes.iter().map(|node| u64::from(node.idle())).sum()
    }
}

/// Counts the tasks of each kind.
pub(super) fn count(tasks: &[Kind]) -> Vec<(Kind, u32)> {
    let mut sorted = tasks.to_vec();
    sorted.sort_unstable();
    let mut mix: Vec<(Kind, u32)> = Vec::new();
    for kind in sorted {
        match mix.last_mut().filter(|(last, _)| *last == kind) {
            Some((_, count)) => *count += 1,
            None => mix.push((kind, 1)),
        }
    }
    mix
}

fn read_nodes(list: &List<'_>, models: &mut Vec<String>) -> Result<Vec<Node>, TraceError> {
    let (cpu, memory) = (list.column("cpu_milli")?, list.column("memory_mib")?);
    let (gpus, model) = (list.column("gpu")?, list.column("model")?);
    let mut nodes = Vec::new();
    for (line, row) in &list.rows {
        let row = (*line, row.as_slice());
        let name = row.1.get(model).copied().unwrap_or("");
        let number_of = models.iter().position(|known| known == name).unwrap_or_else(|| {
            models.push(name.to_owned());
            models.len() - 1
        });
        let value = || TraceError::Value {
            line: *line,
            column: "model",
            value: name.to_owned(),
            wanted: "one of at most 64 models",
        };
        let model = u8::try_from(number_of).ok().filter(|&number| number < 64).ok_or_else(value)?;
        let gpus = u8::try_from(number(row, gpus, "gpu", 8)?).unwrap_or(8);
        let cpu = number(row, cpu, "cpu_milli", 100_000_000)?;
        nodes.push(Node::new(cpu, number(row, memory, "memory_mib", u32::MAX)?, gpus, model));
    }
    Ok(nodes)
}

fn read_tasks(list: &List<'_>, models: &[String]) -> Result<Vec<Kind>, TraceError> {
    let (cpu, memory) = (list.column("cpu_milli")?, list.column("memory_mib")?);
    let (gpus, share) = (list.column("num_gpu")?, list.column("gpu_milli")?);
    let spec = list.column("gpu_spec").ok();
    let mut tasks = Vec::new();
    for (line, row) in &list.rows {
        let names = spec.and_then(|at| row.get(at)).copied().unwrap_or("");
        let row = (*line, row.as_slice());
        let gpus = u8::try_from(number(row, gpus, "num_gpu", 8)?).unwrap_or(8);
        let share = u16::try_from(number(row, share, "gpu_milli", 1000)?).unwrap_or(WHOLE);
        let accepted = names.split('|').filter(|name| !name.is_empty());
        let bits = accepted.map(|name| models.iter().position(|known| known == name).map_or(0, |at| 1 << at));
        let share = match (gpus, share) {
            (0, _) => 0,
            (1, 1..) => share,
            _ => WHOLE,
        };
        tasks.push(Kind {
            cpu: number(row, cpu, "cpu_milli", 100_000_000)?,
            memory: number(row, memory, "memory_mib", u32::MAX)?,
            gpus,
            share,
            models: if names.is_empty() { u64::MAX } else { bits.fold(0, |all: u64, bit| all | bit) },
        });
    }
    Ok(tasks)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = "sn,cpu_milli,memory_mib,gpu,model\nn0,64000,262144,2,P100\nn1,96000,1000,8,G2\n";

    #[test]
    fn empty_shares_and_missing_columns_are_read() {
        let tasks = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\na,100,5,0,\nb,200,6,2,1000\nc,1,1,1,470\n";
        let trace = Trace::parse(NODES, tasks).unwrap();
        assert_eq!(trace.capacity(), 10_000);
        assert_eq!(trace.models, ["P100", "G2"]);
        let milli: Vec<u32> = trace.tasks.iter().map(Kind::milli).collect();
        assert_eq!(milli, [0, 2000, 470]);
    }

    #[test]
    fn accepted_models_become_bits_and_unknown_ones_none() {
        let tasks = "cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n1,1,1,1000,G2|T4\n1,1,1,1000,\n";
        let trace = Trace::parse(NODES, tasks).unwrap();
        assert_eq!(trace.tasks[0].models, 0b10);
        assert_eq!(trace.tasks[1].models, u64::MAX);
    }

    #[test]
    fn a_bad_field_is_named_with_its_line() {
        let tasks = "cpu_milli,memory_mib,num_gpu,gpu_milli\n1,1,9,1000\n";
        let error = Trace::parse(NODES, tasks).unwrap_err().to_string();
        assert_eq!(error, "line 2, column num_gpu: \"9\" is not a number in its range");
        assert!(matches!(Trace::parse("sn\n", tasks), Err(TraceError::Empty)));
    }

    #[test]
    fn halves_are_disjoint_together_all_and_the_same_for_the_same_seed() {
        let row = |at: usize| format!("p{at},{},1024,1,{}\n", 1000 + at, 1 + at % 1000);
        let pods = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\n".to_owned()
            + &(0..101).map(row).collect::<String>();
        let trace = Trace::parse(NODES, &pods).expect("lists");
        let (known, rest) = trace.halves(7);
        assert_eq!((known.len(), rest.tasks.len()), (50, 51));
        assert!(
            known.iter().all(|kind| !rest.tasks.contains(kind)),
            "each task is of a kind of its own here"
        );
        let mut both = [known.clone(), rest.tasks.clone()].concat();
        both.sort_unstable();
        let mut all = trace.tasks.clone();
        all.sort_unstable();
        assert_eq!(both, all);
        assert_eq!(trace.halves(7).0, known);
        assert_ne!(trace.halves(8).0, known);
    }
}
