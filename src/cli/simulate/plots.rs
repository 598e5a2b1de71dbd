//! What came out, as a page for a browser.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cli::simulate::contest::{Answer, Shown, span};
use crate::cli::simulate::input;
use crate::page::{
    Bar, Bars, Block, Figure, Group, Heat, Lines, Map, Page, Part, Series, Sheet, Strips, Unit,
};
use crate::simulate::openb::{PolicyResult, Statistic};
use crate::simulate::replay::{Outcome, Point, Run};
use crate::simulate::scenarios::{Findings, Row};
use crate::simulate::slots::{Busy, BySize, Filled, Frame};
use crate::wire::Refusal;

/// A page that is ready.
pub(super) struct Ready(Page);

impl Ready {
    pub(super) fn write(self, path: &Path) -> Result<(), Refusal> {
        let words = std::env::args().skip(1);
        let command = ["vgpuctl".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ");
        input::write(path, &Page { command, ..self.0 }.html(), true)
    }
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn figure(title: &str, about: &str, legend: Vec<String>, plot: String) -> Part {
    Part::Figure(Figure { title: text(title), text: text(about), legend, plot })
}

/// What the words of all pages mean.
fn words(more: &[&str]) -> Part {
    let lines = [
        "A slice is the part of a GPU's memory that one virtual machine gets. A GPU has fixed places where slices may \
         begin, so a GPU can have memory left and still no place for a slice.",
        "A policy is the rule that chooses the GPU and the place. All policies saw the same requests.",
    ];
    Part::Text(text("Words"), lines.iter().chain(more).map(|line| text(line)).collect())
}

/// Policies against each other on requests with times.
pub(super) fn contest(answer: &Answer, shown: &Shown) -> Ready {
    let summary = &answer.summary;
    let lead = format!(
        "{} requests within {} for slices of {} GPUs ({}, {} GB in all).{}",
        summary.requests,
        span(summary.seconds),
        summary.gpus,
        summary.boards.join(", "),
        summary.capacity_gb,
        match summary.runs {
            1 => String::new(),
            runs => format!(" The figures are means of {runs} runs; the plots over time show the first."),
        }
    );
    let mut parts = vec![sheet(answer)];
    parts.push(refused(answer));
    parts.extend(delays(answer));
    parts.extend(courses(shown, &SINCE_FIRST));
    parts.extend(maps(shown, &SINCE_FIRST, summary.seconds));
    let more = [
        "One pool is no policy but a measure: all memory in one piece, without places and without borders between GPUs.",
        "Fairness compares what each owner got of what it asked for: 1 when all got the same part.",
    ];
    parts.push(words(&more));
    parts.push(Part::Text(text("Assumed"), summary.notes.clone()));
    parts.retain(|part| !matches!(part, Part::Text(_, lines) if lines.is_empty()));
    Ready(Page {
        title: format!("Placement of GPU slices: {}", summary.workload),
        lead,
        parts,
        command: String::new(),
    })
}

/// What the time of a run is: its name and its unit.
type Time = (&'static str, Unit);

const SINCE_FIRST: Time = ("time since the first request", Unit::Seconds);

/// The first policy and the last one: usually the simplest rule and our own.
fn in_front(shown: &Shown) -> [usize; 2] {
    [0, shown.runs.len().saturating_sub(1)]
}

/// The first run of each policy over time.
fn courses(shown: &Shown, time: &Time) -> Vec<Part> {
    let strong = match in_front(shown).map(|at| shown.runs.get(at)) {
        [Some((first, _)), Some((last, _))] if shown.runs.len() > 3 => {
            format!(
                " The strong curves are {first} and {last}; where curves lie on each other, the last is seen."
            )
        }
        _ => String::new(),
    };
    let curve = |title: &str, (about, axis): (&str, &str), unit: Unit, value: fn(&Point) -> f64| {
        let series = shown.runs.iter().map(|(name, run)| {
            let points = run.course.iter().flat_map(|course| &course.points);
            Series { name: name.clone(), points: points.map(|point| (point.at_s, value(point))).collect() }
        });
        let lines = Lines {
            title: text(title),
            x: (text(time.0), time.1),
            y: (text(axis), unit),
            most: if unit == Unit::Percent { 5.0 } else { 1.0 },
            least: 0.0,
            front: if shown.runs.len() > 3 { in_front(shown).to_vec() } else { Vec::new() },
            series: series.collect(),
        };
        let names = shown.runs.iter().map(|(name, _)| name.clone()).collect();
        figure(title, &format!("{about}{strong}"), names, lines.draw())
    };
    let mut parts = vec![
        curve(
            "Memory in use",
            (
                "How much of the GPUs' memory was given away. More is better, as long as there is demand.",
                "in use",
            ),
            Unit::Percent,
            |point| point.used_percent,
        ),
        curve(
            "Fragmentation",
            (
                "Memory that is idle but of no use to the usual mix of requests, in percent of all memory: it lies in \
                 pieces that are too small or in the wrong place. Less is better.",
                "idle and of no use",
            ),
            Unit::Percent,
            |point| point.fragmented_percent,
        ),
        curve(
            "Refused so far",
            (
                "Of all memory asked for up to a point, the part that was refused. Less is better.",
                "refused so far",
            ),
            Unit::Percent,
            |point| point.refused_percent,
        ),
    ];
    if shown.runs.iter().any(|(_, run)| run.longest_line > 0) {
        parts.push(curve(
            "Requests that wait",
            ("The length of the line. Less is better.", "waiting requests"),
            Unit::Number,
            |point| f64::from(u32::try_from(point.waiting).unwrap_or(u32::MAX)),
        ));
    }
    parts
}

fn everyone(answer: &Answer) -> impl Iterator<Item = &Outcome> {
    answer.policies.iter().chain([&answer.one_pool])
}

fn sheet(answer: &Answer) -> Part {
    let header = [
        "policy",
        "line",
        "GB refused",
        "requests refused",
        "in use",
        "fairness",
        "wait, mean",
        "wait, 95 of 100 below",
    ];
    let row = |row: &Outcome| {
        let waited = |seconds: f64| if row.delay.requests > 0 { span(seconds) } else { text("-") };
        vec![
            row.policy.clone(),
            text(row.line),
            format!("{:.2} %", row.gb_refused_percent.mean),
            format!("{:.2} %", row.refused.requests_percent),
            format!("{:.2} %", row.used_percent.mean),
            format!("{:.3}", row.fairness.mean),
            waited(row.delay.mean_s),
            waited(row.delay.p95_s),
        ]
    };
    Part::Sheet(Sheet {
        title: text("In figures"),
        header: header.iter().map(|cell| text(cell)).collect(),
        rows: everyone(answer).map(row).collect(),
    })
}

/// Returns groups of bars, one group for each class.
fn by_class(answer: &Answer, value: impl Fn(&crate::simulate::replay::ByClass) -> Option<f64>) -> Vec<Group> {
    let classes = &answer.one_pool.classes;
    let group = |(at, class): (usize, &crate::simulate::replay::ByClass)| {
        let bar =
            |row: &Outcome| Bar { name: row.policy.clone(), value: row.classes.get(at).and_then(&value) };
        let name = format!("{} ({} requests)", class.class, class.asked);
        Group { name, bars: everyone(answer).map(bar).collect() }
    };
    classes.iter().enumerate().map(group).collect()
}

fn refused(answer: &Answer) -> Part {
    let title = "Refused by class";
    let groups = by_class(answer, |class| Some(class.gb_refused_percent));
    let plot =
        Bars { title: text(title), x: (text("of the class's memory asked for"), Unit::Percent), groups };
    let about = "The part of each class's requests, by memory, that was refused. Shorter is better; a policy that favours \
                 one class shows it here.";
    figure(title, about, Vec::new(), plot.draw())
}

fn delays(answer: &Answer) -> Option<Part> {
    let mut groups = by_class(answer, |class| (class.delay.requests > 0).then_some(class.delay.p95_s));
    groups.retain(|group| group.bars.iter().any(|bar| bar.value.is_some()));
    if groups.is_empty() {
        return None;
    }
    let title = "Time in the line";
    let plot = Bars { title: text(title), x: (text("95 of 100 wait no longer"), Unit::Seconds), groups };
    let about = "How long requests waited that may wait: 95 of 100 waited no longer than this. Those that still wait at \
                 the end count with what they waited so far. Shorter is better.";
    Some(figure(title, about, Vec::new(), plot.draw()))
}

/// The maps of the policies in front.
fn maps(shown: &Shown, time: &Time, end: f64) -> Vec<Part> {
    let chosen = shown.runs.iter().enumerate().filter(|(at, _)| in_front(shown).contains(at));
    chosen.filter_map(|(_, (name, run))| map(name, run, &shown.classes, (time, end))).collect()
}

fn map(name: &str, run: &Run, classes: &[String], (time, end): (&Time, f64)) -> Option<Part> {
    let map = run.map.as_ref()?;
    let title = format!("GPUs over time: {name}");
    let frame = Map { title: title.clone(), x: (text(time.0), time.1), end };
    if !map.heat.is_empty() {
        let rows = map.heat.first().map_or(1, Vec::len).max(1);
        let gpus = f64::from(u32::try_from(map.slots.len()).unwrap_or(u32::MAX));
        let gpus_per_row = gpus / f64::from(u32::try_from(rows).unwrap_or(1));
        let about = "Each row is a few GPUs, from the first above to the last below; the stronger the colour, the more of \
                     their memory is in use.";
        let heat = Heat { steps: map.heat.clone(), gpus_per_row };
        return Some(figure(&title, about, Vec::new(), frame.heat(&heat)));
    }
    let block = |span: &crate::simulate::replay::Span| Block {
        gpu: span.gpu as usize,
        slots: (f64::from(span.slot), f64::from(span.slot) + f64::from(span.len)),
        time: (span.from, span.to),
        colour: usize::from(span.class),
    };
    let strips = Strips {
        gpus: map.slots.iter().map(|slots| f64::from(*slots)).collect(),
        blocks: map.spans.iter().map(block).collect(),
    };
    let cut = if map.cut { " There were more slices than can be drawn; the first ones are." } else { "" };
    let about = format!(
        "One strip for each GPU; a block is a slice, as high as its part of the memory and as long as it lived. Gaps \
         between blocks are idle memory.{cut}"
    );
    Some(figure(&title, &about, classes.to_vec(), frame.strips(&strips)))
}

/// The arrival experiment on openb traces.
pub(super) fn openb(bound: &BTreeMap<u32, f64>, policies: &[PolicyResult]) -> Ready {
    let points = |values: &BTreeMap<u32, Statistic>| {
        values.iter().map(|(point, value)| (f64::from(*point), value.mean)).collect::<Vec<_>>()
    };
    let mut names: Vec<String> = policies.iter().map(|row| row.policy.clone()).collect();
    let x = || (text("asked for so far, of all GPUs"), Unit::Percent);
    let curve = |title: &str, y: &str, least: f64, series: Vec<Series>| {
        Lines {
            title: text(title),
            x: x(),
            y: (text(y), Unit::Percent),
            most: least + 1.0,
            least,
            front: Vec::new(),
            series,
        }
        .draw()
    };
    let of = |value: fn(&PolicyResult) -> &BTreeMap<u32, Statistic>| {
        let series =
            policies.iter().map(|row| Series { name: row.policy.clone(), points: points(value(row)) });
        series.collect::<Vec<_>>()
    };
    let fragments = of(|row| &row.fragmentation_percent);
    let fragments = figure(
        "Fragmentation over arrivals",
        "GPUs that are idle but of no use to the usual mix of tasks, in percent of all GPUs. Less is better.",
        names.clone(),
        curve("Fragmentation over arrivals", "idle and of no use", 0.0, fragments),
    );
    let mut allocated = of(|row| &row.allocated_percent);
    allocated.push(Series {
        name: text("bound"),
        points: bound.iter().map(|(point, value)| (f64::from(*point), *value)).collect(),
    });
    // What differs is near the end.
    let late = |series: &Series| {
        let points = series.points.iter().copied().filter(|(point, _)| *point >= 80.0).collect();
        Series { name: series.name.clone(), points }
    };
    let late: Vec<Series> = allocated.iter().map(late).collect();
    let least = late.iter().flat_map(|series| &series.points).map(|point| point.1).fold(100.0, f64::min);
    names.push(text("bound: no placement can exceed it"));
    let about = "Tasks arrive and never leave. The curve is the part of all GPUs that is given away when so much has been \
                 asked for. Higher is better.";
    let whole = figure(
        "GPUs given away over arrivals",
        about,
        names.clone(),
        curve("GPUs given away", "given away", 0.0, allocated),
    );
    let near = if least < 100.0 {
        let about = "The same from 80 % on, where the policies part; the axis does not begin at zero.";
        let plot = curve("GPUs given away, near the end", "given away", least, late);
        Some(figure("Near the end", about, names, plot))
    } else {
        None
    };
    let mut parts = vec![openb_sheet(policies), whole];
    parts.extend(near);
    parts.extend([fragments, openb_refused(policies)]);
    parts.push(Part::Text(text("Words"), vec![
        text("A task asks for processor cores, memory, and a share of a GPU, one GPU or several."),
        text("A policy is the rule that chooses the host and the GPU. All policies saw the same tasks in the same order."),
    ]));
    let lead = "Tasks from a published trace arrive in random order until more GPUs were asked for than there are; what fits \
                nowhere is dropped. The question is how much of the GPUs a policy manages to give away.";
    Ready(Page {
        title: text("Placement of tasks among many hosts"),
        lead: text(lead),
        parts,
        command: String::new(),
    })
}

fn openb_sheet(policies: &[PolicyResult]) -> Part {
    let row = |row: &PolicyResult| {
        let at = |values: &BTreeMap<u32, Statistic>, point: u32| {
            values
                .get(&point)
                .map_or_else(|| text("-"), |value| format!("{:.2} % ± {:.2}", value.mean, value.spread))
        };
        vec![
            row.policy.clone(),
            row.seeds.to_string(),
            at(&row.allocated_percent, 100),
            at(&row.allocated_percent, 130),
            at(&row.fragmentation_percent, 100),
            format!("{:.0}", row.refused_tasks),
            format!("{:.1} µs", row.ns_per_decision.p50 as f64 / 1000.0),
        ]
    };
    let header = [
        "policy",
        "runs",
        "given away at 100 %",
        "at 130 %",
        "fragmentation at 100 %",
        "tasks refused",
        "decision, median",
    ];
    Part::Sheet(Sheet {
        title: text("In figures"),
        header: header.iter().map(|cell| text(cell)).collect(),
        rows: policies.iter().map(row).collect(),
    })
}

fn openb_refused(policies: &[PolicyResult]) -> Part {
    let classes = [
        ("cpu_only", "without a GPU"),
        ("share", "a share of a GPU"),
        ("one_gpu", "one GPU"),
        ("several_gpus", "several GPUs"),
    ];
    let group = |(class, name): (&str, &str)| {
        let bar = |row: &PolicyResult| Bar {
            name: row.policy.clone(),
            value: row.refused_percent.get(class).copied(),
        };
        Group { name: text(name), bars: policies.iter().map(bar).collect() }
    };
    let title = "Refused by class";
    let x = (text("of the class's demand, when 100 % had been asked for"), Unit::Percent);
    let plot = Bars { title: text(title), x, groups: classes.into_iter().map(group).collect() };
    let about = "A policy can look good by refusing one kind of task; here it would show. Shorter is better.";
    figure(title, about, Vec::new(), plot.draw())
}

/// Aligned slots, filled or kept busy; `shown` are single runs that end at `end`.
pub(super) fn slots(frame: &Frame, (fill, busy): (&[Filled], &[Busy]), (shown, end): (&Shown, f64)) -> Ready {
    let mut parts = vec![slots_sheet(fill, busy)];
    let rows = || {
        let fill = fill.iter().map(|row| (&row.policy, &row.sizes));
        fill.chain(busy.iter().map(|row| (&row.policy, &row.sizes)))
    };
    parts.push(by_size(&rows().collect::<Vec<_>>()));
    let time = match frame.load {
        Some(_) => ("time, in mean lives of a slice", Unit::Number),
        None => ("asked for so far, of all memory", Unit::Percent),
    };
    parts.extend(courses(shown, &time));
    parts.extend(maps(shown, &time, end));
    parts.push(words(&[]));
    let load = frame.load.map_or_else(
        || text("Requests arrive until 130 % of the memory was asked for; nothing leaves."),
        |load| format!("Requests come and go; {:.0} % of the memory is asked for in the mean.", load * 100.0),
    );
    let lead = format!(
        "{} GPUs ({}), requests of the mix {}. {load}",
        frame.gpus,
        frame.boards.join(", "),
        frame.mix
    );
    Ready(Page { title: text("Placement of GPU slices"), lead, parts, command: String::new() })
}

fn slots_sheet(fill: &[Filled], busy: &[Busy]) -> Part {
    let header: &[&str] = if busy.is_empty() {
        &["policy", "runs", "given away at 100 %", "at 130 %", "worst run", "at the first refusal"]
    } else {
        &["policy", "runs", "GB refused", "requests refused", "in use", "moves for each slice"]
    };
    let mut rows: Vec<Vec<String>> = fill
        .iter()
        .map(|row| {
            vec![
                row.policy.clone(),
                row.seeds.to_string(),
                format!("{:.2} %", row.allocated_percent_100.mean),
                format!("{:.2} %", row.allocated_percent_130.mean),
                format!("{:.1} %", row.allocated_percent_130.least),
                format!("{:.2} %", row.first_refusal_percent.mean),
            ]
        })
        .collect();
    rows.extend(busy.iter().map(|row| {
        vec![
            row.policy.clone(),
            row.seeds.to_string(),
            format!("{:.2} % ± {:.2}", row.gb_refused_percent.mean, row.gb_refused_percent.deviation),
            format!("{:.2} %", row.refused.requests_percent),
            format!("{:.2} %", row.used_percent.mean),
            format!("{:.3}", row.moves_per_placed),
        ]
    }));
    Part::Sheet(Sheet {
        title: text("In figures"),
        header: header.iter().map(|cell| text(cell)).collect(),
        rows,
    })
}

fn by_size(rows: &[(&String, &Vec<BySize>)]) -> Part {
    let sizes = rows.first().map_or(&[][..], |(_, sizes)| sizes.as_slice());
    let percent = |size: &BySize| {
        let number = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        100.0 * number(size.refused) / number(size.asked.max(1))
    };
    let group = |(at, size): (usize, &BySize)| {
        let bar = |(policy, sizes): &(&String, &Vec<BySize>)| Bar {
            name: (*policy).clone(),
            value: sizes.get(at).map(percent),
        };
        let gb = format!("{} GB", size.gb);
        let name = if size.size == size.gb.to_string() { gb } else { format!("{} ({gb})", size.size) };
        Group { name, bars: rows.iter().map(bar).collect() }
    };
    let title = "Refused by size";
    let x = (text("of the requests of this size"), Unit::Percent);
    let plot = Bars { title: text(title), x, groups: sizes.iter().enumerate().map(group).collect() };
    let about = "Large slices are refused first when memory lies in pieces. Shorter is better.";
    figure(title, about, Vec::new(), plot.draw())
}

/// A claim put to the test.
pub(super) fn scenario(found: &Findings) -> Ready {
    let mut groups: Vec<(&str, Vec<&Row>)> = Vec::new();
    for row in &found.rows {
        match groups.last_mut().filter(|(case, _)| *case == row.case) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((&row.case, vec![row])),
        }
    }
    let bars = |title: &str, (about, axis): (&str, &str), unit: Unit, value: fn(&Row) -> f64| {
        let bar = |row: &&Row| Bar { name: text(row.division), value: Some(value(row)) };
        let group = |(case, rows): &(&str, Vec<&Row>)| Group {
            name: text(case),
            bars: rows.iter().map(bar).collect(),
        };
        let groups = groups.iter().map(group).collect();
        let plot = Bars { title: text(title), x: (text(axis), unit), groups };
        figure(title, about, Vec::new(), plot.draw())
    };
    let used = "How much of what the GPUs can compute was work that somebody wanted. Longer is better, as long as there is \
                work to do.";
    let time = "From the request to the end, with the time in the line, in the mean. Shorter is better.";
    let parts = vec![
        Part::Text(text("What came out"), found.findings.clone()),
        bars("Utilisation", (used, "of the GPUs' compute"), Unit::Percent, |row| {
            row.utilisation_percent.mean
        }),
        bars("Time until done", (time, "from the request to the end, in the mean"), Unit::Seconds, |row| {
            row.turnaround_h.mean * 3600.0
        }),
        bars(
            "Time in the line",
            ("Before anything was computed, in the mean. Shorter is better.", "waited, in the mean"),
            Unit::Seconds,
            |row| row.waiting_h.mean * 3600.0,
        ),
        Part::Text(text("Assumed"), found.assumptions.clone()),
    ];
    let lead = format!(
        "The claim: {}. Below is what a model with the stated assumptions gives, in the mean of {} runs; nothing here was \
         measured on hardware.",
        found.claim, found.runs
    );
    Ready(Page {
        title: format!("A claim put to the test: {}", found.scenario),
        lead,
        parts,
        command: String::new(),
    })
}
